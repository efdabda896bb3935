"""What the tests of the transport share: a front with a fake node behind it, and a peer that speaks raw bytes."""

from __future__ import annotations

import asyncio
import functools
import inspect
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
import uvloop
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from gateway.core import frame
from gateway.core.app import App, Limits
from gateway.node import Handshake
from gateway.ports import Connection
from gateway.transport.front import Front
from tests.fake import FakeClock
from tests.patience import LONG_S

CONT, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10

LIMIT = 1_000
GREETING = "hello"

UPGRADE = {
    "Host": "127.0.0.1",
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}


def on_both_loops(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run an async test on uvloop and on plain asyncio, with a limit to how long it may hang."""

    @pytest.mark.parametrize("loop_factory", [uvloop.new_event_loop, asyncio.new_event_loop], ids=["uvloop", "asyncio"])
    @functools.wraps(test)
    def run(*itself: Any, loop_factory: Callable[[], asyncio.AbstractEventLoop], **arguments: Any) -> None:
        async def limited() -> None:
            async with asyncio.timeout(LONG_S):
                await test(*itself, **arguments)

        with asyncio.Runner(loop_factory=loop_factory) as runner:
            runner.run(limited())

    signature = inspect.signature(test)
    factory = inspect.Parameter("loop_factory", inspect.Parameter.KEYWORD_ONLY)
    run.__signature__ = signature.replace(parameters=[*signature.parameters.values(), factory])
    return run  # type: ignore[no-any-return]


@dataclass(eq=False)
class FakeLive:
    connection: Connection
    handshake: Handshake
    #: set by `kick`
    ending: tuple[int, str] | None = None
    #: what `lost` was told
    end: tuple[int, str] | None = None


class FakeNode:
    """Greets, keeps what it receives, and holds the transport to telling it of each end exactly once."""

    def __init__(self) -> None:
        self.app = App("1001", "key", "secret", limits=Limits(message=LIMIT))
        self.lives: list[FakeLive] = []
        self.refused: list[Handshake] = []
        self.received: asyncio.Queue[tuple[FakeLive, str]] = asyncio.Queue()
        self.ended: asyncio.Queue[FakeLive] = asyncio.Queue()
        self.on_text: Callable[[FakeLive, str], None] = lambda live, text: None
        self.is_busy = False

    def app_by_key(self, key: str) -> App | None:
        return self.app if key == self.app.key else None

    def open(self, handshake: Handshake, connection: Connection) -> FakeLive | None:
        if handshake.key != self.app.key:
            self.refused.append(handshake)
            connection.offer(frame.wire(b"refused"))
            connection.close(4001, "no app has this key")
            return None
        live = FakeLive(connection, handshake)
        self.lives.append(live)
        self.offer(live, GREETING)
        return live

    def receive(self, live: FakeLive, text: str) -> None:
        assert live.end is None, "received something after the end"
        self.received.put_nowait((live, text))
        self.on_text(live, text)

    def kick(self, live: FakeLive, code: int, sentence: str, reason: str) -> None:
        assert live.end is None, "kicked after the end"
        live.ending = (code, reason)
        self.offer(live, f"kicked {code}")
        self.close(live, code, sentence)

    def lost(self, live: FakeLive, code: int, reason: str) -> None:
        assert not self.is_busy, "told of an end from inside offer or close"
        assert live.end is None, "told twice of one end"
        live.end = (code, reason)
        self.ended.put_nowait(live)

    def offer(self, live: FakeLive, text: str | bytes) -> None:
        self.is_busy = True
        live.connection.offer(frame.wire(text.encode() if isinstance(text, str) else text))
        self.is_busy = False

    def close(self, live: FakeLive, code: int, reason: str) -> None:
        self.is_busy = True
        live.connection.close(code, reason)
        self.is_busy = False


class Peer:
    """The other end of a socket, one byte at a time if need be."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def upgrade(self, target: str = "/app/key?protocol=7", **fields: str | None) -> bytes:
        """Send an upgrade request and return the head of the answer; underscores stand for hyphens, None leaves one out."""
        self.writer.write(request(target, **fields))
        return await self.head()

    async def head(self) -> bytes:
        return await self.reader.readuntil(b"\r\n\r\n")

    def send(self, opcode: int, payload: str | bytes = b"", *, fin: bool = True) -> None:
        self.writer.write(wire(opcode, payload, fin=fin))

    async def frame(self) -> tuple[int, bytes]:
        first, second = await self.reader.readexactly(2)
        assert first & 0xF0 == 0x80, "servers here send whole frames without extensions"
        size = second
        if size == 126:
            (size,) = struct.unpack("!H", await self.reader.readexactly(2))
        elif size == 127:
            (size,) = struct.unpack("!Q", await self.reader.readexactly(8))
        return first & 0x0F, await self.reader.readexactly(size)

    async def text(self) -> str:
        opcode, payload = await self.frame()
        assert opcode == TEXT, (opcode, payload)
        return payload.decode()

    async def closing(self) -> int:
        """Return the code of the close frame that comes next, and see the line end after it."""
        opcode, payload = await self.frame()
        assert opcode == CLOSE, (opcode, payload)
        assert await self.rest() == b""
        return int.from_bytes(payload[:2], "big") if payload else 1005

    async def rest(self) -> bytes:
        """Return everything up to the end of the line, however it ends."""
        rest = b""
        try:
            while data := await self.reader.read(65_536):
                rest += data
        except ConnectionError:
            pass  # a reset is an end too
        return rest

    def reset(self) -> None:
        """Leave with RST."""
        raw: socket.socket = self.writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


class House:
    """A front, the node behind it, and time that stands still unless it is let run."""

    def __init__(self, node: FakeNode, front: Front, clock: FakeClock, port: int) -> None:
        self.node = node
        self.front = front
        self.clock = clock
        self.port = port
        self.peers: list[Peer] = []
        #: what the loop complained about
        self.faults: list[dict[str, Any]] = []

    async def dial(self, *, receive_buffer: int | None = None, tls: ssl.SSLContext | None = None) -> Peer:
        raw = socket.socket()
        raw.setblocking(False)
        if receive_buffer is not None:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        try:
            await asyncio.get_running_loop().sock_connect(raw, ("127.0.0.1", self.port))
        except OSError:
            raw.close()
            raise
        names: dict[str, Any] = {"ssl": tls, "server_hostname": "localhost"} if tls is not None else {}
        # A small limit, so that the reader stops reading the socket when the test does.
        reader, writer = await asyncio.open_connection(sock=raw, limit=65_536 if receive_buffer is None else 1_024, **names)
        self.peers.append(Peer(reader, writer))
        return self.peers[-1]

    async def join(self, **how: Any) -> tuple[Peer, FakeLive]:
        """Dial, upgrade and take the greeting."""
        peer = await self.dial(**how)
        assert (await peer.upgrade()).startswith(b"HTTP/1.1 101 ")
        assert await peer.text() == GREETING
        return peer, self.node.lives[-1]

    async def ended(self, live: FakeLive) -> tuple[int, str]:
        """Wait for the node to be told of this end, which must be the next one."""
        assert await self.node.ended.get() is live
        assert live.end is not None
        return live.end

    async def all_gone(self) -> None:
        """Wait until there is no socket left on the WebSocket side."""
        if self.front.commons.wheel:
            self.front.commons.gone = asyncio.Event()
            await self.front.commons.gone.wait()
            self.front.commons.gone = None

    def tick(self, beats: int = 1) -> None:
        """Let so many beats of a second pass."""
        for _ in range(beats):
            self.clock.move(1.0)
            self.front.tick()


@asynccontextmanager
async def house(
    http: Callable[[], asyncio.Protocol] | None = None, *, tls: ssl.SSLContext | None = None, **settings: Any
) -> AsyncIterator[House]:
    """Open a house; on the way out nothing may be left, and the loop must not have complained."""

    def no_http() -> asyncio.Protocol:
        raise AssertionError("this was not meant for the HTTP side")

    node, clock = FakeNode(), FakeClock()
    front = Front(node=node, clock=clock, http=http or no_http, **({"tick_s": 1.0} | settings))  # type: ignore[arg-type]
    home = House(node, front, clock, await front.listen("127.0.0.1", 0, tls))
    asyncio.get_running_loop().set_exception_handler(lambda _, context: home.faults.append(context))
    try:
        yield home
    finally:
        for peer in home.peers:
            peer.writer.transport.abort()
        await front.close()
        assert not front.commons.wheel
        # Whoever was let in has been taken leave of, and the fake has seen to it that this was done once.
        assert all(live.end is not None for live in node.lives)
        assert home.faults == [], home.faults


def request(target: str = "/app/key?protocol=7", **fields: str | None) -> bytes:
    merged: dict[str, str | None] = {**UPGRADE, **{name.replace("_", "-"): value for name, value in fields.items()}}
    lines = [f"GET {target} HTTP/1.1", *(f"{name}: {value}" for name, value in merged.items() if value is not None)]
    return "\r\n".join([*lines, "", ""]).encode("utf-8", "surrogateescape")


def wire(opcode: int, payload: str | bytes = b"", *, fin: bool = True, mask: bytes | None = b"\x01\x02\x03\x04") -> bytes:
    """Return a client's frame (RFC 6455 section 5.2); `opcode` may carry reserved bits."""
    data = payload.encode() if isinstance(payload, str) else payload
    size, flag = len(data), 0x80 if mask is not None else 0
    head = bytes([opcode | (0x80 if fin else 0)])
    if size < 126:
        head += bytes([flag | size])
    elif size < 65_536:
        head += struct.pack("!BH", flag | 126, size)
    else:
        head += struct.pack("!BQ", flag | 127, size)
    if mask is None:
        return head + data
    return head + mask + bytes(byte ^ mask[index % 4] for index, byte in enumerate(data))


def close_payload(code: int, reason: bytes = b"") -> bytes:
    return struct.pack("!H", code) + reason


def tls_contexts(folder: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Return a server's and a client's context that trust each other; files are put into the folder."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    names = x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1"))])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(names, critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = folder / "both.pem"
    pem.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(pem)
    return server, ssl.create_default_context(cafile=str(pem))


async def turn_is_over() -> None:
    """Return when what was offered in this turn of the loop has been written: it looks at the sockets once more before."""
    for _ in range(2):
        await asyncio.sleep(0)
