"""Connections to the operator's port: who stops reading keeps nothing."""

from __future__ import annotations

import asyncio
import socket

import pytest

from gateway import patience
from gateway.admin.reply import Connection
from tests.device.admin_kit import serve
from tests.patience import LONG_S

DESCRIPTION = b"GET /v1/openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n"
LAST = DESCRIPTION.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")


@pytest.mark.parametrize("asked", [DESCRIPTION * 500, LAST], ids=["much", "once"])
async def test_who_stops_reading_is_cut(asked: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "TAKE_S", 0.2)
    lost = asyncio.Event()
    connection_lost = Connection.connection_lost

    def noted(self: Connection, exc: BaseException | None) -> None:
        connection_lost(self, exc)
        lost.set()

    monkeypatch.setattr(Connection, "connection_lost", noted)
    async with serve() as served:
        assert served.site._listener is not None
        # Those who are accepted have it from here: next to nothing fits between the two.
        served.site._listener.sockets[0].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        silent = socket.socket()
        silent.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        silent.setblocking(False)
        with silent:
            loop = asyncio.get_running_loop()
            await loop.sock_connect(silent, ("127.0.0.1", served.port))
            sending = asyncio.create_task(loop.sock_sendall(silent, asked))
            try:
                async with asyncio.timeout(LONG_S):
                    await lost.wait()
            finally:
                sending.cancel()
                await asyncio.gather(sending, return_exceptions=True)


async def test_who_reads_slowly_is_waited_for() -> None:
    async with serve() as served:
        reader, writer = await asyncio.open_connection("127.0.0.1", served.port, limit=1024)
        for _ in range(2):
            writer.write(DESCRIPTION)
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
            assert len(await reader.readexactly(length)) == length
        writer.close()
        await writer.wait_closed()
