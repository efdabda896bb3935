"""Peers that vanish without a word: the line is dead, and TCP has not noticed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from ssl import SSLContext

import pytest

from tests.certificate import anybody, write_pair
from tests.e2e.client import Backend, Client
from tests.e2e.conftest import StartGateway
from tests.e2e.gateway_process import GatewayProcess, app
from tests.e2e.hole import Hole, Line
from tests.e2e.outside import socket_to, sockets, waiting_bytes
from tests.e2e.receiver import Receiver

ROOM = "presence-room"
#: A second of silence, a second for the answer to a ping, half of one for the farewell, and at each step a beat of a quarter:
#: 3.5 s. The rest is for a machine that has other things to do; the kernel by itself would take a quarter of an hour.
WITHIN_S = 12.0


@pytest.fixture(params=[False, True], ids=["plain", "tls"])
def tls(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, object]:
    """What the gateway is told of TLS."""
    if not request.param:
        return {}
    cert, key, _ = write_pair(tmp_path)
    return {"tls": {"cert": str(cert), "key": str(key)}}


@pytest.fixture
async def gateway(start_gateway: StartGateway, receiver: Receiver, tls: dict[str, object]) -> GatewayProcess:
    server = {"activity_timeout": "1s", "pong_timeout": "1s", "send_buffer": "64MB", **tls}
    endpoint = receiver.endpoint(events=["connection.*", "channel.*"])
    return await start_gateway(app(webhooks=[endpoint], limits={"event_data": "100KB"}), server=server)


@pytest.fixture
async def hole(gateway: GatewayProcess) -> AsyncIterator[Hole]:
    hole = await Hole.start(gateway.port)
    yield hole
    await hole.stop()


async def test_who_vanishes_is_found_out_and_leaves_once(
    gateway: GatewayProcess, hole: Hole, receiver: Receiver, tls: dict[str, object]
) -> None:
    trust: dict[str, SSLContext] = {"ssl": anybody()} if tls else {}
    # Comes through the same proxy, and does not vanish.
    witness, _ = await hole.connect(**trust)
    await witness.join(ROOM, "u-witness")
    lost: dict[str, tuple[Client, Line]] = {
        name: await hole.connect(**trust) for name in ("quiet", "fed", "filled", "deaf", "idle")
    }
    for name, (client, _) in lost.items():
        if name != "idle":
            await client.join(ROOM, f"u-{name}")
    await lost["fed"][0].subscribe("trickle")
    await lost["filled"][0].subscribe("flood")
    their_sockets = {socket_to(gateway, line.port) for _, line in lost.values()}
    assert len(their_sockets & sockets(gateway)) == 5
    async with Backend(gateway.port, **trust) as backend:
        assert len((await backend.get(f"/channels/{ROOM}/users"))["users"]) == 5
        for name, (_, line) in lost.items():
            line.vanish(only_up=name == "deaf")
        vanished_at = time.time()
        # More than the kernel takes for a client, so that the rest waits in the gateway.
        for _ in range(60):
            assert await backend.publish("flood", "much", "x" * 100_000) == 200
        assert waiting_bytes(gateway, lost["filled"][1].port) > 1_000_000
        gone = asyncio.create_task(receiver.wait_for("connection.closed", count=5))
        while not gone.done():
            assert await backend.publish("trickle", "little") == 200
            await asyncio.wait([gone], timeout=0.1)
        assert their_sockets & sockets(gateway) == set()
        assert await backend.get(f"/channels/{ROOM}/users") == {"users": [{"id": "u-witness"}]}
    ends = {event.data["socket_id"]: event for event in gone.result()}
    assert ends.keys() == {client.socket_id for client, _ in lost.values()}
    for event in ends.values():
        assert (event.data["code"], event.data["reason"]) == (4201, "ping_timeout")
        assert event.at - vanished_at < WITHIN_S
    # Whom the gateway still reaches is told.
    assert await lost["deaf"][0].closed() == 4201
    removed = [frame["data"] for frame in await witness.settle() if frame["event"] == "pusher_internal:member_removed"]
    assert sorted(removed) == [f'{{"user_id":"u-{name}"}}' for name in ("deaf", "fed", "filled", "quiet")]
    await witness.close()
    assert await gateway.stop() == 0
    for name in ("deaf", "fed", "filled", "quiet"):
        assert receiver.kinds(user_id=f"u-{name}").count("channel.member_removed") == 1
    assert receiver.kinds().count("connection.closed") == 6
    receiver.check_ledger()
