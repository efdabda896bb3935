"""The outbox that forgets on exit: no disk, no thread, bounded by a number of deliveries."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from itertools import islice

from gateway.core.delivery import Claim, Delivery, Settlement, State
from gateway.ports import Backlog, Commit, DeadLetter, Recovery

#: per endpoint; at a kilobyte each this is a megabyte, and more than anybody reads without a disk
DEAD_LETTERS_KEPT = 1_000


class _Lane:
    """What is due in one lane, oldest first, and what is known of its head."""

    __slots__ = ("attempts", "due", "due_at_ms", "first_at_ms", "pinned")

    def __init__(self) -> None:
        self.due: deque[Delivery] = deque()
        #: how many deliveries the head is bound to; 0: it has no history and may be cut anew
        self.pinned = 0
        self.attempts = 0
        self.first_at_ms = 0
        self.due_at_ms = 0

    def upto(self, sequence: int) -> int:
        """Return how many deliveries have a sequence of at most `sequence`."""
        count = 0
        for delivery in self.due:
            if delivery.sequence > sequence:
                break
            count += 1
        return count

    def pin(self, count: int, settlement: Settlement) -> None:
        self.pinned = count
        self.attempts = settlement.attempts
        self.first_at_ms = settlement.first_at_ms
        self.due_at_ms = settlement.due_at_ms

    def unpin(self) -> None:
        self.pinned = self.attempts = self.first_at_ms = self.due_at_ms = 0


class MemoryOutbox:
    """Keeps what is undelivered in memory; a restart begins empty, with sequences from 1.

    `capacity` is the number of undelivered deliveries of one app from which on `is_full` bars new work. The ledger, spans
    included, is not kept: there is no later life of this process to read it. Of the dead letters the newest
    `DEAD_LETTERS_KEPT` of each endpoint are kept.
    """

    def __init__(self, *, capacity: int) -> None:
        self._capacity = capacity
        self._lanes: dict[str, dict[int, _Lane]] = {}
        self._undelivered: Counter[str] = Counter()  # by app
        self._dead: dict[str, deque[DeadLetter]] = {}

    async def open(self) -> Recovery:
        """Return an empty recovery: nothing is ever left behind."""
        return Recovery()

    async def append(self, commit: Commit) -> None:
        """Take the commit's deliveries, also when full."""
        for delivery in commit.deliveries:
            lanes = self._lanes.setdefault(delivery.endpoint, {})
            lane = lanes.get(delivery.lane)
            if lane is None:
                lane = lanes[delivery.lane] = _Lane()
            lane.due.append(delivery)
            self._undelivered[_app_of(delivery.endpoint)] += 1

    async def claim(self, endpoint: str, lane: int, limit: int) -> Claim | None:
        """Return the head of the lane; costs what it returns."""
        found = self._lanes.get(endpoint, {}).get(lane)
        if found is None or not found.due:
            return None
        head = tuple(islice(found.due, found.pinned or limit))
        return Claim(head, found.attempts, found.first_at_ms, found.due_at_ms)

    async def settle(self, settlement: Settlement) -> None:
        """Take the request off its lane, or pin it to the head."""
        lane = self._lanes.get(settlement.endpoint, {}).get(settlement.lane)
        count = 0 if lane is None else lane.upto(settlement.last_sequence)
        if lane is None or count == 0:
            return
        if settlement.state is State.DUE:
            lane.pin(count, settlement)
            return
        lane.unpin()
        ended = [lane.due.popleft() for _ in range(count)]
        self._undelivered[_app_of(settlement.endpoint)] -= count
        if settlement.state is State.DEAD:
            dead = self._dead.setdefault(settlement.endpoint, deque(maxlen=DEAD_LETTERS_KEPT))
            dead.extend(DeadLetter(delivery, settlement) for delivery in ended)

    def is_full(self, app_id: str) -> bool:
        """Tell whether the app has reached its capacity."""
        return self._undelivered[app_id] >= self._capacity

    async def backlog(self, endpoint: str) -> Backlog:
        """Return what is still due to the endpoint; costs a look at each of its lanes."""
        waiting = [lane.due for lane in self._lanes.get(endpoint, {}).values() if lane.due]
        if not waiting:
            return Backlog()
        return Backlog(sum(map(len, waiting)), min(due[0].at_ms for due in waiting))

    async def dead_letters(self, endpoint: str, limit: int = 100) -> Sequence[DeadLetter]:
        """Return the newest of the kept dead letters, oldest of them first."""
        dead = self._dead.get(endpoint, ())
        return list(islice(dead, max(0, len(dead) - limit), None))

    async def close(self) -> None:
        """Nothing to let go; the end of the process forgets."""


def _app_of(endpoint: str) -> str:
    return endpoint.partition("/")[0]
