from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.channel import KINDS, caches, is_legal, kind_of


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.prefix or "anything else")
def test_each_row_is_found_by_its_prefix_and_no_earlier_one_hides_it(kind: object) -> None:
    assert kind_of(getattr(kind, "prefix", "") + "x") is kind


@pytest.mark.parametrize("name", ["privateer", "presence", "cached", "my-cache-x", "Private-x", " private-x", "", "#x"])
def test_a_prefix_includes_its_hyphen_and_stands_at_the_start(name: str) -> None:
    kind = kind_of(name)
    assert (kind.type, kind.needs_auth, kind.caches) == ("public", False, False)


def test_who_has_members_needs_a_signature_and_nothing_encrypted_takes_client_events() -> None:
    for kind in KINDS:
        assert kind.needs_auth or not kind.has_members
        assert kind.needs_auth or not kind.allows_client_events
        assert not (kind.type == "encrypted" and kind.allows_client_events)


@pytest.mark.parametrize("name", ["", "a b", "a\n", "\na", "a/b", "a:b", "#server-to-user-x", "é", "a\0", "a*", "²", "a\ud83d"])
def test_illegal_names(name: str) -> None:
    assert not is_legal(name)


def test_the_length_has_an_exact_border() -> None:
    assert is_legal("a" * 164)
    assert not is_legal("a" * 165)
    assert is_legal("a" * 200, 200)
    assert not is_legal("a" * 201, 200)


@given(st.text(max_size=40) | st.sampled_from(["private-", "presence-", "private-encrypted-", ""]).map(lambda p: p + "cache-a"))
def test_a_channel_caches_as_its_kind_says(name: str) -> None:
    assert caches(name) == kind_of(name).caches
