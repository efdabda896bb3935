"""The limit of open files: raised as far as the system lets, with some kept for the gateway itself."""

from __future__ import annotations

import resource

import pytest

from gateway.transport import descriptor

INFINITE = resource.RLIM_INFINITY


@pytest.fixture
def limit(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The process's limit (soft, hard), kept from being the real one."""
    limits = [1024, 4096]

    def set_limit(_: int, new: tuple[int, int]) -> None:
        soft, hard = new
        assert hard == limits[1]
        assert hard == INFINITE or soft <= hard
        limits[:] = new

    monkeypatch.setattr(descriptor.resource, "getrlimit", lambda _: tuple(limits))
    monkeypatch.setattr(descriptor.resource, "setrlimit", set_limit)
    return limits


@pytest.mark.parametrize(
    ("soft", "hard", "raised"),
    [
        (1024, 4096, 4096),
        (4096, 4096, 4096),
        (1024, INFINITE, 1_048_576),
        (INFINITE, INFINITE, INFINITE),
        (2_000_000, INFINITE, 2_000_000),
    ],
)
def test_it_is_raised_as_far_as_may_be(soft: int, hard: int, raised: int, limit: list[int]) -> None:
    limit[:] = [soft, hard]
    assert descriptor.raise_limit() == (soft, raised)
    assert limit == [raised, hard]


@pytest.mark.parametrize(("soft", "ceiling"), [(20_000, 19_488), (1024, 768), (64, 48), (INFINITE, None)])
def test_the_last_ones_are_not_for_newcomers(soft: int, ceiling: int | None, limit: list[int]) -> None:
    limit[:] = [soft, INFINITE]
    assert descriptor.ceiling() == ceiling
