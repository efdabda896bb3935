"""Garbage collections come in the thread that looks, as rarely as ever, and nowhere else."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable, Iterator

import pytest

from gateway.garbage import Collector
from tests.fake import FakeClock

YOUNG, MIDDLE, OLD = 100, 5, 3


REST_S = 0.25


class Later:
    """Keeps what is to be called back, one thing at a time."""

    def __init__(self) -> None:
        self.wait_s = 0.0
        self._then: Callable[[], None] | None = None

    def __call__(self, wait_s: float, then: Callable[[], None]) -> None:
        assert self._then is None, "one look is enough"
        self.wait_s, self._then = wait_s, then

    def come(self) -> None:
        """Call it back."""
        assert self._then is not None
        then, self._then = self._then, None
        then()


class Knot:
    """Garbage that only a collection finds."""

    def __init__(self) -> None:
        self.me = self


class Collections:
    """Of which generation each collection was, and in which thread."""

    def __init__(self) -> None:
        self.generations: list[int] = []
        self.threads: set[int] = set()

    def note(self, phase: str, info: dict[str, int]) -> None:
        if phase == "start":
            self.generations.append(info["generation"])
            self.threads.add(threading.get_ident())


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def later() -> Later:
    return Later()


@pytest.fixture
def collector(clock: FakeClock, later: Later) -> Iterator[Collector]:
    """One that has begun, with small thresholds."""
    before = gc.get_threshold()
    collector = Collector(clock)
    gc.set_threshold(YOUNG, MIDDLE, OLD)
    collector.begin(later, lambda: REST_S)
    try:
        yield collector
    finally:
        collector.end()
        gc.unfreeze()
        gc.set_threshold(*before)


@pytest.fixture
def collections(collector: Collector) -> Iterator[Collections]:
    noted = Collections()
    gc.callbacks.append(noted.note)
    try:
        yield noted
    finally:
        gc.callbacks.remove(noted.note)


def test_another_threads_garbage_is_collected_in_this_one(later: Later, collections: Collections) -> None:
    first = weakref.ref(Knot())

    def litter() -> None:
        for _ in range(10 * YOUNG):
            Knot()

    other = threading.Thread(target=litter)
    other.start()
    other.join()
    assert first() is not None
    later.come()
    assert first() is None
    assert collections.threads == {threading.get_ident()}


def test_nothing_at_all_is_collected_while_held(clock: FakeClock) -> None:
    collector, noted, before = Collector(clock), Collections(), gc.get_threshold()
    gc.set_threshold(YOUNG, MIDDLE, OLD)
    gc.callbacks.append(noted.note)
    collector.hold()
    try:
        kept = [[number] for number in range(10 * YOUNG)]
        assert noted.generations == []
    finally:
        collector.end()
        kept = [[number] for number in range(10 * YOUNG)]
        gc.callbacks.remove(noted.note)
        gc.set_threshold(*before)
    assert len(kept) == 10 * YOUNG
    assert noted.generations, "it is left to the interpreter again"


def test_nothing_is_collected_before_it_is_due(later: Later, collections: Collections) -> None:
    kept = [Knot() for _ in range(YOUNG // 4)]
    later.come()
    assert not collections.generations
    kept += [Knot() for _ in range(YOUNG)]
    later.come()
    assert collections.generations == [0]


def test_who_gets_away_from_the_young_is_found_among_the_older(later: Later, collections: Collections) -> None:
    knot = Knot()
    gone = weakref.ref(knot)
    kept = grow(later, 1)
    del knot
    kept += grow(later, MIDDLE)
    assert gone() is not None
    kept += grow(later, 1)
    assert gone() is None
    assert collections.generations == [0] * (MIDDLE + 1) + [1]


def test_all_is_looked_through_only_when_it_has_grown_by_a_quarter(later: Later, collections: Collections) -> None:
    kept = [Knot() for _ in range(200 * YOUNG)]
    kept += grow(later, (MIDDLE + 2) * (OLD + 2))
    assert 2 in collections.generations
    size = len(gc.get_objects(generation=2))
    collections.generations.clear()
    while 2 not in collections.generations:
        kept += grow(later, 1)
        assert len(gc.get_objects()) < 2 * size
    assert len(gc.get_objects(generation=2)) == pytest.approx(1.25 * size, rel=0.1)
    assert collections.generations.count(1) > OLD + 1, "by their number it would have been due before"


def grow(later: Later, times: int) -> list[Knot]:
    """Have so many collections come due, with objects that stay."""
    kept: list[Knot] = []
    for _ in range(times):
        kept += [Knot() for _ in range(YOUNG + 10 - gc.get_count()[0])]
        later.come()
    return kept


@pytest.mark.usefixtures("collector")
def test_where_much_is_made_it_looks_sooner(clock: FakeClock, later: Later) -> None:
    assert later.wait_s == REST_S
    clock.move(REST_S)
    kept = [Knot() for _ in range(10 * YOUNG)]
    later.come()
    assert REST_S / 13 < later.wait_s <= REST_S / 10, "by then as many as may be will have been made"
    clock.move(later.wait_s)
    kept += [Knot() for _ in range(2 * YOUNG)]
    assert gc.get_count()[0] > YOUNG
    later.come()
    assert gc.get_count()[0] < YOUNG
    clock.move(1e-6)
    kept += [Knot() for _ in range(2 * YOUNG)]
    later.come()
    assert later.wait_s == 0.001


@pytest.mark.usefixtures("collector")
def test_where_little_is_made_nobody_is_woken_for_it(clock: FakeClock, later: Later) -> None:
    kept = []
    for _ in range(20):
        clock.move(REST_S)
        kept.append(Knot())
        later.come()
        assert later.wait_s == REST_S


def test_in_the_end_the_interpreter_sees_to_it_again(collector: Collector, later: Later, collections: Collections) -> None:
    kept = [Knot() for _ in range(2 * YOUNG)]
    assert not collections.generations
    collector.end()
    kept += [Knot() for _ in range(2 * YOUNG)]
    assert collections.generations
    collections.generations.clear()
    gc.disable()
    kept += [Knot() for _ in range(2 * YOUNG)]
    later.come()
    gc.enable()
    assert not collections.generations
