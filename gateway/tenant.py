"""An app with its live state on this node, and one of its connections, as the node keeps them."""

from __future__ import annotations

import asyncio

from gateway.core.app import App
from gateway.core.hub import Hub
from gateway.core.lifecycle import Lifecycle
from gateway.core.limit import TokenBucket
from gateway.core.session import Session
from gateway.ports import Connection


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


class Tenant:
    """An app with its live state on this node."""

    __slots__ = ("_emptied", "app", "hub", "lifecycle", "lives", "publishes", "reads")

    def __init__(self, app: App, lifecycle: Lifecycle) -> None:
        self.lifecycle = lifecycle
        self.hub: Hub[Connection] = Hub()
        self.lives: dict[str, Live] = {}
        self._emptied: asyncio.Future[None] | None = None
        self.adopt(app)

    def adopt(self, app: App) -> None:
        """Take over a newer version of the app, with fresh allowances."""
        self.app = app
        limits = app.limits
        # A batch passes whole or not at all, so there must be room for the largest that is allowed.
        self.publishes = TokenBucket(limits.publishes, max(limits.publishes, limits.batch)) if limits.publishes else None
        self.reads = TokenBucket(limits.reads) if limits.reads else None
        for live in self.lives.values():
            live.session.app = app

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
