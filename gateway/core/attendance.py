"""What of one app is occupied and who is present, as webhooks have it: the spans of channels and members, each with its linger.

What this file keeps true:

* The end of a channel or of a member waits out the linger; whoever comes back in the meantime goes on with the span.
* A channel ends after its members.
* A kind of span neither of whose ends is wanted is not kept.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from gateway.core.facts import channel_facts
from gateway.core.ident import Ids
from gateway.core.linger import Departures, Stay, Stays
from gateway.core.roster import Diff, Member
from gateway.core.span import Instant, LifecycleEvent, Record, Span, SpanClosed, SpanDeparting, SpanOpened

#: makes an event of its kind, its channel and its data
Tell = Callable[[str, str, Mapping[str, object], Instant], LifecycleEvent]


class Attendance:
    """The channels and members of one app on this node.

    What must be recorded is added to `records`, in order. `configure` comes before everything else.
    """

    def __init__(self, app_id: str, ids: Ids, tell: Tell) -> None:
        self._app_id = app_id
        self._ids = ids
        self._tell = tell
        self._channels: dict[str, Stay] = {}
        self._members: dict[str, Stays] = {}
        self._departures = Departures()

    def configure(self, wanted: frozenset[str], linger_s: float) -> None:
        """Take over what is wanted; departures that are pending keep their deadline."""
        self._wanted = wanted
        self._linger_s = linger_s
        self._tracks_channels = not wanted.isdisjoint({"channel.occupied", "channel.vacated"})
        self._tracks_members = not wanted.isdisjoint({"channel.member_added", "channel.member_removed"})

    def forget_unwanted(self, records: list[Record]) -> None:
        """Forget, without a word, the spans neither of whose ends is wanted any more."""
        forgotten: list[Stay] = []
        if not self._tracks_members:
            forgotten += [left for presence in self._members.values() for left in presence.users.values()]
            self._members.clear()
        if not self._tracks_channels:
            forgotten += self._channels.values()
            self._channels.clear()
        for left in forgotten:
            left.departure = 0
            records.append(SpanClosed(self._app_id, left.kind, left.key))

    # -- coming and going --------------------------------------------------------------------------------------------

    def entered(self, diff: Diff, who: Mapping[str, object], now: Instant, records: list[Record]) -> None:
        """A connection joined a channel; what this tells comes before `channel.subscribed`."""
        if not self._tracks_channels:
            return
        channel = diff.channel
        opened = self._channels.get(channel)
        if opened is not None:
            self._call_off(opened, records)
        elif diff.occupied:
            opened = self._channels[channel] = Stay(self._ids.make("spn", now.epoch_ms), channel, None)
            self._begin("channel.occupied", opened, channel_facts(channel, diff.subscribers, who, opened.span), now, records)

    def arrived(self, diff: Diff, member: Member, who: Mapping[str, object], now: Instant, records: list[Record]) -> None:
        """The connection that joined is this member; what this tells comes after `channel.subscribed`."""
        if not self._tracks_members:
            return
        presence = self._members.get(diff.channel)
        if presence is None:
            if diff.member_added is None:
                return
            presence = self._members[diff.channel] = Stays()
        presence.subscribers = diff.subscribers
        present = presence.users.get(member.user_id)
        if present is not None:
            self._call_off(present, records)
        elif diff.member_added is not None:
            added = Stay(self._ids.make("spn", now.epoch_ms), diff.channel, member.user_id)
            presence.users[member.user_id] = added
            self._begin(
                "channel.member_added", added, channel_facts(diff.channel, diff.subscribers, who, added.span), now, records
            )

    def left(self, diff: Diff, who: Mapping[str, object], now: Instant, records: list[Record]) -> None:
        """A connection left a channel; what this tells comes after `channel.unsubscribed`."""
        presence = self._members.get(diff.channel)
        if presence is not None:
            presence.subscribers = diff.subscribers
            if diff.member_removed is not None and (left := presence.users.get(diff.member_removed.user_id)):
                self._depart(left, who, now, records)
        if diff.vacated and (vacated := self._channels.get(diff.channel)):
            self._depart(vacated, who, now, records)

    # -- time --------------------------------------------------------------------------------------------------------

    def next_deadline(self) -> float | None:
        """Return when `expire` has something to do, in monotonic seconds; None: no departure is pending."""
        return self._departures.next_deadline()

    def expire(self, now: Instant, records: list[Record]) -> None:
        """Let the departures count whose linger is over, in the order of their deadlines."""
        for left in self._departures.due(now.monotonic_s):
            self._end(left, now, records)

    def recover(self, spans: Sequence[Span], now: Instant, linger_s: float, records: list[Record]) -> None:
        """Take over, from a former life, those of the spans that are of channels and members; they wait `linger_s`."""
        for span in spans:
            if span.kind == "member":
                channel, _, user_id = span.key.partition("\n")
                member = Stay(span.id, channel, user_id)
                if self._tracks_members:
                    self._members.setdefault(channel, Stays()).users[user_id] = member
                self._linger_on(span, member, self._tracks_members, now, linger_s, records)
        # After the members: of equal deadlines the earlier one counts first, and a channel ends after its members.
        for span in spans:
            if span.kind == "channel":
                opened = Stay(span.id, span.key, None)
                if self._tracks_channels:
                    self._channels[span.key] = opened
                self._linger_on(span, opened, self._tracks_channels, now, linger_s, records)

    def _linger_on(self, span: Span, left: Stay, is_tracked: bool, now: Instant, linger_s: float, records: list[Record]) -> None:
        if not is_tracked:
            records.append(SpanClosed(self._app_id, left.kind, left.key))
            return
        wait_s = linger_s
        if span.departs_at_ms is not None:
            wait_s = max(linger_s, min(self._linger_s, (span.departs_at_ms - now.epoch_ms) / 1000))
        self._wait(left, wait_s, now, records)

    # -- spans -------------------------------------------------------------------------------------------------------

    def _begin(self, kind: str, opened: Stay, data: Mapping[str, object], now: Instant, records: list[Record]) -> None:
        if kind in self._wanted:
            records.append(self._tell(kind, opened.channel, data, now))
        records.append(SpanOpened(Span(self._app_id, opened.kind, opened.key, opened.span, now.epoch_ms)))

    def _depart(self, left: Stay, leaver: Mapping[str, object], now: Instant, records: list[Record]) -> None:
        if left.departure:
            return
        left.leaver = leaver
        if self._linger_s > 0:
            self._wait(left, self._linger_s, now, records)
        else:
            self._end(left, now, records)

    def _wait(self, left: Stay, wait_s: float, now: Instant, records: list[Record]) -> None:
        self._departures.add(left, now.monotonic_s + wait_s)
        records.append(SpanDeparting(self._app_id, left.kind, left.key, now.epoch_ms + round(wait_s * 1000)))

    def _call_off(self, back: Stay, records: list[Record]) -> None:
        if back.departure:
            back.departure = 0
            records.append(SpanDeparting(self._app_id, back.kind, back.key, None))

    def _end(self, left: Stay, now: Instant, records: list[Record]) -> None:
        left.departure = 0
        presence = self._members.get(left.channel)
        subscribers = 0
        if left.user_id is None:
            if presence is not None:
                # Those that wait longer than their channel, under an older and longer linger, must not outlive it.
                for member in sorted(presence.users.values(), key=lambda member: member.departure):
                    if member.departure:
                        self._end(member, now, records)
            del self._channels[left.channel]
        elif presence is not None:
            subscribers = presence.subscribers
            del presence.users[left.user_id]
            if not presence.users:
                del self._members[left.channel]
        kind = "channel.vacated" if left.user_id is None else "channel.member_removed"
        if kind in self._wanted:
            who = left.leaver if left.user_id is None else {**left.leaver, "user_id": left.user_id}
            data = channel_facts(left.channel, subscribers, who, left.span)
            records.append(self._tell(kind, left.channel, data, now))
        records.append(SpanClosed(self._app_id, left.kind, left.key))
