"""From what happens to connections and channels to lifecycle events: spans, linger, and closing a dead predecessor's books.

The only file of the core that knows both halves. What it keeps true, for the events of one app on this node:

* A span's end is told if and only if its beginning was tracked, and with the same `span` id. So the two ends alternate
  strictly, whatever is repeated or comes late.
* `channel.occupied` comes before the channel's first `channel.subscribed`, `channel.vacated` after its last
  `channel.unsubscribed` and `channel.member_removed`.
* The end of a channel or of a member waits out the linger; whoever comes back in the meantime goes on with the span.
* What is open is told to the outbox as span records, in the same sequence as the event, so that the next life of this
  process can close it.
* An event that nobody wants is not built, and where neither end of a kind of span is wanted, no such span is kept.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from gateway.core.attendance import Attendance
from gateway.core.facts import cause_of, channel_facts
from gateway.core.ident import Ids
from gateway.core.limit import size_of
from gateway.core.noise import Noise
from gateway.core.publication import Publication
from gateway.core.roster import Diff, Member
from gateway.core.span import CATALOGUE as CATALOGUE
from gateway.core.span import Instant as Instant
from gateway.core.span import LifecycleEvent as LifecycleEvent
from gateway.core.span import Record as Record
from gateway.core.span import Span as Span
from gateway.core.span import SpanClosed as SpanClosed
from gateway.core.span import SpanDeparting as SpanDeparting
from gateway.core.span import SpanOpened as SpanOpened
from gateway.core.trace import Trace

_NOTHING: tuple[Record, ...] = ()

#: Characters of a refused name that are told. Legal names are shorter; the others are whatever a stranger sent.
_LONGEST_NAME = 256


class _Connection:
    """What is told about a connection in each of its events; `span` is None if its ends are not wanted."""

    __slots__ = ("facts", "opened_at_ms", "span")

    def __init__(self, facts: dict[str, object], span: str | None, opened_at_ms: int) -> None:
        self.facts = facts
        self.span = span
        self.opened_at_ms = opened_at_ms


class Lifecycle:
    """The lifecycle of one app on this node.

    Each method is told of something that has just happened, in the order in which it happened, and returns what must be
    recorded, in that order; nothing may be left out or come in between. `now` never runs backwards on its monotonic side.
    """

    def __init__(self, app_id: str, ids: Ids, *, wanted: frozenset[str], linger_s: float) -> None:
        self._app_id = app_id
        self._ids = ids
        self._connections: dict[str, _Connection] = {}
        self._subscriptions: set[str] = set()
        self._attendance = Attendance(app_id, ids, self._of_channel)
        self._noise = Noise()
        self._configure(wanted, linger_s)

    def _configure(self, wanted: frozenset[str], linger_s: float) -> None:
        #: the kinds of event that some endpoint wants; if empty, no method but `recover` need be called
        self.wanted = wanted
        self._attendance.configure(wanted, linger_s)
        self._tracks_connections = not wanted.isdisjoint({"connection.opened", "connection.closed"})
        self._keeps_facts = any(kind.startswith("connection.") for kind in wanted)
        self._tracks_subscriptions = "channel.unsubscribed" in wanted

    def reconfigure(self, wanted: frozenset[str], linger_s: float) -> Sequence[Record]:
        """Take over a new configuration while connections are open; returns records too.

        Spans neither of whose ends is wanted any more are forgotten without a word. What is already open when its kind
        of span becomes wanted has had no beginning, so it will have no end: it is first told of when it opens again.
        Departures that are pending keep their deadline.
        """
        self._configure(wanted, linger_s)
        records: list[Record] = []
        if not self._tracks_connections:
            for socket_id, connection in self._connections.items():
                if connection.span is not None:
                    connection.span = None
                    records.append(SpanClosed(self._app_id, "connection", socket_id))
        if not self._keeps_facts:
            self._connections.clear()
        if not wanted:
            self._noise = Noise()  # nobody will tell us which connections end
        if not self._tracks_subscriptions:
            records += [SpanClosed(self._app_id, "subscription", key) for key in sorted(self._subscriptions)]
            self._subscriptions.clear()
        self._attendance.forget_unwanted(records)
        return records or _NOTHING

    # -- connections -------------------------------------------------------------------------------------------------

    def opened(self, socket_id: str, facts: Mapping[str, object], now: Instant) -> Sequence[Record]:
        """A connection was established; `facts` are JSON-able and go into each event of it."""
        if not self._keeps_facts:
            return _NOTHING
        span = self._ids.make("spn", now.epoch_ms) if self._tracks_connections else None
        self._connections[socket_id] = connection = _Connection(dict(facts), span, now.epoch_ms)
        if span is None:
            return _NOTHING
        records: list[Record] = []
        if "connection.opened" in self.wanted:
            data = {"socket_id": socket_id, "span": span, **connection.facts}
            records.append(self._event("connection.opened", self._connection(socket_id), data, now))
        records.append(SpanOpened(Span(self._app_id, "connection", socket_id, span, now.epoch_ms, connection.facts.copy())))
        return records

    def closed(self, socket_id: str, ending: Mapping[str, object], now: Instant) -> Sequence[Record]:
        """A connection has ended and left all its channels; `ending` goes into the event."""
        suppressed = self._noise.end(socket_id)
        connection = self._connections.pop(socket_id, None)
        if connection is None or connection.span is None:
            return _NOTHING
        records: list[Record] = []
        if "connection.closed" in self.wanted:
            data = {"socket_id": socket_id, "span": connection.span, **connection.facts, **ending}
            if suppressed:
                data["suppressed"] = suppressed
            records.append(self._event("connection.closed", self._connection(socket_id), data, now))
        records.append(SpanClosed(self._app_id, "connection", socket_id))
        return records

    def signed_in(self, socket_id: str, user_id: str, now: Instant) -> Sequence[Record]:
        """The connection has signed in; from now on all that is told of it names the user, its end after a crash included."""
        records: list[Record] = []
        connection = self._connections.get(socket_id)
        if connection is not None and connection.facts.get("user_id") != user_id:
            connection.facts["user_id"] = user_id
            if (span := connection.span) is not None:
                facts, opened_at_ms = connection.facts.copy(), connection.opened_at_ms
                records.append(SpanOpened(Span(self._app_id, "connection", socket_id, span, opened_at_ms, facts)))
        return (*self.authenticated(socket_id, None, now), *records)

    def authenticated(self, socket_id: str, channel: str | None, now: Instant) -> Sequence[Record]:
        """A signature of the connection was verified; channel None: that of a sign-in."""
        if "connection.authenticated" not in self.wanted:
            return _NOTHING
        data = {"socket_id": socket_id, **self.facts(socket_id), **_signed(channel)}
        return (self._event("connection.authenticated", self._connection(socket_id), data, now, channel),)

    def auth_failed(
        self, socket_id: str, channel: str | None, reason: str, now: Instant, *, has_room: bool = True
    ) -> Sequence[Record]:
        """A signature of the connection was refused (channel None: that of a sign-in).

        Too many of these, or any without room, are counted instead of told.
        """
        kind = "connection.auth_failed"
        if kind not in self.wanted or not self._noise.is_heard(socket_id, kind, now, has_room):
            return _NOTHING
        channel = None if channel is None else channel[:_LONGEST_NAME]
        data = {"socket_id": socket_id, **self.facts(socket_id), **_signed(channel), "reason": reason}
        data |= self._noise.repeats(socket_id, kind)
        return (self._event(kind, self._connection(socket_id), data, now, channel),)

    # -- channels ----------------------------------------------------------------------------------------------------

    def subscribed(self, socket_id: str, diff: Diff, member: Member | None, now: Instant) -> Sequence[Record]:
        """A connection joined a channel, as the diff says; a refused one changes nothing."""
        channel = diff.channel
        if diff.refused or channel.startswith("#"):
            return _NOTHING
        self._learn_user(socket_id, member)
        who = cause_of(socket_id, member)
        records: list[Record] = []
        self._attendance.entered(diff, who, now, records)
        if "channel.subscribed" in self.wanted:
            data = channel_facts(channel, diff.subscribers, who)
            records.append(self._event("channel.subscribed", self._channel(channel), data, now, channel))
        if self._tracks_subscriptions and (key := f"{channel}\n{socket_id}") not in self._subscriptions:
            self._subscriptions.add(key)
            facts = {} if member is None else {"user_id": member.user_id}
            span = Span(self._app_id, "subscription", key, self._ids.make("spn", now.epoch_ms), now.epoch_ms, facts)
            records.append(SpanOpened(span))
        if member is not None:
            self._attendance.arrived(diff, member, who, now, records)
        return records or _NOTHING

    def unsubscribed(self, socket_id: str, diff: Diff, member: Member | None, now: Instant) -> Sequence[Record]:
        """A connection left a channel, as the diff says; one that was not there changes nothing."""
        channel = diff.channel
        if channel.startswith("#"):
            return _NOTHING
        who = cause_of(socket_id, member)
        records: list[Record] = []
        key = f"{channel}\n{socket_id}" if self._subscriptions else ""
        if key in self._subscriptions:
            self._subscriptions.remove(key)
            data = channel_facts(channel, diff.subscribers, who)
            records.append(self._event("channel.unsubscribed", self._channel(channel), data, now, channel))
            records.append(SpanClosed(self._app_id, "subscription", key))
        self._attendance.left(diff, who, now, records)
        return records or _NOTHING

    def noticed(self, kind: str, channel: str, subscribers: int, who: Mapping[str, object], now: Instant) -> Sequence[Record]:
        """Something about a channel that begins and ends nothing: `channel.cache_miss`, `channel.subscription_count`."""
        if kind not in self.wanted:
            return _NOTHING
        return (self._event(kind, self._channel(channel), channel_facts(channel, subscribers, who), now, channel),)

    # -- messages ----------------------------------------------------------------------------------------------------

    def published(self, publication: Publication, recipients: Mapping[str, int], now: Instant) -> Sequence[Record]:
        """A publication was accepted and fanned out; `recipients` counts them by channel."""
        kind = "client_event" if publication.from_client else "message.published"
        if kind not in self.wanted:
            return _NOTHING
        size = size_of(publication.data)
        records: list[Record] = []
        for channel in publication.channels:
            if channel.startswith("#"):
                continue
            told = recipients.get(channel, 0)
            data: dict[str, object] = {"channel": channel, "event": publication.event, "size": size, "recipients": told}
            if publication.from_client:
                data["socket_id"] = publication.except_socket_id
                if publication.user_id is not None:
                    data["user_id"] = publication.user_id
            data["data"] = publication.data
            subject, name = self._channel(channel), publication.event
            records.append(self._event(kind, subject, data, now, channel, name, publication.trace))
        return records or _NOTHING

    def rejected(
        self,
        reason: str,
        source: str,
        channel: str | None,
        event: str | None,
        size: int,
        socket_id: str | None,
        now: Instant,
        *,
        has_room: bool = True,
    ) -> Sequence[Record]:
        """A publish was refused; `source` is `http` or `client`. Too many, or any without room, are counted instead of told."""
        kind = "message.rejected"
        if kind not in self.wanted or (channel is not None and channel.startswith("#")):
            return _NOTHING
        if not self._noise.is_heard(socket_id, kind, now, has_room):
            return _NOTHING
        channel = None if channel is None else channel[:_LONGEST_NAME]
        event = None if event is None else event[:_LONGEST_NAME]
        told = {"reason": reason, "source": source, "channel": channel, "event": event, "size": size, "socket_id": socket_id}
        data = {name: value for name, value in told.items() if value is not None} | self._noise.repeats(socket_id, kind)
        if channel is not None:
            subject = self._channel(channel)
        else:
            subject = f"{self._app_id}/app" if socket_id is None else self._connection(socket_id)
        return (self._event(kind, subject, data, now, channel, event),)

    # -- time --------------------------------------------------------------------------------------------------------

    def next_deadline(self) -> float | None:
        """Return when `expire` has something to do, in monotonic seconds; None: no departure is pending."""
        return self._attendance.next_deadline()

    def expire(self, now: Instant) -> Sequence[Record]:
        """Let the departures count whose linger is over, in the order of their deadlines."""
        records: list[Record] = []
        self._attendance.expire(now, records)
        return records or _NOTHING

    def recover(self, spans: Iterable[Span], now: Instant, linger_s: float) -> Sequence[Record]:
        """Close the books of this app's former life on this node; called before anything else is told, once.

        Connections and subscriptions are gone. Channels and members stay open for `linger_s`, so that whoever reconnects
        goes on with his span. Where a departure was already pending it keeps the time it had left if that is longer, but
        no more than the app's own linger, whatever the wall clock has done since.

        If the result is lost before it is durable, the next life finds the same spans and does the same again.
        """
        left = sorted((span for span in spans if span.app_id == self._app_id), key=lambda span: (span.opened_at_ms, span.id))
        records: list[Record] = []
        users = self._lose_subscriptions([span for span in left if span.kind == "subscription"], now, records)
        for span in left:
            if span.kind == "connection":
                self._lose_connection(span, users.get(span.key, {}), now, records)
        self._attendance.recover(left, now, linger_s, records)
        return records or _NOTHING

    def _lose_subscriptions(self, spans: Sequence[Span], now: Instant, records: list[Record]) -> dict[str, Mapping[str, object]]:
        """Tell the ends of the subscriptions; return what is known of the user, by socket id."""
        users: dict[str, Mapping[str, object]] = {}
        remaining = Counter(span.key.partition("\n")[0] for span in spans)
        for span in spans:
            channel, _, socket_id = span.key.partition("\n")
            remaining[channel] -= 1
            if span.facts:  # the first channel's, as in the life before
                users.setdefault(socket_id, span.facts)
            if "channel.unsubscribed" in self.wanted:
                data = channel_facts(channel, remaining[channel], {"socket_id": socket_id, **span.facts}) | {
                    "reason": "gateway_lost"
                }
                records.append(self._event("channel.unsubscribed", self._channel(channel), data, now, channel))
            records.append(SpanClosed(self._app_id, "subscription", span.key))
        return users

    def _lose_connection(self, span: Span, user: Mapping[str, object], now: Instant, records: list[Record]) -> None:
        if "connection.closed" in self.wanted:
            data = {
                "socket_id": span.key,
                "span": span.id,
                **span.facts,
                **({} if "user_id" in span.facts else user),  # he may be somebody else on a channel than he signed in as
                "code": 1006,
                "reason": "gateway_lost",
                # Nobody saw the end; this is how long it can have lasted at most.
                "duration_ms": max(0, now.epoch_ms - span.opened_at_ms),
            }
            records.append(self._event("connection.closed", self._connection(span.key), data, now))
        records.append(SpanClosed(self._app_id, "connection", span.key))

    # -- helpers -----------------------------------------------------------------------------------------------------

    def _event(
        self,
        kind: str,
        subject: str,
        data: Mapping[str, object],
        now: Instant,
        channel: str | None = None,
        name: str | None = None,
        trace: Trace | None = None,
    ) -> LifecycleEvent:
        id_, at_ms = self._ids.make("evt", now.epoch_ms), now.epoch_ms
        return LifecycleEvent(id_, kind, self._app_id, at_ms, subject, data, channel, name, trace)

    def _of_channel(self, kind: str, channel: str, data: Mapping[str, object], now: Instant) -> LifecycleEvent:
        return self._event(kind, self._channel(channel), data, now, channel)

    def _connection(self, socket_id: str) -> str:
        return f"{self._app_id}/connection/{socket_id}"

    def _channel(self, channel: str) -> str:
        return f"{self._app_id}/channel/{channel}"

    def facts(self, socket_id: str) -> Mapping[str, object]:
        """What each event of this connection tells of it; empty where no endpoint wants such events."""
        return known.facts if (known := self._connections.get(socket_id)) else {}

    def _learn_user(self, socket_id: str, member: Member | None) -> None:
        if member is not None and (connection := self._connections.get(socket_id)):
            connection.facts.setdefault("user_id", member.user_id)


def _signed(channel: str | None) -> dict[str, object]:
    """Return what a signature was for."""
    return {"signin": True} if channel is None else {"channel": channel}
