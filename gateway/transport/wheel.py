"""A timing wheel: who is due in which beat, for ten thousand things at the price of one timer.

Beats are whatever the owner says they are; the wheel knows no clock. Putting, moving and removing take constant time.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Protocol


class Rider(Protocol):
    """Something that can be on a wheel, on one at a time."""

    #: where the wheel keeps it; the wheel's own, to be set to `OFF` at the start
    spoke: int

    def due(self) -> None:
        """The beat has come; the rider is off the wheel again."""
        ...

    def abort(self) -> None:
        """End at once; the rider then removes itself."""
        ...


#: `spoke` of a rider that is not on the wheel
OFF = -1


class Wheel:
    """See the head of this file."""

    __slots__ = ("_count", "_hand", "_size", "_spokes")

    def __init__(self, longest: int) -> None:
        """`longest` is the greatest number of beats anything will be put ahead."""
        # Dicts, because they keep order: who came first is served first.
        self._spokes: list[dict[Rider, None]] = [{} for _ in range(longest + 1)]
        self._size = longest + 1
        self._hand = 0
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Rider]:
        for spoke in self._spokes:
            yield from spoke

    def put(self, rider: Rider, beats: int) -> None:
        """Let the rider be due in so many beats, at least one; if it is on the wheel already, it is moved."""
        if not 1 <= beats < self._size:
            raise ValueError(f"{beats} beats do not fit a wheel of {self._size}")
        before, spoke = rider.spoke, (self._hand + beats) % self._size
        if before == OFF:
            self._count += 1
        else:
            self._take_off(rider, before)
        self._spokes[spoke][rider] = None
        rider.spoke = spoke

    def remove(self, rider: Rider) -> None:
        """Take the rider off, if it is on."""
        spoke = rider.spoke
        if spoke != OFF:
            self._take_off(rider, spoke)
            rider.spoke = OFF
            self._count -= 1

    def advance(self) -> None:
        """Let one beat pass; what was not taken in the last one stays due."""
        left = self._spokes[self._hand]
        self._hand = (self._hand + 1) % len(self._spokes)
        for rider in left:
            rider.spoke = self._hand
        self._spokes[self._hand].update(left)
        left.clear()

    def _take_off(self, rider: Rider, number: int) -> None:
        spoke = self._spokes[number]
        del spoke[rider]
        if not spoke:
            spoke.clear()  # a dict that has become empty keeps the room of all it held

    def take(self, limit: int) -> list[Rider]:
        """Take off, and return, at most `limit` riders that are due now."""
        # All at once: to find the first key a dict passes over all those that were deleted before it, each time anew.
        taken = list(islice(self._spokes[self._hand], limit))
        for rider in taken:
            self.remove(rider)
        return taken
