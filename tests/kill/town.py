"""Everything around the gateway under test: its file, its receivers, its clients and publishers, and one life after another."""

from __future__ import annotations

import asyncio
import json
import random
import signal
import sqlite3
import time
import traceback
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tests.e2e.gateway_process import APP_ID, ROOT, GatewayProcess, app, free_port, to_toml
from tests.kill.crowd import Crowd
from tests.kill.filter import Filter
from tests.kill.history import Broken, Envelope, History, Life
from tests.kill.poll import Poll
from tests.kill.post import MOODS, TIMEOUT_S, Post
from tests.kill.press import Press
from tests.patience import LONG_S

#: name -> what it asks for, its settings, and the moods it may have
ENDPOINTS: dict[str, tuple[Filter, dict[str, Any], tuple[str, ...]]] = {
    "ledger": (Filter(), {"format": "batch", "concurrency": 1}, ("slow",)),
    "single": (Filter(), {"format": "event", "concurrency": 1}, ()),
    "eight": (Filter(), {"format": "event", "concurrency": 8}, MOODS),
    "batches": (Filter(), {"format": "batch", "concurrency": 8, "batch_max": 20}, MOODS),
    "goner": (Filter(), {"format": "batch", "concurrency": 2, "batch_max": 50}, ("gone", "error", "slow")),
    "presence": (
        Filter(events=("channel.*", "connection.*"), channels=("presence-*",), exclude_channels=("presence-3",)),
        {"format": "batch", "concurrency": 8},
        MOODS,
    ),
    "messages": (
        Filter(events=("message.published", "client_event"), exclude_event_names=("client-typing-*",), include_payload=False),
        {"format": "event", "concurrency": 8},
        MOODS,
    ),
}

#: seconds a start may take on a machine that has other things to do
_START_S = LONG_S
#: seconds an ordered end may take: more than `shutdown_timeout`
_END_S = LONG_S
#: how often the test looks whether it stands still, and from when on it has, in seconds
_LOOK_S, _STALL_S = 0.1, 0.3


class Town:
    """Made with `await Town.build(...)`, ended with `await town.raze()`."""

    def __init__(self, folder: Path, seed: int, root: Path) -> None:
        self.chance = random.Random(seed)
        self.history = History()
        self.port = free_port()
        self.crowd = Crowd(self.port, self.history, seed, places=16)
        self.press = Press(self.port, self.history, seed, authors=3)
        self.poll = Poll(self.port, self.history, seed)
        self.posts: dict[str, Post] = {}
        self.folder = folder
        self.store = folder / "state" / "outbox.sqlite"
        #: what all lives have printed
        self.lines: list[str] = []
        self.wrong: list[str] = []
        self.gateway: GatewayProcess | None = None
        self._root = root
        self._weather: list[asyncio.Task[None]] = []
        self._watching: asyncio.Task[None] | None = None

    @classmethod
    async def build(cls, folder: Path, seed: int, root: Path = ROOT) -> Town:
        """Open the receivers and write the gateway's file; nothing is started yet."""
        town = cls(folder, seed, root)
        for name in ENDPOINTS:
            post = await Post.start(free_port())
            assert isinstance(post, Post)
            town.posts[name] = post
        town._write_file()
        return town

    def _write_file(self) -> None:
        server = {
            "host": "127.0.0.1",
            "port": self.port,
            "node": "gw-1",
            "state_dir": str(self.store.parent),
            "drain": "300ms",
            "shutdown_timeout": "3s",
            "recovery_linger": "400ms",
            "activity_timeout": "2s",
            "pong_timeout": "1s",
        }
        common: dict[str, Any] = {"timeout": f"{round(TIMEOUT_S * 1000)}ms", "retry": {"initial": "50ms", "max_delay": "300ms"}}
        webhooks = [
            self.posts[name].endpoint(name, **common, **settings, **wants.settings())
            for name, (wants, settings, _) in ENDPOINTS.items()
        ]
        outbox = {"mode": "disk", "synchronous": "normal"}
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "config.toml").write_text(
            to_toml({"server": server, "admin": {"port": 0}, "outbox": outbox, "apps": [app(linger="300ms", webhooks=webhooks)]})
        )

    # -- lives

    async def spawn(self) -> GatewayProcess:
        """Start a process, and do not wait for it."""
        number = len(self.history.lives) + 1
        self.history.lives.append(Life(number))
        self.gateway = GatewayProcess(self.folder / "config.toml", self.port, self._root)
        await self.gateway.run()
        # Not sooner: what the former life has sent is still being read.
        self.crowd.life = self.press.life = number
        for post in self.posts.values():
            post.life = number
        return self.gateway

    async def ready(self) -> None:
        """Wait until the process accepts work. Raises Broken if it does not."""
        assert self.gateway is not None
        try:
            await self.gateway.wait_for_line(lambda line: "ready" in line.lower(), _START_S)
        except AssertionError as error:
            raise Broken(f"life {len(self.history.lives)} does not start: {error}") from None

    def kill(self) -> None:
        """SIGKILL, at this very moment; `bury` must follow."""
        assert self.gateway is not None
        life = self.history.lives[-1]
        if self.gateway.is_running and not life.end:
            life.end, life.ended_at = "killed", time.monotonic()
            try:
                self.gateway.kill()
            except ProcessLookupError:
                life.end = ""  # it has just ended by itself, and `bury` will see how

    def terminate(self) -> None:
        """SIGTERM; `bury` must follow."""
        assert self.gateway is not None
        try:
            self.gateway.signal(signal.SIGTERM)
        except ProcessLookupError:
            pass  # it has just ended by itself, and `bury` will see how

    async def bury(self) -> None:
        """Wait for the end of a process that was told to end. Raises Broken if it did not end as it must."""
        assert self.gateway is not None
        life = self.history.lives[-1]
        try:
            status = await self.gateway.ended(_END_S)
        except AssertionError as error:
            raise Broken(f"life {life.number} does not end: {error}") from None
        if not life.end:
            life.end, life.ended_at = "clean", time.monotonic()
            if status != 0:
                life.end = "killed"
                self.wrong.append(f"life {life.number} was asked to end and ended with status {status}")
        self.wrong += [f"life {life.number} said: {line[:2000]}" for line in self.gateway.tracebacks]
        self.lines += [f"-- life {life.number}", *self.gateway.lines]
        self.history.counts[f"lives {life.end}"] += 1

    # -- weather

    def start(self) -> None:
        """Let everybody begin."""
        self.crowd.start()
        self.press.start()
        self.poll.start()
        self._watching = asyncio.create_task(self._watch(), name="watch")
        self._weather = [asyncio.create_task(self._change(name), name=f"weather {name}") for name in self.posts]

    async def _watch(self) -> None:
        before = time.monotonic()
        while True:
            await asyncio.sleep(_LOOK_S)
            now = time.monotonic()
            if now - before > _LOOK_S + _STALL_S:
                self.history.stalls.append((before, now))
                self.history.counts["stalls of the test"] += 1
            before = now

    async def clear_up(self, mood: str = "well") -> None:
        """No more weather: all receivers are in this mood from now on."""
        for task in self._weather:
            task.cancel()
        await asyncio.gather(*self._weather, return_exceptions=True)
        self._weather = []
        for post in self.posts.values():
            await post.set_mood(mood)

    async def _change(self, name: str) -> None:
        moods = ENDPOINTS[name][2]
        chance = random.Random(f"{self.chance.random()} {name}")
        while moods:
            await self.posts[name].set_mood("well")
            await asyncio.sleep(chance.uniform(0.3, 1.5))
            mood = chance.choice(moods)
            await self.posts[name].set_mood(mood)
            await asyncio.sleep(chance.uniform(0.1, 1.0))

    # -- looking

    def left(self) -> tuple[int, int]:
        """Return how many deliveries are due and how many spans are open, from the store itself, which is only read."""
        deliveries, spans = self._ask("SELECT (SELECT coalesce(sum(depth), 0) FROM lane), (SELECT count(*) FROM span)")[0]
        return int(deliveries), int(spans)

    def open_spans(self) -> list[str]:
        """Return what is open, in words."""
        return [" ".join(map(str, row)) for row in self._ask("SELECT kind, key, departs_at_ms FROM span")]

    def dead(self) -> dict[str, list[Envelope]]:
        """Return the dead letters by endpoint."""
        dead: dict[str, list[Envelope]] = {}
        if not self.store.exists():
            return dead
        for endpoint, envelope in self._ask("SELECT endpoint, envelope FROM dead_letter ORDER BY no"):
            dead.setdefault(endpoint.removeprefix(f"{APP_ID}/"), []).append(json.loads(envelope))
        return dead

    def _ask(self, question: str) -> list[tuple[Any, ...]]:
        connection = sqlite3.connect(f"{self.store.as_uri()}?mode=ro", uri=True, timeout=LONG_S)
        try:
            return connection.execute(question).fetchall()
        finally:
            connection.close()

    async def raze(self) -> None:
        """End everything that is still there, by its own handle."""
        await self.clear_up()
        for part in (self.press.stop, self.poll.stop, self.crowd.go):
            try:
                await part()
            except Exception:  # noqa: BLE001 -- a broken gateway may break anything here, and the rest must be ended too
                self.wrong.append(f"somebody could not go on: {traceback.format_exc()}")
        if self.gateway is not None and self.gateway.is_running:
            self.kill()
            await self.gateway.ended()
        for post in self.posts.values():
            await post.stop()
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)


def wishes() -> dict[str, Filter]:
    """Return what each endpoint asks for."""
    return {name: wants for name, (wants, _, _) in ENDPOINTS.items()}


def counted(names: Iterable[str], numbers: Iterable[int]) -> str:
    """Return `a 1, b 2`."""
    return ", ".join(f"{name} {number}" for name, number in zip(names, numbers, strict=True))
