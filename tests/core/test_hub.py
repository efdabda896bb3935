from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from gateway.core.hub import Hub


def test_the_first_and_the_last_are_told() -> None:
    hub: Hub[str] = Hub()
    assert hub.subscribe("c", "1.1", "a")
    assert not hub.subscribe("c", "1.2", "b")
    assert list(hub.subscribers("c").items()) == [("1.1", "a"), ("1.2", "b")]
    assert not hub.unsubscribe("c", "1.1")
    assert hub.unsubscribe("c", "1.2")
    assert hub.subscribe("c", "1.1", "a")


def test_whoever_is_not_there_cannot_be_the_last() -> None:
    hub: Hub[str] = Hub()
    assert not hub.unsubscribe("c", "1.1")
    hub.subscribe("c", "1.1", "a")
    assert not hub.unsubscribe("c", "1.2")
    assert hub.unsubscribe("c", "1.1")
    assert not hub.unsubscribe("c", "1.1")


def test_a_channel_that_nobody_holds_is_empty_for_all_alike() -> None:
    hub: Hub[str] = Hub()
    assert hub.subscribers("c") is hub.subscribers("d")
    assert not hub.subscribers("c")


def test_the_subscribers_are_a_live_view() -> None:
    hub: Hub[str] = Hub()
    hub.subscribe("c", "1.1", "a")
    seen = hub.subscribers("c")
    hub.subscribe("c", "1.2", "b")
    assert len(seen) == 2


CHANNELS = st.sampled_from(["a", "b", "presence-c"])
SOCKETS = st.sampled_from(["1.1", "1.2", "1.3"])


class HubModel(RuleBasedStateMachine):
    """The hub against a plain set of pairs."""

    def __init__(self) -> None:
        super().__init__()
        self.hub: Hub[object] = Hub()
        self.model: dict[tuple[str, str], object] = {}

    def count(self, channel: str) -> int:
        return sum(name == channel for name, _ in self.model)

    @rule(channel=CHANNELS, socket_id=SOCKETS)
    def subscribe(self, channel: str, socket_id: str) -> None:
        is_first = self.count(channel) == 0
        subscriber = object()
        self.model[channel, socket_id] = subscriber
        assert self.hub.subscribe(channel, socket_id, subscriber) == is_first

    @rule(channel=CHANNELS, socket_id=SOCKETS)
    def unsubscribe(self, channel: str, socket_id: str) -> None:
        was_there = self.model.pop((channel, socket_id), None) is not None
        assert self.hub.unsubscribe(channel, socket_id) == (was_there and self.count(channel) == 0)

    @invariant()
    def both_agree(self) -> None:
        for channel in ("a", "b", "presence-c"):
            expected = {socket_id: subscriber for (name, socket_id), subscriber in self.model.items() if name == channel}
            assert dict(self.hub.subscribers(channel)) == expected
        assert self.hub.channels == len({name for name, _ in self.model})


TestHubModel = HubModel.TestCase


def test_names_are_a_copy() -> None:
    hub: Hub[str] = Hub()
    hub.subscribe("a", "1.1", "x")
    hub.subscribe("b", "1.1", "x")
    names = hub.names()
    hub.unsubscribe("a", "1.1")
    assert sorted(names) == ["a", "b"]
    assert hub.names() == ["b"]


def test_what_the_gateway_keeps_for_itself_is_neither_counted_nor_named() -> None:
    hub: Hub[str] = Hub()
    for channel in ("#server-to-user-7", "a", "#user-status-7"):
        hub.subscribe(channel, "1.1", "x")
        hub.subscribe(channel, "1.2", "x")
    assert (hub.channels, hub.names()) == (1, ["a"])
    for channel in ("#server-to-user-7", "#user-status-7", "a"):
        hub.unsubscribe(channel, "1.1")
        hub.unsubscribe(channel, "1.2")
    assert (hub.channels, hub.names()) == (0, [])
