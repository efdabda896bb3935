"""Who is subscribed to what on this node: the place a fan-out looks up whom to offer a frame."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Generic, TypeVar

#: what the node keeps per subscriber; the hub never looks into it
S = TypeVar("S")

_NOBODY: Mapping[str, Any] = MappingProxyType({})


class Hub(Generic[S]):
    """The subscriptions of one app on this node. A channel is here exactly while it has a subscriber."""

    __slots__ = ("_channels", "_reserved")

    def __init__(self) -> None:
        self._channels: dict[str, dict[str, S]] = {}
        self._reserved = 0

    @property
    def channels(self) -> int:
        """How many channels have a subscriber on this node, without those the gateway keeps for itself (`#...`)."""
        return len(self._channels) - self._reserved

    def names(self) -> list[str]:
        """Return the same channels as a copy, in no order that means anything."""
        return [name for name in self._channels if not name.startswith("#")] if self._reserved else list(self._channels)

    def subscribe(self, channel: str, socket_id: str, subscriber: S) -> bool:
        """Add the subscriber and tell whether it is the channel's first on this node; one that is there is replaced."""
        subscribers = self._channels.get(channel)
        if subscribers is None:
            self._channels[channel] = {socket_id: subscriber}
            self._reserved += channel.startswith("#")
            return True
        subscribers[socket_id] = subscriber
        return False

    def unsubscribe(self, channel: str, socket_id: str) -> bool:
        """Remove the subscriber and tell whether it was the channel's last on this node; one that is not there is no news."""
        subscribers = self._channels.get(channel)
        if subscribers is None or socket_id not in subscribers:
            return False
        del subscribers[socket_id]
        if subscribers:
            return False
        del self._channels[channel]
        self._reserved -= channel.startswith("#")
        return True

    def subscribers(self, channel: str) -> Mapping[str, S]:
        """Return the subscribers by socket id. The mapping is live: whoever walks it must not change the hub meanwhile."""
        return self._channels.get(channel, _NOBODY)
