"""A served `Site`: the API on a real port of loopback, over a node that only remembers what it was told."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Any
from urllib.parse import quote

import aiohttp
import orjson
from yarl import URL

from gateway.api.site import Site
from gateway.backplane.local import LocalTracker
from gateway.core.app import App
from gateway.core.error import RequestError
from gateway.core.publication import Publication
from gateway.core.roster import Member
from gateway.desk import Desk
from gateway.node import Node
from gateway.ports import Clock
from gateway.user import Users
from tests import contract
from tests.desk_kit import DeskKit
from tests.fake import FakeClock

APP = App(id="740213", key="a1f0c3d57e924b6688dd", secret="5b2e90c47f1d4a3c8e66")
OTHER = App(id="740214", key="c0ffee11223344556677", secret="d15ea5e0b16b00b5aa55", enabled=False)

EVENTS = f"/apps/{APP.id}/events"
BATCH = f"/apps/{APP.id}/batch_events"
CHANNELS = f"/apps/{APP.id}/channels"
USERS = f"/apps/{APP.id}/users"
EVENT: dict[str, Any] = {"name": "created", "channels": ["orders"], "data": '{"id":17}'}
ITEM: dict[str, Any] = {"name": "created", "channel": "orders", "data": '{"id":17}'}


class FakeUsers(Users):
    """Remembers whose connections were to be terminated."""

    def __init__(self) -> None:
        self.terminated: list[tuple[str, str]] = []

    def terminate(self, app_id: str, user_id: str) -> None:
        self.terminated.append((app_id, user_id))


class FakeNode(Node):
    """The node's face towards the API; publishing remembers what was published."""

    def __init__(self, *apps: App) -> None:
        self.tracker = LocalTracker()
        self.users = self.fake_users = FakeUsers()
        self.apps = {app.id: app for app in apps}
        self.published: list[Publication] = []
        self.rejected: list[tuple[str, str, str | None, str | None, int]] = []
        self.reasons: list[str] = []
        self.socket_ids = count(1)
        #: what cache channels keep: data and seconds left
        self.kept: dict[str, tuple[str, int]] = {}
        #: what `admit_read` raises
        self.read_refusal: RequestError | None = None
        #: what `publish` returns, or raises
        self.outcome: Awaitable[None] | Exception | None = None

    def app(self, app_id: str) -> App | None:
        return self.apps.get(app_id)

    def app_by_key(self, key: str) -> App | None:
        return next((app for app in self.apps.values() if app.key == key), None)

    def publish(self, publications: Sequence[Publication]) -> Awaitable[None] | None:
        if isinstance(self.outcome, Exception):
            raise self.outcome
        self.published += publications
        return self.outcome

    def cached(self, app_id: str, channel: str) -> tuple[str, int] | None:
        return self.kept.get(channel)

    def admit_read(self, app_id: str) -> None:
        if self.read_refusal is not None:
            raise self.read_refusal

    def reject(self, app_id: str, reason: str, channel: str | None, event: str | None, size: int) -> None:
        self.rejected.append((app_id, reason, channel, event, size))

    def why_not_ready(self) -> list[str]:
        return self.reasons

    def enter(self, channel: str, *user_ids: str | None) -> None:
        """Let a connection enter for each user id; None is one without."""
        for user_id in user_ids:
            member = Member(user_id) if user_id is not None else None
            self.tracker.enter(APP.id, channel, f"1.{next(self.socket_ids)}", member, 100, lambda diff: None)


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    json: Any


class Line:
    """A raw connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def answer(self) -> tuple[int, dict[str, str], dict[str, Any]]:
        """Read one response; its body must be a JSON object."""
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode()
        status, *lines = head.strip().split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        assert headers["content-type"] == "application/json"
        body = orjson.loads(await self.reader.readexactly(int(headers["content-length"])))
        assert isinstance(body, dict)
        if int(status.split(" ")[1]) >= 400 and "error" in body:
            contract.fits(body, {"$ref": "#/components/schemas/Error"})
        return int(status.split(" ")[1]), headers, body

    async def is_closed(self) -> bool:
        """Wait for the end; nothing may come before it."""
        return await self.reader.read() == b""


@dataclass
class Served:
    """A site at work, and requests to it."""

    site: Site
    node: FakeNode
    clock: FakeClock
    port: int
    http: aiohttp.ClientSession
    prefix: str = ""
    lines: list[Line] = field(default_factory=list)

    async def connect(self) -> Line:
        """Open a raw connection, which is closed at the end."""
        line = Line(*await asyncio.open_connection("127.0.0.1", self.port))
        self.lines.append(line)
        return line

    async def send(self, method: str, target: str, body: bytes = b"", **headers: str) -> Answer:
        """Send a request whose target is sent exactly as given; whatever is answered must be as the API is described."""
        url = URL(f"http://127.0.0.1:{self.port}{target}", encoded=True)
        async with self.http.request(method, url, data=body or None, headers=headers) as response:
            raw = await response.read()
            assert response.headers["Content-Type"] == "application/json"
            answer = orjson.loads(raw) if method != "HEAD" else None
            assert method == "HEAD" or isinstance(answer, dict)
            contract.check(method, target, response.status, response.headers, answer, self.prefix)
            return Answer(response.status, dict(response.headers), answer)

    async def ask(self, method: str, path: str, body: object = b"", app: App = APP, **parameters: str) -> Answer:
        """Send a signed request; a body that is not bytes is sent as JSON."""
        raw = body if isinstance(body, bytes) else orjson.dumps(body)
        return await self.send(method, self.signed(method, path, raw, app, **parameters), raw)

    def signed(self, method: str, path: str, body: bytes = b"", app: App = APP, **parameters: str) -> str:
        """Return the target of a signed request."""
        return signed(method, path, body, app=app, now_s=self.clock.epoch_ms() // 1000, **parameters)

    def head(self, method: str, path: str, body: bytes = b"", *lines: str) -> bytes:
        """Return the head of a signed request, for those that write it themselves."""
        text = "\r\n".join((f"{method} {self.signed(method, path, body)} HTTP/1.1", "Host: x", *lines, "", ""))
        return text.encode()


def signed(method: str, path: str, body: bytes, *, app: App, now_s: int, **parameters: str) -> str:
    values = {"auth_key": app.key, "auth_timestamp": str(now_s), "auth_version": "1.0", **parameters}
    if body:
        values["body_md5"] = hashlib.md5(body).hexdigest()
    ordered = sorted(values.items())
    string = "\n".join((method, path, "&".join(f"{name}={value}" for name, value in ordered)))
    signature = hmac.new(app.secret.encode(), string.encode(), "sha256").hexdigest()
    query = "&".join(f"{name}={quote(value, safe='')}" for name, value in ordered)
    return f"{path}?{query}&auth_signature={signature}"


@asynccontextmanager
async def serve(*apps: App, path_prefix: str = "", clock: Clock | None = None, desk: Desk | None = None) -> AsyncIterator[Served]:
    """Serve a site on a port of its own, by default over a desk that knows no endpoint."""
    node = FakeNode(*(apps or (APP, OTHER)))
    fake = FakeClock()
    site = Site(node=node, desk=desk or DeskKit(clock=fake).desk, clock=clock or fake, path_prefix=path_prefix)
    server = await asyncio.get_running_loop().create_server(site.protocol, "127.0.0.1", 0)
    async with aiohttp.ClientSession() as http:
        served = Served(site, node, fake, server.sockets[0].getsockname()[1], http, path_prefix.rstrip("/"))
        yield served
    for line in served.lines:
        line.writer.close()
    server.close()
    await site.stop(5.0)
    await server.wait_closed()
