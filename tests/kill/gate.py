"""A gate that everybody passes between two deeds, so that all can be made to stand still."""

from __future__ import annotations

import asyncio


class Gate:
    """Open at first. Those who do not get through are counted."""

    def __init__(self) -> None:
        self._open = asyncio.Event()
        self._open.set()
        self._waiting = 0
        self._came = asyncio.Event()

    async def passed(self) -> None:
        """Return when the gate is open."""
        self._waiting += 1
        self._came.set()
        try:
            await self._open.wait()
        finally:
            self._waiting -= 1

    async def shut(self, everybody: int, within_s: float = 15.0) -> None:
        """Close it and wait until everybody stands before it. Raises TimeoutError."""
        self._open.clear()
        async with asyncio.timeout(within_s):
            while self._waiting < everybody:
                self._came.clear()
                await self._came.wait()

    def reopen(self) -> None:
        """Let everybody go on."""
        self._open.set()
