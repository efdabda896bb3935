"""The durable outbox: one SQLite file, one thread that writes and one that reads."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Literal

from gateway.core.delivery import REPLAY_LANE, Claim, Delivery, Settlement
from gateway.outbox.ahead import Ahead
from gateway.outbox.behind import Behind
from gateway.outbox.books import Lane
from gateway.outbox.history import Calendar
from gateway.outbox.portion import portion
from gateway.outbox.query import QUERY
from gateway.outbox.reader import Reader
from gateway.outbox.row import dead_from, deliveries_from, key_of
from gateway.outbox.sqlite_ledger import SqliteLedger
from gateway.outbox.writer import Writer
from gateway.ports import Backlog, Commit, DeadLetter, Recovery, Storage
from gateway.telemetry import gateway_log

#: deliveries read at once where fewer are asked for: a reading costs as much as sixteen deliveries
READ_AHEAD = 16

#: deliveries given up in one transaction: about 10 ms, which is how long a commit may have to wait for it
ABANDONED_AT_ONCE = 1_000

#: more than any lane holds
_ALL = 1 << 62


def _epoch_ms() -> int:
    return time.time_ns() // 1_000_000


class SqliteOutbox(SqliteLedger):
    """Keeps events, spans and deliveries in the file `path`, which belongs to this process until `close`; a `ports.Ledger` too.

    `synchronous`: `normal` survives the death of the process at any instruction, `full` the loss of power too. `max_size` is
    in bytes; from there on `is_full` bars new work, of every app. Events and attempts older than `retention_s` are
    forgotten (earlier if the file comes near its size), events not before every lane has delivered them; dead letters after
    thirty days, or when they take more than a quarter of `max_size`, which the log tells and `dead_letters_dropped` counts by
    endpoint. `busy_timeout_s` is how long an append waits for a foreign lock before it raises; `epoch_ms` is what age is
    judged by, as far as `monotonic` has come with it: a wall clock that is put forward makes nothing old.

    While the disk refuses to be written, `append` and `settle` raise OSError and `is_full` is true; the outbox tries again
    by itself and goes on when the disk is back. Also `claim`, `backlog` and `dead_letters` raise OSError if the file cannot
    be read.
    """

    def __init__(
        self,
        *,
        path: Path,
        synchronous: Literal["normal", "full"],
        max_size: int,
        retention_s: float,
        busy_timeout_s: float = 5.0,
        epoch_ms: Callable[[], int] = _epoch_ms,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._path = path
        self._writer = Writer(
            path,
            synchronous=synchronous,
            max_size=max_size,
            retention_s=retention_s,
            busy_timeout_s=busy_timeout_s,
            epoch_ms=Calendar(epoch_ms, monotonic),
        )
        super().__init__(Reader(path, self._writer.check_presence))
        self._reader = Reader(path, self._writer.check_presence)
        self._books = self._writer.books
        self._ahead = Ahead()
        self._behind = Behind(self._writer.submit)
        #: appends that have not returned
        self._appending = 0
        self._is_open = False

    async def open(self) -> Recovery:
        """Open the store, making it if there is none. Raises `store.StoreUnusable`, a sentence with the file and the remedy."""
        recovery = await self._writer.start()
        self._ahead.begin(self._books.lanes)
        self._is_open = True
        return recovery

    async def append(self, commit: Commit) -> None:
        """Write the commit, together with whatever else is waiting. Raises OSError; nothing of it was written then."""
        self._demand_open()
        self._behind.hand_over()
        self._appending += 1
        written = self._writer.submit(commit)
        written.add_done_callback(partial(self._appended, commit.deliveries))
        # who gave up waiting has appended all the same, and what comes next must be known to come after it
        await asyncio.shield(written)

    def _appended(self, deliveries: Sequence[Delivery], written: asyncio.Future[object]) -> None:
        self._appending -= 1
        if not written.cancelled() and written.exception() is None:
            self._ahead.appended(deliveries, self._books.lanes)

    async def settle(self, settlement: Settlement) -> None:
        """Write the settlement, together with whatever else is waiting or comes in this turn of the loop.

        Raises OSError; it may be settled again then.
        """
        self._demand_open()
        if self._behind.cursor((settlement.endpoint, settlement.lane)):
            await self._behind.written()  # a lane's attempts are written in their order
        await self._writer.submit_soon(settlement)

    async def settle_soon(self, settlement: Settlement) -> None:
        """Let `claim` go by a settlement that is written a moment later; waits and raises only where too many are not written."""
        self._demand_open()
        while not self._behind.take(settlement):
            await self._behind.written()

    async def claim(self, endpoint: str, lane: int, limit: int) -> Claim | None:
        """Return the head of the lane; an empty lane is known without asking the disk."""
        self._demand_open()
        name = (endpoint, lane)
        found = self._books.lanes.get(name)
        if found is not None and (cursor := self._behind.cursor(name)) > found.cursor:
            found = Lane(found.id, endpoint, lane, found.tail, cursor)
        if found is None or found.cursor >= found.tail:
            return None
        last, limit = (found.pinned, _ALL) if found.pinned else (found.tail, limit)
        head = self._ahead.head(found, last, limit, is_bound=bool(found.pinned))
        if head is None and self._appending and lane != REPLAY_LANE and not self._ahead.is_told(found):
            return None  # all that is due is of an append whose return is on its way, and so is the wake
        if head is None:
            read = await self._read(found, found.tail if limit < READ_AHEAD else last, max(limit, READ_AHEAD))
            self._ahead.read(found, read)
            head = tuple(delivery for delivery in read[:limit] if delivery.sequence <= last)
        return Claim(head, found.attempts, found.first_at_ms, found.due_at_ms) if head else None

    async def _read(self, lane: Lane, last: int, limit: int) -> tuple[Delivery, ...]:
        bounds = (key_of(lane.id, lane.cursor), key_of(lane.id, last))

        def read(connection: sqlite3.Connection, limit: int) -> tuple[Delivery, ...]:
            rows, envelopes = connection.execute(QUERY["head"], (*bounds, limit)).fetchone()
            return deliveries_from(lane.endpoint, lane.lane, rows, envelopes or b"")

        if limit == _ALL:  # it is bound to what it was
            return await self._reader.ask(lambda connection: read(connection, limit))
        most = max(1, min(limit, lane.tail - lane.cursor))
        return await self._reader.ask(lambda connection: portion(connection, most, partial(read, connection)))

    def is_full(self, app_id: str) -> bool:
        """Tell whether the file has reached its size, or could not be written last time; the same for every app."""
        return self._writer.is_full

    async def backlog(self, endpoint: str) -> Backlog:
        """Return what is still due to the endpoint; costs a look at the head of each of its lanes."""
        self._demand_open()
        await self._catch_up()
        count, oldest_at_ms = await self._reader.ask(
            lambda connection: connection.execute(QUERY["backlog"], (endpoint,)).fetchone()
        )
        return Backlog(count, oldest_at_ms)

    async def dead_letters(self, endpoint: str, limit: int = 100) -> Sequence[DeadLetter]:
        """Return the newest dead letters of the endpoint, oldest of them first."""
        self._demand_open()

        def read(connection: sqlite3.Connection, limit: int) -> Sequence[DeadLetter]:
            rows, envelopes = connection.execute(QUERY["dead_letters"], (endpoint, limit)).fetchone()
            return [letter for _, letter in dead_from(endpoint, rows, envelopes)]

        return await self._desk.ask(lambda connection: portion(connection, limit, partial(read, connection)))

    async def replay(self, endpoint: str, deliveries: Sequence[Delivery]) -> None:
        """Put deliveries into the replay lane, in one transaction: a thousand hold up others for some tens of ms."""
        self._demand_open()
        await self._writer.write(lambda connection: self._books.replay(connection, endpoint, deliveries))

    async def abandon(self, endpoint: str, reason: str, at_ms: int) -> int:
        """Give up what is due, a piece at a time; after an OSError what is left is given up by the next call."""
        self._demand_open()
        await self._behind.written()
        count = 0
        while gone := await self._writer.write(
            lambda connection: self._books.abandon(connection, endpoint, reason, at_ms, ABANDONED_AT_ONCE)
        ):
            count += int(str(gone))
        self._ahead.settled(endpoint, self._books.lanes)
        return count

    def latest(self, app_id: str) -> int:
        """Return the cursor of the app's newest committed event, 0 if there was none."""
        return self._books.latest.get(app_id, 0)

    @property
    def dead_letters_dropped(self) -> Counter[str]:
        """How many dead letters were dropped, by endpoint."""
        return self._writer.dead_letters_dropped

    def storage(self) -> Storage:
        """Return how the file is; never blocks."""
        return self._writer.storage()

    async def close(self) -> None:
        """Write what was given before, and let go of the file; closing twice is harmless."""
        if not self._is_open:
            return
        self._is_open = False
        await self._catch_up()
        await self._reader.close()
        await self._desk.close()
        await self._writer.stop()

    async def _catch_up(self) -> None:
        try:
            await self._behind.written()
        except OSError as error:
            # the writer has said so already; what is not noted is due again
            gateway_log.debug("what was delivered could not be noted: %s", error)

    def _demand_open(self) -> None:
        if not self._is_open:
            raise OSError(f"the outbox {self._path} is not open")
