"""What a backend has signed about a user; `member_of` is tested with the subscriptions that need it, in test_session."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.app import Limits
from gateway.core.roster import Member
from gateway.core.user import LONGEST_ID, User, user_of


def read(user_data: object, *, watches: bool = True, **limits: int) -> User | str:
    return user_of(json.dumps(user_data), Limits(**limits), watches=watches)


def user(user_data: object, **limits: int) -> User:
    found = read(user_data, **limits)
    assert isinstance(found, User), found
    return found


def test_an_id_is_enough() -> None:
    assert user({"id": "u-42"}) == User("u-42", Member("u-42"))


def test_user_info_is_for_presence_channels() -> None:
    assert user({"id": "u", "user_info": {"name": "Grace"}}).member == Member("u", b'{"name":"Grace"}')
    assert user({"id": "u", "user_info": True}).member == Member("u")


@pytest.mark.parametrize("odd", ["a b", "a/b", "ö", "😀", "a@b.example", "x" * LONGEST_ID, "#", "\n"])
def test_an_id_may_hold_anything(odd: str) -> None:
    assert user({"id": odd}, presence_user_id=1_000).member == Member(odd)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "user_data must be JSON"),
        ("x", "user_data must be JSON"),
        ('{"id":"a\\ud83d"}', "user_data must be JSON"),
        ("[]", "user_data must be a JSON object"),
        ('"u"', "user_data must be a JSON object"),
        ("{}", "user_data.id must be a string that is not empty"),
        ('{"id":""}', "user_data.id must be a string that is not empty"),
        ('{"id":42}', "user_data.id must be a string that is not empty"),
        ('{"id":null}', "user_data.id must be a string that is not empty"),
        ('{"id":"' + "x" * 201 + '"}', "user_data.id may have 200 characters"),
        ('{"id":"u","watchlist":"v"}', "user_data.watchlist must be a list of user ids"),
        ('{"id":"u","watchlist":{}}', "user_data.watchlist must be a list of user ids"),
        ('{"id":"u","watchlist":["v",""]}', "user_data.watchlist must hold user ids: strings that are not empty"),
        ('{"id":"u","watchlist":[1.5]}', "user_data.watchlist must hold user ids: strings that are not empty"),
        ('{"id":"u","watchlist":[["v"]]}', "user_data.watchlist must hold user ids: strings that are not empty"),
    ],
)
def test_what_names_nobody_says_where(text: str, sentence: str) -> None:
    found = user_of(text, Limits(), watches=True)
    assert isinstance(found, str)
    assert found.startswith(sentence)


@pytest.mark.parametrize(
    ("user_data", "sentence"),
    [
        ({"id": "x" * 129}, "user_data.id may have 128 characters on a presence channel"),
        ({"id": "u", "user_info": {"a": "x" * 1_024}}, "user_data.user_info may have 1024 bytes"),
    ],
)
def test_what_only_a_presence_channel_refuses_is_no_reason_against_signing_in(user_data: object, sentence: str) -> None:
    assert user(user_data).member == sentence


def test_a_watchlist_names_each_user_once_in_order() -> None:
    found = user({"id": "u", "watchlist": ["b", "a", "b", 7, "7", "u"]})
    assert found.watchlist == ("b", "a", "7", "u")
    assert not found.is_cut
    assert user({"id": "u", "watchlist": None}).watchlist == ()


def test_of_a_watchlist_that_is_too_long_the_first_ones_count() -> None:
    names = [f"u-{number}" for number in range(101)]
    assert user({"id": "u", "watchlist": names[:100]}).is_cut is False
    found = user({"id": "u", "watchlist": names})
    assert (found.watchlist, found.is_cut) == (tuple(names[:100]), True)
    assert user({"id": "u", "watchlist": ["v"] * 101}).is_cut is False, "it names one user"
    assert user({"id": "u", "watchlist": ["v", "w"]}, watchlist=1).watchlist == ("v",)


def test_where_watchlists_are_off_none_is_looked_at() -> None:
    assert read({"id": "u", "watchlist": 5}, watches=False) == User("u", Member("u"))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(), st.lists, max_leaves=9
)


@given(st.text() | st.dictionaries(st.sampled_from(["id", "user_info", "watchlist"]), json_values).map(json.dumps))
def test_whatever_was_signed_it_is_a_user_or_a_sentence(text: str) -> None:
    found = user_of(text, Limits(watchlist=2), watches=True)
    assert found
    if isinstance(found, User):
        assert found.id
        assert len(found.watchlist) <= 2
        assert all(isinstance(one, str) and one for one in found.watchlist)
