"""Members and occupancy of one app's channels; every change returns a diff.

What is counted twice nowhere: a *subscriber* is a connection, a *user* is who stands behind one or several of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from gateway.core.channel import kind_of
from gateway.core.value import value


@dataclass(frozen=True, slots=True)
class Member:
    """A user on a presence channel. `info` is `user_info` as compact JSON, `{}` where the client gave none."""

    user_id: str
    info: bytes = b"{}"


@value
class Diff:
    """What one `enter` or `leave` changed; counts are those after the change."""

    channel: str
    subscribers: int
    #: 0 -> 1 subscriber
    occupied: bool = False
    #: 1 -> 0 subscribers
    vacated: bool = False
    #: the user's first connection came / last connection went
    member_added: Member | None = None
    member_removed: Member | None = None
    #: on presence channels: who is there now, by user id. A live view: read it at once, keep nothing
    members: Mapping[str, Member] | None = None
    #: `enter` only: the channel is full, nothing was changed
    refused: bool = False


_NOBODY: Mapping[str, Member] = MappingProxyType({})


class _Presence:
    """The users of one presence channel, in order of arrival, and how many connections each of them has there."""

    __slots__ = ("connections", "members")

    def __init__(self) -> None:
        self.members: dict[str, Member] = {}
        self.connections: dict[str, int] = {}

    def enter(self, member: Member) -> bool:
        """Count a connection of the user; tell whether it is the first. The first one's `info` stays while there is any."""
        user_id = member.user_id
        before = self.connections.get(user_id, 0)
        self.connections[user_id] = before + 1
        if before == 0:
            self.members[user_id] = member
        return before == 0

    def leave(self, user_id: str) -> Member | None:
        """Take back a connection of the user; return the member if it was the last."""
        self.connections[user_id] -= 1
        if self.connections[user_id]:
            return None
        del self.connections[user_id]
        return self.members.pop(user_id)


class _Channel:
    """One occupied channel: its subscribers with the user behind each (None where there are no users)."""

    __slots__ = ("presence", "subscribers")

    def __init__(self, presence: _Presence | None) -> None:
        self.subscribers: dict[str, str | None] = {}
        self.presence = presence

    @property
    def members(self) -> Mapping[str, Member] | None:
        return None if self.presence is None else self.presence.members


class Roster:
    """The channels of one app. A channel is here exactly while it has a subscriber; entering and leaving take no walk.

    `member` must be given on presence channels, and is not looked at on others.
    """

    __slots__ = ("_channels",)

    def __init__(self) -> None:
        self._channels: dict[str, _Channel] = {}

    def enter(self, channel: str, socket_id: str, member: Member | None, max_members: int) -> Diff:
        """Add a connection. One that is there already changes nothing; a new user beyond `max_members` is refused.

        Only users count against the limit: a further connection of somebody present always gets in.
        """
        room = self._channels.get(channel)
        occupied = room is None
        if room is None:
            room = _Channel(_Presence() if kind_of(channel).has_members else None)
        elif socket_id in room.subscribers:
            return Diff(channel, len(room.subscribers), members=room.members)

        presence = room.presence
        user_id = None
        added = None
        if presence is not None and member is not None:
            user_id = member.user_id
            if user_id not in presence.members and len(presence.members) >= max_members:
                return Diff(channel, len(room.subscribers), members=presence.members, refused=True)
            if presence.enter(member):
                added = member
        room.subscribers[socket_id] = user_id
        if occupied:
            self._channels[channel] = room
        return Diff(channel, len(room.subscribers), occupied=occupied, member_added=added, members=room.members)

    def leave(self, channel: str, socket_id: str) -> Diff:
        """Remove a connection; one that is not there changes nothing."""
        room = self._channels.get(channel)
        if room is None:
            return Diff(channel, 0, members=_NOBODY if kind_of(channel).has_members else None)
        if socket_id not in room.subscribers:
            return Diff(channel, len(room.subscribers), members=room.members)

        user_id = room.subscribers.pop(socket_id)
        removed = None
        if room.presence is not None and user_id is not None:
            removed = room.presence.leave(user_id)
        vacated = not room.subscribers
        if vacated:
            del self._channels[channel]
        return Diff(channel, len(room.subscribers), vacated=vacated, member_removed=removed, members=room.members)

    def subscribers(self, channel: str) -> int:
        """Return how many connections are on the channel."""
        room = self._channels.get(channel)
        return 0 if room is None else len(room.subscribers)

    def users(self, channel: str) -> int | None:
        """Return how many users are on a presence channel; None for any other kind."""
        return len(self.members(channel)) if kind_of(channel).has_members else None

    def members(self, channel: str) -> Mapping[str, Member]:
        """Return the users of the channel by id, in order of arrival: a live view, empty where there are none."""
        room = self._channels.get(channel)
        return _NOBODY if room is None or room.presence is None else room.presence.members

    def channels(self, prefix: str = "") -> Iterator[tuple[str, int, int | None]]:
        """Yield name, subscribers and users (None unless presence) of each channel; read all of it at once."""
        for name, room in self._channels.items():
            if name.startswith(prefix):
                yield name, len(room.subscribers), None if room.presence is None else len(room.presence.members)
