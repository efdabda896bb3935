"""The wait before a departure counts, so that a blink is not a departure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from heapq import heappop, heappush


class Stay:
    """A channel's or a member's span while it is open; that of a channel has no user id."""

    __slots__ = ("channel", "departure", "leaver", "span", "user_id")

    def __init__(self, span: str, channel: str, user_id: str | None) -> None:
        self.span = span
        self.channel = channel
        self.user_id = user_id
        #: number of the pending departure; 0: none, it is plainly open
        self.departure = 0
        #: who left last, as members of `data`
        self.leaver: Mapping[str, object] = {}

    @property
    def kind(self) -> str:
        """The kind of the span."""
        return "channel" if self.user_id is None else "member"

    @property
    def key(self) -> str:
        """The key of the span."""
        return self.channel if self.user_id is None else f"{self.channel}\n{self.user_id}"


class Stays:
    """The open member spans of one channel, by user id, and how many subscribers it had at last count."""

    __slots__ = ("subscribers", "users")

    def __init__(self) -> None:
        self.users: dict[str, Stay] = {}
        self.subscribers = 0


class Departures:
    """The pending departures by deadline, in monotonic seconds; those with equal deadlines in the order they were added."""

    __slots__ = ("_heap", "_number")

    def __init__(self) -> None:
        # One that was called off stays until its turn comes and is known by its number: removing it would cost a search.
        self._heap: list[tuple[float, int, Stay]] = []
        self._number = 0

    def add(self, stay: Stay, deadline: float) -> None:
        """Let the stay depart at the deadline, in place of any departure that is pending."""
        self._number += 1
        stay.departure = self._number
        heappush(self._heap, (deadline, self._number, stay))

    def next_deadline(self) -> float | None:
        """Return the earliest deadline; None: nothing is pending."""
        heap = self._heap
        while heap and heap[0][2].departure != heap[0][1]:
            heappop(heap)
        return heap[0][0] if heap else None

    def due(self, now: float) -> Iterator[Stay]:
        """Yield those whose deadline has come, in order, each no longer departing when it is yielded."""
        while (deadline := self.next_deadline()) is not None and deadline <= now:
            stay = heappop(self._heap)[2]
            stay.departure = 0
            yield stay
