"""The bounded queue between the event loop, where things happen, and the outbox, where they are kept.

Transitions cannot wait, so `record` only appends. One task takes all that is there, finds the endpoints each event is due
to, and has it written in one transaction; only what is written is handed to the lanes. Whoever must not answer before his
events are durable awaits `committed`.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import TypeVar

from gateway.core.delivery import Delivery
from gateway.core.error import RequestError
from gateway.core.ident import Ids
from gateway.core.lifecycle import LifecycleEvent, Record
from gateway.core.span import DROPPED
from gateway.core.webhook import Router
from gateway.ports import Clock, Commit, Outbox, Wake
from gateway.telemetry import Telemetry

#: Records per transaction, and of these how many are matched and serialised in one go: at some 5 us each that holds the
#: event loop for about a millisecond.
_MOST_RECORDS = 2048
_SLICE = 256

#: Seconds before a failed write is tried again; the first retry is quick because a lock is the commonest cause.
_RETRY_S = (0.05, 0.2, 1.0)

#: Seconds after which whoever waits for a write is told that it has not happened yet: well below what HTTP clients wait.
_PATIENCE_S = 5.0

#: how much must be written, by when (loop time), and who waits for it
_Waiter = tuple[int, float, "asyncio.Future[None]"]

_Told = TypeVar("_Told")

_TRY_LATER = "the events of this publish could not be recorded yet; try again later"


class Recorder:
    """Takes records in the order in which things happened and has them written, in that order, none left out."""

    def __init__(
        self,
        *,
        outbox: Outbox,
        router: Router,
        telemetry: Telemetry,
        wake: Wake,
        capacity: int,
        ids: Ids,
        clock: Clock,
        patience_s: float = _PATIENCE_S,
        announce: Callable[[Sequence[Record]], None] = lambda records: None,
    ) -> None:
        """`announce` is called with the records of each commit once it is durable; it must be quick and not raise.

        `patience_s` is how long a write may take until who waits for it is told so, and new work is refused.
        """
        self.router = router
        self._announce = announce
        self._outbox = outbox
        self._telemetry = telemetry
        self._wake = wake
        self._capacity = capacity
        self._ids = ids
        self._clock = clock
        self._patience_s = patience_s
        self._queue: deque[Record] = deque()
        self._recorded = 0
        self._written = 0
        self._waiting: deque[_Waiter] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._work = asyncio.Event()
        self._progress = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        #: the outbox refuses to be written, or has not answered for too long
        self.is_failing = False
        #: what it said when it refused last, until it can be written again
        self._refusal: OSError | None = None
        #: by endpoint: deliveries that were lost before they were delivered
        self.dropped_deliveries: Counter[str] = Counter()

    def record(self, records: Sequence[Record]) -> None:
        """Queue what a transition writes. Never blocks, never refuses: what has happened is recorded."""
        if records:
            self._queue.extend(records)
            self._recorded += len(records)
            self._work.set()

    def dropped(self, endpoint: str, count: int, first_sequence: int, last_sequence: int, untold: int = 0) -> None:
        """Deliveries to the endpoint (its key) were lost: count, log and record it, for that endpoint to be told.

        `untold` were lost, and recorded here, earlier: what should have told the endpoint of them is among the deliveries.
        """
        self.dropped_deliveries[endpoint] += count
        self._telemetry.note(
            logging.ERROR,
            "webhook events were dropped: the backlog of the endpoint is too long",
            endpoint=endpoint,
            count=count,
            first_sequence=first_sequence,
            last_sequence=last_sequence,
        )
        app_id, _, name = endpoint.partition("/")
        now_ms = self._clock.epoch_ms()
        data = {"endpoint": name, "count": count + untold, "first_sequence": first_sequence, "last_sequence": last_sequence}
        self.record([LifecycleEvent(self._ids.make("evt", now_ms), DROPPED, app_id, now_ms, f"{app_id}/endpoint/{name}", data)])

    def is_full(self, app_id: str) -> bool:
        """Tell whether the app must be refused new work (webhooks are recorded or the work is not done)."""
        return self.is_failing or self.is_queue_full or self._outbox.is_full(app_id)

    def committed(self) -> asyncio.Future[None]:
        """Return a future that is done when everything recorded so far is durable.

        It raises RequestError 503 as soon as a write fails, and after `patience_s` at the latest; the records are kept and
        written later all the same.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        if self._written == self._recorded:
            future.set_result(None)
        else:
            self._waiting.append((self._recorded, loop.time() + self._patience_s, future))
            if self._timer is None:
                self._timer = loop.call_later(self._patience_s, self._expire)
        return future

    async def written(self) -> None:
        """Return when everything recorded so far is durable, for who must wait however long it takes.

        Raises OSError as soon as a write fails, or where for `patience_s` nothing at all was written; the records are kept and
        written later all the same.
        """
        last = self._recorded
        while self._written < last:
            if self._refusal is not None:
                raise self._refusal
            self._progress.clear()
            try:
                async with asyncio.timeout(self._patience_s):
                    await self._progress.wait()
            except TimeoutError:
                raise OSError(f"the outbox does not answer for {self._patience_s:g} s now") from None

    @property
    def queued(self) -> int:
        """How many records are not yet written."""
        return self._recorded - self._written

    @property
    def is_queue_full(self) -> bool:
        """More is recorded than can be written for the moment; else it is the outbox that `is_full` speaks of."""
        return self.queued >= self._capacity

    async def start(self) -> None:
        """Begin writing."""
        self._task = asyncio.create_task(self._run(), name="recorder")

    async def stop(self, timeout_s: float) -> int:
        """Write what is queued, at most for `timeout_s`; return how many records could not be written."""
        if self._task is None:
            return self.queued
        try:
            async with asyncio.timeout(timeout_s):
                while self.queued:
                    self._progress.clear()
                    await self._progress.wait()
        except TimeoutError:
            pass  # the number returned says it
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        self._task = None
        if self._timer is not None:
            self._timer.cancel()
        self._fail_waiting()
        return self.queued

    async def _run(self) -> None:
        while True:
            await self._work.wait()
            if not self._queue:
                self._work.clear()
                continue
            taken: list[Record] = []
            deliveries: list[Delivery] = []
            while self._queue and len(taken) < _MOST_RECORDS:
                piece = [self._queue.popleft() for _ in range(min(_SLICE, len(self._queue)))]
                deliveries += self._deliveries(piece)
                taken += piece
                if self._queue:
                    await asyncio.sleep(0)
            if self._queue and not _may_part(taken[-1], self._queue[0]):
                taken.append(self._queue.popleft())
            await self._write(Commit(tuple(taken), tuple(deliveries)))
            self._written += len(taken)
            self._progress.set()
            self._tell(self._announce, taken)
            while self._waiting and self._waiting[0][0] <= self._written:
                _, _, future = self._waiting.popleft()
                if not future.done():
                    future.set_result(None)

    def _deliveries(self, records: list[Record]) -> list[Delivery]:
        deliveries: list[Delivery] = []
        for record in records:
            if isinstance(record, LifecycleEvent):
                self._telemetry.events[record.kind] += 1
                try:
                    deliveries += self._told(record) if record.kind == DROPPED else self.router.route(record)
                except Exception:  # an event that cannot be written out must not take those behind it along
                    logging.getLogger("rawpush.gateway").exception("event %s could not be routed", record.id)
        return deliveries

    def _told(self, event: LifecycleEvent) -> list[Delivery]:
        """Return the delivery of an event that concerns one endpoint alone, if that still exists and knows such events."""
        key = f"{event.app_id}/{event.data['endpoint']}"
        if key not in self.router.endpoints or self.router.left_out_by(key, event) == "format":
            return []
        return [self.router.route_to(key, event)]

    async def _write(self, commit: Commit) -> None:
        """Append until it succeeds: a sequence once given out must not be given out again, nor left out."""
        failures = 0
        loop = asyncio.get_running_loop()
        while True:
            late = loop.call_later(self._patience_s, self._is_late)
            try:
                try:
                    await self._outbox.append(commit)
                finally:
                    late.cancel()
                break
            except OSError as error:
                self.is_failing = True
                self._refusal = error
                self._progress.set()
                if failures == 0:
                    self._telemetry.note(
                        logging.ERROR, "the outbox cannot be written; new work is refused until it can", error=error
                    )
                self._fail_waiting()
            except Exception:  # noqa: BLE001 -- logged there, with the record it belongs to
                await self._write_apart(commit)
                return
            await asyncio.sleep(_RETRY_S[min(failures, len(_RETRY_S) - 1)])
            failures += 1
        if self.is_failing:
            self._telemetry.note(logging.WARNING, "the outbox can be written again", attempts=failures + 1)
        self.is_failing = False
        self._refusal = None
        self._tell(self._wake, {(delivery.endpoint, delivery.lane) for delivery in commit.deliveries})

    @staticmethod
    def _tell(who: Callable[[_Told], None], what: _Told) -> None:
        """A listener's mistake must not end the writing: that would lose everything from here on, in silence."""
        try:
            who(what)
        except Exception:
            logging.getLogger("rawpush.gateway").exception("what was written could not be announced")

    async def _write_apart(self, commit: Commit) -> None:
        """One of the records is at fault, not the disk: find it by halving, leave it out and say so."""
        records = commit.records
        middle = len(records) // 2
        if middle and not _may_part(records[middle - 1], records[middle]):
            middle += 1
        if middle in (0, len(records)):
            logging.getLogger("rawpush.gateway").exception("a record cannot be written and is left out: %r", _name(records[0]))
            # The outbox did answer. Whoever waits must not take this record for durable, so he is told to try again.
            self.is_failing = False
            self._refusal = None
            self._fail_waiting()
            return
        for half in (records[:middle], records[middle:]):
            ids = {record.id for record in half if isinstance(record, LifecycleEvent)}
            await self._write(Commit(half, tuple(delivery for delivery in commit.deliveries if delivery.event_id in ids)))

    def _is_late(self, before: float = math.inf) -> None:
        """The outbox neither writes nor fails: whatever holds it up, that is not a state in which to take on work."""
        if not self.is_failing:
            self.is_failing = True
            self._telemetry.note(
                logging.ERROR, "the outbox does not answer; new work is refused until it does", seconds=self._patience_s
            )
        self._fail_waiting(before)

    def _expire(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        self._timer = None
        if self._waiting and self._waiting[0][1] <= now:
            self._is_late(before=now)
        if self._waiting:
            self._timer = loop.call_at(self._waiting[0][1], self._expire)

    def _fail_waiting(self, before: float = math.inf) -> None:
        while self._waiting and self._waiting[0][1] <= before:
            _, _, future = self._waiting.popleft()
            if not future.done():
                future.set_exception(RequestError(503, _TRY_LATER))


def _may_part(record: Record, following: Record) -> bool:
    """Tell whether a transaction may end between the two: an event and the span it begins or ends are in the ledger together.

    Were they not, a crash in between would leave a connection that was told of as open and will never be told of as closed, or
    one that is told of as closed twice.
    """
    return not isinstance(record, LifecycleEvent) or isinstance(following, LifecycleEvent)


def _name(record: Record) -> str:
    return record.id if isinstance(record, LifecycleEvent) else type(record).__name__
