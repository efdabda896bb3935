"""What a group of commits and settlements means in SQL; and the lanes, as they are after the last transaction."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from gateway.core.delivery import REPLAY_LANE, Delivery, Settlement, State
from gateway.core.lifecycle import LifecycleEvent
from gateway.outbox.column import Parameters, of_deliveries, of_events, parts, size_of
from gateway.outbox.query import COLUMNS, QUERY, WRITE
from gateway.outbox.row import SEQUENCE_MASK, Row, SpanChanges, given_up, key_of, packed, settlement_row, span_from
from gateway.ports import Commit, Recovery

Name = tuple[str, int]  # endpoint key, lane

_NOTHING: dict[str, object] = dict.fromkeys(COLUMNS)


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


class _Group:
    """What is being written, and what will hold once it is durable."""

    __slots__ = ("changed", "latest", "next_event", "next_request", "parameters", "settled", "size")

    def __init__(self, next_event: int, next_request: int) -> None:
        self.changed: dict[Name, Lane] = {}
        self.latest: dict[str, int] = {}
        self.next_event = next_event
        self.next_request = next_request
        self.parameters = dict(_NOTHING)
        #: deliveries settled for good, by lane
        self.settled: dict[Name, int] = {}
        self.size = 0

    def put(self, name: str, rows: Sequence[Row]) -> None:
        if rows:
            self.take({name: packed(rows)})

    def take(self, parameters: Parameters) -> None:
        self.parameters |= parameters
        self.size += size_of(parameters)


class Books:
    """Writes groups, each whole or not at all, and knows where every lane stands. Used by the writer thread.

    `lanes` and `latest` may be read from any thread: they change only after a transaction is durable.
    """

    def __init__(self) -> None:
        self._lanes: dict[Name, Lane] = {}
        #: by app: the number of its newest event
        self.latest: dict[str, int] = {}
        self._next_lane = 1
        self._next_event = 1
        self._next_request = 1
        #: lanes in which settled deliveries may still lie
        self._littered: set[Name] = set()
        #: about how many of them
        self.litter = 0
        #: up to where the file holds more than was known of a lane: see `reload`
        self._surplus: dict[Name, int] = {}
        #: bytes given to the file so far
        self.written = 0

    @property
    def lanes(self) -> Mapping[Name, Lane]:
        return self._lanes

    def load(self, connection: sqlite3.Connection) -> Recovery:
        """Read what a former life left behind: small tables only, whatever the backlog."""
        lanes = {(lane.endpoint, lane.lane): lane for lane in map(Lane._make, connection.execute(QUERY["all_lanes"]))}
        self._next_lane = max((lane.id for lane in lanes.values()), default=0) + 1
        self._next_event, self._next_request = connection.execute(QUERY["next_numbers"]).fetchone()
        self.latest = dict(connection.execute(QUERY["all_latest"]))
        # a crash may have come between settling and sweeping; to look costs less than to remember
        self._littered = {name for name, lane in lanes.items() if lane.cursor}
        self._lanes = lanes
        return Recovery(
            sequences=dict(connection.execute(QUERY["all_sequences"])),
            spans=tuple(map(span_from, connection.execute(QUERY["all_spans"]))),
            lanes=frozenset(connection.execute(QUERY["waiting_lanes"])),
        )

    def reload(self, connection: sqlite3.Connection) -> None:
        """Look again, on a new connection after a failure: what was said not to be written may have been, at the last moment.

        It will be given again, and its deliveries, which are there, are then passed over.
        """
        known = self._lanes
        self.load(connection)
        for name, lane in self._lanes.items():
            if lane.tail > (known[name].tail if name in known else 0):
                self._surplus[name] = lane.tail

    def write(self, connection: sqlite3.Connection, commits: Sequence[Commit], settlements: Sequence[Settlement]) -> None:
        """Write a group in one transaction, which is one statement.

        Raises sqlite3.Error, TypeError for data that is not JSON, or ValueError for deliveries out of order: nothing was
        written then.
        """
        group = _Group(self._next_event, self._next_request)
        self._append(commits, group)
        self._settle(settlements, group)
        connection.execute(WRITE, group.parameters)
        self._written(group)
        if self._surplus:
            self.latest = dict(connection.execute(QUERY["all_latest"]))
            self._surplus = {name: tail for name, tail in self._surplus.items() if self._lanes[name].tail == tail}

    def _written(self, group: _Group) -> None:
        self._next_lane += len(group.changed.keys() - self._lanes.keys())
        self._next_event = group.next_event
        self._next_request = group.next_request
        self._lanes.update(group.changed)
        self.latest.update(group.latest)
        self._littered.update(group.settled)
        self.litter += sum(group.settled.values())
        self.written += group.size

    def _append(self, commits: Iterable[Commit], group: _Group) -> None:
        deliveries: list[Delivery] = []
        keys: list[int] = []
        caused: dict[str, list[int]] = {}  # keys of deliveries, by event
        grown: dict[Name, list[int]] = {}  # lane id, deliveries added, new tail
        fresh = self._next_lane
        sequences: dict[str, int] = {}
        events: list[LifecycleEvent] = []
        spans = SpanChanges()
        for commit in commits:
            for delivery in commit.deliveries:
                endpoint, sequence, event_id = delivery.endpoint, delivery.sequence, delivery.event_id
                name = (endpoint, delivery.lane)
                growth = grown.get(name)
                if growth is None:
                    lane = self._lanes.get(name)
                    growth = grown[name] = [fresh, 0, 0] if lane is None else [lane.id, 0, lane.tail]
                    fresh += lane is None
                if sequence <= growth[2]:
                    if sequence <= self._surplus.get(name, 0):
                        continue
                    # behind the cursor it would never be claimed
                    raise ValueError(f"delivery {sequence} of {endpoint} comes after {growth[2]} in lane {delivery.lane}")
                growth[1] += 1
                growth[2] = sequence
                if sequence > sequences.get(endpoint, 0):
                    sequences[endpoint] = sequence
                key = key_of(growth[0], sequence)
                if event_id in caused:
                    caused[event_id].append(key)
                else:
                    caused[event_id] = [key]
                keys.append(key)
                deliveries.append(delivery)
            for record in commit.records:
                if isinstance(record, LifecycleEvent):
                    events.append(record)
                else:
                    spans.take(record)
        group.take(of_events(group.next_event, events, caused))
        group.latest = {event.app_id: no for no, event in enumerate(events, group.next_event)}
        group.next_event += len(events)
        for name, (lane_id, _, tail) in grown.items():
            lane = self._lanes.get(name)
            group.changed[name] = Lane(lane_id, *name, tail) if lane is None else lane._replace(tail=tail)
        if grown:
            group.take(of_deliveries(keys, deliveries))
            group.put("grown", [[lane_id, *name, length, tail] for name, (lane_id, length, tail) in grown.items()])
            group.put("sequences", [list(pair) for pair in sequences.items()])
        group.put("dropped", spans.dropped_rows())
        group.put("put", spans.put_rows())
        group.put("marked", spans.marked_rows())

    def _settle(self, settlements: Iterable[Settlement], group: _Group) -> None:
        moved: set[Name] = set()
        attempt_rows: list[Row] = []
        dead_rows: list[Row] = []
        changed = group.changed
        for settlement in settlements:
            name = (settlement.endpoint, settlement.lane)
            lane = changed.get(name) or self._lanes.get(name)
            if lane is None:
                continue
            if not settlement.count:
                # Behind all that was attempted, and about none of it: the look-up of a sequence's attempts passes it over.
                reached = max(lane.cursor, lane.pinned)
                attempt_rows.append([lane.id, reached + 1, reached, settlement.at_ms, settlement_row(settlement)])
                continue
            last = min(settlement.last_sequence, lane.tail)
            if last <= lane.cursor:
                continue
            told = settlement_row(settlement)
            attempt_rows.append([lane.id, settlement.first_sequence, last, settlement.at_ms, told])
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
                bounds = (key_of(lane.id, lane.cursor), key_of(lane.id, last))
                dead_rows.append([group.next_request, lane.endpoint, lane.lane, told, *bounds, settlement.at_ms])
                group.next_request += 1
            group.settled[name] = group.settled.get(name, 0) + settlement.count
            changed[name] = Lane(lane.id, lane.endpoint, lane.lane, lane.tail, last)
        group.put("moved", [[lane.id, *lane[4:]] for lane in map(changed.__getitem__, moved)])
        group.put("attempts", attempt_rows)
        group.put("dead", dead_rows)

    # -- what somebody asked for

    def replay(self, connection: sqlite3.Connection, endpoint: str, deliveries: Sequence[Delivery]) -> None:
        """Append deliveries to the endpoint's replay lane, in one transaction. Raises sqlite3.Error."""
        if not deliveries:
            return
        name = (endpoint, REPLAY_LANE)
        group = _Group(self._next_event, self._next_request)
        lane = self._lanes.get(name)
        tail = 0 if lane is None else lane.tail
        numbered = [
            replace(delivery, endpoint=endpoint, lane=REPLAY_LANE, sequence=sequence)
            for sequence, delivery in enumerate(deliveries, tail + 1)
        ]
        self._append([Commit(deliveries=tuple(numbered))], group)
        group.parameters["sequences"] = None  # that lane counts by itself
        lane_id = group.changed[name].id

        def write() -> None:
            connection.execute(WRITE, group.parameters)
            rows = [[one.event_id, key_of(lane_id, one.sequence)] for one in numbered]
            connection.execute(QUERY["number_anew"], (packed(rows),))
            connection.execute(QUERY["revive"], (endpoint, *parts([(one.event_id, one.envelope) for one in numbered])))

        in_transaction(connection, write)
        self._written(group)

    def abandon(self, connection: sqlite3.Connection, endpoint: str, reason: str, at_ms: int, limit: int) -> int:
        """Give up at most `limit` deliveries that are due to the endpoint; return how many, 0 when there is no more."""
        for lane in self._lanes.values():
            if lane.endpoint == endpoint and lane.cursor < lane.tail:
                most = lane.tail if lane.pinned else limit  # a request that was attempted stays whole
                bounds = (key_of(lane.id, lane.cursor), key_of(lane.id, lane.pinned or lane.tail))
                count, first, last = connection.execute(QUERY["next_due"], (*bounds, most)).fetchone()
                settlement = given_up(
                    lane[1:3],
                    (first & SEQUENCE_MASK, last & SEQUENCE_MASK, count),
                    lane.attempts,
                    at_ms,
                    lane.first_at_ms,
                    reason,
                )
                self.write(connection, (), (settlement,))
                return int(count)
        return 0

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


def in_transaction(connection: sqlite3.Connection, write: Callable[[], None]) -> None:
    """Do several statements whole or not at all; the write lock is taken at once, or the transaction may fail half-way."""
    connection.execute(QUERY["begin"])
    try:
        write()
        connection.execute(QUERY["commit"])
    except BaseException:
        if connection.in_transaction:
            connection.execute(QUERY["rollback"])
        raise
