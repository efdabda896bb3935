"""Connections of HTTP to either port: who stops reading keeps nothing, who reads slowly is waited for, and all get JSON."""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import orjson
import pytest

from gateway import patience
from gateway.api.site import Site
from gateway.http import HttpConnection
from tests.certificate import anybody, write_pair
from tests.desk_kit import DeskKit
from tests.device.admin_kit import serve as serve_admin
from tests.device.front_kit import on_both_loops
from tests.device.served import APP, FakeNode
from tests.fake import FakeClock
from tests.patience import LONG_S

#: what each port has to say at length, and in short
PATHS = {"api": ("/openapi.json", "/healthz"), "admin": ("/v1/openapi.json", "/healthz")}


def get(path: str, more: str = "") -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: localhost\r\n{more}\r\n".encode()


@asynccontextmanager
async def protocol_of(port: str) -> AsyncIterator[Callable[[], asyncio.Protocol]]:
    """Yield what makes the protocol for a connection to this port."""
    if port == "api":
        clock = FakeClock()
        site = Site(node=FakeNode(APP), desk=DeskKit(clock=clock).desk, clock=clock)
        yield site.protocol
        await site.stop(0.1)
    else:
        async with serve_admin() as served:
            yield served.site.protocol


@pytest.mark.parametrize("is_tls", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("how", ["much", "often", "once"])
@pytest.mark.parametrize("port", PATHS)
@on_both_loops
async def test_who_stops_reading_is_cut(
    port: str, how: str, is_tls: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long, short = PATHS[port]
    asked = {"much": get(long) * 500, "often": get(short) * 20_000, "once": get(long, "Connection: close\r\n")}[how]
    monkeypatch.setattr(patience, "TAKE_S", 0.2)
    lost = asyncio.Event()
    connection_lost = HttpConnection.connection_lost

    def noted(self: HttpConnection, exc: BaseException | None) -> None:
        connection_lost(self, exc)
        lost.set()

    monkeypatch.setattr(HttpConnection, "connection_lost", noted)
    loop = asyncio.get_running_loop()
    listening = socket.create_server(("127.0.0.1", 0))
    # Those who are accepted have it from here: next to nothing fits between the two.
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    if is_tls:
        context.load_cert_chain(*write_pair(tmp_path)[:2])
    async with protocol_of(port) as protocol:
        server = await loop.create_server(
            protocol, sock=listening, ssl=context if is_tls else None, ssl_shutdown_timeout=0.2 if is_tls else None
        )
        raw = socket.socket()
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        raw.setblocking(False)
        await loop.sock_connect(raw, listening.getsockname())
        trust = {"ssl": anybody(), "server_hostname": "x"} if is_tls else {}
        _, writer = await asyncio.open_connection(sock=raw, limit=1, **trust)  # type: ignore[arg-type]
        try:
            writer.transport.pause_reading()  # type: ignore[attr-defined]
            writer.write(asked)
            async with asyncio.timeout(LONG_S):
                await lost.wait()
        finally:
            writer.transport.abort()
            server.close()


@pytest.mark.parametrize("port", PATHS)
@on_both_loops
async def test_who_reads_slowly_is_waited_for(port: str) -> None:
    async with protocol_of(port) as protocol:
        server = await asyncio.get_running_loop().create_server(protocol, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname(), limit=1024)
        for _ in range(2):
            writer.write(get(PATHS[port][0]))
            assert "openapi" in await answer(reader)
        writer.close()
        await writer.wait_closed()
        server.close()


@pytest.mark.parametrize("port", PATHS)
@on_both_loops
async def test_what_is_not_http_is_answered_in_json_and_is_the_last(port: str) -> None:
    async with protocol_of(port) as protocol:
        server = await asyncio.get_running_loop().create_server(protocol, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(b"\x16\x03\x01 what is this\r\n\r\n" + get("/healthz"))
        assert await answer(reader) == {"error": "the request is not well-formed HTTP, or its head is too large"}
        assert await reader.read() == b""
        writer.close()
        server.close()


async def answer(reader: asyncio.StreamReader) -> dict[str, object]:
    head = await reader.readuntil(b"\r\n\r\n")
    length = re.search(rb"(?i)\r\ncontent-length: ([0-9]+)\r\n", head)
    assert length is not None
    told: dict[str, object] = orjson.loads(await reader.readexactly(int(length[1])))
    return told
