"""Receivers that fail in every way a receiver can, and remember what they have accepted and whether the sender can know."""

from __future__ import annotations

import asyncio
import random
import socket
import struct
import time
from collections.abc import Callable

from aiohttp import web
from aiohttp.client_exceptions import ClientError

from tests.e2e.receiver import Endpoint, Hook, Receiver
from tests.kill.history import Arrival

#: seconds the gateway waits for an answer
TIMEOUT_S = 1.5

#: An answer written later than this may have met the time-out, whatever the clocks say.
_SURELY_IN_TIME_S = 0.5

#: how a receiver can be, apart from well
MOODS = ("slow", "refuse", "reset", "swallow", "hang", "late", "drip", "drop", "error", "busy", "redirect", "garbage")

#: called before and after an answer: `asked` or `answered`
Watch = Callable[[str], None]


class Post(Receiver):
    """One receiver, in a mood; every accepted envelope is an arrival."""

    def __init__(self) -> None:
        super().__init__()
        self.forgives_repeats = True
        self.arrivals: list[Arrival] = []
        self.mood = "well"
        #: the number of the gateway's life, set from outside
        self.life = 0
        self.requests = 0
        self.watch: Watch | None = None
        self.heard_at = 0.0

    async def set_mood(self, mood: str) -> None:
        """Be like this from now on."""
        assert self._runner is not None
        if (mood == "refuse") != (self.mood == "refuse"):
            if mood == "refuse":
                for site in list(self._runner.sites):
                    await site.stop()
                assert self._runner.server is not None
                for handler in list(self._runner.server.connections):
                    if handler.transport is not None:
                        handler.transport.abort()
            else:
                await web.TCPSite(self._runner, "127.0.0.1", self.port).start()
        self.mood = mood

    async def _receive(self, request: web.Request) -> web.StreamResponse:
        came_at, life = time.monotonic(), self.life
        try:
            body = await request.read()
        except (OSError, ClientError):  # the gateway died in the middle of it
            return web.Response(status=400)
        hook = Hook(time.time(), request.path, {name.lower(): value for name, value in request.headers.items()}, body)
        endpoint = self._verify(request.method, hook)
        self.requests += 1
        self.heard_at = time.monotonic()
        if self.watch is not None:
            self.watch("asked")
        # Every third request is answered well in any mood but the worst, so that moods meet requests under way.
        is_lucky = self.mood in ("reset", "error", "hang", "late") and random.random() < 0.3
        answer = await self._react(request, "well" if is_lucky else self.mood, endpoint, hook, came_at, life)
        if self.watch is not None:
            self.watch("answered")
        return answer

    async def _react(
        self, request: web.Request, mood: str, endpoint: Endpoint | None, hook: Hook, came_at: float, life: int
    ) -> web.StreamResponse:
        match mood:
            case "error":
                return web.Response(status=random.choice([500, 502, 404]))
            case "busy":
                return web.Response(status=429, headers={"Retry-After": "1"})
            case "redirect":
                return web.Response(status=302, headers={"Location": "/elsewhere"})
            case "gone":
                return web.Response(status=410)
            case "reset" | "refuse":
                _cut(request)
                return web.Response()
            case "garbage":
                if request.transport is not None:
                    request.transport.write(b"\x16\x03\x01 no HTTP\r\n\r\n")
                    request.transport.close()
                return web.Response()
            case "hang":
                await self._wait(2 * TIMEOUT_S)
                return web.Response()
            case "late":
                await self._wait(1.3 * TIMEOUT_S)
            case "slow":
                await self._wait(random.uniform(0.02, 0.2))
        if endpoint is None:
            return web.Response()
        arrivals = [Arrival(envelope, came_at, 0.0, life, told=False, mood=mood) for envelope in hook.envelopes]
        self.arrivals += arrivals
        if mood == "swallow":
            _note(arrivals, told=False)
            _cut(request)
            return web.Response()
        answer = web.StreamResponse(headers={"Content-Length": "1000"} if mood == "drip" else {"Content-Length": "0"})
        try:
            await answer.prepare(request)
            if mood == "drip":
                await self._drip(answer)
            else:
                await answer.write_eof()
        except (OSError, ClientError):
            _note(arrivals, told=False)
            return answer
        is_up = request.transport is not None and not request.transport.is_closing()
        _note(arrivals, told=is_up and time.monotonic() - came_at < _SURELY_IN_TIME_S)
        if mood == "drop" and request.transport is not None:
            request.transport.close()
        return answer

    async def _drip(self, answer: web.StreamResponse) -> None:
        for _ in range(5):
            await answer.write(b".")
            await self._wait(0.02)

    async def _wait(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._closing.wait()
        except TimeoutError:
            pass  # nobody closes: the wait is over


def _note(arrivals: list[Arrival], *, told: bool) -> None:
    for arrival in arrivals:
        arrival.at, arrival.told = time.monotonic(), told


def _cut(request: web.Request) -> None:
    if request.transport is not None:
        connection: socket.socket = request.transport.get_extra_info("socket")
        if connection.fileno() != -1:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        request.transport.abort()
