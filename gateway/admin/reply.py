"""Answers of the operator's port: JSON objects, whatever happened, on connections that know nothing else."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import orjson
from aiohttp import hdrs, web

from gateway.core.error import RequestError
from gateway.patience import Patience

logger = logging.getLogger("rawpush.admin")

#: one line per request would say nothing that anybody reads
_SILENT = logging.Logger("rawpush.admin.access", logging.CRITICAL)


def answered(status: int, answer: Any, **headers: str) -> web.Response:
    """Return an answer with what belongs to every one."""
    told = {hdrs.CACHE_CONTROL: "no-store", "X-Content-Type-Options": "nosniff", **headers}
    return web.Response(status=status, body=orjson.dumps(answer), content_type="application/json", headers=told)


def refused(error: RequestError) -> web.Response:
    """Return the answer that tells what is wrong and, where it can be told, where."""
    headers = {} if error.retry_after_s is None else {hdrs.RETRY_AFTER: str(error.retry_after_s)}
    if error.status == 401:
        headers[hdrs.WWW_AUTHENTICATE] = "Bearer"
    return answered(error.status, error.answer, **headers)


class Connection(web.RequestHandler):
    """aiohttp's protocol, with JSON also for what is not HTTP, and an end to who does not take his answers."""

    __slots__ = ("_patience",)

    def __init__(self, server: web.Server) -> None:
        super().__init__(server, loop=asyncio.get_running_loop(), access_log=_SILENT)
        self._patience = Patience(self._loop)

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
        reply = refused(RequestError(status, "the request is not well-formed HTTP, or its head is too large"))
        reply.force_close()
        return reply
