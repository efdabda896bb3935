"""The recorder: nothing recorded is left out, in order, and what is not durable is not said to be."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable

import pytest

from gateway.core.error import RequestError
from gateway.core.lifecycle import LifecycleEvent
from gateway.core.webhook import Endpoint, Router
from gateway.ports import Commit
from gateway.recorder import Recorder
from gateway.telemetry import Telemetry


class GatedOutbox:
    """Keeps commits; a gate holds writes up, `broken` makes them fail, `full` is the outbox's own word."""

    def __init__(self) -> None:
        self.commits: list[Commit] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.broken = False
        self.full = False
        self.tried = asyncio.Event()

    async def append(self, commit: Commit) -> None:
        await self.gate.wait()
        self.tried.set()
        if self.broken:
            raise OSError("no space left")
        self.commits.append(commit)

    def is_full(self, app_id: str) -> bool:
        return self.full


class Bench:
    def __init__(self, capacity: int = 100) -> None:
        self.outbox = GatedOutbox()
        self.woken: list[tuple[str, int]] = []
        endpoint = Endpoint("1001", "backend", "http://127.0.0.1:9/", ("secret",))
        self.recorder = Recorder(
            outbox=self.outbox,  # type: ignore[arg-type]
            router=Router([endpoint], "gw-1", {}),
            telemetry=Telemetry(),
            wake=self.wake,
            capacity=capacity,
        )

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
