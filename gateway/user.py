"""Users on this node: sign-ins, what is sent to a user, who is told of whose coming and going, and who must go.

Theory of operation
-------------------
A connection that signs in enters the channel `#server-to-user-ID` like any other: the hub then finds the user's connections
for a fan-out, and the tracker says when he comes online and when he is gone. That something has changed only makes the node
ask: what is true the tracker is asked, so that answers which cross on their way do no harm. The channel can neither be
subscribed to by clients nor is it told of in webhooks.

What is due is looked at with every tick, so a user who comes and goes all the time costs one frame a tick to his watchers;
only a newcomer who wants to know of him is not kept waiting.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set
from functools import partial

from gateway.core import frame
from gateway.core.effect import SignIn
from gateway.core.error import Code
from gateway.core.lifecycle import Instant
from gateway.core.publication import USER_CHANNEL
from gateway.core.roster import Diff
from gateway.core.user import User
from gateway.ports import Broker, Clock, Tracker
from gateway.recorder import Recorder
from gateway.sweep import Sweep
from gateway.tenant import Live, Tenant

#: Connections sent away in one tick: twenty ticks a second make it some thousands, while one takes a few milliseconds.
_MOST_PER_TICK = 200


class Users:
    """The part of the node that knows users; the node calls it at the events that concern them."""

    def __init__(
        self,
        *,
        tenants: Mapping[str, Tenant],
        broker: Broker,
        tracker: Tracker,
        recorder: Recorder,
        clock: Clock,
        departures: Sweep,
        kick: Callable[[Live, int, str, str], None],
        wake: Callable[[], None],
    ) -> None:
        """`tenants` is live; `kick` is the node's; `wake` has `tick` called soon."""
        self._tenants = tenants
        self._broker = broker
        self._tracker = tracker
        self._recorder = recorder
        self._clock = clock
        self._departures = departures
        self._kick = kick
        self._wake = wake

    # -- one connection's life -------------------------------------------------------------------------------------

    def opened(self, live: Live) -> None:
        """Take note of a new connection."""
        if live.tenant.app.authorised_connections:
            live.tenant.probation.begin(live.socket_id, live.opened_at)
            self._wake()

    def sign_in(self, live: Live, wish: SignIn) -> None:
        """Carry out a sign-in; the client is answered once the tracker knows of it."""
        tenant, user = live.tenant, wish.user
        self._tracker.enter(
            tenant.app.id, USER_CHANNEL + user.id, live.socket_id, None, 1, lambda diff: self._signed_in(live, wish, diff)
        )

    def lost(self, live: Live) -> None:
        """Take leave of a connection that has ended: nothing is offered to it any more, the rest is left to the sweep."""
        tenant, user = live.tenant, live.session.user
        tenant.probation.end(live.socket_id)
        if user is not None:
            if tenant.hub.unsubscribe(USER_CHANNEL + user.id, live.socket_id):
                self._broker.unsubscribe(tenant.app.id, USER_CHANNEL + user.id)
            self._departures.add(partial(self._leave, live, user))

    def _signed_in(self, live: Live, wish: SignIn, diff: Diff) -> None:
        tenant, user = live.tenant, wish.user
        if tenant.lives.get(live.socket_id) is live:
            # The answer first: a client knows the name of its channel only from it.
            live.connection.offer(frame.wire(frame.signin_success(wish.user_data)))
            if user.is_cut:
                sentence = f"the watchlist is too long: its first {len(user.watchlist)} users are watched"
                live.connection.offer(frame.wire(frame.error(Code.WATCHLIST_TOO_LONG, sentence)))
            if tenant.hub.subscribe(diff.channel, live.socket_id, live.connection):
                self._broker.subscribe(tenant.app.id, diff.channel)
            tenant.probation.end(live.socket_id)
            if tenant.lifecycle.wanted:
                self._recorder.record(tenant.lifecycle.signed_in(live.socket_id, user.id, self._now()))
            if wish.before is not None:
                tenant.watchlists.unwatch(live.socket_id, wish.before.watchlist)
        if diff.occupied:
            self._look(tenant, user.id)
        if tenant.lives.get(live.socket_id) is live:
            self._watch(live, user)

    def _leave(self, live: Live, user: User) -> None:
        live.tenant.watchlists.unwatch(live.socket_id, user.watchlist)
        channel = USER_CHANNEL + user.id
        self._tracker.leave(live.tenant.app.id, channel, live.socket_id, lambda diff: self._left(live.tenant, user, diff))

    def _left(self, tenant: Tenant, user: User, diff: Diff) -> None:
        if diff.vacated:
            self._look(tenant, user.id)

    # -- watchlists ------------------------------------------------------------------------------------------------

    def _watch(self, live: Live, user: User) -> None:
        tenant = live.tenant
        if not user.watchlist:
            return
        # What is told with the next tick is true already: the newcomer must not be told the opposite, nor the same twice.
        for user_id in user.watchlist:
            self._tell(tenant, user_id)
        unknown = tenant.watchlists.watch(live.socket_id, live.connection, user.watchlist)
        channels = [USER_CHANNEL + user_id for user_id in unknown]
        self._tracker.occupied(tenant.app.id, channels, lambda occupied: self._known(live, user, unknown, occupied))

    def _known(self, live: Live, user: User, asked: Sequence[str], occupied: Set[str]) -> None:
        tenant = live.tenant
        self._observe(tenant, asked, occupied)
        if live.session.user is user and tenant.lives.get(live.socket_id) is live:
            live.connection.offer(frame.wire(frame.watchlist_events(*tenant.watchlists.state(user.watchlist))))

    def _look(self, tenant: Tenant, user_id: str) -> None:
        """The user has come or gone: ask for the truth if anybody wants to know."""
        if tenant.watchlists.is_watched(user_id):
            channel = USER_CHANNEL + user_id
            self._tracker.occupied(tenant.app.id, [channel], lambda occupied: self._observe(tenant, [user_id], occupied))

    def _observe(self, tenant: Tenant, user_ids: Sequence[str], occupied: Set[str]) -> None:
        now = self._clock.monotonic()
        for user_id in user_ids:
            tenant.watchlists.observe(user_id, USER_CHANNEL + user_id in occupied, now, tenant.app.linger_s)
        self._wake()

    def _tell(self, tenant: Tenant, user_id: str) -> None:
        news = tenant.watchlists.tell(user_id, self._clock.monotonic())
        if news is not None:
            is_online, watchers = news
            data = frame.wire(frame.watchlist_events([user_id], []) if is_online else frame.watchlist_events([], [user_id]))
            for watcher in watchers.values():
                watcher.offer(data)

    # -- what the API and the clock say ----------------------------------------------------------------------------

    def terminate(self, app_id: str, user_id: str) -> None:
        """Close every connection that is signed in as the user; those that come later are not concerned."""
        tenant = self._tenants.get(app_id)
        if tenant is not None:
            for socket_id in list(tenant.hub.subscribers(USER_CHANNEL + user_id)):
                self._kick(tenant.lives[socket_id], Code.UNAUTHORISED, "the app ended this user's connections", "terminated")

    def tick(self) -> None:
        """Send away whose time is over, and have watchers told what is due."""
        now = self._clock.monotonic()
        for tenant in self._tenants.values():
            if tenant.probation:
                self._dismiss(tenant, now)
            for user_id in tenant.watchlists.due(now):
                self._departures.add(partial(self._tell, tenant, user_id))

    def reconfigured(self, tenant: Tenant) -> None:
        """The app has changed: put those on probation who now have to prove themselves, or let everybody off."""
        if not tenant.app.authorised_connections:
            tenant.probation.clear()
            return
        now = self._clock.monotonic()
        for live in tenant.lives.values():
            if not live.session.is_authorised:
                tenant.probation.begin(live.socket_id, now)

    def _dismiss(self, tenant: Tenant, now: float) -> None:
        wait_s = tenant.app.authorisation_timeout_s
        sentence = f"neither signed in nor subscribed to a private or presence channel within {wait_s:g} seconds"
        for socket_id in tenant.probation.due(now, wait_s, _MOST_PER_TICK):
            self._kick(tenant.lives[socket_id], Code.UNAUTHORISED, sentence, "unauthorised")

    def _now(self) -> Instant:
        return Instant(self._clock.monotonic(), self._clock.epoch_ms())
