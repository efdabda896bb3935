"""The bounded queue between the event loop, where things happen, and the outbox, where they are kept.

Transitions cannot wait, so `record` only appends. One task takes all that is there, finds the endpoints each event is due
to, and has it written in one transaction; only what is written is handed to the lanes. Whoever must not answer before his
events are durable awaits `committed`.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Sequence

from gateway.core.delivery import Delivery
from gateway.core.error import RequestError
from gateway.core.lifecycle import LifecycleEvent, Record
from gateway.core.webhook import Router
from gateway.ports import Commit, Outbox, Wake
from gateway.telemetry import Telemetry

#: Records per transaction. Matching and serialising them holds the event loop, at some 5 us each, for about 2 ms.
_MOST_RECORDS = 512

#: Seconds before a failed write is tried again; the first retry is quick because a lock is the commonest cause.
_RETRY_S = (0.05, 0.2, 1.0)


class Recorder:
    """Takes records in the order in which things happened and has them written, in that order, none left out."""

    def __init__(self, *, outbox: Outbox, router: Router, telemetry: Telemetry, wake: Wake, capacity: int) -> None:
        self.router = router
        self._outbox = outbox
        self._telemetry = telemetry
        self._wake = wake
        self._capacity = capacity
        self._queue: deque[Record] = deque()
        self._recorded = 0
        self._written = 0
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()
        self._work = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.is_failing = False

    def record(self, records: Sequence[Record]) -> None:
        """Queue what a transition writes. Never blocks, never refuses: what has happened is recorded."""
        if records:
            self._queue.extend(records)
            self._recorded += len(records)
            self._work.set()

    def is_full(self, app_id: str) -> bool:
        """Tell whether the app must be refused new work (webhooks are recorded or the work is not done)."""
        return self.is_failing or len(self._queue) >= self._capacity or self._outbox.is_full(app_id)

    def committed(self) -> asyncio.Future[None]:
        """Return a future that is done when everything recorded so far is durable.

        It raises RequestError 503 as soon as a write fails; the records are kept and written later all the same.
        """
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if self._written == self._recorded:
            future.set_result(None)
        else:
            self._waiting.append((self._recorded, future))
        return future

    @property
    def queued(self) -> int:
        """How many records are not yet written."""
        return self._recorded - self._written

    async def start(self) -> None:
        """Begin writing."""
        self._task = asyncio.create_task(self._run(), name="recorder")

    async def stop(self, timeout_s: float) -> int:
        """Write what is queued, at most for `timeout_s`; return how many records could not be written."""
        if self._task is None:
            return self.queued
        try:
            async with asyncio.timeout(timeout_s):
                await self.committed()
        except (TimeoutError, RequestError):
            pass  # the number returned says it
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        self._task = None
        return self.queued

    async def _run(self) -> None:
        while True:
            await self._work.wait()
            if not self._queue:
                self._work.clear()
                continue
            taken = [self._queue.popleft() for _ in range(min(_MOST_RECORDS, len(self._queue)))]
            await self._write(Commit(tuple(taken), tuple(self._deliveries(taken))))
            self._written += len(taken)
            while self._waiting and self._waiting[0][0] <= self._written:
                _, future = self._waiting.popleft()
                if not future.done():
                    future.set_result(None)

    def _deliveries(self, records: list[Record]) -> list[Delivery]:
        deliveries: list[Delivery] = []
        for record in records:
            if isinstance(record, LifecycleEvent):
                self._telemetry.events[record.kind] += 1
                try:
                    deliveries += self.router.route(record)
                except Exception:  # an event that cannot be written out must not take those behind it along
                    logging.getLogger("rawpush.gateway").exception("event %s could not be routed", record.id)
        return deliveries

    async def _write(self, commit: Commit) -> None:
        """Append until it succeeds: a sequence once given out must not be given out again, nor left out."""
        failures = 0
        while True:
            try:
                await self._outbox.append(commit)
            except OSError as error:
                self.is_failing = True
                if failures == 0:
                    self._telemetry.note(
                        logging.ERROR, "the outbox cannot be written; new work is refused until it can", error=error
                    )
                self._fail_waiting()
                await asyncio.sleep(_RETRY_S[min(failures, len(_RETRY_S) - 1)])
                failures += 1
            else:
                break
        if failures:
            self._telemetry.note(logging.WARNING, "the outbox can be written again", attempts=failures + 1)
        self.is_failing = False
        self._wake({(delivery.endpoint, delivery.lane) for delivery in commit.deliveries})

    def _fail_waiting(self) -> None:
        while self._waiting:
            _, future = self._waiting.popleft()
            if not future.done():
                future.set_exception(RequestError(503, "the events of this publish could not be recorded yet; try again later"))
