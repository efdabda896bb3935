"""Publishers over signed HTTP who remember exactly what was acknowledged."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Callable
from itertools import count

import aiohttp

from tests.e2e.client import Backend
from tests.kill.crowd import CHANNELS
from tests.kill.gate import Gate
from tests.kill.history import Broken, History, Publish


class Press:
    """Some authors, each publishing one thing after another."""

    def __init__(self, port: int, history: History, seed: int, authors: int) -> None:
        self.port = port
        self.history = history
        self.authors = authors
        self.gate = Gate()
        self.life = 0
        #: called at each acknowledgement, at once
        self.watch: Callable[[], None] | None = None
        self._seed = seed
        self._numbers = count(1)
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin."""
        self._tasks = [
            asyncio.create_task(self._write(author, random.Random(f"{self._seed} author {author}")), name=f"author {author}")
            for author in range(self.authors)
        ]

    async def stop(self) -> None:
        """End. Raises what an author has met."""
        for task in self._tasks:
            task.cancel()
        for error in await asyncio.gather(*self._tasks, return_exceptions=True):
            if isinstance(error, Exception):
                raise error

    async def last_word(self) -> None:
        """Publish once more, by an author of its own, when all is well: this must be acknowledged. Raises Broken."""
        before = self.history.counts["publishes acknowledged"]
        async with Backend(self.port) as backend:
            await self._publish(backend, self.authors, random.Random(self._seed))
        if self.history.counts["publishes acknowledged"] == before:
            raise Broken("all is well, and a publish is not acknowledged")

    async def _write(self, author: int, chance: random.Random) -> None:
        async with Backend(self.port) as backend:
            backend.answered = self._answered
            while True:
                await self.gate.passed()
                await self._publish(backend, author, chance)
                await asyncio.sleep(chance.uniform(0.01, 0.12))

    def _answered(self, status: int) -> None:
        if status == 200 and self.watch is not None:
            self.watch()

    async def _publish(self, backend: Backend, author: int, chance: random.Random) -> None:
        """One request, with one event or a few; each is a publish of its own."""
        publishes = []
        for _ in range(chance.choice([1, 1, 1, 3])):
            channels = tuple(chance.sample(CHANNELS, chance.choice([1, 1, 2, 3])))
            data = json.dumps({"n": next(self._numbers), "fill": "x" * chance.choice([0, 0, 10, 3000])})
            publishes.append(Publish(f"news-{next(self._numbers)}", author, channels, data, self.life, time.monotonic()))
        events: list[dict[str, object]] = []
        for publish in publishes:
            self.history.publishes[publish.name] = publish
            events.append({"name": publish.name, "channels": list(publish.channels), "data": publish.data})
        if len(events) > 1:  # an event of a batch has one channel
            events = []
            for publish in publishes:
                publish.channels = publish.channels[:1]
                events.append({"name": publish.name, "channel": publish.channels[0], "data": publish.data})
            path, body = "/batch_events", json.dumps({"batch": events})
        else:
            path, body = "/events", json.dumps(events[0])
        try:
            status, _, _ = await backend.call("POST", path, body.encode())
        except (OSError, aiohttp.ClientError, TimeoutError, ValueError):
            self.history.counts["publishes without an answer"] += len(publishes)
            await asyncio.sleep(0.1)  # the gateway is away
            return
        for publish in publishes:
            publish.status = status
            publish.same_life = self.life == publish.life
        self.history.counts["publishes acknowledged" if status == 200 else f"publishes answered {status}"] += len(publishes)
