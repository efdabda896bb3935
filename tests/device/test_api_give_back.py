"""The one thing the HTTP side does not keep: a connection whose request, not its first, asks for a WebSocket."""

from __future__ import annotations

import asyncio

from tests.device.served import Served, serve

HEALTH = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
UPGRADE = (
    b"GET /app/key?protocol=7&x=%C3%A9 HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: WebSocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nX-Odd: caf\xc3\xa9 \xff\r\n\r\n"
)


class Taker(asyncio.Protocol):
    """Stands for the WebSocket side: takes connections back, answers at once, and keeps all that comes."""

    def __init__(self, served: Served) -> None:
        self.data = b""
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        served.site.take_back = self.take

    def take(self, transport: asyncio.Transport, data: bytes) -> None:
        transport.set_protocol(self)
        self.data += data
        transport.write(b"taken")

    def data_received(self, data: bytes) -> None:
        self.data += data

    def connection_lost(self, exc: Exception | None) -> None:
        self.ended.set_result(None)


async def test_an_upgrade_behind_other_requests_is_given_back_whole() -> None:
    async with serve() as served:
        taker = Taker(served)
        for pieces in ([UPGRADE], [UPGRADE + b"frame"], [UPGRADE[:3], UPGRADE[3:90], UPGRADE[90:]]):
            taker.data, taker.ended = b"", asyncio.get_running_loop().create_future()
            line = await served.connect()
            for _ in range(2):
                await line.send(HEALTH)
                assert (await line.answer())[0] == 200
            for piece in pieces:
                await line.send(piece)
                await served.send("GET", "/healthz")
            assert await line.reader.readexactly(5) == b"taken"
            # Nothing else is written to it, and what comes now is no affair of HTTP.
            await line.send(b"GET / HTTP/1.1\r\n\r\n")
            line.writer.write_eof()
            await taker.ended
            assert taker.data == b"".join(pieces) + b"GET / HTTP/1.1\r\n\r\n"
            assert await line.is_closed()


async def test_right_behind_another_request() -> None:
    async with serve() as served:
        taker = Taker(served)
        line = await served.connect()
        await line.send(HEALTH + UPGRADE)
        assert (await line.answer())[0] == 200
        assert await line.reader.readexactly(5) == b"taken"
        assert taker.data == UPGRADE


async def test_what_is_not_given_back() -> None:
    async with serve() as served:
        taker = Taker(served)
        line = await served.connect()
        # The first request has been looked at by the WebSocket side, which did not want it.
        for request in (UPGRADE, UPGRADE.replace(b"WebSocket", b"h2c"), UPGRADE.replace(b"Upgrade: WebSocket\r\n", b"")):
            await line.send(request)
            assert (await line.answer())[0] == 404
        await line.send(HEALTH)
        assert (await line.answer())[0] == 200
        assert taker.data == b""


async def test_stopping_does_not_wait_for_what_was_given_back() -> None:
    async with serve() as served:
        taker = Taker(served)
        line = await served.connect()
        await line.send(HEALTH)
        await line.answer()
        await line.send(UPGRADE)
        assert await line.reader.readexactly(5) == b"taken"
        await served.site.stop(60.0)
        await line.send(b"more")
        line.writer.write_eof()
        await taker.ended
        assert taker.data.endswith(b"more")
