"""Opening the store: what is refused, and how; and the way from version to version."""

# ruff: noqa: ASYNC240 -- a test may wait for a small local file
from __future__ import annotations

import os
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.core.delivery import Claim, Delivery, State
from gateway.core.lifecycle import Span, SpanOpened
from gateway.core.trace import Trace
from gateway.outbox import store
from gateway.outbox.sqlite import SqliteOutbox
from gateway.ports import Backlog, Commit
from tests.conformance.outbox_suite import ENDPOINT, due, event, settled, span
from tests.device.outbox_store import left_by_version_1, make, rows


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "outbox.db"


@pytest.fixture
async def outbox(path: Path) -> AsyncIterator[SqliteOutbox]:
    outbox = make(path)
    await outbox.open()
    yield outbox
    await outbox.close()


# -- what cannot be opened


async def _refusal(outbox: SqliteOutbox, path: Path) -> str:
    with pytest.raises(store.StoreUnusable) as caught:
        await outbox.open()
    assert str(caught.value).startswith(f"{path}: ")
    await outbox.close()
    return str(caught.value)


async def test_a_second_process_is_refused(outbox: SqliteOutbox, path: Path) -> None:
    told = await _refusal(make(path), path)
    assert f"in use by another gateway (process {os.getpid()})" in told
    await outbox.append(Commit(deliveries=(due(1),)))  # the first has not noticed


async def test_a_refusal_holds_no_lock(path: Path) -> None:
    path.write_bytes(b"")
    await _refusal(make(path), path)
    path.unlink()
    outbox = make(path)
    await outbox.open()
    await outbox.close()


@pytest.mark.parametrize("content", [b"", b"This is no database at all." * 500, b"SQLite format 3\0" + b"\xff" * 8_000])
async def test_a_file_that_is_not_a_store_is_refused_and_left_as_it_is(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    assert "is damaged" in await _refusal(make(path), path)
    assert path.read_bytes() == content


async def test_a_store_cut_short_is_refused(path: Path) -> None:
    outbox = make(path)
    await outbox.open()
    await outbox.append(Commit(tuple(event(number) for number in range(500))))
    await outbox.close()
    with path.open("r+b") as file:
        file.truncate(8_192)
    assert "is damaged" in await _refusal(make(path), path)


@pytest.mark.parametrize("entry", ["'[\"spn_1\", 1'", "'[1]'", "CAST(x'5bff5d' AS TEXT)", "'7'"])
async def test_a_store_whose_rows_were_changed_is_refused(path: Path, entry: str) -> None:
    outbox = make(path)
    await outbox.open()
    await outbox.append(Commit((SpanOpened(span("connection", "1.1")),)))
    await outbox.close()
    rows(path, f"UPDATE span SET entry = {entry}")
    assert "is damaged" in await _refusal(make(path), path)


@pytest.mark.parametrize("entry", ["'[\"unfinished'", "CAST(x'5bff5d' AS TEXT)"])
async def test_an_event_that_was_changed_is_trouble_with_the_disk(outbox: SqliteOutbox, path: Path, entry: str) -> None:
    await outbox.append(Commit((event(1),), (due(1),)))
    rows(path, f"UPDATE event SET entry = {entry}")
    with pytest.raises(OSError, match="the file is damaged"):
        await outbox.feed("1001", after=0, limit=9)
    with pytest.raises(OSError, match="the file is damaged"):
        await outbox.find("1001", event(1).id)
    assert await outbox.claim(ENDPOINT, 0, 9) == Claim((due(1),))


async def test_another_database_is_refused(path: Path) -> None:
    rows(path, "CREATE TABLE theirs (a)")
    assert "not one of this gateway" in await _refusal(make(path), path)
    assert rows(path, "SELECT name FROM sqlite_master") == [("theirs",)]


async def test_a_missing_file_whose_log_is_there_is_refused(path: Path) -> None:
    path.with_name("outbox.db-wal").write_bytes(b"x" * 5_000)
    assert "is missing, but its write-ahead log is there" in await _refusal(make(path), path)
    assert not path.exists()


async def test_a_directory_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    path = tmp_path / "file" / "outbox.db"
    assert "make the directory writable" in await _refusal(make(path), path)


async def test_a_later_schema_is_refused(path: Path) -> None:
    outbox = make(path)
    await outbox.open()
    await outbox.close()
    version = len(store.MIGRATIONS)
    rows(path, f"PRAGMA user_version = {version + 1}")
    told = await _refusal(make(path), path)
    assert f"later version of the gateway (schema {version + 1}, this one knows {version})" in told
    assert told.endswith("run that version, or give this one a state directory of its own")
    assert rows(path, "PRAGMA user_version") == [(version + 1,)]


async def test_only_the_owner_may_read_it(outbox: SqliteOutbox, path: Path) -> None:
    await outbox.append(Commit(deliveries=(due(1),)))
    modes = {file.name: file.stat().st_mode & 0o777 for file in path.parent.iterdir()}
    assert modes == {"outbox.db": 0o600, "outbox.db-wal": 0o600, "outbox.db-shm": 0o600, "outbox.db.lock": 0o600}


# -- versions


async def test_a_store_of_version_1_goes_on(path: Path) -> None:
    left_by_version_1(path)
    outbox = make(path)
    recovery = await outbox.open()
    assert dict(recovery.sequences) == {ENDPOINT: 3}
    assert recovery.lanes == {(ENDPOINT, 0)}
    facts = {"n": 1}
    assert recovery.spans == (Span("1001", "member", "presence-a\nu\0", "spn_1", 1_700_000_000_000, facts, 1_700_000_003_000),)
    head = Delivery(ENDPOINT, 2, 0, "evt_000002", "client_event", 1_700_000_000_002, b'{"id":"evt_000002"}')
    assert await outbox.claim(ENDPOINT, 0, 9) == Claim((head,), 4, 1_700_000_100_001, 1_700_000_200_000)
    assert await outbox.backlog(ENDPOINT) == Backlog(2, 1_700_000_000_002)
    (letter,) = await outbox.dead_letters(ENDPOINT)
    assert letter.settlement.outcome is not None
    assert (letter.delivery.event_id, letter.settlement.reason, letter.settlement.outcome.body) == ("evt_000000", "gone", b"\xff")
    await outbox.close()


async def test_what_is_written_is_of_this_version(path: Path) -> None:
    """Whoever changes a form below must add a version: a gateway that does not know the form would misread it."""
    outbox = make(path)
    await outbox.open()
    parent = f"00-{'a' * 32}-{'b' * 16}-01"
    traced = replace(event(1), trace=Trace(parent, "x=y"))
    await outbox.append(Commit((traced, event(2), SpanOpened(span("k"))), (due(1, text="x"), due(2))))
    claim = await outbox.claim(ENDPOINT, 0, 1)
    assert claim is not None
    await outbox.settle(settled(claim, State.DEAD, reason="gone"))
    await outbox.close()
    assert len(store.MIGRATIONS) == 3
    assert rows(path, "SELECT entry, deliveries FROM event ORDER BY no") == [
        (
            '["1001/channel/room-1","room-1","a\\u0000b",{"channel":"room-1","data":"a \\"text\\"\\u0000 é"},'
            f'["{parent}","x=y"]]',
            "[1099511627777]",
        ),
        (
            '["1001/channel/room-2","room-2","a\\u0000b",{"channel":"room-2","data":"a \\"text\\"\\u0000 é"}]',
            "[1099511627778]",
        ),
    ]
    assert rows(path, "SELECT app, kind, key, entry FROM span") == [
        (
            "1001",
            "connection",
            '["k"]',
            '["spn_k",1700000000123,{"ip":"::1","n":3,"x":1.5,"no":null,"yes":true,"list":["é",{}]}]',
        )
    ]
    written = (
        '["req_evt_000001",1,1,1,1,1700000100001,1700000100001,"dead",0,"gone",["answered",12.5,500,30.0,"ÿ\\u0000 oops",""]]'
    )
    assert rows(path, "SELECT settlement FROM attempt UNION SELECT settlement FROM dead_request") == [(written,)]
    assert rows(path, "SELECT envelope FROM dead_letter") == [(b'{"id":"evt_000001","data":{"text":"x", "n":1.0}}',)]


async def test_a_gateway_that_knows_no_traces_refuses_a_store_that_may_hold_some(path: Path) -> None:
    outbox = make(path)
    await outbox.open()
    await outbox.close()
    with pytest.raises(store.StoreUnusable, match="schema 3, this one knows 2"):
        store.prepare(path, store.MIGRATIONS[:2])


async def test_migrations_run_once_each_and_whole_or_not_at_all(path: Path) -> None:
    left_by_version_1(path)
    further = (*store.MIGRATIONS[:1], "ALTER TABLE event ADD COLUMN note TEXT; UPDATE event SET note = 'x' || no;")
    broken = (*further, "CREATE TABLE half (a); INSERT INTO nowhere VALUES (1);")
    with pytest.raises(store.StoreUnusable):
        store.prepare(path, broken)
    assert rows(path, "PRAGMA user_version") == [(2,)]
    assert rows(path, "SELECT name FROM sqlite_master WHERE name = 'half'") == []
    store.prepare(path, further)
    assert rows(path, "SELECT note FROM event") == [("x1",), ("x2",), ("x3",)]
    with pytest.raises(store.StoreUnusable, match="later version"):
        store.prepare(path, store.MIGRATIONS[:1])
