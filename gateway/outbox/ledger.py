"""What a group of commits and settlements means in SQL; and the lanes, as they are after the last transaction."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from gateway.core.delivery import Settlement, State
from gateway.core.lifecycle import LifecycleEvent
from gateway.outbox.query import QUERY
from gateway.outbox.row import Row, SpanChanges, event_row, key_of, packed, settlement_row, span_from
from gateway.ports import Commit, Recovery

Name = tuple[str, int]  # endpoint key, lane


class Lane(NamedTuple):
    """A lane's row; never changed, only replaced, so that another thread may read it at any moment."""

    id: int
    endpoint: str
    lane: int
    tail: int = 0
    cursor: int = 0
    pinned: int = 0
    attempts: int = 0
    first_at_ms: int = 0
    due_at_ms: int = 0


class Ledger:
    """Writes groups, each whole or not at all, and knows where every lane stands. Used by the writer thread.

    `lanes` may be read from any thread: it changes only after a transaction is durable.
    """

    def __init__(self) -> None:
        self._lanes: dict[Name, Lane] = {}
        self._next_id = 1
        #: lanes in which settled deliveries may still lie
        self._littered: set[Name] = set()
        #: about how many of them
        self.litter = 0

    @property
    def lanes(self) -> Mapping[Name, Lane]:
        return self._lanes

    def load(self, connection: sqlite3.Connection) -> Recovery:
        """Read what a former life left behind: small tables only, whatever the backlog."""
        self._lanes = {(lane.endpoint, lane.lane): lane for lane in map(Lane._make, connection.execute(QUERY["all_lanes"]))}
        self._next_id = max((lane.id for lane in self._lanes.values()), default=0) + 1
        # a crash may have come between settling and sweeping; to look costs less than to remember
        self._littered = {name for name, lane in self._lanes.items() if lane.cursor}
        return Recovery(
            sequences=dict(connection.execute(QUERY["all_sequences"])),
            spans=tuple(map(span_from, connection.execute(QUERY["all_spans"]))),
            lanes=frozenset(connection.execute(QUERY["waiting_lanes"])),
        )

    def write(self, connection: sqlite3.Connection, commits: Sequence[Commit], settlements: Sequence[Settlement]) -> None:
        """Write a group in one transaction. Raises sqlite3.Error, TypeError for data that is
        not JSON, or ValueError for deliveries out of order: nothing was written then.
        """
        changed: dict[Name, Lane] = {}
        steps = self._appended(commits, changed)
        connection.execute(QUERY["begin"])
        try:
            for name, parameters in steps:
                connection.execute(QUERY[name], parameters)
            settled = self._settle(connection, settlements, changed)
            connection.execute(QUERY["commit"])
        except BaseException:
            if connection.in_transaction:
                connection.execute(QUERY["rollback"])
            raise
        self._next_id += len(changed.keys() - self._lanes.keys())
        self._lanes.update(changed)
        self._littered.update(settled)
        self.litter += sum(settled.values())

    def _appended(self, commits: Iterable[Commit], changed: dict[Name, Lane]) -> list[tuple[str, tuple[object, ...]]]:
        """Return the statements that write the commits, with their parameters."""
        delivery_rows: list[Row] = []
        envelopes: list[bytes] = []
        place = 1
        keys: dict[str, list[int]] = {}  # of deliveries, by event
        grown: dict[Name, list[int]] = {}  # lane id, deliveries added, new tail
        fresh = self._next_id
        sequences: dict[str, int] = {}
        events: list[LifecycleEvent] = []
        spans = SpanChanges()
        for commit in commits:
            for delivery in commit.deliveries:
                sequence = delivery.sequence
                name = (delivery.endpoint, delivery.lane)
                growth = grown.get(name)
                if growth is None:
                    lane = self._lanes.get(name)
                    growth = grown[name] = [fresh, 0, 0] if lane is None else [lane.id, 0, lane.tail]
                    fresh += lane is None
                if sequence <= growth[2]:
                    # behind the cursor it would never be claimed
                    raise ValueError(
                        f"delivery {sequence} of {delivery.endpoint} comes after {growth[2]} in lane {delivery.lane}"
                    )
                growth[1] += 1
                growth[2] = sequence
                sequences[delivery.endpoint] = max(sequences.get(delivery.endpoint, 0), sequence)
                key = key_of(growth[0], sequence)
                keys.setdefault(delivery.event_id, []).append(key)
                size = len(delivery.envelope)
                delivery_rows.append([key, delivery.event_id, delivery.kind, delivery.at_ms, place, size])
                envelopes.append(delivery.envelope)
                place += size
            for record in commit.records:
                if isinstance(record, LifecycleEvent):
                    events.append(record)
                else:
                    spans.take(record)
        steps: list[tuple[str, tuple[object, ...]]] = []
        if events:
            steps.append(("add_events", (packed([event_row(event, keys.get(event.id)) for event in events]),)))
        for name, (lane_id, _, tail) in grown.items():
            lane = self._lanes.get(name)
            changed[name] = Lane(lane_id, *name, tail) if lane is None else lane._replace(tail=tail)
        if delivery_rows:
            lane_rows = [[lane_id, *name, length, tail] for name, (lane_id, length, tail) in grown.items()]
            steps.append(("add_deliveries", (packed(delivery_rows), b"".join(envelopes))))
            steps.append(("add_to_lanes", (packed(lane_rows),)))
            steps.append(("count_sequences", (packed(list(sequences.items())),)))
        if spans.dropped:
            steps.append(("drop_spans", (packed(spans.dropped_rows()),)))
        if spans.put:
            steps.append(("put_spans", (packed(spans.put_rows()),)))
        if spans.marked:
            steps.append(("mark_spans", (packed(spans.marked_rows()),)))
        return steps

    def _settle(
        self, connection: sqlite3.Connection, settlements: Iterable[Settlement], changed: dict[Name, Lane]
    ) -> dict[Name, int]:
        """Write the settlements, in order; return how many deliveries were settled for good, by lane."""
        moved: set[Name] = set()
        ended: dict[Name, int] = {}
        attempt_rows: list[Row] = []
        for settlement in settlements:
            name = (settlement.endpoint, settlement.lane)
            lane = changed.get(name) or self._lanes.get(name)
            if lane is None:
                continue
            last = min(settlement.last_sequence, lane.tail)
            if last <= lane.cursor:
                continue
            told = settlement_row(settlement)
            attempt_rows.append([lane.id, settlement.first_sequence, settlement.last_sequence, settlement.at_ms, told])
            moved.add(name)
            if settlement.state is State.DUE:
                changed[name] = lane._replace(
                    pinned=last,
                    attempts=settlement.attempts,
                    first_at_ms=settlement.first_at_ms,
                    due_at_ms=settlement.due_at_ms,
                )
                continue
            if settlement.state is State.DEAD:
                _bury(connection, lane, last, settlement, packed(told))
            ended[name] = ended.get(name, 0) + settlement.count
            changed[name] = Lane(lane.id, lane.endpoint, lane.lane, lane.tail, last)
        if moved:
            rows = [[lane.id, *lane[4:]] for lane in map(changed.__getitem__, moved)]
            connection.execute(QUERY["move_lanes"], (packed(rows),))
            connection.execute(QUERY["log_attempts"], (packed(attempt_rows),))
        return ended

    def sweep(self, connection: sqlite3.Connection, limit: int) -> None:
        """Delete up to `limit` settled deliveries. Raises sqlite3.Error."""
        lanes = map(self._lanes.__getitem__, self._littered)
        ranges = [[key_of(lane.id, 0), key_of(lane.id, lane.cursor)] for lane in lanes]
        gone = connection.execute(QUERY["sweep"], (packed(ranges), limit)).rowcount
        if gone < limit:
            self._littered.clear()
            self.litter = 0
        else:
            self.litter = max(1, self.litter - gone)

    @property
    def is_littered(self) -> bool:
        """Settled deliveries may still lie in the file."""
        return bool(self._littered)


def _bury(connection: sqlite3.Connection, lane: Lane, last: int, settlement: Settlement, told: str) -> None:
    request = connection.execute(QUERY["add_dead_request"], (lane.endpoint, lane.lane, told)).lastrowid
    bounds = (key_of(lane.id, lane.cursor), key_of(lane.id, last))
    connection.execute(QUERY["add_dead_letters"], (request, lane.endpoint, settlement.at_ms, *bounds))
