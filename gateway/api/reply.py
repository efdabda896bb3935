"""Answers: JSON objects, whatever happened.

A reply is one write of finished bytes. aiohttp's own response builds a dictionary of headers first and asks many questions
that have always the same answer here; that was half of what a publish cost.
"""

from __future__ import annotations

import logging
import time
from email.utils import formatdate
from functools import lru_cache

import orjson
from aiohttp import HttpVersion10, web
from aiohttp.abc import AbstractStreamWriter

from gateway.core.error import RequestError

logger = logging.getLogger("rawpush.api")


class Reply(web.StreamResponse):
    """A JSON object as a response, with a content type that has no charset, since some SDKs compare it exactly."""

    def __init__(self, status: int, answer: dict[str, object], **headers: str) -> None:
        super().__init__(status=status)
        self._answer = orjson.dumps(answer)
        self._extra = "".join([f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items()])
        self._is_last = False
        self._has_body = True
        self._writer: AbstractStreamWriter | None = None

    @property
    def keep_alive(self) -> bool:
        """Whether the connection can be used again; known once prepared."""
        return not self._is_last

    def force_close(self) -> None:
        """Close the connection after this reply, and say so."""
        self._is_last = True

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter:
        """Take note of what is asked of the connection."""
        if self._is_last or not request.keep_alive:
            self._is_last = True
            self._extra += "Connection: close\r\n"
        elif request.version == HttpVersion10:
            self._extra += "Connection: keep-alive\r\n"
        self._has_body = request.method != "HEAD"
        self._writer = request.writer
        return request.writer

    async def write_eof(self, data: bytes = b"") -> None:
        """Write it all; raises ConnectionError if the client is gone."""
        if self._writer is None:
            raise RuntimeError("a reply must be prepared before it is written")
        await self._writer.write(self._finished())
        # a client that sends and sends but does not read is made to wait
        await self._writer.drain()

    def whole(self) -> bytes:
        """Return what answers a request of HTTP/1.1, other than HEAD, that did not ask for the connection's end."""
        if self._is_last:
            self._extra += "Connection: close\r\n"
        return self._finished()

    def _finished(self) -> bytes:
        head = (
            f"HTTP/1.1 {self.status} {self.reason}\r\nContent-Type: application/json\r\nX-Content-Type-Options: nosniff\r\n"
            f"Content-Length: {len(self._answer)}\r\nDate: {_date(int(time.time()))}\r\n{self._extra}\r\n"
        ).encode("ascii")
        return head + self._answer if self._has_body else head


def done() -> bytes:
    """Return what `Reply(200, {}).whole()` does; most publishes are answered with it."""
    return _done(int(time.time()))


def failure(error: Exception, method: str, path: str) -> Reply:
    """Return the reply to a request that ended with an error: a refusal, or a fault, which is logged."""
    if isinstance(error, RequestError):
        return refuse(error)
    if isinstance(error, OSError):
        logger.error("the outbox cannot be used", extra={"fields": {"error": str(error)}})
        return refuse(RequestError(503, "the gateway cannot read or write its outbox now; its log says why"))
    logger.error("a request failed", exc_info=error, extra={"fields": {"method": method, "path": path}})
    return refuse(RequestError(500, "the gateway could not answer; its log says why"))


def refuse(error: RequestError) -> Reply:
    """Return the reply that tells the client what is wrong and, where it can be told, where."""
    if error.retry_after_s is not None:
        return Reply(error.status, error.answer, Retry_After=str(error.retry_after_s))
    reply = Reply(error.status, error.answer)
    if error.status in (408, 413):
        # the rest of the body is not waited for
        reply.force_close()
    return reply


def wrong_method(allowed: str) -> Reply:
    """Return the reply to a method that a path does not know."""
    return Reply(405, {"error": f"this path takes {allowed}", "where": "method"}, Allow=allowed)


@lru_cache(maxsize=1)
def _done(second: int) -> bytes:
    return Reply(200, {}).whole()


@lru_cache(maxsize=1)
def _date(second: int) -> str:
    return formatdate(second, usegmt=True)
