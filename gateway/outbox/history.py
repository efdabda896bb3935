"""What is forgotten, and when: events and attempts by age, dead letters by age and by what they take."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from gateway.outbox.books import in_transaction
from gateway.outbox.query import QUERY
from gateway.telemetry import gateway_log

#: rows deleted in one go: about 10 ms, which is how long a commit may have to wait for it
CHUNK = 4_000
#: the part of `max_size` from which on old events and attempts are forgotten before their time, to leave the rest to the backlog
HISTORY_SHARE = 0.8
#: dead letters wait for a person; a month covers holidays
DEAD_LETTER_RETENTION_S = 30 * 86_400.0
#: the part of `max_size` that all dead letters together may take, so that a mass of them leaves room for what is due
DEAD_SHARE = 0.25

_FOR_EVER = 1 << 62


class Calendar:
    """What age is judged by, in Unix ms: the wall clock, but no step of it makes anything old that is kept.

    The wall clock of this start, carried on by the steady one, is asked too, and the one that says less is believed.
    """

    def __init__(self, epoch_ms: Callable[[], int], monotonic: Callable[[], float]) -> None:
        self._epoch_ms = epoch_ms
        self._monotonic = monotonic
        self._began_ms = epoch_ms()
        self._began_s = monotonic()

    def __call__(self) -> int:
        return min(self._epoch_ms(), self._began_ms + int((self._monotonic() - self._began_s) * 1000))


@dataclass(slots=True)
class History:
    """The bounds; `dropped` counts, by endpoint, the dead letters that went."""

    max_size: int
    retention_ms: int
    dropped: Counter[str]

    def forget(self, connection: sqlite3.Connection, now_ms: int, limit: int, *, is_tight: bool) -> bool:
        """Forget at most `limit` of each kind; tell whether there is more. `is_tight`: also what is not old yet.

        Raises sqlite3.Error.
        """
        before = _FOR_EVER if is_tight else now_ms - self.retention_ms
        gone = [self._events(connection, before, limit), connection.execute(QUERY["prune_attempts"], (limit, before)).rowcount]
        more = any(gone) if is_tight else max(gone) >= limit
        too_old = self._old_dead_letters(connection, now_ms - int(DEAD_LETTER_RETENTION_S * 1000), limit)
        too_many = self._dead_letters_beyond(connection, int(DEAD_SHARE * self.max_size), limit)
        return bool(more or too_old or too_many)

    def _events(self, connection: sqlite3.Connection, before: int, limit: int) -> int:
        (needed,) = connection.execute(QUERY["needed_from"]).fetchone()
        bounds = (limit, before, _FOR_EVER if needed is None else needed)
        gone = 0

        def prune() -> None:
            nonlocal gone
            connection.execute(QUERY["note_forgotten"], bounds)
            gone = connection.execute(QUERY["prune_events"], bounds).rowcount

        in_transaction(connection, prune)
        return gone

    def _old_dead_letters(self, connection: sqlite3.Connection, before: int, limit: int) -> bool:
        old = connection.execute(QUERY["old_dead_letters"], (limit, before)).fetchall()
        if old:
            connection.execute(QUERY["prune_dead_letters"], (limit, before))
        for endpoint, count in old:
            self._tell(endpoint, count, "they were too old")
        return bool(sum(count for _, count in old) >= limit)

    def _dead_letters_beyond(self, connection: sqlite3.Connection, most: int, limit: int) -> bool:
        (size,) = connection.execute(QUERY["dead_size"]).fetchone()
        if size <= most:
            return False
        # whoever has most loses first: an endpoint that is down does not cost the others their few
        endpoint, count, taken = connection.execute(QUERY["most_dead"]).fetchone()
        enough = (size - most) * count // max(1, taken) + 1
        gone = min(limit, count, enough)
        connection.execute(QUERY["drop_dead_letters"], (endpoint, gone))
        self._tell(endpoint, gone, "all together they took too much room")
        return True

    def _tell(self, endpoint: str, count: int, why: str) -> None:
        self.dropped[endpoint] += count
        gateway_log.error("%d dead letters of %s were dropped, the oldest: %s", count, endpoint, why)
