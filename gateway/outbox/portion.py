"""Answers in one row, as far as they fit into memory: of the largest events a page would be more than SQLite gives out."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import TypeVar

#: Bytes read at once, unless a single event is longer: a batch of the largest events would else be more than fits into
#: memory, and from a gigabyte on more than SQLite gives out.
MOST_READ = 32 << 20

#: what SQLite is made with: the longest text or blob there can be
_MOST_LENGTH = 1_000_000_000

T = TypeVar("T")


def portion(connection: sqlite3.Connection, limit: int, read: Callable[[int], T]) -> T:
    """Return what `read` returns for `limit` rows, or for as many fewer as can be read at once, but one at least."""
    try:
        while limit > 1:
            connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MOST_READ)
            try:
                return read(limit)
            except sqlite3.DataError:  # too long for one row
                limit //= 4
    finally:
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _MOST_LENGTH)
    return read(1)
