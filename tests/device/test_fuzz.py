"""Whatever is on the wire: frames judged by a second opinion, heads in any pieces, and noise on real sockets."""

from __future__ import annotations

import random
import struct
import zlib
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.node import Handshake
from gateway.transport.compressed import CompressedConnection
from gateway.transport.connection import Connection
from gateway.transport.deflate import Deflation
from gateway.transport.door import Door
from gateway.transport.front import Front
from tests.device.front_kit import (
    BINARY,
    CLOSE,
    CONT,
    LIMIT,
    PING,
    PONG,
    TEXT,
    FakeLive,
    FakeNode,
    house,
    on_both_loops,
    request,
    wire,
)
from tests.device.test_connection import FakeTransport, alone
from tests.fake import FakeClock

# -- frames ----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Said:
    """One frame as a client might write it, legal or not."""

    opcode: int
    payload: bytes = b""
    fin: bool = True
    reserved: int = 0
    is_masked: bool = True
    #: the length written in a longer form than it needs
    is_long: bool = False

    def wire(self) -> bytes:
        mask = b"\x9f\x00\xa5\x3c" if self.is_masked else None
        data = wire(self.opcode | self.reserved, self.payload, fin=self.fin, mask=mask)
        if not self.is_long or len(self.payload) >= 126:
            return data
        return data[:1] + struct.pack("!BQ", 0x80 * self.is_masked | 127, len(self.payload)) + data[2:]


class End(Exception):
    """The connection ends, with this code."""


class Opinion:
    """RFC 6455 and RFC 7692 once more, from frames instead of bytes: which texts are received, and how it ends."""

    def __init__(self, is_compressed: bool) -> None:
        self.is_compressed = is_compressed
        self.texts: list[str] = []
        self.pongs: list[bytes] = []
        self.code: int | None = None
        self.opcode = 0
        self.message: bytes | None = None
        self.inflator: Any = None

    def read(self, said: list[Said]) -> None:
        try:
            for frame in said:
                self.take(frame)
        except End as end:
            self.code = end.args[0]

    def take(self, frame: Said) -> None:
        compressed = self.is_compressed and frame.reserved == 0x40 and frame.opcode in (TEXT, BINARY)
        if not frame.is_masked or (frame.reserved and not compressed) or frame.opcode not in (0, 1, 2, 8, 9, 10):
            raise End(1002)
        if frame.opcode >= CLOSE:
            self.control(frame)
        else:
            self.data(frame, compressed)

    def control(self, frame: Said) -> None:
        if not frame.fin or len(frame.payload) > 125:
            raise End(1002)
        if frame.opcode == PING:
            self.pongs.append(frame.payload)
        elif frame.opcode == CLOSE:
            if not frame.payload:
                raise End(1005)
            if len(frame.payload) == 1:
                raise End(1002)
            try:
                frame.payload[2:].decode()
            except UnicodeDecodeError:
                raise End(1007) from None
            code = int.from_bytes(frame.payload[:2], "big")
            if not (3000 <= code < 5000 or code in (*range(1000, 1004), *range(1007, 1015))):
                raise End(1002)
            raise End(code)

    def data(self, frame: Said, is_compressed: bool) -> None:
        if (frame.opcode == CONT) != (self.message is not None):
            raise End(1002)
        if frame.opcode != CONT:
            self.opcode, self.message = frame.opcode, b""
            self.inflator = zlib.decompressobj(wbits=-15) if is_compressed else None
        assert self.message is not None
        piece = frame.payload
        if self.inflator is not None:
            try:
                piece = self.inflator.decompress(piece + b"\0\0\xff\xff" * frame.fin)
            except zlib.error:
                raise End(1002) from None
        self.message += piece
        if len(self.message) > LIMIT:
            raise End(1009)
        if frame.fin:
            if self.opcode == TEXT:
                try:
                    self.texts.append(self.message.decode())
                except UnicodeDecodeError:
                    raise End(1007) from None
            self.message = None


def squeezed(data: bytes) -> bytes:
    squeezer = zlib.compressobj(wbits=-15)
    return (squeezer.compress(data) + squeezer.flush(zlib.Z_SYNC_FLUSH))[:-4]


TEXTS = st.text(max_size=60).map(str.encode) | st.sampled_from([b"", b"\xe2\x82", b"\xac", b"\xff", b"x" * 126, b"x" * 400])
PAYLOADS = TEXTS | st.binary(max_size=130)
CLOSES = st.tuples(st.integers(0, 6000), TEXTS.filter(lambda text: len(text) < 120)).map(
    lambda pair: struct.pack("!H", pair[0]) + pair[1]
)
LEGAL = st.one_of(
    st.builds(Said, st.sampled_from([TEXT, BINARY, CONT]), TEXTS, st.booleans(), is_long=st.booleans()),
    st.builds(Said, st.sampled_from([TEXT, BINARY]), TEXTS.map(squeezed), st.booleans(), st.just(0x40)),
    st.builds(Said, st.sampled_from([PING, PONG]), st.binary(max_size=125)),
)
ODD = st.one_of(
    st.builds(Said, st.integers(0, 15), PAYLOADS, st.booleans(), st.sampled_from([0, 0x10, 0x20, 0x40, 0x70]), st.booleans()),
    st.builds(Said, st.just(CLOSE), CLOSES | st.binary(max_size=1)),
)


@settings(max_examples=400)
@given(st.lists(LEGAL, max_size=8), st.lists(ODD | LEGAL, max_size=3), st.lists(st.integers(1, 40), min_size=1), st.booleans())
def test_any_frames_in_any_pieces(legal: list[Said], odd: list[Said], sizes: list[int], is_compressed: bool) -> None:
    node, connection, transport, loop = alone(CompressedConnection if is_compressed else None)
    live = node.lives[0]
    said = legal + odd
    opinion = Opinion(is_compressed)
    opinion.read(said)
    stream = b"".join(frame.wire() for frame in said)
    at = turn = 0
    while at < len(stream):
        connection.data_received(stream[at : at + sizes[turn % len(sizes)]])
        at += sizes[turn % len(sizes)]
        turn += 1
    while loop.soon:
        loop.turn()
    assert [node.received.get_nowait()[1] for _ in range(node.received.qsize())] == opinion.texts
    pongs = b"".join(bytes([0x8A, len(data)]) + data for data in opinion.pongs)
    written = b"".join(transport.written)
    assert written.startswith(pongs)
    rest = written[len(pongs) :]
    if opinion.code is None:
        assert rest == b""
        assert live.end is None
        return
    assert live.end is not None
    assert live.end[0] == opinion.code
    if opinion.code not in (1007, 1009):
        assert rest[0] == 0x80 | CLOSE
        assert rest[1] == len(rest) - 2
        assert rest[2:4] == (b"" if opinion.code == 1005 else struct.pack("!H", opinion.code))
    # Else: what is wrong with a message is found when all of a packet has been read, so that a ping behind it has its pong,
    # and a close frame or another mistake behind it is what the peer is answered; the node hears of the first mistake.
    assert transport.has_ended


@settings(max_examples=300)
@given(st.lists(st.binary(max_size=40), max_size=30), st.booleans())
def test_any_bytes_at_all(pieces: list[bytes], is_compressed: bool) -> None:
    node, connection, _, loop = alone(CompressedConnection if is_compressed else None)
    for piece in pieces:
        connection.data_received(piece)
    while loop.soon:
        loop.turn()
    connection.connection_lost(None)
    [live] = node.lives
    assert live.end is not None
    assert live.end[0] in (1002, 1006, 1007, 1009, 1005) or 1000 <= live.end[0] < 5000


# -- heads -----------------------------------------------------------------------------------------------------------------


class DoorTransport(FakeTransport):
    """A transport for a door, which asks whose it is, and may be cut."""

    was_cut = False

    def get_extra_info(self, name: str) -> Any:
        return ("127.0.0.1", 1) if name == "peername" else None

    def set_protocol(self, protocol: Any) -> None:
        self.protocol = protocol

    def abort(self) -> None:
        self.was_cut = True


class Taker:
    """The HTTP side; keeps what it is handed."""

    def __init__(self) -> None:
        self.data = b""

    def connection_made(self, transport: Any) -> None:
        pass

    def data_received(self, data: bytes) -> None:
        self.data += data


@st.composite
def heads(draw: st.DrawFn) -> bytes:
    """Upgrade requests, with some bytes changed, put in or taken out."""
    head = bytearray(draw(st.sampled_from(HEADS)))
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(head)))
        head[at : at + draw(st.integers(0, 3))] = draw(st.binary(max_size=3) | st.sampled_from(SPICE))
    return bytes(head)


HEADS = [
    request(),
    request(
        "/app/key?protocol=7&client=js&version=8.4.0", Origin="https://a.test", User_Agent="x/1", X_Forwarded_For="192.0.2.1"
    ),
    request().replace(b"Sec-WebSocket-Key", b"sec-websocket-key"),
    request("/app/key"),
    request(Sec_WebSocket_Extensions="permessage-deflate; client_max_window_bits"),
    request(Sec_WebSocket_Version="8", Connection="keep-alive, Upgrade"),
    request("/apps/1/events", Upgrade=None),
    b"POST /apps/1/events HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}",
]
SPICE = [b"\r\n", b"\r\n\r\n", b"\n", b"\0", b": ", b" ", b"\xff", b"HTTP/1.0", b"%", b"?", b","]


async def test_any_head_in_any_pieces_has_the_same_end(caplog: pytest.LogCaptureFixture) -> None:
    takers: list[Taker] = []

    def http() -> Any:
        takers.append(Taker())
        return takers[-1]

    node = FakeNode()
    front = Front(
        node=node,  # type: ignore[arg-type]
        clock=FakeClock(),
        http=http,
        deflation=Deflation(window_bits=12, least=64),
    )

    def outcome(pieces: list[bytes]) -> tuple[bytes, bytes | None, list[Handshake]]:
        """Return what was answered, what the HTTP side was handed, and what the node was told."""
        takers.clear()
        node.lives.clear()
        node.refused.clear()
        door, transport = Connection(front.commons, Door(front)), DoorTransport()
        door.connection_made(transport)  # type: ignore[arg-type]
        protocol: Any = door
        for piece in pieces:
            protocol.data_received(piece)
            protocol = getattr(transport, "protocol", door)
        if hasattr(protocol, "write_out"):
            protocol.write_out()
        told = [*node.refused, *(live.handshake for live in node.lives)]
        if not takers:
            protocol.connection_lost(None)
        written = b"".join(transport.written)
        if not told:  # byte by byte a mistake is found earlier, and may be told in other words
            written = written.partition(b"\r\n")[0]
        return written, takers[0].data if takers else None, told

    @settings(max_examples=400, deadline=None)
    @given(heads(), st.lists(st.integers(1, 60), min_size=1))
    def check(head: bytes, sizes: list[int]) -> None:
        pieces, at = [], 0
        while at < len(head):
            pieces.append(head[at : at + sizes[len(pieces) % len(sizes)]])
            at += len(pieces[-1])
        # In one piece, a head like one that has come before is recognised, and not read again.
        assert outcome(pieces) == outcome([head]) == outcome([head])

    check()
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []
    await front.close()


# -- real sockets ----------------------------------------------------------------------------------------------------------


@on_both_loops
async def test_noise_ends_nothing_but_the_connection_it_comes_by() -> None:
    dice = random.Random(6455)
    async with house(deflation=Deflation(window_bits=12, least=64)) as home:
        other, live = await home.join()
        for number in range(60):
            peer = await home.dial()
            noise = bytearray(b"".join(wire(dice.choice([CONT, TEXT, BINARY, PING]), dice.randbytes(20)) for _ in range(5)))
            noise[dice.randrange(len(noise))] ^= 1 << dice.randrange(8)
            head = request(Sec_WebSocket_Extensions="permessage-deflate") if dice.random() < 0.5 else request()
            peer.writer.write((head if dice.random() < 0.8 else dice.randbytes(50)) + noise)
            if dice.random() < 0.5:
                peer.writer.write_eof()
            else:
                peer.reset()
            await peer.rest()
            other.send(TEXT, f"still here {number}")
            while (received := await home.node.received.get())[0] is not live:
                pass
            assert received[1] == f"still here {number}"
        assert isinstance(live, FakeLive)
        assert live.end is None
