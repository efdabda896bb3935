"""Lending parsers: what may be lent again, and what each says of the end."""

from __future__ import annotations

import gc
import weakref
import zlib

import pytest
from websockets.frames import Frame
from websockets.protocol import State

from gateway.transport.parser import InflatingParser, Lender, Parser, discard
from tests.device.front_kit import BINARY, CLOSE, CONT, PING, TEXT, close_payload, wire


@pytest.mark.parametrize("kind", [Parser, InflatingParser])
@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65_535, 65_536])
def test_the_size_of_a_frame(size: int, kind: type[Parser]) -> None:
    data = wire(BINARY, b"x" * size)
    parser = kind(1 << 20)
    parser.receive_data(data)
    (frame,) = parser.events_received()
    assert isinstance(frame, Frame)
    assert parser.size_on_wire(frame) == len(data)


def test_the_size_of_a_compressed_frame_is_that_on_the_wire() -> None:
    squeezer = zlib.compressobj(wbits=-15)
    squeezed = (squeezer.compress(b"x" * 900) + squeezer.flush(zlib.Z_SYNC_FLUSH))[:-4]
    first, second = wire(TEXT | 0x40, squeezed), wire(PING, b"?")
    parser = InflatingParser(900)
    parser.receive_data(first + second)
    frames = parser.events_received()
    assert [bytes(frame.data) for frame in frames if isinstance(frame, Frame)] == [b"x" * 900, b"?"]
    assert [parser.size_on_wire(frame) for frame in frames if isinstance(frame, Frame)] == [len(first), len(second)]


def test_a_parser_is_lent_again_with_the_limit_of_who_borrows_it() -> None:
    lender = Lender()
    parser = lender.lend(10)
    parser.receive_data(wire(TEXT, "x" * 10))
    parser.events_received()
    lender.take_back(parser)
    assert lender.lend(5) is parser
    assert lender.lend(5) is not parser
    parser.receive_data(wire(TEXT, "x" * 6))
    assert parser.events_received() == []
    assert parser.verdict() == (1009, "message_too_large")


def test_no_more_are_kept_than_are_of_use() -> None:
    lender = Lender()
    lent = [lender.lend(10) for _ in range(100)]
    refs = [weakref.ref(parser) for parser in lent]
    while lent:
        lender.take_back(lent.pop())
    assert 0 < sum(ref() is not None for ref in refs) < 100


def test_a_control_frame_within_a_message_is_not_counted_as_part_of_it() -> None:
    parser = Parser(10)
    parser.receive_data(wire(TEXT, "x" * 10, fin=False) + wire(PING, "p" * 125) + wire(CONT))
    assert len(parser.events_received()) == 3
    assert parser.state is State.OPEN
    parser.receive_data(wire(TEXT, "x" * 11))
    assert parser.verdict() == (1009, "message_too_large")


@pytest.mark.parametrize(
    ("data", "verdict"),
    [
        (wire(CLOSE), (1005, "client")),
        (wire(CLOSE, close_payload(1000)), (1000, "client")),
        (wire(CLOSE, close_payload(4000, b"why")), (4000, "client")),
        (wire(CLOSE, close_payload(1000, b"\xff")), (1007, "protocol_error")),
        (wire(CLOSE, close_payload(999)), (1002, "protocol_error")),
        (wire(3), (1002, "protocol_error")),
        (wire(TEXT, "x" * 11), (1009, "message_too_large")),
    ],
)
def test_verdicts(data: bytes, verdict: tuple[int, str]) -> None:
    parser = Parser(10)
    parser.receive_data(data)
    assert parser.eof_sent
    assert parser.verdict() == verdict


@pytest.mark.parametrize("data", [b"", wire(3), wire(TEXT, "x" * 11), wire(TEXT, "unfinished")[:5], wire(CLOSE)])
def test_a_discarded_parser_is_gone_without_the_collector(data: bytes) -> None:
    gc.collect()
    gc.disable()
    try:
        parser = Parser(10)
        parser.receive_data(data)
        gone = weakref.ref(parser)
        discard(parser)
        del parser
        assert gone() is None
    finally:
        gc.enable()
