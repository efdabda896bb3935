"""What the outbox holds for each endpoint: asked at most every few seconds, once for all who want to know."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from gateway.desk import Desk
from gateway.desk.answer import Answer
from gateway.ports import Clock

logger = logging.getLogger("rawpush.admin")

#: Seconds for which an answer is good: below any interval at which somebody sensibly asks.
_FRESH_S = 2.0
#: Seconds an answer is waited for. A disk that hangs must not hide what can be told without it.
_PATIENCE_S = 2.0


@dataclass(frozen=True, slots=True)
class Look:
    """How each endpoint is doing, by app; an app is missing whose endpoints could not be asked about."""

    endpoints: Mapping[str, list[Answer]] = field(default_factory=dict)
    #: False: the outbox could not be read, or has not answered yet
    is_whole: bool = True


class Stock:
    """Asks the desk on behalf of everybody; `app_ids` returns the apps there are."""

    def __init__(
        self, *, desk: Desk, clock: Clock, app_ids: Callable[[], Iterable[str]], patience_s: float = _PATIENCE_S
    ) -> None:
        self._desk = desk
        self._clock = clock
        self._app_ids = app_ids
        self._patience_s = patience_s
        self._latest = Look(is_whole=False)
        self._fresh_until = float("-inf")
        self._asking: asyncio.Task[None] | None = None

    async def look(self) -> Look:
        """Return the latest answer: a fresh one where the outbox gives one in time."""
        if self._clock.monotonic() >= self._fresh_until:
            if self._asking is None:
                self._asking = asyncio.create_task(self._ask(), name="stock")
            done, _ = await asyncio.wait((self._asking,), timeout=self._patience_s)
            if not done:
                return Look(self._latest.endpoints, is_whole=False)
        return self._latest

    async def stop(self) -> None:
        """Ask no more."""
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.gather(self._asking, return_exceptions=True)

    async def _ask(self) -> None:
        try:
            found: dict[str, list[Answer]] = {}
            is_whole = True
            for app_id in list(self._app_ids()):
                try:
                    found[app_id] = (await self._desk.endpoints(app_id))["endpoints"]
                except OSError as error:
                    is_whole = False
                    logger.warning("the outbox cannot be read", extra={"fields": {"app": app_id, "error": str(error)}})
                await asyncio.sleep(0)  # an outbox in memory answers without ever letting anybody else run
            self._latest = Look(found, is_whole)
            self._fresh_until = self._clock.monotonic() + _FRESH_S
        except Exception:
            logger.exception("the endpoints could not be asked about")
            self._latest = Look(is_whole=False)
        finally:
            self._asking = None
