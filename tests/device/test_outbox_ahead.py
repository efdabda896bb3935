"""What is next in a lane and in memory: never less than the truth, never twice."""

from __future__ import annotations

from gateway.core.delivery import Delivery
from gateway.outbox.ahead import Ahead
from gateway.outbox.books import Lane

NAME = ("a/hooks", 0)


def due(*sequences: int) -> list[Delivery]:
    return [Delivery("a/hooks", number, 0, f"evt_{number}", "message.published", 1, b"{}") for number in sequences]


def lane(tail: int, cursor: int = 0, pinned: int = 0) -> Lane:
    return Lane(1, *NAME, tail, cursor, pinned)


def test_what_is_durable_but_not_told_yet_is_left_to_the_next_head() -> None:
    ahead = Ahead()
    ahead.appended(due(1, 2), {NAME: lane(2)})
    # the writer's thread has written 3 and 4
    assert ahead.head(lane(4), 4, 100, is_bound=False) == tuple(due(1, 2))
    ahead.appended(due(3, 4), {NAME: lane(4)})
    assert ahead.head(lane(4, cursor=2), 4, 100, is_bound=False) == tuple(due(3, 4))


def test_a_head_with_a_history_is_whole_or_not_at_all() -> None:
    ahead = Ahead()
    ahead.appended(due(1, 2), {NAME: lane(2)})
    assert ahead.head(lane(4, pinned=3), 3, 100, is_bound=True) is None
    ahead.appended(due(3, 4), {NAME: lane(4)})
    assert ahead.head(lane(4, pinned=3), 3, 100, is_bound=True) == tuple(due(1, 2, 3))


def test_what_was_read_before_it_was_told_is_not_there_twice() -> None:
    ahead = Ahead()
    ahead.appended(due(1), {NAME: lane(1)})
    assert ahead.head(lane(4, cursor=1), 4, 100, is_bound=False) is None
    ahead.read(lane(4, cursor=1), due(2, 3, 4))
    ahead.appended(due(2, 3, 4), {NAME: lane(4, cursor=1)})
    assert ahead.head(lane(4, cursor=1, pinned=3), 3, 100, is_bound=True) == tuple(due(2, 3))
    ahead.appended(due(5), {NAME: lane(5, cursor=1)})
    assert ahead.head(lane(5, cursor=1), 5, 100, is_bound=False) == tuple(due(2, 3, 4, 5))


def test_of_an_endpoint_that_was_given_up_nothing_is_held() -> None:
    ahead = Ahead()
    ahead.appended(due(1, 2, 3), {NAME: lane(3)})
    ahead.settled("a/other", {NAME: lane(3, cursor=3)})
    assert ahead._size == 6
    ahead.settled("a/hooks", {NAME: lane(3, cursor=2)})
    assert ahead._size == 2
    assert ahead.head(lane(3, cursor=2), 3, 100, is_bound=False) == tuple(due(3))
    ahead.settled("a/hooks", {NAME: lane(3, cursor=3)})
    assert ahead._size == 0
    ahead.appended(due(4), {NAME: lane(4, cursor=3)})
    assert ahead.head(lane(4, cursor=3), 4, 100, is_bound=False) == tuple(due(4))
