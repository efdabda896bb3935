"""A whole gateway in this process, over real sockets, whose clock stands still until a test moves it."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gateway.bootstrap import Gateway
from gateway.config import AppEntry, Config, OutboxSettings, Server
from gateway.core.app import App, Limits
from gateway.node import Node
from tests.e2e.client import Backend, Client
from tests.e2e.gateway_process import APP_ID, KEY, SECRET
from tests.fake import FakeClock


@dataclass
class Running:
    gateway: Gateway
    clock: FakeClock
    backend: Backend

    @property
    def node(self) -> Node:
        assert self.gateway.node is not None
        return self.gateway.node

    async def connect(self, **options: Any) -> Client:
        return await Client.connect(self.gateway.port, **options)

    def pass_time(self, seconds: float) -> None:
        """Let time pass, and let what is due then happen before this returns."""
        self.clock.move(seconds)
        self.node.tick()

    async def recorded(self, *kinds: str) -> list[dict[str, Any]]:
        """Return the `data` of all events of these kinds that have happened so far."""
        # the answer comes when this event is written, and with it everything before it
        assert await self.backend.publish("all-written", "mark") == 200
        page = await self.backend.get("/webhooks/events", limit=1000, event=",".join(kinds))
        return [event["data"] for event in page["events"] if event["data"].get("channel") != "all-written"]


@asynccontextmanager
async def running(folder: Path, limits: Limits | None = None, **settings: Any) -> AsyncIterator[Running]:
    """Run a gateway with one app, which records every event for the feed and has no linger."""
    app = App(APP_ID, KEY, SECRET, linger_s=0.0, feed=("*",), limits=limits or Limits(), **settings)
    config = Config(
        server=Server(port=0, node="gw-1", state_dir=str(folder), drain_s=0.0, shutdown_timeout_s=2.0),
        outbox=OutboxSettings(mode="memory"),
        apps=(AppEntry(app),),
    )
    # what is signed is signed by the wall clock
    clock = FakeClock(epoch_ms=round(time.time() * 1000))
    gateway = Gateway(config, clock=clock)
    await gateway.start()
    try:
        async with Backend(gateway.port) as backend:
            yield Running(gateway, clock, backend)
    finally:
        await Client.clear_away()
        await gateway.stop()
