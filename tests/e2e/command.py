"""`rawpush` as a process of its own, whose lines a test waits for."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from tests.patience import LONG_S

ROOT = Path(__file__).resolve().parents[2]


class Command:
    """Runs while inside `async with`; standard output and error are kept apart, line by line."""

    def __init__(self, *arguments: str, environ: Mapping[str, str] | None = None) -> None:
        self._arguments = arguments
        self._environ = environ or {}
        self.out: list[str] = []
        self.err: list[str] = []
        self._changed = asyncio.Event()
        self._process: asyncio.subprocess.Process | None = None
        self._readers: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Command:
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "gateway", *self._arguments),
            cwd=ROOT,
            env={**os.environ, "PYTHONUNBUFFERED": "1", **self._environ},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        pairs = ((self._process.stdout, self.out), (self._process.stderr, self.err))
        self._readers = [asyncio.create_task(self._read(stream, lines)) for stream, lines in pairs if stream is not None]
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        assert self._process is not None
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()
        await asyncio.gather(*self._readers)

    async def _read(self, stream: asyncio.StreamReader, lines: list[str]) -> None:
        async for line in stream:
            lines.append(line.decode().rstrip("\n"))
            self._changed.set()

    async def line(self, part: str, within_s: float = LONG_S) -> str:
        """Wait for a line that holds `part`, and return it."""
        try:
            async with asyncio.timeout(within_s):
                while True:
                    for line in self.out + self.err:
                        if part in line:
                            return line
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            raise AssertionError(f"no line with {part!r} in {within_s} s; there came {self.out} and {self.err}") from None

    async def interrupt(self) -> int:
        """Press Ctrl-C, and return the exit code."""
        assert self._process is not None
        self._process.send_signal(signal.SIGINT)
        return await self.ended()

    async def interrupt_to_the_last(self, number: signal.Signals) -> int:
        """Send this signal again and again until the process is gone, and return the exit code."""
        assert self._process is not None
        # Until the process is reaped it takes signals, and is gone then in the middle of a turn.
        with suppress(ProcessLookupError):
            while self._process.returncode is None:
                # Not by the process itself, which would look whether it still lives, and so reap it behind the loop's back.
                os.kill(self._process.pid, number)
                await asyncio.sleep(0)
        return await self.ended()

    async def ended(self, within_s: float = LONG_S) -> int:
        """Wait for the end, and return the exit code."""
        assert self._process is not None
        async with asyncio.timeout(within_s):
            code = await self._process.wait()
            await asyncio.gather(*self._readers)
        return code
