"""Connections to the API: many requests, odd requests, and stopping."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator

import orjson
import pytest

from tests.device.served import CHANNELS, EVENT, EVENTS, Served, serve
from tests.patience import LONG_S


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    async with serve() as served:
        yield served


# -- connections


async def test_one_connection_carries_many_requests_whatever_was_refused(served: Served) -> None:
    line = await served.connect()
    body = orjson.dumps(EVENT)
    right = served.head("POST", EVENTS, body, f"Content-Length: {len(body)}") + body
    refused = [
        b"GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n",
        b"PUT /apps/740213/events HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc",
        b"POST /apps/740213/events HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc",
        served.head("GET", f"{CHANNELS}/a%20b", b""),
    ]
    for request, expected in zip(refused, (404, 405, 401, 400), strict=True):
        await line.send(request)
        assert (await line.answer())[0] == expected
        await line.send(right)
        assert (await line.answer())[0] == 200


async def test_requests_in_one_piece_are_answered_in_order(served: Served) -> None:
    line = await served.connect()
    body = orjson.dumps(EVENT)
    await line.send(
        (served.head("POST", EVENTS, body, f"Content-Length: {len(body)}") + body) * 50 + served.head("GET", CHANNELS)
    )
    answers = [await line.answer() for _ in range(51)]
    assert {status for status, _, _ in answers} == {200}
    assert answers[-1][2] == {"channels": {}}
    assert len(served.node.published) == 50


async def test_http_1_0_and_close(served: Served) -> None:
    line = await served.connect()
    await line.send(b"GET /healthz HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
    assert (await line.answer())[1]["connection"] == "keep-alive"
    await line.send(b"GET /healthz HTTP/1.0\r\n\r\n")
    assert (await line.answer())[1]["connection"] == "close"
    assert await line.is_closed()


async def test_the_absolute_form_of_a_target(served: Served) -> None:
    line = await served.connect()
    await line.send(served.head("GET", CHANNELS).replace(b"GET /", b"GET http://rt.example.org/"))
    assert (await line.answer())[0] == 200
    for target in (b"*", b"http://rt.example.org", b"http://rt.example.org/x"):
        await line.send(b"OPTIONS " + target + b" HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await line.answer())[0] == 404


@pytest.mark.parametrize(
    "request_",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01",
        b"nonsense\r\n\r\n",
        b"GET / HTTP/1.1\r\nbad header\r\n\r\n",
        b"GET /" + b"x" * 10_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 100_000 + b"\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET /healthz HTTP/1.1\nHost: x\n\n",
        b"GET /healthz HTTP/1.1\r\nHost: x\r\nA: b\r\n c\r\n\r\n",
        b"get /healthz HTTP/1.1\r\nHost: x\r\n\r\n",
    ],
)
async def test_what_is_not_http_is_told_so_in_json(served: Served, request_: bytes, caplog: pytest.LogCaptureFixture) -> None:
    line = await served.connect()
    with caplog.at_level(logging.WARNING):
        await line.send(request_)
        status, headers, _ = await line.answer()
    assert (status, headers["connection"]) == (400, "close")
    assert caplog.records == []
    assert await line.is_closed()


async def test_an_upgrade_to_something_else_is_ignored(served: Served) -> None:
    line = await served.connect()
    head = served.head("GET", CHANNELS)
    for protocol in (b"h2c", b"websocket"):
        await line.send(head.replace(b"\r\n\r\n", b"\r\nConnection: Upgrade\r\nUpgrade: %b\r\n\r\n" % protocol))
        assert (await line.answer())[0] == 200


async def test_bytes_that_are_not_utf8_in_a_head(served: Served) -> None:
    line = await served.connect()
    await line.send(b"GET /healthz?x=\xff HTTP/1.1\r\nHost: x\r\nUser-Agent: \xff\xc3(\r\n\r\n")
    assert (await line.answer())[0] == 400


# -- stopping


async def test_stopping_closes_idle_connections_at_once(served: Served) -> None:
    idle, silent = await served.connect(), await served.connect()
    await idle.send(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
    await idle.answer()
    await served.send("GET", "/healthz")
    stopping = asyncio.ensure_future(served.site.stop(3600))
    assert await idle.is_closed()
    assert await silent.is_closed()
    await stopping


async def test_stopping_lets_running_requests_finish(served: Served) -> None:
    recorded: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    served.node.outcome = recorded
    line = await served.connect()
    body = orjson.dumps(EVENT)
    await line.send(served.head("POST", EVENTS, body, f"Content-Length: {len(body)}") + body)
    while not served.node.published:
        await served.send("GET", "/healthz")
    idle = await served.connect()
    await idle.send(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
    await idle.answer()
    stopping = asyncio.ensure_future(served.site.stop(3600))
    assert await idle.is_closed()
    assert not stopping.done()
    recorded.set_result(None)
    status, headers, _ = await line.answer()
    assert (status, headers["connection"]) == (200, "close")
    await stopping


async def test_stopping_cuts_off_what_does_not_finish(served: Served) -> None:
    half, stuck = await served.connect(), await served.connect()
    await half.send(served.head("POST", EVENTS, b"{}", "Content-Length: 2") + b"{")
    served.node.outcome = asyncio.get_running_loop().create_future()
    body = orjson.dumps(EVENT)
    await stuck.send(served.head("POST", EVENTS, body, f"Content-Length: {len(body)}") + body)
    while not served.node.published:
        await served.send("GET", "/healthz")
    async with asyncio.timeout(LONG_S):
        await served.site.stop(0.01)
    await half.reader.read()
    assert await stuck.is_closed()
    await served.site.stop(0.01)


async def test_a_connection_that_comes_after_stopping_is_closed(served: Served) -> None:
    await served.site.stop(1)
    reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
    assert await reader.read() == b""
    writer.close()
