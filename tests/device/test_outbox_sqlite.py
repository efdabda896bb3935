"""The durable outbox: the suite, and everything that can befall a file."""

# ruff: noqa: ASYNC240 -- a test may wait for a small local file
from __future__ import annotations

import asyncio
import logging
import resource
import sqlite3
import subprocess
import threading
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from gateway.core.delivery import Claim, Delivery, State
from gateway.core.lifecycle import Record, SpanClosed, SpanOpened
from gateway.outbox import history, store, writer
from gateway.outbox.query import COLUMNS, QUERY
from gateway.outbox.sqlite import SqliteOutbox
from gateway.ports import Commit
from tests.conformance.ledger_suite import LedgerSuite
from tests.conformance.outbox_suite import ENDPOINT, DurableOutboxSuite, claimed, due, event, sequences, settled, span
from tests.device.outbox_store import NOW_MS, in_thread, keep_house, left_by_version_1, make, rows, until
from tests.patience import LONG_S


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "outbox.db"


@pytest.fixture
async def outbox(path: Path) -> AsyncIterator[SqliteOutbox]:
    outbox = make(path, busy_timeout_s=0.05)
    await outbox.open()
    # its first look for what is old is over: from now on it writes nothing by itself
    await until(lambda: outbox._writer._housekeeping_at > 0.0)
    yield outbox
    await outbox.close()


class TestSqliteOutbox(DurableOutboxSuite, LedgerSuite):
    def make(self, home: Path) -> SqliteOutbox:
        return make(home / "state" / "outbox.db")


# -- what is in the file


async def test_everything_of_a_commit_is_in_the_file_when_append_returns(outbox: SqliteOutbox, path: Path) -> None:
    await outbox.append(Commit((event(1), SpanOpened(span("1.1")), event(2)), (due(1, 2), due(2))))
    assert rows(path, "SELECT no, id, app, kind FROM event") == [
        (1, "evt_000001", "1001", "client_event"),
        (2, "evt_000002", "1001", "client_event"),
    ]
    entry = '["1001/channel/room-1","room-1","a\\u0000b",{"channel":"room-1","data":"a \\"text\\"\\u0000 é"}]'
    assert rows(path, "SELECT entry FROM event WHERE no = 1") == [(entry,)]
    deliveries = (
        "SELECT delivery.event_id FROM event, json_each(event.deliveries) AS key, delivery WHERE delivery.key = key.value"
    )
    assert rows(path, f"{deliveries} AND event.no = 2") == [("evt_000002",)]
    assert rows(path, "SELECT app, kind, key FROM span") == [("1001", "connection", '["1.1"]')]


async def test_an_event_that_is_there_already_is_not_entered_twice(outbox: SqliteOutbox, path: Path) -> None:
    await outbox.append(Commit((event(1),), (due(1),)))
    await outbox.append(Commit((event(1),), (due(2),)))
    assert rows(path, "SELECT count(*) FROM event") == [(1,)]
    assert sequences(await outbox.claim(ENDPOINT, 0, 9)) == [1, 2]


async def test_each_settlement_is_an_attempt_in_the_log(outbox: SqliteOutbox, path: Path) -> None:
    await outbox.append(Commit(deliveries=(due(1), due(2))))
    await outbox.settle(settled(await claimed(outbox), State.DUE))
    await outbox.settle(settled(await claimed(outbox), State.DELIVERED, attempts=2))
    logged = rows(path, "SELECT first_sequence, last_sequence, settlement ->> 4, settlement ->> 7 FROM attempt ORDER BY no")
    assert logged == [(1, 2, 1, "due"), (1, 2, 2, "delivered")]


async def test_what_was_delivered_is_deleted(outbox: SqliteOutbox, path: Path) -> None:
    await outbox.append(Commit(deliveries=tuple(due(number) for number in range(1, 11))))
    await outbox.settle(settled(await claimed(outbox, limit=9), State.DELIVERED))
    await until(lambda: not outbox._writer.books.is_littered)
    assert rows(path, "SELECT event_id FROM delivery") == [("evt_000010",)]


async def test_what_a_crash_left_of_the_delivered_is_deleted_by_the_next_life(path: Path) -> None:
    left_by_version_1(path)
    outbox = make(path)
    await outbox.open()
    await until(lambda: not outbox._writer.books.is_littered)
    assert rows(path, "SELECT event_id FROM delivery") == [("evt_000002",), ("evt_000003",)]
    await outbox.close()


async def test_deliveries_out_of_order_are_refused_alone(outbox: SqliteOutbox) -> None:
    await outbox.append(Commit(deliveries=(due(5),)))
    refused, accepted = await asyncio.gather(
        outbox.append(Commit(deliveries=(due(4),))), outbox.append(Commit(deliveries=(due(6),))), return_exceptions=True
    )
    assert isinstance(refused, ValueError)
    assert accepted is None
    assert sequences(await outbox.claim(ENDPOINT, 0, 9)) == [5, 6]
    assert not outbox.is_full("1001")


async def test_old_events_and_attempts_are_forgotten_but_none_that_a_lane_needs(path: Path) -> None:
    now = [NOW_MS]
    outbox = make(path, epoch_ms=lambda: now[0], retention_s=3_600.0)
    await outbox.open()
    await outbox.append(Commit(tuple(event(number) for number in range(1, 7)), (due(1), due(2), due(4))))
    await outbox.settle(settled(await claimed(outbox, limit=2), State.DELIVERED))
    now[0] += 3_600_000
    await keep_house(outbox)
    await until(lambda: rows(path, "SELECT min(no) FROM event") == [(4,)])
    await until(lambda: rows(path, "SELECT count(*) FROM attempt") == [(0,)])
    assert [number for (number,) in rows(path, "SELECT no FROM event")] == [4, 5, 6]
    await outbox.settle(settled(await claimed(outbox), State.DELIVERED))
    await outbox.append(Commit((event(7),)))
    await keep_house(outbox)
    await until(lambda: rows(path, "SELECT no FROM event") == [])
    await outbox.append(Commit((event(8),)))
    assert rows(path, "SELECT no FROM event") == [(8,)]  # a cursor is not given out twice
    await outbox.close()


async def test_dead_letters_are_kept_for_a_month(path: Path) -> None:
    now = [NOW_MS]
    outbox = make(path, epoch_ms=lambda: now[0])
    await outbox.open()
    await outbox.append(Commit(deliveries=(due(1),)))
    await outbox.settle(settled(await claimed(outbox), State.DEAD))
    now[0] += int(history.DEAD_LETTER_RETENTION_S * 1000)
    await keep_house(outbox)
    await until(lambda: rows(path, "SELECT count(*) FROM dead_request") == [(0,)])
    assert await outbox.dead_letters(ENDPOINT) == []
    await outbox.close()


async def test_a_wall_clock_that_is_put_forward_makes_nothing_old(path: Path) -> None:
    now, since = [NOW_MS], [100.0]
    outbox = make(path, epoch_ms=lambda: now[0], monotonic=lambda: since[0], retention_s=3_600.0)
    await outbox.open()
    await outbox.append(Commit((event(1), event(2)), (due(1),)))
    await outbox.settle(settled(await claimed(outbox), State.DEAD))
    now[0] += 10 * 365 * 86_400_000  # by somebody who mistyped the year
    await keep_house(outbox)
    await until(lambda: outbox._writer._housekeeping_at > 0.0)
    assert len((await outbox.feed("1001", after=0, limit=9)).entries) == 2
    assert len(await outbox.dead_letters(ENDPOINT)) == len(await outbox.attempts(ENDPOINT)) == 1
    since[0] += 3_601.0
    await keep_house(outbox)
    await until(lambda: rows(path, "SELECT count(*) FROM event") == [(0,)])
    now[0] = NOW_MS - 86_400_000
    await outbox.append(Commit((event(3),)))
    await keep_house(outbox)
    await until(lambda: outbox._writer._housekeeping_at > 0.0)
    assert len(await outbox.dead_letters(ENDPOINT)) == 1
    await outbox.close()


# -- reading ahead


async def test_what_was_read_ahead_is_what_the_file_holds(outbox: SqliteOutbox) -> None:
    await outbox.append(Commit(deliveries=tuple(due(number) for number in range(1, 41))))
    for number in range(1, 30):
        assert await outbox.claim(ENDPOINT, 0, 1) == Claim((due(number),))
        await outbox.settle(settled(Claim((due(number),)), State.DELIVERED))
    await outbox.append(Commit(deliveries=(due(41),)))
    assert sequences(await outbox.claim(ENDPOINT, 0, 5)) == [30, 31, 32, 33, 34]
    assert sequences(await outbox.claim(ENDPOINT, 0, 99)) == list(range(30, 42))
    await outbox.settle(settled(await claimed(outbox, limit=11), State.DUE))
    assert sequences(await outbox.claim(ENDPOINT, 0, 1)) == list(range(30, 41))
    await outbox.settle(settled(await claimed(outbox), State.DELIVERED))
    assert sequences(await outbox.claim(ENDPOINT, 0, 1)) == [41]


# -- full


async def test_is_full_at_its_size_and_no_longer_when_that_was_delivered(path: Path) -> None:
    outbox = make(path, max_size=1 << 20)
    await outbox.open()
    number = 0
    while not outbox.is_full("1001"):
        chunk = [
            Delivery(ENDPOINT, number + n, 0, f"evt_{number + n}", "client_event", NOW_MS, b"x" * 9_000) for n in range(1, 11)
        ]
        number += 10
        await outbox.append(Commit(deliveries=tuple(chunk)))
    assert 90 <= number <= 130
    storage = outbox.storage()
    assert storage.is_writable
    assert storage.limit == 1 << 20
    assert storage.used is not None
    assert storage.used >= storage.limit
    await outbox.append(Commit((event(1),), (due(number + 1),)))  # reserved room
    for _ in range(4):
        await outbox.settle(settled(await claimed(outbox, limit=20), State.DELIVERED))
    await until(lambda: not outbox.is_full("1001"))
    await outbox.close()


async def test_history_makes_room_for_the_backlog_before_its_time(path: Path) -> None:
    outbox = make(path, max_size=1 << 20)
    await outbox.open()
    for number in range(1, 6_001, 200):
        await outbox.append(Commit(tuple(event(n) for n in range(number, number + 200))))
    await until(lambda: not outbox.is_full("1001"))
    await until(lambda: outbox._writer._used < history.HISTORY_SHARE * (1 << 20))
    await outbox.append(Commit((event(9_999),)))
    assert rows(path, "SELECT max(id) FROM event") == [("evt_009999",)]
    await outbox.close()


# -- what the disk does


async def test_a_foreign_lock_holds_up_appends_but_neither_loop_nor_claims(path: Path) -> None:
    outbox = make(path, busy_timeout_s=LONG_S)
    await outbox.open()
    await outbox.append(Commit(deliveries=(due(1),)))
    foreign = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    foreign.execute("BEGIN EXCLUSIVE")
    waiting = [asyncio.ensure_future(outbox.append(Commit(deliveries=(due(number),)))) for number in range(2, 50)]
    for _ in range(200):
        assert sequences(await outbox.claim(ENDPOINT, 0, 50)) == [1]
    assert not any(append.done() for append in waiting)
    foreign.execute("COMMIT")
    await asyncio.gather(*waiting)
    assert sequences(await outbox.claim(ENDPOINT, 0, 99)) == list(range(1, 50))
    foreign.close()
    await outbox.close()


async def test_a_lock_held_too_long_is_an_error_and_the_same_commit_can_be_written_later(
    outbox: SqliteOutbox, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    foreign = sqlite3.connect(path, isolation_level=None)
    foreign.execute("BEGIN EXCLUSIVE")
    commit = Commit((event(1), SpanOpened(span("1.1"))), (due(1),))
    for _ in range(2):
        with pytest.raises(OSError, match="another program holds the file locked"):
            await outbox.append(commit)
        assert outbox.is_full("1001")
    foreign.execute("COMMIT")
    foreign.close()
    await outbox.append(commit)
    assert not outbox.is_full("1001")
    assert sequences(await outbox.claim(ENDPOINT, 0, 9)) == [1]
    told = [(record.levelno, record.getMessage()) for record in caplog.records if record.name == "rawpush.gateway"]
    assert [level for level, _ in told] == [logging.ERROR, logging.WARNING]  # once each, not once a try
    assert str(path) in told[0][1]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)]
    try:
        mounted = subprocess.run(mount, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        mounted = False
    if not mounted:
        pytest.skip("mounting a small file system needs privileges")
    yield place
    subprocess.run(["umount", str(place)], check=True)


async def test_a_full_disk_is_an_error_until_there_is_room_again(small_disk: Path) -> None:
    outbox = make(small_disk / "outbox.db")
    await outbox.open()
    (small_disk / "ballast").write_bytes(b"x" * 300_000)
    written = 0

    async def write(number: int) -> None:
        big = Delivery(ENDPOINT, number, 0, f"evt_{number}", "client_event", NOW_MS, b"x" * 20_000)
        await outbox.append(Commit((event(number), SpanOpened(span(f"1.{number}"))), (big,)))

    async def fill() -> None:
        nonlocal written
        for number in range(1, 200):
            await write(number)
            written = number

    with pytest.raises(OSError, match="disk is full") as caught:
        await fill()
    assert caught.value.filename == str(small_disk / "outbox.db")
    assert written >= 3
    assert outbox.is_full("1001")
    assert len((await claimed(outbox, limit=500)).deliveries) == written  # reading goes on
    (small_disk / "ballast").unlink()
    await until(lambda: not outbox.is_full("1001"))  # found out by itself
    await write(written + 1)
    assert sequences(await outbox.claim(ENDPOINT, 0, 500)) == list(range(1, written + 2))
    await outbox.close()
    outbox = make(small_disk / "outbox.db")
    assert len((await outbox.open()).spans) == written + 1
    await outbox.close()


async def test_a_failing_disk_is_an_error_until_it_works_again(outbox: SqliteOutbox) -> None:
    await outbox.append(Commit(deliveries=(due(1),)))
    number = 1

    async def go_on() -> None:
        nonlocal number
        while number < 50:
            number += 1
            await outbox.append(Commit((event(number),), (due(number),)))

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))  # every write beyond fails
    try:
        with pytest.raises(OSError, match=r"reading or writing failed|disk is full"):
            await go_on()
        assert outbox.is_full("1001")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    await until(lambda: not outbox.is_full("1001"))
    held = sequences(await outbox.claim(ENDPOINT, 0, 99))
    assert held == list(range(1, number))
    await outbox.append(Commit((event(number),), (due(number),)))
    assert sequences(await outbox.claim(ENDPOINT, 0, 99)) == [*held, number]


async def test_a_store_that_turned_read_only_is_an_error_and_no_new_work(outbox: SqliteOutbox) -> None:
    await in_thread(outbox, lambda connection: connection.execute("PRAGMA query_only = ON"))
    with pytest.raises(OSError, match="read-only; make it writable"):
        await outbox.append(Commit((event(1),), (due(1),)))
    assert outbox.is_full("1001")
    assert not outbox.storage().is_writable
    assert await outbox.claim(ENDPOINT, 0, 9) is None
    await outbox.append(Commit((event(1),), (due(1),)))  # opened anew
    assert not outbox.is_full("1001")
    assert outbox.storage().is_writable
    assert sequences(await outbox.claim(ENDPOINT, 0, 9)) == [1]


async def test_a_settlement_that_could_not_be_written_can_be_settled_again(outbox: SqliteOutbox) -> None:
    await outbox.append(Commit(deliveries=(due(1), due(2))))
    settlement = settled(await claimed(outbox, limit=1), State.DEAD)
    await in_thread(outbox, lambda connection: connection.execute("PRAGMA query_only = ON"))
    with pytest.raises(OSError, match="read-only"):
        await outbox.settle(settlement)
    assert sequences(await outbox.claim(ENDPOINT, 0, 9)) == [1, 2]
    await outbox.settle(settlement)
    assert sequences(await outbox.claim(ENDPOINT, 0, 9)) == [2]
    assert len(await outbox.dead_letters(ENDPOINT)) == 1


async def test_a_file_moved_away_is_noticed_and_goes_on_when_it_is_back(
    outbox: SqliteOutbox, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "PRESENCE_S", 0.0)
    outbox._writer._present_until = 0.0
    await outbox.append(Commit(deliveries=(due(1),)))
    await outbox.append(Commit(deliveries=(due(2),)))
    aside = path.with_name("aside.db")
    path.rename(aside)
    with pytest.raises(OSError, match="removed or replaced"):
        await outbox.append(Commit(deliveries=(due(3),)))
    path.write_bytes(b"something else")
    with pytest.raises(OSError, match="removed or replaced"):
        await outbox.append(Commit(deliveries=(due(3),)))
    assert outbox.is_full("1001")
    with pytest.raises(OSError, match="removed or replaced"):
        await outbox.backlog(ENDPOINT)  # the reader has not opened the file yet, and must not open that one
    assert path.with_name("outbox.db-wal").stat().st_size > 0
    aside.rename(path)
    await outbox.append(Commit(deliveries=(due(3),)))
    assert sequences(await outbox.claim(ENDPOINT, 0, 9)) == [1, 2, 3]


async def test_a_waiter_that_gives_up_does_no_harm(outbox: SqliteOutbox) -> None:
    held = threading.Event()
    blocking = asyncio.ensure_future(in_thread(outbox, lambda connection: held.wait(20)))
    given_up = asyncio.ensure_future(outbox.append(Commit(deliveries=(due(1),))))
    await asyncio.sleep(0)
    given_up.cancel()
    held.set()
    await blocking
    await outbox.append(Commit(deliveries=(due(2),)))
    assert given_up.cancelled()
    assert sequences(await outbox.claim(ENDPOINT, 0, 9)) == [1, 2]


async def test_close_writes_what_is_pending(path: Path) -> None:
    outbox = make(path)
    await outbox.open()
    pending = [asyncio.ensure_future(outbox.append(Commit(deliveries=(due(number),)))) for number in range(1, 100)]
    await asyncio.sleep(0)
    await outbox.close()
    await asyncio.gather(*pending)
    assert rows(path, "SELECT count(*) FROM delivery") == [(99,)]
    assert not path.with_name("outbox.db-wal").exists()
    with pytest.raises(OSError, match="not open"):
        await outbox.append(Commit())


# -- scale


async def test_opening_does_not_depend_on_the_backlog(path: Path) -> None:
    outbox = make(path)
    await outbox.open()
    await outbox.append(Commit(deliveries=tuple(due(lane + 1, lane) for lane in range(8))))
    million = """
        INSERT INTO delivery SELECT (1 + n % 8) << 40 | (n + 100), 'evt_' || n, 'client_event', n, zeroblob(100)
        FROM (WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 1000000) SELECT n FROM c ORDER BY n % 8, n)
    """
    await in_thread(outbox, lambda connection: connection.execute(million))
    await in_thread(outbox, lambda connection: connection.execute("UPDATE lane SET tail = 1000100, depth = depth + 125000"))
    await outbox.close()
    took = []
    for _ in range(3):
        outbox = make(path)
        begun = time.perf_counter()
        recovery = await outbox.open()
        backlog = await outbox.backlog(ENDPOINT)
        head = await claimed(outbox, 3, 500)
        took.append(time.perf_counter() - begun)
        await outbox.close()
    assert len(recovery.lanes) == 8
    assert backlog.count == 1_000_008
    assert len(head.deliveries) == 500
    assert min(took) < 2.0


def test_no_statement_scans_a_large_table(path: Path) -> None:
    store.prepare(path)
    connection = sqlite3.connect(path)
    large = {"event", "delivery", "attempt", "dead_letter", "dead_request"}
    cleaning = {name for name in QUERY if name.startswith(("prune", "note_forgotten", "old_dead"))}  # walks from the oldest on
    for name in QUERY.keys() - cleaning - {"begin", "commit", "rollback"}:
        count = max((number for number in range(1, 6) if f"?{number}" in QUERY[name]), default=0)
        parameters = ["[]"] * count if count else dict.fromkeys(COLUMNS, "[]")
        plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {QUERY[name]}", parameters)]
        assert not [step for step in plan if step.startswith("SCAN ") and step.split()[1] in large], (name, plan)
    connection.close()


def test_spans_closed_and_reopened_in_one_group_follow_the_order_of_the_commits(path: Path) -> None:
    async def scenario() -> set[str]:
        outbox = make(path)
        await outbox.open()
        held = threading.Event()
        blocking = asyncio.ensure_future(in_thread(outbox, lambda connection: held.wait(20)))
        opened, closed = SpanOpened(span("1.1")), SpanClosed("1001", "connection", "1.1")
        turns: list[tuple[Record, ...]] = [
            (opened,),
            (closed,),
            (opened,),
            (SpanOpened(span("2.2")),),
            (SpanClosed("1001", "connection", "2.2"),),
        ]
        appends = [asyncio.ensure_future(outbox.append(Commit(records))) for records in turns]
        await asyncio.sleep(0)
        held.set()
        await asyncio.gather(blocking, *appends)
        await outbox.close()
        outbox = make(path)
        recovery = await outbox.open()
        await outbox.close()
        return {one.key for one in recovery.spans}

    assert asyncio.run(scenario()) == {"1.1"}
