"""The recorder: nothing recorded is left out, in order, and what is not durable is not said to be."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence

import pytest

from gateway.core.error import RequestError
from gateway.core.ident import Ids
from gateway.core.lifecycle import LifecycleEvent, Record, Span, SpanClosed, SpanOpened
from gateway.core.webhook import Endpoint, Router
from gateway.ports import Commit
from gateway.recorder import Recorder
from gateway.telemetry import Telemetry
from tests.fake import FakeClock
from tests.patience import LONG_S


class GatedOutbox:
    """Keeps commits; a gate holds writes up, `broken` makes them fail, `full` is the outbox's own word."""

    def __init__(self) -> None:
        self.commits: list[Commit] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.broken = False
        self.unwritable = ""
        self.full = False
        self.tried = asyncio.Event()

    async def append(self, commit: Commit) -> None:
        await self.gate.wait()
        self.tried.set()
        if self.broken:
            raise OSError("no space left")
        if self.unwritable in [record.id for record in commit.records if isinstance(record, LifecycleEvent)]:
            raise TypeError("this is not JSON")
        self.commits.append(commit)

    def is_full(self, app_id: str) -> bool:
        return self.full


class Bench:
    def __init__(self, capacity: int = 100, patience_s: float = 60.0) -> None:
        self.outbox = GatedOutbox()
        self.clock = FakeClock()
        self.woken: list[tuple[str, int]] = []
        self.announced: list[str] = []
        endpoint = Endpoint("1001", "backend", "http://127.0.0.1:9/", ("secret",))
        self.recorder = Recorder(
            outbox=self.outbox,  # type: ignore[arg-type]
            router=Router([endpoint], "gw-1", {}),
            telemetry=Telemetry(),
            wake=self.wake,
            capacity=capacity,
            ids=Ids(8),
            clock=self.clock,
            patience_s=patience_s,
            announce=self.announce,
        )

    def announce(self, records: Sequence[Record]) -> None:
        self.announced += [record.id for record in records if isinstance(record, LifecycleEvent)]

    def wake(self, lanes: Iterable[tuple[str, int]]) -> None:
        self.woken += lanes

    def written(self) -> list[str]:
        return [record.id for commit in self.outbox.commits for record in commit.records if isinstance(record, LifecycleEvent)]

    def sequences(self) -> list[int]:
        return [delivery.sequence for commit in self.outbox.commits for delivery in commit.deliveries]


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    bench = Bench()
    await bench.recorder.start()
    yield bench
    bench.outbox.broken = False
    bench.outbox.gate.set()
    await bench.recorder.stop(1)


def event(number: int) -> LifecycleEvent:
    return LifecycleEvent(
        f"evt_{number:06d}", "channel.occupied", "1001", 1_754_300_000_000, "1001/channel/c", {"channel": "c"}, channel="c"
    )


async def test_what_is_recorded_is_written_in_order_and_then_the_lanes_are_woken(bench: Bench) -> None:
    for number in range(1200):
        bench.recorder.record([event(number)])
    assert not bench.woken
    await bench.recorder.committed()
    assert bench.written() == [f"evt_{number:06d}" for number in range(1200)]
    assert bench.sequences() == list(range(1, 1201))
    assert {endpoint for endpoint, _ in bench.woken} == {"1001/backend"}
    assert len(bench.outbox.commits) < 10, "one transaction takes many"


def opened(number: int) -> Sequence[Record]:
    return [event(number), SpanOpened(Span("1001", "connection", f"{number}.1", f"spn_{number}", 0))]


async def test_an_event_and_what_it_opens_are_one_transaction_wherever_the_queue_is_cut(bench: Bench) -> None:
    bench.recorder.record([event(0)])
    for number in range(1, 5000):
        bench.recorder.record(opened(number))
    await bench.recorder.written()
    assert len(bench.outbox.commits) > 1
    assert {type(commit.records[0]) for commit in bench.outbox.commits} == {LifecycleEvent}, "its event is in another one"
    assert bench.written() == [f"evt_{number:06d}" for number in range(5000)]


async def test_a_mass_of_spans_without_events_is_not_one_transaction(bench: Bench) -> None:
    bench.recorder.record([event(0), *(SpanClosed("1001", "connection", f"{number}.1") for number in range(5000))])
    await bench.recorder.written()
    assert max(len(commit.records) for commit in bench.outbox.commits) < 3000


@pytest.mark.parametrize("at_fault", range(1, 9))
async def test_an_event_that_cannot_be_written_takes_along_what_it_opens_and_nothing_else(bench: Bench, at_fault: int) -> None:
    bench.outbox.unwritable = f"evt_{at_fault:06d}"
    for number in range(1, 9):
        bench.recorder.record(opened(number))
    await bench.recorder.written()
    kept = [number for number in range(1, 9) if number != at_fault]
    records = [record for commit in bench.outbox.commits for record in commit.records]
    assert records == [record for number in kept for record in opened(number)]
    assert {type(commit.records[0]) for commit in bench.outbox.commits} == {LifecycleEvent}


async def test_a_listener_that_fails_does_not_end_the_writing(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: object) -> None:
        raise RuntimeError("a listener's mistake")

    monkeypatch.setattr(bench.recorder, "_wake", fail)
    monkeypatch.setattr(bench.recorder, "_announce", fail)
    bench.recorder.record([event(1)])
    await bench.recorder.committed()
    bench.recorder.record([event(2)])
    await asyncio.wait_for(bench.recorder.committed(), LONG_S)
    assert bench.written() == ["evt_000001", "evt_000002"]


async def test_committed_waits_for_the_write(bench: Bench) -> None:
    bench.outbox.gate.clear()
    bench.recorder.record([event(1)])
    waiting = bench.recorder.committed()
    await asyncio.sleep(0)
    assert not waiting.done()
    assert bench.recorder.queued == 1
    bench.outbox.gate.set()
    await waiting
    assert bench.recorder.queued == 0
    assert bench.recorder.committed().done()


async def test_a_queue_that_is_full_says_so_but_takes_what_has_happened(bench: Bench) -> None:
    bench.outbox.gate.clear()
    bench.recorder.record([event(0)])
    await asyncio.sleep(0)
    bench.recorder.record([event(number) for number in range(1, 101)])
    assert bench.recorder.is_full("1001")
    bench.recorder.record([event(101)])
    bench.outbox.gate.set()
    await bench.recorder.committed()
    assert not bench.recorder.is_full("1001")
    assert len(bench.written()) == 102


async def test_a_full_outbox_bars_new_work(bench: Bench) -> None:
    assert not bench.recorder.is_full("1001")
    bench.outbox.full = True
    assert bench.recorder.is_full("1001")


async def test_a_write_that_fails_is_told_and_tried_until_it_succeeds(bench: Bench) -> None:
    bench.outbox.broken = True
    bench.recorder.record([event(1)])
    with pytest.raises(RequestError) as caught:
        await bench.recorder.committed()
    assert caught.value.status == 503
    assert bench.recorder.is_full("1001")
    bench.recorder.record([event(2)])
    bench.outbox.broken = False
    await bench.recorder.committed()
    assert bench.written() == ["evt_000001", "evt_000002"]
    assert bench.sequences() == [1, 2], "a failed write neither skips nor repeats a sequence"
    assert not bench.recorder.is_full("1001")


async def test_stop_writes_what_is_queued_and_tells_what_it_could_not(bench: Bench) -> None:
    bench.recorder.record([event(1)])
    assert await bench.recorder.stop(1) == 0
    assert bench.written() == ["evt_000001"]
    stuck = Bench()
    await stuck.recorder.start()
    stuck.outbox.gate.clear()
    stuck.recorder.record([event(1), event(2)])
    assert await stuck.recorder.stop(0.01) == 2


async def test_who_waits_for_a_write_that_hangs_is_told_and_new_work_is_refused_until_it_is_written() -> None:
    bench = Bench(patience_s=0.01)
    await bench.recorder.start()
    bench.outbox.gate.clear()
    bench.recorder.record([event(1)])
    with pytest.raises(RequestError) as caught:
        await bench.recorder.committed()
    assert caught.value.status == 503
    assert bench.recorder.is_full("1001")
    with pytest.raises(RequestError):
        await bench.recorder.committed()  # later ones too, as long as it lasts
    bench.outbox.gate.set()
    assert await bench.recorder.stop(5) == 0
    assert bench.written() == ["evt_000001"]
    assert not bench.recorder.is_failing


async def test_whoever_waits_however_long_it_takes_is_told_only_that_nothing_goes_on() -> None:
    bench = Bench(patience_s=0.5)
    await bench.recorder.start()
    slow, turns = bench.outbox.append, 0

    async def append(commit: Commit) -> None:
        nonlocal turns
        turns += 1
        await asyncio.sleep(0.12)
        await slow(commit)

    bench.outbox.append = append  # type: ignore[method-assign]
    bench.recorder.record([event(number) for number in range(12_000)])
    await bench.recorder.written()
    assert turns * 0.12 > 0.5, "it took longer than the patience"
    assert bench.recorder.queued == 0
    bench.outbox.gate.clear()
    bench.recorder.record([event(12_000)])
    with pytest.raises(OSError, match="does not answer"):
        await bench.recorder.written()
    bench.outbox.gate.set()
    await bench.recorder.written()
    bench.outbox.broken = True
    bench.recorder.record([event(12_001)])
    with pytest.raises(OSError, match="no space left"):
        await bench.recorder.written()
    bench.outbox.broken = False
    assert await bench.recorder.stop(5) == 0


async def test_a_record_that_cannot_be_written_is_left_out_alone(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    bench.outbox.unwritable = "evt_000005"
    bench.recorder.record([event(number) for number in range(1, 9)])
    with pytest.raises(RequestError):
        await bench.recorder.committed()  # whose record it is cannot be known, so nobody is told that his is durable
    bench.recorder.record([event(9)])
    await bench.recorder.committed()
    assert bench.written() == [f"evt_{number:06d}" for number in (1, 2, 3, 4, 6, 7, 8, 9)]
    assert bench.sequences() == [1, 2, 3, 4, 6, 7, 8, 9], "its receiver sees the gap"
    assert not bench.recorder.is_failing
    assert "evt_000005" in caplog.text


async def test_stop_waits_for_a_disk_that_comes_back(bench: Bench) -> None:
    bench.outbox.broken = True
    bench.recorder.record([event(1)])
    stopping = asyncio.ensure_future(bench.recorder.stop(10))
    await bench.outbox.tried.wait()
    bench.outbox.broken = False
    assert await stopping == 0
    assert bench.written() == ["evt_000001"]


async def test_what_was_dropped_is_told_to_that_endpoint_alone(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    others = [Endpoint("1001", name, "http://127.0.0.1:9/", ("s",)) for name in ("backend", "audit")]
    bench.recorder.router = Router(others, "gw-1", {})
    bench.recorder.dropped("1001/backend", 12, 3, 40)
    bench.recorder.dropped("1001/gone", 1, 1, 1)
    await bench.recorder.committed()
    assert bench.recorder.dropped_deliveries == {"1001/backend": 12, "1001/gone": 1}
    told, about_gone = [record for commit in bench.outbox.commits for record in commit.records]
    assert isinstance(told, LifecycleEvent)
    assert (told.kind, told.subject) == ("webhook.events_dropped", "1001/endpoint/backend")
    assert told.data == {"endpoint": "backend", "count": 12, "first_sequence": 3, "last_sequence": 40}
    assert told.at_ms == bench.clock.epoch_ms()
    (delivery,) = [delivery for commit in bench.outbox.commits for delivery in commit.deliveries]
    assert (delivery.endpoint, delivery.event_id, delivery.sequence) == ("1001/backend", told.id, 1)
    assert isinstance(about_gone, LifecycleEvent)
    errors = [record for record in caplog.records if record.levelname == "ERROR"]
    assert len(errors) == 2


async def test_what_is_durable_is_announced_in_order_and_what_is_not_is_not() -> None:
    bench = Bench()
    await bench.recorder.start()
    bench.recorder.record([event(1), event(2)])
    await bench.recorder.committed()
    assert bench.announced == bench.written() == ["evt_000001", "evt_000002"]
    bench.outbox.tried.clear()
    bench.outbox.broken = True
    bench.recorder.record([event(3)])
    await bench.outbox.tried.wait()
    assert await bench.recorder.stop(0.01) == 1
    assert bench.announced == ["evt_000001", "evt_000002"]
