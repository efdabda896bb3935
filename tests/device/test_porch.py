"""The PROXY protocol on real sockets: before plain requests and before TLS, in pieces, malformed, too late; on both loops."""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import ssl
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest

from gateway.transport import porch
from tests.device.front_kit import GREETING, TEXT, House, Peer, house, on_both_loops, request, tls_contexts
from tests.device.test_front import Borrower

TRUSTED = [ip_network("127.0.0.0/8")]
LINE = b"PROXY TCP4 203.0.113.9 192.0.2.1 56324 443\r\n"
BLOCK = (
    b"\r\n\r\n\0\r\nQUIT\n\x21\x21"
    + struct.pack("!H", 36 + 6)
    + ip_address("2001:db8::9").packed
    + ip_address("2001:db8::1").packed
    + b"\0\1\0\2"
    + b"\x04\0\x03abc"
)
LOCAL = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0"
CLIENTS = [(LINE, "203.0.113.9"), (BLOCK, "2001:db8::9"), (LOCAL, "127.0.0.1"), (b"PROXY UNKNOWN\r\n", "127.0.0.1")]


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    return tls_contexts(tmp_path_factory.mktemp("tls"))


@asynccontextmanager
async def proxied(**settings: Any) -> AsyncIterator[House]:
    async with house(**{"proxy_protocol": True, "trusted_proxies": TRUSTED, **settings}) as home:
        yield home


async def greeted(home: House, peer: Peer) -> str:
    """Take the answer to an upgrade and return the address the node was told."""
    assert (await peer.head()).startswith(b"HTTP/1.1 101 ")
    assert await peer.text() == GREETING
    return home.node.lives[-1].handshake.remote_ip


@pytest.mark.parametrize(("header", "client"), CLIENTS, ids=["1", "2", "local", "unknown"])
@on_both_loops
async def test_the_client_s_address_is_taken_from_the_header(header: bytes, client: str) -> None:
    async with proxied() as home:
        peer = await home.dial()
        peer.writer.write(header + request())
        assert await greeted(home, peer) == client
        peer.send(TEXT, "hello")
        assert (await home.node.received.get())[1] == "hello"


@pytest.mark.parametrize("header", [LINE, BLOCK], ids=["1", "2"])
@on_both_loops
async def test_a_header_may_be_cut_anywhere(header: bytes) -> None:
    async with proxied() as home:
        for cut in (1, 5, 12, 13, 16, len(header) - 1):
            peer = await home.dial()
            peer.writer.write(header[:cut])
            # Once this stranger is through, the piece has been seen.
            await settled(home)
            peer.writer.write(header[cut:] + request())
            assert await greeted(home, peer) in ("203.0.113.9", "2001:db8::9")


async def settled(home: House) -> None:
    """Return when the loop has seen everything that was sent before."""
    peer = await home.dial()
    peer.writer.write(LOCAL + request())
    await greeted(home, peer)


@pytest.mark.parametrize(("header", "client"), CLIENTS, ids=["1", "2", "local", "unknown"])
@on_both_loops
async def test_the_header_comes_before_tls(header: bytes, client: str, tls: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    async with proxied(tls=tls[0]) as home:
        peer = await home.dial()
        peer.writer.write(header)
        await peer.writer.start_tls(tls[1], server_hostname="localhost")
        peer.writer.write(request())
        assert await greeted(home, peer) == client
        assert home.node.lives[-1].handshake.is_secure
        peer.send(TEXT, "hello")
        assert (await home.node.received.get())[1] == "hello"


@on_both_loops
async def test_who_breaks_off_the_tls_handshake_is_forgotten(tls: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    async with proxied(tls=tls[0]) as home:
        for rest in (b"", b"\x16\x03\x01", b"GET / HTTP/1.1\r\n\r\n", LINE):
            peer = await home.dial()
            peer.writer.write(LINE + rest)
            peer.writer.write_eof()
            await peer.rest()
        await home.all_gone()


@on_both_loops
async def test_behind_it_stands_another_proxy_whose_word_counts() -> None:
    async with proxied() as home:
        peer = await home.dial()
        inner = b"PROXY TCP4 127.0.0.9 192.0.2.1 56324 443\r\n"
        peer.writer.write(inner + request(X_Forwarded_For="198.51.100.7", X_Forwarded_Proto="https"))
        assert await greeted(home, peer) == "198.51.100.7"
        assert home.node.lives[-1].handshake.is_secure
        peer = await home.dial()
        peer.writer.write(LINE + request(X_Forwarded_For="198.51.100.7", X_Forwarded_Proto="https"))
        assert await greeted(home, peer) == "203.0.113.9"
        assert not home.node.lives[-1].handshake.is_secure


@on_both_loops
async def test_strangers_come_without_a_header_and_one_of_theirs_is_garbage() -> None:
    async with proxied(trusted_proxies=[ip_network("10.0.0.0/8")]) as home:
        peer = await home.dial()
        peer.writer.write(request())
        assert await greeted(home, peer) == "127.0.0.1"
        peer = await home.dial()
        peer.writer.write(LINE + request())
        assert (await peer.rest()).startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize(
    "said", [b"GET /app/key HTTP/1.1\r\n", b"PROXY TCP4 x", b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff", b"\x16\x03"]
)
@on_both_loops
async def test_a_malformed_header_closes_the_line(said: bytes) -> None:
    async with proxied() as home:
        peer = await home.dial()
        peer.writer.write(said + b"\r\n")
        assert await peer.rest() == b""
        await home.all_gone()
        await settled(home)


@on_both_loops
async def test_a_header_has_its_time_in_all() -> None:
    async with proxied(request_timeout_s=10) as home:
        peer = await home.dial()
        for byte in LINE[:8]:
            peer.writer.write(bytes([byte]))
            await settled(home)
            home.tick()
        home.tick(3)
        assert await peer.rest() == b""


@on_both_loops
async def test_who_waits_for_more_of_a_header_does_not_keep_the_loop_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    reads = 0
    original = porch.read_header

    def counted(data: bytes) -> Any:
        nonlocal reads
        reads += 1
        return original(data)

    monkeypatch.setattr(porch, "read_header", counted)
    async with proxied() as home:
        peer = await home.dial()
        peer.writer.write(LINE[:20])
        for _ in range(5):
            await settled(home)
        assert reads <= 5 + 1


@on_both_loops
async def test_it_comes_and_goes_with_the_front(caplog: pytest.LogCaptureFixture) -> None:
    async with proxied() as home:
        waiting, silent = await home.dial(), await home.dial()
        waiting.writer.write(LINE[:10])
        await settled(home)
        home.front.stop_listening()
        with pytest.raises(ConnectionRefusedError):
            await home.dial()
        await home.front.close()
        assert await waiting.rest() == await silent.rest() == b""


@on_both_loops
async def test_without_descriptors_it_pauses_and_goes_on(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(porch, "_PAUSE_S", 0.01)
    failures = 0

    class Exhausted:
        """A listening socket of a process that has no descriptors left, twice."""

        def __init__(self, real: socket.socket) -> None:
            self.real = real
            self.fileno = real.fileno
            self.close = real.close

        def accept(self) -> Any:
            nonlocal failures
            failures += 1
            if failures <= 2:
                raise OSError(errno.EMFILE, "Too many open files")
            return self.real.accept()

    async with proxied() as home:
        [keeper] = home.front._servers
        assert isinstance(keeper, porch.Gatekeeper)
        asyncio.get_running_loop().remove_reader(keeper._socket)
        keeper._socket = Exhausted(keeper._socket)  # type: ignore[assignment]
        keeper._resume()
        await settled(home)
        assert failures >= 3
        assert [record.levelno for record in caplog.records if "turned away" in record.message] == [logging.WARNING]


@on_both_loops
async def test_on_a_unix_socket_it_is_required_too(tmp_path: Path) -> None:
    async with proxied(trusted_proxies=()) as home:
        path = str(tmp_path / "rawpush.sock")
        await home.front.listen_unix(path)
        for header, client in ((LINE, "203.0.113.9"), (LOCAL, "unix")):
            peer = Peer(*await asyncio.open_unix_connection(path))
            home.peers.append(peer)
            peer.writer.write(header + request())
            assert await greeted(home, peer) == client


@on_both_loops
async def test_it_is_still_known_when_the_http_side_gives_a_connection_back(
    tls: tuple[ssl.SSLContext, ssl.SSLContext], tmp_path: Path
) -> None:
    homes: list[House] = []

    async def asked(peer: Peer, home: House) -> str:
        home.peers.append(peer)
        peer.writer.write(b"GET /x HTTP/1.1\r\n\r\n")
        await peer.head()
        peer.writer.write(request())
        return await greeted(home, peer)

    for context in (None, tls[0]):
        async with proxied(http=lambda: Borrower(homes[-1]), tls=context) as home:
            homes.append(home)
            peer = await home.dial()
            peer.writer.write(LINE)
            if context is not None:
                await peer.writer.start_tls(tls[1], server_hostname="localhost")
            assert await asked(peer, home) == "203.0.113.9"
    async with house(http=lambda: Borrower(homes[-1])) as home:
        homes.append(home)
        await home.front.listen_unix(str(tmp_path / "s"))
        peer = Peer(*await asyncio.open_unix_connection(tmp_path / "s"))
        assert await asked(peer, home) == "unix"
