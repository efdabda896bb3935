"""The cache: the last event of each channel, no older than it may be, in no more room than there is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.cache import NEWS_S, OVERHEAD, Cache
from gateway.core.frame import message

LIFETIME_S = 1800.0


def frame(channel: str, data: str = "{}") -> bytes:
    return message("price", channel, data)


def cost(channel: str, data: str = "{}") -> int:
    return len(channel) + len(frame(channel, data)) + OVERHEAD


@pytest.fixture
def cache() -> Cache:
    return Cache(LIFETIME_S, 100_000)


def test_the_last_event_is_found_and_only_on_its_own_channel(cache: Cache) -> None:
    cache.keep("cache-a", frame("cache-a", "1"), 0.0)
    cache.keep("cache-a", frame("cache-a", "2"), 1.0)
    cache.keep("cache-b", frame("cache-b", "3"), 2.0)
    assert cache.find("cache-a", 3.0) == frame("cache-a", "2")
    assert cache.find("cache-b", 3.0) == frame("cache-b", "3")
    assert cache.find("cache-c", 3.0) is None
    assert cache.taken == cost("cache-a", "2") + cost("cache-b", "3")


def test_its_lifetime_counts_from_the_last_publish_to_the_instant(cache: Cache) -> None:
    cache.keep("cache-a", frame("cache-a"), 0.0)
    cache.keep("cache-a", frame("cache-a"), 100.0)
    assert cache.find("cache-a", 100.0 + LIFETIME_S - 0.001) is not None
    assert cache.find("cache-a", 100.0 + LIFETIME_S) is None
    assert cache.content("cache-a", 100.0 + LIFETIME_S) is None


@pytest.mark.parametrize("data", ["", "{}", '{"eur":3}', "plain", 'a"\\\x01\n\u2028', "東京 👍"])
def test_its_content_is_the_data_as_it_came(cache: Cache, data: str) -> None:
    cache.keep("cache-a", frame("cache-a", data), 10.0)
    assert cache.content("cache-a", 10.0) == (data, 1800)
    assert cache.content("cache-a", 68.5) == (data, 1742)
    assert cache.content("cache-a", 10.0 + LIFETIME_S - 0.5) == (data, 1)


def test_the_oldest_makes_room_and_an_event_too_large_for_all_of_it_ends_what_was_there() -> None:
    room = 2 * cost("cache-a")
    cache = Cache(LIFETIME_S, room)
    cache.keep("cache-a", frame("cache-a"), 0.0)
    cache.keep("cache-b", frame("cache-b"), 1.0)
    assert cache.taken == room
    cache.keep("cache-a", frame("cache-a"), 2.0)
    cache.keep("cache-c", frame("cache-c"), 3.0)
    assert [cache.find(name, 4.0) is None for name in ("cache-a", "cache-b", "cache-c")] == [False, True, False]
    cache.keep("cache-a", frame("cache-a", "x" * room), 5.0)
    assert cache.find("cache-a", 5.0) is None, "what it replaces must not be taken for the last event"
    assert cache.find("cache-c", 5.0) is not None
    fits = "x" * (room - cost("cache-d", ""))
    cache.keep("cache-d", frame("cache-d", fits), 6.0)
    assert (cache.find("cache-c", 6.0), cache.taken) == (None, room)
    cache.keep("cache-d", frame("cache-d", fits + "x"), 7.0)
    assert cache.taken == 0


def test_what_is_too_old_is_swept_out_without_being_asked_for(cache: Cache) -> None:
    cache.keep("cache-a", frame("cache-a"), 0.0)
    cache.keep("cache-b", frame("cache-b"), 1.0)
    cache.expire(LIFETIME_S)
    assert cache.taken == cost("cache-b")
    cache.keep("cache-c", frame("cache-c"), LIFETIME_S + 1.0)
    assert cache.taken == cost("cache-c")


def test_other_bounds_hold_for_what_is_there(cache: Cache) -> None:
    for number in range(3):
        cache.keep(f"cache-{number}", frame(f"cache-{number}"), float(number))
    cache.configure(LIFETIME_S, 2 * cost("cache-0"))
    assert [cache.find(f"cache-{number}", 3.0) is None for number in range(3)] == [True, False, False]
    cache.configure(1.5, 100_000)
    assert [cache.find(f"cache-{number}", 3.0) is None for number in range(3)] == [True, True, False]
    cache.configure(1.5, 0)
    assert cache.taken == 0
    cache.keep("cache-a", frame("cache-a"), 3.0)
    assert cache.find("cache-a", 3.0) is None


def test_a_miss_is_news_once_in_a_while_and_anew_when_something_was_kept_in_between(cache: Cache) -> None:
    assert cache.is_news("cache-a", 0.0)
    assert not cache.is_news("cache-a", NEWS_S - 0.001)
    assert cache.is_news("cache-b", NEWS_S - 0.001)
    assert cache.is_news("cache-a", NEWS_S)
    cache.keep("cache-a", frame("cache-a"), NEWS_S + 1.0)
    assert cache.is_news("cache-a", NEWS_S + 1.0)


channels = st.sampled_from(["cache-a", "cache-b", "private-cache-c", "presence-cache-dddd"])
steps = st.lists(st.tuples(channels, st.text(max_size=400), st.integers(0, 30), st.booleans()), max_size=40)


@given(steps, st.integers(1, 60), st.integers(0, 3000))
def test_it_is_a_list_of_the_newest_that_fit(publications: list[tuple[str, str, int, bool]], lifetime_s: int, room: int) -> None:
    cache = Cache(lifetime_s, room)
    model: list[tuple[str, str, int]] = []  # oldest first
    now = 0
    for channel, data, passed, sweeps in publications:
        now += passed
        cache.keep(channel, frame(channel, data), now)
        model = [one for one in model if now - one[2] < lifetime_s and one[0] != channel]
        if cost(channel, data) <= room:
            while sum(cost(*one[:2]) for one in [*model, (channel, data, now)]) > room:
                model.pop(0)
            model.append((channel, data, now))
        if sweeps:
            cache.expire(now)
        assert cache.taken == sum(cost(*one[:2]) for one in model)
        now += passed
        if sweeps:
            cache.expire(now)
        there = {one[0]: one for one in model if now - one[2] < lifetime_s}
        for name in ("cache-a", "cache-b", "private-cache-c", "presence-cache-dddd"):
            found = cache.content(name, now)
            assert found == ((there[name][1], lifetime_s - (now - there[name][2])) if name in there else None)
    cache.expire(now + lifetime_s)
    assert cache.taken == 0
