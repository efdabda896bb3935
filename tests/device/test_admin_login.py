"""Logins: a cookie for a token, for a while."""

from __future__ import annotations

import pytest

from gateway.admin.login import LASTS_S, MOST, Logins
from gateway.core.error import RequestError
from tests.fake import FakeClock


def test_a_login_lasts_until_it_is_closed_or_too_old() -> None:
    clock = FakeClock()
    logins = Logins(token="tokén", clock=clock)
    first, second = logins.open("tokén"), logins.open("tokén")
    assert logins.is_open(logins.value_in({"Cookie": f"a=b; rawpush={first}"}))
    logins.close(first)
    assert (logins.is_open(first), logins.is_open(second), logins.is_open("")) == (False, True, False)
    clock.move(LASTS_S)
    assert not logins.is_open(second)


def test_who_guesses_is_slowed_down() -> None:
    logins = Logins(token="token", clock=FakeClock())
    statuses = []
    for _ in range(12):
        with pytest.raises(RequestError) as refused:
            logins.open("wrong")
        statuses.append(refused.value.status)
    assert statuses == [401] * 10 + [429] * 2
    # and does not keep out who knows it
    assert logins.is_open(logins.open("token"))


def test_there_is_an_end_to_how_many_there_can_be() -> None:
    logins = Logins(token="token", clock=FakeClock())
    values = [logins.open("token") for _ in range(MOST + 1)]
    assert [logins.is_open(value) for value in (values[0], values[1], values[-1])] == [False, True, True]


def test_without_a_token_nothing_opens() -> None:
    logins = Logins(token="", clock=FakeClock())
    with pytest.raises(RequestError):
        logins.open("")
    assert not logins.are_needed
