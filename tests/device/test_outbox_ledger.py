"""The reading side of the durable outbox, at scale and across restarts; and what bounds the history."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import sqlite3
import time
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest

from gateway.core.delivery import REPLAY_LANE, Delivery, State
from gateway.core.lifecycle import SpanOpened
from gateway.core.retry import enabled
from gateway.core.trace import Trace
from gateway.outbox import books, checkpoint, history, portion, sqlite, sqlite_ledger
from gateway.outbox.sqlite import SqliteOutbox
from gateway.ports import Commit, Page, Past
from tests.conformance.outbox_suite import ENDPOINT, OTHER, claimed, due, event, sequences, settled, span
from tests.device.outbox_store import NOW_MS, in_thread, keep_house, left_by_version_1, make, rows, until

MILLION = """
    WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 1000000)
    INSERT INTO event (id, app, kind, at_ms, entry, deliveries)
    SELECT 'evt_' || n, CASE n % 1000 WHEN 0 THEN '1002' ELSE '1001' END,
        CASE n WHEN 900001 THEN 'rare' ELSE 'client_event' END, 1700000000000 + n, '["s",null,null,{}]', NULL FROM c
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "outbox.db"


@pytest.fixture
async def outbox(path: Path) -> AsyncIterator[SqliteOutbox]:
    outbox = make(path)
    await outbox.open()
    await until(lambda: outbox._writer._housekeeping_at > 0.0)
    yield outbox
    await outbox.close()


async def test_a_million_events_are_walked_along_an_index(outbox: SqliteOutbox, path: Path) -> None:
    await in_thread(outbox, lambda connection: connection.execute(MILLION))
    took = []
    for _ in range(3):
        begun = time.perf_counter()
        page = await outbox.feed("1001", after=990_000, limit=3)
        quiet = await outbox.feed("1002", after=500_000, limit=100)
        found = await outbox.find("1001", "evt_500001")
        await outbox.snapshot("1001")
        took.append(time.perf_counter() - begun)
    assert [entry.cursor for entry in page.entries] == [990_001, 990_002, 990_003]
    assert [entry.cursor for entry in quiet.entries] == list(range(501_000, 600_001, 1_000))
    assert found is not None
    assert min(took) < 0.5
    # few of a kind: no single question costs more than its share, and the cursor goes on
    cursor, asked = 0, 0
    while not (page := await outbox.feed("1001", after=cursor, limit=10, kinds=frozenset({"rare"}))).entries:
        assert page.cursor > cursor
        cursor, asked = page.cursor, asked + 1
    assert [entry.cursor for entry in page.entries] == [900_001]
    assert asked == 899_100 // sqlite_ledger.LOOKED_AT
    await outbox.close()
    took.clear()
    for _ in range(3):
        begun = time.perf_counter()
        again = make(path)
        await again.open()
        took.append(time.perf_counter() - begun)
        await again.close()
    assert min(took) < 1.0
    assert (again.latest("1001"), again.latest("1002"), again.latest("1003")) == (999_999, 1_000_000, 0)


async def test_cursors_spans_and_log_go_on_after_a_restart(path: Path) -> None:
    outbox = make(path)
    await outbox.open()
    await outbox.append(Commit((event(1), SpanOpened(span("1.1"))), (due(1),)))
    await outbox.settle(settled(await claimed(outbox), State.DEAD))
    snapshot, log = await outbox.snapshot("1001"), await outbox.attempts(ENDPOINT)
    await outbox.close()
    outbox = make(path)
    await outbox.open()
    assert outbox.latest("1001") == snapshot.cursor
    assert await outbox.snapshot("1001") == snapshot
    assert await outbox.attempts(ENDPOINT) == log
    await outbox.append(Commit((event(2),)))
    assert [entry.event for entry in (await outbox.feed("1001", after=snapshot.cursor, limit=9)).entries] == [event(2)]
    await outbox.append(Commit(deliveries=(due(2),)))
    await outbox.settle(settled(await claimed(outbox), State.DEAD))
    numbers = [number for number, _ in await outbox.dead(ENDPOINT)]
    assert numbers == sorted(set(numbers))
    assert await outbox.count_dead(ENDPOINT) == 2
    await outbox.close()


async def test_the_trace_of_an_event_is_there_after_a_restart(path: Path) -> None:
    traced = dataclasses.replace(event(1), trace=Trace("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", 'a="\\'))
    outbox = make(path)
    await outbox.open()
    await outbox.append(Commit((traced, event(2))))
    await outbox.close()
    outbox = make(path)
    await outbox.open()
    assert [entry.event for entry in (await outbox.feed("1001", after=0, limit=9)).entries] == [traced, event(2)]
    found = await outbox.find("1001", traced.id)
    assert found is not None
    assert found.event == traced
    await outbox.close()


async def test_each_app_is_told_what_of_it_was_forgotten(path: Path) -> None:
    now = [NOW_MS]
    outbox = make(path, epoch_ms=lambda: now[0], retention_s=3_600.0)
    await outbox.open()
    await outbox.append(Commit((event(1), event(2, "1002"), event(3))))
    now[0] += 3_600_000
    young = dataclasses.replace(event(4), at_ms=now[0])
    await outbox.append(Commit((young,)))
    await keep_house(outbox)
    await until(lambda: rows(path, "SELECT min(no) FROM event") == [(4,)])
    page = await outbox.feed("1001", after=0, limit=9)
    assert ([entry.cursor for entry in page.entries], page.forgotten) == ([4], 3)
    # who has read all of a quiet app has missed nothing, however much was forgotten of others
    assert await outbox.feed("1002", after=2, limit=9) == Page((), 2, 2)
    assert (await outbox.snapshot("1002")).cursor == outbox.latest("1002") == 2
    await outbox.close()
    outbox = make(path)
    await outbox.open()
    assert (outbox.latest("1001"), outbox.latest("1002")) == (4, 2)
    await outbox.close()


@pytest.mark.parametrize("ending", ["abandoned", "replayed"])
async def test_neither_an_abandoned_endpoint_nor_a_replay_keeps_events_from_being_forgotten(path: Path, ending: str) -> None:
    now = [NOW_MS]
    outbox = make(path, epoch_ms=lambda: now[0], retention_s=3_600.0)
    await outbox.open()
    await outbox.append(Commit((event(1), event(2)), (due(1), due(2))))
    if ending == "abandoned":
        await outbox.abandon(ENDPOINT, "endpoint_removed", NOW_MS)
    else:
        await outbox.settle(settled(await claimed(outbox), State.DELIVERED))
        await outbox.replay(ENDPOINT, [due(1)])
    now[0] += 3_600_000
    await keep_house(outbox)
    await until(lambda: rows(path, "SELECT count(*) FROM event") == [(0,)])
    assert rows(path, "SELECT key, sequence FROM endpoint") == [(ENDPOINT, 2)]
    await outbox.close()
    outbox = make(path)
    recovery = await outbox.open()
    assert recovery.sequences == {ENDPOINT: 2}
    assert recovery.lanes == (frozenset() if ending == "abandoned" else {(ENDPOINT, REPLAY_LANE)})
    await outbox.close()


async def test_a_long_backlog_is_abandoned_in_pieces(outbox: SqliteOutbox) -> None:
    count = 2 * sqlite.ABANDONED_AT_ONCE + 10
    await outbox.append(Commit(deliveries=tuple(due(number) for number in range(1, count + 1))))
    abandoning = asyncio.ensure_future(outbox.abandon(ENDPOINT, "endpoint_removed", NOW_MS))
    await outbox.append(Commit(deliveries=(due(1, 0, OTHER),)))
    assert not abandoning.done()  # the append came in between
    assert await abandoning == count
    assert await outbox.count_dead(ENDPOINT) == count


async def test_a_thousand_replays_hold_the_writer_up_only_shortly(outbox: SqliteOutbox) -> None:
    for start in range(1, 10_001, 500):
        numbers = range(start, start + 500)
        await outbox.append(Commit(tuple(event(number) for number in numbers), tuple(due(number) for number in numbers)))
        await outbox.settle(settled(await claimed(outbox, limit=500), State.DEAD))
    letters = [letter.delivery for _, letter in await outbox.dead(ENDPOINT, limit=10_000)]
    assert len(letters) == 10_000
    begun = time.process_time()
    await outbox.replay(ENDPOINT, letters)
    assert time.process_time() - begun < 10 * 0.2  # some 30 ms per 1000; the rest is for slow machines
    assert await outbox.count_dead(ENDPOINT) == 0
    assert rows(outbox._path, "SELECT count(*) FROM dead_request") == [(0,)]
    assert (await outbox.backlog(ENDPOINT)).count == 10_000
    assert sequences(await outbox.claim(ENDPOINT, REPLAY_LANE, 3)) == [1, 2, 3]


# -- dead letters


async def _bury(outbox: SqliteOutbox, endpoint: str, first: int, count: int) -> None:
    big = [Delivery(endpoint, first + n, 0, f"evt_{first + n}", "client_event", NOW_MS, b"x" * 2_000) for n in range(count)]
    await outbox.append(Commit(deliveries=tuple(big)))
    await outbox.settle(settled(await claimed(outbox, limit=count, endpoint=endpoint), State.DEAD))


async def test_a_mass_of_dead_letters_is_cut_back_to_its_share_and_it_is_told(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    outbox = make(path, max_size=4 << 20)
    await outbox.open()
    await _bury(outbox, OTHER, 1, 3)
    for first in range(1, 901, 100):
        await _bury(outbox, ENDPOINT, first, 100)
    most = history.DEAD_SHARE * (4 << 20)
    await until(lambda: rows(path, "SELECT sum(dead_size) FROM endpoint")[0][0] <= most)
    left = await outbox.count_dead(ENDPOINT)
    assert 400 < left < 600
    assert [letter.delivery.sequence for _, letter in await outbox.dead(ENDPOINT, limit=1)] == [901 - left]
    assert await outbox.count_dead(OTHER) == 3  # who has few keeps them
    assert outbox.dead_letters_dropped == {ENDPOINT: 900 - left}
    told = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert told
    assert all(ENDPOINT in record.getMessage() for record in told)
    size = "SELECT (SELECT sum(length(envelope)) FROM dead_letter) + (SELECT sum(length(settlement)) FROM dead_request)"
    assert rows(path, size) == rows(path, "SELECT sum(dead_size) FROM endpoint")
    assert rows(path, "SELECT dead FROM endpoint WHERE key = ?", ENDPOINT) == [(left,)]
    await outbox.close()


async def test_a_store_of_version_1_knows_how_many_dead_letters_it_has(path: Path) -> None:
    left_by_version_1(path)
    outbox = make(path)
    await outbox.open()
    assert await outbox.count_dead(ENDPOINT) == 1
    (letter,) = await outbox.dead(ENDPOINT)
    await outbox.replay(ENDPOINT, [letter[1].delivery])
    assert await outbox.count_dead(ENDPOINT) == 0
    assert rows(path, "SELECT dead, dead_size FROM endpoint") == [(0, 0)]
    trace = await outbox.trace("1001", "evt_000002")
    assert [(one.state, one.sequence) for one in trace] == [("due", 2)]
    await outbox.close()


# -- what is in memory


async def test_a_claim_just_after_its_append_does_not_ask_the_file(outbox: SqliteOutbox, monkeypatch: pytest.MonkeyPatch) -> None:
    async def read(*_: object) -> tuple[Delivery, ...]:
        raise AssertionError("the file was asked")

    monkeypatch.setattr(outbox, "_read", read)
    for number in range(1, 2_000, 2):
        await outbox.append(Commit(deliveries=(due(number), due(number + 1))))
        claim = await claimed(outbox, limit=500)
        assert sequences(claim) == [number, number + 1]
        await outbox.settle(settled(claim, State.DELIVERED))


async def test_an_append_whose_caller_gave_up_is_not_passed_over(outbox: SqliteOutbox) -> None:
    await outbox.append(Commit(deliveries=(due(1),)))
    given_up = asyncio.ensure_future(outbox.append(Commit(deliveries=(due(2),))))
    await asyncio.sleep(0)
    given_up.cancel()
    await outbox.append(Commit(deliveries=(due(3),)))
    assert given_up.cancelled()
    assert sequences(await outbox.claim(ENDPOINT, 0, 9)) == [1, 2, 3]


async def test_a_backlog_longer_than_memory_is_claimed_whole_and_in_order(
    outbox: SqliteOutbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.outbox.ahead.MOST", 10)
    given, taken = 0, []
    for appended, limit in ((7, 3), (9, 4), (1, 1), (30, 20), (2, 500), (5, 2), (0, 1), (0, 500), (4, 4), (3, 9)):
        await outbox.append(Commit(deliveries=tuple(due(given + n) for n in range(1, appended + 1))))
        given += appended
        claim = await claimed(outbox, limit=limit)
        taken += sequences(claim)
        await outbox.settle(settled(claim, State.DELIVERED))
    while (claim := await outbox.claim(ENDPOINT, 0, 3)) is not None:
        taken += sequences(claim)
        await outbox.settle(settled(claim, State.DELIVERED))
    assert taken == list(range(1, given + 1))


async def test_a_head_that_is_too_much_for_memory_is_claimed_shorter(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Five hundred events of two megabytes, which pile up while a receiver is down, are more than SQLite gives out at once."""
    monkeypatch.setattr(portion, "MOST_READ", 200_000)
    outbox = make(path)
    await outbox.open()
    sizes = [20_000] * 50 + [1_000_000] * 3 + [20_000] * 47
    large = [dataclasses.replace(due(number), envelope=b"x" * size) for number, size in enumerate(sizes, 1)]
    await outbox.append(Commit(deliveries=tuple(large)))
    await outbox.close()
    outbox = make(path)
    await outbox.open()
    taken: list[int] = []
    while (claim := await outbox.claim(ENDPOINT, 0, 500)) is not None:
        assert len(claim.deliveries) == 1 or sum(len(delivery.envelope) for delivery in claim.deliveries) <= 200_000
        taken += sequences(claim)
        await outbox.settle(settled(claim, State.DUE))
        assert sequences(await outbox.claim(ENDPOINT, 0, 500)) == sequences(claim)
        await outbox.settle(settled(claim, State.DELIVERED))
    assert taken == list(range(1, 101))
    await outbox.close()


async def test_a_head_with_a_history_keeps_its_bounds_however_large_it_is(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outbox = make(path)
    await outbox.open()
    await outbox.append(
        Commit(deliveries=tuple(dataclasses.replace(due(number), envelope=b"x" * 20_000) for number in range(1, 51)))
    )
    await outbox.settle(settled(await claimed(outbox, limit=40), State.DUE))
    await outbox.close()
    monkeypatch.setattr(portion, "MOST_READ", 200_000)
    outbox = make(path)
    await outbox.open()
    assert sequences(await outbox.claim(ENDPOINT, 0, 500)) == list(range(1, 41))
    await outbox.close()


async def test_pages_of_large_events_and_dead_letters_are_as_long_as_fits_into_memory(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thousand of two megabytes are more than SQLite gives out at once."""
    monkeypatch.setattr(portion, "MOST_READ", 200_000)
    outbox = make(path)
    await outbox.open()
    sizes = [20_000] * 30 + [1_000_000] * 2 + [20_000] * 8
    large = [dataclasses.replace(due(number), envelope=b"x" * size) for number, size in enumerate(sizes, 1)]
    events = [dataclasses.replace(event(number), data={"data": "x" * size}) for number, size in enumerate(sizes, 1)]
    await outbox.append(Commit(tuple(events), tuple(large)))
    kept = await claimed(outbox, limit=1)
    await outbox.settle(dataclasses.replace(settled(kept, State.DEAD), last_sequence=len(sizes), count=len(sizes)))
    everything: list[frozenset[str] | None] = [None, frozenset({events[0].kind})]
    for kinds in everything:
        after, found = 0, []
        while (page := await outbox.feed("1001", after=after, limit=1_000, kinds=kinds)).entries:
            assert len(page.entries) < len(sizes)
            found += [entry.event.id for entry in page.entries]
            after = page.cursor
        assert found == [one.id for one in events]
    number, letters = 0, []
    while some := await outbox.dead(ENDPOINT, after=number, limit=1_000):
        assert len(some) < len(sizes)
        letters += [letter.delivery for _, letter in some]
        number = some[-1][0]
    assert [(one.sequence, one.envelope) for one in letters] == [(one.sequence, one.envelope) for one in large]
    newest = await outbox.dead_letters(ENDPOINT, limit=1_000)
    assert [letter.delivery.sequence for letter in newest] == list(range(len(sizes) - len(newest) + 1, len(sizes) + 1))
    assert newest
    assert len((await outbox.snapshot("1001")).spans) == 0
    await outbox.close()


async def test_a_note_is_in_the_delivery_log_and_in_no_trace(outbox: SqliteOutbox) -> None:
    await outbox.append(Commit(tuple(event(number) for number in (1, 2, 3)), (due(1), due(2), due(3))))
    note = enabled(ENDPOINT, 0, NOW_MS)
    await outbox.settle(note)
    await outbox.settle(settled(await claimed(outbox, limit=1), State.DELIVERED))
    await outbox.settle(note)
    await outbox.settle(settled(await claimed(outbox, limit=2), State.DUE))
    await outbox.settle(note)
    assert (await claimed(outbox, limit=9)).attempts == 1
    await outbox.settle(settled(await claimed(outbox, limit=2), State.DELIVERED))
    await outbox.settle(note)
    expected = [[State.DELIVERED], [State.DUE, State.DELIVERED], [State.DUE, State.DELIVERED]]
    for number, states in enumerate(expected, 1):
        (trace,) = await outbox.trace("1001", event(number).id)
        assert trace.state == "delivered"
        assert [made.settlement.state for made in trace.attempts] == states
    log = [made.settlement for made in reversed(await outbox.attempts(ENDPOINT))]
    assert [one.count for one in log] == [0, 1, 0, 2, 0, 2, 0]
    assert [one for one in log if not one.count] == [note] * 4


# -- a write that was said to have failed


async def test_what_was_written_although_it_was_said_to_have_failed_is_not_written_twice(
    outbox: SqliteOutbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    await outbox.append(Commit((event(1),), (due(1),)))
    commit = Commit((event(2), SpanOpened(span("1.1"))), (due(2), due(3, 1)))

    def fail(*_: object) -> None:
        raise OSError(5, "the disk went away with the answer")

    with monkeypatch.context() as patched:
        patched.setattr(books.Books, "_written", fail)
        with pytest.raises(OSError, match="went away"):
            await outbox.append(commit)
    await outbox.append(commit)
    await outbox.append(Commit((event(4),), (due(4),)))
    assert sequences(await outbox.claim(ENDPOINT, 0, 9)) == [1, 2, 4]
    assert sequences(await outbox.claim(ENDPOINT, 1, 9)) == [3]
    page = await outbox.feed("1001", after=0, limit=9)
    assert [entry.event for entry in page.entries] == [event(1), event(2), event(4)]
    assert outbox.latest("1001") == page.cursor
    assert (await outbox.backlog(ENDPOINT)).count == 4
    assert not outbox.is_full("1001")


# -- the log of the file


async def test_the_write_ahead_log_does_not_grow_under_constant_load(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.outbox.checkpoint.EVERY", 200_000)
    monkeypatch.setattr("gateway.outbox.checkpoint.MOST", 1_600_000)
    monkeypatch.setattr("gateway.outbox.checkpoint.LONG", 500)  # 2 MB
    outbox = make(path)
    await outbox.open()
    for start in range(1, 20_001, 100):
        deliveries = [dataclasses.replace(due(number), envelope=b"x" * 1_000) for number in range(start, start + 100)]
        await outbox.append(Commit(deliveries=tuple(deliveries)))
        await outbox.settle(settled(await claimed(outbox, limit=100), State.DELIVERED))
    assert path.with_name("outbox.db-wal").stat().st_size < 32_000_000  # of twice as much that went through it
    await outbox.close()


async def test_the_log_that_begins_anew_under_constant_load_is_not_cut_off(path: Path) -> None:
    outbox = make(path)
    await outbox.open()
    # of the connection that commits; as much again may come while the log is copied
    kept = await in_thread(outbox, lambda connection: connection.execute("PRAGMA journal_size_limit").fetchone()[0])
    assert int(str(kept)) >= 2 * checkpoint.LONG * rows(path, "PRAGMA page_size")[0][0]
    await outbox.close()


async def test_of_what_is_forgotten_there_is_no_past_but_dead_letters_and_what_is_due(outbox: SqliteOutbox) -> None:
    ids = [event(number).id for number in range(1, 9)]
    await outbox.append(Commit(tuple(map(event, range(1, 9))), tuple(due(n, n % 2) for n in range(1, 9))))
    for lane, state in ((0, State.DEAD), (1, State.DELIVERED), (0, State.DELIVERED), (1, State.DEAD), (1, State.DELIVERED)):
        await outbox.settle(settled(await claimed(outbox, lane, 1), state))
    for forgotten in range(6):
        await in_thread(outbox, partial(_forget_attempt, forgotten))
        traces = {id_: await outbox.trace("1001", id_) for id_ in ids}
        known = {id_: Past(trace[0].state == "due", trace[0].sequence) for id_, trace in traces.items() if trace}
        assert await outbox.past("1001", ENDPOINT, ids) == known
    assert sorted(known) == [ids[1], ids[2], *ids[5:]]


def _forget_attempt(no: int, connection: sqlite3.Connection) -> None:
    connection.execute("DELETE FROM attempt WHERE no = ?", (no,))
