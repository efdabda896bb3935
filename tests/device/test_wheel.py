"""The timing wheel, against a list of deadlines."""

from __future__ import annotations

from sys import getsizeof

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.transport.wheel import OFF, Wheel


class Rider:
    def __init__(self) -> None:
        self.spoke = OFF

    def due(self) -> None:
        raise AssertionError("the wheel itself calls nobody")

    abort = due


def due_in(wheel: Wheel, beats: int) -> list[list[object]]:
    """Return who is due in each of the next beats."""
    taken: list[list[object]] = []
    for _ in range(beats):
        wheel.advance()
        taken.append(list(wheel.take(1000)))
    return taken


def test_a_rider_is_due_once_and_in_its_beat() -> None:
    wheel, rider = Wheel(5), Rider()
    wheel.put(rider, 3)
    assert due_in(wheel, 10) == [[], [], [rider]] + [[]] * 7
    assert rider.spoke == OFF
    assert not wheel


@pytest.mark.parametrize("beats", [1, 5])
def test_the_nearest_and_the_farthest_beat(beats: int) -> None:
    wheel, rider = Wheel(5), Rider()
    due_in(wheel, 4)
    wheel.put(rider, beats)
    assert due_in(wheel, beats)[-1] == [rider]


@pytest.mark.parametrize("beats", [0, -1, 6])
def test_what_does_not_fit_is_refused_and_changes_nothing(beats: int) -> None:
    wheel, rider = Wheel(5), Rider()
    wheel.put(rider, 2)
    with pytest.raises(ValueError, match="do not fit"):
        wheel.put(rider, beats)
    assert due_in(wheel, 2) == [[], [rider]]


def test_a_crowd_that_has_gone_leaves_no_room_taken() -> None:
    wheel = Wheel(5)
    crowd = [Rider() for _ in range(1000)]
    sizes = [getsizeof(spoke) for spoke in wheel._spokes]
    for rider in crowd:
        wheel.put(rider, 1)
        wheel.put(rider, 4)
    for rider in crowd:
        wheel.remove(rider)
    assert [getsizeof(spoke) for spoke in wheel._spokes] == sizes


def test_putting_again_moves() -> None:
    wheel, rider = Wheel(5), Rider()
    wheel.put(rider, 1)
    wheel.put(rider, 4)
    assert len(wheel) == 1
    assert due_in(wheel, 5) == [[], [], [], [rider], []]


def test_removing_is_harmless_for_those_who_are_not_on() -> None:
    wheel, rider = Wheel(5), Rider()
    wheel.remove(rider)
    wheel.put(rider, 1)
    wheel.remove(rider)
    wheel.remove(rider)
    assert due_in(wheel, 6) == [[]] * 6


def test_what_is_not_taken_stays_due_and_comes_first() -> None:
    wheel, riders = Wheel(5), [Rider() for _ in range(5)]
    for rider in riders[:4]:
        wheel.put(rider, 1)
    wheel.put(riders[4], 2)
    wheel.advance()
    assert wheel.take(3) == riders[:3]
    wheel.advance()
    wheel.remove(riders[3])
    wheel.put(riders[3], 1)
    assert wheel.take(3) == [riders[4]]
    wheel.advance()
    assert wheel.take(3) == [riders[3]]


def test_everybody_is_found_on_it() -> None:
    wheel, riders = Wheel(5), [Rider() for _ in range(4)]
    for beats, rider in enumerate(riders, start=1):
        wheel.put(rider, beats)
    assert set(wheel) == set(riders)
    assert len(wheel) == 4


@given(st.lists(st.tuples(st.integers(0, 5), st.one_of(st.none(), st.integers(1, 7)), st.integers(0, 3))))
def test_it_does_what_a_list_of_deadlines_would(steps: list[tuple[int, int | None, int]]) -> None:
    wheel, riders = Wheel(7), [Rider() for _ in range(6)]
    now, deadlines = 0, dict[Rider, int]()
    for which, beats, passing in steps:
        if beats is None:
            wheel.remove(riders[which])
            deadlines.pop(riders[which], None)
        else:
            wheel.put(riders[which], beats)
            deadlines[riders[which]] = now + beats
        for _ in range(passing):
            now += 1
            wheel.advance()
            expected = {rider for rider, deadline in deadlines.items() if deadline == now}
            assert set(wheel.take(100)) == expected
            for rider in expected:
                del deadlines[rider]
        assert len(wheel) == len(deadlines)
