"""What a channel tells of itself, seen by its subscribers and in the records: the real node, only the sockets are fakes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.app import Limits
from gateway.core.cache import NEWS_S
from gateway.core.publication import Publication
from gateway.core.tally import FEW, PACE_S
from gateway.node import Live
from tests.fake import FakeConnection
from tests.test_node import APP, House, furnished

COUNTING = replace(APP, subscription_counts=True)
KINDS = ["cache-a", "private-cache-a", "presence-cache-a", "private-encrypted-cache-a"]
SUCCEEDED = "pusher_internal:subscription_succeeded"
COUNT = "pusher_internal:subscription_count"


@pytest.fixture
async def house() -> AsyncIterator[House]:
    async for house in furnished():
        yield house


@pytest.fixture
async def counting() -> AsyncIterator[House]:
    async for house in furnished(COUNTING):
        yield house


def publish(house: House, channel: str, data: str = "{}", event: str = "price", left_out: str | None = None) -> None:
    house.node.publish([Publication("1001", event, (channel,), data, left_out)])


def arrive(house: House, channel: str, user_id: str = "u") -> tuple[Live, FakeConnection]:
    """Let somebody new subscribe; his frames are still to be read."""
    live, connection = house.connect()
    house.join(live, channel, user_id if channel.startswith("presence-") else None)
    return live, connection


def names(connection: FakeConnection) -> list[str]:
    return [frame["event"] for frame in connection.frames()]


def miss(channel: str) -> dict[str, Any]:
    return {"event": "pusher:cache_miss", "channel": channel, "data": "{}"}


def count(channel: str, subscribers: int) -> dict[str, Any]:
    return {"event": COUNT, "channel": channel, "data": f'{{"subscription_count":{subscribers}}}'}


# -- cache channels


@pytest.mark.parametrize("channel", KINDS)
async def test_a_newcomer_gets_the_last_event_right_after_the_success_or_hears_that_there_is_none(
    house: House, channel: str
) -> None:
    _, early = arrive(house, channel)
    succeeded, missed = early.frames()
    assert (succeeded["event"], missed) == (SUCCEEDED, miss(channel))
    data = '{"eur": 3, "of":"\\u6771京👍"}'
    publish(house, channel, "1")
    publish(house, channel, data, event="App\\Events\\Price")
    assert [frame["data"] for frame in early.frames()] == ["1", data]
    _, late = arrive(house, channel)
    succeeded, kept = late.frames()
    assert (succeeded["event"], kept) == (SUCCEEDED, {"event": "App\\Events\\Price", "channel": channel, "data": data})
    assert early.offered == [] or channel.startswith("presence-"), "it is for the newcomer alone"


async def test_other_channels_keep_nothing(house: House) -> None:
    for channel in ("orders", "private-a", "presence-a", "my-cache-a", "private-encrypted-a"):
        publish(house, channel)
        assert names(arrive(house, channel)[1]) == [SUCCEEDED]
        assert house.node.cached("1001", channel) is None


async def test_what_is_kept_and_what_is_not(house: House) -> None:
    channel = "presence-cache-a"
    live, connection = arrive(house, channel, "u-1")
    publish(house, channel, "", left_out=live.socket_id)
    connection.frames()
    house.say(live, "client-typing", {"on": True}, channel)
    _, other = arrive(house, channel, "u-2")  # a member_added goes to the first
    assert names(connection) == ["pusher_internal:member_added"]
    _, kept = other.frames()
    assert kept == {"event": "price", "channel": channel, "data": ""}, "empty data, left out of its own publication"
    assert house.node.cached("1001", channel) == ("", 1800)


async def test_every_cache_channel_of_a_publication_keeps_it(house: House) -> None:
    house.node.publish([Publication("1001", "e", ("cache-a", "orders", "cache-b"), "7")])
    assert [house.node.cached("1001", name) for name in ("cache-a", "orders", "cache-b")] == [("7", 1800), None, ("7", 1800)]


async def test_it_outlives_the_last_subscriber_but_not_its_age(house: House) -> None:
    live, _ = arrive(house, "cache-a")
    publish(house, "cache-a", "1")
    house.say(live, "pusher:unsubscribe", {"channel": "cache-a"})
    house.clock.move(1799.5)
    house.node.tick()
    assert house.node.cached("1001", "cache-a") == ("1", 1)
    assert names(arrive(house, "cache-a")[1]) == [SUCCEEDED, "price"]
    house.clock.move(0.5)
    assert names(arrive(house, "cache-a")[1]) == [SUCCEEDED, "pusher:cache_miss"]
    assert house.node.cached("1001", "cache-a") is None


async def test_a_step_of_the_wall_clock_changes_nothing(house: House) -> None:
    publish(house, "cache-a", "1")
    for step in (3_600_000, -10_800_000):
        house.clock.epoch += step
        assert house.node.cached("1001", "cache-a") == ("1", 1800)


async def test_a_miss_is_recorded_once_for_many_who_come_at_once(house: House) -> None:
    for _ in range(5):
        arrive(house, "cache-a")
    misses = [event for event in await house.events() if event.kind == "channel.cache_miss"]
    assert [event.data["subscribers"] for event in misses] == [1]
    house.clock.move(NEWS_S)
    late, _ = arrive(house, "cache-a")
    assert [(event.kind, event.data.get("socket_id")) for event in await house.events()][-2:] == [
        ("channel.subscribed", late.socket_id),
        ("channel.cache_miss", late.socket_id),
    ]


async def test_a_new_lifetime_and_a_new_bound_hold_at_once(house: House) -> None:
    publish(house, "cache-a", "1")
    house.clock.move(10)
    house.node.adopt([replace(APP, cache_lifetime_s=60.0)])
    assert house.node.cached("1001", "cache-a") == ("1", 50)
    house.node.adopt([replace(APP, limits=Limits(cache=0))])
    assert house.node.cached("1001", "cache-a") is None
    publish(house, "cache-a", "2")
    assert house.node.cached("1001", "cache-a") is None


async def test_without_listeners_nothing_is_recorded() -> None:
    async for house in furnished(events=()):
        assert names(arrive(house, "cache-a")[1]) == [SUCCEEDED, "pusher:cache_miss"]
        assert house.outbox.commits == []


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from(["publish", "arrive", "client event"]), max_size=30))
def test_everybody_has_the_last_event_whatever_the_order(steps: list[str]) -> None:
    async def play() -> None:
        async for house in furnished():
            heard: list[tuple[FakeConnection, list[str]]] = []
            published: list[str] = []
            live = None
            for step in steps:
                if step == "publish":
                    published.append(str(len(published)))
                    publish(house, "private-cache-a", published[-1])
                elif step == "arrive":
                    live, connection = arrive(house, "private-cache-a")
                    heard.append((connection, published[-1:]))
                elif live is not None:
                    house.say(live, "client-e", "-1", "private-cache-a")
            for connection, before in heard:
                got = [frame["data"] for frame in connection.frames() if frame["event"] == "price"]
                assert got == published[len(published) - len(got) :], "in order, each once"
                assert got[: len(before)] == before
                assert bool(got) == bool(published)

    asyncio.run(play())


# -- subscription counts


async def test_all_subscribers_hear_how_many_they_are_the_newcomer_too(counting: House) -> None:
    (first, to_first), (second, to_second) = arrive(counting, "orders"), arrive(counting, "orders")
    assert to_first.frames()[1:] == [count("orders", 1), count("orders", 2)]
    assert to_second.frames()[1:] == [count("orders", 2)]
    counting.say(first, "pusher:unsubscribe", {"channel": "orders"})
    assert to_first.frames() == []
    assert to_second.frames() == [count("orders", 1)]
    counting.node.lost(second, 1006, "connection_lost")
    counting.sweep()
    counts = [event for event in await counting.events() if event.kind == "channel.subscription_count"]
    assert [event.data for event in counts] == [
        {"channel": "orders", "type": "public", "subscribers": number} for number in (1, 2, 1, 0)
    ]


async def test_the_count_comes_after_the_kept_event_and_is_not_kept_itself(counting: House) -> None:
    publish(counting, "cache-a", "1")
    for _ in range(2):
        assert names(arrive(counting, "cache-a")[1]) == [SUCCEEDED, "price", COUNT]
    assert counting.node.cached("1001", "cache-a") == ("1", 1800)


async def test_members_are_not_counted_twice(counting: House) -> None:
    _, connection = arrive(counting, "presence-a")
    arrive(counting, "presence-a", "other")
    assert names(connection) == [SUCCEEDED, "pusher_internal:member_added"]
    assert "channel.subscription_count" not in await counting.kinds()


async def test_who_did_not_ask_for_counts_gets_none(house: House) -> None:
    arrive(house, "orders")
    assert names(arrive(house, "orders")[1]) == [SUCCEEDED]
    assert "channel.subscription_count" not in await house.kinds()


async def test_of_many_subscribers_a_change_is_told_at_intervals(counting: House) -> None:
    crowd = [arrive(counting, "orders") for _ in range(FEW + 1)]
    _, witness = crowd[0]
    assert witness.frames()[-1] == count("orders", FEW + 1)
    await counting.events()
    arrive(counting, "orders")
    arrive(counting, "orders")
    counting.clock.move(PACE_S - 0.1)
    counting.node.tick()
    assert witness.frames() == []
    counting.clock.move(0.1)
    counting.node.tick()
    assert witness.frames() == [count("orders", FEW + 3)]
    counting.clock.move(PACE_S)
    counting.node.tick()
    assert witness.frames() == []
    told = [event.data["subscribers"] for event in await counting.events() if event.kind == "channel.subscription_count"]
    assert told == [FEW + 3]


async def test_counts_are_switched_on_and_off_by_a_new_configuration(house: House) -> None:
    _, connection = arrive(house, "orders")
    connection.frames()
    house.node.adopt([COUNTING])
    arrive(house, "orders")
    assert connection.frames() == [count("orders", 2)]
    house.node.adopt([APP])
    arrive(house, "orders")
    assert connection.frames() == []
