"""The reading side of the durable outbox; see `ports.Ledger` for the contract."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TypeVar

import orjson

from gateway.core.delivery import State
from gateway.outbox.portion import portion
from gateway.outbox.query import QUERY
from gateway.outbox.reader import Reader
from gateway.outbox.row import (
    SEQUENCE_BITS,
    SEQUENCE_MASK,
    dead_from,
    entries_from,
    entry_from,
    packed,
    past_from,
    settlement_from,
    span_from,
)
from gateway.ports import Attempt, DeadLetter, Entry, Page, Past, Snapshot, Trace

#: events looked at for one page where only some kinds are wanted: about 10 ms
LOOKED_AT = 5_000

_NEWEST = (1 << 63) - 1

T = TypeVar("T")


class SqliteLedger:
    """Answers from the file, with a reader of its own: a large question delays no claim.

    A page of some kinds looks at `LOOKED_AT` events at most: it may be short, or empty, although its cursor has moved. One of
    large events is short too; see `portion`.
    """

    def __init__(self, reader: Reader) -> None:
        self._desk = reader

    async def feed(self, app_id: str, *, after: int, limit: int, kinds: frozenset[str] | None = None) -> Page:
        """Return a page; costs what it returns, or what the kinds leave out."""

        def read(connection: sqlite3.Connection, limit: int) -> Page:
            if kinds is None:
                row = connection.execute(QUERY["feed"], (app_id, after, limit)).fetchone()
            else:
                parameters = (app_id, after, limit, packed(sorted(kinds)), LOOKED_AT)
                row = connection.execute(QUERY["feed_of_kinds"], parameters).fetchone()
            rows, texts, last, forgotten = row
            entries = entries_from(app_id, rows, texts)
            cursor = entries[-1].cursor if len(entries) == limit else last
            return Page(entries, after if cursor is None else cursor, forgotten or 0)

        return await self._ask(lambda connection: portion(connection, limit, partial(read, connection)))

    async def snapshot(self, app_id: str) -> Snapshot:
        """Return what is open; one statement, so one moment."""

        def read(connection: sqlite3.Connection) -> Snapshot:
            cursor, rows = connection.execute(QUERY["snapshot"], (app_id,)).fetchone()
            return Snapshot(cursor, tuple(map(span_from, orjson.loads(rows))))

        return await self._ask(read)

    async def find(self, app_id: str, event_id: str) -> Entry | None:
        """Return the event, by the index of the ids."""

        def read(connection: sqlite3.Connection) -> Entry | None:
            row = connection.execute(QUERY["find"], (app_id, event_id)).fetchone()
            return None if row is None else entry_from(app_id, row[:4], orjson.loads(row[4]))

        return await self._ask(read)

    async def trace(self, app_id: str, event_id: str) -> Sequence[Trace]:
        """Return what became of the event; an endpoint of which nothing is known any more is left out."""

        def read(connection: sqlite3.Connection) -> list[Trace]:
            row = connection.execute(QUERY["find"], (app_id, event_id)).fetchone()
            if row is None or row[5] is None:
                return []
            traces = (_trace(connection, event_id, key) for key in orjson.loads(row[5]))
            return [trace for trace in traces if trace is not None]

        await self._catch_up()
        return await self._ask(lambda connection: in_one_moment(connection, read))

    async def past(self, app_id: str, endpoint: str, event_ids: Sequence[str]) -> Mapping[str, Past]:
        """Return what the events were to the endpoint, by one statement."""

        def read(connection: sqlite3.Connection) -> Mapping[str, Past]:
            (rows,) = connection.execute(QUERY["past"], (app_id, endpoint, packed(event_ids))).fetchone()
            return past_from(orjson.loads(rows))

        await self._catch_up()
        return await self._ask(read)

    async def attempts(self, endpoint: str, *, before: int | None = None, limit: int = 100) -> Sequence[Attempt]:
        """Return a page of the delivery log; costs a page of each lane."""

        def read(connection: sqlite3.Connection) -> list[Attempt]:
            parameters = (endpoint, _NEWEST if before is None else before, limit)
            (rows,) = connection.execute(QUERY["attempts"], parameters).fetchone()
            return [Attempt(no, settlement_from(endpoint, lane, told)) for no, lane, told in orjson.loads(rows)]

        await self._catch_up()
        return await self._ask(read)

    async def dead(self, endpoint: str, *, after: int = 0, limit: int = 100) -> Sequence[tuple[int, DeadLetter]]:
        """Return a page of the dead letters."""

        def read(connection: sqlite3.Connection, limit: int) -> list[tuple[int, DeadLetter]]:
            return dead_from(endpoint, *connection.execute(QUERY["dead_after"], (endpoint, limit, after)).fetchone())

        return await self._ask(lambda connection: portion(connection, limit, partial(read, connection)))

    async def count_dead(self, endpoint: str) -> int:
        """Return how many dead letters there are, which is written down."""

        def read(connection: sqlite3.Connection) -> int:
            row = connection.execute(QUERY["count_dead"], (endpoint,)).fetchone()
            return 0 if row is None else int(row[0])

        return await self._ask(read)

    async def _ask(self, question: Callable[[sqlite3.Connection], T]) -> T:
        self._demand_open()
        return await self._desk.ask(question)

    def _demand_open(self) -> None:
        raise NotImplementedError

    async def _catch_up(self) -> None:
        """Have written what was delivered: whoever has just received something asks what became of it."""
        raise NotImplementedError


def in_one_moment(connection: sqlite3.Connection, question: Callable[[sqlite3.Connection], T]) -> T:
    """Ask with several statements that all see the same state."""
    connection.execute("BEGIN")
    try:
        return question(connection)
    finally:
        connection.execute("COMMIT")


def _trace(connection: sqlite3.Connection, event_id: str, key: int) -> Trace | None:
    lane_id, sequence = key >> SEQUENCE_BITS, key & SEQUENCE_MASK
    endpoint, lane, cursor = connection.execute(QUERY["lane_of"], (lane_id,)).fetchone()
    attempts = _attempts_at(connection, lane_id, endpoint, lane, sequence)
    if sequence > cursor:
        state = State.DUE.value
    elif attempts:
        state = attempts[-1].settlement.state.value
    elif connection.execute(QUERY["is_dead"], (endpoint, event_id, sequence)).fetchone()[0]:
        state = State.DEAD.value
    else:
        return None
    return Trace(endpoint, lane, sequence, state, attempts)


def _attempts_at(connection: sqlite3.Connection, lane_id: int, endpoint: str, lane: int, sequence: int) -> tuple[Attempt, ...]:
    first, last = _attempt_upon(connection, lane_id, sequence)
    if last is None:
        return ()
    end, _ = _attempt_upon(connection, lane_id, last + 1)
    (rows,) = connection.execute(QUERY["attempts_at"], (lane_id, first, end, sequence)).fetchone()
    return tuple(Attempt(no, settlement_from(endpoint, lane, told)) for no, told in orjson.loads(rows))


def _attempt_upon(connection: sqlite3.Connection, lane_id: int, sequence: int) -> tuple[int, int | None]:
    """Return number and last sequence of the lane's first attempt that reaches as far as `sequence`.

    In a lane numbers and sequences grow together, so the numbers are halved until it is found.
    """
    low, high = connection.execute(QUERY["attempt_bounds"], (lane_id,)).fetchone()
    found: tuple[int, int | None] = (_NEWEST, None)
    if low is None:
        return found
    while low <= high:
        middle = (low + high) // 2
        no, last = connection.execute(QUERY["attempt_from"], (lane_id, middle)).fetchone()
        if last >= sequence:
            found = (no, last)
            high = middle - 1
        else:
            low = no + 1
    return found
