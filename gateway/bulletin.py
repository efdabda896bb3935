"""What a channel itself tells: its last event to whom comes late, or that there is none, and how many its subscribers are."""

from __future__ import annotations

from collections.abc import Callable

from gateway.core import frame
from gateway.core.channel import caches
from gateway.core.facts import cause_of, channel_facts
from gateway.core.lifecycle import Instant
from gateway.core.roster import Diff, Member
from gateway.core.tally import Tally, is_counted
from gateway.ports import Clock
from gateway.recorder import Recorder
from gateway.telemetry import Onlooker, Telemetry
from gateway.tenant import Live, Tenant

_MISS = "channel.cache_miss"
_COUNT = "channel.subscription_count"


class Bulletin:
    """The node's hand for this: it is told of arrivals and departures when everybody else has been told of them."""

    def __init__(self, *, recorder: Recorder, clock: Clock, telemetry: Telemetry, wake: Callable[[], None]) -> None:
        """`wake` has `tick` called soon."""
        self._recorder = recorder
        self._clock = clock
        self._telemetry = telemetry
        self._wake = wake

    def entered(self, live: Live, diff: Diff, member: Member | None) -> None:
        """A connection has joined and been told so: give it what the channel keeps, and all of them their new number."""
        if caches(diff.channel):
            self._replay(live, diff, member)
        if live.tenant.tally is not None:
            self._count(live.tenant, live.tenant.tally, diff)
        if self._telemetry.onlooker is not None:
            self._show(self._telemetry.onlooker, "channel.subscribed", live, diff, member)

    def left(self, live: Live, diff: Diff, member: Member | None) -> None:
        """A connection has left: tell the others their new number."""
        if live.tenant.tally is not None:
            self._count(live.tenant, live.tenant.tally, diff)
        if self._telemetry.onlooker is not None:
            self._show(self._telemetry.onlooker, "channel.unsubscribed", live, diff, member)

    def tick(self, tenant: Tenant) -> None:
        """Tell the numbers that had to wait, and forget what is too old."""
        now = self._clock.monotonic()
        tenant.cache.expire(now)
        if tenant.tally is not None:
            for channel, subscribers in tenant.tally.due(now):
                self._tell(tenant, channel, subscribers)

    def _replay(self, live: Live, diff: Diff, member: Member | None) -> None:
        tenant, channel = live.tenant, diff.channel
        now = self._clock.monotonic()
        kept = tenant.cache.find(channel, now)
        live.connection.offer(frame.wire(frame.cache_miss(channel) if kept is None else kept))
        # Those who all come at once to an empty channel are one request to publish something, not a thousand.
        if kept is None and _MISS in tenant.lifecycle.wanted and tenant.cache.is_news(channel, now):
            told = tenant.lifecycle.noticed(_MISS, channel, diff.subscribers, cause_of(live.socket_id, member), self._now())
            self._recorder.record(told)

    def _count(self, tenant: Tenant, tally: Tally, diff: Diff) -> None:
        if not is_counted(diff.channel):
            return
        if tally.changed(diff.channel, diff.subscribers, self._clock.monotonic()):
            self._tell(tenant, diff.channel, diff.subscribers)
        else:
            self._wake()

    def _show(self, onlooker: Onlooker, kind: str, live: Live, diff: Diff, member: Member | None) -> None:
        onlooker.saw(kind, live.tenant.app.id, channel_facts(diff.channel, diff.subscribers, cause_of(live.socket_id, member)))

    def _tell(self, tenant: Tenant, channel: str, subscribers: int) -> None:
        tenant.offer(channel, frame.subscription_count(channel, subscribers))
        if _COUNT in tenant.lifecycle.wanted:
            self._recorder.record(tenant.lifecycle.noticed(_COUNT, channel, subscribers, {}, self._now()))

    def _now(self) -> Instant:
        return Instant(self._clock.monotonic(), self._clock.epoch_ms())
