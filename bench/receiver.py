"""A receiver of webhooks on a thread of its own: says yes to everything, and remembers what came and when."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import uvloop

from bench.responder import Responder


class Receiver:
    """To be used as a context manager; `url` is where it listens."""

    def __init__(self, keep: int | None = None) -> None:
        """`keep`: only so many bodies are remembered, the first ones; None: all."""
        self._keep = keep
        self.url = ""
        #: since `forget`: bodies, when each came (seconds of the monotonic clock), and how many events were in them
        self.bodies: list[bytes] = []
        self.came_at: list[float] = []
        self.events = 0
        self._wanted = 0
        self._enough = threading.Event()
        self._listens = threading.Event()
        self._thread = threading.Thread(target=lambda: uvloop.run(self._serve()))

    def __enter__(self) -> Receiver:
        self._thread.start()
        self._listens.wait()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    def forget(self) -> None:
        """Begin to count anew; nothing may be under way."""
        self.bodies, self.came_at, self.events = [], [], 0

    def wait(self, events: int, timeout_s: float) -> bool:
        """Wait until so many events have come since `forget`; returns whether they did."""
        self._wanted = events
        self._enough.clear()
        return self.events >= events or self._enough.wait(timeout_s)

    def take(self, body: bytes) -> None:
        """Remember a request."""
        self.came_at.append(time.monotonic())
        if self._keep is None or len(self.bodies) < self._keep:
            self.bodies.append(body)
        self.events += self.events_in(body)
        if self.events >= self._wanted:
            self._enough.set()

    @staticmethod
    def events_in(body: bytes) -> int:
        """Return how many events a webhook carries."""
        # There is one in every event; the data, of letters only, has none.
        return body.count(b'"sequence":')

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        server = await self._loop.create_server(lambda: _Line(self), "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/hooks"
        self._listens.set()
        await self._stop.wait()
        server.close()

    def webhook(self, **settings: Any) -> dict[str, object]:
        """Return the entry in the gateway's configuration that makes it send here."""
        return {"name": "bench", "url": self.url, "secrets": ["bench-hook-secret"], **settings}


class _Line(Responder):
    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver

    def take(self, head: bytes, body: bytes) -> None:
        self._receiver.take(body)
