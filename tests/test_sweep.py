"""What has piled up is worked off in order and in slices; what fails holds up nobody."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from gateway.sweep import Sweep
from tests.fake import FakeClock


class Bench:
    """A sweep whose steps note their number and take time; `turn` is a turn of the loop."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.soon: list[Callable[[], None]] = []
        self.sweep = Sweep(self.clock, self.soon.append)
        self.done: list[int] = []

    def add(self, number: int, takes_s: float = 0.0) -> None:
        def step() -> None:
            self.clock.move(takes_s)
            self.done.append(number)

        self.sweep.add(step)

    def turn(self) -> list[int]:
        due, self.soon[:] = [*self.soon], []
        before = len(self.done)
        for callback in due:
            callback()
        return self.done[before:]


def test_a_slice_ends_when_it_has_held_the_loop_for_long_enough() -> None:
    bench = Bench()
    for number in range(7):
        bench.add(number, takes_s=0.002)
    assert bench.done == []
    assert [bench.turn() for _ in range(4)] == [[0, 1, 2], [3, 4, 5], [6], []]


def test_one_step_at_least_is_done_in_a_turn() -> None:
    bench = Bench()
    bench.add(0, takes_s=1.0)
    bench.add(1, takes_s=1.0)
    assert [bench.turn() for _ in range(2)] == [[0], [1]]


def test_what_is_added_meanwhile_comes_behind_what_was_there() -> None:
    bench = Bench()
    bench.sweep.add(lambda: bench.add(2))
    bench.add(1)
    assert bench.turn() == [1, 2]
    assert not bench.soon
    bench.add(3)
    assert bench.turn() == [3]


def test_a_step_that_fails_is_logged_and_does_not_keep_the_others_from_being_done(caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench()
    bench.sweep.add(lambda: [][0])
    bench.add(1)
    assert bench.turn() == [1]
    assert "a departure failed" in caplog.text


def test_all_that_is_left_can_be_done_at_once() -> None:
    bench = Bench()
    for number in range(3):
        bench.add(number, takes_s=1.0)
    bench.sweep.finish()
    assert bench.done == [0, 1, 2]
    assert bench.turn() == []
    bench.add(3)
    assert bench.turn() == [3]
