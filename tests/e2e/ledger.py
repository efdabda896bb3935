"""A checker for the promise made to webhook receivers: the ledger balances.

It knows nothing of sockets or time: it is given the envelopes one endpoint has accepted, in the order of arrival and with
whatever repeats there were, and answers with the list of everything that is wrong with them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

Envelope = Mapping[str, Any]

#: a connection does these only while it is open; what follows from its leaving (vacated, member_removed) may come later
_WHILE_OPEN = frozenset(
    {
        "connection.authenticated",
        "connection.auth_failed",
        "channel.subscribed",
        "channel.unsubscribed",
        "channel.occupied",
        "channel.member_added",
        "channel.cache_miss",
        "client_event",
    }
)


def subject(envelope: Envelope) -> str:
    """Return what order is kept for: a connection, a channel, or the endpoint itself."""
    data = envelope["data"]
    if envelope["event"].startswith("connection."):
        return f"connection {data['socket_id']}"
    if "channel" in data:
        return f"channel {data['channel']}"
    return "endpoint"


def first_arrivals(arrivals: Iterable[Envelope]) -> list[Envelope]:
    """Drop repeats, by id, as a receiver should."""
    first: dict[str, Envelope] = {}
    for envelope in arrivals:
        first.setdefault(envelope["id"], envelope)
    return list(first.values())


def check(arrivals: Iterable[Envelope], *, ended: bool = True, given_up: Iterable[Envelope] = ()) -> list[str]:
    """Return all violations in what one endpoint of one node has accepted; it must have asked for every kind of event.

    `ended` says that everybody has left and every linger is over, so that nothing may be open any more. `given_up` are the
    endpoint's dead letters: they stand in the ledger too.
    """
    arrived, dead = list(arrivals), list(given_up)
    in_sequence = sorted(first_arrivals([*arrived, *dead]), key=_sequence)
    return check_delivery(arrived, given_up=dead) + _Replay().run(in_sequence, ended)


def check_delivery(arrivals: Iterable[Envelope], *, given_up: Iterable[Envelope] = ()) -> list[str]:
    """Return the violations that do not depend on what an endpoint asked for: ids, sequences, and the order of arrival."""
    arrived = list(arrivals)
    everything = [*arrived, *given_up]
    return _repeats(everything) + _sequences(sorted(first_arrivals(everything), key=_sequence)) + _order(first_arrivals(arrived))


def _sequence(envelope: Envelope) -> int:
    return int(envelope["metadata"]["sequence"])


def _repeats(arrived: list[Envelope]) -> list[str]:
    first: dict[str, Envelope] = {}
    wrong = []
    for envelope in arrived:
        if first.setdefault(envelope["id"], envelope) != envelope:
            wrong.append(f"{envelope['id']} came with two different envelopes")
    return wrong


def _sequences(in_sequence: list[Envelope]) -> list[str]:
    wrong = []
    expected = 1
    for envelope in in_sequence:
        sequence = _sequence(envelope)
        if sequence < expected:
            wrong.append(f"sequence {sequence} was given twice, the second time to {envelope['id']}")
        elif sequence > expected:
            wrong.append(f"sequences {expected} to {sequence - 1} are missing")
        expected = sequence + 1
    return wrong


def _order(events: list[Envelope]) -> list[str]:
    latest: dict[str, int] = {}
    wrong = []
    for envelope in events:
        of, sequence = subject(envelope), _sequence(envelope)
        if sequence < latest.get(of, 0):
            wrong.append(f"{of}: sequence {sequence} ({envelope['event']}) arrived after sequence {latest[of]}")
        latest[of] = max(sequence, latest.get(of, 0))
    return wrong


class _Replay:
    """The state a receiver would rebuild, and what in the events contradicts it."""

    def __init__(self) -> None:
        self.wrong: list[str] = []
        self.spans: dict[str, str] = {}  # what is open -> its span
        self.ever: set[str] = set()  # every span id seen
        self.connections: set[str] = set()
        self.ended: set[str] = set()
        self.subscribers: dict[str, dict[str, str | None]] = defaultdict(dict)  # channel -> socket id -> user id
        self.members: dict[str, set[str]] = defaultdict(set)

    def run(self, events: list[Envelope], ended: bool) -> list[str]:
        for envelope in events:
            self.step(envelope)
        if ended:
            self.wrong += [f"{what} is still open at the end" for what in self.spans]
            self.wrong += [
                f"{socket_id} is still subscribed to {channel} at the end"
                for channel, sockets in self.subscribers.items()
                for socket_id in sockets
            ]
        return self.wrong

    def step(self, envelope: Envelope) -> None:
        kind, data = envelope["event"], envelope["data"]
        socket_id = data.get("socket_id")
        at = f"sequence {_sequence(envelope)} ({kind})"
        if kind in _WHILE_OPEN and socket_id not in self.connections:
            self.wrong.append(f"{at}: connection {socket_id} is not open")
        match kind:
            case "connection.opened":
                if socket_id in self.ended:
                    self.wrong.append(f"{at}: connection {socket_id} has ended before")
                self.connections.add(socket_id)
                self.open(at, f"connection {socket_id}", data)
            case "connection.closed":
                self.close(at, f"connection {socket_id}", data)
                self.connections.discard(socket_id)
                self.ended.add(socket_id)
                for channel, sockets in self.subscribers.items():
                    if socket_id in sockets:
                        self.wrong.append(f"{at}: {socket_id} is still subscribed to {channel}")
            case "channel.occupied":
                self.open(at, f"channel {data['channel']}", data)
            case "channel.vacated":
                self.close(at, f"channel {data['channel']}", data)
                if self.subscribers[data["channel"]]:
                    self.wrong.append(f"{at}: {data['channel']} still has subscribers")
                if self.members[data["channel"]]:
                    self.wrong.append(f"{at}: {data['channel']} still has members")
            case "channel.member_added":
                self.must_be_occupied(at, data["channel"])
                self.members[data["channel"]].add(data["user_id"])
                self.open(at, f"member {data['user_id']} of {data['channel']}", data)
            case "channel.member_removed":
                self.close(at, f"member {data['user_id']} of {data['channel']}", data)
                self.members[data["channel"]].discard(data["user_id"])
                if data["user_id"] in self.subscribers[data["channel"]].values():
                    self.wrong.append(f"{at}: {data['user_id']} is still subscribed to {data['channel']}")
            case "channel.subscribed":
                self.must_be_occupied(at, data["channel"])
                if socket_id in self.subscribers[data["channel"]]:
                    self.wrong.append(f"{at}: {socket_id} is subscribed to {data['channel']} already")
                self.subscribers[data["channel"]][socket_id] = data.get("user_id")
                self.count(at, data)
            case "channel.cache_miss" | "channel.subscription_count":
                self.count(at, data)
            case "channel.unsubscribed":
                if socket_id not in self.subscribers[data["channel"]]:
                    self.wrong.append(f"{at}: {socket_id} is not subscribed to {data['channel']}")
                self.subscribers[data["channel"]].pop(socket_id, None)
                self.count(at, data)

    def open(self, at: str, what: str, data: Mapping[str, Any]) -> None:
        if what in self.spans:
            self.wrong.append(f"{at}: {what} is open already")
        if data["span"] in self.ever:
            self.wrong.append(f"{at}: span {data['span']} was used before")
        self.ever.add(data["span"])
        self.spans[what] = data["span"]

    def close(self, at: str, what: str, data: Mapping[str, Any]) -> None:
        span = self.spans.pop(what, None)
        if span is None:
            self.wrong.append(f"{at}: {what} is not open")
        elif span != data["span"]:
            self.wrong.append(f"{at}: {what} was opened as span {span}, and closed as {data['span']}")

    def must_be_occupied(self, at: str, channel: str) -> None:
        if f"channel {channel}" not in self.spans:
            self.wrong.append(f"{at}: {channel} is not occupied")

    def count(self, at: str, data: Mapping[str, Any]) -> None:
        here = len(self.subscribers[data["channel"]])
        if data["subscribers"] != here:
            self.wrong.append(f"{at}: says {data['subscribers']} subscribers of {data['channel']}, there are {here}")
