"""A receiver that does not wait to be told: it polls the feed, life after life, and takes snapshots on the way."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import aiohttp

from tests.e2e.client import Backend
from tests.kill.history import Broken, History, Snapshot

_PAGE = 200


class Poll:
    """Reads the whole ledger, page by page."""

    def __init__(self, port: int, history: History, seed: int) -> None:
        self.history = history
        self._port = port
        self._chance = random.Random(f"{seed} poll")
        self._cursor = 0
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin."""
        self._task = asyncio.create_task(self._run(), name="poll")

    async def stop(self) -> None:
        """End. Raises what it has met."""
        if self._task is not None:
            self._task.cancel()
            (error,) = await asyncio.gather(self._task, return_exceptions=True)
            if isinstance(error, Exception):
                raise error

    async def finish(self) -> None:
        """Read on to the end of the ledger, when nothing happens any more, and take a last snapshot."""
        await self.stop()
        async with Backend(self._port) as backend:
            while await self._read(backend, wait_s=0):
                pass
            await self.look(backend)

    async def look(self, backend: Backend) -> Snapshot:
        """Take a snapshot."""
        status, answer, _ = await backend.call("GET", "/webhooks/snapshot")
        if status != 200:
            raise ValueError(f"no snapshot but {status}: {answer}")
        spans: dict[tuple[str, str], str | None] = {}
        departing = set()
        for kind in ("connection", "subscription", "channel", "member"):
            for span in answer[f"{kind}s"]:
                key = kind, " ".join(str(span[name]) for name in ("channel", "socket_id", "user_id") if name in _KEYS[kind])
                spans[key] = span.get("span")
                if "departs_at" in span:
                    departing.add(key)
        snapshot = Snapshot(answer["cursor"], spans, frozenset(departing))
        self.history.snapshots.append(snapshot)
        self.history.counts["snapshots"] += 1
        return snapshot

    async def _run(self) -> None:
        async with Backend(self._port) as backend:
            while True:
                try:
                    if self._chance.random() < 0.1:
                        await self.look(backend)
                    await self._read(backend, wait_s=self._chance.choice([0, 1]))
                    await asyncio.sleep(0.1)
                except (OSError, aiohttp.ClientError, TimeoutError, ValueError):
                    await asyncio.sleep(0.1)  # the gateway is away

    async def _read(self, backend: Backend, wait_s: int) -> bool:
        """Read a page; False if it was empty. Raises Broken if the feed refuses a cursor it has given out."""
        query: dict[str, Any] = {"after": str(self._cursor), "limit": str(_PAGE), "wait": str(wait_s)}
        status, answer, _ = await backend.call("GET", "/webhooks/events", **query)
        if status != 200:
            if status < 500:
                raise Broken(f"the feed answers {status} to the cursor {self._cursor} of its own: {answer}")
            return True
        self.history.feed += answer["events"]
        self._cursor = answer["cursor"]
        return bool(answer["events"])


_KEYS = {
    "connection": ("socket_id",),
    "subscription": ("channel", "socket_id"),
    "channel": ("channel",),
    "member": ("channel", "user_id"),
}
