"""The stock JavaScript client, pusher-js, under Node and in Chromium, against the real gateway."""

from __future__ import annotations

import secrets
import signal
from base64 import b64encode

import pytest

from tests.e2e.chromium import Tab
from tests.e2e.client import Backend
from tests.e2e.conftest import Connect, RunScript, StartGateway
from tests.e2e.gateway_process import APP_ID, KEY, SECRET, GatewayProcess, app
from tests.e2e.receiver import Receiver
from tests.e2e.script import Script

SUCCEEDED = "pusher:subscription_succeeded"


async def start(run_script: RunScript, gateway: GatewayProcess, **server: str) -> Script:
    """Run the script and give it the application's half: the signing of subscriptions."""
    script = await run_script("pusher_js.mjs")
    script.send("server", **{"appId": APP_ID, "key": KEY, "secret": SECRET, "port": gateway.port, **server})
    return script


async def test_public_and_private_channels(gateway: GatewayProcess, backend: Backend, run_script: RunScript) -> None:
    script = await start(run_script, gateway)
    script.send("connect", key=KEY, port=gateway.port)
    await script.expect("state", current="connected")
    for channel in ("orders", "private-orders"):
        script.send("subscribe", channel=channel)
        await script.expect("event", channel=channel, event=SUCCEEDED)
        assert await backend.publish(channel, "created", '{"id":17}') == 200
        assert (await script.expect("event", channel=channel, event="created"))["data"] == {"id": 17}


async def test_presence_members_come_and_go(gateway: GatewayProcess, run_script: RunScript) -> None:
    script = await start(run_script, gateway)
    room = "presence-room"
    for who in ("a", "b"):
        member = {"user_id": f"user-{who}", "user_info": {"name": who}}
        script.send("connect", who=who, key=KEY, port=gateway.port, member=member)
        script.send("subscribe", who=who, channel=room)
        joined = (await script.expect("event", who=who, event=SUCCEEDED))["data"]
        assert joined["me"] == {"id": f"user-{who}", "info": {"name": who}}
    assert joined["members"] == {"user-a": {"name": "a"}, "user-b": {"name": "b"}}
    assert joined["count"] == 2
    added = await script.expect("event", who="a", event="pusher:member_added")
    assert added["data"] == {"id": "user-b", "info": {"name": "b"}}
    script.send("disconnect", who="b")
    removed = await script.expect("event", who="a", event="pusher:member_removed")
    assert removed["data"]["id"] == "user-b"
    assert (await script.ask("members", who="a", channel=room))["count"] == 1


async def test_client_events_go_both_ways(gateway: GatewayProcess, run_script: RunScript) -> None:
    script = await start(run_script, gateway)
    for who in ("a", "b"):
        script.send("connect", who=who, key=KEY, port=gateway.port, member={"user_id": f"user-{who}"})
        for channel in ("private-chat", "presence-chat"):
            script.send("subscribe", who=who, channel=channel, events=["client-typing"])
            await script.expect("event", who=who, channel=channel, event=SUCCEEDED)
    for sender, other in ("ab", "ba"):
        assert await script.ask("trigger", who=sender, channel="private-chat", event="client-typing", data={"by": sender})
        heard = await script.expect("bound", who=other, channel="private-chat")
        assert (heard["data"], heard["userId"]) == ({"by": sender}, None)
        assert await script.ask("trigger", who=sender, channel="presence-chat", event="client-typing", data={"by": sender})
        heard = await script.expect("bound", who=other, channel="presence-chat")
        assert (heard["data"], heard["userId"]) == ({"by": sender}, f"user-{sender}")
    assert [message for message in script.messages if message["type"] == "bound"] == []


async def test_encrypted_from_end_to_end(gateway: GatewayProcess, run_script: RunScript, receiver: Receiver) -> None:
    script = await start(run_script, gateway, masterKey=b64encode(secrets.token_bytes(32)).decode())
    channel = "private-encrypted-ledger"
    script.send("connect", key=KEY, port=gateway.port)
    script.send("subscribe", channel=channel)
    await script.expect("event", channel=channel, event=SUCCEEDED)
    assert await script.ask("publish", channel=channel, event="balance", data={"balance": 12}) == 200
    assert (await script.expect("event", channel=channel, event="balance"))["data"] == {"balance": 12}
    published = await receiver.one("message.published", channel=channel)
    assert "ciphertext" in published.data["data"]


@pytest.mark.parametrize("channel", ["cache-p", "private-cache-p", "presence-cache-p", "private-encrypted-cache-p"])
async def test_cache_channels_of_every_kind(
    gateway: GatewayProcess, run_script: RunScript, receiver: Receiver, channel: str
) -> None:
    script = await start(run_script, gateway, masterKey=b64encode(secrets.token_bytes(32)).decode())
    for who in ("early", "late"):
        script.send("connect", who=who, key=KEY, port=gateway.port, member={"user_id": who})
    script.send("subscribe", who="early", channel=channel)
    await script.expect("event", who="early", channel=channel, event=SUCCEEDED)
    await script.expect("event", who="early", channel=channel, event="pusher:cache_miss")
    miss = await receiver.one("channel.cache_miss", channel=channel)
    assert miss.data["cache"] is True
    for price in (3, 4):
        assert await script.ask("publish", channel=channel, event="price", data={"eur": price}) == 200
        heard = await script.expect("event", who="early", channel=channel, event="price")
        assert heard["data"] == {"eur": price}
    script.send("subscribe", who="late", channel=channel)
    await script.expect("event", who="late", channel=channel, event=SUCCEEDED)
    heard = await script.expect("event", who="late", channel=channel, event="price")
    assert heard["data"] == {"eur": 4}
    # It was for the late one alone, and he was not told of a miss. Frames are told of after the events in them.
    await script.expect("frame", who="late", event="price")
    assert [message for message in script.messages if message.get("event") in ("price", "pusher:cache_miss")] == [
        {"type": "frame", "who": "early", "event": event} for event in ("pusher:cache_miss", "price", "price")
    ]


async def test_subscription_counts(start_gateway: StartGateway, run_script: RunScript, receiver: Receiver) -> None:
    gateway = await start_gateway(app(webhooks=[receiver.endpoint()], subscription_counts=True))
    script = await start(run_script, gateway)
    for number, who in enumerate(("a", "b"), 1):
        script.send("connect", who=who, key=KEY, port=gateway.port)
        script.send("subscribe", who=who, channel="private-orders")
        told = await script.expect("event", who=who, channel="private-orders", event="pusher:subscription_count")
        assert told["data"] == {"subscription_count": number}
    told = await script.expect("event", who="a", event="pusher:subscription_count")
    assert told["data"] == {"subscription_count": 2}
    assert await script.ask("count", who="a", channel="private-orders") == 2
    script.send("disconnect", who="b")
    told = await script.expect("event", who="a", event="pusher:subscription_count")
    assert told["data"] == {"subscription_count": 1}
    assert await script.ask("count", who="a", channel="private-orders") == 1
    script.send("disconnect", who="a")
    for subscribers in (1, 2, 1, 0):
        await receiver.one("channel.subscription_count", channel="private-orders", subscribers=subscribers)


async def test_a_refused_subscription_is_heard_of(gateway: GatewayProcess, run_script: RunScript, receiver: Receiver) -> None:
    script = await start(run_script, gateway, secret="not-the-secret")
    script.send("connect", key=KEY, port=gateway.port)
    script.send("subscribe", channel="private-orders")
    error = await script.expect("event", channel="private-orders", event="pusher:subscription_error")
    assert error["data"]["status"] == 401
    await receiver.one("connection.auth_failed", channel="private-orders")


async def test_some_refusals_are_for_good_and_a_full_app_is_only_a_delay(
    start_gateway: StartGateway, connect: Connect, run_script: RunScript, receiver: Receiver
) -> None:
    soft = app(webhooks=[receiver.endpoint()], limits={"connections": 1})
    gateway = await start_gateway(
        soft,
        app("2", key="off", enabled=False),
        app("3", key="full", hard_connection_limit=True, limits={"connections": 1}),
        app("4", key="elsewhere", allowed_origins=["shop.example.com"]),
    )
    first, _ = await connect(gateway), await connect(gateway, key="full")
    script = await start(run_script, gateway)
    refusals = {"no-such-key": 4001, "off": 4003, "full": 4004}
    if isinstance(script, Tab):  # what is no page has no origin
        refusals["elsewhere"] = 4009
    for key, code in refusals.items():
        script.send("connect", who=key, key=key, port=gateway.port)
        assert (await script.expect("error", who=key))["code"] == code
        await script.expect("state", who=key, current="disconnected")
    script.send("connect", who="late", key=KEY, port=gateway.port)
    refused = [await script.expect("error", who="late", code=4100) for _ in range(2)]
    assert refused[1]["at"] - refused[0]["at"] >= 990
    # A second has passed for the late one, and none of the others has tried again.
    assert [message for message in script.messages if message.get("who") in refusals and message["type"] == "error"] == []
    await first.close()
    await script.expect("state", who="late", current="connected")
    # What is true of a newcomer is true of who is in.
    await gateway.reload([{**soft, "enabled": False}])
    assert (await script.expect("error", who="late"))["code"] == 4003
    await script.expect("state", who="late", current="disconnected")


async def test_client_events_that_come_too_fast_cost_no_connection(
    start_gateway: StartGateway, run_script: RunScript, receiver: Receiver
) -> None:
    gateway = await start_gateway(app(webhooks=[receiver.endpoint()], limits={"client_events": 2}))
    script = await start(run_script, gateway)
    script.send("connect", key=KEY, port=gateway.port)
    script.send("subscribe", channel="private-chat")
    await script.expect("event", event=SUCCEEDED)
    # All at once: a pause among them would give some of the allowance back.
    for _ in range(5):
        script.send("trigger", channel="private-chat", event="client-typing", data={})
    for _ in range(5):
        assert (await script.expect("answer", to="trigger"))["value"]
    assert (await script.expect("error"))["code"] == 4301
    await receiver.one("message.rejected", reason="rate_limited", channel="private-chat")
    async with Backend(gateway.port) as backend:
        assert await backend.publish("private-chat", "created", "7") == 200
    assert (await script.expect("event", event="created"))["data"] == 7
    assert [message for message in script.messages if message.get("previous") == "connected"] == []


async def test_a_gateway_that_does_not_answer_is_left_and_found_again(
    gateway: GatewayProcess, run_script: RunScript, receiver: Receiver
) -> None:
    script = await start(run_script, gateway)
    script.send("connect", key=KEY, port=gateway.port, options={"activityTimeout": 300, "pongTimeout": 300})
    script.send("subscribe", channel="private-orders")
    first = (await script.expect("state", current="connected"))["socketId"]
    await script.expect("event", event=SUCCEEDED)
    gateway.signal(signal.SIGSTOP)
    await script.expect("state", previous="connected")
    gateway.signal(signal.SIGCONT)
    second = (await script.expect("state", current="connected"))["socketId"]
    await script.expect("event", channel="private-orders", event=SUCCEEDED)
    await receiver.one("connection.closed", socket_id=first)
    await receiver.one("connection.opened", socket_id=second)
    await script.stop()
    assert await gateway.stop() == 0
    receiver.check_ledger()


async def test_ping_and_pong(gateway: GatewayProcess, run_script: RunScript) -> None:
    script = await start(run_script, gateway)
    script.send("connect", key=KEY, port=gateway.port, options={"activityTimeout": 200, "pongTimeout": 3000})
    await script.expect("state", current="connected")
    for _ in range(2):
        await script.expect("frame", event="pusher:pong")


async def test_clients_come_back_after_a_restart(start_gateway: StartGateway, run_everywhere: list[RunScript]) -> None:
    # All at once: where pusher-js finds nobody listening it tries again after 15 s.
    gateway = await start_gateway()
    scripts = [await start(run_script, gateway) for run_script in run_everywhere]
    for script in scripts:
        script.send("connect", key=KEY, port=gateway.port)
        script.send("subscribe", channel="private-orders")
        await script.expect("event", event=SUCCEEDED)
        await script.expect("state", current="connected")
    assert await gateway.stop() == 0
    again = await start_gateway(port=gateway.port, folder="again")
    for script in scripts:
        assert (await script.expect("error"))["code"] == 4200
        await script.expect("state", current="connected")
        await script.expect("event", channel="private-orders", event=SUCCEEDED)
    async with Backend(again.port) as backend:
        assert await backend.publish("private-orders", "created", "7") == 200
    for script in scripts:
        assert (await script.expect("event", event="created"))["data"] == 7


async def test_unsubscribe_and_subscribe_back_to_back(gateway: GatewayProcess, backend: Backend, run_script: RunScript) -> None:
    script = await start(run_script, gateway)
    script.send("connect", key=KEY, port=gateway.port)
    script.send("subscribe", channel="orders")
    await script.expect("event", event=SUCCEEDED)
    for _ in range(20):
        script.send("unsubscribe", channel="orders")
        script.send("subscribe", channel="orders")
        await script.expect("event", event=SUCCEEDED)
    assert await backend.publish("orders", "created") == 200
    await script.expect("event", event="created")
    assert [message for message in script.messages if message["type"] == "error"] == []
