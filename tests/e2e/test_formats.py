"""Each body format as a receiver sees it, judged by the libraries that receivers use."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import pusher
import pytest
from aiohttp import web
from cloudevents.core.bindings.http import HTTPMessage, from_structured_event
from cloudevents.core.formats.json import JSONFormat
from standardwebhooks import Webhook

from tests.e2e.client import Backend
from tests.e2e.conftest import Connect, RunNode, StartGateway
from tests.e2e.gateway_process import APP_ID, KEY, SECRET, app
from tests.patience import LONG_S

HOOK_SECRET = "whsec_" + base64.b64encode(b"a key of twenty-four by.").decode()


@dataclass(slots=True)
class Hook:
    """One request as it came; header names in lower case."""

    path: str
    headers: dict[str, str]
    body: bytes
    status: int

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Inbox:
    """Keeps what is sent to any path; `status` says what to answer, and nothing is answered while the gate is shut."""

    def __init__(self) -> None:
        self.hooks: list[Hook] = []
        self.status: Callable[[Hook], int] = lambda hook: 200
        self.gate = asyncio.Event()
        self.gate.set()
        self.port = 0
        self._changed = asyncio.Event()

    async def receive(self, request: web.Request) -> web.Response:
        hook = Hook(request.path, {name.lower(): value for name, value in request.headers.items()}, await request.read(), 0)
        hook.status = self.status(hook)
        self.hooks.append(hook)
        self._changed.set()
        await self.gate.wait()
        return web.Response(status=hook.status)

    async def wait(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(LONG_S):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    def accepted(self, path: str) -> list[Hook]:
        return [hook for hook in self.hooks if hook.path == path and hook.status == 200]

    def endpoint(self, name: str, format_: str, **settings: Any) -> dict[str, object]:
        return {
            "name": name,
            "url": f"http://127.0.0.1:{self.port}/{name}",
            "secrets": [HOOK_SECRET],
            "format": format_,
            "concurrency": 1,
            "retry": {"initial": "20ms", "max_delay": "50ms"},
            **settings,
        }


@pytest.fixture
async def inbox() -> AsyncIterator[Inbox]:
    """To be asked for before the gateway, so that it is still there when the gateway ends."""
    made = Inbox()
    served = web.Application()
    served.router.add_post("/{path:.*}", made.receive)
    runner = web.AppRunner(served, shutdown_timeout=0.5)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    made.port = runner.addresses[0][1]
    yield made
    made.gate.set()
    await runner.cleanup()
    for hook in made.hooks:  # on every format
        assert Webhook(HOOK_SECRET).verify(hook.body, hook.headers) is not None
        digest = hmac.new(HOOK_SECRET.encode(), hook.body, hashlib.sha256).hexdigest()
        assert hook.headers["x-webhook-signature"] == digest
        assert hook.headers["x-webhook-id"] == hook.headers["webhook-id"]


def pusher_events(hook: Hook, key: str = KEY, secret: str = SECRET) -> list[dict[str, object]]:
    """Return the events of a webhook, which the Python SDK must accept."""
    assert hook.headers["content-type"] == "application/json"
    sdk = pusher.Pusher(APP_ID, key, secret)
    parsed = sdk.validate_webhook(hook.headers["x-pusher-key"], hook.headers["x-pusher-signature"], hook.body.decode())
    assert parsed is not None, hook
    events: list[dict[str, object]] = parsed["events"]
    assert all(isinstance(value, str | int) for event in events for value in event.values())
    return events


async def test_the_pusher_sdks_accept_the_pusher_format(
    inbox: Inbox, start_gateway: StartGateway, connect: Connect, run_node: RunNode
) -> None:
    inbox.status = lambda hook: 200 if hook.headers["x-webhook-attempt"] == "3" else 503
    gateway = await start_gateway(app(webhooks=[inbox.endpoint("old", "pusher")]))
    client = await connect(gateway)
    await client.join("presence-room", "u-1")
    await client.send("client-typing", {"city": "東京"}, "presence-room")
    await client.subscribe("private-encrypted-a")
    await client.unsubscribe("private-encrypted-a")
    await client.unsubscribe("presence-room")
    await client.settle()
    await client.close()
    assert await gateway.stop() == 0
    accepted = inbox.accepted("/old")
    events = [event for hook in accepted for event in pusher_events(hook)]
    typing = {"channel": "presence-room", "event": "client-typing", "socket_id": client.socket_id, "user_id": "u-1"}
    assert json.loads(events[2].pop("data")) == {"city": "東京"}  # type: ignore[arg-type]
    assert events == [
        {"name": "channel_occupied", "channel": "presence-room"},
        {"name": "member_added", "channel": "presence-room", "user_id": "u-1"},
        {"name": "client_event", **typing},
        {"name": "channel_occupied", "channel": "private-encrypted-a"},
        {"name": "channel_vacated", "channel": "private-encrypted-a"},
        {"name": "member_removed", "channel": "presence-room", "user_id": "u-1"},
        {"name": "channel_vacated", "channel": "presence-room"},
    ]
    assert all(len(hook.json["events"]) == 1 for hook in accepted if b"private-encrypted-" in hook.body)
    # An attempt more does not change a byte, while it is not late.
    assert len({(hook.headers["webhook-id"], hook.body) for hook in inbox.hooks}) == len(accepted) == len(inbox.hooks) / 3
    script = await run_node("formats.mjs")
    for hook in inbox.hooks:
        told = {"body": hook.body.decode(), "headers": hook.headers}
        assert await script.ask("pusher", key=KEY, secret=SECRET, **told) == hook.json["events"]
        assert await script.ask("pusher", key=KEY, secret="not-the-secret", **told) is None
        assert await script.ask("pusher", key=KEY, secret=SECRET, **{**told, "body": told["body"] + " "}) is None
        assert await script.ask("standard", secret=HOOK_SECRET, **told) is True


async def test_what_only_the_pusher_format_and_its_settings_have(
    inbox: Inbox, start_gateway: StartGateway, connect: Connect, run_node: RunNode
) -> None:
    endpoints = [inbox.endpoint("old", "pusher"), inbox.endpoint("router", "cloudevents", events=["channel.cache_miss"])]
    gateway = await start_gateway(app(webhooks=endpoints, subscription_counts=True))
    first, second = await connect(gateway), await connect(gateway)
    await first.subscribe("cache-prices")
    await second.subscribe("cache-prices")
    await second.unsubscribe("cache-prices")
    await first.unsubscribe("cache-prices")
    await first.join("presence-cache-room", "u-1")
    await first.unsubscribe("presence-cache-room")
    for client in (first, second):
        await client.settle()
        await client.close()
    assert await gateway.stop() == 0
    events = [event for hook in inbox.accepted("/old") for event in pusher_events(hook)]
    assert [event for event in events if event["channel"] == "cache-prices"] == [
        {"name": "channel_occupied", "channel": "cache-prices"},
        {"name": "cache_miss", "channel": "cache-prices"},
        {"name": "subscription_count", "channel": "cache-prices", "subscription_count": 1},
        {"name": "subscription_count", "channel": "cache-prices", "subscription_count": 2},
        {"name": "subscription_count", "channel": "cache-prices", "subscription_count": 1},
        {"name": "channel_vacated", "channel": "cache-prices"},
        {"name": "subscription_count", "channel": "cache-prices", "subscription_count": 0},
    ]
    assert [event["name"] for event in events if event["channel"] == "presence-cache-room"] == [
        "channel_occupied",
        "member_added",
        "cache_miss",
        "member_removed",
        "channel_vacated",
    ]
    script = await run_node("formats.mjs")
    for hook in inbox.accepted("/old"):
        told = {"body": hook.body.decode(), "headers": hook.headers}
        assert await script.ask("pusher", key=KEY, secret=SECRET, **told) == hook.json["events"]
    routed = [from_structured_event(HTTPMessage(hook.headers, hook.body), JSONFormat()) for hook in inbox.accepted("/router")]
    assert [(one.get_type(), one.get_subject()) for one in routed] == [
        ("dev.rawpush.channel.cache_miss", "cache-prices"),
        ("dev.rawpush.channel.cache_miss", "presence-cache-room"),
    ]


async def test_what_piled_up_travels_together_but_for_encrypted_channels(
    inbox: Inbox, start_gateway: StartGateway, connect: Connect
) -> None:
    gateway = await start_gateway(app(webhooks=[inbox.endpoint("old", "pusher", batch_max=3)]))
    inbox.gate.clear()
    client = await connect(gateway)
    channels = ["first", "a", "b", "c", "d", "private-encrypted-x", "e", "f"]
    for channel in channels:
        await client.subscribe(channel)
        await inbox.wait(lambda: inbox.hooks)
    async with Backend(gateway.port) as backend:  # answered when everything so far is recorded
        assert await backend.publish("first", "anything") == 200
    inbox.gate.set()
    await inbox.wait(lambda: sum(len(hook.json["events"]) for hook in inbox.hooks) == len(channels))
    batches = [[event["channel"] for event in pusher_events(hook)] for hook in inbox.hooks]
    assert batches == [["first"], ["a", "b", "c"], ["d"], ["private-encrypted-x"], ["e", "f"]]
    assert [hook.headers["x-webhook-event"] for hook in inbox.hooks[:2]] == ["channel.occupied", "batch"]


async def test_the_cloudevents_sdk_reads_one_event_a_request(inbox: Inbox, start_gateway: StartGateway, connect: Connect) -> None:
    gateway = await start_gateway(app(webhooks=[inbox.endpoint("router", "cloudevents")]))
    client = await connect(gateway)
    await client.subscribe("orders")
    await client.close()
    assert await gateway.stop() == 0
    read = [from_structured_event(HTTPMessage(hook.headers, hook.body)) for hook in inbox.hooks]
    assert [(one.get_type(), one.get_subject()) for one in read] == [
        ("dev.rawpush.connection.opened", client.socket_id),
        ("dev.rawpush.channel.occupied", "orders"),
        ("dev.rawpush.channel.subscribed", "orders"),
        ("dev.rawpush.channel.unsubscribed", "orders"),
        ("dev.rawpush.channel.vacated", "orders"),
        ("dev.rawpush.connection.closed", client.socket_id),
    ]
    assert [int(one.get_extension("sequence")) for one in read] == [1, 2, 3, 4, 5, 6]
    assert {one.get_source() for one in read} == {f"/apps/{APP_ID}/nodes/gw-1"}
    assert read[1].get_data()["subscribers"] == 1  # type: ignore[index,call-overload]
    for hook, one in zip(inbox.hooks, read, strict=True):
        assert hook.headers["content-type"] == "application/cloudevents+json"
        assert one.get_id() == hook.headers["webhook-id"]


async def test_the_cloudevents_sdk_reads_batches(inbox: Inbox, start_gateway: StartGateway) -> None:
    gateway = await start_gateway(app(webhooks=[inbox.endpoint("router", "cloudevents-batch", batch_max=20)]))
    inbox.gate.clear()
    async with Backend(gateway.port) as backend:
        for number in range(31):
            assert await backend.publish("orders", f"n{number}") == 200
            await inbox.wait(lambda: inbox.hooks)
    inbox.gate.set()
    assert await gateway.stop() == 0
    assert {hook.headers["content-type"] for hook in inbox.hooks} == {"application/cloudevents-batch+json"}
    assert [len(hook.json) for hook in inbox.hooks] == [1, 20, 10]
    read = [JSONFormat().read(None, json.dumps(one)) for hook in inbox.hooks for one in hook.json]
    assert [one.get_data()["event"] for one in read] == [f"n{number}" for number in range(31)]  # type: ignore[index,call-overload]


async def test_each_endpoint_gets_what_it_asked_for_in_its_own_format(
    inbox: Inbox, start_gateway: StartGateway, connect: Connect
) -> None:
    existence = ["channel.occupied", "channel.vacated"]
    gateway = await start_gateway(
        app(
            webhooks=[
                inbox.endpoint("private", "pusher", events=existence, channels=["private-*"]),
                inbox.endpoint("clients", "pusher", events=["client_event"]),
                inbox.endpoint("everything", "cloudevents-batch"),
            ]
        ),
        app("740214", key="other-key", secret="other-secret", webhooks=[inbox.endpoint("other", "pusher")]),
    )
    ours = await connect(gateway)
    others = await connect(gateway, key="other-key", secret="other-secret")
    for _ in range(10):
        for client in (ours, others):
            await client.subscribe("private-a")
            await client.subscribe("public-a")
            await client.send("client-x", "text", "private-a")
            await client.unsubscribe("private-a")
            await client.unsubscribe("public-a")
            await client.settle()
    assert await gateway.stop() == 0

    def told(name: str, *signer: str) -> list[tuple[object, object]]:
        return [(one["name"], one["channel"]) for hook in inbox.accepted(f"/{name}") for one in pusher_events(hook, *signer)]

    spans = [("channel_occupied", "private-a"), ("channel_vacated", "private-a")]
    assert told("private") == spans * 10
    assert told("clients") == [("client_event", "private-a")] * 10
    assert sorted(told("other", "other-key", "other-secret")) == sorted(
        [(name, f"{kind}-a") for name, _ in spans for kind in ("private", "public")] * 10 + [("client_event", "private-a")] * 10
    )
    everything = [one for hook in inbox.accepted("/everything") for one in hook.json]
    assert [int(one["sequence"]) for one in everything] == list(range(1, len(everything) + 1))
    assert {one["source"] for one in everything} == {f"/apps/{APP_ID}/nodes/gw-1"}


async def test_nothing_is_sent_where_the_operator_forbids_it(inbox: Inbox, start_gateway: StartGateway) -> None:
    gateway = await start_gateway(
        app(
            webhooks=[
                inbox.endpoint("fenced", "event"),
                inbox.endpoint("spelt", "event", url=f"http://[::ffff:7f00:1]:{inbox.port}/"),
            ]
        ),
        delivery={"refuse_networks": ["127.0.0.0/8"]},
        server={"shutdown_timeout": "300ms"},
    )
    async with Backend(gateway.port) as backend:
        assert await backend.publish("orders", "created") == 200
    for name in ("fenced", "spelt"):
        await gateway.wait_for_line(lambda line, name=name: f"/{name}" in line and "a network that is refused" in line)  # type: ignore[misc]
    assert inbox.hooks == []


async def test_an_exception_opens_a_way(inbox: Inbox, start_gateway: StartGateway) -> None:
    gateway = await start_gateway(
        app(webhooks=[inbox.endpoint("open", "event", events=["message.published"])]),
        delivery={"allow_private": False, "allow_networks": ["127.0.0.1/32"]},
    )
    async with Backend(gateway.port) as backend:
        assert await backend.publish("orders", "created") == 200
    await inbox.wait(lambda: inbox.hooks)
    assert inbox.hooks[0].json["event"] == "message.published"
