"""What the writer makes one transaction of, and what it leaves lying for a while."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from gateway.core.delivery import Settlement, State
from gateway.outbox import writer
from gateway.outbox.books import Books
from gateway.outbox.sqlite import SqliteOutbox
from gateway.ports import Commit
from tests.conformance.outbox_suite import claimed, due, event, settled
from tests.device.outbox_store import in_thread, make, rows, until


@pytest.fixture
async def outbox(tmp_path: Path) -> AsyncIterator[SqliteOutbox]:
    outbox = make(tmp_path / "outbox.db")
    await outbox.open()
    # its first look for what is old is over: from now on it writes nothing by itself
    await until(lambda: outbox._writer._housekeeping_at > 0.0)
    yield outbox
    await outbox.close()


async def test_settlements_of_one_turn_are_one_transaction(outbox: SqliteOutbox, monkeypatch: pytest.MonkeyPatch) -> None:
    await outbox.append(Commit((event(1), event(2)), (due(1, lane=0), due(2, lane=1))))
    heads = [await claimed(outbox, lane) for lane in (0, 1)]
    groups: list[tuple[int, int]] = []
    appended = threading.Event()
    write = Books.write

    def noted(books: Books, connection: sqlite3.Connection, commits: Sequence[Commit], settlements: Sequence[Settlement]) -> None:
        write(books, connection, commits, settlements)
        groups.append((len(commits), len(settlements)))
        if commits:
            appended.set()

    monkeypatch.setattr(Books, "write", noted)

    async def settle(number: int) -> None:
        await outbox.settle(settled(heads[number], State.DELIVERED))

    async def append() -> None:
        outbox._writer.submit(Commit((event(3),)))
        # The turn goes on until the writer has had time for all that it was given in it.
        assert appended.wait(10)

    await asyncio.gather(settle(0), append(), settle(1))
    assert groups == [(1, 0), (0, 2)]


async def test_what_was_settled_singly_is_deleted_together(
    outbox: SqliteOutbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "REST_S", 3600.0)
    monkeypatch.setattr(writer, "LITTER", 3)
    await outbox.append(Commit((event(1), event(2), event(3)), (due(1, lane=0), due(2, lane=0), due(3, lane=0))))
    for left in (3, 3):
        await outbox.settle(settled(await claimed(outbox, 0, limit=1), State.DELIVERED))
        await in_thread(outbox, lambda _: None)
        assert len(rows(tmp_path / "outbox.db", "SELECT key FROM delivery")) == left
    await outbox.settle(settled(await claimed(outbox, 0, limit=1), State.DELIVERED))
    await until(lambda: not rows(tmp_path / "outbox.db", "SELECT key FROM delivery"))


async def test_a_settlement_of_the_last_turn_is_written_before_the_outbox_closes(tmp_path: Path) -> None:
    outbox = make(tmp_path / "outbox.db")
    await outbox.open()
    await outbox.append(Commit((event(1),), (due(1, lane=0),)))
    settlement = settled(await claimed(outbox, 0), State.DELIVERED)
    await asyncio.gather(outbox.settle(settlement), outbox.close())
    assert rows(tmp_path / "outbox.db", "SELECT cursor FROM lane") == [(1,)]
