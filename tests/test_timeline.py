"""Timelines: of one connection or channel, whole, in order, from a time on, and in bounded steps."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.core.delivery import Outcome, Stage, State
from gateway.core.lifecycle import LifecycleEvent
from gateway.desk import timeline as module
from gateway.desk.timeline import cursor_before
from tests.desk_kit import REFUSED_500, DeskKit, endpoint

APP = "740213"
KEY = f"{APP}/backend"


async def happens(kit: DeskKit, kind: str, **data: object) -> LifecycleEvent:
    at_ms = kit.clock.epoch_ms()
    channel = data.get("channel")
    event = LifecycleEvent(kit.ids.make("evt", at_ms), kind, APP, at_ms, f"{APP}/x", data, channel and str(channel))
    await kit.record(event)
    kit.clock.move(1)
    return event


async def walk(kit: DeskKit, **asked: Any) -> list[str]:
    told: list[str] = []
    after = 0
    for _ in range(100):
        page = await kit.desk.timeline(APP, **asked, after=after)
        told += [one["id"] for one in page["events"]]
        if "after" not in page:
            return told
        assert page["after"] >= after
        after = page["after"]
    raise AssertionError("it has no end")


async def scene() -> tuple[DeskKit, list[str], list[str]]:
    """Two connections on one channel, and what of it is about the first, and about the channel."""
    kit = DeskKit(endpoint())
    mine = [await happens(kit, "connection.opened", socket_id="1.1")]
    await happens(kit, "connection.opened", socket_id="2.2")
    both = [await happens(kit, "channel.subscribed", socket_id="1.1", channel="orders")]
    mine += both
    channel = [*both, await happens(kit, "channel.subscribed", socket_id="2.2", channel="orders")]
    await happens(kit, "channel.subscribed", socket_id="2.2", channel="orders-2")
    channel.append(await happens(kit, "message.published", channel="orders", event="created", data="1.1"))
    mine.append(await happens(kit, "connection.closed", socket_id="1.1"))
    return kit, [event.id for event in mine], [event.id for event in channel]


@pytest.mark.parametrize("limit", [1, 2, 100])
async def test_it_is_whole_in_order_and_of_nothing_else(limit: int) -> None:
    kit, mine, channel = await scene()
    assert await walk(kit, socket_id="1.1", limit=limit) == mine
    assert await walk(kit, channel="orders", limit=limit) == channel
    assert await walk(kit, channel="nothing", limit=limit) == []


async def test_it_is_the_same_where_one_answer_looks_only_so_far(monkeypatch: pytest.MonkeyPatch) -> None:
    kit, mine, channel = await scene()
    monkeypatch.setattr(module, "_PIECE", 1)
    monkeypatch.setattr(module, "_MOST_EXAMINED", 2)
    assert await walk(kit, socket_id="1.1") == mine
    assert await walk(kit, channel="orders") == channel


async def test_each_event_says_what_became_of_its_webhooks() -> None:
    kit = DeskKit(endpoint())
    await happens(kit, "channel.occupied", channel="orders")
    await kit.settle(KEY, State.DEAD, REFUSED_500, reason="max_attempts")
    await happens(kit, "channel.vacated", channel="orders")
    await kit.settle(KEY, State.DELIVERED, Outcome(Stage.ANSWERED, 1.0, 204))
    await happens(kit, "channel.occupied", channel="orders")
    told = (await kit.desk.timeline(APP, channel="orders"))["events"]
    assert [one["webhooks"] for one in told] == [
        [{"name": "backend", "state": "dead", "attempts": 1, "status": 500}],
        [{"name": "backend", "state": "delivered", "attempts": 1, "status": 204}],
        [{"name": "backend", "state": "due", "attempts": 0}],
    ]


async def test_it_can_begin_at_a_time_and_a_clock_that_was_set_back_hides_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "NEAR", 1)
    kit = DeskKit(endpoint())
    ids = []
    for _ in range(20):
        ids.append((await happens(kit, "channel.occupied", channel="orders")).id)
        kit.clock.move(29)
    begin_ms = kit.clock.epoch_ms() - 5 * 30_000
    # a minute more than was asked for
    assert await walk(kit, channel="orders", from_ms=begin_ms) == ids[-7:]
    assert await walk(kit, channel="orders", from_ms=0) == ids


async def test_the_cursor_before_a_time_is_found_by_halving(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "NEAR", 1)
    kit = DeskKit(endpoint())
    events = await kit.happen(40)
    newest = kit.outbox.latest(APP)
    for place in (0, 1, 17, 39):
        cursor = await cursor_before(kit.outbox, APP, events[place].at_ms, 0, newest)
        page = await kit.outbox.feed(APP, after=cursor, limit=2)
        assert events[place].id in [entry.event.id for entry in page.entries]
