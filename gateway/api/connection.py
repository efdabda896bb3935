"""A connection to the HTTP API, as aiohttp keeps it, and how many requests there are on all of them."""

from __future__ import annotations

import asyncio
from typing import Any

from aiohttp import web

from gateway.api.reply import Reply, refuse
from gateway.core.error import RequestError
from gateway.http import HttpConnection

#: seconds an idle connection is kept: longer than client pools with a bound of their own (60 to 90 s), so that the client
#: closes first and no publish meets a connection that is just being closed
_KEEP_ALIVE_S = 120.0
#: seconds what is left of a refused body is read and dropped, so that the client gets to read why
LINGER_S = 5.0


class Requests:
    """The requests that are being answered, for who stops and must wait for them."""

    __slots__ = ("_none", "is_stopping", "running")

    def __init__(self) -> None:
        self._none = asyncio.Event()
        self.running = 0
        #: every answer is the last on its connection
        self.is_stopping = False

    def began(self) -> None:
        """Count one more."""
        self.running += 1

    def ended(self) -> None:
        """Count one less."""
        self.running -= 1
        if self.is_stopping and not self.running:
            self._none.set()

    async def answered(self) -> None:
        """Wait until there is none, once `is_stopping`."""
        if self.running:
            await self._none.wait()


class Connection(HttpConnection):
    """A connection to the HTTP API, closed for good when its loop ends."""

    __slots__ = ("answered", "is_lost", "requests", "work")

    def __init__(self, requests: Requests, server: web.Server) -> None:
        super().__init__(
            server,
            keepalive_timeout=_KEEP_ALIVE_S,
            lingering_time=LINGER_S,
            # signatures are made over the bytes that were sent
            auto_decompress=False,
        )
        self.requests = requests
        self.is_lost = False
        #: how many requests there were before the present one
        self.answered = 0
        #: what is done for the client only while it is there
        self.work: asyncio.Future[dict[str, Any]] | None = None

    def refusal(self, error: RequestError) -> Reply:
        return refuse(error)

    def connection_lost(self, exc: BaseException | None) -> None:
        self.is_lost = True
        if self.work is not None:
            self.work.cancel()
        super().connection_lost(exc)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        if self.requests.is_stopping:
            self.force_close()

    def release(self) -> tuple[asyncio.Transport | None, bytes]:
        """Return the transport and what has come behind an upgrade; for this protocol it is as if the line had been cut."""
        transport, rest = self.transport, self._message_tail
        # else it would be closed
        self.transport = None
        self.connection_lost(None)
        return transport, rest

    async def start(self) -> None:
        try:
            await super().start()
        finally:
            # the base class leaves an idle connection open when it is told to close
            self.force_close()
