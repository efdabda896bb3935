"""A connection of HTTP, as aiohttp keeps it, with what every port of the gateway wants of one.

It has an end to who does not take his answers, answers in JSON also what is not HTTP, and logs no line per request: that would
say nothing that anybody reads, and aiohttp then does not even take the time.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from aiohttp import web

from gateway.core.error import RequestError
from gateway.patience import Patience

logger = logging.getLogger("rawpush.http")

_SILENT = logging.Logger("rawpush.access", logging.CRITICAL)


class HttpConnection(web.RequestHandler):
    """What a port's own connection derives from; it says in which words a request is refused."""

    __slots__ = ("_patience",)

    def __init__(self, server: web.Server, **settings: Any) -> None:
        super().__init__(server, loop=asyncio.get_running_loop(), access_log=_SILENT, **settings)
        self._patience = Patience(self._loop)

    def refusal(self, error: RequestError) -> web.StreamResponse:
        """Return the answer that says what is wrong."""
        raise NotImplementedError

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        assert self.transport is not None
        self._patience.begin(self.transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        self._patience.ends()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._patience.waits()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._patience.goes_on()

    def handle_error(
        self, request: web.BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        logger.debug("a request could not be read", exc_info=exc)
        reply = self.refusal(RequestError(status, "the request is not well-formed HTTP, or its head is too large"))
        reply.force_close()
        return reply
