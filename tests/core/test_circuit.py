from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.circuit import WITNESSES, Circuit
from gateway.core.delivery import REPLAY_LANE
from gateway.core.retry import RetryPolicy

POLICY = RetryPolicy(initial_s=1.0, factor=2.0, max_delay_s=900.0)
ALL = range(16)


def opened(lanes: int = 16) -> Circuit:
    """A circuit that all lanes have just made open, at time 0; the first probe is due at 0.5."""
    circuit = Circuit(lanes, POLICY)
    for lane in circuit.admit(range(lanes), 0.0):
        circuit.failed(lane, 0.1, 0.0)
    assert circuit.state == "backing off"
    return circuit


def test_a_healthy_endpoint_sends_in_all_lanes_one_request_each() -> None:
    circuit = Circuit(4, POLICY)
    assert circuit.admit([0, 1, 2, 3], 0.0) == [0, 1, 2, 3]
    assert circuit.admit([0, 1, 2, 3], 0.0) == []
    assert circuit.next_at([0, 1, 2, 3], 0.0) is None
    circuit.succeeded(2)
    assert circuit.admit([0, 1, 2, 3], 0.0) == [2]
    assert circuit.state == "healthy"


def test_one_failing_lane_backs_off_alone() -> None:
    circuit = Circuit(8, POLICY)
    now = 0.0
    for _ in range(50):
        assert circuit.admit([3], now) == [3]
        circuit.failed(3, 10.0, now)
        assert circuit.state == "healthy"
        assert circuit.admit([3], now + 9.9) == []
        assert circuit.next_at([3], now) == now + 10.0
        assert circuit.admit([5], now) == [5]
        circuit.succeeded(5)
        now += 10.0


def test_failures_of_two_lanes_with_no_success_between_open_it() -> None:
    circuit = Circuit(8, POLICY)
    circuit.admit([1, 2, 3], 0.0)
    circuit.failed(1, 1.0, 0.0)
    circuit.succeeded(3)
    circuit.failed(2, 1.0, 0.0)
    assert circuit.state == "healthy"
    circuit.admit([4], 0.0)
    circuit.failed(4, 1.0, 0.0)
    assert circuit.state == "backing off"


def test_the_only_lane_opens_it_alone() -> None:
    circuit = Circuit(1, POLICY)
    circuit.admit([0], 0.0)
    circuit.failed(0, 0.3, 0.0)
    assert circuit.state == "backing off"
    assert circuit.next_at([0], 0.0) == 0.5


def test_while_it_is_open_there_is_one_probe_at_the_pace_of_the_back_off_by_the_lanes_in_turn() -> None:
    circuit = opened()
    probed: list[int] = []
    times: list[float] = []
    now = 0.0
    for _ in range(16):
        due = circuit.next_at(ALL, now)
        assert due is not None
        assert circuit.admit(ALL, due - 0.01) == []
        (lane,) = circuit.admit(ALL, due)
        assert circuit.admit(ALL, due + 1000.0) == []
        probed.append(lane)
        times.append(due - now)
        circuit.failed(lane, 0.1, due)
        now = due
    assert sorted(probed) == list(ALL)
    assert times == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, *[450.0] * 6]


def test_a_dead_endpoint_is_asked_a_handful_of_times_a_minute_however_many_lanes_wait() -> None:
    circuit = Circuit(256, POLICY)
    attempts = 0
    now = 0.0
    while (at := circuit.next_at(range(256), now)) is not None and at < 600.0:
        now = at
        for lane in circuit.admit(range(256), now):
            attempts += 1
            circuit.failed(lane, 0.25, now)
    # The first round finds out, then 0.5 s, 1 s, 2 s ... apart.
    assert attempts == 256 + 10


def test_what_was_under_way_when_it_opened_neither_slows_the_pace_nor_counts_as_the_probe() -> None:
    circuit = Circuit(8, POLICY)
    circuit.admit(range(8), 0.0)
    for lane in range(7):
        circuit.failed(lane, 0.1, 0.0)
    assert circuit.admit(range(8), 0.5) == [0]
    circuit.failed(7, 0.1, 0.5)
    assert circuit.admit(range(8), 0.6) == []
    circuit.failed(0, 0.1, 0.6)
    assert circuit.next_at(range(8), 0.6) == 1.6


def test_two_poisoned_lanes_do_not_hold_up_a_lane_that_has_not_failed() -> None:
    circuit = Circuit(8, POLICY)
    now = 0.0
    for _ in range(20):
        now = circuit.next_at([1, 2], now) or 0.0
        for lane in circuit.admit([1, 2], now):
            circuit.failed(lane, 0.1, now)
    assert circuit.state == "backing off"
    assert circuit.next_at([1, 2], now) == now + 450.0
    assert circuit.admit([1, 2, 6], now) == [6]
    circuit.succeeded(6)
    assert circuit.state == "healthy"


def test_the_witnesses_are_few() -> None:
    circuit = Circuit(256, POLICY)
    asked = 0
    while admitted := circuit.admit([asked], 0.0):
        circuit.failed(admitted[0], 0.1, 0.0)
        asked += 1
    assert asked == WITNESSES


def test_the_first_success_closes_it_and_the_lanes_come_back_one_more_with_each_success() -> None:
    circuit = opened()
    (probe,) = circuit.admit(ALL, 0.5)
    circuit.succeeded(probe)
    assert circuit.state == "healthy"
    rounds = []
    for _ in range(4):
        admitted = circuit.admit(ALL, 0.5)
        rounds.append(len(admitted))
        for lane in admitted:
            circuit.succeeded(lane)
    assert rounds == [2, 4, 8, 16]


def test_a_relapse_during_the_slow_start_opens_it_again() -> None:
    circuit = opened()
    circuit.succeeded(*circuit.admit(ALL, 0.5))
    pair = circuit.admit(ALL, 0.5)
    for lane in pair:
        circuit.failed(lane, 0.1, 0.5)
    assert circuit.state == "backing off"
    assert circuit.admit(pair, 0.99) == []
    assert len(circuit.admit(pair, 1.0)) == 1


def test_a_single_failing_lane_does_not_stop_the_slow_start() -> None:
    circuit = opened()
    circuit.succeeded(*circuit.admit(ALL, 0.5))
    first, second = circuit.admit(ALL, 0.5)
    circuit.failed(first, 60.0, 0.5)
    circuit.succeeded(second)
    assert len(circuit.admit(ALL, 0.5)) == 3


def test_a_suspension_holds_all_lanes_then_lets_one_probe_go() -> None:
    circuit = Circuit(8, POLICY)
    circuit.admit([0, 1], 0.0)
    circuit.suspended(0, 30.0, 0.0)
    assert circuit.state == "backing off"
    circuit.succeeded(1)  # under way before; the wish stands
    assert circuit.state == "backing off"
    assert circuit.admit(range(8), 29.9) == []
    assert circuit.next_at(range(8), 0.0) == 30.0
    assert len(circuit.admit(range(8), 30.0)) == 2


def test_after_a_suspension_that_nothing_contradicted_there_is_one_probe() -> None:
    circuit = Circuit(8, POLICY)
    circuit.admit([0, 1], 0.0)
    circuit.suspended(0, 30.0, 0.0)
    circuit.suspended(1, 2.0, 0.0)  # the longer wish counts
    assert circuit.admit(range(8), 29.9) == []
    assert circuit.admit(range(8), 30.0) == [2]
    assert circuit.admit(range(8), 31.0) == []


# -- the replay lane


def test_the_replay_lane_takes_no_place_from_a_live_one() -> None:
    circuit = Circuit(2, POLICY)
    assert circuit.admit([REPLAY_LANE, 0, 1], 0.0) == [0, 1, REPLAY_LANE]
    assert circuit.admit([REPLAY_LANE], 0.0) == []
    circuit.succeeded(0)
    assert circuit.admit([0], 0.0) == [0]
    circuit.succeeded(REPLAY_LANE)
    assert circuit.admit([REPLAY_LANE], 0.0) == [REPLAY_LANE]


def test_what_fails_in_a_replay_says_nothing_about_the_endpoint() -> None:
    for lanes in (1, 8):
        circuit = Circuit(lanes, POLICY)
        for now in range(0, 100, 10):
            assert circuit.admit([REPLAY_LANE], now) == [REPLAY_LANE]
            circuit.failed(REPLAY_LANE, 10.0, now)
            assert circuit.next_at([REPLAY_LANE], now) == now + 10.0
            assert circuit.state == "healthy"


def test_a_replay_waits_while_live_lanes_probe_an_ill_endpoint() -> None:
    circuit = opened(8)
    assert circuit.admit([REPLAY_LANE, 1], 0.4) == []
    assert circuit.admit([REPLAY_LANE, 1], 0.5) == [1]
    assert circuit.admit([REPLAY_LANE], 0.5) == []
    circuit.succeeded(1)
    assert circuit.admit([REPLAY_LANE], 0.5) == [REPLAY_LANE]


def test_a_replay_is_the_probe_where_nothing_else_is_to_be_sent() -> None:
    circuit = opened(8)
    assert circuit.next_at([REPLAY_LANE], 0.1) == 0.5
    assert circuit.admit([REPLAY_LANE], 0.5) == [REPLAY_LANE]
    circuit.failed(REPLAY_LANE, 0.1, 0.5)
    # it keeps the pace that the next live lane has too
    assert circuit.next_at([REPLAY_LANE], 0.6) == 1.5
    assert circuit.next_at([3], 0.6) == 1.5
    assert circuit.admit([REPLAY_LANE], 1.5) == [REPLAY_LANE]
    circuit.succeeded(REPLAY_LANE)
    assert circuit.state == "healthy"


def test_a_replay_obeys_suspension_and_disabling() -> None:
    circuit = Circuit(8, POLICY)
    circuit.admit([REPLAY_LANE], 0.0)
    circuit.suspended(REPLAY_LANE, 5.0, 0.0)
    assert circuit.admit([REPLAY_LANE, 1], 4.9) == []
    assert circuit.admit([REPLAY_LANE, 1], 5.0) == [1]
    circuit.disable()
    assert circuit.admit([REPLAY_LANE], 9.0) == []
    assert circuit.next_at([REPLAY_LANE], 9.0) is None


def test_disabled_is_for_good_until_somebody_enables_it() -> None:
    circuit = Circuit(8, POLICY)
    circuit.admit([0], 0.0)
    circuit.disable()
    circuit.released(0)
    assert circuit.state == "disabled"
    assert circuit.admit(range(8), 1e9) == []
    assert circuit.next_at(range(8), 1e9) is None
    circuit.enable()
    assert circuit.state == "healthy"
    assert circuit.admit(range(8), 1e9) == [1]


def test_enabling_a_healthy_endpoint_changes_nothing() -> None:
    circuit = Circuit(8, POLICY)
    circuit.hold(3, 5.0)
    circuit.enable()
    assert circuit.admit(range(8), 0.0) == [0, 1, 2, 4, 5, 6, 7]


def test_a_released_probe_makes_room_for_another() -> None:
    circuit = opened()
    (probe,) = circuit.admit(ALL, 0.5)
    circuit.released(probe)
    assert len(circuit.admit(ALL, 0.5)) == 1


def test_a_lane_that_is_held_waits() -> None:
    circuit = Circuit(8, POLICY)
    circuit.hold(3, 5.0)
    assert circuit.admit([3], 4.9) == []
    assert circuit.next_at([3], 0.0) == 5.0
    assert circuit.admit([3], 5.0) == [3]


def test_what_failed_for_the_endpoints_sake_goes_on_when_it_recovers() -> None:
    circuit = Circuit(4, POLICY)
    circuit.admit(range(4), 0.0)
    for lane in range(3):
        circuit.failed(lane, 600.0, 0.0)
    circuit.succeeded(3)
    assert circuit.admit([0, 1], 0.1) == [0, 1]


steps = st.lists(
    st.tuples(
        st.sampled_from(["admit", "succeed", "fail", "suspend", "release", "pass", "enable"]),
        st.integers(0, 31),
        st.floats(0, 50),
    ),
    max_size=60,
)


@pytest.mark.parametrize("lanes", [1, 2, 8])
@given(steps=steps)
def test_whatever_happens_it_never_sends_twice_in_a_lane_nor_two_probes_and_always_goes_on(
    lanes: int, steps: list[tuple[str, int, float]]
) -> None:
    circuit = Circuit(lanes, POLICY)
    waiting = [*range(lanes), REPLAY_LANE]
    now = 0.0
    under_way: list[int] = []
    held_until = 0.0
    for step, number, seconds in steps:
        if step == "admit":
            was_open = circuit.state == "backing off" and now >= held_until
            admitted = circuit.admit(waiting, now)
            assert not set(admitted) & set(under_way)
            assert not admitted or now >= held_until
            if was_open and circuit.state == "backing off":
                assert len(admitted) <= 1
            under_way += admitted
        elif step == "pass":
            now += seconds
        elif step == "enable":
            circuit.enable()
            held_until = 0.0 if circuit.state == "healthy" else held_until
        elif under_way:
            lane = under_way.pop(number % len(under_way))
            if step == "succeed":
                circuit.succeeded(lane)
            elif step == "fail":
                circuit.failed(lane, seconds, now)
            elif step == "suspend":
                circuit.suspended(lane, seconds, now)
                held_until = max(held_until, now + seconds)
            else:
                circuit.released(lane)
    for lane in under_way:
        circuit.failed(lane, 1.0, now)
    # From any state: nothing is under way, so time alone must let somebody go, and `next_at` must say when.
    at = circuit.next_at(waiting, now)
    assert at is not None
    assert now <= at < now + POLICY.max_delay_s
    assert circuit.admit(waiting, at)
