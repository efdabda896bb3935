"""The five seams between the node and the world, as Protocols; each is the whole conversation with one kind of device.

The contract stands here and the suites in `tests/conformance` hold every implementation, and every fake, to it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Protocol

from gateway.core.delivery import Claim, Delivery, Settlement
from gateway.core.lifecycle import LifecycleEvent, Record, Span
from gateway.core.publication import Publication
from gateway.core.roster import Diff, Member
from gateway.core.value import value


class Clock(Protocol):
    """Two clocks: deadlines and durations use the first, anything stored, stamped or signed uses the second."""

    def monotonic(self) -> float:
        """Return seconds that never run backwards and know nothing of the calendar."""
        ...

    def epoch_ms(self) -> int:
        """Return Unix milliseconds; may step in either direction."""
        ...


class Connection(Protocol):
    """The device that carries one session's bytes.

    Whatever ends it, the device tells the node exactly once (`Node.lost`), and never from inside one of these calls.
    """

    #: what has crossed the wire so far: messages and payload bytes
    received_messages: int
    received_bytes: int
    sent_messages: int
    sent_bytes: int

    @property
    def peer(self) -> str:
        """The address at the other end of the line now, a proxy's if there is one; empty if there is none (any more)."""
        ...

    def offer(self, data: bytes) -> None:
        """Take one finished WebSocket frame for sending, in order; `data` may be shared with a thousand others.

        Never blocks and never raises. A connection that is closing drops it. A peer too slow to take it, so that more
        than the bound would be waiting, is cut off, and the node told `slow_consumer`.
        """
        ...

    def close(self, code: int, reason: str) -> None:
        """Send what was offered, then a close frame; cut the line if the peer does not answer in time. Idempotent."""
        ...


#: offers one finished frame to all of some subscribers but one, who may be None; see `offer_each`
OfferAll = Callable[[Mapping[str, Connection], bytes, Connection | None], None]


def offer_each(subscribers: Mapping[str, Connection], data: bytes, excluded: Connection | None) -> None:
    """Offer the same frame to each but the excluded one: what every `OfferAll` comes to, for connections of any make."""
    for connection in subscribers.values():
        if connection is not excluded:
            connection.offer(data)


class Broker(Protocol):
    """Carries publications between nodes: at most once, in order per channel and origin.

    Publications from other nodes come back through the callable given at construction; local ones never do. Those for channels
    that keep their last event (`channel.caches`) come to every node, subscribed or not: each node keeps them.
    """

    def publish(self, publication: Publication) -> None:
        """Hand the publication to all other nodes; the caller delivers to its own connections himself."""
        ...

    def subscribe(self, app_id: str, channel: str) -> None:
        """This node has got its first subscriber of the channel."""
        ...

    def unsubscribe(self, app_id: str, channel: str) -> None:
        """This node has lost its last subscriber of the channel."""
        ...


@dataclass(frozen=True, slots=True)
class Occupancy:
    """How full a channel is: `users` is None except on presence channels."""

    subscribers: int
    users: int | None = None


class Tracker(Protocol):
    """Judges occupancy and members across all nodes.

    Changes to one channel take effect, and are answered, in the order of the calls. `then` is called exactly once per call
    with the diff: by a tracker that never leaves the process before the call returns, by others later, on the event loop.
    The questions are async because others may have to ask.

    A user who signs in enters the channel `#server-to-user-ID`: it is occupied while he is online on any node. Channels
    whose name begins with `#` are the gateway's own, and `channels` leaves them out.
    """

    def enter(
        self, app_id: str, channel: str, socket_id: str, member: Member | None, max_members: int, then: Callable[[Diff], None]
    ) -> None:
        """A connection joined; `diff.refused` if that would put more than `max_members` users on a presence channel."""
        ...

    def leave(self, app_id: str, channel: str, socket_id: str, then: Callable[[Diff], None]) -> None:
        """A connection left; one that was not there changes nothing (a diff without changes)."""
        ...

    def occupied(self, app_id: str, channels: Sequence[str], then: Callable[[Set[str]], None]) -> None:
        """Ask which of the channels have a subscriber; answered in order with the changes, `then` called as for those."""
        ...

    async def channels(self, app_id: str, prefix: str = "") -> Mapping[str, Occupancy]:
        """Return every occupied channel whose name begins with `prefix`."""
        ...

    async def occupancy(self, app_id: str, channel: str) -> Occupancy:
        """Return how full the channel is; an unoccupied one has no subscribers (and no users, if presence)."""
        ...

    async def members(self, app_id: str, channel: str) -> Sequence[Member]:
        """Return the members of a presence channel, each user once."""
        ...


@value
class Commit:
    """What is written in one transaction: records in order of occurrence, and the deliveries their events cause."""

    records: tuple[Record, ...] = ()
    deliveries: tuple[Delivery, ...] = ()


@dataclass(frozen=True, slots=True)
class Recovery:
    """What a former life of this node left behind."""

    #: last sequence given out, by endpoint key
    sequences: Mapping[str, int] = field(default_factory=dict)
    #: spans still open
    spans: tuple[Span, ...] = ()
    #: (endpoint key, lane) pairs that hold undelivered deliveries
    lanes: frozenset[tuple[str, int]] = frozenset()


@dataclass(frozen=True, slots=True)
class Backlog:
    """What is still due to an endpoint: how many deliveries, and since when (Unix ms; None: nothing is due)."""

    count: int = 0
    oldest_at_ms: int | None = None


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A delivery that was given up, with the settlement that did it."""

    delivery: Delivery
    settlement: Settlement


@dataclass(frozen=True, slots=True)
class Storage:
    """How the place is where an outbox keeps things. Sizes are bytes; None where it is not bytes that it counts."""

    #: whether the last try to write succeeded, as far as is known
    is_writable: bool = True
    used: int | None = None
    #: from here on new work is refused
    limit: int | None = None


class Outbox(Protocol):
    """Durable events, spans and deliveries. Appended means durable, as far as the implementation promises it at all.

    `append` is called by one writer at a time, and commits take effect in the order of the calls, each whole or not at
    all. `claim` and `settle` are called by the delivery pool, at most one at a time per lane. All but `is_full` may raise
    OSError where the disk is at fault; nothing was changed then, and the same call may be made again.
    """

    async def open(self) -> Recovery:
        """Make ready and return what was left behind; called once, before anything else."""
        ...

    async def append(self, commit: Commit) -> None:
        """Write the commit; on return it is durable. Raises OSError if it cannot be written: nothing of it was then."""
        ...

    async def claim(self, endpoint: str, lane: int, limit: int) -> Claim | None:
        """Return the head of the lane, at most `limit` deliveries, oldest first; None if nothing is due.

        Claiming changes nothing: until settled, the next claim returns the same head (perhaps longer). A head that was
        settled DUE keeps its bounds and its attempts, whatever `limit` says.
        """
        ...

    async def settle(self, settlement: Settlement) -> None:
        """Write what an attempt did; see `Settlement`. Settling what is no longer there changes nothing.

        One with `count` 0 is a note for the next start: it goes into the delivery log of a lane that has been in use, and
        changes nothing else. An outbox that forgets may pass it over.
        """
        ...

    async def settle_soon(self, settlement: Settlement) -> None:
        """Do the same with a delivered request, which may be written a moment after the return: `claim` goes by it at once.

        After a crash, the last few of a lane may be due again. Raises OSError, and has done nothing, where that moment has
        become too long.
        """
        ...

    def is_full(self, app_id: str) -> bool:
        """Tell whether the app must stop making work; never blocks. True only bars new work: `append` still accepts."""
        ...

    async def backlog(self, endpoint: str) -> Backlog:
        """Return what is still due to the endpoint."""
        ...

    async def dead_letters(self, endpoint: str, limit: int = 100) -> Sequence[DeadLetter]:
        """Return the newest dead letters of the endpoint, oldest of them first; never holds up a writer."""
        ...

    async def replay(self, endpoint: str, deliveries: Sequence[Delivery]) -> None:
        """Put deliveries into the endpoint's replay lane (`REPLAY_LANE`), behind what is there, in the given order.

        The outbox numbers them anew within that lane; the envelopes stay as they are. Those that are dead letters of the
        endpoint (same event, same envelope) stop being ones in the same transaction.
        """
        ...

    async def abandon(self, endpoint: str, reason: str, at_ms: int) -> int:
        """Make dead letters of everything that is due to an endpoint that is no more; returns how many there were."""
        ...

    async def close(self) -> None:
        """Write out what is pending and let go; closing twice is harmless."""
        ...


@value
class Entry:
    """One event in the ledger; `cursor` grows along it and is never given out twice."""

    cursor: int
    event: LifecycleEvent


@dataclass(frozen=True, slots=True)
class Page:
    """A piece of the ledger, oldest first."""

    entries: tuple[Entry, ...]
    #: go on after this one; equals the `after` that was asked for where there is nothing more
    cursor: int
    #: everything up to here was forgotten by age; an `after` below it has missed something
    forgotten: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What was open when the ledger stood at `cursor`: snapshot plus events after the cursor is the present, exactly."""

    cursor: int
    spans: tuple[Span, ...]


@value
class Attempt:
    """One row of the delivery log: what an attempt did; `number` grows."""

    number: int
    settlement: Settlement


@dataclass(frozen=True, slots=True)
class Trace:
    """What became of one event at one endpoint: `state` is `due`, `delivered` or `dead`."""

    endpoint: str
    lane: int
    sequence: int
    state: str
    attempts: tuple[Attempt, ...]


@dataclass(frozen=True, slots=True)
class Past:
    """What one event was to one endpoint: `is_due`: some delivery of it still is; `sequence`: its live one's, if there was."""

    is_due: bool
    sequence: int | None


class Ledger(Protocol):
    """The reading side of an outbox: what a receiver or an operator may ask. Never holds up a writer.

    All may raise OSError where the disk is at fault. What is older than the retention is not there any more.
    """

    async def feed(self, app_id: str, *, after: int, limit: int, kinds: frozenset[str] | None = None) -> Page:
        """Return at most `limit` events of the app after the cursor, fewer where they are large; `kinds` None: all. The page's
        cursor also passes over what the kinds left out."""
        ...

    async def snapshot(self, app_id: str) -> Snapshot:
        """Return the app's open spans and the cursor they are true at, read in one moment."""
        ...

    async def find(self, app_id: str, event_id: str) -> Entry | None:
        """Return the event with this id, if it is still there."""
        ...

    async def trace(self, app_id: str, event_id: str) -> Sequence[Trace]:
        """Return what became of the event at each endpoint it was due to, replays included."""
        ...

    async def past(self, app_id: str, endpoint: str, event_ids: Sequence[str]) -> Mapping[str, Past]:
        """Return what these events were to the endpoint, by id: what `trace` tells, at a fraction of its cost for each.

        An event that was never due to it, or of which nothing is known any more, is left out.
        """
        ...

    async def attempts(self, endpoint: str, *, before: int | None = None, limit: int = 100) -> Sequence[Attempt]:
        """Return the endpoint's delivery log, newest first, from `before` (exclusive; None: the newest) back."""
        ...

    async def dead(self, endpoint: str, *, after: int = 0, limit: int = 100) -> Sequence[tuple[int, DeadLetter]]:
        """Return the endpoint's dead letters, oldest first, each with a number that grows, after number `after`.

        There may be fewer than `limit` although there are more, where they are large; none are returned only if there are none.
        """
        ...

    async def count_dead(self, endpoint: str) -> int:
        """Return how many dead letters the endpoint has."""
        ...

    def latest(self, app_id: str) -> int:
        """Return a cursor at or after the app's newest committed event; never blocks (for long polling)."""
        ...


#: told by the recorder after each commit which lanes have got something to do
Wake = Callable[[Iterable[tuple[str, int]]], None]
