"""The one listening port: who is let in, who is handed on, who is turned away; on both event loops."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import ssl
from collections.abc import Callable
from ipaddress import ip_network
from typing import Any, cast

import pytest
from aiohttp import web

from gateway.node import Handshake
from gateway.transport.connection import Connection
from gateway.transport.door import Door
from tests.device.front_kit import (
    CLOSE,
    GREETING,
    TEXT,
    FakeNode,
    House,
    Peer,
    close_payload,
    house,
    on_both_loops,
    request,
    tls_contexts,
    wire,
)


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    return tls_contexts(tmp_path_factory.mktemp("tls"))


async def _answer(incoming: web.BaseRequest) -> web.Response:
    body = await incoming.read()
    return web.Response(text=f"{incoming.method} {incoming.path_qs} {len(body)}")


def http() -> Callable[[], asyncio.Protocol]:
    return web.Server(_answer, access_log=None)


async def read_answer(peer: Peer) -> tuple[int, bytes]:
    """Return status and body of an HTTP answer that has a length."""
    head = await peer.head()
    size = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
    return int(head.split()[1]), await peer.reader.readexactly(size)


# -- let in ----------------------------------------------------------------------------------------------------------------


@on_both_loops
async def test_an_upgrade_is_answered_and_the_node_greets() -> None:
    async with house() as home:
        peer = await home.dial()
        head = await peer.upgrade(
            "/app/key?protocol=7&client=js&version=8.6.0&flash=false", Origin="https://shop.test", User_Agent="test/1"
        )
        assert head.startswith(b"HTTP/1.1 101 Switching Protocols\r\n")
        assert b"\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n" in head
        assert await peer.text() == GREETING
        assert home.node.lives[0].handshake == Handshake("key", "7", "js", "8.6.0", "https://shop.test", "test/1", "127.0.0.1")


@pytest.mark.parametrize(
    "changed",
    [
        {"Connection": "keep-alive, Upgrade"},
        {"Upgrade": "WebSocket"},
        {"Sec_WebSocket_Version": "8, 13"},
        {"Sec_WebSocket_Protocol": "pusher-channels-protocol-7"},
        {"Sec_WebSocket_Protocol": "a, b"},
        {"Sec_WebSocket_Protocol": "null"},
        {"Sec_WebSocket_Protocol": ""},
        {"Sec_WebSocket_Protocol": ", ".join(f"p{number}" for number in range(100))},
        {"Sec_WebSocket_Protocol": "\udcff"},
        {"Sec_WebSocket_Extensions": "permessage-deflate; client_max_window_bits"},
        {"Sec_WebSocket_Extensions": ";;"},
        {"Origin": "null"},
        {"Origin": "capacitor://localhost"},
        {"Host": None},
        {"X_Odd": "\udcc3( \udce9 \t 😀"},
        {"User_Agent": "x" * 9_000},
    ],
)
@on_both_loops
async def test_whatever_is_offered_the_upgrade_is_completed_and_nothing_selected(changed: dict[str, Any]) -> None:
    async with house() as home:
        peer = await home.dial()
        head = await peer.upgrade(**changed)
        assert head.startswith(b"HTTP/1.1 101 ")
        assert b"sec-websocket-protocol" not in head.lower()
        assert b"sec-websocket-extensions" not in head.lower()
        assert await peer.text() == GREETING


@pytest.mark.parametrize(
    "target",
    [
        "/app/key",
        "/app/key/",
        "/app/key?",
        "/rt/app/key?protocol=7",
        "/rt/app/key/?x=1",
        "/app/%6Bey",
        "/app/key?version=" + "x" * 10_000,
    ],
)
@on_both_loops
async def test_targets_that_lead_to_the_app(target: str) -> None:
    async with house(path_prefix="/rt/") as home:
        peer = await home.dial()
        assert (await peer.upgrade(target)).startswith(b"HTTP/1.1 101 ")
        assert await peer.text() == GREETING


@pytest.mark.parametrize("key", ["KEY", "", "key%20", "..", "key/more", "%FF", "%00", "%ED%A0%80", "x" * 1000])
@on_both_loops
async def test_an_unknown_key_is_upgraded_too_and_refused_by_the_node(key: str) -> None:
    async with house() as home:
        peer = await home.dial()
        assert (await peer.upgrade(f"/app/{key}?protocol=7")).startswith(b"HTTP/1.1 101 ")
        assert await peer.text() == "refused"
        assert await peer.frame() == (CLOSE, close_payload(4001, b"no app has this key"))
        peer.writer.write(wire(TEXT, "but") + wire(CLOSE, close_payload(4001)))
        assert await peer.rest() == b""
        assert home.node.lives == []
        home.node.refused[0].key.encode()


@pytest.mark.parametrize("odd", ["\udcff", "\udcc3(", "😀", "a\tb"])
@on_both_loops
async def test_odd_bytes_in_header_fields_become_valid_text(odd: str) -> None:
    async with house() as home:
        peer = await home.dial()
        await peer.upgrade("/app/key?client=%FF&version=%00", Origin=odd, User_Agent=odd, X_Forwarded_For=odd)
        assert await peer.text() == GREETING
        handshake = home.node.lives[0].handshake
        for text in (handshake.origin, handshake.user_agent, handshake.client, handshake.version):
            assert text is not None
            text.encode()
            assert text.isprintable()


@on_both_loops
async def test_frames_in_the_same_packet_as_the_request_are_read_after_the_greeting() -> None:
    async with house() as home:
        home.node.on_text = lambda live, text: home.node.offer(live, text)
        peer = await home.dial()
        peer.writer.write(request() + wire(TEXT, "at once") + wire(TEXT, "and more")[:5])
        await peer.head()
        assert await peer.text() == GREETING
        assert await peer.text() == "at once"
        peer.writer.write(wire(TEXT, "and more")[5:])
        assert await peer.text() == "and more"


@on_both_loops
async def test_a_request_may_come_byte_by_byte() -> None:
    async with house() as home:
        peer = await home.dial()
        for byte in request() + wire(TEXT, "hi"):
            peer.writer.write(bytes([byte]))
            await peer.writer.drain()
            await asyncio.sleep(0)
        assert (await peer.head()).startswith(b"HTTP/1.1 101 ")
        assert await peer.text() == GREETING
        assert (await home.node.received.get())[1] == "hi"


@on_both_loops
async def test_a_request_may_be_cut_anywhere() -> None:
    whole = request()
    cuts = [1, 3, whole.index(b"\r\n") + 1, len(whole) - 3, len(whole) - 2, len(whole) - 1]
    async with house() as home:
        for cut in cuts:
            peer = await home.dial()
            peer.writer.write(whole[:cut])
            # Another one is served in between, so the first part has been read by itself.
            await home.join()
            peer.writer.write(whole[cut:])
            assert (await peer.head()).startswith(b"HTTP/1.1 101 ")


@on_both_loops
async def test_the_address_behind_a_trusted_proxy() -> None:
    async with house(trusted_proxies=[ip_network("127.0.0.0/8")]) as home:
        peer = await home.dial()
        peer.writer.write(request(X_Forwarded_For="6.6.6.6").replace(b"\r\n\r\n", b"\r\nx-forwarded-for: 203.0.113.9\r\n\r\n"))
        await peer.head()
        assert home.node.lives[0].handshake.remote_ip == "203.0.113.9"
    async with house() as home:
        peer = await home.dial()
        await peer.upgrade(X_Forwarded_For="203.0.113.9", X_Real_IP="203.0.113.9", Forwarded="for=203.0.113.9")
        assert home.node.lives[0].handshake.remote_ip == "127.0.0.1"


# -- handed on -------------------------------------------------------------------------------------------------------------


@on_both_loops
async def test_everything_else_in_http_is_handed_on_with_all_that_was_read() -> None:
    async with house(http()) as home:
        peer = await home.dial()
        post = b"POST /apps/1001/events?x=1 HTTP/1.1\r\nHost: a\r\nContent-Length: 200000\r\n\r\n"
        peer.writer.write(post[:30])
        await home.dial()
        peer.writer.write(post[30:] + b"x" * 100_000)
        peer.writer.write(b"x" * 100_000 + b"GET /second HTTP/1.1\r\nHost: a\r\n\r\n")
        assert await read_answer(peer) == (200, b"POST /apps/1001/events?x=1 200000")
        assert await read_answer(peer) == (200, b"GET /second 0")
        # it is out of the front's hands now, and out of its time
        home.tick(30)
        peer.writer.write(b"GET /third HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        assert await read_answer(peer) == (200, b"GET /third 0")
        assert await peer.rest() == b""


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /app/key HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /app/key HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
        request("/elsewhere"),
        request("/app"),
        request("/apps/key"),
        request("/other/app/key"),
        request().replace(b"HTTP/1.1", b"HTTP/1.0"),
        b"GET / HTTP/1.1\r\n\r\n",
    ],
)
@on_both_loops
async def test_what_is_no_upgrade_of_an_app_is_plain_http(data: bytes) -> None:
    async with house(http()) as home:
        peer = await home.dial()
        peer.writer.write(data)
        assert (await peer.head()).split()[1] in (b"200", b"400")
        assert home.node.lives == []


class Borrower(asyncio.Protocol):
    """Answers one request with a word, and gives the connection back at the next."""

    def __init__(self, home: House) -> None:
        self.home = home
        self.transport: asyncio.Transport | None = None
        self.has_answered = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        assert self.transport is not None
        if self.has_answered:
            self.home.front.take_back(self.transport, data)
        else:
            self.has_answered = True
            self.transport.write(b"HTTP/1.1 200 OK\r\n\r\n")


@on_both_loops
async def test_what_was_handed_on_can_be_given_back() -> None:
    homes: list[House] = []
    async with house(lambda: Borrower(homes[0])) as home:
        homes.append(home)
        for first, second, answer in (
            (b"GET /x HTTP/1.1\r\n\r\n", request(), b"101"),
            (b"GET /x HTTP/1.1\r\n\r\n", b"nonsense\r\n", b"400"),
            (b"GET /x HTTP/1.1\r\n\r\n", b"GET /y HTTP/1.1\r\n\r\n", b"200"),
        ):
            peer = await home.dial()
            peer.writer.write(first)
            assert (await peer.head()).split()[1] == b"200"
            peer.writer.write(second)
            assert (await peer.head()).split()[1] == answer
        (live,) = home.node.lives
        assert live.handshake.remote_ip == "127.0.0.1"
        # It has its time for a head, like one that has just come.
        late = await home.dial()
        late.writer.write(b"GET /x HTTP/1.1\r\n\r\n")
        await late.head()
        late.writer.write(b"GET /app/key")
        await home.dial()
        home.tick(30)
        assert (await late.head()).split()[1] == b"408"


@on_both_loops
async def test_what_is_given_back_after_closing_is_cut() -> None:
    homes: list[House] = []
    async with house(lambda: Borrower(homes[0])) as home:
        homes.append(home)
        peer = await home.dial()
        peer.writer.write(b"GET /x HTTP/1.1\r\n\r\n")
        await peer.head()
        await home.front.close()
        peer.writer.write(request())
        assert await peer.rest() == b""
        assert home.node.lives == []


@on_both_loops
async def test_the_node_is_told_whether_the_line_is_secure(tls: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    async with house(tls=tls[0]) as home:
        peer = await home.dial(tls=tls[1])
        await peer.upgrade()
        assert home.node.lives[0].handshake.is_secure
    async with house() as home:
        peer = await home.dial()
        await peer.upgrade(X_Forwarded_Proto="https")
        assert not home.node.lives[0].handshake.is_secure, "nobody said that this peer is a proxy"


@on_both_loops
async def test_http_over_tls(tls: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    async with house(http(), tls=tls[0]) as home:
        peer = await home.dial(tls=tls[1])
        peer.writer.write(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n" + b"x" * 100_000)
        assert await read_answer(peer) == (200, b"POST / 100000")


class Writer(asyncio.Protocol):
    """Writes a lot, as long as it is told that there is room."""

    def __init__(self) -> None:
        self.has_room = True
        self.was_full = asyncio.Event()
        self.transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        for _ in range(1000):
            if not self.has_room:
                break
            self.transport.write(b"x" * 100_000)

    def pause_writing(self) -> None:
        self.has_room = False
        self.was_full.set()

    def resume_writing(self) -> None:
        self.has_room = True
        asyncio.get_running_loop().call_soon(self.finish)

    def finish(self) -> None:
        self.transport.write(b"the end")
        self.transport.close()


@on_both_loops
async def test_flow_control_works_for_who_takes_over() -> None:
    writer = Writer()
    async with house(lambda: writer) as home:
        peer = await home.dial(receive_buffer=4096)
        peer.writer.write(b"GET / HTTP/1.1\r\n\r\n")
        await writer.was_full.wait()
        assert (await peer.rest()).endswith(b"xthe end")


# -- turned away -----------------------------------------------------------------------------------------------------------


GARBAGE = {
    "a TLS hello": bytes.fromhex("16030100f8010000f40303"),
    "a NUL": b"\x00",
    "line feeds only": b"GET /app/key HTTP/1.1\nHost: a\n\n",
    "two spaces": b"GET  /app/key HTTP/1.1\r\n",
    "HTTP/9.9": b"GET /app/key HTTP/9.9\r\n",
    "a lower-case method": b"get / HTTP/1.1\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "PROXY 1": b"PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\r\nGET / HTTP/1.1\r\n\r\n",
    "PROXY 2": b"\r\n\r\n\x00\r\nQUIT\n\x21\x11",
    "no colon": request().replace(b"Host: 127.0.0.1", b"Host"),
    "a NUL in a field": request().replace(b"127.0.0.1", b"\x00"),
    "a NUL in the line": b"GET /app/\x00 HTTP/1.1\r\n",
    "SSH": b"SSH-2.0-x\r\n",
}


@pytest.mark.parametrize("data", GARBAGE.values(), ids=GARBAGE.keys())
@on_both_loops
async def test_garbage_costs_its_sender_the_connection(data: bytes, caplog: pytest.LogCaptureFixture) -> None:
    async with house() as home:
        peer = await home.dial()
        peer.writer.write(data)
        answer = await peer.rest()
        assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\n")
        assert answer.count(b"HTTP/1.1") == 1
        peer.writer.close()
        await home.all_gone()
        assert home.node.lives == []
    assert caplog.records == []


@pytest.mark.parametrize(
    "data",
    [
        b"GET /" + b"a" * 100_000,
        b"GET / HTTP/1.1\r\nX: " + b"a" * 1_000_000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 10_000 + b"\r\n",
    ],
    ids=["line", "field", "fields"],
)
@on_both_loops
async def test_a_head_that_is_too_large_is_refused_even_to_who_goes_on_sending(data: bytes) -> None:
    async with house() as home:
        peer = await home.dial()
        peer.writer.write(data)
        await peer.writer.drain()
        assert (await peer.rest()).startswith(b"HTTP/1.1 431 ")


@on_both_loops
async def test_a_head_of_exactly_the_bound() -> None:
    async with house(max_head=400) as home:
        for spare, status in ((0, b"101"), (1, b"431")):
            missing = 400 + spare - len(request(X="")) + len(b"\r\n\r\n")
            peer = await home.dial()
            assert (await peer.upgrade(X="x" * missing)).split()[1] == status


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (request(Sec_WebSocket_Key=None), b"400"),
        (request(Sec_WebSocket_Key="c2hvcnQ="), b"400"),
        (request(Sec_WebSocket_Key="!"), b"400"),
        (request(Sec_WebSocket_Version=None), b"400"),
        (request(Sec_WebSocket_Version="8"), b"400"),
        (request(Connection="keep-alive"), b"426"),
        (request(Content_Length="5") + b"12345", b"400"),
        (request(Content_Length="-1"), b"400"),
        (request(Content_Length="abc"), b"400"),
        (request(Transfer_Encoding="chunked"), b"400"),
        (request().replace(b"GET", b"POST"), b"405"),
        (request("/app/\udce9", Sec_WebSocket_Version="8"), b"400"),
    ],
)
@on_both_loops
async def test_an_improper_upgrade_is_told_why(data: bytes, status: bytes, caplog: pytest.LogCaptureFixture) -> None:
    async with house() as home:
        peer = await home.dial()
        peer.writer.write(data)
        answer = await peer.rest()
        assert answer.split()[1] == status
        head, _, body = answer.partition(b"\r\n\r\n")
        assert b"\r\nContent-Type: application/json" in head
        assert list(json.loads(body)) == ["error"]
        assert answer.count(b"HTTP/1.1") == 1
        assert home.node.lives == []
    assert caplog.records == []


@on_both_loops
async def test_who_comes_and_goes_without_a_word_leaves_nothing_behind(caplog: pytest.LogCaptureFixture) -> None:
    async with house() as home:
        for number in range(200):
            peer = await home.dial()
            if number % 3 == 1:
                peer.writer.write(b"G")
            if number % 2:
                peer.reset()
            else:
                peer.writer.write_eof()
                assert await peer.rest() == b""
        await home.join()
        assert len(home.front.commons.wheel) == 1
    assert caplog.records == []


# -- time ------------------------------------------------------------------------------------------------------------------


@on_both_loops
async def test_a_request_has_its_time_in_all_not_per_byte() -> None:
    async with house(request_timeout_s=10) as home:
        silent, dripping = await home.dial(), await home.dial()
        slow, _ = await home.dial(), await home.join()
        lines = request().split(b"\r\n")
        for line in lines[:5]:
            home.tick(2)
            dripping.writer.write(line + b"\r\n")
            slow.writer.write(line + b"\r\n")
            await home.join()  # what was written has been read when somebody later has been served
        slow.writer.write(b"\r\n".join(lines[5:]))
        assert (await slow.head()).startswith(b"HTTP/1.1 101 ")
        home.tick()
        assert await silent.rest() == b""
        assert (await dripping.rest()).startswith(b"HTTP/1.1 408 ")
        dripping.writer.write(b"\r\n".join(lines[5:]))
        home.node.offer(home.node.lives[0], "the others are still there")
        home.tick(6)
        assert home.node.ended.empty()


@on_both_loops
async def test_who_does_not_go_when_refused_is_cut() -> None:
    async with house(close_timeout_s=5) as home:
        peer = await home.dial()
        peer.writer.write(b"\x00")
        assert (await peer.rest()).startswith(b"HTTP/1.1 400 ")
        home.tick(5)
        assert len(home.front.commons.wheel) == 1
        home.tick()
        await home.all_gone()


@on_both_loops
async def test_a_tls_handshake_has_its_time_too(tls: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    async with house(tls=tls[0], request_timeout_s=0.2) as home:
        silent, plain = await home.dial(), await home.dial()
        plain.writer.write(request())
        assert await silent.rest() == b""
        # a TLS alert, perhaps, but nothing of HTTP
        assert b"HTTP" not in await plain.rest()


# -- the port --------------------------------------------------------------------------------------------------------------


@on_both_loops
async def test_when_it_stops_listening_the_port_is_closed_and_who_is_in_stays() -> None:
    async with house() as home:
        home.node.on_text = lambda live, text: home.node.offer(live, text)
        peer, _ = await home.join()
        home.front.stop_listening()
        home.front.stop_listening()
        with pytest.raises(ConnectionRefusedError):
            await home.dial()
        peer.send(TEXT, "still here?")
        assert await peer.text() == "still here?"


@on_both_loops
async def test_several_ports_and_one_that_is_taken() -> None:
    async with house() as home:
        second = await home.front.listen("127.0.0.1", 0)
        assert second != home.port
        with pytest.raises(OSError, match=str(second)):
            await home.front.listen("127.0.0.1", second)
        home.port = second
        await home.join()


@on_both_loops
async def test_closing_cuts_those_in_the_door_as_well() -> None:
    async with house() as home:
        silent, halfway = await home.dial(), await home.dial()
        refused, _ = await home.dial(), await home.join()
        halfway.writer.write(b"GET ")
        refused.writer.write(b"\x00")
        await home.join()
        await home.front.close()
        for peer in (silent, halfway):
            assert await peer.rest() == b""
        await refused.rest()


@on_both_loops
async def test_who_was_accepted_just_before_the_end_is_not_let_in() -> None:
    async with house() as home:
        await home.front.close()
        ours, theirs = socket.socketpair()
        transport, _ = await asyncio.get_running_loop().connect_accepted_socket(
            lambda: Connection(home.front.commons, Door(home.front)), ours
        )
        theirs.setblocking(False)
        reader, writer = await asyncio.open_connection(sock=theirs)
        assert await Peer(reader, writer).rest() == b""
        assert transport.is_closing()
        assert not home.front.commons.wheel
        writer.close()


@on_both_loops
async def test_nothing_but_real_faults_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "rawpush")
    caplog.set_level(logging.DEBUG, "websockets")

    async def visit(home: House, data: bytes) -> None:
        peer = await home.dial()
        peer.writer.write(data)
        await peer.head()
        peer.reset()

    async with house() as home:
        for data in (request(), request("/app/other"), request(Sec_WebSocket_Version="8"), b"\x00"):
            await visit(home, data)
        await home.join()
    assert [record for record in caplog.records if record.name.startswith(("rawpush", "websockets"))] == []


def test_a_fake_node_is_strict() -> None:
    """The tests above lean on it: an end told twice must not go unnoticed."""
    node = FakeNode()
    live = type("Live", (), {"end": (1000, "client")})()
    with pytest.raises(AssertionError):
        node.lost(live, 1006, "again")
