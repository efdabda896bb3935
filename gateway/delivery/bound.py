"""How much a receiver may send for one request, whatever it is: HTTP itself sets no bound.

Before its answer a receiver may send any number of interim ones (RFC 9110, section 15.2: a client reads over them), and on a
connection that waits for its next request it may send anything. Each costs time and memory here, not there.
"""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
from aiohttp.connector import Connection

#: Bytes that may come for one request. More than any head and first piece of a body: reading a body stops long before, and a
#: head of this size is refused for its own reasons.
MOST_RECEIVED = 131_072


class TooMuch(Exception):
    """The connection was ended from this side, for what came on it."""


class BoundConnector(aiohttp.TCPConnector):
    """Ends a connection on which more comes than a request can have caused; the request under way, if any, gets `TooMuch`."""

    async def connect(self, *args: Any, **kwargs: Any) -> Connection:
        connection = await super().connect(*args, **kwargs)
        transport = connection.transport
        if transport is not None:
            counted = transport.get_protocol()
            if not isinstance(counted, _Counted):
                counted = _Counted(transport)
                transport.set_protocol(counted)
            counted.received = 0
        return connection


class _Counted(asyncio.Protocol):
    """Stands between a connection and its client, and counts what comes."""

    __slots__ = ("_inner", "_is_over", "_transport", "received")

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._inner: Any = transport.get_protocol()
        self._is_over = False
        #: bytes, since the request began
        self.received = 0

    def data_received(self, data: bytes) -> None:
        self.received += len(data)
        if self.received <= MOST_RECEIVED:
            self._inner.data_received(data)
        elif not self._is_over:
            self._is_over = True
            # close() would go on reading what is in flight
            self._transport.abort()

    def eof_received(self) -> bool | None:
        keeps_open: bool | None = self._inner.eof_received()
        return keeps_open

    def connection_lost(self, exc: Exception | None) -> None:
        self._inner.connection_lost(TooMuch() if self._is_over else exc)

    def pause_writing(self) -> None:
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        self._inner.resume_writing()
