"""A webhook receiver with eyes: it verifies and keeps all it gets, and answers as the test tells it to."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import socket
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from aiohttp import web
from standardwebhooks import Webhook, WebhookVerificationError

from tests.described import faults
from tests.e2e import ledger
from tests.patience import LONG_S

#: quick enough for a test, and still several attempts apart
RETRY = {"initial": "50ms", "max_delay": "200ms"}


@dataclass(slots=True)
class Answer:
    """What the receiver does with one request."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: str = ""
    #: wait so long first
    delay_s: float = 0.0
    #: wait for this first
    until: asyncio.Event | None = None
    #: never answer
    hangs: bool = False
    #: cut the line with a RST instead of answering
    resets: bool = False


@dataclass(slots=True)
class Hook:
    """One request as it came, with the answer it got."""

    at: float
    path: str
    headers: dict[str, str]
    body: bytes
    answer: Answer = field(default_factory=Answer)
    envelopes: list[dict[str, Any]] = field(default_factory=list)

    @property
    def id(self) -> str:
        return self.headers["x-webhook-id"]

    @property
    def attempt(self) -> int:
        return int(self.headers["x-webhook-attempt"])

    @property
    def is_replay(self) -> bool:
        return "x-webhook-replay" in self.headers

    def mentions(self, channel: str) -> bool:
        return any(envelope["data"].get("channel") == channel for envelope in self.envelopes)


Rule = Callable[[Hook], Answer | None]


def by_attempt(*answers: Answer) -> Rule:
    """Answer the first attempts at every request so, and what follows well."""
    return lambda hook: answers[hook.attempt - 1] if hook.attempt <= len(answers) else None


Endpoint = tuple[str, str]


class Event:
    """One lifecycle event as first accepted by an endpoint."""

    __slots__ = ("at", "data", "endpoint", "envelope", "kind", "sequence")

    def __init__(self, envelope: dict[str, Any], at: float) -> None:
        self.envelope = envelope
        self.at = at
        self.kind: str = envelope["event"]
        self.data: dict[str, Any] = envelope["data"]
        self.endpoint: Endpoint = (envelope["app_id"], envelope["metadata"]["webhook_id"])
        self.sequence: int = envelope["metadata"]["sequence"]

    @property
    def happened_at(self) -> float:
        """The gateway's own word on it, which no wait on the way has changed; in seconds, exact to the millisecond."""
        text: str = self.envelope["timestamp"]
        return datetime.fromisoformat(text).timestamp()

    def __repr__(self) -> str:
        return f"<{self.sequence} {self.kind} {self.data}>"


class Receiver:
    """Serves any path on a free port of loopback; make one with `await Receiver.start()`.

    `violations` collects all that is wrong with any request, whether a test looks at that request or not.
    """

    def __init__(self) -> None:
        self.hooks: list[Hook] = []
        self.events: list[Event] = []
        self.violations: list[str] = []
        #: asked in order for each request; the first one that returns an answer wins, and 200 is the default
        self.rules: list[Rule] = []
        #: after kill -9 an attempt whose outcome was not written yet is made once more, under its own number
        self.forgives_repeats = False
        self._accepted: dict[Endpoint, list[dict[str, Any]]] = {}
        self._known: set[tuple[Endpoint, str]] = set()
        self._secrets: dict[Endpoint, tuple[str, ...]] = {}
        self._formats: dict[Endpoint, str] = {}
        self._first: dict[tuple[Endpoint, str], Hook] = {}
        self._attempts: dict[tuple[Endpoint, str], int] = {}
        self._changed = asyncio.Event()
        self._closing = asyncio.Event()
        self._runner: web.AppRunner | None = None
        self.port = 0

    @classmethod
    async def start(cls, port: int = 0) -> Receiver:
        """Open the port; 0 takes a free one."""
        receiver = cls()
        app = web.Application(client_max_size=64 * 1024 * 1024)
        app.router.add_route("*", "/{path:.*}", receiver._receive)
        receiver._runner = web.AppRunner(app, shutdown_timeout=0.5)
        await receiver._runner.setup()
        site = web.TCPSite(receiver._runner, "127.0.0.1", port)
        await site.start()
        receiver.port = receiver._runner.addresses[0][1]
        return receiver

    async def stop(self) -> None:
        """Let hanging requests go and close the port."""
        self._closing.set()
        if self._runner is not None:
            await self._runner.cleanup()

    def endpoint(
        self, name: str = "all", *, app_id: str = "740213", secrets: tuple[str, ...] = (), path: str = "", **settings: object
    ) -> dict[str, object]:
        """Return an `[[apps.webhooks]]` entry that points here, and remember how its requests must be signed."""
        secrets = secrets or (f"secret-of-{app_id}-{name}",)
        self._secrets[app_id, name] = secrets
        self._formats[app_id, name] = str(settings.get("format", "event"))
        return {
            "name": name,
            "url": f"http://127.0.0.1:{self.port}/{path or name}",
            "secrets": list(secrets),
            "timeout": "30s",
            "retry": RETRY,
            **settings,
        }

    # -- what a test asks

    def of(self, name: str = "all", app_id: str = "740213") -> list[Event]:
        """Return the events an endpoint has accepted, each once, in the order of arrival."""
        return [event for event in self.events if event.endpoint == (app_id, name)]

    def kinds(self, name: str = "all", **data: object) -> list[str]:
        """Return the kinds of an endpoint's events whose data holds these values, in the order of occurrence."""
        events = sorted(self.of(name), key=lambda event: event.sequence)
        return [event.kind for event in events if _holds(event, data)]

    def check_ledger(self, name: str = "all", app_id: str = "740213", *, ended: bool = True) -> None:
        """Fail, listing everything that is wrong with what the endpoint has accepted."""
        wrong = ledger.check(self._accepted.get((app_id, name), []), ended=ended)
        in_order = sorted(self.of(name, app_id), key=lambda event: event.sequence)
        assert wrong == [], "\n".join([*wrong[:20], "", *(repr(event)[:160] for event in in_order[-200:])])

    def check_delivery(self, name: str = "all", app_id: str = "740213") -> None:
        """Like `check_ledger`, for an endpoint that has not asked for everything."""
        assert ledger.check_delivery(self._accepted.get((app_id, name), [])) == []

    async def wait_for(
        self, kind: str, *, count: int = 1, endpoint: str = "all", within_s: float = LONG_S, **data: Any
    ) -> list[Event]:
        """Wait until the endpoint has accepted `count` events of this kind whose data holds these values."""

        def found() -> list[Event]:
            return [
                event for event in self.events if event.endpoint[1] == endpoint and event.kind == kind and _holds(event, data)
            ]

        await self.wait_until(lambda: len(found()) >= count, f"{count} {kind} {data}", within_s)
        return found()

    async def one(self, kind: str, *, endpoint: str = "all", within_s: float = LONG_S, **data: Any) -> Event:
        """Wait for an event of this kind whose data holds these values."""
        return (await self.wait_for(kind, endpoint=endpoint, within_s=within_s, **data))[0]

    async def wait_for_hooks(self, predicate: Callable[[Hook], bool], count: int = 1, within_s: float = LONG_S) -> list[Hook]:
        """Wait for `count` requests, answered well or not."""
        await self.wait_until(lambda: sum(map(predicate, self.hooks)) >= count, f"{count} requests", within_s)
        return [hook for hook in self.hooks if predicate(hook)]

    async def wait_until(self, condition: Callable[[], object], what: str, within_s: float = LONG_S) -> None:
        """Wait until a condition on what has been received holds."""
        try:
            async with asyncio.timeout(within_s):
                while not condition():
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            received = "\n".join(map(repr, self.events[-40:]))
            raise AssertionError(f"waited {within_s} s for {what}; received so far ({len(self.events)}):\n{received}") from None

    # -- what happens to a request

    async def _receive(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        hook = Hook(time.time(), request.path, {name.lower(): value for name, value in request.headers.items()}, body)
        self.hooks.append(hook)
        self._changed.set()
        endpoint = self._verify(request.method, hook)
        answers = (rule(hook) for rule in self.rules)
        hook.answer = answer = next((answer for answer in answers if answer is not None), hook.answer)
        if answer.delay_s:
            await asyncio.sleep(answer.delay_s)
        if answer.until is not None:
            await answer.until.wait()
        if 200 <= answer.status < 300 and not answer.hangs and not answer.resets and endpoint is not None:
            self._accept(endpoint, hook)
        self._changed.set()
        if answer.hangs:
            await self._closing.wait()
        if answer.resets and request.transport is not None:
            connection: socket.socket = request.transport.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            request.transport.abort()
        return web.Response(status=answer.status, headers=answer.headers, text=answer.body)

    def _accept(self, endpoint: Endpoint, hook: Hook) -> None:
        # what has the sequence 0 stands outside of the ledger: tests, and replays of what was never due
        self._accepted.setdefault(endpoint, []).extend(one for one in hook.envelopes if one["metadata"]["sequence"])
        for envelope in hook.envelopes:
            if (endpoint, envelope["id"]) not in self._known:
                self._known.add((endpoint, envelope["id"]))
                self.events.append(Event(envelope, time.time()))

    def _verify(self, method: str, hook: Hook) -> Endpoint | None:
        try:
            parsed = json.loads(hook.body.decode())
            hook.envelopes = parsed.get("events", [parsed])
            endpoints = {(envelope["app_id"], envelope["metadata"]["webhook_id"]) for envelope in hook.envelopes}
            (endpoint,) = endpoints
            secrets = self._secrets[endpoint]
        except (ValueError, KeyError) as error:
            self.violations.append(f"{hook.path}: {error!r} in {hook.body[:300]!r}")
            return None
        self.violations += [
            f"{hook.path} {hook.headers.get('x-webhook-id')}: {sentence}"
            for sentence in self._wrong(method, hook, endpoint, secrets)
        ]
        return endpoint

    def _wrong(self, method: str, hook: Hook, endpoint: Endpoint, secrets: tuple[str, ...]) -> list[str]:
        headers, wrong = hook.headers, []
        events = hook.envelopes
        kinds = {envelope["event"] for envelope in events}
        digest = hmac.new(secrets[0].encode(), hook.body, hashlib.sha256).hexdigest()
        expected = {
            "content-type": "application/json",
            "x-webhook-signature": digest,
            "x-webhook-version": "1",
            "x-webhook-id": headers.get("webhook-id"),
            "x-webhook-timestamp": headers.get("webhook-timestamp"),
            "x-webhook-event": kinds.pop() if len(events) == 1 else "batch",
        }
        wrong += [
            f"{name} is {headers.get(name)!r}, not {value!r}" for name, value in expected.items() if headers.get(name) != value
        ]
        for envelope in events:
            wrong += faults(envelope["event"], envelope["data"])
        if method != "POST":
            wrong.append(f"method {method}")
        if "rawpush" not in headers.get("user-agent", "").lower():
            wrong.append("does not say who sends")
        if not 0 <= hook.at - int(headers.get("x-webhook-timestamp", "0")) < LONG_S:
            wrong.append("timestamp is not that of this attempt")
        for secret in secrets:
            try:
                Webhook(_key(secret)).verify(hook.body, headers)
            except WebhookVerificationError as error:
                wrong.append(f"Standard Webhooks library: {error}")
        if len(headers.get("webhook-signature", "").split(" ")) != len(secrets):
            wrong.append("not one signature per secret")
        if self._formats[endpoint] == "event" and (len(events) != 1 or b'"events":' in hook.body[:12]):
            wrong.append("not one event")
        sequences = [envelope["metadata"]["sequence"] for envelope in events]
        if sequences != sorted(sequences):
            wrong.append("a batch must be oldest first")
        key = endpoint, headers.get("x-webhook-id", "")
        if self._first.setdefault(key, hook).body != hook.body:
            wrong.append("other bytes than in an earlier attempt")
        if headers.get("x-webhook-replay", "true") != "true":
            wrong.append("X-Webhook-Replay is there and not true")
        attempt = int(headers.get("x-webhook-attempt", "0"))
        if hook.is_replay:
            key = endpoint, f"replay {hook.id}"
            if attempt == 1:
                self._attempts.pop(key, None)  # each replay counts anew
        if attempt < self._attempts.get(key, 0) + (not self.forgives_repeats):
            wrong.append(f"attempt {attempt} after attempt {self._attempts[key]}")
        self._attempts[key] = attempt
        return wrong


def _key(secret: str) -> bytes:
    return base64.b64decode(secret.removeprefix("whsec_")) if secret.startswith("whsec_") else secret.encode()


def _holds(event: Event, data: dict[str, object]) -> bool:
    return all(event.data.get(name) == value for name, value in data.items())
