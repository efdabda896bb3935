"""The last event of each channel that keeps one, so that who comes late need not wait for the next.

What is kept is bound to its age, not to anybody being there (Pusher protocol: cache frames). Nothing here has a timer: what
is too old is passed over when it is asked for, and swept out from the front, where the oldest is.
"""

from __future__ import annotations

from collections import OrderedDict
from math import ceil
from typing import NamedTuple

import orjson

#: What one entry takes beside its frame and its channel's name, in bytes: 235 to 281 were measured with a thousand to 175,000
#: entries (CPython 3.11).
OVERHEAD = 300

#: Seconds until a miss of the same channel is news again: as long as a webhook may take by default. Until then the first one
#: told may still be on its way to whoever is to publish something.
NEWS_S = 10.0


class Kept(NamedTuple):
    """A channel's last event: its frame (JSON text, UTF-8) as subscribers got it, and when, in monotonic seconds."""

    frame: bytes
    at: float


class Cache:
    """The kept events of one app. `now` is monotonic seconds, and never runs backwards.

    All entries together take at most `room` bytes; the oldest make room for the newest.
    """

    __slots__ = ("_kept", "_lifetime_s", "_missed", "_room", "_taken")

    def __init__(self, lifetime_s: float, room: int) -> None:
        self._kept: OrderedDict[str, Kept] = OrderedDict()  # oldest first
        self._missed: OrderedDict[str, float] = OrderedDict()  # channels whose miss was told, and when; oldest first
        self._taken = 0
        self.configure(lifetime_s, room)

    def configure(self, lifetime_s: float, room: int) -> None:
        """Take over other bounds; they hold for what is kept already too."""
        self._lifetime_s = lifetime_s
        self._room = room
        self._make_room(0)

    @property
    def taken(self) -> int:
        """How many bytes the entries take."""
        return self._taken

    def keep(self, channel: str, frame: bytes, now: float) -> None:
        """Keep the frame in place of the channel's former one; one that is larger than all the room only ends that."""
        self.expire(now)
        self._missed.pop(channel, None)
        self._forget(channel)
        cost = _cost(channel, frame)
        if cost <= self._room:
            self._make_room(cost)
            self._kept[channel] = Kept(frame, now)
            self._taken += cost

    def find(self, channel: str, now: float) -> bytes | None:
        """Return the frame of the channel's last event; None: there was none, or it is too old."""
        kept = self._kept.get(channel)
        return None if kept is None or now - kept.at >= self._lifetime_s else kept.frame

    def content(self, channel: str, now: float) -> tuple[str, int] | None:
        """Return the data of the channel's last event and the whole seconds it has left, as `find` would find it."""
        frame = self.find(channel, now)
        if frame is None:
            return None
        data: str = orjson.loads(frame)["data"]
        return data, ceil(self._lifetime_s - (now - self._kept[channel].at))

    def is_news(self, channel: str, now: float) -> bool:
        """Tell whether somebody's finding nothing here should be told, and take it as told if so.

        It is news once in a while, and again as soon as what was kept has gone.
        """
        self._forget_told(now)
        if channel in self._missed:
            return False
        self._missed[channel] = now
        return True

    def expire(self, now: float) -> None:
        """Sweep out what is too old; costs nothing where nothing is."""
        kept = self._kept
        while kept and now - next(iter(kept.values())).at >= self._lifetime_s:
            self._forget(next(iter(kept)))
        self._forget_told(now)

    def _forget_told(self, now: float) -> None:
        missed = self._missed
        while missed and now - next(iter(missed.values())) >= NEWS_S:
            missed.popitem(last=False)

    def _make_room(self, cost: int) -> None:
        while self._taken + cost > self._room:
            self._forget(next(iter(self._kept)))

    def _forget(self, channel: str) -> None:
        kept = self._kept.pop(channel, None)
        if kept is not None:
            self._taken -= _cost(channel, kept.frame)


def _cost(channel: str, frame: bytes) -> int:
    return len(channel) + len(frame) + OVERHEAD
