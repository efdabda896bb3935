"""When a channel's number of subscribers is told: at once while they are few, at intervals while they are many."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator

from gateway.core.channel import kind_of

#: Up to so many subscribers each change is told at once; of more, one in so many seconds (Pusher protocol: subscription count).
FEW = 100
PACE_S = 5.0


def is_counted(channel: str) -> bool:
    """Tell whether the subscribers of this channel are told their number: presence channels tell their members instead."""
    return not channel.startswith("#") and not kind_of(channel).has_members


class Tally:
    """The channels of one app whose number was told lately. `now` is monotonic seconds, and never runs backwards."""

    __slots__ = ("_told", "_untold")

    def __init__(self) -> None:
        # Only channels with many subscribers are here, each for one interval after it was told: oldest first.
        self._told: OrderedDict[str, float] = OrderedDict()
        self._untold: dict[str, int] = {}

    def changed(self, channel: str, subscribers: int, now: float) -> bool:
        """Take a new number and say whether it is to be told now; if not, `due` comes back to it, or to a later one."""
        if subscribers <= FEW:
            self._told.pop(channel, None)
            self._untold.pop(channel, None)
            return True
        told_at = self._told.get(channel)
        if told_at is not None and now - told_at < PACE_S:
            self._untold[channel] = subscribers
            return False
        self._untold.pop(channel, None)
        self._told[channel] = now
        self._told.move_to_end(channel)
        return True

    def next_at(self) -> float | None:
        """Return when the interval of a channel is over; None: of none whose number has changed in it."""
        return next(iter(self._told.values())) + PACE_S if self._untold else None

    def due(self, now: float) -> Iterator[tuple[str, int]]:
        """Yield the channels whose interval is over and whose number has changed in it, with the latest number."""
        told = self._told
        while told and now - next(iter(told.values())) >= PACE_S:
            channel, _ = told.popitem(last=False)
            subscribers = self._untold.pop(channel, None)
            if subscribers is not None:
                told[channel] = now
                yield channel, subscribers
