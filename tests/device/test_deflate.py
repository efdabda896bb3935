"""permessage-deflate: what is agreed on, what is compressed and how often, and what a hostile peer can do with it."""

from __future__ import annotations

import json
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.asyncio.client import connect
from websockets.exceptions import PayloadTooBig, ProtocolError
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory
from websockets.frames import Frame, Opcode

from gateway.core import frame as codec
from gateway.transport.compressed import CompressedConnection
from gateway.transport.deflate import Deflation, Inflation
from tests.device.front_kit import CLOSE, CONT, GREETING, LIMIT, PING, PONG, TEXT, House, Peer, house, on_both_loops, wire

TEXT_OF_SOME_LENGTH = json.dumps([{"id": number, "name": "somebody"} for number in range(100)])
RSV1 = 0x40
ANSWER = "permessage-deflate; server_no_context_takeover; client_no_context_takeover; server_max_window_bits=12"


def deflation(least: int = 64) -> Deflation:
    return Deflation(window_bits=12, least=least)


def squeezed(data: bytes, wbits: int = -15) -> bytes:
    squeezer = zlib.compressobj(9, wbits=wbits)
    return (squeezer.compress(data) + squeezer.flush(zlib.Z_SYNC_FLUSH))[:-4]


def inflated(frame: bytes, window: int = 12) -> bytes:
    """Return what a client with this window makes of a compressed frame."""
    size = frame[1]
    return zlib.decompress(frame[2 if size < 126 else 4 if size == 126 else 10 :] + b"\0\0\xff\xff\x01\0\0\xff\xff", -window)


# -- what is agreed on -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("offer", "answer"),
    [
        ("permessage-deflate", ANSWER),
        ("permessage-deflate; client_max_window_bits", ANSWER),  # what browsers offer
        ("permessage-deflate; client_max_window_bits=10", ANSWER + "; client_max_window_bits=10"),
        ("permessage-deflate; client_no_context_takeover; server_no_context_takeover", ANSWER),
        ("permessage-deflate; server_max_window_bits=12", ANSWER),
        ("permessage-deflate; server_max_window_bits=15", ANSWER),
        # It could not read what is compressed for all the others.
        ("permessage-deflate; server_max_window_bits=11", None),
        ("permessage-deflate; server_max_window_bits=8", None),
        ("permessage-deflate; server_max_window_bits=9, permessage-deflate", ANSWER),
        ("permessage-deflate; nonsense", None),
        ("permessage-deflate; nonsense=1, permessage-deflate; client_max_window_bits", ANSWER),
        ("permessage-deflate; server_max_window_bits=16", None),
        ("permessage-deflate; client_max_window_bits=7", None),
        ("permessage-deflate; client_no_context_takeover=1", None),
        ("permessage-deflate; client_max_window_bits; client_max_window_bits", None),
        ("x-webkit-deflate-frame", None),
        ("permessage-bzip2, permessage-deflate", ANSWER),
        (", ".join(["permessage-deflate; nonsense"] * 100 + ["permessage-deflate"]), None),
        (";;", None),
        ("\udcff", None),
        ("", None),
    ],
)
def test_offers(offer: str, answer: str | None) -> None:
    assert deflation().negotiate(offer.encode("utf-8", "surrogateescape")) == answer


@given(st.binary(max_size=60) | st.text('permessage-deflate;,= "_windowbits15', max_size=80).map(str.encode))
def test_no_offer_at_all_breaks_the_negotiation(offer: bytes) -> None:
    deflation().negotiate(offer)


# -- what is compressed ----------------------------------------------------------------------------------------------------


def test_a_frame_is_compressed_once_however_many_are_offered_it() -> None:
    one, frame = deflation(), codec.wire(TEXT_OF_SOME_LENGTH.encode())
    compressed = one.shared(frame)
    assert all(one.shared(frame) is compressed for _ in range(1000))
    assert len(compressed) < len(frame) / 4
    assert compressed[0] == 0x80 | RSV1 | TEXT
    assert inflated(compressed).decode() == TEXT_OF_SOME_LENGTH
    other = codec.wire(TEXT_OF_SOME_LENGTH.encode())
    assert one.shared(other) is not compressed
    one.forget()
    assert one.shared(frame) is not compressed


@pytest.mark.parametrize(
    "frame",
    [
        codec.wire(b"x" * 61),  # 63 bytes in all
        codec.wire(bytes(range(32, 127))),  # does not become smaller
        bytes([0x82, 100]) + b"x" * 100,  # binary
    ],
    ids=["small", "dense", "no text"],
)
def test_what_compression_does_not_help_is_sent_as_it_is(frame: bytes) -> None:
    assert deflation().shared(frame) is frame


@given(st.text(max_size=400) | st.text("ab", max_size=50).map(lambda text: text * 2_000))
def test_whatever_is_compressed_is_read_back(text: str) -> None:
    frame = codec.wire(text.encode())
    shared = deflation(0).shared(frame)
    assert shared is frame or inflated(shared).decode() == text
    assert len(shared) <= len(frame)


# -- what is inflated ------------------------------------------------------------------------------------------------------


@given(st.integers(1, 5000), st.integers(-3, 3), st.booleans())
def test_a_message_is_held_to_the_limit_exactly(limit: int, more: int, is_dense: bool) -> None:
    size = max(0, limit + more)
    data = bytes(number * number % 251 for number in range(size)) if is_dense else b"x" * size
    frame = Frame(Opcode.TEXT, squeezed(data), rsv1=True)
    if size <= limit:
        assert bytes(Inflation().decode(frame, max_size=limit).data) == data
    else:
        with pytest.raises(PayloadTooBig):
            Inflation().decode(frame, max_size=limit)


@given(st.binary(max_size=200))
def test_garbage_is_a_protocol_error_or_data(data: bytes) -> None:
    try:
        assert len(Inflation().decode(Frame(Opcode.TEXT, data, rsv1=True), max_size=1000).data) <= 1000
    except (ProtocolError, PayloadTooBig):
        pass  # both end the one connection, with 1002 and 1009


# -- on the wire -----------------------------------------------------------------------------------------------------------


async def joined(home: House) -> Peer:
    peer = await home.dial()
    head = await peer.upgrade(Sec_WebSocket_Extensions="permessage-deflate; client_max_window_bits")
    assert f"\r\nSec-WebSocket-Extensions: {ANSWER}\r\n".encode() in head
    assert await peer.text() == GREETING  # too small to be compressed
    return peer


async def compressed_frame(peer: Peer) -> bytes:
    head = await peer.reader.readexactly(4)
    assert head[0] == 0x80 | RSV1 | TEXT
    assert head[1] == 126
    return head + await peer.reader.readexactly(int.from_bytes(head[2:], "big"))


@on_both_loops
async def test_those_who_agreed_get_the_same_bytes_and_the_others_the_plain_ones() -> None:
    async with house(deflation=deflation()) as home:
        first, second = await joined(home), await joined(home)
        plain, _ = await home.join()
        frame = codec.wire(TEXT_OF_SOME_LENGTH.encode())
        for live in home.node.lives:
            live.connection.offer(frame)
        one, other = await compressed_frame(first), await compressed_frame(second)
        assert one == other
        assert inflated(one).decode() == TEXT_OF_SOME_LENGTH
        assert await plain.text() == TEXT_OF_SOME_LENGTH
        # Counted as they were offered, whoever gets them.
        assert {live.connection.sent_bytes for live in home.node.lives} == {len(GREETING) + len(TEXT_OF_SOME_LENGTH)}


@on_both_loops
async def test_compressed_messages_whole_in_fragments_and_beside_plain_ones() -> None:
    async with house(deflation=deflation()) as home:
        peer = await joined(home)
        once, data = squeezed(b"x" * LIMIT), squeezed(b"abc" * 300)
        said = [
            wire(TEXT | RSV1, once),
            wire(TEXT, "plain"),
            wire(TEXT | RSV1, data[:3], fin=False),
            wire(PING, "!"),
            wire(CONT, data[3:5], fin=False),
            wire(CONT, data[5:]),
            wire(TEXT | RSV1, b"\0"),  # an empty message (RFC 7692 section 7.2.3.6)
        ]
        for byte in b"".join(said):
            peer.writer.write(bytes([byte]))
        received = [(await home.node.received.get())[1] for _ in range(4)]
        assert received == ["x" * LIMIT, "plain", "abc" * 300, ""]
        assert await peer.frame() == (PONG, b"!")
        # In the end nobody holds a parser: what lies between two messages needs none.
        [live] = home.node.lives
        assert isinstance(live.connection, CompressedConnection)
        assert live.connection._parser is None
        assert live.connection.received_bytes == LIMIT + 5 + 900


BOMB = squeezed(b"\0" * 1_000_000)  # about as many bytes as the limit allows
HOSTILE = {
    "bomb": ([wire(TEXT | RSV1, BOMB[:LIMIT])], 1009),
    "one byte too many": ([wire(TEXT | RSV1, squeezed(b"x" * (LIMIT + 1)))], 1009),
    "too large only in all": (
        [wire(TEXT | RSV1, squeezed(b"x" * (2 * LIMIT))[:4], fin=False), wire(CONT, squeezed(b"x" * (2 * LIMIT))[4:])],
        1009,
    ),
    "corrupt": ([wire(TEXT | RSV1, b"\xff" * 20)], 1002),
    "the mark of compression on a continuation": (
        [wire(TEXT | RSV1, squeezed(b"x" * 50)[:2], fin=False), wire(CONT | RSV1, squeezed(b"x" * 50)[2:])],
        1002,
    ),
    "the mark of compression on a continuation of a plain message": (
        [wire(TEXT, "a", fin=False), wire(CONT | RSV1, squeezed(b"x"))],
        1002,
    ),
    "the mark of compression on a ping": ([wire(PING | RSV1, squeezed(b"x"))], 1002),
    "not UTF-8 when inflated": ([wire(TEXT | RSV1, squeezed(b"\xc3\x28"))], 1007),
    "context taken over all the same": (
        [wire(TEXT | RSV1, squeezed(b"abcdefgh" * 9)), wire(TEXT | RSV1, bytes([0x02, 0x22, 0x60, 0x02, 0x00]))],
        1002,
    ),
}


@pytest.mark.parametrize(("said", "code"), HOSTILE.values(), ids=HOSTILE)
@on_both_loops
async def test_what_is_wrong_with_compression_ends_that_connection_only(said: list[bytes], code: int) -> None:
    async with house(deflation=deflation()) as home:
        peer, other = await joined(home), await joined(home)
        peer.writer.write(b"".join(said))
        assert await peer.closing() == code
        assert (await home.node.ended.get()).end is not None
        other.send(TEXT | RSV1, squeezed(b"still here"))
        while (text := (await home.node.received.get())[1]) != "still here":
            assert text == "abcdefgh" * 9


@on_both_loops
async def test_closing_works_as_ever() -> None:
    async with house(deflation=deflation()) as home:
        peer = await joined(home)
        peer.send(CLOSE, b"\x03\xe8")
        assert await peer.closing() == 1000
        await home.ended(home.node.lives[0])


@pytest.mark.parametrize("bits", [12, 15, None])
@on_both_loops
async def test_an_independent_client(bits: int | None) -> None:
    async with house(deflation=deflation()) as home:
        home.node.on_text = lambda live, text: home.node.offer(live, text)
        offer = ClientPerMessageDeflateFactory(server_max_window_bits=bits, client_max_window_bits=True)
        url = f"ws://127.0.0.1:{home.port}/app/key?protocol=7"
        async with connect(url, compression=None, extensions=[offer], proxy=None) as client:
            assert await client.recv() == GREETING
            for size in (3, 100, 900):
                await client.send("é" * (size // 2))
                assert await client.recv() == "é" * (size // 2)
