"""The real gateway as a process of its own, with a configuration file of its own, on a free port of loopback."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.patience import LONG_S

ROOT = Path(__file__).resolve().parents[2]

APP_ID, KEY, SECRET = "740213", "demo-key", "demo-secret"


def app(app_id: str = APP_ID, *, key: str = KEY, secret: str = SECRET, **settings: object) -> dict[str, object]:
    """Return an `[[apps]]` entry, without linger unless told otherwise."""
    return {"id": app_id, "key": key, "secret": secret, "linger": "0s", **settings}


def to_toml(settings: Mapping[str, object]) -> str:
    """Write settings as TOML: a JSON string, number or truth is one in TOML too, and tables may stand in line."""
    return "".join(f"{name} = {_value(value)}\n" for name, value in settings.items())


def _value(value: object) -> str:
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{json.dumps(name)} = {_value(inner)}" for name, inner in value.items()) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_value, value)) + "]"
    return json.dumps(value)


def free_port() -> int:
    """Return a free port below the range from which connections get theirs: while nobody listens there, none may take it."""
    # Not by a seed that others may have, too: tests side by side would meet in each other's gateway.
    for port in random.SystemRandom().sample(range(15_000, 30_000), 100):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise OSError("a hundred ports, and none of them free")


def _write(folder: Path, settings: Mapping[str, object]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "config.toml"
    config.write_text(to_toml(settings))
    return config


class GatewayProcess:
    """One life of `python -m gateway serve`; everything it prints is kept in `lines`."""

    def __init__(self, config: Path, port: int, root: Path = ROOT) -> None:
        """`root` is the folder whose `gateway` package is run."""
        self.config = config
        self.port = port
        self._root = root
        self._files: tuple[int, int] | None = None
        self.lines: list[str] = []
        #: what the process gets beside the usual three
        self.descriptors: tuple[int, ...] = ()
        self._process: asyncio.subprocess.Process | None = None
        self._reader: asyncio.Task[None] | None = None
        self._changed = asyncio.Event()

    @classmethod
    async def start(
        cls, folder: Path, settings: Mapping[str, Any], port: int = 0, files: tuple[int, int] | None = None
    ) -> GatewayProcess:
        """Write the file, start the process and wait until it says it is ready; `files`: limits of open files, soft and hard."""
        port = port or free_port()
        server = {
            "host": "127.0.0.1",
            "port": port,
            "node": "gw-1",
            "state_dir": str(folder / "state"),
            "drain": "100ms",
            "shutdown_timeout": "30s",
            **settings.get("server", {}),
        }
        defaults = {"outbox": {"mode": "memory"}, "admin": {"port": 0}}
        gateway = cls(_write(folder, {**defaults, **settings, "server": server}), port)
        gateway._files = files
        await gateway.run()
        try:
            await gateway.wait_for_line(lambda line: "ready" in line.lower())
        except AssertionError:
            gateway.kill()
            raise
        return gateway

    def command(self) -> list[str]:
        """Return what is run."""
        return [sys.executable, "-m", "gateway", "serve", "-c", str(self.config)]

    async def run(self) -> None:
        """Start the process, without waiting for anything."""
        # prlimit and not a callable between fork and exec, which may hang in a process with threads.
        limit = [] if self._files is None else ["prlimit", f"--nofile={self._files[0]}:{self._files[1]}"]
        self._process = await asyncio.create_subprocess_exec(
            *limit,
            *self.command(),
            cwd=self._root,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            pass_fds=self.descriptors,
        )
        self._reader = asyncio.create_task(self._read())

    async def _read(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            self.lines.append(line.decode(errors="backslashreplace").rstrip())
            self._changed.set()
        self._changed.set()

    async def wait_for_line(self, predicate: Callable[[str], bool], within_s: float = LONG_S) -> str:
        """Wait for a line of output; fails if the process ends first."""
        assert self._reader is not None
        try:
            async with asyncio.timeout(within_s):
                while True:
                    for line in self.lines:
                        if predicate(line):
                            return line
                    if self._reader.done():
                        raise AssertionError("the gateway ended; it said:\n" + "\n".join(self.lines))
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            raise AssertionError("waited in vain; the gateway said:\n" + "\n".join(self.lines)) from None

    @property
    def admin(self) -> str:
        """The operator's port, as a URL without a path."""
        found = [line.split()[1] for line in self.lines if line.startswith("admin: ")]
        assert found, "the gateway has not said where its admin port is"
        return found[-1]

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.returncode is None

    def signal(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Send a signal to this process and no other."""
        if self.is_running:
            os.kill(self.pid, number)

    async def reload(self, apps: Sequence[Mapping[str, object]], says: str = "reloaded") -> str:
        """Put other apps into the file, send SIGHUP, and wait until the gateway says what has come of it."""
        kept = [line for line in self.config.read_text().splitlines() if not line.startswith("apps = ")]
        self.config.write_text("\n".join(kept) + "\n" + to_toml({"apps": apps}))
        return await self.hang_up(says)

    async def hang_up(self, says: str = "reloaded") -> str:
        """Send SIGHUP and wait for a line that says what has come of it."""
        heard = len(self.lines)
        self.signal(signal.SIGHUP)
        return await self.wait_for_line(lambda line: says in line and line in self.lines[heard:])

    def kill(self) -> None:
        self.signal(signal.SIGKILL)

    async def ended(self, within_s: float = LONG_S) -> int:
        """Wait until the process has ended and return its exit status."""
        assert self._process is not None
        assert self._reader is not None
        try:
            async with asyncio.timeout(within_s):
                status = await self._process.wait()
                await self._reader
        except TimeoutError:
            self.kill()
            raise AssertionError(f"not gone after {within_s} s; the gateway said:\n" + "\n".join(self.lines[-50:])) from None
        return status

    async def stop(self, within_s: float = LONG_S) -> int:
        """Ask it to end (SIGTERM) and return its exit status."""
        self.signal()
        return await self.ended(within_s)

    @property
    def tracebacks(self) -> list[str]:
        """Lines that begin a stack trace: there is no input and no receiver that may cause one."""
        return [line for line in self.lines if "Traceback" in line or "exception was never retrieved" in line]
