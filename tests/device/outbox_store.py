"""What the tests of the durable outbox share: making one, and looking at it from outside."""

# ruff: noqa: ASYNC110 -- what the writer thread does by itself gives no signal
from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gateway.outbox import store
from gateway.outbox.sqlite import SqliteOutbox
from tests.patience import LONG_S

#: shortly after the stamps of the suite, so that nothing of it is old
NOW_MS = 1_700_000_200_000


def make(path: Path, **changes: Any) -> SqliteOutbox:
    """Return an outbox whose settings are harmless, but for the changes."""
    settings: dict[str, Any] = {
        "path": path,
        "synchronous": "normal",
        "max_size": 1 << 30,
        "retention_s": 86_400.0,
        "epoch_ms": lambda: NOW_MS,
    }
    settings |= changes
    epoch_ms = settings["epoch_ms"]
    # unless told otherwise, the steady clock goes with the wall clock
    settings.setdefault("monotonic", lambda: epoch_ms() / 1000)
    return SqliteOutbox(**settings)


def rows(path: Path, statement: str, *parameters: object) -> list[Any]:
    """Ask the file, from outside."""
    connection = sqlite3.connect(path)
    try:
        with connection:
            return connection.execute(statement, parameters).fetchall()
    finally:
        connection.close()


async def in_thread(outbox: SqliteOutbox, action: Callable[[sqlite3.Connection], object]) -> object:
    """Do something with the writer's own connection, between two groups."""
    return await outbox._writer.write(action)


async def keep_house(outbox: SqliteOutbox) -> None:
    """Let the writer look for what is too old as soon as it has nothing to write."""
    await in_thread(outbox, lambda _: setattr(outbox._writer, "_housekeeping_at", 0.0))


async def until(claim: Callable[[], bool]) -> None:
    """Wait for what the writer thread does by itself; it gives no signal, so the loop is turned until it shows."""
    async with asyncio.timeout(LONG_S):
        while not claim():
            await asyncio.sleep(0.005)


def left_by_version_1(path: Path) -> None:
    """Make the store that a process of version 1 left when it was killed."""
    store.prepare(path, store.MIGRATIONS[:1])
    connection = sqlite3.connect(path)
    connection.executescript(Path(__file__).with_name("outbox_v1.sql").read_text("utf-8"))
    connection.close()
