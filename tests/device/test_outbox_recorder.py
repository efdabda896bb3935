"""The recorder and the durable outbox together, while the disk is locked, full or slow: nothing is lost, and it shows."""

from __future__ import annotations

import asyncio
import gc
import os
import sqlite3
import subprocess
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import orjson
import pytest

from gateway.core.error import RequestError
from gateway.core.ident import Ids
from gateway.core.lifecycle import LifecycleEvent, Span, SpanClosed, SpanOpened
from gateway.core.webhook import Endpoint, Router
from gateway.outbox.memory import MemoryOutbox
from gateway.outbox.sqlite import SqliteOutbox
from gateway.recorder import Recorder
from gateway.telemetry import Telemetry
from tests.conformance.outbox_suite import sequences
from tests.device.outbox_store import NOW_MS, in_thread, make, rows, until
from tests.fake import FakeClock
from tests.machine import Machine

KEY = "1001/backend"


def recorder_for(outbox: SqliteOutbox | MemoryOutbox, **changes: object) -> Recorder:
    """Return a recorder with one endpoint that has one lane and wants everything."""
    endpoint = Endpoint("1001", "backend", "http://127.0.0.1:9/", ("secret",), concurrency=1)
    settings: dict[str, object] = {"capacity": 1_000, **changes}
    return Recorder(
        outbox=outbox,
        router=Router([endpoint], "gw-1", {}),
        telemetry=Telemetry(),
        wake=lambda lanes: None,
        ids=Ids(1),
        clock=FakeClock(epoch_ms=NOW_MS),
        **settings,  # type: ignore[arg-type]
    )


@asynccontextmanager
async def recording(outbox: SqliteOutbox, **changes: object) -> AsyncIterator[Recorder]:
    await outbox.open()
    await until(lambda: outbox._writer._housekeeping_at > 0.0)  # from now on it writes nothing by itself
    recorder = recorder_for(outbox, **changes)
    await recorder.start()
    yield recorder
    await recorder.stop(20)
    await outbox.close()


def opened(number: int, size: int = 20) -> list[LifecycleEvent | SpanOpened | SpanClosed]:
    """Return what a connection that opens writes; the third one before it closes, so that few are open."""
    data = {"socket_id": f"1.{number}", "filler": "x" * size}
    event = LifecycleEvent(f"evt_{number:06}", "connection.opened", "1001", NOW_MS, f"1001/connection/1.{number}", data)
    span = SpanOpened(Span("1001", "connection", f"1.{number}", f"spn_{number}", NOW_MS))
    return [event, span, SpanClosed("1001", "connection", f"1.{number - 3}")]


async def assert_everything_is_there(outbox: SqliteOutbox, path: Path, count: int) -> None:
    """Each event once, in order, with gapless sequences, and the spans that go with them."""
    expected = list(range(1, count + 1))
    assert [int(text[4:]) for (text,) in rows(path, "SELECT id FROM event ORDER BY no")] == expected
    assert sequences(await outbox.claim(KEY, 0, 10 * count)) == expected
    snapshot = await outbox.snapshot("1001")
    assert {span.key for span in snapshot.spans} == {f"1.{number}" for number in expected[-3:]}


class Stalls:
    """How long the event loop has not turned though it could have, between `begin` and `end`."""

    def begin(self) -> None:
        self._turns_s: list[float] = []
        self._machine = Machine(os.getpid())
        self._machine.begin()
        gc.freeze()  # what other tests have left is not this one's to be collected
        self._task = asyncio.ensure_future(self._watch())

    async def _watch(self) -> None:
        before = self._machine.time()
        while True:
            await asyncio.sleep(0.001)
            now = self._machine.time()
            self._turns_s.append(now - before)
            before = now

    def end(self) -> list[float]:
        """Return the length of each turn, the longest first."""
        self._task.cancel()
        self._machine.end()
        gc.unfreeze()
        return sorted(self._turns_s, reverse=True)


async def test_a_writer_blocked_for_seconds_stalls_nobody_and_loses_nothing(tmp_path: Path) -> None:
    path = tmp_path / "outbox.db"
    outbox = make(path, busy_timeout_s=60.0)
    async with recording(outbox, capacity=3_000) as recorder:
        foreign = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        foreign.execute("BEGIN EXCLUSIVE")
        begun = time.monotonic()
        threading.Timer(3.0, foreign.execute, ["COMMIT"]).start()
        stalls = Stalls()
        stalls.begin()
        number = 0
        was_full = False
        while foreign.in_transaction:
            if number < 2_000:
                for _ in range(20):
                    number += 1
                    recorder.record(opened(number))
            was_full = was_full or recorder.is_full("1001")
            await asyncio.sleep(0.005)
        assert time.monotonic() - begun >= 3.0
        assert number == 2_000
        assert was_full  # 6000 records are more than its capacity
        await recorder.committed()
        worst = stalls.end()
        assert worst[len(worst) // 100] < 0.05
        assert worst[0] < 0.5  # a machine shared with others stands still for a moment now and then, but not for seconds
        assert not recorder.is_full("1001")
        foreign.close()
        await assert_everything_is_there(outbox, path, 2_000)


async def test_a_writer_that_hangs_closes_admission_and_answers_those_who_wait(tmp_path: Path) -> None:
    path = tmp_path / "outbox.db"
    outbox = make(path, busy_timeout_s=60.0)
    async with recording(outbox, patience_s=0.2) as recorder:
        foreign = sqlite3.connect(path, isolation_level=None)
        foreign.execute("BEGIN EXCLUSIVE")
        recorder.record(opened(1))
        with pytest.raises(RequestError) as caught:
            await recorder.committed()
        assert caught.value.status == 503
        assert recorder.is_failing  # which is what readiness asks
        assert recorder.is_full("1001")
        recorder.record(opened(2))  # what cannot be refused is kept
        foreign.execute("COMMIT")
        foreign.close()
        await until(lambda: recorder.queued == 0)
        assert not recorder.is_failing
        await recorder.committed()
        await assert_everything_is_there(outbox, path, 2)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path | None]:
    """A file system of 2 MB, or None where mounting needs privileges."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(place)]
    try:
        mounted = subprocess.run(mount, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        mounted = False
    yield place if mounted else None
    if mounted:
        subprocess.run(["umount", str(place)], check=True)


async def test_a_full_disk_shows_and_when_there_is_room_everything_is_there(small_disk: Path | None, tmp_path: Path) -> None:
    path = (small_disk or tmp_path) / "outbox.db"
    outbox = make(path)
    async with recording(outbox) as recorder:
        make_room = await _fill(outbox, small_disk)
        number = 0
        while not recorder.is_failing:
            number += 1
            recorder.record(opened(number, size=5_000))
            await asyncio.wait([recorder.committed()])
        assert recorder.is_full("1001")
        for _ in range(20):  # disconnects go on
            number += 1
            recorder.record(opened(number, size=5_000))
        await make_room()
        await until(lambda: recorder.queued == 0)
        assert not recorder.is_failing
        await until(lambda: not recorder.is_full("1001"))
        await assert_everything_is_there(outbox, path, number)


async def _fill(outbox: SqliteOutbox, small_disk: Path | None) -> Callable[[], Awaitable[object]]:
    """Leave room for a few events only, and return what makes room again."""
    if small_disk is not None:
        ballast = small_disk / "ballast"
        ballast.write_bytes(b"x" * 1_200_000)
        return lambda: asyncio.to_thread(ballast.unlink)

    def limit(connection: sqlite3.Connection) -> None:
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        connection.execute(f"PRAGMA max_page_count = {pages + 40}")

    await in_thread(outbox, limit)
    return lambda: in_thread(outbox, lambda connection: connection.execute("PRAGMA max_page_count = 1000000"))


async def test_a_store_that_turned_read_only_shows_and_goes_on_when_it_is_writable_again(tmp_path: Path) -> None:
    path = tmp_path / "outbox.db"
    outbox = make(path)
    async with recording(outbox) as recorder:
        await in_thread(outbox, lambda connection: connection.execute("PRAGMA query_only = ON"))
        recorder.record(opened(1))
        with pytest.raises(RequestError):
            await recorder.committed()
        recorder.record(opened(2))
        await until(lambda: recorder.queued == 0)  # the outbox opens the file anew
        assert not recorder.is_failing
        await assert_everything_is_there(outbox, path, 2)


async def test_an_overflow_in_memory_is_told_to_the_endpoint_and_the_gap_is_what_it_says() -> None:
    recorder: Recorder | None = None

    def dropped(*loss: object) -> None:
        assert recorder is not None
        recorder.dropped(*loss)  # type: ignore[arg-type]

    outbox = MemoryOutbox(capacity=100, dropped=dropped)
    recorder = recorder_for(outbox)
    await recorder.start()
    for number in range(1, 1_001):
        recorder.record([opened(number)[0]])  # type: ignore[list-item]
    await until(lambda: recorder.queued == 0)
    assert await recorder.stop(5) == 0
    claim = await outbox.claim(KEY, 0, 10_000)
    assert claim is not None
    kept = {delivery.sequence for delivery in claim.deliveries}
    page = await outbox.feed("1001", after=0, limit=10_000, kinds=frozenset({"webhook.events_dropped"}))
    told = [entry.event.data for entry in page.entries]
    missing: set[int] = set()
    for one in told:
        missing |= set(range(one["first_sequence"], one["last_sequence"] + 1))  # type: ignore[arg-type, operator]
    assert told
    assert kept | missing == set(range(1, 1_001 + len(told)))
    assert not kept & missing
    assert sum(recorder.dropped_deliveries.values()) == len(missing)
    assert claim.deliveries[-1].kind == "webhook.events_dropped"


async def test_what_is_lost_again_and_again_is_told_whole_by_what_is_left_of_the_telling() -> None:
    recorder: Recorder | None = None

    def dropped(*loss: object) -> None:
        assert recorder is not None
        recorder.dropped(*loss)  # type: ignore[arg-type]

    outbox = MemoryOutbox(capacity=20, dropped=dropped)
    recorder = recorder_for(outbox)
    await recorder.start()
    for number in range(1, 1_001):
        recorder.record([opened(number)[0]])  # type: ignore[list-item]
        await recorder.written()
    assert await recorder.stop(5) == 0
    claim = await outbox.claim(KEY, 0, 10_000)
    assert claim is not None
    kept = {delivery.sequence for delivery in claim.deliveries}
    told = [orjson.loads(one.envelope)["data"] for one in claim.deliveries if one.kind == "webhook.events_dropped"]
    missing = set(range(1, max(kept) + 1)) - kept
    assert sum(one["count"] for one in told) == len(missing) == sum(recorder.dropped_deliveries.values())
    assert missing <= {number for one in told for number in range(one["first_sequence"], one["last_sequence"] + 1)}
