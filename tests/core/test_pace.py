from __future__ import annotations

from gateway.core.pace import MOST_S, rest_s


def test_a_rest_is_as_long_as_the_webhook_took() -> None:
    assert rest_s(0.004, 1, 500) == 0.004


def test_it_is_bounded_on_both_sides() -> None:
    assert rest_s(10.0, 1, 500) == MOST_S
    assert rest_s(-1.0, 1, 500) == 0.0


def test_behind_a_full_one_there_is_none() -> None:
    assert rest_s(0.004, 500, 500) == 0.0
    assert rest_s(0.004, 501, 500) == 0.0
