"""The durable outbox: one SQLite file, one thread that writes and one that reads."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

from gateway.core.delivery import Claim, Delivery, Settlement
from gateway.outbox.ledger import Lane, Name
from gateway.outbox.query import QUERY
from gateway.outbox.reader import Reader
from gateway.outbox.row import deliveries_from, key_of, settlement_from
from gateway.outbox.writer import Writer
from gateway.ports import Backlog, Commit, DeadLetter, Recovery

#: deliveries read at once where fewer are asked for: a reading costs as much as sixteen deliveries; a lane holds on to no more
READ_AHEAD = 16

#: more than any lane holds
_ALL = 1 << 62


def _epoch_ms() -> int:
    return time.time_ns() // 1_000_000


class SqliteOutbox:
    """Keeps events, spans and deliveries in the file `path`, which belongs to this process until `close`.

    `synchronous`: `normal` survives the death of the process at any instruction, `full` the loss of power too. `max_size` is
    in bytes; from there on `is_full` bars new work, of every app. Events and attempts older than `retention_s` are
    forgotten (earlier if the file comes near its size), events not before every lane has delivered them; dead letters after
    thirty days. `busy_timeout_s` is how long an append waits for a foreign lock before it raises; `epoch_ms` is what age is
    judged by.

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
    ) -> None:
        self._path = path
        self._writer = Writer(
            path,
            synchronous=synchronous,
            max_size=max_size,
            retention_s=retention_s,
            busy_timeout_s=busy_timeout_s,
            epoch_ms=epoch_ms,
        )
        self._reader = Reader(path)
        self._ledger = self._writer.ledger
        #: by lane: deliveries read with an earlier head, in order and without a gap from some former cursor on
        self._ahead: dict[Name, tuple[Delivery, ...]] = {}
        self._is_open = False

    async def open(self) -> Recovery:
        """Open the store, making it if there is none. Raises `store.StoreUnusable`, a sentence with the file and the remedy."""
        recovery = await self._writer.start()
        self._is_open = True
        return recovery

    async def append(self, commit: Commit) -> None:
        """Write the commit, together with whatever else is waiting. Raises OSError; nothing of it was written then."""
        self._demand_open()
        await self._writer.write(commit)

    async def settle(self, settlement: Settlement) -> None:
        """Write the settlement, together with whatever else is waiting. Raises OSError; it may be settled again then."""
        self._demand_open()
        await self._writer.write(settlement)

    async def claim(self, endpoint: str, lane: int, limit: int) -> Claim | None:
        """Return the head of the lane; an empty lane is known without asking the disk."""
        self._demand_open()
        name = (endpoint, lane)
        found = self._ledger.lanes.get(name)
        if found is None or found.cursor >= found.tail:
            self._ahead.pop(name, None)
            return None
        last, limit = (found.pinned, _ALL) if found.pinned else (found.tail, limit)
        ahead = tuple(delivery for delivery in self._ahead.get(name, ()) if found.cursor < delivery.sequence <= last)
        if len(ahead) >= limit or (ahead and ahead[-1].sequence == last):
            head = ahead[:limit]
        elif limit < READ_AHEAD:
            ahead = self._ahead[name] = await self._read(found, found.tail, READ_AHEAD)
            head = ahead[:limit]
        else:
            self._ahead.pop(name, None)
            head = await self._read(found, last, limit)
        return Claim(head, found.attempts, found.first_at_ms, found.due_at_ms) if head else None

    async def _read(self, lane: Lane, last: int, limit: int) -> tuple[Delivery, ...]:
        parameters = (key_of(lane.id, lane.cursor), key_of(lane.id, last), limit)

        def read(connection: sqlite3.Connection) -> tuple[Delivery, ...]:
            rows, envelopes = connection.execute(QUERY["head"], parameters).fetchone()
            return deliveries_from(lane.endpoint, lane.lane, rows, envelopes or b"")

        return await self._reader.ask(read)

    def is_full(self, app_id: str) -> bool:
        """Tell whether the file has reached its size, or could not be written last time; the same for every app."""
        return self._writer.is_full

    async def backlog(self, endpoint: str) -> Backlog:
        """Return what is still due to the endpoint; costs a look at the head of each of its lanes."""
        self._demand_open()
        count, oldest_at_ms = await self._reader.ask(
            lambda connection: connection.execute(QUERY["backlog"], (endpoint,)).fetchone()
        )
        return Backlog(count, oldest_at_ms)

    async def dead_letters(self, endpoint: str, limit: int = 100) -> Sequence[DeadLetter]:
        """Return the newest dead letters of the endpoint, oldest of them first."""
        self._demand_open()
        rows = await self._reader.ask(lambda connection: connection.execute(QUERY["dead_letters"], (endpoint, limit)).fetchall())
        return [
            DeadLetter(
                Delivery(endpoint, sequence, lane, event_id, kind, at_ms, envelope),
                settlement_from(endpoint, lane, settlement),
            )
            for lane, sequence, event_id, kind, at_ms, envelope, settlement in reversed(rows)
        ]

    async def close(self) -> None:
        """Write what was given before, and let go of the file; closing twice is harmless."""
        if not self._is_open:
            return
        self._is_open = False
        await self._reader.close()
        await self._writer.stop()

    def _demand_open(self) -> None:
        if not self._is_open:
            raise OSError(f"the outbox {self._path} is not open")
