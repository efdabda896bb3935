"""The judge of a kill test: pure, given what everybody knows, it returns everything that is wrong.

What a receiver may rely on, whatever was killed when:

* Nothing is lost. A publish that was acknowledged is there, once a channel. So is all that anybody has seen before such a
  publish was sent (the ledger of a life is a prefix of what happened in it), and all of a life that ended as asked. What
  happened later than that, in the moment before a kill, is there with both its halves or not at all.
* Nothing is invented. Every event is something a client or a publisher did, or has asked for.
* The ledger balances at every endpoint that asked for everything, and sequences are 1, 2, 3 ... at every endpoint, each one
  delivered or in the dead letters.
* A repeat has the id and the bytes of the first, and comes only where the answer to the first can have been missed.
* What is polled is what is delivered; and a snapshot, carried on by the events after its cursor, is every later snapshot.
* Endpoints agree: who asked for the same has got the same in the same order, and who asked for less has got less, in that order.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

from tests.e2e import ledger
from tests.kill.filter import Filter
from tests.kill.history import Arrival, Envelope, History, Visit
from tests.kill.post import TIMEOUT_S

#: Seconds before the end of a life in which an answer can have been sent and not been written down. A group commit takes
#: milliseconds; the rest is for a machine that has other things to do.
UNWRITTEN_S = 2.0


def check(
    history: History,
    endpoints: Mapping[str, Filter],
    arrivals: Mapping[str, Sequence[Arrival]],
    dead: Mapping[str, Sequence[Envelope]],
) -> list[str]:
    """Return every violation; `dead` is what the gateway says it has given up, by endpoint."""
    wrong: list[str] = []
    ledgers: dict[str, list[Envelope]] = {}
    for name, wants in endpoints.items():
        arrived = [arrival.envelope for arrival in arrivals.get(name, ())]
        given_up = dead.get(name, ())
        found = ledger.check(arrived, given_up=given_up) if wants.wants_all else ledger.check_delivery(arrived, given_up=given_up)
        wrong += [f"{name}: {sentence}" for sentence in [*found, *_repeats(history, arrivals.get(name, ()))]]
        ledgers[name] = sorted(ledger.first_arrivals([*arrived, *given_up]), key=_sequence)
    everything = next(ledgers[name] for name, wants in endpoints.items() if wants.wants_all and wants.include_payload)
    for name, wants in endpoints.items():
        wrong += [f"{name}: {sentence}" for sentence in _agreement(everything, wants, ledgers[name])]
    checks = (_feed, _snapshots, _connections, _sign_ins, _subscriptions, _messages)
    return [*wrong, *(sentence for one in checks for sentence in one(history, everything))]


def _sequence(envelope: Envelope) -> int:
    return int(envelope["metadata"]["sequence"])


def told(envelope: Envelope) -> str:
    """Return an event in a few words."""
    data = {name: value for name, value in envelope["data"].items() if name != "data"}
    return f"{envelope['metadata']['sequence']} {envelope['event']} {envelope['id']} at {envelope['timestamp']} {data}"


# -- between endpoints and lives


def _repeats(history: History, arrivals: Iterable[Arrival]) -> list[str]:
    ends = {life.number: life.ended_at for life in history.lives}
    wrong = []
    known: dict[str, Arrival] = {}
    for arrival in arrivals:
        first = known.get(arrival.envelope["id"])
        # One that came before the other was answered may be answered after it.
        if first is not None and first.told and arrival.came_at > first.at:
            if first.life == arrival.life:
                if history.stalled_s(first.came_at - TIMEOUT_S, first.at + TIMEOUT_S):
                    continue  # the answer may have been late, whatever the receiver has seen of it
                answer = f"in mood {first.mood} after {first.at - first.came_at:.3f} s"
                wrong.append(f"sent again in the same life although it was answered, {answer}: {told(arrival.envelope)}")
            elif (before_s := ends[first.life] - first.at - history.stalled_s(first.at, ends[first.life])) > UNWRITTEN_S:
                wrong.append(
                    f"sent again although it was answered {before_s:.1f} s before that life ended: {told(arrival.envelope)}"
                )
        if first is None or arrival.told or not first.told:
            known[arrival.envelope["id"]] = arrival
    return wrong


def _agreement(everything: Iterable[Envelope], wants: Filter, got: Iterable[Envelope]) -> list[str]:
    expected = {envelope["id"]: _content(envelope, wants) for envelope in everything if wants.lets_pass(envelope)}
    found = {envelope["id"]: _content(envelope, Filter()) for envelope in got}
    missing, added = expected.keys() - found.keys(), found.keys() - expected.keys()
    wrong = [f"has not got {told(envelope)}" for envelope in everything if envelope["id"] in missing]
    wrong += [f"nobody else has got {told(envelope)}" for envelope in got if envelope["id"] in added]
    if not wrong and list(expected) != list(found):
        first = next(number for number, (one, other) in enumerate(zip(expected, found, strict=True), 1) if one != other)
        wrong.append(f"another order than elsewhere, from sequence {first} on")
    wrong += [f"{of} has other contents than elsewhere" for of, content in found.items() if expected.get(of, content) != content]
    return wrong


def _content(envelope: Envelope, wants: Filter) -> dict[str, object]:
    content = {name: value for name, value in envelope.items() if name != "metadata"}
    if not wants.include_payload:
        content["data"] = {name: value for name, value in envelope["data"].items() if name != "data"}
    return content


# -- against what was polled


def _feed(history: History, everything: Iterable[Envelope]) -> list[str]:
    expected = {envelope["id"]: _content(envelope, Filter()) for envelope in everything}
    polled = [event["id"] for event in history.feed]
    cursors = [event["cursor"] for event in history.feed]
    wrong = [] if cursors == sorted(set(cursors)) else ["the feed's cursor does not grow from event to event"]
    missing = expected.keys() - set(polled)
    wrong += [f"the feed has not got {of}: {content}" for of, content in expected.items() if of in missing]
    wrong += [f"only the feed has got {event}" for event in history.feed if event["id"] not in expected]
    if not wrong and polled != list(expected):
        wrong.append("the feed's order is another than that of the sequences")
    for event in history.feed:
        content = {name: value for name, value in event.items() if name != "cursor"}
        if expected.get(event["id"], content) != content:
            wrong.append(f"the feed tells it in another way: {event}")
    return wrong


def _snapshots(history: History, everything: Iterable[Envelope]) -> list[str]:
    """Carry the spans on from one snapshot to the next, from the empty one at the beginning."""
    wrong = []
    state: dict[tuple[str, str], str | None] = {}
    events = iter(history.feed)
    event = next(events, None)
    for snapshot in sorted(history.snapshots, key=lambda snapshot: snapshot.cursor):
        while event is not None and event["cursor"] <= snapshot.cursor:
            _carry_on(state, event)
            event = next(events, None)
        if state != snapshot.spans:
            missing = sorted(map(str, state.items() - snapshot.spans.items()))
            added = sorted(map(str, snapshot.spans.items() - state.items()))
            wrong.append(
                f"the snapshot at {snapshot.cursor} has not {missing[:5]} and has {added[:5]} against the events before it"
            )
    return wrong


def _carry_on(state: dict[tuple[str, str], str | None], event: Envelope) -> None:
    kind, data = event["event"], event["data"]
    match kind:
        case "connection.opened":
            state["connection", data["socket_id"]] = data["span"]
        case "connection.closed":
            state.pop(("connection", data["socket_id"]), None)
        case "channel.subscribed":
            state["subscription", f"{data['channel']} {data['socket_id']}"] = None
        case "channel.unsubscribed":
            state.pop(("subscription", f"{data['channel']} {data['socket_id']}"), None)
        case "channel.occupied":
            state["channel", data["channel"]] = data["span"]
        case "channel.vacated":
            state.pop(("channel", data["channel"]), None)
        case "channel.member_added":
            state["member", f"{data['channel']} {data['user_id']}"] = data["span"]
        case "channel.member_removed":
            state.pop(("member", f"{data['channel']} {data['user_id']}"), None)


# -- against what clients and publishers know


def _connections(history: History, events: Iterable[Envelope]) -> list[str]:
    horizons = history.horizons()
    clean = {life.number for life in history.lives if life.end == "clean"}
    wrong = []
    opened: dict[int, Envelope] = {}
    by_socket: dict[str, Visit] = {}
    for event in events:
        if event["event"] == "connection.opened":
            visit = history.visits.get(_number(event))
            if visit is None or visit.was_refused or visit.number in opened:
                wrong.append(f"no client opened this connection: {told(event)}")
                continue
            opened[visit.number] = event
            by_socket[event["data"]["socket_id"]] = visit
            if visit.socket_id not in ("", event["data"]["socket_id"]):
                wrong.append(f"its client was told {visit.socket_id}: {told(event)}")
        elif event["event"] == "connection.closed":
            visit = by_socket.get(event["data"]["socket_id"])
            if visit is not None and visit.life in clean and event["data"]["reason"] == "gateway_lost":
                wrong.append(f"life {visit.life} ended as asked, and did not lose it: {told(event)}")
    for visit in history.visits.values():
        at = visit.established_at
        if at is not None and at < horizons[visit.life] and visit.number not in opened:
            wrong.append(
                f"connection {visit.socket_id} of life {visit.life} (visit {visit.number}) is missing: established "
                f"{horizons[visit.life] - at:.3f} s before the last acknowledged publish of that life was sent"
            )
    return wrong


def _number(event: Envelope) -> int:
    name, _, number = str(event["data"].get("client")).partition("/")
    return int(number) if name == "kill" and number.isdigit() else -1


def _sign_ins(history: History, events: Iterable[Envelope]) -> list[str]:
    """From its sign-in on a connection is that user's, also when its end is told by a later life."""
    horizons = history.horizons()
    wrong = []
    visits: dict[str, Visit] = {}
    users: dict[str, str] = {}
    recorded: Counter[int] = Counter()
    for event in events:
        kind, data = event["event"], event["data"]
        if kind == "connection.opened":
            visits[data["socket_id"]] = history.visits.get(_number(event), Visit(-1, -1))
        elif kind == "connection.authenticated" and data.get("signin"):
            visit = visits.get(data["socket_id"], Visit(-1, -1))
            users[data["socket_id"]] = data.get("user_id", "")
            recorded[visit.number] += 1
            if data.get("user_id") not in [asked.user_id for asked in visit.sign_ins][: recorded[visit.number]]:
                wrong.append(f"nobody signed in like that: {told(event)}")
            if recorded[visit.number] > len(visit.sign_ins):
                wrong.append(f"asked for {len(visit.sign_ins)} times, not {recorded[visit.number]}: {told(event)}")
        elif kind == "connection.closed":
            user = users.get(data["socket_id"])
            if user not in (None, data.get("user_id")):
                wrong.append(f"{user} was signed in there: {told(event)}")
    for visit in history.visits.values():
        seen = sum(asked.confirmed_at is not None and asked.confirmed_at < horizons[visit.life] for asked in visit.sign_ins)
        if recorded[visit.number] < seen:
            wrong.append(
                f"{visit.socket_id} of life {visit.life} was told {seen} times that it is signed in, the ledger says "
                f"{recorded[visit.number]}"
            )
    return wrong


def _subscriptions(history: History, events: Iterable[Envelope]) -> list[str]:
    horizons = history.horizons()
    wrong = []
    visits: dict[str, Visit] = {}
    asked: dict[int, Counter[tuple[str, str | None]]] = {
        number: Counter((join.channel, join.user_id) for join in visit.joins) for number, visit in history.visits.items()
    }
    subscribed: Counter[tuple[int, str]] = Counter()
    fulfilled: Counter[tuple[int, tuple[str, str | None]]] = Counter()
    for event in events:
        kind, data = event["event"], event["data"]
        if kind == "connection.opened":
            visits[data["socket_id"]] = history.visits.get(_number(event), Visit(-1, -1))
        if kind not in _OF_CLIENTS:
            if kind not in _KNOWN:
                wrong.append(f"this must not happen here: {told(event)}")
            continue
        visit = visits.get(data["socket_id"], Visit(-1, -1))
        wishes = asked.get(visit.number, Counter())
        if kind == "connection.authenticated" and data.get("signin"):
            continue
        wish = data["channel"], data.get("user_id")
        if kind == "connection.auth_failed":
            if data["channel"] not in visit.forged:
                wrong.append(f"that client forged nothing: {told(event)}")
        elif kind == "connection.authenticated":
            if all(channel != data["channel"] for channel, _ in wishes):
                wrong.append(f"nobody asked for that: {told(event)}")
        elif wishes[wish] == 0:
            wrong.append(f"nobody asked for that: {told(event)}")
        if kind == "channel.subscribed":
            subscribed[visit.number, data["channel"]] += 1
            fulfilled[visit.number, wish] += 1
            if fulfilled[visit.number, wish] > wishes[wish]:
                wrong.append(f"asked for {wishes[wish]} times, not {fulfilled[visit.number, wish]}: {told(event)}")
    for visit in history.visits.values():
        seen = Counter(
            join.channel for join in visit.joins if join.confirmed_at is not None and join.confirmed_at < horizons[visit.life]
        )
        wrong += [
            f"{visit.socket_id} of life {visit.life} was told {count} times that it is subscribed to {channel}, the ledger says "
            f"{subscribed[visit.number, channel]}"
            for channel, count in seen.items()
            if subscribed[visit.number, channel] < count
        ]
    return wrong


_OF_CLIENTS = frozenset(
    {"connection.authenticated", "connection.auth_failed", "channel.occupied", "channel.subscribed", "channel.member_added"}
)
_KNOWN = frozenset(
    {
        "connection.opened",
        "connection.closed",
        "channel.unsubscribed",
        "channel.vacated",
        "channel.member_removed",
        "message.published",
        "message.rejected",
        "client_event",
    }
)


def _messages(history: History, events: Iterable[Envelope]) -> list[str]:
    horizons = history.horizons()
    wrong = []
    published: Counter[tuple[str, str]] = Counter()
    said: Counter[str] = Counter()
    spoken = {name: (visit, channel) for visit in history.visits.values() for name, channel in visit.spoken.items()}
    last: dict[tuple[int, str], int] = defaultdict(int)
    places = {name: place for place, name in enumerate(history.publishes, 1)}
    for event in events:
        kind, data = event["event"], event["data"]
        if kind == "message.published":
            publish = history.publishes.get(data["event"])
            if publish is None or data["channel"] not in publish.channels or data["data"] != publish.data:
                wrong.append(f"nobody published that: {told(event)}")
                continue
            published[publish.name, data["channel"]] += 1
            line = publish.author, data["channel"]
            if places[publish.name] < last[line]:
                wrong.append(f"its author published it before others that stand before it: {told(event)}")
            last[line] = places[publish.name]
        elif kind in ("client_event", "message.rejected"):
            visit, channel = spoken.get(data["event"], (None, ""))
            if visit is None or channel != data["channel"] or visit.socket_id not in ("", data["socket_id"]):
                wrong.append(f"nobody said that: {told(event)}")
            said[data["event"]] += 1
    for publish in history.publishes.values():
        for channel in publish.channels:
            count = published[publish.name, channel]
            if count > 1:
                wrong.append(f"published once, {count} times in the ledger: {publish.name} on {channel}")
            if count == 0 and publish.status == 200:
                wrong.append(f"lost, although acknowledged in life {publish.life}: {publish.name} on {channel}")
    wrong += [f"said once, {count} times in the ledger: {name}" for name, count in said.items() if count > 1]
    wrong += [
        f"lost: {heard.name} on {heard.channel}, which others have heard in life {heard.life}"
        for heard in history.heard
        if heard.at < horizons[heard.life] and said[heard.name] == 0
    ]
    return wrong
