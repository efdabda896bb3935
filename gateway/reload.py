"""Reading the file again: one reload at a time, whoever asks for it, and what is wrong told in the log and to him."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from gateway.config import Config, ConfigError
from gateway.core.error import RequestError
from gateway.telemetry import Telemetry


class Reloader:
    """Reads with `load`, which raises ConfigError for a file with mistakes (it then changes nothing), and hands on to `adopt`.

    `adopt` returns the names of the sections that are not what the file says before the next start.
    """

    def __init__(
        self, *, load: Callable[[], Config] | None, adopt: Callable[[Config], Awaitable[list[str]]], telemetry: Telemetry
    ) -> None:
        self._load = load
        self._adopt = adopt
        self._telemetry = telemetry
        self._lock = asyncio.Lock()

    async def reload(self) -> tuple[int, dict[str, Any]]:
        """Do it, and return a status of HTTP and an answer: 200 with what is in force, or 422 with every mistake.

        Raises RequestError where there is no file, and whatever `adopt` raises.
        """
        if self._load is None:
            raise RequestError(409, "this gateway was started without a file; there is none to read again")
        # Reading is inside: of two reloads the later one must not end with the file as the earlier one saw it.
        async with self._lock:
            try:
                config = self._load()
            except ConfigError as error:
                for problem in error.problems:
                    self._telemetry.note(logging.ERROR, "the file has a mistake; nothing was changed", mistake=problem)
                return 422, _told(error)
            at_next_start = await self._adopt(config)
        endpoints = sum(len(entry.endpoints) for entry in config.apps)
        return 200, {"reloaded": True, "apps": len(config.apps), "endpoints": endpoints, "at_next_start": at_next_start}

    async def run(self, hang_up: asyncio.Event) -> None:
        """Reload whenever the event is set, until cancelled."""
        while True:
            await hang_up.wait()
            hang_up.clear()
            try:
                await self.reload()
            except (RequestError, OSError) as error:
                self._telemetry.note(logging.ERROR, "not reloaded; send SIGHUP again when it can be", error=error)
            except Exception:  # whatever went wrong, the next SIGHUP must be heard
                logging.getLogger("rawpush.gateway").exception("the configuration was not reloaded whole; send SIGHUP again")


def _told(error: ConfigError) -> dict[str, Any]:
    found = mistakes(error)
    return {"error": f"the file has {len(found)} mistake{'s' if len(found) > 1 else ''}; nothing was changed", "mistakes": found}


def mistakes(error: ConfigError) -> list[dict[str, Any]]:
    """Return what is wrong with a file, for programs."""
    return [
        {"file": problem.file, "line": problem.line, "place": problem.place, "error": problem.sentence}
        for problem in error.problems
    ]
