"""The outbox that forgets on exit: no disk, no thread, bounded by a number of deliveries."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from heapq import merge
from itertools import islice

import orjson

from gateway.core.delivery import REPLAY_LANE, Claim, Delivery, Settlement, State
from gateway.core.lifecycle import LifecycleEvent, Record, SpanOpened
from gateway.core.span import DROPPED
from gateway.outbox.memory_ledger import AttemptLog, Place, Recall, places_of
from gateway.outbox.row import given_up, past_from
from gateway.ports import Attempt, Backlog, Commit, DeadLetter, Entry, Page, Past, Recovery, Snapshot, Storage, Trace
from gateway.telemetry import gateway_log

#: per endpoint; at a kilobyte each this is a megabyte, and more than anybody reads without a disk
DEAD_LETTERS_KEPT = 1_000

#: An endpoint whose backlog passes twice the capacity is brought down by this share of the capacity below that, so that
#: telling it of the loss, which is an event too, does not cause the next one.
_ROOM_SHARE = 16

#: the reason by which the delivery log knows what was lost
OVERFLOW = "overflow"


class _Lane:
    """What is due in one lane, oldest first, and what is known of its head."""

    __slots__ = ("attempts", "due", "due_at_ms", "first_at_ms", "held", "pinned", "tail")

    def __init__(self) -> None:
        self.due: deque[Delivery] = deque()
        #: how many deliveries at the head somebody may have claimed: these are not dropped
        self.held = 0
        #: how many deliveries the head is bound to; 0: it has no history and may be cut anew
        self.pinned = 0
        self.attempts = 0
        self.first_at_ms = 0
        self.due_at_ms = 0
        #: sequence of the newest delivery there ever was
        self.tail = 0

    def upto(self, sequence: int) -> int:
        """Return how many deliveries have a sequence of at most `sequence`."""
        count = 0
        for delivery in self.due:
            if delivery.sequence > sequence:
                break
            count += 1
        return count

    def holds(self, sequence: int) -> bool:
        """Tell whether the delivery is still due."""
        return any(delivery.sequence == sequence for delivery in self.due)

    def pin(self, count: int, settlement: Settlement) -> None:
        self.pinned = count
        self.attempts = settlement.attempts
        self.first_at_ms = settlement.first_at_ms
        self.due_at_ms = settlement.due_at_ms

    def unpin(self) -> None:
        self.held = self.pinned = self.attempts = self.first_at_ms = self.due_at_ms = 0

    def take(self, start: int, count: int) -> list[Delivery]:
        """Take `count` deliveries out, from place `start` on."""
        self.due.rotate(-start)
        taken = [self.due.popleft() for _ in range(count)]
        self.due.rotate(start)
        return taken


#: told once an append: endpoint key, how many, first and last sequence among them; and how many of earlier losses nobody has
#: been told of, because what should have told of them is among what was lost now
Dropped = Callable[[str, int, int, int, int], None]


def _log_dropped(endpoint: str, count: int, first: int, last: int, untold: int) -> None:
    gateway_log.error("%d webhook events for %s were dropped, of sequences %d to %d", count, endpoint, first, last)


class MemoryOutbox:
    """Keeps what is undelivered in memory, and is a `ports.Ledger` too; a restart begins empty, with sequences from 1.

    `capacity` is the number of undelivered deliveries of one app from which on `is_full` bars new work. `append` still
    accepts; an endpoint whose backlog passes twice the capacity loses its oldest, but not what may be under way and not
    replays, and `dropped` is told: see `Dropped`.

    Of each app the newest `EVENTS_KEPT` events are kept and all open spans, of each endpoint the newest `ATTEMPTS_KEPT`
    attempts and `DEAD_LETTERS_KEPT` dead letters; `dead_letters_dropped` counts by endpoint what went beyond.
    """

    def __init__(self, *, capacity: int, dropped: Dropped = _log_dropped) -> None:
        self._capacity = capacity
        self._dropped = dropped
        self._lanes: dict[str, dict[int, _Lane]] = {}
        self._undelivered: Counter[str] = Counter()  # by app
        self._backlog: Counter[str] = Counter()  # by endpoint, replays left out
        self._dead: dict[str, deque[tuple[int, DeadLetter]]] = {}
        self._apps: dict[str, Recall] = {}
        self._attempts: dict[str, AttemptLog] = {}
        self._numbers = 0
        self.dead_letters_dropped: Counter[str] = Counter()

    # -- what is due

    async def open(self) -> Recovery:
        """Return an empty recovery: nothing is ever left behind."""
        return Recovery()

    async def append(self, commit: Commit) -> None:
        """Take the commit, also when full."""
        places = places_of(commit.deliveries)
        for record in commit.records:
            self._recall(record).take(record, places.get(record.id, []) if isinstance(record, LifecycleEvent) else [])
        for delivery in commit.deliveries:
            self._put(delivery)
            self._backlog[delivery.endpoint] += 1
        for endpoint in {delivery.endpoint for delivery in commit.deliveries}:
            if self._backlog[endpoint] > 2 * self._capacity:
                self._overflow(endpoint, commit.deliveries[-1].at_ms)

    def _put(self, delivery: Delivery) -> None:
        lanes = self._lanes.setdefault(delivery.endpoint, {})
        lane = lanes.get(delivery.lane)
        if lane is None:
            lane = lanes[delivery.lane] = _Lane()
        lane.due.append(delivery)
        lane.tail = delivery.sequence
        self._undelivered[_app_of(delivery.endpoint)] += 1

    def _overflow(self, endpoint: str, at_ms: int) -> None:
        lanes = {number: lane for number, lane in self._lanes[endpoint].items() if number != REPLAY_LANE}
        excess = self._backlog[endpoint] - 2 * self._capacity + max(1, self._capacity // _ROOM_SHARE)
        loose = merge(
            *(
                [(delivery.sequence, number) for delivery in islice(lane.due, lane.held, lane.held + excess)]
                for number, lane in lanes.items()
            )
        )
        oldest = list(islice(loose, excess))
        if not oldest:
            return
        untold, first = 0, oldest[0][0]
        for number, count in Counter(number for _, number in oldest).items():
            lane = lanes[number]
            lost = lane.take(lane.held, count)
            self._log(_given_up(lost, attempts=0, at_ms=at_ms, first_at_ms=at_ms, reason=OVERFLOW))
            for delivery in lost:
                if delivery.kind == DROPPED:
                    told = orjson.loads(delivery.envelope)["data"]
                    untold += told["count"]
                    first = min(first, told["first_sequence"])
        self._gone(endpoint, REPLAY_LANE - 1, len(oldest))
        self._dropped(endpoint, len(oldest), first, oldest[-1][0], untold)

    def _gone(self, endpoint: str, lane: int, count: int) -> None:
        self._undelivered[_app_of(endpoint)] -= count
        if lane != REPLAY_LANE:
            self._backlog[endpoint] -= count

    async def claim(self, endpoint: str, lane: int, limit: int) -> Claim | None:
        """Return the head of the lane; costs what it returns."""
        found = self._lanes.get(endpoint, {}).get(lane)
        if found is None or not found.due:
            return None
        head = tuple(islice(found.due, found.pinned or limit))
        found.held = max(found.held, len(head))
        return Claim(head, found.attempts, found.first_at_ms, found.due_at_ms)

    async def settle(self, settlement: Settlement) -> None:
        """Take the request off its lane, or pin it to the head."""
        lane = self._lanes.get(settlement.endpoint, {}).get(settlement.lane)
        count = 0 if lane is None else lane.upto(settlement.last_sequence)
        if lane is None or count == 0:
            return
        self._log(settlement)
        if settlement.state is State.DUE:
            lane.pin(count, settlement)
            lane.held = count
            return
        lane.unpin()
        ended = lane.take(0, count)
        self._gone(settlement.endpoint, settlement.lane, count)
        if settlement.state is State.DEAD:
            self._bury(ended, settlement)

    async def settle_soon(self, settlement: Settlement) -> None:
        """Do the same."""
        await self.settle(settlement)

    def _bury(self, ended: Sequence[Delivery], settlement: Settlement) -> None:
        dead = self._dead.setdefault(settlement.endpoint, deque())
        for delivery in ended:
            dead.append((self._next(), DeadLetter(delivery, settlement)))
        over = len(dead) - DEAD_LETTERS_KEPT
        if over > 0:
            for _ in range(over):
                dead.popleft()
            self.dead_letters_dropped[settlement.endpoint] += over
            gateway_log.error("%d dead letters of %s were dropped, the oldest: too many are kept", over, settlement.endpoint)

    async def replay(self, endpoint: str, deliveries: Sequence[Delivery]) -> None:
        """Put deliveries into the replay lane; what was dead of them is not any more."""
        places: list[tuple[str, Place]] = []
        for delivery in deliveries:
            lane = self._lanes.get(endpoint, {}).get(REPLAY_LANE)
            sequence = 1 if lane is None else lane.tail + 1
            self._put(replace(delivery, endpoint=endpoint, lane=REPLAY_LANE, sequence=sequence))
            places.append((delivery.event_id, (endpoint, REPLAY_LANE, sequence)))
        self._app(_app_of(endpoint)).replayed(places)
        dead = self._dead.get(endpoint)
        if dead:
            again = {(delivery.event_id, delivery.envelope) for delivery in deliveries}
            self._dead[endpoint] = deque(
                (number, letter) for number, letter in dead if (letter.delivery.event_id, letter.delivery.envelope) not in again
            )

    async def abandon(self, endpoint: str, reason: str, at_ms: int) -> int:
        """Make dead letters of all that is due to the endpoint; lanes keep their numbering."""
        count = 0
        for lane in self._lanes.get(endpoint, {}).values():
            for part in (lane.pinned, len(lane.due)):
                ended = lane.due and list(islice(lane.due, part))
                if ended:
                    first_at_ms = lane.first_at_ms or at_ms
                    await self.settle(_given_up(ended, lane.attempts, at_ms, first_at_ms, reason))
                    count += len(ended)
        return count

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
        return [letter for _, letter in islice(dead, max(0, len(dead) - limit), None)]

    def storage(self) -> Storage:
        """Return that memory can be written; how much of it is in use is not counted in bytes."""
        return Storage()

    async def close(self) -> None:
        """Nothing to let go; the end of the process forgets."""

    # -- what may be asked

    async def feed(self, app_id: str, *, after: int, limit: int, kinds: frozenset[str] | None = None) -> Page:
        """Return a page of the events that are kept."""
        return self._app(app_id).page(after, limit, kinds)

    async def snapshot(self, app_id: str) -> Snapshot:
        """Return what is open now."""
        return self._app(app_id).snapshot()

    async def find(self, app_id: str, event_id: str) -> Entry | None:
        """Return the event if it is kept; costs a look at those that came after it."""
        found = self._app(app_id).find(event_id)
        return None if found is None else found[0]

    async def trace(self, app_id: str, event_id: str) -> Sequence[Trace]:
        """Return what became of the event; an endpoint of which nothing is known any more is left out."""
        found = self._app(app_id).find(event_id)
        traces = []
        for endpoint, number, sequence in [] if found is None else found[1]:
            attempts = self._attempts[endpoint].at(number, sequence) if endpoint in self._attempts else ()
            if self._lanes[endpoint][number].holds(sequence):
                state = State.DUE
            elif attempts:
                state = attempts[-1].settlement.state
            else:
                continue
            traces.append(Trace(endpoint, number, sequence, state.value, attempts))
        return traces

    async def past(self, app_id: str, endpoint: str, event_ids: Sequence[str]) -> Mapping[str, Past]:
        """Return what the events were to the endpoint; costs a walk through the app's events and the endpoint's attempts."""
        oldest = self._attempts[endpoint].oldest() if endpoint in self._attempts else {}
        rows = []
        for event_id, (key, lane, sequence) in self._app(app_id).places(event_ids):
            if key == endpoint:
                is_due = self._lanes[key][lane].holds(sequence)
                if is_due or sequence >= oldest.get(lane, sequence + 1):
                    rows.append((event_id, lane, sequence, is_due))
        return past_from(rows)

    async def attempts(self, endpoint: str, *, before: int | None = None, limit: int = 100) -> Sequence[Attempt]:
        """Return a page of the attempts that are kept."""
        log = self._attempts.get(endpoint)
        return [] if log is None else log.before(before, limit)

    async def dead(self, endpoint: str, *, after: int = 0, limit: int = 100) -> Sequence[tuple[int, DeadLetter]]:
        """Return a page of the dead letters that are kept."""
        return list(islice((one for one in self._dead.get(endpoint, ()) if one[0] > after), limit))

    async def count_dead(self, endpoint: str) -> int:
        """Return how many dead letters are kept."""
        return len(self._dead.get(endpoint, ()))

    def latest(self, app_id: str) -> int:
        """Return the cursor of the app's newest event, 0 if there was none."""
        return self._app(app_id).newest

    # -- within

    def _app(self, app_id: str) -> Recall:
        found = self._apps.get(app_id)
        if found is None:
            found = self._apps[app_id] = Recall()
        return found

    def _recall(self, record: Record) -> Recall:
        return self._app(record.span.app_id if isinstance(record, SpanOpened) else record.app_id)

    def _log(self, settlement: Settlement) -> None:
        log = self._attempts.get(settlement.endpoint)
        if log is None:
            log = self._attempts[settlement.endpoint] = AttemptLog()
        log.add(self._next(), settlement)

    def _next(self) -> int:
        self._numbers += 1
        return self._numbers


def _given_up(deliveries: Sequence[Delivery], attempts: int, at_ms: int, first_at_ms: int, reason: str) -> Settlement:
    first, last = deliveries[0], deliveries[-1]
    bounds = (first.sequence, last.sequence, len(deliveries))
    return given_up((first.endpoint, first.lane), bounds, attempts, at_ms, first_at_ms, reason)


def _app_of(endpoint: str) -> str:
    return endpoint.partition("/")[0]
