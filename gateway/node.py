"""The node: owns the live state, has the core decide and the performer carry out; the only place where all meet.

Theory of operation
-------------------
A transport opens a connection with `open`, hands over its texts with `receive` and its end with `lost`; the API publishes
with `publish`. Each asks the core what is to be done and does it at once: no `await` stands between reading the hub and
changing it.

Departures are worked off in slices (`Sweep`), so that a mass of them holds up nobody.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from functools import partial

from gateway.bulletin import Bulletin
from gateway.core import frame
from gateway.core.admission import Handshake as Handshake
from gateway.core.admission import refusal
from gateway.core.app import App
from gateway.core.error import Code, RequestError
from gateway.core.ident import Ids, socket_id
from gateway.core.lifecycle import Instant, Lifecycle, Span
from gateway.core.newcomer import Newcomers
from gateway.core.publication import Publication
from gateway.core.session import Session
from gateway.performer import Performer
from gateway.ports import Broker, Clock, Connection, OfferAll, Tracker, offer_each
from gateway.recorder import Recorder
from gateway.sweep import Sweep
from gateway.telemetry import Telemetry
from gateway.tenant import Live as Live
from gateway.tenant import Tenant as Tenant
from gateway.ticker import Ticker
from gateway.user import Users


class Node:
    """One process of the gateway, between its devices."""

    def __init__(
        self,
        *,
        apps: Iterable[App],
        ids: Ids,
        broker: Broker,
        tracker: Tracker,
        recorder: Recorder,
        clock: Clock,
        telemetry: Telemetry,
        chance: Callable[[], int],
        defer: Callable[[Callable[[], None]], object],
        activity_timeout_s: int,
        newcomers: Newcomers | None = None,
        offer_all: OfferAll = offer_each,
    ) -> None:
        """`chance` returns 62 random bits; `defer` runs a callable in a later turn of the loop."""
        self.tracker = tracker
        self._ids = ids
        self._broker = broker
        self._recorder = recorder
        self._clock = clock
        self._telemetry = telemetry
        self._chance = chance
        self._activity_timeout_s = activity_timeout_s
        self._newcomers = Newcomers() if newcomers is None else newcomers
        self._offer_all = offer_all
        #: has `tick` called; to be started by whoever has a loop
        self.ticker = Ticker(self.tick)
        self._bulletin = Bulletin(recorder=recorder, clock=clock, telemetry=telemetry, wake=self.ticker.wake)
        self._tenants = {app.id: Tenant(app, self._lifecycle(app), self._offer_all) for app in apps}
        self._by_key = {tenant.app.key: tenant for tenant in self._tenants.values()}
        # A thousand connections may be lost in one turn of the loop, each with a hundred channels.
        self._departures = Sweep(clock, defer)
        self.users = Users(
            tenants=self._tenants,
            broker=broker,
            tracker=tracker,
            recorder=recorder,
            clock=clock,
            departures=self._departures,
            kick=self.kick,
            wake=self.ticker.wake,
        )
        self._performer = Performer(
            broker=broker,
            tracker=tracker,
            recorder=recorder,
            bulletin=self._bulletin,
            users=self.users,
            clock=clock,
            telemetry=telemetry,
            kick=self.kick,
            wake=self.ticker.wake,
        )
        self._is_starting = True
        self._is_draining = False
        #: what a former life left open, of apps that are not there (yet)
        self._left_open: dict[str, list[Span]] = {}
        self._recovery_linger_s = 0.0

    # -- what the transport says -----------------------------------------------------------------------------------

    def open(self, handshake: Handshake, connection: Connection) -> Live | None:
        """Admit a connection whose upgrade was answered, or refuse it with error frame and close; None if refused."""
        tenant = self._by_key.get(handshake.key)
        app, connections = (None, 0) if tenant is None else (tenant.app, len(tenant.lives))
        is_open = not (self._is_starting or self._is_draining)
        may_come = self._newcomers.admits(handshake.remote_ip, self._clock.monotonic())
        has_room = tenant is None or not self._performer.has_no_room(tenant)
        refused = refusal(handshake, app, is_open=is_open, may_come=may_come, has_room=has_room, connections=connections)
        if refused is not None:
            self._telemetry.connections_refused[refused[0]] += 1
            connection.offer(frame.wire(frame.error(*refused)))
            connection.close(*refused)
            return None
        assert tenant is not None, "a key nobody has is refused"
        name = socket_id(self._chance())
        while name in tenant.lives:
            name = socket_id(self._chance())
        live = Live(tenant, Session(tenant.app, name), connection, self._clock.monotonic())
        tenant.lives[name] = live
        self._telemetry.connection_opened(tenant.app.id, name, handshake.facts)
        connection.offer(frame.wire(frame.established(name, self._activity_timeout_s)))
        if tenant.lifecycle.wanted:
            self._recorder.record(tenant.lifecycle.opened(name, handshake.facts(), self._now()))
        self.users.opened(live)
        return live

    def receive(self, live: Live, text: str) -> None:
        """Take one text message; messages of one connection must come in order."""
        if live.ending is not None:
            return
        self._telemetry.frames_received += 1
        self._performer.perform(live, live.session.receive(frame.decode(text), self._clock.monotonic()))

    def kick(self, live: Live, code: int, sentence: str, reason: str) -> None:
        """Close a connection from this side: error frame, then close frame; `reason` is what its end is recorded under."""
        if live.ending is None:
            live.ending = (code, reason)
            # Codes outside the protocol's own ranges would be misread by clients that act on error frames.
            live.connection.offer(frame.wire(frame.error(code if code >= 4000 else None, sentence)))
            live.connection.close(code, sentence)

    def lost(self, live: Live, code: int, reason: str) -> None:
        """Take leave of a connection that has ended; to be called exactly once for each that was admitted.

        `code` is the close code that was received (1005, 1006: none) or sent; `reason` says what ended it (`client`,
        `slow_consumer`, `protocol_error`, `message_too_large`, `connection_lost`, `internal_error`); an earlier `kick`
        takes precedence.
        """
        tenant, session = live.tenant, live.session
        tenant.remove(live)
        self._telemetry.carried(live.connection)
        if live.ending is None:
            live.ending = (code, reason)
        # One step each, but for the very end, which goes with the one channel that most connections have.
        closed = self._performer.closed
        for channel, member in session.channels.items():
            if tenant.hub.unsubscribe(channel, live.socket_id):
                self._broker.unsubscribe(tenant.app.id, channel)
            if len(session.channels) == 1 and session.user is None:
                closed = partial(self._performer.leave_and_close, channel=channel, member=member)
            else:
                self._departures.add(partial(self._performer.leave, live, channel, member))
        self.users.lost(live)
        self._departures.add(partial(closed, live))

    # -- what the API says -----------------------------------------------------------------------------------------

    def app(self, app_id: str) -> App | None:
        """Return the app with this id."""
        tenant = self._tenants.get(app_id)
        return None if tenant is None else tenant.app

    def app_by_key(self, key: str) -> App | None:
        """Return the app with this key."""
        tenant = self._by_key.get(key)
        return None if tenant is None else tenant.app

    def publish(self, publications: Sequence[Publication]) -> Awaitable[None] | None:
        """Fan out, at once, what one app publishes over HTTP, and record it.

        The caller must await the result, if there is one, before he answers: then the events are durable. Raises
        RequestError 503 if there is no room to record, 429 if the app publishes too fast; nothing was delivered then.
        """
        tenant = self._tenants.get(publications[0].app_id)
        if tenant is None:
            raise RequestError(404, "this app does not exist any more")
        if self._performer.has_no_room(tenant):
            raise RequestError(503, "the event queue is full; try again later", reason="overloaded")
        if tenant.publishes is not None and not tenant.publishes.take(self._clock.monotonic(), len(publications)):
            sentence = f"this app may publish {tenant.app.limits.publishes} events per second; try again later"
            raise RequestError(429, sentence, reason="rate_limited")
        recorded = False
        now = self._now() if tenant.lifecycle.wanted else None
        for publication in publications:
            self._telemetry.publications["http"] += 1
            self._broker.publish(publication)
            recipients = self._performer.deliver(tenant, publication)
            if now is not None:
                records = tenant.lifecycle.published(publication, recipients, now)
                self._recorder.record(records)
                recorded = recorded or bool(records)
        return self._recorder.committed() if recorded else None

    def admit_read(self, app_id: str) -> None:
        """Count a question asked over HTTP; raises RequestError 429 if the app asks too fast."""
        tenant = self._tenants.get(app_id)
        if tenant is not None and tenant.reads is not None and not tenant.reads.take(self._clock.monotonic()):
            raise RequestError(429, f"this app may ask {tenant.app.limits.reads} questions per second; try again later")

    def cached(self, app_id: str, channel: str) -> tuple[str, int] | None:
        """Return the data of the event that a cache channel keeps, and the whole seconds it has left; None: it keeps none."""
        tenant = self._tenants.get(app_id)
        return None if tenant is None else tenant.cache.content(channel, self._clock.monotonic())

    def reject(self, app_id: str, reason: str, channel: str | None, event: str | None, size: int) -> None:
        """Record that a publish over HTTP was refused; `reason` is one of the catalogue's."""
        tenant = self._tenants.get(app_id)
        if tenant is not None:
            self._performer.reject(tenant, "http", reason, channel, event, size, None)

    def why_not_ready(self) -> list[str]:
        """Return the reasons for not accepting work; empty when ready."""
        reasons = []
        if self._is_starting:
            reasons.append("starting")
        if self._is_draining:
            reasons.append("shutting down")
        if self._recorder.is_failing:
            reasons.append("the outbox cannot be written")
        full = sorted(tenant.app.id for tenant in self._tenants.values() if self._performer.has_no_room(tenant))
        if full and not self._recorder.is_failing:
            what = "the event queue is full" if self._recorder.is_queue_full else "the outbox is full, or cannot be written,"
            reasons.append(f"{what} for app {', '.join(full)}")
        return reasons

    # -- what bootstrap says ---------------------------------------------------------------------------------------

    def recover(self, spans: Iterable[Span], linger_s: float) -> int:
        """Close the books of this node's former life; to be called before the first connection is admitted.

        Those of an app that is not in the file stay open until `adopt` brings it back, in this life or another: then there
        is somebody to be told. Returns how many spans these are.
        """
        self._recovery_linger_s = linger_s
        for span in spans:
            self._left_open.setdefault(span.app_id, []).append(span)
        for tenant in self._tenants.values():
            self._close_books(tenant)
        return sum(map(len, self._left_open.values()))

    def started(self) -> None:
        """Say that everything is in place: from now on the node is ready."""
        self._is_starting = False

    def tick(self) -> float | None:
        """Let departures count whose linger is over, and tell what had to wait; see `Ticker` for what is returned."""
        self.users.tick()
        now: Instant | None = None
        deadlines: list[float] = []
        for tenant in self._tenants.values():
            self._bulletin.tick(tenant)
            deadline = tenant.lifecycle.next_deadline()
            if deadline is not None:
                now = now or self._now()
                if deadline <= now.monotonic_s:
                    self._recorder.record(tenant.lifecycle.expire(now))
            deadlines += tenant.deadlines()
        return min(deadlines) - self._clock.monotonic() if deadlines else None

    async def dismiss(self, app_ids: Iterable[str]) -> None:
        """Part with apps that are no more, while their endpoints are still there to be told.

        Their connections are sent home, and what lingers counts now. Returns when all of it is recorded. An id that is not
        known (any more) is passed over, so that a reload which failed half-way can be repeated.
        """
        tenants = [self._tenants[app_id] for app_id in app_ids if app_id in self._tenants]
        for tenant in tenants:
            self._by_key.pop(tenant.app.key, None)
            for live in list(tenant.lives.values()):
                self.kick(live, Code.UNKNOWN_APP, "this app does not exist any more", "app_removed")
        for tenant in tenants:
            await tenant.emptied()
        self.settle_departures(at_once=False)
        for tenant in tenants:
            self._recorder.record(tenant.lifecycle.expire(self._now()._replace(monotonic_s=float("inf"))))
            self._tenants.pop(tenant.app.id, None)

    def adopt(self, apps: Iterable[App]) -> None:
        """Take over the apps of a new configuration, new ones and changed ones; connections stay, but for a disabled app's.

        The recorder must have its new router by now: it says which events are wanted.
        """
        for app in apps:
            tenant = self._tenants.get(app.id)
            if tenant is None:
                tenant = self._tenants[app.id] = Tenant(app, self._lifecycle(app), self._offer_all)
                self._close_books(tenant)
                continue
            tenant.adopt(app)
            self._recorder.record(tenant.lifecycle.reconfigure(self._wanted(app), app.linger_s))
            self.users.reconfigured(tenant)
            self.ticker.wake()
            if not app.enabled:
                for live in list(tenant.lives.values()):
                    self.kick(live, Code.APP_DISABLED, "this app is disabled", "app_disabled")
        self._by_key = {tenant.app.key: tenant for tenant in self._tenants.values()}

    async def drain(self, spread_s: float) -> None:
        """Refuse newcomers with 4100 and send everybody home with 4200, evenly over `spread_s`; returns when all have gone.

        A peer that does not answer the close frame is cut off by the transport after a while.
        """
        self._is_draining = True
        lives = [live for tenant in self._tenants.values() for live in tenant.lives.values()]
        started_at = self._clock.monotonic()
        for position, live in enumerate(lives):
            late = started_at + spread_s * position / len(lives) - self._clock.monotonic()
            # Closing in clumps of what is due keeps the pace without a timer per connection.
            if late > 0.01:
                await asyncio.sleep(late)
            self.kick(live, Code.RECONNECT, "the server is shutting down; reconnect", "shutdown")
        for tenant in self._tenants.values():
            await tenant.emptied()

    def settle_departures(self, *, at_once: bool) -> None:
        """Work off what the sweep has left; `at_once` also lets every lingering departure count now.

        The latter is for an outbox that forgets: a later life could not close these books.
        """
        self._departures.finish()
        if at_once:
            now = self._now()
            for tenant in self._tenants.values():
                self._recorder.record(tenant.lifecycle.expire(now._replace(monotonic_s=float("inf"))))

    @property
    def tenants(self) -> Mapping[str, Tenant]:
        """The apps with their live state, by id, for who looks on: it is to be read only, and at once."""
        return self._tenants

    def connections(self) -> dict[str, int]:
        """Return how many connections each app has on this node."""
        return {app_id: len(tenant.lives) for app_id, tenant in self._tenants.items()}

    def _close_books(self, tenant: Tenant) -> None:
        if left := self._left_open.pop(tenant.app.id, None):
            self._recorder.record(tenant.lifecycle.recover(left, self._now(), self._recovery_linger_s))
            self.ticker.wake()

    def _lifecycle(self, app: App) -> Lifecycle:
        return Lifecycle(app.id, self._ids, wanted=self._wanted(app), linger_s=app.linger_s)

    def _wanted(self, app: App) -> frozenset[str]:
        return self._recorder.router.wanted.get(app.id, frozenset())

    def _now(self) -> Instant:
        return Instant(self._clock.monotonic(), self._clock.epoch_ms())
