from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.core.probation import Probation


def test_who_proves_himself_or_goes_is_off() -> None:
    probation = Probation()
    for number in range(4):
        probation.begin(f"1.{number}", float(number))
    probation.end("1.1")
    probation.end("1.1")
    assert probation.due(4.9, 5.0, 10) == []
    assert probation.due(7.0, 5.0, 10) == ["1.0", "1.2"]
    assert len(probation) == 1
    probation.clear()
    assert probation.due(100.0, 5.0, 10) == []


def test_a_second_beginning_does_not_prolong_it() -> None:
    probation = Probation()
    probation.begin("1.1", 0.0)
    probation.begin("1.1", 4.0)
    assert probation.due(5.0, 5.0, 10) == ["1.1"]


def test_the_first_deadline_is_that_of_who_is_there_longest() -> None:
    probation = Probation()
    assert probation.next_at(5.0) is None
    probation.begin("1.1", 1.0)
    probation.begin("1.2", 2.0)
    assert probation.next_at(5.0) == 6.0
    probation.end("1.1")
    assert probation.next_at(5.0) == 7.0


def test_many_are_taken_a_few_at_a_time() -> None:
    probation = Probation()
    for number in range(5):
        probation.begin(str(number), 0.0)
    assert [probation.due(9.0, 5.0, 2) for _ in range(4)] == [["0", "1"], ["2", "3"], ["4"], []]


@given(st.lists(st.tuples(st.floats(0, 2), st.booleans()), max_size=40), st.floats(0, 10))
def test_exactly_those_who_waited_long_enough_are_due(arrivals: list[tuple[float, bool]], wait_s: float) -> None:
    probation = Probation()
    now, left = 0.0, {}
    for number, (pause, proves) in enumerate(arrivals):
        now += pause
        probation.begin(str(number), now)
        if proves:
            probation.end(str(number))
        else:
            left[str(number)] = now
    now += 5.0
    assert probation.due(now, wait_s, 1000) == [name for name, since in left.items() if since + wait_s <= now]
