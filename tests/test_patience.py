"""Peers that take nothing of what is written to them: over a transport that only says how much waits, and over real ones."""

from __future__ import annotations

import asyncio
import socket
import ssl
from pathlib import Path
from typing import cast

import pytest

from gateway import patience
from gateway.api.connection import Connection
from gateway.api.site import Site
from gateway.patience import Patience
from tests.certificate import anybody, write_pair
from tests.desk_kit import DeskKit
from tests.device.front_kit import on_both_loops
from tests.device.served import APP, FakeNode
from tests.fake import FakeClock
from tests.patience import LONG_S

DESCRIPTION = b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n"
HEALTH = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
LAST = b"GET /openapi.json HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


class Loop:
    """Keeps what is to be called later."""

    def __init__(self) -> None:
        self.later: list[tuple[float, Timer]] = []

    def call_later(self, delay: float, callback: object) -> Timer:
        assert callable(callback)
        self.later.append((delay, Timer(callback)))
        return self.later[-1][1]

    def ring(self) -> None:
        """Let the last timer fire."""
        assert not self.later[-1][1].is_cancelled
        self.later[-1][1].callback()


class Timer:
    def __init__(self, callback: object) -> None:
        assert callable(callback)
        self.callback = callback
        self.is_cancelled = False

    def cancel(self) -> None:
        self.is_cancelled = True


class Wire(asyncio.Transport):
    """Says how much waits in it."""

    waits = 0
    is_aborted = False
    limits: tuple[int | None, int | None] = (None, None)

    def get_write_buffer_size(self) -> int:
        return self.waits

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self.limits = (high, low)

    def abort(self) -> None:
        self.is_aborted = True


@pytest.fixture
def loop() -> Loop:
    return Loop()


@pytest.fixture
def wire() -> Wire:
    return Wire()


@pytest.fixture
def held(loop: Loop, wire: Wire) -> Patience:
    held = Patience(cast(asyncio.AbstractEventLoop, loop))
    held.begin(wire)
    return held


def test_the_transport_says_so_as_soon_as_anything_waits(held: Patience, wire: Wire) -> None:
    assert wire.limits == (1, 0)


def test_who_takes_nothing_is_cut(held: Patience, loop: Loop, wire: Wire) -> None:
    wire.waits = 1000
    held.waits()
    assert loop.later[-1][0] == patience.TAKE_S
    loop.ring()
    assert wire.is_aborted
    held.ends()
    assert len(loop.later) == 1


def test_who_takes_something_is_given_time_for_the_rest(held: Patience, loop: Loop, wire: Wire) -> None:
    wire.waits = 1000
    held.waits()
    for left in (999, 10):
        wire.waits = left
        loop.ring()
        assert not wire.is_aborted
    loop.ring()
    assert wire.is_aborted


def test_who_has_taken_all_is_left_alone(held: Patience, loop: Loop, wire: Wire) -> None:
    held.goes_on()
    held.waits()
    held.goes_on()
    assert loop.later[0][1].is_cancelled
    held.waits()
    held.ends()
    assert loop.later[1][1].is_cancelled
    assert len(loop.later) == 2


@pytest.mark.parametrize("is_tls", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("asked", [DESCRIPTION * 500, HEALTH * 20_000, LAST], ids=["much", "often", "once"])
@on_both_loops
async def test_a_client_of_the_api_that_stops_reading_is_cut(
    is_tls: bool, asked: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience, "TAKE_S", 0.2)
    lost = asyncio.Event()
    connection_lost = Connection.connection_lost

    def noted(self: Connection, exc: BaseException | None) -> None:
        connection_lost(self, exc)
        lost.set()

    monkeypatch.setattr(Connection, "connection_lost", noted)
    clock = FakeClock()
    site = Site(node=FakeNode(APP), desk=DeskKit(clock=clock).desk, clock=clock)
    loop = asyncio.get_running_loop()
    listening = socket.create_server(("127.0.0.1", 0))
    # Those who are accepted have it from here: next to nothing fits between the two.
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    if is_tls:
        context.load_cert_chain(*write_pair(tmp_path)[:2])
    server = await loop.create_server(
        site.protocol, sock=listening, ssl=context if is_tls else None, ssl_shutdown_timeout=0.2 if is_tls else None
    )
    raw = socket.socket()
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    raw.setblocking(False)
    await loop.sock_connect(raw, listening.getsockname())
    trust = {"ssl": anybody(), "server_hostname": "x"} if is_tls else {}
    _, writer = await asyncio.open_connection(sock=raw, limit=1, **trust)  # type: ignore[arg-type]
    transport = writer.transport
    try:
        transport.pause_reading()  # type: ignore[attr-defined]
        writer.write(asked)
        async with asyncio.timeout(LONG_S):
            await lost.wait()
    finally:
        transport.abort()
        server.close()
        await site.stop(0.1)
