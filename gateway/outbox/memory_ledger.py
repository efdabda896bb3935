"""What the outbox that forgets can still tell: the newest events, what is open, and the newest attempts."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import islice

from gateway.core.delivery import Delivery, Settlement
from gateway.core.lifecycle import LifecycleEvent, Record, Span, SpanClosed, SpanOpened
from gateway.outbox.row import SUCCESS_BODY
from gateway.ports import Attempt, Entry, Page, Snapshot

#: per app; at about a kilobyte each ten megabytes, and several minutes of a busy app for a receiver that polls
EVENTS_KEPT = 10_000
#: per endpoint: as many as events are kept, so that what became of these can be told unless retries abound
ATTEMPTS_KEPT = 10_000

#: a delivery by endpoint, lane and sequence
Place = tuple[str, int, int]


class Recall:
    """The newest `EVENTS_KEPT` events of one app and all its open spans. Cursors count from 1, without gaps."""

    __slots__ = ("_entries", "_places", "_spans", "newest")

    def __init__(self) -> None:
        self._entries: deque[Entry] = deque(maxlen=EVENTS_KEPT)
        self._places: deque[list[Place]] = deque(maxlen=EVENTS_KEPT)
        self._spans: dict[tuple[str, str], Span] = {}
        self.newest = 0

    def take(self, record: Record, places: list[Place]) -> None:
        """Take the next record; `places` is where the deliveries that an event caused went, empty if there are none."""
        if isinstance(record, LifecycleEvent):
            self.newest += 1
            self._entries.append(Entry(self.newest, record))
            self._places.append(places)
        elif isinstance(record, SpanOpened):
            span = record.span
            self._spans[span.kind, span.key] = span
        elif isinstance(record, SpanClosed):
            self._spans.pop((record.kind, record.key), None)
        else:
            span_open = self._spans.get((record.kind, record.key))
            if span_open is not None:
                self._spans[record.kind, record.key] = replace(span_open, departs_at_ms=record.departs_at_ms)

    def page(self, after: int, limit: int, kinds: frozenset[str] | None) -> Page:
        """Answer `feed`."""
        forgotten = self.newest - len(self._entries)
        found: list[Entry] = []
        cursor = after
        for entry in islice(self._entries, max(0, after - forgotten), None):
            if len(found) == limit:
                break
            cursor = entry.cursor
            if kinds is None or entry.event.kind in kinds:
                found.append(entry)
        return Page(tuple(found), cursor, forgotten)

    def snapshot(self) -> Snapshot:
        """Answer `snapshot`."""
        return Snapshot(self.newest, tuple(self._spans.values()))

    def find(self, event_id: str) -> tuple[Entry, list[Place]] | None:
        """Return the event and where its deliveries went, the newest places last."""
        # from the new end: who asks for an event has mostly just met it
        for entry, places in zip(reversed(self._entries), reversed(self._places), strict=True):
            if entry.event.id == event_id:
                return entry, places
        return None

    def places(self, event_ids: Iterable[str]) -> list[tuple[str, Place]]:
        """Return where the deliveries of these events went, each with its event's id."""
        wanted = frozenset(event_ids)
        known = zip(self._entries, self._places, strict=True)
        return [(entry.event.id, place) for entry, places in known if entry.event.id in wanted for place in places]

    def replayed(self, places: Iterable[tuple[str, Place]]) -> None:
        """Note further deliveries, by the id of their event; events that are not kept any more are passed over."""
        wanted: dict[str, list[Place]] = {}
        for event_id, place in places:
            wanted.setdefault(event_id, []).append(place)
        for entry, known in zip(self._entries, self._places, strict=True):
            known += wanted.get(entry.event.id, ())


class AttemptLog:
    """The newest `ATTEMPTS_KEPT` attempts of one endpoint."""

    __slots__ = ("_attempts",)

    def __init__(self) -> None:
        self._attempts: deque[Attempt] = deque(maxlen=ATTEMPTS_KEPT)

    def add(self, number: int, settlement: Settlement) -> None:
        """Log the next attempt; of a good answer only as much is kept as anybody reads."""
        outcome = settlement.outcome
        if outcome is not None and outcome.is_success and len(outcome.body) > SUCCESS_BODY:
            settlement = replace(settlement, outcome=replace(outcome, body=outcome.body[:SUCCESS_BODY]))
        self._attempts.append(Attempt(number, settlement))

    def before(self, number: int | None, limit: int) -> Sequence[Attempt]:
        """Answer `attempts`."""
        older = (one for one in reversed(self._attempts) if number is None or one.number < number)
        return list(islice(older, limit))

    def oldest(self) -> dict[int, int]:
        """Return the first sequence that the attempts still tell of, by lane."""
        first: dict[int, int] = {}
        for one in self._attempts:
            lane, sequence = one.settlement.lane, one.settlement.first_sequence
            first[lane] = min(sequence, first.get(lane, sequence))
        return first

    def at(self, lane: int, sequence: int) -> tuple[Attempt, ...]:
        """Return the attempts at one delivery, oldest first."""
        return tuple(
            one
            for one in self._attempts
            if one.settlement.lane == lane and one.settlement.first_sequence <= sequence <= one.settlement.last_sequence
        )


def places_of(deliveries: Iterable[Delivery]) -> dict[str, list[Place]]:
    """Return where deliveries go, by the id of their event."""
    places: dict[str, list[Place]] = {}
    for delivery in deliveries:
        places.setdefault(delivery.event_id, []).append((delivery.endpoint, delivery.lane, delivery.sequence))
    return places
