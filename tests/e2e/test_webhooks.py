"""What a receiver is told: each kind of event, its data, and the order within a connection and a channel."""

from __future__ import annotations

import json
import re

import pytest

from tests.e2e.client import Backend, departing
from tests.e2e.conftest import Connect, RunNode, StartGateway
from tests.e2e.gateway_process import GatewayProcess, app
from tests.e2e.receiver import Receiver

STAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


async def test_one_life_on_a_presence_channel(gateway: GatewayProcess, connect: Connect, receiver: Receiver) -> None:
    client = await connect(gateway)
    await client.join("presence-room", "u-1")
    await client.send("client-typing", {"on": True}, "presence-room")
    await client.unsubscribe("presence-room")
    await client.settle()
    await client.close()
    assert await gateway.stop() == 0
    kinds = receiver.kinds()
    assert sorted(kinds[2:5]) == ["channel.member_added", "channel.occupied", "channel.subscribed"]
    assert kinds.index("channel.occupied") < kinds.index("channel.subscribed")
    assert kinds[:2] + kinds[5:] == [
        "connection.opened",
        "connection.authenticated",
        "client_event",
        "channel.unsubscribed",
        "channel.member_removed",
        "channel.vacated",
        "connection.closed",
    ]
    receiver.check_ledger()


async def test_a_disconnect_without_linger_leaves_in_order(gateway: GatewayProcess, connect: Connect, receiver: Receiver) -> None:
    client = await connect(gateway)
    await client.join("presence-room", "u-1")
    await client.close()
    assert await gateway.stop() == 0
    leaving = ["channel.unsubscribed", "channel.member_removed", "channel.vacated", "connection.closed"]
    assert receiver.kinds()[-4:] == leaving
    receiver.check_ledger()


async def test_the_envelope(gateway: GatewayProcess, connect: Connect, receiver: Receiver) -> None:
    client = await connect(gateway)
    await client.subscribe("orders")
    for number, kind in enumerate(["connection.opened", "channel.occupied", "channel.subscribed"], 1):
        event = await receiver.one(kind)
        envelope = event.envelope
        assert list(envelope) == ["id", "event", "version", "timestamp", "app_id", "data", "metadata"]
        assert envelope["id"].startswith("evt_")
        assert (envelope["version"], envelope["app_id"]) == ("1", "740213")
        assert STAMP.fullmatch(envelope["timestamp"])
        assert envelope["metadata"] == {"webhook_id": "all", "sequence": number, "node": "gw-1"}


async def test_what_the_events_of_a_connection_say(gateway: GatewayProcess, connect: Connect, receiver: Receiver) -> None:
    client = await connect(
        gateway, query="protocol=7&client=js&version=8.6.0", user_agent_header="Browser/7", origin="https://shop.example.com"
    )
    await client.join("presence-room", "u-1")
    await client.send("pusher:subscribe", {"channel": "private-no", "auth": "demo-key:" + "0" * 64})
    await client.expect("pusher:subscription_error")
    await client.close(1000)
    opened = (await receiver.one("connection.opened")).data
    assert (
        opened.items()
        >= {
            "socket_id": client.socket_id,
            "remote_ip": "127.0.0.1",
            "user_agent": "Browser/7",
            "origin": "https://shop.example.com",
        }.items()
    )
    assert "js" in json.dumps(opened["client"])
    assert "8.6.0" in json.dumps(opened)
    assert int(opened["protocol"]) == 7
    authenticated = (await receiver.one("connection.authenticated")).data
    assert (authenticated["socket_id"], authenticated["channel"]) == (client.socket_id, "presence-room")
    failed = (await receiver.one("connection.auth_failed")).data
    assert (failed["socket_id"], failed["channel"]) == (client.socket_id, "private-no")
    assert failed["reason"]
    closed = (await receiver.one("connection.closed")).data
    assert (closed["span"], closed["code"], closed["reason"]) == (opened["span"], 1000, "client")
    assert closed["socket_id"] == client.socket_id
    assert closed["duration_ms"] >= 0
    assert any("bytes" in name and value > 0 for name, value in _numbers(closed))
    assert any("messages" in name and value > 0 for name, value in _numbers(closed))


def _numbers(data: dict[str, object]) -> list[tuple[str, float]]:
    return [(name, value) for name, value in data.items() if isinstance(value, int | float)]


@pytest.mark.parametrize(
    ("channel", "type_", "caches"),
    [
        ("orders", "public", False),
        ("presence-room", "presence", False),
        ("private-encrypted-ledger", "encrypted", False),
        ("private-cache-prices", "private", True),
    ],
)
async def test_what_the_events_of_a_channel_say(
    gateway: GatewayProcess, connect: Connect, receiver: Receiver, channel: str, type_: str, caches: bool
) -> None:
    first, second = await connect(gateway), await connect(gateway)
    for user, client in (("u-1", first), ("u-2", second)):
        await client.subscribe(channel, {"user_id": user} if type_ == "presence" else None)
    for client in (first, second):
        await client.unsubscribe(channel)
        await client.settle()
    vacated = (await receiver.one("channel.vacated")).data
    occupied = (await receiver.one("channel.occupied")).data
    joined = await receiver.wait_for("channel.subscribed", count=2)
    left = await receiver.wait_for("channel.unsubscribed", count=2)
    assert occupied["span"] == vacated["span"]
    assert (occupied["subscribers"], vacated["subscribers"]) == (1, 0)
    assert [event.data["subscribers"] for event in joined + left] == [1, 2, 1, 0]
    assert [event.data["socket_id"] for event in joined + left] == [first.socket_id, second.socket_id] * 2
    for data in (occupied, vacated, *(event.data for event in joined + left)):
        assert (data["channel"], data["type"], data.get("cache", False)) == (channel, type_, caches)
    if type_ == "presence":
        added = await receiver.wait_for("channel.member_added", count=2)
        removed = await receiver.wait_for("channel.member_removed", count=2)
        assert [event.data["user_id"] for event in added + removed] == ["u-1", "u-2"] * 2
        assert [event.data["span"] for event in added] == [event.data["span"] for event in removed]
        assert [event.data["user_id"] for event in joined] == ["u-1", "u-2"]


async def test_what_is_published_and_what_clients_say(
    gateway: GatewayProcess, backend: Backend, connect: Connect, receiver: Receiver
) -> None:
    sender, other = await connect(gateway), await connect(gateway)
    await sender.join("presence-room", "u-1")
    await other.join("presence-room", "u-2")
    assert await backend.publish("presence-room", "created", '{"id":17}') == 200
    published = (await receiver.one("message.published")).data
    expected = {"channel": "presence-room", "event": "created", "size": 9, "recipients": 2, "data": '{"id":17}'}
    assert published.items() >= expected.items()
    await sender.send("client-typing", {"on": True}, "presence-room")
    said = (await receiver.one("client_event")).data
    expected = {"channel": "presence-room", "event": "client-typing", "recipients": 1, "data": '{"on":true}'}
    assert said.items() >= expected.items()
    assert (said["socket_id"], said["user_id"]) == (sender.socket_id, "u-1")


async def test_what_is_refused(start_gateway: StartGateway, connect: Connect, receiver: Receiver) -> None:
    gateway = await start_gateway(app(webhooks=[receiver.endpoint()], limits={"client_events": 2}))
    client = await connect(gateway)
    await client.subscribe("private-chat")
    async with Backend(gateway.port) as backend:
        assert await backend.publish("bad channel", "e") == 400
        assert await backend.publish("orders", "pusher:e") == 400
        assert await backend.publish("orders", "e", "x" * 10_241) == 413
        await backend.call("POST", "/events", b'{"name":"e","channels":["orders"],"data":7.5,"socket_id":"no"}')
    for reason in ("invalid_channel", "invalid_event", "payload_too_large"):
        assert (await receiver.one("message.rejected", reason=reason)).data["source"] == "http"
    await client.send("client-x", {}, "private-other")
    await client.send("client-x", "x" * 10_241, "private-chat")
    await client.write_frames([{"event": "client-x", "channel": "private-chat", "data": {}}] * 3)
    await client.settle()
    for reason in ("not_subscribed", "payload_too_large", "rate_limited"):
        refused = (await receiver.one("message.rejected", reason=reason, source="client")).data
        assert (refused["socket_id"], refused["event"]) == (client.socket_id, "client-x")


async def test_client_events_can_be_switched_off(start_gateway: StartGateway, connect: Connect, receiver: Receiver) -> None:
    gateway = await start_gateway(app(webhooks=[receiver.endpoint()], client_events=False))
    client, other = await connect(gateway), await connect(gateway)
    for each in (client, other):
        await each.subscribe("private-chat")
    await client.send("client-x", {}, "private-chat")
    await client.expect("pusher:error")
    await receiver.one("message.rejected", reason="client_events_disabled")
    assert await other.settle() == []


async def test_a_reload_is_not_a_departure(start_gateway: StartGateway, connect: Connect, receiver: Receiver) -> None:
    webhooks = [receiver.endpoint()]
    gateway = await start_gateway(app(webhooks=webhooks, linger="1h"))
    observer, first = await connect(gateway), await connect(gateway)
    await observer.subscribe("presence-room", {"user_id": "watcher"})
    await first.join("presence-room", "u-1")
    await first.subscribe("orders")
    await first.close()
    # The frame is not delayed.
    await observer.expect("pusher_internal:member_removed", "presence-room")
    assert await departing(gateway.port) == [("orders", None), ("presence-room", "u-1")]
    second = await connect(gateway)
    await second.subscribe("orders")
    await second.join("presence-room", "u-1")
    assert await departing(gateway.port) == []
    # However long that has taken, it was within the linger; the end of it is worth waiting for now.
    await gateway.reload([app(webhooks=webhooks, linger="1s")])
    await second.close()
    vacated = await receiver.one("channel.vacated", channel="orders")
    removed = await receiver.one("channel.member_removed", user_id="u-1")
    gone = await receiver.one("connection.closed", socket_id=second.socket_id)
    for late in (vacated, removed):
        assert late.happened_at - gone.happened_at > 0.99
    assert receiver.kinds(channel="orders") == [
        "channel.occupied",
        "channel.subscribed",
        "channel.unsubscribed",
        "channel.subscribed",
        "channel.unsubscribed",
        "channel.vacated",
    ]
    members = [kind for kind in receiver.kinds(user_id="u-1") if kind.startswith("channel.member")]
    assert members == ["channel.member_added", "channel.member_removed"]
    await observer.close()
    assert await gateway.stop() == 0
    receiver.check_ledger()


async def test_each_endpoint_gets_what_it_asked_for_and_nothing_else(
    start_gateway: StartGateway, connect: Connect, receiver: Receiver
) -> None:
    spans = ["channel.occupied", "channel.vacated"]
    gateway = await start_gateway(
        app(
            webhooks=[
                receiver.endpoint("spans", path="shared", events=spans, channels=["private-*"]),
                receiver.endpoint("said", events=["client_event"], exclude_event_names=["client-typing"]),
                receiver.endpoint("all", format="batch", secrets=("whsec_bmV3LXNlY3JldC1uZXc=", "the-old-one")),
                receiver.endpoint("presence", path="shared", events=["channel.member_*"], exclude_channels=["presence-x*"]),
            ]
        ),
        app("990001", key="other-key", secret="other-secret", webhooks=[receiver.endpoint("theirs", app_id="990001")]),
    )
    tenants = [await connect(gateway), await connect(gateway, key="other-key", secret="other-secret")]
    for _ in range(20):
        for client in tenants:
            for channel in ("private-a", "public-a"):
                await client.send("pusher:subscribe", client.subscription(channel))
            for channel in ("presence-a", "presence-x1"):
                await client.send("pusher:subscribe", client.subscription(channel, {"user_id": "u"}))
            for channel in ("private-a", "public-a", "presence-a", "presence-x1"):
                await client.unsubscribe(channel)
            await client.settle()
    for client in tenants:
        await client.subscribe("private-a")
        for name in ("client-typing", "client-said"):
            await client.send(name, {}, "private-a")
        await client.settle()
        await client.close()
    assert await gateway.stop() == 0
    assert receiver.kinds("spans") == spans * 21
    assert receiver.kinds("said", event="client-said") == receiver.kinds("said") == ["client_event"]
    assert receiver.kinds("presence") == ["channel.member_added", "channel.member_removed"] * 20
    assert {event.data["channel"] for event in receiver.of("spans")} == {"private-a"}
    assert {event.data["channel"] for event in receiver.of("presence")} == {"presence-a"}
    assert receiver.kinds("theirs") == [] != receiver.of("theirs", "990001")
    receiver.check_ledger()
    receiver.check_ledger("theirs", "990001")
    ours = [(event.kind, event.data.get("channel")) for event in receiver.of()]
    theirs = [(event.kind, event.data.get("channel")) for event in receiver.of("theirs", "990001")]
    assert sorted(ours, key=str) == sorted(theirs, key=str)


async def test_payloads_can_be_left_out(start_gateway: StartGateway, receiver: Receiver) -> None:
    endpoints = [receiver.endpoint(), receiver.endpoint("bare", include_payload=False)]
    gateway = await start_gateway(app(webhooks=endpoints))
    async with Backend(gateway.port) as backend:
        assert await backend.publish("orders", "created", "secret") == 200
    assert (await receiver.one("message.published")).data["data"] == "secret"
    assert "data" not in (await receiver.one("message.published", endpoint="bare")).data


async def test_the_standard_library_of_node_verifies(start_gateway: StartGateway, run_node: RunNode, receiver: Receiver) -> None:
    secret = "whsec_bmV3LXNlY3JldC1uZXc="
    gateway = await start_gateway(app(webhooks=[receiver.endpoint(secrets=(secret,))]))
    async with Backend(gateway.port) as backend:
        assert await backend.publish("orders", "created", '"Zoë 🦊"') == 200
    await receiver.one("message.published")
    script = await run_node("sdk.mjs")
    (hook,) = receiver.hooks
    assert await script.ask("verify", secret=secret, body=hook.body.decode(), headers=hook.headers)
