"""Going down, and being full: what is refused, what is said to whom, and that nothing that happened is left out."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import time

import pytest
from websockets.exceptions import InvalidMessage

from tests.e2e.client import Backend, Client
from tests.e2e.conftest import Connect, StartGateway
from tests.e2e.gateway_process import GatewayProcess, app
from tests.e2e.receiver import Answer, Receiver
from tests.patience import LONG_S


async def test_it_goes_in_time_and_tells_everything_first(
    start_gateway: StartGateway, connect: Connect, receiver: Receiver
) -> None:
    deadline_s = 30
    gateway = await start_gateway(app(webhooks=[receiver.endpoint()], linger="3s"), server={"shutdown_timeout": f"{deadline_s}s"})
    clients = [await connect(gateway) for _ in range(20)]
    for user, client in enumerate(clients):
        await client.join("presence-room", f"u-{user}")
        await client.subscribe(f"orders-{user}")
    # Peers that say nothing, that stop in the middle of a request, that keep a line open, that will not answer a close.
    loose = [await asyncio.open_connection("127.0.0.1", gateway.port) for _ in range(4)]
    loose[1][1].write(b"POST /apps/740213/events HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n{")
    loose[2][1].write(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
    assert b"200" in await loose[2][0].readline()
    deaf = await connect(gateway)
    await deaf.subscribe("orders-0")
    deaf.ws.transport.pause_reading()

    began = time.monotonic()
    gateway.signal()
    codes = [await client.closed() for client in clients]
    assert await gateway.ended() == 0
    assert time.monotonic() - began < deadline_s + 10
    assert codes == [4200] * 20
    for client in clients:
        assert client.passed[-1]["event"] == "pusher:error"
        assert client.passed[-1]["data"]["code"] == 4200
    closed = [event for event in receiver.of() if event.kind == "connection.closed"]
    assert [event.data["reason"] for event in closed] == ["shutdown"] * 21
    receiver.check_ledger()
    for _, writer in loose:
        writer.close()


async def test_a_second_signal_loses_nothing(start_gateway: StartGateway, connect: Connect, receiver: Receiver) -> None:
    gateway = await start_gateway(server={"drain": "500ms"})
    clients = [await connect(gateway) for _ in range(10)]
    for client in clients:
        await client.subscribe("orders")
    gateway.signal(signal.SIGINT)
    await clients[0].closed()
    gateway.signal(signal.SIGINT)
    assert await gateway.ended() == 0
    assert receiver.kinds().count("connection.closed") == 10
    receiver.check_ledger()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
async def test_signals_to_the_last_moment_change_nothing(start_gateway: StartGateway, number: signal.Signals) -> None:
    gateway = await start_gateway(app(webhooks=[]), server={"drain": "0s"})
    gateway.signal()
    # Until the process is reaped it takes signals, and is gone then in the middle of a turn.
    with contextlib.suppress(ProcessLookupError):
        while gateway.is_running:
            gateway.signal(number)
            await asyncio.sleep(0)
    assert await gateway.ended() == 0
    assert any('"stopped"' in line for line in gateway.lines)


async def test_a_receiver_that_hangs_does_not_hold_it_up(start_gateway: StartGateway, receiver: Receiver) -> None:
    gateway = await start_gateway(
        app(webhooks=[receiver.endpoint(timeout="60s")]), server={"shutdown_timeout": "1s", "drain": "0s"}
    )
    receiver.rules = [lambda hook: Answer(hangs=True)]
    async with Backend(gateway.port) as backend:
        assert await backend.publish("orders", "created") == 200
    await receiver.wait_for_hooks(lambda hook: True)
    began = time.monotonic()
    assert await gateway.stop() == 0
    assert time.monotonic() - began < 20, "a third of what the receiver may take"
    assert any("lost" in line for line in gateway.lines)


async def test_a_drain_is_spread_and_newcomers_are_sent_away(
    start_gateway: StartGateway, connect: Connect, receiver: Receiver
) -> None:
    gateway = await start_gateway(server={"drain": "3s"})
    clients = [await connect(gateway) for _ in range(30)]
    for client in clients:
        await client.subscribe("orders")

    ends = [asyncio.create_task(client.closed()) for client in clients]
    async with Backend(gateway.port) as backend:
        assert await backend.publish("orders", "before") == 200
        gateway.signal()
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        assert await refusal(gateway) in (4100, "refused")
        # On a line that is open already, publishing goes on for those who are still there.
        assert await backend.publish("orders", "during") == 200
    assert await asyncio.gather(*ends) == [4200] * 30
    heard = [client for client in clients if any(frame["event"] == "during" for frame in client.passed)]
    assert 0 < len(heard) < 30
    assert await gateway.ended() == 0
    receiver.check_ledger()
    times = sorted(event.happened_at for event in receiver.of() if event.kind == "connection.closed")
    whole_s = times[-1] - times[0]
    assert 1.5 < whole_s < 10
    # Not one crowd, and not two of them.
    assert len([at for at in times if 0.1 < (at - times[0]) / whole_s < 0.9]) >= 10


async def refusal(gateway: GatewayProcess) -> int | str:
    """Try to connect; return the code it was refused with, or that nobody answers."""
    try:
        client = await Client.dial(gateway.port)
    except (OSError, InvalidMessage):
        return "refused"
    code = await client.closed()
    assert client.passed[0]["event"] == "pusher:error"
    assert client.passed[0]["data"]["code"] == code
    return code


async def test_a_full_queue_sheds_work_and_keeps_records(
    start_gateway: StartGateway, connect: Connect, receiver: Receiver
) -> None:
    gateway = await start_gateway(outbox={"mode": "memory", "queue_capacity": 40})
    gate = asyncio.Event()
    receiver.rules = [lambda hook: Answer(until=gate)]
    client, other, leaver = [await connect(gateway) for _ in range(3)]
    for each in (client, other, leaver):
        await each.subscribe("private-chat")
    async with Backend(gateway.port) as backend:
        for _ in range(100):
            body = json.dumps({"name": "created", "channels": ["orders"], "data": "{}"}).encode()
            status, answer, headers = await backend.call("POST", "/events", body)
            if status == 503:
                break
        assert status == 503
        assert int(headers["retry-after"]) >= 1
        assert "error" in answer
        assert await refusal(gateway) == 4100
        await client.send("client-x", {}, "private-chat")
        await client.expect("pusher:error")
        assert await other.settle() == []
        # What happens all the same is recorded.
        await leaver.close()
        await other.unsubscribe("private-chat")
        await other.settle()
        gate.set()
        receiver.rules.clear()
        await receiver.one("connection.closed", socket_id=leaver.socket_id)
        await receiver.one("channel.unsubscribed", socket_id=other.socket_id)
        # Where there is room again, work is taken again.
        async with asyncio.timeout(LONG_S):
            while await backend.publish("orders", "created") == 503:
                pass
        newcomer = await connect(gateway)
        await newcomer.close()
    await client.close()
    await other.close()
    assert await gateway.stop() == 0
    receiver.check_ledger()
