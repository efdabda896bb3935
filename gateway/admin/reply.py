"""Answers of the operator's port: JSON objects, whatever happened, on connections that know nothing else."""

from __future__ import annotations

from typing import Any

import orjson
from aiohttp import hdrs, web

from gateway.core.error import RequestError
from gateway.http import HttpConnection

#: instead of what aiohttp says, which is what it is made of, and in which versions
SERVER = "RawPush"


def answered(status: int, answer: Any, **headers: str) -> web.Response:
    """Return an answer with what belongs to every one."""
    told = {hdrs.CACHE_CONTROL: "no-store", "X-Content-Type-Options": "nosniff", hdrs.SERVER: SERVER, **headers}
    return web.Response(status=status, body=orjson.dumps(answer), content_type="application/json", headers=told)


def refused(error: RequestError) -> web.Response:
    """Return the answer that tells what is wrong and, where it can be told, where."""
    headers = {} if error.retry_after_s is None else {hdrs.RETRY_AFTER: str(error.retry_after_s)}
    if error.status == 401:
        headers[hdrs.WWW_AUTHENTICATE] = "Bearer"
    return answered(error.status, error.answer, **headers)


class Connection(HttpConnection):
    """A connection to the operator's port."""

    __slots__ = ()

    def refusal(self, error: RequestError) -> web.Response:
        return refused(error)
