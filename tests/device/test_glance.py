"""What is read at a glance is what the parser would have read, and the rest is left to it."""

from __future__ import annotations

import struct

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode

from gateway.transport.glance import BINARY, CLOSE, PING, PONG, TEXT, code_of, echo, glance
from gateway.transport.parser import Parser, discard
from tests.device.front_kit import wire

LIMIT = 1000
MASK = b"\x9f\x00\xa5\x3c"


def said(first: int, payload: bytes, *, is_long: bool = False) -> bytes:
    """A frame as a client writes it; `is_long` writes the length in a longer form than it needs."""
    if is_long:
        masked = wire(first & 0x0F, payload, mask=MASK)[2:] if len(payload) < 126 else wire(first & 0x0F, payload, mask=MASK)[4:]
        return struct.pack("!BBH", first, 0xFE, len(payload)) + masked
    return bytes((first,)) + wire(first & 0x0F, payload, mask=MASK)[1:]


@given(
    st.integers(0, 255),
    st.binary(max_size=140) | st.sampled_from([b"x" * LIMIT, b"x" * (LIMIT + 1), b"\x03\xe8", b"\x03\xe9", b"\x03\xea"]),
    st.binary(max_size=9),
    st.binary(max_size=9),
    st.booleans(),
)
@example(TEXT, b"x" * 126, b"", b"", True)
@example(CLOSE, b"", b"ab", b"c", False)
def test_it_says_what_the_parser_says(first: int, payload: bytes, before: bytes, behind: bytes, is_long: bool) -> None:
    data = said(first, payload, is_long=is_long)
    found = glance(before + data + behind, len(before), LIMIT)
    parser = Parser(LIMIT)
    parser.receive_data(data)
    frames = parser.events_received()
    answers = b"".join(parser.data_to_send())
    has_ended = parser.eof_sent
    code, _ = parser.verdict()
    discard(parser)
    if found is None:
        return
    seen, read, end = found
    assert (seen, read, end) == (first, payload, len(before) + len(data))
    [frame] = frames
    assert isinstance(frame, Frame)
    assert (frame.opcode, bytes(frame.data), frame.fin) == (Opcode(first & 0x0F), payload, True)
    assert answers == {PING: echo(PONG, payload), CLOSE: echo(CLOSE, payload)}.get(first, b"")
    assert has_ended == (first == CLOSE)
    if first == CLOSE:
        assert code_of(read) == code


@pytest.mark.parametrize("first", [TEXT, BINARY, PING, PONG])
@pytest.mark.parametrize("size", [0, 1, 125, 126, LIMIT])
def test_the_usual_needs_no_parser(first: int, size: int) -> None:
    data = said(first, b"y" * size)
    found = (first, b"y" * size, len(data)) if size < 126 or first in (TEXT, BINARY) else None
    assert glance(data, 0, LIMIT) == found


@pytest.mark.parametrize(("payload", "code"), [(b"", 1005), (b"\x03\xe8", 1000), (b"\x03\xe9", 1001)])
def test_the_usual_farewell_needs_none_either(payload: bytes, code: int) -> None:
    assert glance(said(CLOSE, payload), 0, LIMIT) == (CLOSE, payload, 6 + len(payload))
    assert code_of(payload) == code


@pytest.mark.parametrize(
    "data",
    [
        said(CLOSE, b"\x03\xe8bye"),
        said(CLOSE, b"\x03"),
        said(CLOSE, b"\x03\xed"),
        said(0x01, b"the first of several"),
        said(0x80, b"the last"),
        said(0xC1, b"compressed"),
        said(0x83, b"no opcode"),
        said(TEXT, b"x" * (LIMIT + 1)),
        said(TEXT, b"abc", is_long=True),
        wire(0x1, b"not masked", mask=None),
    ],
)
def test_the_rest_is_left_to_the_parser(data: bytes) -> None:
    assert glance(data, 0, LIMIT) is None


def test_half_a_frame_is_none() -> None:
    for size in (5, 130):
        data = said(TEXT, b"z" * size)
        assert all(glance(data[:end], 0, LIMIT) is None for end in range(len(data)))
