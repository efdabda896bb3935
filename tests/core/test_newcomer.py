"""How many connections one address may open, and that it takes bounded memory to know."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core import newcomer
from gateway.core.limit import TokenBucket
from gateway.core.newcomer import Newcomers


def test_a_burst_may_come_and_then_so_many_a_second() -> None:
    newcomers = Newcomers(2, 5)
    assert [newcomers.admits("192.0.2.1", 0.0) for _ in range(6)] == [True] * 5 + [False]
    assert newcomers.admits("192.0.2.2", 0.0), "another address"
    assert newcomers.admits("192.0.2.1", 0.5)
    assert not newcomers.admits("192.0.2.1", 0.5)


def test_without_a_rate_everybody_may_come_and_nobody_is_remembered() -> None:
    newcomers = Newcomers()
    assert all(newcomers.admits("192.0.2.1", 0.0) for _ in range(1000))
    assert len(newcomers) == 0


@pytest.mark.parametrize("address", ["", "unix", "1:2:3", "::g", "fe80::1%eth0%"])
def test_what_is_no_address_is_not_counted(address: str) -> None:
    newcomers = Newcomers(1, 1)
    assert all(newcomers.admits(address, 0.0) for _ in range(10))
    assert len(newcomers) == 0


def test_an_ipv6_network_of_one_customer_counts_as_one() -> None:
    newcomers = Newcomers(1, 2)
    found = [newcomers.admits(one, 0.0) for one in ("2001:db8::1", "2001:db8::ffff:ffff:ffff:ffff", "2001:db8:0:0:1::")]
    assert found == [True, True, False]
    assert newcomers.admits("2001:db8:0:1::1", 0.0)
    assert newcomers.admits("::1", 0.0)


@given(
    st.lists(st.tuples(st.sampled_from(["192.0.2.1", "192.0.2.2", "2001:db8::1"]), st.floats(0.0, 30.0)), max_size=60),
    st.sampled_from([0.25, 1.0, 3.0]),
    st.integers(1, 6),
)
def test_forgetting_makes_no_difference(comings: list[tuple[str, float]], rate: float, burst: int) -> None:
    newcomers = Newcomers(rate, burst)
    kept: dict[str, TokenBucket] = {}
    now = 100.0
    for address, later_s in comings:
        now += later_s * rate / 4
        bucket = kept.setdefault(address, TokenBucket(rate, burst))
        assert newcomers.admits(address, now) is bucket.take(now)


def test_who_does_not_come_again_is_forgotten() -> None:
    newcomers = Newcomers(10, 10)
    for number in range(1000):
        assert newcomers.admits(f"192.0.2.{number}", number / 100)
    assert len(newcomers) <= 201


def test_memory_is_bounded_however_many_come(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(newcomer, "_MOST", 100)
    newcomers = Newcomers(1, 3600)
    most = 0
    for number in range(10_000):
        assert newcomers.admits(f"2001:db8:0:{number:x}::1", 0.0)
        most = max(most, len(newcomers))
    assert most == 200
