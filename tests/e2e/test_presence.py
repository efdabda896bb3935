"""Presence: a user comes with the first connection and goes with the last one, however it goes."""

from __future__ import annotations

import itertools
import json
import socket
from collections import Counter, defaultdict

import pytest

from tests.e2e.client import Backend, Client
from tests.e2e.conftest import Connect, StartGateway
from tests.e2e.gateway_process import APP_ID, GatewayProcess, app
from tests.e2e.operator import ask
from tests.e2e.receiver import Receiver

ROOM = "presence-room"
FEEDS = [f"feed-{number}" for number in range(100)]

#: what is done, and how the end of the connection is put down
WAYS = {
    "unsubscribe": "client",
    "close_1000": "client",
    "close_1001": "client",
    "fin": "connection_lost",
    "reset": "connection_lost",
    "unmasked_frame": "protocol_error",
    "oversized_message": "message_too_large",
    "never_reading": "slow_consumer",
    "terminated_by_the_backend": "terminated",
    "terminated_by_the_operator": "terminated",
    "sent_back_by_the_operator": "terminated",
    "silence": "ping_timeout",
    "sigterm": "shutdown",
}


@pytest.mark.parametrize("ways", [list(WAYS)[:-2], ["silence"], ["sigterm"]], ids=["of the client", "silence", "sigterm"])
async def test_by_every_way_of_leaving_the_last_connection_takes_the_user_along_and_the_first_does_not(
    start_gateway: StartGateway, connect: Connect, receiver: Receiver, ways: list[str]
) -> None:
    liveness = {"activity_timeout": "1s", "pong_timeout": "2s"} if "silence" in ways else {}
    gateway = await start_gateway(app(webhooks=[receiver.endpoint(format="batch")]), server=liveness)
    for way in ways:
        rooms = [f"presence-{way}-{number}" for number in range(50)]
        # What nobody waits for must not stop the reading: pings would not be answered then.
        observer = await connect(gateway, max_queue=None)
        await join_all(observer, rooms, "watcher")
        first, last = await leaver(gateway, way), await leaver(gateway, way)
        for client in (first, last):
            await join_all(client, rooms, "u-1")
        assert await heard(observer) == Counter({("pusher_internal:member_added", room): 1 for room in rooms})
        # One SIGTERM is for all of them.
        if way != "sigterm":
            await leave(gateway, first, way, rooms)
            await gone(receiver, first, way)
            assert await heard(observer) == Counter()
            assert await present(gateway, way) == {room: {"user_count": 2} for room in rooms}
        await leave(gateway, last, way, rooms)
        await gone(receiver, last, way)
        if way != "sigterm":
            assert await heard(observer) == Counter({("pusher_internal:member_removed", room): 1 for room in rooms})
            async with Backend(gateway.port) as backend:
                assert await backend.get(f"/channels/{rooms[-1]}/users") == {"users": [{"id": "watcher"}]}
            await observer.close()
            await receiver.one("connection.closed", socket_id=observer.socket_id)
            assert await present(gateway, way) == {}
        for client in (first, last):
            client.reset()
    assert await gateway.stop() == 0
    told: dict[str, list[str]] = defaultdict(list)
    for event in sorted(receiver.of(), key=lambda event: event.sequence):
        if event.data.get("user_id") == "u-1" and "member" in event.kind:
            told[event.data["channel"]].append(event.kind)
    once = ["channel.member_added", "channel.member_removed"]
    assert told == {f"presence-{way}-{number}": once for way in ways for number in range(50)}
    receiver.check_ledger()


async def join_all(client: Client, rooms: list[str], user_id: str) -> None:
    member = {"user_id": user_id}
    await client.write_frames({"event": "pusher:subscribe", "data": client.subscription(room, member)} for room in rooms)
    for room in rooms:
        await client.expect("pusher_internal:subscription_succeeded", room)


async def heard(observer: Client) -> Counter[tuple[str, str]]:
    """Return what the observer is told now of members."""
    return Counter((frame["event"], frame["channel"]) for frame in await observer.settle())


async def gone(receiver: Receiver, client: Client, way: str) -> None:
    """Wait for the end of the connection, which is the last thing to be recorded of it."""
    closed = await receiver.one("connection.closed", socket_id=client.socket_id)
    assert closed.data["reason"] == WAYS[way]


async def present(gateway: GatewayProcess, way: str) -> dict[str, object]:
    async with Backend(gateway.port) as backend:
        asked = await backend.get("/channels", filter_by_prefix=f"presence-{way}-", info="user_count")
    found: dict[str, object] = asked["channels"]
    return found


async def leaver(gateway: GatewayProcess, way: str) -> Client:
    """Connect one who will leave; one who will never read gets as small a buffer as there is."""
    if way == "never_reading":
        narrow = socket.socket()
        narrow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        narrow.connect(("127.0.0.1", gateway.port))
        narrow.setblocking(False)
        return await Client.connect(gateway.port, sock=narrow, max_queue=4)
    return await Client.connect(gateway.port)


async def leave(gateway: GatewayProcess, client: Client, way: str, rooms: list[str]) -> None:
    """Have the client leave, or see to it that it will have to."""
    match way:
        case "unsubscribe":
            for room in rooms:
                await client.unsubscribe(room)
            await client.settle()
            await client.close()
        case "close_1000" | "close_1001":
            await client.close(int(way[-4:]))
        case "fin":
            client.finish()
        case "reset":
            client.reset()
        case "unmasked_frame":
            client.write(b"\x81\x02{}")
        case "oversized_message":
            await client.ws.send(json.dumps({"event": "client-x", "data": "x" * 100_000}))
        case "never_reading":
            for feed in FEEDS:
                await client.subscribe(feed)
            # A hundred times ten kilobytes, again and again.
            async with Backend(gateway.port) as backend:
                while (await backend.get(f"/channels/{FEEDS[-1]}"))["occupied"]:
                    assert await backend.publish(FEEDS, "flood", "x" * 10_000) == 200
        case "terminated_by_the_backend":
            await client.sign_in("u-1")
            async with Backend(gateway.port) as backend:
                status, _, _ = await backend.call("POST", "/users/u-1/terminate_connections", b"{}")
            assert status == 200
            assert await client.closed() == 4009
        case "terminated_by_the_operator" | "sent_back_by_the_operator":
            body, code = ({}, 4009) if way.startswith("terminated") else ({"reconnect": True}, 4200)
            path = f"/v1/apps/{APP_ID}/connections/{client.socket_id}/terminate"
            assert await ask(gateway, "POST", path, json=body) == (200, {"socket_id": client.socket_id, "code": code})
            assert await client.closed() == code
        case "silence":
            # It reads no ping and so answers none; the healthy ones answer by themselves.
            client.ws.transport.pause_reading()
        case "sigterm":
            assert await gateway.stop() == 0


async def test_first_tab_in_last_tab_out(gateway: GatewayProcess, connect: Connect, backend: Backend, receiver: Receiver) -> None:
    observer = await connect(gateway)
    await observer.join(ROOM, "u-2")
    for order in itertools.permutations(range(3)):
        tabs = [await connect(gateway) for _ in range(3)]
        members: list[dict[str, object]] = [
            {"user_id": 1, "user_info": {"tab": 0}},
            {"user_id": "1", "user_info": {"tab": 1}},
            {"user_id": "1"},
        ]
        for tab, member in zip(tabs, members, strict=True):
            presence = json.loads((await tab.subscribe(ROOM, member))["data"])["presence"]
            assert sorted(presence["ids"]) == ["1", "u-2"]
            assert presence["hash"] == {"1": {"tab": 0}, "u-2": {"name": "u-2"}}
            assert presence["count"] == 2
        added = await observer.expect("pusher_internal:member_added", ROOM)
        assert json.loads(added["data"]) == {"user_id": "1", "user_info": {"tab": 0}}
        for number in order[:2]:
            await tabs[number].close()
            await receiver.one("connection.closed", socket_id=tabs[number].socket_id)
            assert await backend.get(f"/channels/{ROOM}", info="user_count") == {"occupied": True, "user_count": 2}
        assert await observer.settle() == []
        await tabs[order[2]].close()
        removed = await observer.expect("pusher_internal:member_removed", ROOM)
        assert json.loads(removed["data"]) == {"user_id": "1"}
    await observer.close()
    assert await gateway.stop() == 0
    receiver.check_ledger()
    assert receiver.kinds(user_id="1").count("channel.member_added") == 6


async def test_subscribing_twice_changes_nothing(gateway: GatewayProcess, connect: Connect, backend: Backend) -> None:
    observer, client = await connect(gateway), await connect(gateway)
    await observer.join(ROOM, "u-2")
    await client.join(ROOM, "u-1")
    await observer.expect("pusher_internal:member_added", ROOM)
    for user in ("u-1", "u-3"):
        await client.send("pusher:subscribe", client.subscription(ROOM, {"user_id": user}))
        assert (await client.expect("pusher:error"))["data"].get("code") is None
    assert await observer.settle() == []
    assert await backend.get(f"/channels/{ROOM}", info="user_count") == {"occupied": True, "user_count": 2}


@pytest.mark.parametrize("channel", ["orders", "private-orders", "presence-orders"])
async def test_requests_sent_back_to_back_are_carried_out_in_order(
    start_gateway: StartGateway, connect: Connect, receiver: Receiver, channel: str
) -> None:
    gateway = await start_gateway(app(webhooks=[receiver.endpoint(format="batch")]))
    client = await connect(gateway)

    def turns(count: int) -> list[dict[str, object]]:
        frames: list[dict[str, object]] = []
        for number in range(count):
            member = {"user_id": "u", "user_info": {"turn": number % 2}} if channel.startswith("presence-") else None
            frames.append({"event": "pusher:unsubscribe", "data": {"channel": channel}})
            frames.append({"event": "pusher:subscribe", "data": client.subscription(channel, member)})
        return frames

    async with Backend(gateway.port) as backend:
        await client.write_frames(turns(200))
        replies = [frame["event"] for frame in await client.settle()]
        assert replies.count("pusher_internal:subscription_succeeded") == 200
        assert (await backend.get(f"/channels/{channel}"))["occupied"] is True
        assert await backend.publish(channel, "heard") == 200
        await client.expect("heard")
        await client.write_frames([*turns(50)[1:], {"event": "pusher:unsubscribe", "data": {"channel": channel}}])
        await client.settle()
        assert await backend.publish(channel, "not-heard") == 200
        assert await client.settle() == []
        assert (await backend.get(f"/channels/{channel}"))["occupied"] is False
    await client.close()
    assert await gateway.stop() == 0
    receiver.check_ledger()


async def test_a_client_event_right_behind_its_subscription(gateway: GatewayProcess, connect: Connect) -> None:
    client, other = await connect(gateway), await connect(gateway)
    await other.subscribe("private-chat")
    subscribe = {"event": "pusher:subscribe", "data": client.subscription("private-chat")}
    await client.write_frames([subscribe, {"event": "client-x", "channel": "private-chat", "data": "hi"}])
    assert (await other.expect("client-x"))["data"] == "hi"
