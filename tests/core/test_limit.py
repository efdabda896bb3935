from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.limit import TokenBucket, size_of


@pytest.mark.parametrize(("text", "size"), [("", 0), ("abc", 3), ("é", 2), ("東", 3), ("a🛰", 5), ("\0", 1)])
def test_sizes_are_bytes_of_utf8(text: str, size: int) -> None:
    assert size_of(text) == size


def test_a_burst_passes_and_then_one_at_a_time() -> None:
    bucket = TokenBucket(10)
    assert [bucket.take(5.0) for _ in range(11)] == [True] * 10 + [False]
    assert bucket.take(5.1)
    assert not bucket.take(5.1)
    assert not bucket.take(5.15)
    assert bucket.take(5.2)


def test_several_pass_whole_or_not_at_all() -> None:
    bucket = TokenBucket(10)
    assert bucket.take(0.0, 7)
    assert not bucket.take(0.0, 4)
    assert bucket.take(0.0, 3), "what was refused has cost nothing"
    assert not bucket.take(60.0, 11), "more than it can ever hold"
    assert bucket.take(60.0, 10)


@pytest.mark.parametrize("start", [0.0, 1.7, 86_400.3, 9e6])
def test_whoever_keeps_to_the_rate_loses_nothing_even_without_a_reserve(start: float) -> None:
    bucket = TokenBucket(10)
    for _ in range(10):
        assert bucket.take(start)
    assert all(bucket.take(start + step / 10) for step in range(1, 1_000))


def test_it_holds_no_more_than_its_burst() -> None:
    bucket = TokenBucket(10, 3)
    bucket.take(0.0)
    assert [bucket.take(1e9) for _ in range(4)] == [True, True, True, False]


def test_time_that_steps_back_brings_nothing_twice() -> None:
    bucket = TokenBucket(1)
    assert bucket.take(100.0)
    assert not bucket.take(50.0)
    assert not bucket.take(100.5)
    assert bucket.take(101.0)


def test_time_that_steps_back_takes_nothing_away() -> None:
    bucket = TokenBucket(1, 2)
    assert bucket.take(100.0)
    assert bucket.take(0.0)


def test_a_rate_of_nothing_lets_nothing_pass() -> None:
    bucket = TokenBucket(0)
    assert not bucket.take(1.0)
    assert not bucket.take(1e6)


@given(
    rate=st.integers(1, 50),
    burst=st.integers(1, 20),
    moments=st.lists(st.floats(0, 20, allow_nan=False), min_size=1, max_size=120).map(sorted),
)
def test_no_stretch_of_time_sees_more_than_burst_and_rate(rate: int, burst: int, moments: list[float]) -> None:
    bucket = TokenBucket(rate, burst)
    passed = [moment for moment in moments if bucket.take(moment)]
    for first, begin in enumerate(passed):
        for last in range(first, len(passed)):
            assert last - first + 1 <= burst + rate * (passed[last] - begin) + 0.01


@given(moments=st.lists(st.floats(-1e9, 1e9), max_size=60))
def test_disorder_in_time_never_brings_more_than_the_latest_moment_allows(moments: list[float]) -> None:
    bucket = TokenBucket(2, 3)
    passed = sum(bucket.take(moment) for moment in moments)
    if moments:
        assert passed <= 3 + 2 * (max(moments) - moments[0]) + 0.01
