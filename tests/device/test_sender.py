from __future__ import annotations

import asyncio
import contextlib
import inspect
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from functools import wraps
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import uvloop
from aiohttp import AsyncResolver

from gateway.core.delivery import Outcome, Stage
from gateway.core.endpoint import Endpoint
from gateway.delivery import sender as module
from gateway.delivery.address import AddressRules
from gateway.delivery.bound import MOST_RECEIVED
from gateway.delivery.sender import HttpSender
from tests.patience import LONG_S

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

HEADERS = {"Content-Type": "application/json", "X-Webhook-Id": "evt_1"}
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

#: what a flooding receiver may get rid of before the connection breaks under it, buffers included
MOST_FLOODED = 1_000_000


def on_both_loops(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run an async test on asyncio's loop and on uvloop, which differ in how connections end."""

    @pytest.mark.parametrize("loop_factory", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
    @wraps(test)
    def run(*args: Any, loop_factory: Callable[[], asyncio.AbstractEventLoop], **kwargs: Any) -> None:
        async def bounded() -> None:
            async with asyncio.timeout(LONG_S):
                await test(*args, **kwargs)

        with asyncio.Runner(loop_factory=loop_factory) as runner:
            runner.run(bounded())

    signature = inspect.signature(test)
    parameter = inspect.Parameter("loop_factory", inspect.Parameter.KEYWORD_ONLY)
    run.__signature__ = signature.replace(parameters=[*signature.parameters.values(), parameter])  # type: ignore[attr-defined]
    return run


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Idle connections stay, so that no test passes only because they were swept away."""
    monkeypatch.setattr(module, "IDLE_S", 3600.0)


class Receiver:
    """A scripted server: keeps the requests it has read, and leaves each answer to the handler."""

    def __init__(self) -> None:
        self.requests: list[bytes] = []
        self.connections = 0
        self.ended = asyncio.Event()
        self.flooded = 0
        self.port = 0

    async def read_request(self, reader: asyncio.StreamReader) -> bytes:
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        request = head + await reader.readexactly(length)
        self.requests.append(request)
        return request


@contextlib.asynccontextmanager
async def receiving(handler: Callable[..., Awaitable[None]], *, tls: ssl.SSLContext | None = None) -> AsyncIterator[Receiver]:
    receiver = Receiver()
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        receiver.connections += 1
        try:
            await handler(receiver, reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the sender has gone, which is what some tests wait for
        finally:
            receiver.ended.set()
            writer.transport.abort()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(serve(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(accept, "127.0.0.1", 0, ssl=tls)
    receiver.port = server.sockets[0].getsockname()[1]
    try:
        yield receiver
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0)


@contextlib.asynccontextmanager
async def sending(**options: Any) -> AsyncIterator[HttpSender]:
    sender = HttpSender(**options)
    try:
        yield sender
    finally:
        await sender.close()


def endpoint(port: int, *, name: str = "backend", timeout_s: float = 5.0, url: str | None = None) -> Endpoint:
    return Endpoint("1", name, url or f"http://127.0.0.1:{port}/hooks", ("secret",), timeout_s=timeout_s)


def answering(*answers: bytes) -> Callable[..., Awaitable[None]]:
    """Return a handler that answers one request after the other, over as many connections as it takes."""
    left = list(answers)

    async def handle(receiver: Receiver, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while left:
            await receiver.read_request(reader)
            writer.write(left.pop(0))
            await writer.drain()
        await reader.read()

    return handle


def flooding(start: bytes, unit: bytes) -> Callable[..., Awaitable[None]]:
    """Return a handler that answers with `start` and then as much of `unit` as the sender lets it get rid of."""

    async def handle(receiver: Receiver, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await receiver.read_request(reader)
        await flood(receiver, writer, start, unit)

    return handle


async def flood(receiver: Receiver, writer: asyncio.StreamWriter, start: bytes, unit: bytes) -> None:
    """Write until the connection breaks."""
    # What this side's kernel would take off the handler's hands is not received yet.
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16_384)
    writer.write(start)
    while True:
        writer.write(unit)
        receiver.flooded += len(unit)
        await writer.drain()
        await asyncio.sleep(0)


async def send(sender: HttpSender, to: Endpoint, body: bytes = b"{}") -> Outcome:
    return await sender.send(to, HEADERS, body)


# -- what is sent


@on_both_loops
async def test_the_request_is_what_was_given() -> None:
    async with receiving(answering(OK)) as receiver, sending() as sender:
        outcome = await sender.send(endpoint(receiver.port), {**HEADERS, "X-Tenant": "ü"}, b'{"a":1}')
        assert (outcome.stage, outcome.status, outcome.body, outcome.error) == (Stage.ANSWERED, 200, b"ok", "")
        assert outcome.is_success
        assert outcome.latency_ms > 0
        head, _, body = receiver.requests[0].partition(b"\r\n\r\n")
        assert body == b'{"a":1}'
        assert head.decode().split("\r\n") == [
            "POST /hooks HTTP/1.1",
            f"Host: 127.0.0.1:{receiver.port}",
            "Content-Length: 7",
            "Content-Type: application/json",
            "X-Webhook-Id: evt_1",
            "X-Tenant: ü",
        ]


@on_both_loops
async def test_a_large_body_arrives_whole() -> None:
    async with receiving(answering(OK)) as receiver, sending() as sender:
        assert (await send(sender, endpoint(receiver.port), b"x" * 3_000_000)).is_success
        assert receiver.requests[0].endswith(b"\r\n\r\n" + b"x" * 3_000_000)


@on_both_loops
async def test_a_connection_is_used_again_but_never_by_another_endpoint() -> None:
    async with receiving(answering(*[OK] * 5)) as receiver, sending() as sender:
        for _ in range(3):
            assert (await send(sender, endpoint(receiver.port))).is_success
        assert receiver.connections == 1
        assert (await send(sender, endpoint(receiver.port, name="other"))).is_success
        assert receiver.connections == 2


@on_both_loops
async def test_an_idle_connection_that_the_receiver_closes_is_not_used_again() -> None:
    closed = asyncio.Event()

    async def handle(receiver: Receiver, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await receiver.read_request(reader)
        writer.write(OK)
        writer.close()
        await writer.wait_closed()
        closed.set()

    async with receiving(handle) as receiver, sending() as sender:
        for count in range(1, 4):
            assert (await send(sender, endpoint(receiver.port))).is_success
            await closed.wait()
            closed.clear()
            # Both ends live on this loop: once the next connection is up, the end of the former one has been seen.
            _, probe = await asyncio.open_connection("127.0.0.1", receiver.port)
            probe.close()
            await probe.wait_closed()
            assert receiver.connections >= count


@on_both_loops
async def test_connections_without_work_are_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "IDLE_S", 0.05)
    async with receiving(answering(OK, OK)) as receiver, sending() as sender:
        assert (await send(sender, endpoint(receiver.port))).is_success
        await receiver.ended.wait()


@on_both_loops
async def test_forgetting_an_endpoint_and_closing_end_its_connections() -> None:
    async with receiving(answering(OK, OK, OK)) as receiver, sending() as sender:
        assert (await send(sender, endpoint(receiver.port))).is_success
        await sender.forget("1/backend")
        await receiver.ended.wait()
        receiver.ended.clear()
        assert (await send(sender, endpoint(receiver.port))).is_success
        await sender.close()
        await receiver.ended.wait()
        assert (await send(sender, endpoint(receiver.port))).stage is Stage.REFUSED
        await sender.close()


@on_both_loops
async def test_a_connection_in_use_ends_with_its_request_once_the_endpoint_is_forgotten() -> None:
    read, forgotten = asyncio.Event(), asyncio.Event()

    async def handle(receiver: Receiver, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await receiver.read_request(reader)
        read.set()
        await forgotten.wait()
        writer.write(OK)
        await reader.read()

    async with receiving(handle) as receiver, sending() as sender:
        task = asyncio.create_task(send(sender, endpoint(receiver.port)))
        await read.wait()
        await sender.forget("1/backend")
        forgotten.set()
        assert (await task).is_success
        await receiver.ended.wait()


@on_both_loops
async def test_a_changed_url_is_heeded_at_once() -> None:
    async with receiving(answering(OK)) as first, receiving(answering(OK)) as second, sending() as sender:
        assert (await send(sender, endpoint(first.port))).is_success
        assert (await send(sender, endpoint(second.port))).is_success
        assert (len(first.requests), len(second.requests)) == (1, 1)


@on_both_loops
async def test_two_requests_to_a_changed_endpoint_share_its_connections_and_leave_none_behind(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sessions: list[aiohttp.ClientSession] = []

    def made(**options: Any) -> aiohttp.ClientSession:
        sessions.append(aiohttp.ClientSession(**options))
        return sessions[-1]

    monkeypatch.setattr(module, "ClientSession", made)
    async with receiving(answering(OK)) as first, receiving(answering(OK, OK)) as second, sending() as sender:
        assert (await send(sender, endpoint(first.port))).is_success
        changed = endpoint(second.port)
        outcomes = await asyncio.gather(send(sender, changed), send(sender, changed))
        assert [outcome.is_success for outcome in outcomes] == [True, True]
        assert len(sessions) == 2
        assert sessions[0].closed
        await sender.close()
    assert all(session.closed for session in sessions)


# -- what comes back


@on_both_loops
@pytest.mark.parametrize("status", [204, 400, 404, 410, 413, 429, 500, 503, 999])
async def test_the_status_is_what_the_receiver_said(status: int) -> None:
    async with (
        receiving(answering(b"HTTP/1.1 %d Whatever\r\nContent-Length: 0\r\n\r\n" % status)) as receiver,
        sending() as sender,
    ):
        outcome = await send(sender, endpoint(receiver.port))
        assert (outcome.stage, outcome.status) == (Stage.ANSWERED, status)
        assert outcome.is_success == (status == 204)


@on_both_loops
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_not_followed(status: int) -> None:
    async with receiving(answering(OK)) as elsewhere:
        location = f"http://127.0.0.1:{elsewhere.port}/".encode()
        answer = b"HTTP/1.1 %d Moved\r\nLocation: %b\r\nContent-Length: 0\r\n\r\n" % (status, location)
        async with receiving(answering(answer, OK)) as receiver, sending() as sender:
            outcome = await send(sender, endpoint(receiver.port))
            assert (outcome.stage, outcome.status, outcome.is_success) == (Stage.ANSWERED, status, False)
            assert (await send(sender, endpoint(receiver.port))).is_success
            assert elsewhere.connections == 0
            assert all(request.startswith(b"POST ") for request in receiver.requests)


@on_both_loops
@pytest.mark.parametrize(
    ("value", "seconds"), [("30", 30.0), ("0", 0.0), ("-5", None), ("abc", None), ("1e9", None), ("30\r\nRetry-After: 60", None)]
)
async def test_retry_after_in_seconds(value: str, seconds: float | None) -> None:
    answer = f"HTTP/1.1 503 x\r\nRetry-After: {value}\r\nContent-Length: 0\r\n\r\n".encode()
    async with receiving(answering(answer)) as receiver, sending() as sender:
        assert (await send(sender, endpoint(receiver.port))).retry_after_s == seconds


@on_both_loops
async def test_retry_after_as_a_date() -> None:
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=20), usegmt=True)
    answer = f"HTTP/1.1 429 x\r\nRetry-After: {date}\r\nContent-Length: 0\r\n\r\n".encode()
    async with receiving(answering(answer)) as receiver, sending() as sender:
        wish = (await send(sender, endpoint(receiver.port))).retry_after_s
        assert wish is not None
        assert 15 < wish <= 20


@on_both_loops
async def test_an_answer_before_the_whole_request_was_read_counts() -> None:
    async def handle(receiver: Receiver, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
        receiver.requests.append(await reader.read())  # until the sender hangs up, as it must

    async with receiving(handle) as receiver, sending() as sender:
        assert (await send(sender, endpoint(receiver.port), b"x" * 50_000_000)).status == 413
        await receiver.ended.wait()
        assert len(receiver.requests[0]) < 25_000_000  # nor does it send the rest of what nobody wants


@on_both_loops
async def test_an_answer_without_length_ends_with_the_connection() -> None:
    async def handle(receiver: Receiver, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await receiver.read_request(reader)
        writer.write(b"HTTP/1.0 200 OK\r\n\r\ndone")
        await writer.drain()
        writer.write_eof()
        await reader.read()

    async with receiving(handle) as receiver, sending() as sender:
        outcome = await send(sender, endpoint(receiver.port))
        assert (outcome.status, outcome.body) == (200, b"done")


# -- receivers that flood, drip or never end


@on_both_loops
@pytest.mark.parametrize(
    ("start", "unit"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 65_536),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1073741824\r\n\r\n", b"x" * 65_536),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"10000\r\n" + b"x" * 65_536 + b"\r\n"),
        (b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n\x1f\x8b\x08\0\0\0\0\0\0\xff", b"\xec\xc1\x01\x01" * 16_384),
    ],
    ids=["stream", "length", "chunks", "gzip"],
)
async def test_a_flood_is_cut_and_the_connection_really_ends(start: bytes, unit: bytes) -> None:
    async with receiving(flooding(start, unit)) as receiver, sending() as sender:
        outcome = await send(sender, endpoint(receiver.port))
        assert outcome.is_success
        assert len(outcome.body) == 4096
        await receiver.ended.wait()
        assert receiver.flooded < MOST_FLOODED


@on_both_loops
@pytest.mark.parametrize(
    ("start", "unit"),
    [
        (b"HTTP/1.1 200 OK\r\nX: ", b"y" * 65_536),
        (b"HTTP/1.1 200 OK\r\n", b"X: y\r\n" * 10_000),
    ],
    ids=["line", "lines"],
)
async def test_a_flood_of_header_fails_at_once(start: bytes, unit: bytes) -> None:
    async with receiving(flooding(start, unit)) as receiver, sending() as sender:
        outcome = await send(sender, endpoint(receiver.port))
        assert (outcome.stage, outcome.status) == (Stage.PROTOCOL, None)
        assert "header" in outcome.error
        await receiver.ended.wait()
        assert receiver.flooded < MOST_FLOODED


INTERIM = b"HTTP/1.1 100 Continue\r\n\r\n"


@on_both_loops
@pytest.mark.parametrize(
    "unit", [INTERIM * 2_000, b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n" * 1_000]
)
async def test_a_flood_of_interim_answers_fails_at_once(unit: bytes) -> None:
    async with receiving(flooding(b"", unit)) as receiver, sending() as sender:
        outcome = await send(sender, endpoint(receiver.port))
        assert (outcome.stage, outcome.status) == (Stage.PROTOCOL, None)
        assert "before an answer" in outcome.error
        await receiver.ended.wait()
        assert receiver.flooded < MOST_FLOODED


@on_both_loops
async def test_a_few_interim_answers_before_each_answer_are_passed_over() -> None:
    answer = INTERIM * 100 + OK
    count = MOST_RECEIVED // len(answer) + 2
    async with receiving(answering(*[answer] * count)) as receiver, sending() as sender:
        for _ in range(count):
            assert (await send(sender, endpoint(receiver.port))).is_success
        assert receiver.connections == 1, "what is counted is what one attempt receives"


@on_both_loops
async def test_a_flood_on_a_connection_without_work_ends_it() -> None:
    idle = asyncio.Event()

    async def handle(receiver: Receiver, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await receiver.read_request(reader)
        writer.write(OK)
        await idle.wait()
        await flood(receiver, writer, b"", INTERIM * 2_000)

    async with receiving(handle) as receiver, sending() as sender:
        assert (await send(sender, endpoint(receiver.port))).is_success
        idle.set()
        await receiver.ended.wait()
        assert receiver.flooded < MOST_FLOODED


@on_both_loops
@pytest.mark.parametrize("head", [b"HTTP/1.1 200 OK\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"])
async def test_a_dripping_body_costs_a_moment_and_the_status_decides(monkeypatch: pytest.MonkeyPatch, head: bytes) -> None:
    monkeypatch.setattr(module, "BODY_PATIENCE_S", 0.1)

    async def handle(receiver: Receiver, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await receiver.read_request(reader)
        writer.write(head)
        while True:
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.01)

    async with receiving(handle) as receiver, sending() as sender:
        outcome = await send(sender, endpoint(receiver.port, timeout_s=LONG_S))
        assert outcome.is_success
        assert outcome.body.strip(b"x") == b""
        assert outcome.latency_ms < LONG_S / 2 * 1000
        await receiver.ended.wait()


@on_both_loops
async def test_a_status_that_came_in_time_counts_though_the_time_is_up_within_the_body() -> None:
    async def handle(receiver: Receiver, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await receiver.read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhal")
        await reader.read()

    async with receiving(handle) as receiver, sending() as sender:
        outcome = await send(sender, endpoint(receiver.port, timeout_s=1.0))
        assert (outcome.status, outcome.body) == (200, b"hal")


@on_both_loops
@pytest.mark.parametrize(
    "answer", [b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 100 Continue\r\n\r\n"], ids=["silence", "line", "interim"]
)
async def test_a_receiver_that_does_not_answer_costs_its_timeout(answer: bytes) -> None:
    async def handle(receiver: Receiver, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await receiver.read_request(reader)
        writer.write(answer)
        await reader.read()

    async with receiving(handle) as receiver, sending() as sender:
        outcome = await send(sender, endpoint(receiver.port, timeout_s=0.2))
        assert (outcome.stage, outcome.status) == (Stage.TIMEOUT, None)
        assert "0.2 s" in outcome.error
        assert 190 < outcome.latency_ms < LONG_S / 2 * 1000
        await receiver.ended.wait()


@on_both_loops
async def test_a_receiver_that_accepts_nothing_costs_its_timeout() -> None:
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        port = full.getsockname()[1]
        # One connection more than the queue holds, or the next would still get in.
        waiting = []
        for _ in range(3):
            waiting.append(socket.socket())
            waiting[-1].setblocking(False)
            waiting[-1].connect_ex(("127.0.0.1", port))
        async with sending() as sender:
            outcome = await send(sender, endpoint(port, timeout_s=0.2))
            assert outcome.stage is Stage.TIMEOUT
            assert outcome.error == "no answer within 0.2 s"
        for held in waiting:
            held.close()


@on_both_loops
async def test_cancelling_ends_the_connection() -> None:
    read = asyncio.Event()

    async def handle(receiver: Receiver, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await receiver.read_request(reader)
        read.set()
        await reader.read()

    async with receiving(handle) as receiver, sending() as sender:
        task = asyncio.create_task(send(sender, endpoint(receiver.port)))
        await read.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await receiver.ended.wait()


# -- where an attempt fails


@on_both_loops
async def test_stage_connect() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        async with sending() as sender:
            outcome = await send(sender, endpoint(port))
    assert outcome.stage is Stage.CONNECT
    assert outcome.error.startswith(f"cannot connect to 127.0.0.1:{port}: ")


@on_both_loops
@pytest.mark.parametrize("cut", ["eof", "reset"])
async def test_stage_send(cut: str) -> None:
    async def handle(receiver: Receiver, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await receiver.read_request(reader)
        if cut == "eof":
            writer.write_eof()
            await reader.read()
        else:
            raw = writer.get_extra_info("socket")
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            writer.transport.abort()

    async with receiving(handle) as receiver, sending() as sender:
        outcome = await send(sender, endpoint(receiver.port))
        assert (outcome.stage, outcome.status) == (Stage.SEND, None)
        assert outcome.error


@on_both_loops
async def test_a_receiver_that_resets_whoever_connects() -> None:
    async def handle(receiver: Receiver, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")

    async with receiving(handle) as receiver, sending() as sender:
        for _ in range(20):
            outcome = await send(sender, endpoint(receiver.port))
            assert outcome.stage in (Stage.SEND, Stage.CONNECT)
            assert outcome.error
            assert "Error" not in outcome.error


@on_both_loops
async def test_stage_protocol() -> None:
    async with receiving(answering(b"SSH-2.0-OpenSSH_9.2\r\n")) as receiver, sending() as sender:
        outcome = await send(sender, endpoint(receiver.port))
        assert (outcome.stage, outcome.status) == (Stage.PROTOCOL, None)


@on_both_loops
async def test_stage_tls_where_the_receiver_speaks_none() -> None:
    async def handle(receiver: Receiver, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(10)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await writer.drain()

    async with receiving(handle) as receiver, sending() as sender:
        outcome = await send(sender, endpoint(0, url=f"https://127.0.0.1:{receiver.port}/"))
        assert (outcome.stage, outcome.status) == (Stage.TLS, None)
        assert outcome.error.startswith(f"no TLS with 127.0.0.1:{receiver.port}: ")


@on_both_loops
@pytest.mark.parametrize(
    ("name", "value"), [("X", "secret\r\nY: z"), ("X\n", "secret"), ("X", "\0secret"), ("X", "secret\udc80")]
)
async def test_a_header_that_cannot_be_sent_is_refused_and_not_quoted(name: str, value: str) -> None:
    async with receiving(answering(OK)) as receiver, sending() as sender:
        outcome = await sender.send(endpoint(receiver.port), {name: value}, b"{}")
        assert outcome.stage is Stage.REFUSED
        assert "secret" not in outcome.error
        assert receiver.connections == 0


# -- where nothing may go


@on_both_loops
@pytest.mark.parametrize(
    "host", ["169.254.169.254", "0.0.0.0", "[fe80::1]", "[::ffff:169.254.169.254]", "[fd00:ec2::254]", "[::]"]
)
async def test_a_forbidden_literal_is_refused(host: str) -> None:
    async with sending() as sender:
        outcome = await send(sender, endpoint(0, url=f"http://{host}:1/latest/meta-data"))
        assert (outcome.stage, outcome.status) == (Stage.REFUSED, None)
        assert "nothing may be sent there" in outcome.error


@on_both_loops
async def test_private_addresses_can_be_refused_too() -> None:
    async with receiving(answering(OK)) as receiver, sending(rules=AddressRules(private_allowed=False)) as sender:
        outcome = await send(sender, endpoint(receiver.port))
        assert outcome.stage is Stage.REFUSED
        assert receiver.connections == 0


class NameServer(asyncio.DatagramProtocol):
    """Answers questions for A records from a table; a name that is not in it gets no answer at all."""

    def __init__(self) -> None:
        self.addresses: dict[str, list[str]] = {}
        self.asked: list[str] = []
        self.unanswered = asyncio.Event()
        self.port = 0
        self._transport: Any = None

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, peer: Any) -> None:
        labels, at = [], 12
        while data[at]:
            labels.append(data[at + 1 : at + 1 + data[at]].decode())
            at += 1 + data[at]
        question = data[12 : at + 5]
        name = ".".join(labels).lower()
        self.asked.append(name)
        if name not in self.addresses:
            self.unanswered.set()
            return
        is_a = question[-4:-2] == b"\0\1"
        records = [b"\xc0\x0c\0\1\0\1\0\0\0\0\0\4" + socket.inet_aton(address) for address in self.addresses[name] if is_a]
        # No additional records: the question's own count of them, for EDNS, must not be repeated.
        head = data[:2] + b"\x85\x80\0\1" + len(records).to_bytes(2) + b"\0\0\0\0"
        self._transport.sendto(head + question + b"".join(records), peer)


@contextlib.asynccontextmanager
async def name_server(timeout_s: float = 0.3) -> AsyncIterator[tuple[NameServer, AsyncResolver]]:
    transport, server = await asyncio.get_running_loop().create_datagram_endpoint(NameServer, local_addr=("127.0.0.1", 0))
    server.port = transport.get_extra_info("sockname")[1]
    try:
        yield server, AsyncResolver(None, ["127.0.0.1"], udp_port=server.port, timeout=timeout_s, tries=2, lookups="b")
    finally:
        transport.close()
        await asyncio.sleep(0)


async def send_by_name(sender: HttpSender, to: Endpoint) -> tuple[Outcome, int]:
    """Attempt it until the name server could be asked, as a lane would; returns how many attempts it took as well.

    On a busy machine c-ares now and then says at once that no server can be contacted, although it listens.
    """
    attempts = 1
    while (outcome := await send(sender, to)).stage is Stage.DNS and attempts < 3:
        attempts += 1
    return outcome, attempts


@on_both_loops
async def test_a_name_is_looked_up_and_the_host_header_names_it() -> None:
    async with name_server() as (names, resolver), receiving(answering(OK)) as receiver, sending(resolver=resolver) as sender:
        names.addresses["hooks.test"] = ["127.0.0.1"]
        outcome, _ = await send_by_name(sender, endpoint(0, url=f"http://Hooks.Test:{receiver.port}/"))
        assert outcome.is_success
        assert f"Host: hooks.test:{receiver.port}\r\n".encode() in receiver.requests[0]


@on_both_loops
async def test_a_name_that_leads_where_nothing_may_go_is_refused() -> None:
    async with name_server() as (names, resolver), sending(resolver=resolver) as sender:
        names.addresses["hooks.test"] = ["169.254.169.254"]
        outcome, _ = await send_by_name(sender, endpoint(0, url="http://hooks.test/"))
        assert outcome.stage is Stage.REFUSED
        assert "169.254.169.254" in outcome.error


@on_both_loops
async def test_of_several_addresses_only_the_allowed_ones_are_used_from_one_look_up() -> None:
    async with name_server() as (names, resolver), receiving(answering(OK)) as receiver, sending(resolver=resolver) as sender:
        names.addresses["hooks.test"] = ["169.254.169.254", "127.0.0.1"]
        outcome, attempts = await send_by_name(sender, endpoint(0, url=f"http://hooks.test:{receiver.port}/"))
        assert outcome.is_success
        assert names.asked.count("hooks.test") <= 2 * attempts  # one question for each address family


@on_both_loops
async def test_a_name_that_does_not_exist() -> None:
    async with name_server() as (names, resolver), sending(resolver=resolver) as sender:
        names.addresses["hooks.test"] = []
        outcome = await send(sender, endpoint(0, url="http://hooks.test/"))
        assert outcome.stage is Stage.DNS
        assert outcome.error.startswith("cannot resolve hooks.test: ")


@on_both_loops
async def test_a_hanging_name_server_holds_up_nobody_and_takes_no_threads() -> None:
    async with (
        name_server(3.0) as (names, resolver),
        receiving(answering(*[OK] * 9)) as receiver,
        sending(resolver=resolver) as sender,
    ):
        names.addresses["good.test"] = ["127.0.0.1"]
        good = endpoint(0, name="good", url=f"http://good.test:{receiver.port}/")
        assert (await send_by_name(sender, good))[0].is_success
        await sender.forget(good.key)

        def bad(number: int) -> Endpoint:
            return endpoint(0, name=f"bad{number}", url=f"http://bad{number}.test:{receiver.port}/", timeout_s=2.0)

        threads = threading.active_count()
        hanging = [asyncio.create_task(send(sender, bad(n))) for n in range(40)]
        await names.unanswered.wait()
        assert (await send_by_name(sender, good))[0].is_success
        assert not any(task.done() for task in hanging)
        assert threading.active_count() <= threads
        for outcome in await asyncio.gather(*hanging):
            assert outcome.stage in (Stage.TIMEOUT, Stage.DNS)
            assert not outcome.is_success
        # Once the names resolve again, so do the attempts.
        names.addresses["bad1.test"] = ["127.0.0.1"]
        while not (await send(sender, bad(1))).is_success:
            pass  # joined a look-up that was still hanging: bounded by the time every test here has


# -- over TLS


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("openssl") is None:
        pytest.skip("needs the openssl command to make a certificate")
    folder = tmp_path_factory.mktemp("tls")
    subprocess.run(
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout key.pem -out cert.pem -days 2"
        " -subj /CN=localhost -addext subjectAltName=DNS:localhost,IP:127.0.0.1".split(),
        cwd=folder,
        check=True,
        capture_output=True,
    )
    return folder


def server_tls(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate / "cert.pem", certificate / "key.pem")
    return context


def client_tls(certificate: Path) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(certificate / "cert.pem"))


@on_both_loops
async def test_https(certificate: Path) -> None:
    async with (
        receiving(answering(OK, OK), tls=server_tls(certificate)) as receiver,
        sending(tls=client_tls(certificate)) as sender,
    ):
        to = endpoint(0, url=f"https://127.0.0.1:{receiver.port}/")
        assert (await send(sender, to)).is_success
        assert (await send(sender, to)).is_success
        assert receiver.connections == 1


@on_both_loops
async def test_a_certificate_nobody_vouches_for_is_not_accepted(certificate: Path) -> None:
    async with receiving(answering(OK), tls=server_tls(certificate)) as receiver, sending() as sender:
        outcome = await send(sender, endpoint(0, url=f"https://127.0.0.1:{receiver.port}/"))
        assert outcome.stage is Stage.TLS
        assert "certificate not accepted" in outcome.error
        assert receiver.requests == []


@on_both_loops
async def test_a_flood_over_tls_is_cut_too(certificate: Path) -> None:
    flooder = flooding(b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 65_536)
    async with receiving(flooder, tls=server_tls(certificate)) as receiver, sending(tls=client_tls(certificate)) as sender:
        outcome = await send(sender, endpoint(0, url=f"https://127.0.0.1:{receiver.port}/"))
        assert outcome.is_success
        await receiver.ended.wait()
        assert receiver.flooded < MOST_FLOODED


@on_both_loops
async def test_a_flood_of_interim_answers_over_tls_fails_at_once_too(certificate: Path) -> None:
    flooder = flooding(b"", INTERIM * 2_000)
    async with receiving(flooder, tls=server_tls(certificate)) as receiver, sending(tls=client_tls(certificate)) as sender:
        outcome = await send(sender, endpoint(0, url=f"https://127.0.0.1:{receiver.port}/"))
        assert outcome.stage is Stage.PROTOCOL
        await receiver.ended.wait()
        assert receiver.flooded < MOST_FLOODED
