"""Settlements that may lag behind: what was delivered is written a moment later, with whatever else is written then.

A transaction costs as much as a dozen settlements, and nobody but a next life of the process asks whether one is in the
file. What it does not find there it delivers again, in order and under the ids it had: as it would if the answer had been on
its way when the process died. So the lag is short, and never more than a few webhooks of a lane.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from gateway.core.delivery import Settlement
from gateway.outbox.books import Name
from gateway.telemetry import gateway_log

#: seconds until they are written if nothing else is: long against a transaction, short against what a restart takes
LAG_S = 0.02
#: settlements of one lane that may lag: what that lane may repeat after a crash, beside the request that was under way
MOST = 16
#: settlements of all lanes together after which they are written at once
MANY = 512
#: seconds between trials to write those that could not be written
AGAIN_S = 1.0


class Behind:
    """Holds what was delivered and is not written; `write` gives some to the writer, its future is done when they are durable."""

    def __init__(self, write: Callable[[tuple[Settlement, ...]], asyncio.Future[object]]) -> None:
        self._write = write
        self._gathered: list[Settlement] = []
        self._under_way: tuple[Settlement, ...] = ()
        #: done when it is known what became of those under way, and taken down here
        self._outcome: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        #: the last try has failed
        self._is_failing = False
        #: by lane: the last sequence that was settled, and how many settlements are not written
        self._lanes: dict[Name, tuple[int, int]] = {}
        #: how many settlements were taken so far, and how many of these are durable
        self._taken = 0
        self._durable = 0

    def cursor(self, name: Name) -> int:
        """Return up to where the lane is settled though that is not written, 0 if all of it is."""
        lag = self._lanes.get(name)
        return 0 if lag is None else lag[0]

    def take(self, settlement: Settlement) -> bool:
        """Take a delivered request's settlement; False if too many of its lane lag already, or the disk refuses them."""
        name = (settlement.endpoint, settlement.lane)
        last, count = self._lanes.get(name, (0, 0))
        if self._is_failing or count >= MOST:
            return False
        self._lanes[name] = (max(last, settlement.last_sequence), count + 1)
        self._gathered.append(settlement)
        self._taken += 1
        if len(self._gathered) >= MANY:
            self.hand_over()
        else:
            self._arm(LAG_S)
        return True

    def hand_over(self) -> None:
        """Have them written with what the writer is given next. One batch at a time: a lane's attempts stay in their order."""
        if not self._gathered or self._under_way:
            return
        self._disarm()
        self._under_way, self._gathered = tuple(self._gathered), []
        self._outcome = asyncio.get_running_loop().create_future()
        self._write(self._under_way).add_done_callback(self._done)

    async def written(self) -> None:
        """Return when all that was taken before is durable. Raises OSError if it could not be written; it stays here then."""
        taken = self._taken
        while self._durable < taken:
            self.hand_over()
            if self._outcome is not None:
                await asyncio.shield(self._outcome)

    def _done(self, written: asyncio.Future[object]) -> None:
        batch, self._under_way = self._under_way, ()
        outcome, self._outcome = self._outcome, None
        assert outcome is not None
        error = None if written.cancelled() else written.exception()
        self._is_failing = isinstance(error, OSError)
        if isinstance(error, OSError):
            self._gathered[:0] = batch
            self._arm(AGAIN_S)
            outcome.set_exception(error)
            outcome.exception()  # the writer has said it; nobody need be waiting
            return
        if error is not None:
            # What comes behind it in its lane settles it too; but for that the webhook is one that a crash would repeat.
            gateway_log.error("it could not be noted what was delivered", exc_info=error)
        self._durable += len(batch)
        for settlement in batch:
            name = (settlement.endpoint, settlement.lane)
            last, count = self._lanes[name]
            if count > 1:
                self._lanes[name] = (last, count - 1)
            else:
                del self._lanes[name]
        if self._gathered:
            self._arm(LAG_S)
        outcome.set_result(None)

    def _arm(self, wait_s: float) -> None:
        if self._timer is None and not self._under_way:
            self._timer = asyncio.get_running_loop().call_later(wait_s, self._time_has_come)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _time_has_come(self) -> None:
        self._timer = None
        self.hand_over()
