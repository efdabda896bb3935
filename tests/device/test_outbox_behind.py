"""What was delivered is written a moment later: with what else is written, in order, and never too much of it."""

# ruff: noqa: ASYNC240 -- a test may wait for a small local file
from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.core.delivery import State
from gateway.outbox import behind
from gateway.outbox.sqlite import SqliteOutbox
from gateway.ports import Commit
from tests.conformance.outbox_suite import ENDPOINT, claimed, due, event, sequences, settled
from tests.device.outbox_store import in_thread, make, rows, until

CURSOR = "SELECT cursor FROM lane WHERE endpoint = ? AND lane = 0"
LOGGED = "SELECT first_sequence, settlement ->> 7 FROM attempt ORDER BY no"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "outbox.db"


@pytest.fixture
async def outbox(path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[SqliteOutbox]:
    """Nothing is written by itself, and forty deliveries are due."""
    monkeypatch.setattr(behind, "LAG_S", 3600.0)
    outbox = make(path, busy_timeout_s=0.05)
    await outbox.open()
    await outbox.append(Commit((event(1),), tuple(due(number) for number in range(1, 41))))
    yield outbox
    await outbox.close()


async def deliver(outbox: SqliteOutbox, count: int) -> None:
    for _ in range(count):
        await outbox.settle_soon(settled(await claimed(outbox, limit=1), State.DELIVERED))


async def break_disk(outbox: SqliteOutbox) -> None:
    """Let the next write fail; the one after it meets with a new connection."""
    await in_thread(outbox, lambda connection: connection.execute("PRAGMA query_only = ON"))


async def test_it_is_written_with_the_next_commit(outbox: SqliteOutbox, path: Path) -> None:
    await deliver(outbox, 3)
    assert rows(path, CURSOR, ENDPOINT) == [(0,)]
    await outbox.append(Commit((event(2),), (due(41),)))
    assert rows(path, CURSOR, ENDPOINT) == [(3,)]
    assert rows(path, LOGGED) == [(1, "delivered"), (2, "delivered"), (3, "delivered")]


async def test_it_is_written_by_itself_after_a_moment(outbox: SqliteOutbox, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(behind, "LAG_S", 0.01)
    await deliver(outbox, 1)
    await until(lambda: rows(path, CURSOR, ENDPOINT) == [(1,)])


async def test_many_are_written_at_once(outbox: SqliteOutbox, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(behind, "MANY", 3)
    await deliver(outbox, 3)
    await until(lambda: rows(path, CURSOR, ENDPOINT) == [(3,)])


async def test_a_lane_repeats_no_more_than_so_many_after_a_crash(outbox: SqliteOutbox, path: Path, tmp_path: Path) -> None:
    await deliver(outbox, behind.MOST + 1)
    copy = tmp_path / "crash"
    copy.mkdir()
    for file in tmp_path.glob("outbox.db*"):
        shutil.copy(file, copy)
    again = make(copy / "outbox.db")
    await again.open()
    assert sequences(await again.claim(ENDPOINT, 0, 1)) == [behind.MOST + 1]
    await again.close()


async def test_a_failed_attempt_is_written_behind_what_was_delivered_before(outbox: SqliteOutbox, path: Path) -> None:
    await deliver(outbox, 2)
    await outbox.settle(settled(await claimed(outbox, limit=1), State.DUE))
    assert rows(path, LOGGED) == [(1, "delivered"), (2, "delivered"), (3, "due")]


async def test_while_the_disk_refuses_nothing_more_is_taken_and_nothing_is_forgotten(outbox: SqliteOutbox, path: Path) -> None:
    await deliver(outbox, 2)
    await break_disk(outbox)
    with pytest.raises(OSError, match="read-only"):
        await outbox.append(Commit((event(2),), (due(41),)))
    await break_disk(outbox)
    head = settled(await claimed(outbox, limit=1), State.DELIVERED)
    with pytest.raises(OSError, match="read-only"):
        await outbox.settle_soon(head)
    assert sequences(await outbox.claim(ENDPOINT, 0, 1)) == [3]
    await outbox.settle_soon(head)
    assert sequences(await outbox.claim(ENDPOINT, 0, 1)) == [4]
    assert (await outbox.backlog(ENDPOINT)).count == 37
    assert rows(path, LOGGED) == [(1, "delivered"), (2, "delivered"), (3, "delivered")]


async def test_what_the_disk_has_refused_is_written_by_itself_when_it_is_back(
    outbox: SqliteOutbox, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(behind, "AGAIN_S", 0.01)
    await deliver(outbox, 2)
    await break_disk(outbox)
    with pytest.raises(OSError, match="read-only"):
        await outbox._behind.written()
    await until(lambda: rows(path, CURSOR, ENDPOINT) == [(2,)])


async def test_whoever_waits_for_it_waits_without_turning_the_loop_in_vain(outbox: SqliteOutbox) -> None:
    for _ in range(20):
        await deliver(outbox, 1)
        await asyncio.gather(outbox.backlog(ENDPOINT), outbox.backlog(ENDPOINT))
    assert (await outbox.backlog(ENDPOINT)).count == 20
