"""Logins: a cookie for a token, for a while."""

from __future__ import annotations

import pytest

from gateway.admin.login import LASTS_S, Logins
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
