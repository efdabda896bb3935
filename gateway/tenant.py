"""An app with its live state on this node, and one of its connections, as the node keeps them."""

from __future__ import annotations

import asyncio

from gateway.core import frame
from gateway.core.app import App
from gateway.core.cache import Cache
from gateway.core.channel import caches
from gateway.core.hub import Hub
from gateway.core.lifecycle import Lifecycle
from gateway.core.limit import TokenBucket
from gateway.core.probation import Probation
from gateway.core.publication import Publication
from gateway.core.session import Session
from gateway.core.tally import Tally
from gateway.core.watchlist import Watchlists
from gateway.ports import Connection, OfferAll


class Live:
    """One admitted connection, as the node keeps it; opaque to the transport."""

    __slots__ = ("connection", "ending", "opened_at", "session", "socket_id", "tenant")

    def __init__(self, tenant: Tenant, session: Session, connection: Connection, opened_at: float) -> None:
        self.tenant = tenant
        self.session = session
        self.socket_id = session.socket_id
        self.connection = connection
        self.opened_at = opened_at
        #: (code, reason) once this side has decided to close
        self.ending: tuple[int, str] | None = None

    def counters(self, now: float) -> dict[str, int]:
        """Return what the connection has done so far; `now` is monotonic seconds."""
        connection = self.connection
        return {
            "duration_ms": round((now - self.opened_at) * 1000),
            "received_messages": connection.received_messages,
            "received_bytes": connection.received_bytes,
            "sent_messages": connection.sent_messages,
            "sent_bytes": connection.sent_bytes,
        }


class Tenant:
    """An app with its live state on this node."""

    __slots__ = (
        "_emptied",
        "_offer_all",
        "app",
        "cache",
        "hub",
        "lifecycle",
        "lives",
        "probation",
        "publishes",
        "reads",
        "tally",
        "watchlists",
    )

    def __init__(self, app: App, lifecycle: Lifecycle, offer_all: OfferAll) -> None:
        self._offer_all = offer_all
        self.lifecycle = lifecycle
        self.hub: Hub[Connection] = Hub()
        self.watchlists: Watchlists[Connection] = Watchlists()
        self.probation = Probation()
        self.lives: dict[str, Live] = {}
        self.cache = Cache(app.cache_lifetime_s, app.limits.cache)
        #: None: the app does not want its subscribers counted
        self.tally: Tally | None = None
        self._emptied: asyncio.Future[None] | None = None
        self.adopt(app)

    def adopt(self, app: App) -> None:
        """Take over a newer version of the app, with fresh allowances."""
        self.app = app
        limits = app.limits
        # A batch passes whole or not at all, so there must be room for the largest that is allowed.
        self.publishes = TokenBucket(limits.publishes, max(limits.publishes, limits.batch)) if limits.publishes else None
        self.reads = TokenBucket(limits.reads) if limits.reads else None
        self.cache.configure(app.cache_lifetime_s, limits.cache)
        self.tally = self.tally or Tally() if app.subscription_counts else None
        for live in self.lives.values():
            live.session.app = app

    def fan_out(self, publication: Publication, now: float) -> dict[str, int]:
        """Offer a publication to the subscribers on this node and let cache channels keep it; returns how many, by channel.

        One frame per channel, the same bytes to every subscriber, no object per subscriber. `now` is monotonic seconds.
        """
        recipients: dict[str, int] = {}
        left_out = publication.except_socket_id
        user_id = publication.user_id if publication.from_client else None
        for channel in publication.channels:
            subscribers = self.hub.subscribers(channel)
            count = len(subscribers)
            keeps = not publication.from_client and caches(channel)
            if count or keeps:
                text = frame.message(publication.event, channel, publication.data, user_id)
                if keeps:
                    self.cache.keep(channel, text, now)
                data = frame.wire(text)
                excluded = subscribers.get(left_out) if left_out is not None else None
                if excluded is not None:
                    count -= 1
                self._offer_all(subscribers, data, excluded)
            recipients[channel] = count
        return recipients

    def offer(self, channel: str, text: bytes, but: str | None = None) -> None:
        """Offer a frame (JSON text, UTF-8) to the channel's subscribers on this node; one socket id may be left out."""
        subscribers = self.hub.subscribers(channel)
        self._offer_all(subscribers, frame.wire(text), None if but is None else subscribers.get(but))

    def deadlines(self) -> list[float]:
        """Return when there is something to do for what waits, in monotonic seconds: of each kind the earliest."""
        times = (
            self.lifecycle.next_deadline(),
            self.watchlists.next_at(),
            self.probation.next_at(self.app.authorisation_timeout_s),
            None if self.tally is None else self.tally.next_at(),
        )
        return [at for at in times if at is not None]

    def remove(self, live: Live) -> None:
        """The connection is no more."""
        del self.lives[live.socket_id]
        if not self.lives and self._emptied is not None and not self._emptied.done():
            self._emptied.set_result(None)

    async def emptied(self) -> None:
        """Return once no connection is left."""
        if self.lives:
            self._emptied = asyncio.get_running_loop().create_future()
            await self._emptied
