"""When a channel's number of subscribers is told."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.tally import FEW, PACE_S, Tally, is_counted


@pytest.mark.parametrize("channel", ["orders", "private-a", "private-encrypted-a", "cache-a", "private-cache-a", "presence"])
def test_all_kinds_are_counted(channel: str) -> None:
    assert is_counted(channel)


@pytest.mark.parametrize("channel", ["presence-a", "presence-cache-a", "#server-to-user-u"])
def test_but_those_that_tell_their_members_and_those_of_users(channel: str) -> None:
    assert not is_counted(channel)


def test_few_are_told_of_every_change() -> None:
    tally = Tally()
    assert all(tally.changed("a", subscribers, 0.0) for subscribers in (1, 2, FEW, FEW - 1, 0))
    assert list(tally.due(PACE_S)) == []


def test_many_are_told_at_intervals_with_the_latest_number() -> None:
    tally = Tally()
    assert tally.changed("a", FEW + 1, 0.0)
    assert not tally.changed("a", FEW + 2, 0.0)
    assert not tally.changed("a", FEW + 3, PACE_S - 0.001)
    assert list(tally.due(PACE_S - 0.001)) == []
    assert list(tally.due(PACE_S)) == [("a", FEW + 3)]
    assert not tally.changed("a", FEW + 4, PACE_S + 1.0), "the interval began anew"
    assert list(tally.due(2 * PACE_S)) == [("a", FEW + 4)]
    assert list(tally.due(3 * PACE_S)) == []
    assert tally.changed("a", FEW + 5, 3 * PACE_S), "nothing was told for a whole interval"


def test_there_is_something_to_look_at_only_while_a_number_has_to_wait() -> None:
    tally = Tally()
    tally.changed("a", FEW + 1, 0.0)
    tally.changed("b", FEW + 1, 1.0)
    assert tally.next_at() is None
    tally.changed("b", FEW + 2, 2.0)
    assert tally.next_at() == PACE_S, "the first interval to look at, which is not the one that matters"
    assert list(tally.due(PACE_S)) == []
    assert tally.next_at() == 1.0 + PACE_S
    assert list(tally.due(1.0 + PACE_S)) == [("b", FEW + 2)]
    assert tally.next_at() is None


def test_who_falls_to_few_is_told_at_once_and_owes_nothing() -> None:
    tally = Tally()
    tally.changed("a", FEW + 1, 0.0)
    tally.changed("a", FEW + 2, 0.0)
    assert tally.changed("a", FEW, 0.0)
    assert list(tally.due(PACE_S)) == []


def test_a_change_after_the_interval_need_not_wait_for_a_tick() -> None:
    tally = Tally()
    tally.changed("a", FEW + 1, 0.0)
    tally.changed("a", FEW + 2, 1.0)
    assert tally.changed("a", FEW + 3, PACE_S)
    assert list(tally.due(2 * PACE_S)) == [], "the older number is not told after the newer one"


changes = st.lists(
    st.tuples(st.sampled_from("ab"), st.integers(FEW - 2, FEW + 3), st.integers(0, 12).map(lambda n: n / 4)), max_size=60
)


@given(changes)
def test_whatever_happens_the_last_number_is_told_and_many_never_too_often(steps: list[tuple[str, int, float]]) -> None:
    tally = Tally()
    told: dict[str, list[tuple[float, int]]] = {"a": [], "b": []}
    last: dict[str, int] = {}
    now = 0.0
    for channel, subscribers, passed in steps:
        now += passed
        for name, number in tally.due(now):
            told[name].append((now, number))
        last[channel] = subscribers
        if tally.changed(channel, subscribers, now):
            told[channel].append((now, subscribers))
    for name, number in tally.due(now + PACE_S):
        told[name].append((now + PACE_S, number))
    for channel, subscribers in last.items():
        assert told[channel][-1][1] == subscribers
        for (before_at, before), (at, number) in zip(told[channel], told[channel][1:], strict=False):
            if before > FEW and number > FEW:
                assert at - before_at >= PACE_S
    assert list(tally.due(now + 3 * PACE_S)) == []
