from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.delivery import Outcome, Settlement, Stage, State
from gateway.core.retry import (
    FLOOR_S,
    Delivered,
    Disable,
    GiveUp,
    RetryAt,
    RetryPolicy,
    Suspend,
    bound,
    decide,
    enabled,
    is_left_alone,
    parse_retry_after,
)

POLICY = RetryPolicy(initial_s=1.0, factor=2.0, max_delay_s=900.0, max_age_s=86_400.0)
FAILURES = [Outcome(stage, 1.0) for stage in Stage if stage is not Stage.ANSWERED] + [
    Outcome(Stage.ANSWERED, 1.0, status=status) for status in (301, 400, 401, 404, 408, 409, 413, 425, 429, 500, 501, 503)
]
rolls = st.floats(0, 1, exclude_max=True)


def answered(status: int, retry_after_s: float | None = None) -> Outcome:
    return Outcome(Stage.ANSWERED, 1.0, status=status, retry_after_s=retry_after_s)


def test_any_2xx_is_delivered_even_when_nothing_may_be_tried_again() -> None:
    policy = RetryPolicy(max_attempts=1, max_age_s=0)
    assert decide(policy, attempts=5, age_s=1e9, outcome=answered(204), roll=0.5) == Delivered()


@pytest.mark.parametrize("outcome", FAILURES, ids=lambda outcome: str(outcome.status or outcome.stage.value))
def test_everything_but_a_2xx_and_410_is_tried_again(outcome: Outcome) -> None:
    assert decide(POLICY, attempts=1, age_s=0, outcome=outcome, roll=0.5) == RetryAt(0.5)


def test_410_disables_the_endpoint_whatever_else_it_says() -> None:
    assert decide(POLICY, attempts=1, age_s=0, outcome=answered(410, 5.0), roll=0.5) == Disable("gone")


@given(st.integers(1, 10**9), rolls, st.sampled_from(FAILURES))
def test_the_delay_lies_between_the_floor_and_the_bound(attempts: int, roll: float, outcome: Outcome) -> None:
    verdict = decide(POLICY, attempts=attempts, age_s=0, outcome=outcome, roll=roll)
    assert isinstance(verdict, RetryAt)
    longest = min(900.0, 2.0 ** min(attempts - 1, 100))
    assert verdict.delay_s == max(0.25, roll * longest)
    assert FLOOR_S <= verdict.delay_s <= longest


@given(st.floats(1e-3, 1e6), st.floats(1, 1e6), st.floats(1e-3, 1e9), st.integers(1, 10**12))
def test_the_back_off_grows_up_to_its_maximum_and_never_overflows(
    initial_s: float, factor: float, max_delay_s: float, attempts: int
) -> None:
    policy = RetryPolicy(initial_s=initial_s, factor=factor, max_delay_s=max_delay_s)
    here, next_ = bound(policy, attempts), bound(policy, attempts + 1)
    assert min(initial_s, max_delay_s) <= here <= next_ <= max_delay_s


def test_a_roll_of_nothing_does_not_hammer() -> None:
    assert decide(POLICY, attempts=1, age_s=0, outcome=answered(500), roll=0.0) == RetryAt(0.25)
    tiny = RetryPolicy(initial_s=0.001)
    assert decide(tiny, attempts=1, age_s=0, outcome=answered(500), roll=0.0) == RetryAt(FLOOR_S)


def test_a_schedule_is_kept_to_the_letter_and_its_last_delay_repeats() -> None:
    policy = RetryPolicy(schedule_s=(5.0, 300.0, 1800.0), max_delay_s=60.0)
    verdicts = [decide(policy, attempts=n, age_s=0, outcome=answered(500), roll=0.1) for n in (1, 2, 3, 4, 99)]
    assert verdicts == [RetryAt(5.0), RetryAt(300.0), RetryAt(1800.0), RetryAt(1800.0), RetryAt(1800.0)]


@pytest.mark.parametrize("status", [429, 503])
@given(wish=st.floats(0.001, 1e12), attempts=st.integers(1, 100), roll=rolls)
def test_retry_after_is_never_undercut_and_capped_by_the_maximal_delay(
    status: int, wish: float, attempts: int, roll: float
) -> None:
    verdict = decide(POLICY, attempts=attempts, age_s=0, outcome=answered(status, wish), roll=roll)
    assert isinstance(verdict, Suspend)
    assert min(wish, 900.0) <= verdict.delay_s <= 900.0
    assert verdict.delay_s <= max(FLOOR_S, wish + 1.0)


@pytest.mark.parametrize("wish", [0.0, -5.0, math.nan, None])
def test_a_senseless_retry_after_changes_nothing(wish: float | None) -> None:
    assert decide(POLICY, attempts=3, age_s=0, outcome=answered(503, wish), roll=0.5) == RetryAt(2.0)


def test_an_endless_retry_after_is_capped() -> None:
    assert decide(POLICY, attempts=1, age_s=0, outcome=answered(503, math.inf), roll=0.5) == Suspend(900.0)


@pytest.mark.parametrize("status", [200, 404, 500, 502])
def test_retry_after_counts_only_with_429_and_503(status: int) -> None:
    verdict = decide(POLICY, attempts=1, age_s=0, outcome=answered(status, 60.0), roll=0.5)
    assert verdict == (Delivered() if status == 200 else RetryAt(0.5))


def test_the_last_permitted_attempt_ends_it() -> None:
    policy = RetryPolicy(max_attempts=3)
    verdicts = [decide(policy, attempts=n, age_s=0, outcome=answered(503, 9.0), roll=0.5) for n in (2, 3, 4)]
    assert verdicts == [Suspend(9.5), GiveUp("max_attempts"), GiveUp("max_attempts")]


@given(st.integers(1, 200), st.floats(0, 200_000), st.sampled_from([*FAILURES, answered(503, 500.0)]), rolls)
def test_no_retry_is_planned_past_the_maximal_age(attempts: int, age_s: float, outcome: Outcome, roll: float) -> None:
    verdict = decide(POLICY, attempts=attempts, age_s=age_s, outcome=outcome, roll=roll)
    if isinstance(verdict, RetryAt | Suspend):
        assert age_s + verdict.delay_s <= POLICY.max_age_s
    else:
        assert verdict == GiveUp("max_age")
        assert age_s + POLICY.max_delay_s > POLICY.max_age_s


NOW = 1_754_300_000.0  # Mon, 04 Aug 2025 09:33:20 GMT


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("30", 30.0),
        (" 7 ", 7.0),
        ("0", 0.0),
        ("9" * 30, 1e30),
        ("9" * 6000, math.inf),
        ("Mon, 04 Aug 2025 09:33:40 GMT", 20.0),
        ("Monday, 04-Aug-25 09:33:40 GMT", 20.0),
        ("Mon Aug  4 09:33:40 2025", 20.0),
        ("Mon, 04 Aug 2025 09:33:00 GMT", 0.0),
        ("-5", None),
        ("1e9", None),
        ("1.5", None),
        ("abc", None),
        ("", None),
        ("30, 60", None),
        ("٣٠", None),
        ("2025-08-04T09:33:40Z", None),
        ("Mon, 99 Aug 2025 09:33:40 GMT", None),
    ],
)
def test_retry_after_is_seconds_or_a_date(value: str, seconds: float | None) -> None:
    parsed = parse_retry_after(value, NOW)
    assert parsed == (None if seconds is None else pytest.approx(seconds))


@given(st.text(max_size=60))
def test_no_retry_after_whatever_raises(value: str) -> None:
    parsed = parse_retry_after(value, NOW)
    assert parsed is None or parsed >= 0


def settled(at_ms: int, status: int | None, lane: int = 0) -> Settlement:
    """Return the settlement of a request that was sent at that moment and answered at once; None: given up without being sent."""
    state, reason = {200: (State.DELIVERED, ""), 410: (State.DEAD, "gone"), None: (State.DEAD, "max_age")}[status]
    outcome = None if status is None else answered(status)
    return Settlement("1001/a", lane, "evt_1", 1, 1, 1, 1, at_ms, at_ms, state, outcome, reason=reason)


@pytest.mark.parametrize(
    ("since", "expected"),
    [
        ([], True),
        # sent before the 410 came, answered after it
        ([settled(100_001, 200), settled(99_000, 200)], True),
        ([settled(900_000, None)], True),
        ([settled(130_000, 200), settled(99_000, 200)], False),
        ([settled(99_000, 200), settled(130_000, 200)], False),
        ([enabled("1001/a", 0, 100_001)], False),
        ([settled(99_000, 200), enabled("1001/a", 0, 100_001)], False),
        ([settled(120_000, 410), enabled("1001/a", 0, 100_001)], True),
    ],
)
def test_whoever_answered_410_is_left_alone_until_a_request_that_began_later(since: list[Settlement], expected: bool) -> None:
    assert is_left_alone([*since, settled(100_000, 410), settled(50_000, 200)]) is expected


def test_whoever_never_answered_410_is_not_left_alone() -> None:
    assert not is_left_alone([])
    assert not is_left_alone([settled(2, 200), settled(1, None)])
