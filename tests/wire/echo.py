"""A server that echoes, made of the gateway's transport and a node that does nothing else: what a conformance suite asks for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from websockets.frames import Opcode

from gateway.clock import SystemClock
from gateway.core import frame as codec
from gateway.core.app import App, Limits
from gateway.node import Handshake
from gateway.transport import door, front
from gateway.transport.compressed import CompressedConnection
from gateway.transport.connection import Connection
from gateway.transport.deflate import Deflation

#: The suite's largest message, and some room.
LIMIT = 17 * 1024 * 1024


class _Live:
    def __init__(self, connection: Connection) -> None:
        self.connection = connection


class EchoNode:
    """Greets nobody and says everything once more."""

    def __init__(self) -> None:
        self.app = App("1", "key", "secret", limits=Limits(message=LIMIT))
        self.ended = 0

    def app_by_key(self, key: str) -> App:
        return self.app

    def open(self, handshake: Handshake, connection: Connection) -> _Live:
        return _Live(connection)

    def receive(self, live: _Live, text: str) -> None:
        live.connection.offer(codec.wire(text.encode()))

    def lost(self, live: _Live, code: int, reason: str) -> None:
        self.ended += 1


class _BinaryToo:
    """The protocol has no binary messages, so the transport drops them; the suite wants to see them read, and echoed."""

    __slots__ = ()

    def _finish(self, data: bytes) -> None:
        super()._finish(data)  # type: ignore[misc]
        if not self._is_text:  # type: ignore[attr-defined]
            echo = bytearray(codec.wire(data))
            echo[0] = 0x80 | Opcode.BINARY
            self.offer(bytes(echo))  # type: ignore[attr-defined]


class EchoConnection(_BinaryToo, Connection):
    __slots__ = ()


class CompressedEchoConnection(_BinaryToo, CompressedConnection):
    __slots__ = ()


class CompressEverything(Deflation):
    """The suite wants to see every message compressed, whether that makes it smaller or not."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__(window_bits=15, least=0)

    def shared(self, frame: bytes) -> bytes:
        return self.compressed(frame)


@asynccontextmanager
async def echo_server(monkeypatch: pytest.MonkeyPatch, deflation: Deflation | None = None) -> AsyncIterator[int]:
    """Run the server on a free port of loopback, in this event loop."""
    monkeypatch.setattr(front, "Connection", EchoConnection)
    monkeypatch.setattr(door, "CompressedConnection", CompressedEchoConnection)

    def no_http() -> asyncio.Protocol:
        raise AssertionError("the suite sends nothing but upgrades")

    entrance = front.Front(
        node=EchoNode(),  # type: ignore[arg-type]
        clock=SystemClock(),
        http=no_http,
        buffer_limit=4 * LIMIT,
        deflation=deflation,
    )
    port = await entrance.listen("127.0.0.1", 0)
    try:
        yield port
    finally:
        await entrance.close()
