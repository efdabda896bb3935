"""What is next in each lane, as far as it is in memory anyway: just appended, or read from the file together with a head."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice

from gateway.core.delivery import Delivery
from gateway.outbox.books import Lane, Name

#: deliveries held of one lane: two of the largest batches that are usual
MOST = 1_000
#: bytes of envelopes held of all lanes together
MOST_BYTES = 32 << 20


class _Held:
    """Everything in a lane from some former cursor on to the sequence `end`, in order."""

    __slots__ = ("deliveries", "end", "size", "tail")

    def __init__(self, end: int, tail: int) -> None:
        self.deliveries: deque[Delivery] = deque()
        self.end = end
        #: the newest delivery that was ever appended, as far as told
        self.tail = tail
        self.size = 0

    def settled(self, cursor: int) -> int:
        """Let go of what was settled and return how many bytes it was."""
        freed = 0
        while self.deliveries and self.deliveries[0].sequence <= cursor:
            freed += len(self.deliveries.popleft().envelope)
        self.size -= freed
        return freed


class Ahead:
    """Holds what may be claimed next. `lanes` is where they really stand; it may be ahead of what was told here."""

    def __init__(self) -> None:
        self._held: dict[Name, _Held] = {}
        self._size = 0

    def begin(self, lanes: Mapping[Name, Lane]) -> None:
        """Be told where the lanes stand before the first append."""
        for name, lane in lanes.items():
            self._held[name] = _Held(lane.cursor, lane.tail)

    def appended(self, deliveries: Iterable[Delivery], lanes: Mapping[Name, Lane]) -> None:
        """Be told, in the order of the appends, what is durable now."""
        for delivery in deliveries:
            name = (delivery.endpoint, delivery.lane)
            held = self._held.get(name)
            if held is None:
                held = self._held[name] = _Held(0, 0)
            if delivery.sequence <= held.tail:
                continue  # it was read from the file before it could be told
            if held.end != held.tail and lanes[name].cursor >= held.tail:
                self._size -= held.settled(held.tail)  # the lane has run dry in between
                held.end = held.tail
            if held.end == held.tail and len(held.deliveries) >= MOST:
                self._size -= held.settled(lanes[name].cursor)
            if held.end == held.tail and len(held.deliveries) < MOST and self._size < MOST_BYTES:
                held.deliveries.append(delivery)
                held.end = delivery.sequence
                held.size += len(delivery.envelope)
                self._size += len(delivery.envelope)
            held.tail = delivery.sequence

    def settled(self, endpoint: str, lanes: Mapping[Name, Lane]) -> None:
        """Be told that the endpoint's lanes were moved on without a claim: what they are past is held no more."""
        for name, held in self._held.items():
            if name[0] == endpoint and name in lanes:
                self._size -= held.settled(lanes[name].cursor)

    def read(self, lane: Lane, deliveries: Sequence[Delivery]) -> None:
        """Be told what the file holds from the cursor of `lane` on, without a gap."""
        name = (lane.endpoint, lane.lane)
        held = self._held.get(name)
        if held is None:
            held = self._held[name] = _Held(lane.cursor, lane.tail)
        self._size -= held.size
        held.deliveries = deque(deliveries)
        held.size = sum(len(delivery.envelope) for delivery in deliveries)
        held.end = deliveries[-1].sequence if deliveries else lane.cursor
        held.tail = max(held.tail, held.end)
        self._size += held.size

    def head(self, lane: Lane, last: int, limit: int, *, is_bound: bool) -> tuple[Delivery, ...] | None:
        """Return the lane's first deliveries up to sequence `last`, at most `limit`; None if they are not all here.

        Unless it `is_bound` to that end, it is enough if all are here that were told of: those of the latest append are
        durable a moment before, and to read them from the file would cost more than to leave them to the next head.
        """
        held = self._held.get((lane.endpoint, lane.lane))
        if held is None:
            return None
        self._size -= held.settled(lane.cursor)
        if held.deliveries and held.deliveries[-1].sequence > last:
            head = tuple(delivery for delivery in islice(held.deliveries, limit) if delivery.sequence <= last)
            return head or None
        is_all = not is_bound and held.end == held.tail
        if len(held.deliveries) >= limit or (held.deliveries and (is_all or held.deliveries[-1].sequence == last)):
            return tuple(islice(held.deliveries, limit))
        return None

    def is_told(self, lane: Lane) -> bool:
        """Tell whether anything is due in the lane that `appended` or `read` told of, or may be: the file alone can say."""
        held = self._held.get((lane.endpoint, lane.lane))
        return held is None or held.end != held.tail or lane.cursor < held.tail
