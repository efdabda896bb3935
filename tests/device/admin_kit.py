"""The operator's site on a real port of loopback, over a real node, recorder and desk; sockets and deliveries are fakes."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import io
import itertools
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
import orjson

from gateway.admin.pulse import Pulse
from gateway.admin.site import Site
from gateway.admin.sources import Sources
from gateway.admin.stock import Stock
from gateway.backplane.local import LocalBroker, LocalTracker
from gateway.core.app import App
from gateway.node import Handshake, Live, Node
from gateway.outbox.memory import MemoryOutbox
from gateway.ports import Backlog, Commit, Storage
from gateway.recorder import Recorder
from gateway.telemetry import Telemetry
from tests.contract import ADMIN
from tests.desk_kit import DeskKit, endpoint
from tests.fake import FakeClock, FakeConnection

APPS = (
    App("740213", "key-1", "app-s3cret", linger_s=0.0),
    App("740214", "key-2", "other-s3cret"),
    App("740215", "key-3", "third-s3cret", enabled=False),
)


class FailingOutbox(MemoryOutbox):
    """A disk that can be taken away."""

    def __init__(self) -> None:
        super().__init__(capacity=10_000)
        self.refuses_writes = False
        self.refuses_reads = False
        #: reading waits for this
        self.gate = asyncio.Event()
        self.gate.set()
        self.asked = 0

    async def append(self, commit: Commit) -> None:
        if self.refuses_writes:
            raise OSError("no space left on device")
        await super().append(commit)

    async def backlog(self, endpoint: str) -> Backlog:
        self.asked += 1
        await self.gate.wait()
        if self.refuses_reads:
            raise OSError("input/output error")
        return await super().backlog(endpoint)

    def storage(self) -> Storage:
        return Storage(not self.refuses_writes, 4096, 1 << 30)


class House:
    """Everything there is to be looked at."""

    def __init__(self, *apps: App) -> None:
        self.clock = FakeClock()
        self.telemetry = Telemetry()
        self.outbox = FailingOutbox()
        self.kit = DeskKit(endpoint(), clock=self.clock, outbox=self.outbox)
        self.recorder = Recorder(
            outbox=self.outbox,
            router=self.kit.router,
            telemetry=self.telemetry,
            wake=lambda lanes: None,
            capacity=1000,
            ids=self.kit.ids,
            clock=self.clock,
        )
        self.node = Node(
            apps=apps or APPS,
            ids=self.kit.ids,
            broker=LocalBroker(),
            tracker=LocalTracker(),
            recorder=self.recorder,
            clock=self.clock,
            telemetry=self.telemetry,
            chance=itertools.count(1).__next__,
            defer=lambda work: work(),
            activity_timeout_s=120,
        )
        self.node.started()
        self.stock = Stock(desk=self.kit.desk, clock=self.clock, app_ids=lambda: self.node.tenants, patience_s=0.05)
        self.sources = Sources(
            version="1.2.3",
            name="gw-1",
            node=self.node,
            desk=self.kit.desk,
            telemetry=self.telemetry,
            clock=self.clock,
            pulse=Pulse(self.telemetry, self.clock.monotonic()),
            stock=self.stock,
            recorder=self.recorder,
            capacity=1000,
            storage=self.outbox.storage,
            dead_letters_dropped=lambda: self.outbox.dead_letters_dropped,
        )

    def connect(self, key: str = "key-1") -> tuple[Live, FakeConnection]:
        connection = FakeConnection()
        live = self.node.open(Handshake(key, "7", "js", "8.6.0", None, "test/1", "203.0.113.9"), connection)
        assert live is not None, connection.frames()
        return live, connection

    def sign_in(self, live: Live, user_id: str) -> None:
        data = orjson.dumps({"id": user_id}).decode()
        signed = hmac.new(live.tenant.app.secret.encode(), f"{live.socket_id}::user::{data}".encode(), hashlib.sha256)
        asked = {"auth": f"{live.tenant.app.key}:{signed.hexdigest()}", "user_data": data}
        self.node.receive(live, orjson.dumps({"event": "pusher:signin", "data": asked}).decode())

    def join(self, live: Live, channel: str) -> None:
        self.node.receive(live, orjson.dumps({"event": "pusher:subscribe", "data": {"channel": channel}}).decode())


@dataclass
class Answer:
    status: int
    headers: Counter[str] | dict[str, str]
    json: Any


@dataclass
class Served:
    """A site at work, and requests to it."""

    house: House
    site: Site
    port: int
    http: aiohttp.ClientSession
    reloads: list[tuple[int, dict[str, Any]]]

    async def get(self, target: str, **headers: str) -> Answer:
        return await self.send("GET", target, **headers)

    async def post(self, target: str, body: object = None, **headers: str) -> Answer:
        raw = b"" if body is None else orjson.dumps(body)
        return await self.send("POST", target, raw, **{"Content_Type": "application/json", **headers})

    async def send(self, method: str, target: str, body: bytes = b"", **headers: str) -> Answer:
        """Send a request and check what is true of every answer."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        async with self.http.request(
            method, f"http://127.0.0.1:{self.port}{target}", data=io.BytesIO(body), headers=named
        ) as response:
            raw = await response.read()
            assert b"s3cret" not in raw
            assert response.headers["Cache-Control"] == "no-store"
            assert response.headers["Server"] == "RawPush", "what it is made of is nobody's business"
            is_json = response.headers["Content-Type"] == "application/json"
            answer = orjson.loads(raw) if raw and is_json else raw.decode()
            assert response.status < 400 or method == "HEAD" or ("error" in answer or "reasons" in answer)
            if ADMIN.path_of(target) is not None:
                seen = None if method == "HEAD" else answer
                ADMIN.check(method, target, response.status, response.headers, seen)
            return Answer(response.status, dict(response.headers), answer)


@asynccontextmanager
async def serve(house: House | None = None, token: str = "") -> AsyncIterator[Served]:
    """Serve a site whose reload answers what stands in `reloads`, last first."""
    house = house or House()
    reloads: list[tuple[int, dict[str, Any]]] = []

    async def reload() -> tuple[int, dict[str, Any]]:
        return reloads.pop()

    site = Site(sources=house.sources, token=token, host="127.0.0.1", reload=reload)
    port = await site.listen(0)
    await house.recorder.start()
    async with aiohttp.ClientSession() as http:
        yield Served(house, site, port, http, reloads)
    await site.stop()
    await site.stop()
    await house.recorder.stop(0.1)
