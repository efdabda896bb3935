"""Records to rows and back; plain functions, no database.

Rows for writing are lists made for `json_each`; `packed` turns a list of them into the one parameter of a statement.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import orjson

from gateway.core.delivery import Delivery, Outcome, Settlement, Stage, State
from gateway.core.lifecycle import LifecycleEvent, Record, Span, SpanClosed, SpanDeparting, SpanOpened

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
    return orjson.dumps(rows, default=_plain).decode()


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError


def event_row(event: LifecycleEvent, keys: list[int] | None) -> Row:
    """Return the ledger's row; `keys` are those of the deliveries it caused."""
    return [event.id, event.app_id, event.kind, event.at_ms, [event.subject, event.channel, event.name, event.data], keys]


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


def span_from(row: Sequence[object]) -> Span:
    """Read a row of `all_spans`."""
    app_id, kind, key, entry, departs_at_ms = row
    span_id, opened_at_ms, facts = orjson.loads(str(entry))
    departs = None if departs_at_ms is None else int(str(departs_at_ms))
    return Span(str(app_id), str(kind), orjson.loads(str(key))[0], span_id, opened_at_ms, facts, departs)


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
