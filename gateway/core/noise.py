"""What a broken or hostile client can cause in any number: the first ones are told one by one, the others are counted."""

from __future__ import annotations

from collections import Counter

from gateway.core.limit import TokenBucket
from gateway.core.span import Instant

#: Of each kind and connection: a person's mistakes are all told, a loop's are not.
BURST = 10
PER_S = 1


class Noise:
    """Decides, for each kind of event and connection, what is told; the socket id is None for what came over HTTP."""

    __slots__ = ("_buckets", "_left_out")

    def __init__(self) -> None:
        self._buckets: dict[tuple[str | None, str], TokenBucket] = {}
        self._left_out: Counter[tuple[str | None, str]] = Counter()

    def is_heard(self, socket_id: str | None, kind: str, now: Instant, has_room: bool) -> bool:
        """Tell whether one more may be told, and count it if not; without room to record it, it may not."""
        bucket = self._buckets.get((socket_id, kind))
        if bucket is None:
            bucket = self._buckets[socket_id, kind] = TokenBucket(PER_S, BURST)
        if has_room and bucket.take(now.monotonic_s):
            return True
        self._left_out[socket_id, kind] += 1
        return False

    def repeats(self, socket_id: str | None, kind: str) -> dict[str, object]:
        """Return what to add to the `data` of the one that is told: how many were left out before it, if any."""
        untold = self._left_out.pop((socket_id, kind), 0)
        return {"repeats": untold} if untold else {}

    def end(self, socket_id: str) -> dict[str, int]:
        """The connection has ended: forget it, and return what was left out and never told, by kind."""
        if not self._buckets:
            return {}
        untold: dict[str, int] = {}
        for kind in ("connection.auth_failed", "message.rejected"):
            if self._buckets.pop((socket_id, kind), None) is not None and (count := self._left_out.pop((socket_id, kind), 0)):
                untold[kind] = count
        return untold
