"""Records to rows and back; plain functions, no database.

Rows for writing are lists made for `json_each`; `packed` turns a list of them into the one parameter of a statement. What there
is much of goes another way: see `column`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import orjson

from gateway.core.delivery import REPLAY_LANE, Delivery, Outcome, Settlement, Stage, State
from gateway.core.lifecycle import LifecycleEvent, Record, Span, SpanClosed, SpanDeparting, SpanOpened
from gateway.core.trace import Trace
from gateway.ports import DeadLetter, Entry, Past

#: lane id and sequence share one integer: a trillion sequences an endpoint, eight million lanes, and the sign bit unused
SEQUENCE_BITS = 40
SEQUENCE_MASK = (1 << SEQUENCE_BITS) - 1

#: characters of a good answer's body that are worth a place in the log; a failure's is kept as it came
SUCCESS_BODY = 256

Row = list[object]
SpanKey = tuple[str, str, str]


def key_of(lane_id: int, sequence: int) -> int:
    """Return the place of a delivery: its lane's id, then its sequence."""
    return lane_id << SEQUENCE_BITS | sequence


def packed(rows: Iterable[object]) -> str:
    """Return rows as the JSON text SQLite reads them from. Raises TypeError for what is not JSON."""
    return orjson.dumps(rows, default=plain).decode()


def plain(value: object) -> object:
    """Return what orjson can write in the place of a value that it cannot. Raises TypeError."""
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError


def entries_from(app_id: str, rows: str, entries: str | None) -> tuple[Entry, ...]:
    """Read what `feed` answered: the rows, and the entries of all of them."""
    found = zip(orjson.loads(rows), orjson.loads(entries or "[]"), strict=True)
    return tuple(entry_from(app_id, row, entry) for row, entry in found)


def entry_from(app_id: str, row: Sequence[Any], entry: Sequence[Any]) -> Entry:
    """Make an event of [no, id, kind, at_ms] and [subject, channel, name, data], perhaps [traceparent, tracestate]."""
    no, event_id, kind, at_ms = row
    subject, channel, name, data, *trace = entry
    known = Trace(*trace[0]) if trace else None
    return Entry(no, LifecycleEvent(event_id, kind, app_id, at_ms, subject, data, channel, name, known))


class SpanChanges:
    """What a group of records does to the spans, each span at most once: the last word counts."""

    __slots__ = ("dropped", "marked", "put")

    def __init__(self) -> None:
        self.put: dict[SpanKey, Span] = {}
        self.marked: dict[SpanKey, int | None] = {}
        self.dropped: set[SpanKey] = set()

    def take(self, record: Record) -> None:
        """Take the next record; lifecycle events say nothing about spans."""
        if isinstance(record, SpanOpened):
            span = record.span
            key = (span.app_id, span.kind, span.key)
            self._forget(key)
            self.put[key] = span
        elif isinstance(record, SpanClosed):
            key = (record.app_id, record.kind, record.key)
            self._forget(key)
            self.dropped.add(key)
        elif isinstance(record, SpanDeparting):
            key = (record.app_id, record.kind, record.key)
            span_put = self.put.get(key)
            if span_put is not None:
                self.put[key] = Span(*key, span_put.id, span_put.opened_at_ms, span_put.facts, record.departs_at_ms)
            elif key not in self.dropped:
                self.marked[key] = record.departs_at_ms

    def _forget(self, key: SpanKey) -> None:
        self.put.pop(key, None)
        self.marked.pop(key, None)
        self.dropped.discard(key)

    def put_rows(self) -> list[Row]:
        """Return the rows for `put_spans`."""
        return [
            [span.app_id, span.kind, [span.key], [span.id, span.opened_at_ms, span.facts], span.departs_at_ms]
            for span in self.put.values()
        ]

    def marked_rows(self) -> list[Row]:
        """Return the rows for `mark_spans`."""
        return [[app, kind, [key], departs_at_ms] for (app, kind, key), departs_at_ms in self.marked.items()]

    def dropped_rows(self) -> list[Row]:
        """Return the rows for `drop_spans`."""
        return [[app, kind, [key]] for app, kind, key in self.dropped]


def span_from(row: Sequence[Any]) -> Span:
    """Read a row of `all_spans`."""
    app_id, kind, key, entry, departs_at_ms = row
    span_id, opened_at_ms, facts = orjson.loads(entry)
    return Span(app_id, kind, orjson.loads(key)[0], span_id, opened_at_ms, facts, departs_at_ms)


def settlement_row(settlement: Settlement) -> Row:
    """Return all of a settlement that its lane does not tell.

    Order: request id, first and last sequence, count, attempts, at, first at, state, due at, reason, outcome; the outcome
    is null or stage, latency in ms, status, Retry-After in s, body with each byte as the character of that number, error.
    """
    outcome = settlement.outcome
    told: Row | None = None
    if outcome is not None:
        body = outcome.body[:SUCCESS_BODY] if outcome.is_success else outcome.body
        told = [
            outcome.stage.value,
            outcome.latency_ms,
            outcome.status,
            outcome.retry_after_s,
            body.decode("latin-1"),
            outcome.error,
        ]
    return [
        settlement.request_id,
        settlement.first_sequence,
        settlement.last_sequence,
        settlement.count,
        settlement.attempts,
        settlement.at_ms,
        settlement.first_at_ms,
        settlement.state.value,
        settlement.due_at_ms,
        settlement.reason,
        told,
    ]


def settlement_from(endpoint: str, lane: int, text: str) -> Settlement:
    """Read what `settlement_row` made."""
    request_id, first, last, count, attempts, at_ms, first_at_ms, state, due_at_ms, reason, told = orjson.loads(text)
    outcome = None
    if told is not None:
        stage, latency_ms, status, retry_after_s, body, error = told
        outcome = Outcome(Stage(stage), latency_ms, status, retry_after_s, body.encode("latin-1"), error)
    return Settlement(
        endpoint=endpoint,
        lane=lane,
        request_id=request_id,
        first_sequence=first,
        last_sequence=last,
        count=count,
        attempts=attempts,
        at_ms=at_ms,
        first_at_ms=first_at_ms,
        state=State(state),
        outcome=outcome,
        due_at_ms=due_at_ms,
        reason=reason,
    )


def deliveries_from(endpoint: str, lane: int, rows: str, envelopes: bytes) -> tuple[Delivery, ...]:
    """Read what `head` answered: the rows, and all their envelopes in one piece."""
    deliveries = []
    start = 0
    for key, event_id, kind, at_ms, size in orjson.loads(rows):
        envelope = envelopes[start : start + size]
        deliveries.append(Delivery(endpoint, key & SEQUENCE_MASK, lane, event_id, kind, at_ms, envelope))
        start += size
    return tuple(deliveries)


def past_from(rows: Iterable[tuple[str, int, int, bool]]) -> dict[str, Past]:
    """Make of the deliveries of events to one endpoint, [event id, lane, sequence, still due], what each event was to it."""
    found: dict[str, Past] = {}
    for event_id, lane, sequence, is_due in rows:
        before = found.get(event_id, Past(False, None))
        live = before.sequence if before.sequence is not None or lane == REPLAY_LANE else sequence
        found[event_id] = Past(before.is_due or bool(is_due), live)
    return found


def dead_from(endpoint: str, rows: str, envelopes: bytes | None) -> list[tuple[int, DeadLetter]]:
    """Read what `dead_after` and `dead_letters` answer; letters of one request share its settlement."""
    letters: list[tuple[int, DeadLetter]] = []
    start = 0
    former, settlement = None, None
    for no, lane, sequence, event_id, kind, at_ms, size, told in orjson.loads(rows):
        if settlement is None or former != (lane, told):
            former, settlement = (lane, told), settlement_from(endpoint, lane, told)
        delivery = Delivery(endpoint, sequence, lane, event_id, kind, at_ms, (envelopes or b"")[start : start + size])
        letters.append((no, DeadLetter(delivery, settlement)))
        start += size
    return letters


def given_up(
    place: tuple[str, int],
    bounds: tuple[int, int, int],
    attempts: int,
    at_ms: int,
    first_at_ms: int,
    reason: str,
) -> Settlement:
    """Return the settlement of deliveries that the outbox itself gives up; `bounds` are first and last sequence and count.

    It has no request id: the request they would have become was not made here.
    """
    first, last, count = bounds
    return Settlement(
        endpoint=place[0],
        lane=place[1],
        request_id="",
        first_sequence=first,
        last_sequence=last,
        count=count,
        attempts=attempts,
        at_ms=at_ms,
        first_at_ms=first_at_ms or at_ms,
        state=State.DEAD,
        outcome=None,
        reason=reason,
    )
