"""Carrying out what the core has decided: each effect becomes calls of hub, tracker, broker, recorder and connection.

What changes who is where goes through the tracker, whose diff is answered in one continuation per verb (`_entered`, `_left`),
whether the tracker answers now or later. What a transition writes goes to the recorder.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial

from gateway.bulletin import Bulletin
from gateway.core import effect as fx
from gateway.core import frame
from gateway.core.lifecycle import Instant
from gateway.core.publication import Publication
from gateway.core.roster import Diff, Member
from gateway.ports import Broker, Clock, Tracker
from gateway.recorder import Recorder
from gateway.telemetry import Telemetry
from gateway.tenant import Live, Tenant
from gateway.user import Users


class Performer:
    """The node's hand for this; the node calls it with what a session wishes, and for what API and transport have in common."""

    def __init__(
        self,
        *,
        broker: Broker,
        tracker: Tracker,
        recorder: Recorder,
        bulletin: Bulletin,
        users: Users,
        clock: Clock,
        telemetry: Telemetry,
        kick: Callable[[Live, int, str, str], None],
        wake: Callable[[], None],
    ) -> None:
        """`kick` is the node's; `wake` has departures looked after soon."""
        self._broker = broker
        self._tracker = tracker
        self._recorder = recorder
        self._bulletin = bulletin
        self._users = users
        self._clock = clock
        self._telemetry = telemetry
        self._kick = kick
        self._wake = wake

    def perform(self, live: Live, effects: Iterable[fx.Effect]) -> None:
        """Carry out what a session answered, in order."""
        tenant = live.tenant
        for effect in effects:
            match effect:
                case fx.Reply(text):
                    live.connection.offer(frame.wire(text))
                case fx.Publish(publication):
                    self._publish_client_event(live, publication)
                case fx.Subscribe(channel, member):
                    if self.has_no_room(tenant):
                        self.perform(live, live.session.revoke(channel, "the event queue is full; subscribe again later"))
                        continue
                    self._tracker.enter(
                        tenant.app.id,
                        channel,
                        live.socket_id,
                        member,
                        tenant.app.limits.presence_members,
                        partial(self._entered, live, member),
                    )
                case fx.Unsubscribe(channel, member):
                    if tenant.hub.unsubscribe(channel, live.socket_id):
                        self._broker.unsubscribe(tenant.app.id, channel)
                    self.leave(live, channel, member)
                case fx.SignIn(before=before):
                    if self.has_no_room(tenant):
                        self.perform(live, live.session.refuse_sign_in(before))
                    else:
                        self._users.sign_in(live, effect)
                case fx.Authenticated(channel):
                    tenant.probation.end(live.socket_id)
                    self._recorder.record(tenant.lifecycle.authenticated(live.socket_id, channel, self._now()))
                case fx.AuthFailed(channel, reason):
                    self._telemetry.auth_failed(tenant.app.id, live.socket_id, channel, reason)
                    has_room = not self.has_no_room(tenant)
                    told = tenant.lifecycle.auth_failed(live.socket_id, channel, reason, self._now(), has_room=has_room)
                    self._recorder.record(told)
                case fx.Throttled():
                    self._telemetry.subscriptions_throttled += 1
                case fx.Rejected(reason, channel, event, size):
                    self.reject(tenant, "client", reason, channel, event, size, live.socket_id)
                case fx.Close(code, sentence):
                    self._kick(live, code, sentence, "protocol_error")

    def _publish_client_event(self, live: Live, publication: Publication) -> None:
        tenant = live.tenant
        if self.has_no_room(tenant):
            self.perform(live, live.session.overloaded(publication))
            return
        self._telemetry.publications["client"] += 1
        self._broker.publish(publication)
        recipients = self.deliver(tenant, publication)
        if tenant.lifecycle.wanted:
            self._recorder.record(tenant.lifecycle.published(publication, recipients, self._now()))

    def _entered(self, live: Live, member: Member | None, diff: Diff) -> None:
        tenant, channel = live.tenant, diff.channel
        if diff.refused:
            self.perform(live, live.session.revoke(channel))
            return
        if tenant.hub.subscribe(channel, live.socket_id, live.connection):
            self._broker.subscribe(tenant.app.id, channel)
        self.perform(live, live.session.entered(channel))
        live.connection.offer(frame.wire(frame.subscription_succeeded(channel, diff.members)))
        if diff.member_added is not None:
            tenant.offer(channel, frame.member_added(channel, diff.member_added), live.socket_id)
        if tenant.lifecycle.wanted:
            self._recorder.record(tenant.lifecycle.subscribed(live.socket_id, diff, member, self._now()))
        self._bulletin.entered(live, diff, member)

    def leave(self, live: Live, channel: str, member: Member | None) -> None:
        """Let a connection be on a channel no more, whose frames it gets no longer."""
        self._tracker.leave(live.tenant.app.id, channel, live.socket_id, partial(self._left, live, member))

    def _left(self, live: Live, member: Member | None, diff: Diff) -> None:
        tenant, channel = live.tenant, diff.channel
        if diff.member_removed is not None:
            tenant.offer(channel, frame.member_removed(channel, diff.member_removed.user_id), live.socket_id)
        if tenant.lifecycle.wanted:
            self._recorder.record(tenant.lifecycle.unsubscribed(live.socket_id, diff, member, self._now()))
            self._wake()
        self._bulletin.left(live, diff, member)

    def leave_and_close(self, live: Live, channel: str, member: Member | None) -> None:
        """Do both in one step, for a connection that has one channel left."""
        try:
            self.leave(live, channel, member)
        finally:
            self.closed(live)

    def closed(self, live: Live) -> None:
        """Tell of the end of a connection: to be called when it has left all its channels."""
        assert live.ending is not None
        code, reason = live.ending
        counters = live.counters(self._clock.monotonic())
        self._telemetry.connection_ended(live.tenant.app.id, live.socket_id, code, reason, **counters)
        if live.tenant.lifecycle.wanted:
            ending = {"code": code, "reason": reason, **counters}
            self._recorder.record(live.tenant.lifecycle.closed(live.socket_id, ending, self._now()))

    def deliver(self, tenant: Tenant, publication: Publication) -> dict[str, int]:
        """Fan out on this node; returns how many were offered it, by channel."""
        recipients = tenant.fan_out(publication, self._clock.monotonic())
        self._telemetry.delivered(publication, recipients)
        return recipients

    def reject(
        self, tenant: Tenant, source: str, reason: str, channel: str | None, event: str | None, size: int, name: str | None
    ) -> None:
        """Tell that a publication was refused; `name` is the socket id of whoever wanted it, if it was a client."""
        facts = {"channel": channel, "event": event, "size": size, "socket_id": name}
        self._telemetry.rejected(tenant.app.id, reason, source, facts)
        if tenant.lifecycle.wanted:
            has_room = not self.has_no_room(tenant)
            told = tenant.lifecycle.rejected(reason, source, channel, event, size, name, self._now(), has_room=has_room)
            self._recorder.record(told)

    def has_no_room(self, tenant: Tenant) -> bool:
        """Tell whether what happens could not be recorded.

        An app that wants no events makes none, so a full queue is no reason to refuse it anything.
        """
        return bool(tenant.lifecycle.wanted) and self._recorder.is_full(tenant.app.id)

    def _now(self) -> Instant:
        return Instant(self._clock.monotonic(), self._clock.epoch_ms())
