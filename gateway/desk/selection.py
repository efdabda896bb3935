"""Which events are meant, where not all are: by kind, channel and time."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase

import orjson

from gateway.core.delivery import Delivery
from gateway.core.lifecycle import LifecycleEvent


@dataclass(frozen=True, slots=True)
class Selection:
    """A filter; what is None lets everything pass. Times are Unix milliseconds, both ends included."""

    kinds: frozenset[str] | None = None
    #: a shell glob over channel names; events without a channel do not pass one
    channel: str | None = None
    from_ms: int | None = None
    to_ms: int | None = None

    @property
    def is_choosy(self) -> bool:
        """Tell whether anything can fail to pass."""
        return self != _EVERYTHING

    def takes(self, event: LifecycleEvent) -> bool:
        """Tell whether the event is meant."""
        return self._takes(event.kind, event.at_ms) and (self.channel is None or _fits(event.channel, self.channel))

    def takes_delivery(self, delivery: Delivery) -> bool:
        """Tell whether the event in the delivery is meant."""
        if not self._takes(delivery.kind, delivery.at_ms):
            return False
        return self.channel is None or _fits(orjson.loads(delivery.envelope)["data"].get("channel"), self.channel)

    def _takes(self, kind: str, at_ms: int) -> bool:
        return (
            (self.kinds is None or kind in self.kinds)
            and (self.from_ms is None or at_ms >= self.from_ms)
            and (self.to_ms is None or at_ms <= self.to_ms)
        )


_EVERYTHING = Selection()


def _fits(channel: str | None, glob: str) -> bool:
    return channel is not None and fnmatchcase(channel, glob)
