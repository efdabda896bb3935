"""Watching live: what passes a filter, what is skipped, and that nothing is made for nobody."""

from __future__ import annotations

from gateway.admin.watch import MOST_WAITING, PAYLOAD, Filter, Watch, Watcher
from gateway.core.lifecycle import LifecycleEvent
from tests.device.admin_kit import House


def event(kind: str = "message.published", **data: object) -> LifecycleEvent:
    return LifecycleEvent("evt_1", kind, "740213", 0, "", data)


def test_a_filter_looks_for_names_anywhere_and_for_ids_whole() -> None:
    said = event(channel="private-Orders", event="created", socket_id="12.34")
    for wanted, passes in (
        (Filter(), True),
        (Filter(channel="orders"), True),
        (Filter(channel="orders*"), False),
        (Filter(event="creat"), True),
        (Filter(event="message.*"), True),
        (Filter(event="client_event"), False),
        (Filter(socket_id="12.3"), False),
        (Filter(app="740214"), False),
    ):
        assert wanted.ready()(said) is passes, wanted


def test_who_does_not_keep_up_misses_the_older_ones_and_is_told_how_many() -> None:
    watcher = Watcher()
    for number in range(MOST_WAITING + 7):
        watcher.offer(event(number=number))
    events, skipped = watcher.take()
    assert (len(events), skipped, events[0]["data"]["number"]) == (MOST_WAITING, 7, 7)
    assert watcher.take() == ([], 0)


def test_a_long_payload_is_cut_and_says_so() -> None:
    watcher = Watcher()
    watcher.offer(event(data="x" * (PAYLOAD + 1)))
    ((told,), _) = watcher.take()
    assert (len(told["data"]["data"]), told["cut"]) == (PAYLOAD, PAYLOAD + 1)


async def test_what_is_not_recorded_is_seen_while_somebody_watches_and_only_then() -> None:
    house, watcher = House(), Watcher()
    watch = Watch(house.sources)
    house.connect("key-2")
    watch.enter(watcher)
    live, _ = house.connect("key-2")
    house.join(live, "orders")
    house.node.lost(live, 1000, "client")
    events, _ = watcher.take()
    kinds = ["connection.opened", "channel.subscribed", "channel.unsubscribed", "connection.closed"]
    assert [one["event"] for one in events] == kinds
    # what will be recorded comes when it is, not twice
    house.connect("key-1")
    assert watcher.take() == ([], 0)
    watch.leave(watcher)
    assert (house.telemetry.onlooker, house.sources.desk.listener) == (None, None)
