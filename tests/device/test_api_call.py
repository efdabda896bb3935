"""Bodies: whole, in pieces, too large, malformed, or never sent."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator
from dataclasses import replace

import orjson
import pytest

from gateway.api import call
from gateway.core.app import Limits
from tests.device.served import APP, BATCH, CHANNELS, EVENT, EVENTS, ITEM, Line, Served, serve
from tests.patience import LONG_S


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    async with serve() as served:
        yield served


async def test_legal_events_fit_in_every_encoding(served: Served) -> None:
    channels = [f"{number:0164}" for number in range(100)]
    for data in ("x" * 10_240, "東" * 3_413, '"\\' * 5_120, "\u0001" * 10_240):
        assert (await served.ask("POST", EVENTS, EVENT | {"data": data, "channels": channels})).status == 200
        assert served.node.published[-1].data == data
        assert (await served.ask("POST", EVENTS, EVENT | {"data": data + "xx"})).status == 413
    assert (await served.ask("POST", BATCH, {"batch": [ITEM | {"data": "\u0001" * 10_240}] * 10})).status == 200


@pytest.mark.parametrize("is_right", [True, False])
async def test_a_body_over_the_limit_can_be_read_as_413(served: Served, is_right: bool) -> None:
    body = b"x" * 20_000_000
    line = await served.connect()
    head = served.head("POST", EVENTS, body if is_right else b"", f"Content-Length: {len(body)}")
    await line.send(head + body)
    status, headers, _ = await line.answer()
    assert (status, headers["connection"]) == (413, "close")
    assert await line.is_closed()
    assert served.node.rejected == [(APP.id, "payload_too_large", None, None, len(body))]


async def test_a_body_that_is_only_announced_is_refused_at_once(served: Served) -> None:
    line = await served.connect()
    await line.send(served.head("POST", EVENTS, b"", "Content-Length: 10000000000"))
    assert (await line.answer())[0] == 413


async def test_a_chunked_body_is_refused_when_it_passes_the_limit(served: Served) -> None:
    line = await served.connect()
    await line.send(served.head("POST", EVENTS, b"", "Transfer-Encoding: chunked"))
    chunk = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
    for _ in range(17):
        await line.send(chunk)
    status, headers, _ = await line.answer()
    assert (status, headers["connection"]) == (413, "close")


async def test_the_limit_is_that_of_the_app() -> None:
    async with serve(replace(APP, limits=Limits(request=100))) as served:
        body = orjson.dumps(EVENT)
        assert (await served.ask("POST", EVENTS, body + b" " * (100 - len(body)))).status == 200
        assert (await served.ask("POST", EVENTS, body + b" " * (101 - len(body)))).status == 413


async def test_a_chunked_body_over_the_limit_that_comes_in_one_piece() -> None:
    async with serve(replace(APP, limits=Limits(request=100))) as served:
        line = await served.connect()
        body = b"x" * 101
        head = served.head("POST", EVENTS, body, "Transfer-Encoding: chunked")
        await line.send(head + b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body))
        assert (await line.answer())[0] == 413


@pytest.mark.parametrize("size", [1, 7, 100_000])
async def test_a_body_in_pieces(served: Served, size: int) -> None:
    body = orjson.dumps(EVENT | {"x": "y" * size * 5})
    line = await served.connect()
    for lines in (f"Content-Length: {len(body)}", "Transfer-Encoding: chunked"):
        await line.send(served.head("POST", EVENTS, body, lines))
        for start in range(0, len(body), size):
            piece = body[start : start + size]
            await line.send(piece if "Length" in lines else b"%x\r\n%b\r\n" % (len(piece), piece))
        await line.send(b"" if "Length" in lines else b"0\r\n\r\n")
        assert (await line.answer())[0] == 200


async def leave_to_send(served: Served, body: bytes, *lines: str) -> Line:
    """Return a connection on which the gateway waits for a body: it has said so."""
    line = await served.connect()
    await line.send(served.head("POST", EVENTS, body, *lines, "Expect: 100-continue"))
    assert await line.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    return line


async def test_a_client_may_wait_for_leave_to_send_its_body(served: Served) -> None:
    body = orjson.dumps(EVENT)
    line = await leave_to_send(served, body, f"Content-Length: {len(body)}")
    await line.send(body)
    assert (await line.answer())[0] == 200


@pytest.mark.parametrize(("method", "path", "status"), [("POST", "/nowhere", 404), ("PUT", EVENTS, 405)])
async def test_who_waits_for_leave_and_is_refused_instead_is_not_listened_to_any_more(
    served: Served, method: str, path: str, status: int
) -> None:
    line = await served.connect()
    await line.send(f"{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 900\r\nExpect: 100-continue\r\n\r\n".encode())
    answered, headers, _ = await line.answer()
    # what the client sends next may be the body or another request: nobody can tell
    assert (answered, headers.get("connection")) == (status, "close")


async def test_another_expectation_is_none_of_ours(served: Served) -> None:
    body = orjson.dumps(EVENT)
    line = await served.connect()
    await line.send(served.head("POST", EVENTS, body, f"Content-Length: {len(body)}", "Expect: a-miracle") + body)
    assert (await line.answer())[0] == 200


async def test_chunks_may_have_extensions_and_trailers_and_a_request_after_them(served: Served) -> None:
    body = orjson.dumps(EVENT)
    line = await served.connect()
    await line.send(served.head("POST", EVENTS, body, "Transfer-Encoding: chunked"))
    await line.send(b"%x;a=1\r\n%b\r\n0\r\nX-Trailer: 1\r\n\r\n" % (len(body), body) + served.head("GET", CHANNELS))
    assert [(await line.answer())[0] for _ in range(2)] == [200, 200]
    assert len(served.node.published) == 1


async def test_a_body_in_a_coding_nobody_undoes_here_is_not_taken_for_what_it_holds(served: Served) -> None:
    body = gzip.compress(orjson.dumps(EVENT))
    line = await served.connect()
    head = served.head("POST", EVENTS, body, "Transfer-Encoding: gzip, chunked")
    await line.send(head + b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body))
    status, _, answer = await line.answer()
    assert (status, answer["where"]) == (501, "Transfer-Encoding")
    assert served.node.published == []


@pytest.mark.parametrize(
    "lines", [("Content-Length: 5", "Transfer-Encoding: chunked"), ("Content-Length: 2", "Content-Length: 3")]
)
async def test_a_body_of_two_lengths_is_refused_and_nothing_after_it_is_read(served: Served, lines: tuple[str, str]) -> None:
    body = orjson.dumps(EVENT)
    line = await served.connect()
    await line.send(served.head("POST", EVENTS, body, *lines) + b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body))
    await line.send(served.head("GET", CHANNELS))
    status, headers, _ = await line.answer()
    assert (status, headers["connection"]) == (400, "close")
    assert await line.is_closed()
    assert served.node.published == []


async def test_a_question_may_have_a_body_that_is_signed(served: Served) -> None:
    line = await served.connect()
    await line.send(served.head("GET", CHANNELS, b"{}", "Content-Length: 2") + b"{}" + served.head("GET", CHANNELS))
    assert [(await line.answer())[0] for _ in range(2)] == [200, 200]
    await line.send(served.head("GET", CHANNELS, b"", "Content-Length: 2") + b"{}")
    status, _, answer = await line.answer()
    assert (status, answer["where"]) == (401, "body_md5")


async def test_a_body_that_does_not_come_is_given_up(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(call, "BODY_TIMEOUT_S", 0.01)
    line = await served.connect()
    await line.send(served.head("POST", EVENTS, b"{}", "Content-Length: 2") + b"{")
    status, headers, answer = await line.answer()
    assert (status, headers["connection"], answer["where"]) == (408, "close", "body")


@pytest.mark.parametrize("path", [EVENTS, EVENTS.replace("/events", "/batch_events")])
async def test_a_body_that_drips_has_no_more_time_than_one_that_does_not_come(
    served: Served, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.setattr(call, "BODY_TIMEOUT_S", 0.2)
    line = await served.connect()
    await line.send(served.head("POST", path, b"{}", "Content-Length: 100000"))

    async def drip() -> None:
        while True:
            await line.send(b" ")
            await asyncio.sleep(0.02)  # the pace of it, well within the time that a pause may take

    dripping = asyncio.create_task(drip())
    try:
        async with asyncio.timeout(LONG_S):
            assert (await line.answer())[0] == 408
    finally:
        dripping.cancel()
        await asyncio.gather(dripping, return_exceptions=True)


@pytest.mark.parametrize("start", [b"", b"1\r\n{\r\n"])
async def test_a_malformed_chunk_is_400(served: Served, start: bytes, caplog: pytest.LogCaptureFixture) -> None:
    line = await served.connect()
    await line.send(served.head("POST", EVENTS, b"{}", "Transfer-Encoding: chunked") + start + b"zz\r\n")
    assert (await line.answer())[0] == 400
    assert caplog.records == []


async def test_a_client_that_goes_in_the_middle_is_no_fault(served: Served, caplog: pytest.LogCaptureFixture) -> None:
    line = await leave_to_send(served, b"{}", "Content-Length: 2")
    line.writer.transport.abort()
    # returns when the request has ended
    await served.site.stop(3600)
    assert caplog.records == []
