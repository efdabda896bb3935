"""A WebSocket over a real socket, on both event loops; time is a fake clock."""

from __future__ import annotations

import asyncio
import gc
import logging
import ssl
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import websockets
from hypothesis import given
from hypothesis import strategies as st

from gateway import ports
from gateway.core import frame as codec
from gateway.core.error import Code
from gateway.transport.commons import Commons
from gateway.transport.connection import Connection
from gateway.transport.deflate import Deflation
from gateway.transport.parser import Parser
from tests.conformance.connection_suite import ConnectionSuite, Line
from tests.device.front_kit import (
    BINARY,
    CLOSE,
    CONT,
    GREETING,
    LIMIT,
    PING,
    PONG,
    TEXT,
    FakeLive,
    FakeNode,
    House,
    Peer,
    close_payload,
    house,
    on_both_loops,
    tls_contexts,
    turn_is_over,
    wire,
)
from tests.fake import FakeConnection, payload

# -- the contract ----------------------------------------------------------------------------------------------------------


class SocketLine:
    def __init__(self, peer: Peer, connection: ports.Connection) -> None:
        self.peer = peer
        self.connection = connection

    async def seen(self) -> tuple[list[bytes], tuple[int, str]]:
        texts: list[bytes] = []
        while True:
            opcode, data = await self.peer.frame()
            if opcode == CLOSE:
                self.peer.send(CLOSE, data)
                assert await self.peer.rest() == b""
                return texts, (int.from_bytes(data[:2], "big"), data[2:].decode())
            texts.append(data)


class FakeLine:
    def __init__(self) -> None:
        self.fake = FakeConnection()
        self.connection: ports.Connection = self.fake

    async def seen(self) -> tuple[list[bytes], tuple[int, str]]:
        assert self.fake.closed is not None
        return [payload(data) for data in self.fake.offered], self.fake.closed


class TestConnection(ConnectionSuite):
    @asynccontextmanager
    async def line(self) -> AsyncIterator[Line]:
        async with house() as home:
            peer, live = await home.join()
            yield SocketLine(peer, live.connection)


for _name in [name for name in dir(ConnectionSuite) if name.startswith("test_")]:
    setattr(TestConnection, _name, on_both_loops(getattr(ConnectionSuite, _name)))


class TestFakeConnection(ConnectionSuite):
    @asynccontextmanager
    async def line(self) -> AsyncIterator[Line]:
        yield FakeLine()


# -- messages in -----------------------------------------------------------------------------------------------------------


async def received(home: House) -> str:
    return (await home.node.received.get())[1]


@on_both_loops
async def test_texts_come_whole_and_in_order_however_they_are_cut() -> None:
    async with house() as home:
        peer, _ = await home.join()
        peer.send(TEXT, "one")
        peer.send(TEXT, "")
        peer.send(TEXT, "tw", fin=False)
        peer.send(PING, "still there?")
        peer.send(CONT, "", fin=False)
        peer.send(CONT, "o")
        euro = "€".encode()
        peer.send(TEXT, euro[:1], fin=False)
        peer.send(CONT, euro[1:2], fin=False)
        peer.send(CONT, euro[2:])
        assert [await received(home) for _ in range(4)] == ["one", "", "two", "€"]
        assert await peer.frame() == (PONG, b"still there?")
        for byte in wire(TEXT, "slowly") + wire(TEXT, "ab", fin=False) + wire(CONT, "cd"):
            peer.writer.write(bytes([byte]))
            await peer.writer.drain()
            await asyncio.sleep(0)
        assert [await received(home) for _ in range(2)] == ["slowly", "abcd"]


@on_both_loops
async def test_the_other_end_of_the_line_can_be_asked_for_until_it_is_gone() -> None:
    async with house() as home:
        peer, live = await home.join()
        assert live.connection.peer == "127.0.0.1"
        peer.writer.transport.abort()
        await home.node.ended.get()
        assert live.connection.peer == ""


@on_both_loops
async def test_connections_that_are_in_the_middle_of_something_do_not_mix() -> None:
    async with house() as home:
        peers = [(await home.join())[0] for _ in range(3)]
        texts = ["a" * 300, "b" * 300, "c" * 300]
        frames = [wire(TEXT, text[:100], fin=False) + wire(CONT, text[100:]) for text in texts]
        for start in range(0, len(frames[0]), 50):
            for peer, data in zip(peers, frames, strict=True):
                peer.writer.write(data[start : start + 50])
                await peer.writer.drain()
                await asyncio.sleep(0)
        assert sorted([await received(home) for _ in range(3)]) == texts


@on_both_loops
async def test_lengths_in_a_longer_form_than_needed_are_read() -> None:
    async with house() as home:
        peer, _ = await home.join()
        mask = b"\0\0\0\0"
        peer.writer.write(
            b"\x81\xfe\x00\x02" + mask + b"hi" + b"\x81\xff" + struct.pack("!Q", 2) + mask + b"ho" + wire(TEXT, "he")
        )
        assert [await received(home) for _ in range(3)] == ["hi", "ho", "he"]


@on_both_loops
async def test_binary_messages_are_ignored_whole_or_in_fragments() -> None:
    async with house() as home:
        peer, live = await home.join()
        peer.send(BINARY, b"\xff\xfe")
        peer.send(BINARY, b"{", fin=False)
        peer.send(CONT, b"}")
        peer.send(TEXT, "after")
        assert await received(home) == "after"
        assert home.node.received.empty()
        assert (live.connection.received_messages, live.connection.received_bytes) == (3, 9)


@on_both_loops
async def test_a_message_of_exactly_the_limit_is_taken() -> None:
    async with house() as home:
        peer, live = await home.join()
        peer.send(TEXT, "x" * LIMIT)
        peer.send(TEXT, "y" * (LIMIT - 1), fin=False)
        peer.send(PING, b"p" * 125)  # is no part of the message
        peer.send(CONT, "y")
        peer.send(TEXT, "z", fin=False)
        for _ in range(LIMIT - 2):
            peer.send(CONT, "z", fin=False)
            peer.send(PING)
        peer.send(CONT, "z")
        assert [len(await received(home)) for _ in range(3)] == [LIMIT] * 3
        assert (live.connection.received_messages, live.connection.received_bytes) == (3, 3 * LIMIT)


TOO_LARGE = {
    "one more": wire(TEXT, "x" * (LIMIT + 1)),
    "a head is enough": b"\x81\xfe" + struct.pack("!H", LIMIT + 1),
    "2^31": b"\x81\xff" + struct.pack("!Q", 1 << 31),
    "2^62": b"\x82\xff" + struct.pack("!Q", 1 << 62),
    # The highest bit must be 0 (RFC 6455, section 5.2); it must neither be taken for a sign nor for nothing.
    "2^63": b"\x81\xff" + struct.pack("!Q", 1 << 63),
    "2^63 and some": b"\x81\xff" + struct.pack("!Q", (1 << 63) + 2) + b"\0\0\0\0hi" + wire(TEXT, "after"),
    "2^64 - 1": b"\x82\xff" + struct.pack("!Q", (1 << 64) - 1) + b"\0\0\0\0",
    "2^64 - 1, not the last": b"\x01\xff" + struct.pack("!Q", (1 << 64) - 1),
    "2^63 within a message": wire(TEXT, "x", fin=False) + b"\x80\xff" + struct.pack("!Q", 1 << 63),
    "a ping of 2^63": b"\x89\xff" + struct.pack("!Q", 1 << 63),
    "a close frame of 2^64 - 1": b"\x88\xff" + struct.pack("!Q", (1 << 64) - 1),
    "2^32 + 2": b"\x81\xff" + struct.pack("!Q", (1 << 32) + 2) + b"\0\0\0\0hi",
    "2^16 + 2": b"\x81\xff" + struct.pack("!Q", (1 << 16) + 2) + b"\0\0\0\0hi",
    "two fragments": wire(TEXT, "x" * LIMIT, fin=False) + wire(CONT, "x"),
    "a fragment that is not the last": wire(TEXT, "x" * LIMIT, fin=False) + wire(CONT, "x", fin=False),
    "a head of a fragment": wire(TEXT, "x", fin=False) + b"\x00\xfe" + struct.pack("!H", LIMIT + 200),
    "binary": wire(BINARY, "x" * LIMIT, fin=False) + wire(CONT, "x"),
    "empty fragments without end": wire(TEXT, "", fin=False) + wire(CONT, "", fin=False) * LIMIT,
    "small fragments without end": wire(TEXT, "x" * 10, fin=False) + wire(CONT, "x" * 10, fin=False) * (LIMIT // 10),
}


@pytest.mark.parametrize("data", TOO_LARGE.values(), ids=TOO_LARGE.keys())
@on_both_loops
async def test_over_the_limit_ends_that_connection_at_once(data: bytes) -> None:
    async with house() as home:
        peer, live = await home.join()
        other, _ = await home.join()
        peer.writer.write(data)
        assert await home.ended(live) == (1009, "message_too_large")
        assert await peer.closing() == 1009
        other.send(TEXT, "still here")
        assert await received(home) == "still here"


BROKEN = {
    **{
        f"close {code}": (wire(CLOSE, close_payload(code)), 1002) for code in (0, 999, 1004, 1005, 1006, 1015, 2999, 5000, 65_535)
    },
    "close of one byte": (wire(CLOSE, b"\x03"), 1002),
    "close with a reason that is not UTF-8": (wire(CLOSE, close_payload(1000, b"\xff")), 1007),
    **{f"reserved bit {bit}": (wire(TEXT | bit, "a"), 1002) for bit in (0x10, 0x20, 0x40)},
    **{f"opcode {opcode}": (wire(opcode), 1002) for opcode in (3, 7, 11, 15)},
    "unmasked": (wire(TEXT, "a", mask=None), 1002),
    "fragmented ping": (wire(PING, "a", fin=False), 1002),
    "ping of 126": (wire(PING, "a" * 126), 1002),
    "continuation of nothing": (wire(CONT, "a"), 1002),
    "text within a message": (wire(TEXT, "a", fin=False) + wire(TEXT, "b"), 1002),
    "text that is not UTF-8": (wire(TEXT, b"\xc3\x28"), 1007),
    "a surrogate": (wire(TEXT, b"\xed\xa0\x80"), 1007),
    "half a character": (wire(TEXT, b"\xe2\x82"), 1007),
    "not UTF-8 over two fragments": (wire(TEXT, b"\xe2\x82", fin=False) + wire(CONT, b"\x28"), 1007),
}


@pytest.mark.parametrize(("data", "code"), BROKEN.values(), ids=BROKEN.keys())
@on_both_loops
async def test_what_breaks_the_rules_ends_that_connection_only(data: bytes, code: int) -> None:
    async with house() as home:
        peer, live = await home.join()
        other, _ = await home.join()
        peer.writer.write(wire(TEXT, "before") + data + wire(TEXT, "after"))
        assert await home.ended(live) == (code, "protocol_error")
        assert await peer.closing() == code
        other.send(TEXT, "still here")
        assert [await received(home) for _ in range(2)] == ["before", "still here"]
        assert home.node.received.empty()


@on_both_loops
async def test_a_fault_of_the_node_costs_that_connection_and_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    def fail(live: FakeLive, text: str) -> None:
        if text == "poison":
            raise ZeroDivisionError("on purpose")

    async with house() as home:
        home.node.on_text = fail
        peer, live = await home.join()
        other, _ = await home.join()
        peer.writer.write(wire(TEXT, "poison") + wire(TEXT, "poison"))
        assert await home.ended(live) == (1011, "internal_error")
        assert await peer.closing() == 1011
        other.send(TEXT, "still here")
        assert [await received(home) for _ in range(2)] == ["poison", "still here"]
    (record,) = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert record.exc_info is not None
    assert record.exc_info[0] is ZeroDivisionError


@on_both_loops
async def test_a_fault_in_opening_costs_that_connection(caplog: pytest.LogCaptureFixture) -> None:
    async with house() as home:
        admit, home.node.open = home.node.open, lambda *_: 1 // 0  # type: ignore[method-assign, assignment]
        peer = await home.dial()
        await peer.upgrade()
        assert (await peer.frame())[1][:2] == close_payload(1011)
        home.node.open = admit  # type: ignore[method-assign]
        await home.join()
    assert [record.exc_info is not None for record in caplog.records if record.levelno >= logging.ERROR] == [True]


# -- ends ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [1000, 1001, 1011, 3000, 4999])
@on_both_loops
async def test_the_code_a_client_closes_with_is_reported_and_echoed(code: int) -> None:
    async with house() as home:
        peer, live = await home.join()
        peer.writer.write(wire(TEXT, "last words") + wire(CLOSE, close_payload(code, b"bye")) + wire(TEXT, "too late"))
        assert await home.ended(live) == (code, "client")
        assert await peer.frame() == (CLOSE, close_payload(code, b"bye"))
        assert await peer.rest() == b""
        assert await received(home) == "last words"
        assert home.node.received.empty()


@on_both_loops
async def test_a_close_frame_without_a_code_is_1005() -> None:
    async with house() as home:
        peer, live = await home.join()
        peer.writer.write(wire(CLOSE) + wire(CLOSE) + wire(PING))
        assert await home.ended(live) == (1005, "client")
        assert await peer.closing() == 1005


@on_both_loops
async def test_a_close_frame_may_stand_between_fragments() -> None:
    async with house() as home:
        peer, live = await home.join()
        peer.writer.write(wire(TEXT, "not to be finished", fin=False) + wire(CLOSE, close_payload(1001)) + wire(CONT, "after"))
        assert await home.ended(live) == (1001, "client")
        assert await peer.closing() == 1001
        assert home.node.received.empty()


@on_both_loops
async def test_a_pong_comes_in_the_order_of_what_it_answers() -> None:
    async with house() as home:
        home.node.on_text = lambda live, text: home.node.offer(live, text)
        peer, _ = await home.join()
        said = [wire(TEXT, "a", fin=False), wire(PING, "1"), wire(CONT, "b"), wire(PING, "2"), wire(TEXT, "c"), wire(PING, "3")]
        peer.writer.write(b"".join(said))
        assert [await peer.frame() for _ in range(5)] == [(PONG, b"1"), (TEXT, b"ab"), (PONG, b"2"), (TEXT, b"c"), (PONG, b"3")]


@on_both_loops
async def test_no_close_frame_is_1006() -> None:
    async with house() as home:
        peer, live = await home.join()
        peer.send(TEXT, "unfinished", fin=False)
        peer.writer.write_eof()
        assert await home.ended(live) == (1006, "connection_lost")
        assert await peer.rest() == b""
        peer, live = await home.join()
        peer.reset()
        assert await home.ended(live) == (1006, "connection_lost")


@on_both_loops
async def test_the_answer_to_the_last_words_of_someone_who_hangs_up_is_sent() -> None:
    async with house() as home:
        home.node.on_text = lambda live, text: home.node.offer(live, text.upper())
        peer, live = await home.join()
        peer.send(TEXT, "anybody?")
        peer.writer.write_eof()
        assert await peer.text() == "ANYBODY?"
        assert await home.ended(live) == (1006, "connection_lost")


@on_both_loops
async def test_a_kicked_client_reads_what_was_offered_then_the_code_and_its_answer_ends_it() -> None:
    async with house() as home:
        peer, live = await home.join()
        home.node.kick(live, 4009, "x" * 200, "terminated")
        home.node.offer(live, "dropped")
        assert await peer.text() == "kicked 4009"
        assert await peer.frame() == (CLOSE, close_payload(4009, b"x" * 123))
        # what a peer says after it was told to go is read, but nobody hears it
        peer.writer.write(wire(TEXT, "but") + wire(PING) + wire(CLOSE, close_payload(4009)))
        assert await peer.rest() == b"\x8a\x00"
        assert await home.ended(live) == (4009, "client")
        assert home.node.received.empty()


@on_both_loops
async def test_a_reason_is_cut_between_characters() -> None:
    async with house() as home:
        peer, live = await home.join()
        home.node.close(live, 4009, "é" * 100)
        assert await peer.frame() == (CLOSE, close_payload(4009, "é".encode() * 61))


@on_both_loops
async def test_kicked_and_leaving_at_the_same_time() -> None:
    async with house() as home:
        home.node.on_text = lambda live, text: home.node.kick(live, 4200, "away", "shutdown")
        peer, live = await home.join()
        peer.writer.write(wire(TEXT, "hm") + wire(CLOSE, close_payload(1001)))
        assert await home.ended(live) == (1001, "client")
        assert [code for code, _ in [await peer.frame(), await peer.frame()]] in ([TEXT, CLOSE], [CLOSE, TEXT])
        assert await peer.rest() == b""


@on_both_loops
async def test_a_peer_that_does_not_answer_a_close_frame_is_cut() -> None:
    async with house(close_timeout_s=5) as home:
        peer, live = await home.join()
        home.node.kick(live, 4200, "away", "shutdown")
        home.tick(5)
        peer.send(PING)
        assert await peer.text() == "kicked 4200"
        assert (await peer.frame())[0] == CLOSE
        assert (await peer.frame())[0] == PONG
        assert live.end is None
        home.tick()
        assert await peer.rest() == b""
        assert await home.ended(live) == (1006, "connection_lost")


@on_both_loops
async def test_a_peer_that_leaves_its_end_open_after_closing_is_cut() -> None:
    async with house(close_timeout_s=5) as home:
        peer, live = await home.join()
        peer.send(CLOSE, close_payload(1000))
        assert await home.ended(live) == (1000, "client")
        assert await peer.closing() == 1000
        assert len(home.front.commons.wheel) == 1
        home.tick(6)
        await home.all_gone()


@on_both_loops
async def test_a_peer_that_never_reads_does_not_outlive_the_close_timeout() -> None:
    async with house(close_timeout_s=5, buffer_limit=1 << 24) as home:
        _, live = await home.join(receive_buffer=4096)
        for _ in range(80):
            home.node.offer(live, "x" * 100_000)
        home.node.kick(live, 4200, "away", "shutdown")
        await turn_is_over()
        home.tick(6)
        assert await home.ended(live) == (1006, "connection_lost")


@on_both_loops
async def test_closing_the_front_cuts_everybody_and_may_be_repeated() -> None:
    async with house() as home:
        peers = [await home.join() for _ in range(10)]
        home.node.kick(peers[0][1], 4200, "away", "shutdown")
        await asyncio.gather(home.front.close(), home.front.close())
        assert all(live.end == (1006, "connection_lost") for _, live in peers)
        await home.front.close()


@on_both_loops
async def test_nothing_is_left_of_a_connection_for_the_collector() -> None:
    def left() -> int:
        spares = len(home.front.commons.lender._spares)
        return sum(isinstance(thing, Connection | Parser) for thing in gc.get_objects()) - spares

    async with house() as home:
        gc.collect()
        gc.disable()
        try:
            for way in ("close", "broken", "reset", "kick", "middle"):
                peer, live = await home.join()
                assert left() == 1
                match way:
                    case "close":
                        peer.send(CLOSE, close_payload(1000))
                    case "broken":
                        peer.send(3)
                    case "kick":
                        home.node.kick(live, 4200, "away", "shutdown")
                        peer.send(CLOSE, close_payload(4200))
                    case "middle":
                        peer.send(TEXT, "unfinished", fin=False)
                if way in ("close", "broken", "kick"):
                    await peer.rest()
                    peer.writer.close()
                else:
                    peer.reset()
                await home.ended(live)
                await home.all_gone()
                home.node.lives.clear()
                del peer, live
                home.peers.clear()
                await asyncio.sleep(0)
                await asyncio.sleep(0)
                assert left() == 0, way
        finally:
            gc.enable()


# -- life ------------------------------------------------------------------------------------------------------------------


def calm(**settings: Any) -> Any:
    return house(activity_timeout_s=12, pong_timeout_s=3, request_timeout_s=10, close_timeout_s=5, **settings)


@on_both_loops
async def test_who_is_silent_is_asked_and_then_sent_away() -> None:
    async with calm() as home:
        peer, live = await home.join()
        home.tick(12)
        home.node.offer(live, "receiving is no sign of life")
        assert await peer.text() == "receiving is no sign of life"
        home.tick()
        assert await peer.frame() == (PING, b"")
        home.tick(2)
        assert await peer.text() == codec.ping().decode()
        home.tick()
        assert live.ending is None
        home.tick()
        assert live.ending == (Code.NO_PONG, "ping_timeout")
        assert await peer.text() == "kicked 4201"
        assert (await peer.frame())[1][:2] == close_payload(4201)
        home.tick(6)
        assert await peer.rest() == b""
        assert await home.ended(live) == (1006, "connection_lost")


@pytest.mark.parametrize(
    "sign", [wire(PONG), wire(PING), wire(TEXT, "x"), wire(BINARY, "x"), wire(TEXT, "x", fin=False), b"\x81"]
)
@on_both_loops
async def test_anything_at_all_answers_a_ping(sign: bytes) -> None:
    async with calm() as home:
        peer, live = await home.join()
        home.tick(13)
        assert await peer.frame() == (PING, b"")
        home.tick(3)
        peer.writer.write(sign)
        # What was written later to another socket has arrived, so this has too.
        other, later = await home.join()
        other.send(TEXT, "x")
        while (await home.node.received.get())[0] is not later:
            pass
        home.tick(12)
        assert live.ending is None


@pytest.mark.parametrize("every", [3, 10, 12])
@on_both_loops
async def test_who_says_something_now_and_then_is_never_even_asked(every: int) -> None:
    async with calm() as home:
        peer, live = await home.join()
        for _ in range(10):
            home.tick(every)
            peer.send(TEXT, "x")
            await received(home)
        peer.send(CLOSE, close_payload(1000))
        assert await peer.closing() == 1000
        assert await home.ended(live) == (1000, "client")


@on_both_loops
async def test_who_only_answers_pings_stays_for_ever() -> None:
    async with calm() as home:
        peer, live = await home.join()
        home.tick(2)
        for _ in range(10):
            home.tick(11)
            assert await peer.frame() == (PING, b"")
            for sign in ("seen?", "not asked again, since I have answered?"):
                peer.writer.write(wire(PONG) + wire(PING, sign))
                assert await peer.frame() == (PONG, sign.encode())
                home.tick(2)
        assert live.ending is None


@on_both_loops
async def test_who_knows_pings_only_as_events_stays_for_ever() -> None:
    async with calm() as home:
        peer, live = await home.join()
        for _ in range(10):
            home.tick(13)
            assert await peer.frame() == (PING, b"")
            home.tick(2)
            assert await peer.text() == codec.ping().decode()
            peer.send(TEXT, '{"event":"pusher:pong","data":{}}')
            await received(home)
        assert live.ending is None


@on_both_loops
async def test_a_loop_that_was_held_up_holds_nobody_to_it() -> None:
    async with calm() as home:
        _, live = await home.join()
        home.clock.move(3600)
        home.front.tick()
        assert home.front.commons.beat == 2
        home.tick()
        assert home.front.commons.beat == 3
        assert live.ending is None
        home.clock.move(1.5)  # late, but no more than that
        home.front.tick()
        home.clock.move(0.5)
        home.front.tick()
        assert home.front.commons.beat == 5


@on_both_loops
async def test_the_calendar_may_jump() -> None:
    async with calm() as home:
        peer, live = await home.join()
        home.clock.epoch += 3_600_000
        home.front.tick()
        home.clock.epoch -= 3 * 3_600_000
        home.tick(12)
        assert live.ending is None
        home.tick()
        assert await peer.frame() == (PING, b"")


@on_both_loops
async def test_many_who_are_due_at_once_are_served_in_turns() -> None:
    async with calm() as home:
        pairs = [await home.join() for _ in range(300)]
        home.tick(13)
        for peer, _ in pairs:
            assert await peer.frame() == (PING, b"")


@on_both_loops
async def test_time_passes_by_itself() -> None:
    async with house(tick_s=None, activity_timeout_s=0.02, pong_timeout_s=0.02, close_timeout_s=0.02) as home:
        home.front._clock = type("Real", (), {"monotonic": staticmethod(asyncio.get_running_loop().time)})()
        home.front._next_tick_at = 0.0
        _, live = await home.join()
        assert await home.ended(live) == (1006, "connection_lost")
        assert live.ending == (Code.NO_PONG, "ping_timeout")


# -- flow ------------------------------------------------------------------------------------------------------------------


@on_both_loops
async def test_who_does_not_read_is_cut_and_nobody_else_notices() -> None:
    async with house(buffer_limit=65_536) as home:
        _, slow = await home.join(receive_buffer=4096)
        quick, live = await home.join()
        sent = 0
        while home.node.ended.empty():
            data = b"%06d" % sent + b"x" * 10_000
            home.node.offer(slow, data)
            home.node.offer(live, data)
            assert (await quick.frame())[1] == data
            sent += 1
            assert sent < 2_000, "the slow one is still there after 20 MB"
        assert await home.ended(slow) == (1006, "slow_consumer")
        home.node.offer(slow, "to nobody")
        home.node.offer(live, "fine")
        assert await quick.text() == "fine"


@on_both_loops
async def test_who_reads_slowly_but_within_the_bound_gets_everything() -> None:
    async with house(buffer_limit=1 << 24) as home:
        peer, live = await home.join(receive_buffer=4096)
        texts = [b"%06d" % number + b"x" * 10_000 for number in range(800)]
        for text in texts:
            home.node.offer(live, text)
        await turn_is_over()
        assert live.connection._is_blocked  # type: ignore[attr-defined]
        assert [(await peer.frame())[1] for _ in texts] == texts
        home.node.offer(live, "and the last")
        assert await peer.text() == "and the last"
        assert not live.connection._is_blocked  # type: ignore[attr-defined]


@on_both_loops
async def test_pings_whose_pongs_are_never_read_do_not_pile_up() -> None:
    async with house(buffer_limit=65_536) as home:
        peer, live = await home.join(receive_buffer=4096)
        flooding = asyncio.ensure_future(_flood(peer, wire(PING, b"x" * 125) * 1000))
        assert await home.ended(live) == (1006, "slow_consumer")
        flooding.cancel()


@on_both_loops
async def test_thousands_of_frames_at_once_do_not_keep_others_from_their_turn() -> None:
    async with house() as home:
        flooder, flood = await home.join()
        other, live = await home.join()
        flooder.writer.write(wire(TEXT, "flood") * 20_000)
        await home.node.received.get()
        other.send(TEXT, "me too")
        seen = 1
        while (await home.node.received.get())[0] is flood:
            seen += 1
        assert seen < 10_000
        while seen < 20_000:
            assert (await home.node.received.get())[0] is flood
            seen += 1
        home.node.offer(live, "done")
        assert await other.text() == "done"


class FakeTransport:
    """Counts what a turn brings; reading can be paused and nothing is ever in the way of writing."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.is_reading = True
        self.has_ended = False

    def set_write_buffer_limits(self, high: int) -> None:
        pass

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def get_write_buffer_size(self) -> int:
        return 0

    def get_extra_info(self, name: str) -> None:
        return None

    def pause_reading(self) -> None:
        self.is_reading = False

    def resume_reading(self) -> None:
        self.is_reading = True

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.has_ended = True


class FakeLoop:
    """Keeps what is to be called in the next turn."""

    def __init__(self) -> None:
        self.soon: list[Callable[[], None]] = []

    def call_soon(self, callback: Callable[[], None]) -> None:
        self.soon.append(callback)

    def turn(self) -> None:
        for _ in range(2):  # the second is the look at the sockets before all is written
            due, self.soon = self.soon, []
            for callback in due:
                callback()


class OpenDoor:
    """Lets everybody in."""

    def admits(self, transport: object) -> bool:
        return True


def alone(kind: type[Connection] | None = None) -> tuple[FakeNode, Connection, FakeTransport, FakeLoop]:
    """Return an open connection that touches no socket."""
    node, loop, transport = FakeNode(), FakeLoop(), FakeTransport()
    commons = Commons(
        node=node,  # type: ignore[arg-type]
        loop=loop,  # type: ignore[arg-type]
        tick_s=1,
        activity_timeout_s=12,
        pong_timeout_s=3,
        request_timeout_s=10,
        close_timeout_s=5,
        buffer_limit=1 << 20,
        deflation=Deflation(window_bits=12, least=64),
    )
    connection = (kind or Connection)(commons, OpenDoor())  # type: ignore[arg-type]
    connection.connection_made(transport)  # type: ignore[arg-type]
    handshake = type("Handshake", (), {"key": "key"})()
    connection.open(b"101", handshake, LIMIT, b"")
    loop.turn()
    transport.written.clear()
    return node, connection, transport, loop


def test_a_turn_takes_a_bounded_number_of_frames_and_the_peer_is_held_back() -> None:
    node, connection, transport, loop = alone()
    connection.data_received(wire(TEXT, "") * 1000)
    counts = [node.received.qsize()]
    while loop.soon:
        assert not transport.is_reading
        loop.turn()
        counts.append(node.received.qsize())
    assert counts[-1] == 1000
    assert all(0 < later - earlier <= 256 for earlier, later in zip([0, *counts], counts, strict=False))
    assert transport.is_reading


def test_what_comes_while_reading_is_paused_keeps_its_place() -> None:
    node, connection, _, loop = alone()
    connection.data_received(b"".join(wire(TEXT, str(number)) for number in range(500)))
    connection.data_received(wire(TEXT, "500"))
    while loop.soon:
        loop.turn()
    assert [node.received.get_nowait()[1] for _ in range(501)] == [str(number) for number in range(501)]


def test_reading_goes_on_to_the_end_of_the_line_after_a_broken_frame_in_a_flood() -> None:
    node, connection, transport, loop = alone()
    connection.data_received(wire(TEXT, "") * 300 + wire(3) + wire(TEXT, "") * 300)
    while loop.soon:
        loop.turn()
    assert transport.is_reading
    assert transport.has_ended
    assert node.received.qsize() == 300
    assert node.lives[0].end == (1002, "protocol_error")


def test_what_is_offered_in_one_turn_is_written_in_one_piece() -> None:
    node, _, transport, loop = alone()
    for text in ("one", "two", "three"):
        node.offer(node.lives[0], text)
    assert transport.written == []
    loop.turn()
    assert transport.written == [b"\x81\x03one\x81\x03two\x81\x05three"]
    node.offer(node.lives[0], "four")
    loop.turn()
    assert transport.written[1:] == [b"\x81\x04four"]


def test_what_is_pending_when_the_peer_hangs_up_is_written_before_the_transport_closes() -> None:
    node, connection, transport, _ = alone()
    node.on_text = lambda live, text: node.offer(live, text.upper())
    connection.data_received(wire(TEXT, "anybody?"))
    assert not connection.eof_received()  # type: ignore[func-returns-value]
    assert transport.written == [b"\x81\x08ANYBODY?"]


def test_one_that_cannot_be_written_to_does_not_keep_the_others_from_it(caplog: pytest.LogCaptureFixture) -> None:
    node, connection, transport, loop = alone()
    other = FakeTransport()
    second = Connection(connection._commons, OpenDoor())  # type: ignore[arg-type]
    second.connection_made(other)  # type: ignore[arg-type]
    second.open(b"101", type("Handshake", (), {"key": "key"})(), LIMIT, b"")
    loop.turn()
    other.written.clear()
    aborted: list[bool] = []
    transport.write = lambda data: 1 // 0  # type: ignore[method-assign, assignment]
    transport.abort = lambda: aborted.append(True)  # type: ignore[attr-defined]
    for each in (connection, second):
        each.offer(b"\x81\x01x")
    loop.turn()
    assert aborted == [True]
    assert other.written == [b"\x81\x01x"]
    assert [record.exc_info is not None for record in caplog.records] == [True]
    connection.connection_lost(None)
    assert node.lives[0].end == (1006, "connection_lost")


@given(
    st.lists(st.one_of(st.text(max_size=40), st.lists(st.text(max_size=20), min_size=2, max_size=5), st.integers(0, 125))),
    st.lists(st.integers(1, 60), min_size=1),
)
def test_any_stream_in_any_pieces_gives_the_same_texts(said: list[str | list[str] | int], sizes: list[int]) -> None:
    node, connection, transport, loop = alone()
    stream, texts, pongs = b"", [], b""
    for thing in said:
        if isinstance(thing, int):
            stream += wire(PING, b"p" * thing)
            pongs += bytes([0x8A, thing]) + b"p" * thing
        elif isinstance(thing, str):
            stream += wire(TEXT, thing)
            texts.append(thing)
        else:
            for number, part in enumerate(thing):
                stream += wire(CONT if number else TEXT, part, fin=number == len(thing) - 1)
            texts.append("".join(thing))
    at = turn = 0
    while at < len(stream):
        connection.data_received(stream[at : at + sizes[turn % len(sizes)]])
        at += sizes[turn % len(sizes)]
        turn += 1
    while loop.soon:
        loop.turn()
    assert [node.received.get_nowait()[1] for _ in range(node.received.qsize())] == texts
    assert b"".join(transport.written) == pongs
    assert connection._parser is None, "an idle connection needs no parser"


@on_both_loops
async def test_many_vanish_in_the_middle_of_a_broadcast() -> None:
    async with house() as home:
        vanishing = [await home.join() for _ in range(60)]
        staying = [await home.join() for _ in range(5)]
        texts = []
        for number in range(40):
            texts.append(b"%03d" % number + b"x" * 5_000)
            for _, live in vanishing + staying:
                if live.end is None:
                    home.node.offer(live, texts[-1])
            if number == 20:
                for index, (peer, _) in enumerate(vanishing):
                    if index % 3 == 0:
                        peer.reset()
                    elif index % 3 == 1:
                        peer.writer.close()
                    else:
                        peer.send(CLOSE, close_payload(1000))
            await asyncio.sleep(0)
        for peer, _ in staying:
            assert [(await peer.frame())[1] for _ in texts] == texts
        for _ in vanishing:
            live = await home.node.ended.get()
            assert live.end in ((1000, "client"), (1006, "connection_lost"))
        assert all(live.end is None for _, live in staying)


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    return tls_contexts(tmp_path_factory.mktemp("tls"))


# -- other people's clients, and TLS ---------------------------------------------------------------------------------------


@on_both_loops
async def test_an_independent_client() -> None:
    async with house() as home:
        home.node.on_text = lambda live, text: home.node.offer(live, text[::-1])
        async with websockets.connect(f"ws://127.0.0.1:{home.port}/app/key?protocol=7", subprotocols=["a", "b"]) as client:  # type: ignore[list-item]
            assert await client.recv() == GREETING
            await client.send("drawer")
            assert await client.recv() == "reward"
            await client.send(["in ", "pieces"])
            assert await client.recv() == "seceip ni"
            await (await client.ping())
            assert client.subprotocol is None
            assert client.protocol.extensions == []
        assert await home.ended(home.node.lives[0]) == (1000, "client")
        async with websockets.connect(f"ws://127.0.0.1:{home.port}/app/key") as client:
            await client.recv()
            home.node.kick(home.node.lives[1], 4200, "come back", "shutdown")
            assert await client.recv() == "kicked 4200"
            with pytest.raises(websockets.ConnectionClosed) as caught:
                await client.recv()
            assert caught.value.rcvd == websockets.frames.Close(4200, "come back")
        assert await home.ended(home.node.lives[1]) == (4200, "client")


@on_both_loops
async def test_over_tls(tls: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    async with house(tls=tls[0]) as home:
        home.node.on_text = lambda live, text: home.node.offer(live, text)
        peer, live = await home.join(tls=tls[1])
        flood = wire(TEXT, "x" * 100) * 3000
        writing = asyncio.ensure_future(_write(peer, flood))
        for _ in range(3000):
            assert await peer.text() == "x" * 100
        await writing
        peer.send(CLOSE, close_payload(1001))
        assert await home.ended(live) == (1001, "client")
        assert await peer.closing() == 1001
        peer, live = await home.join(tls=tls[1])
        home.node.kick(live, 4200, "away", "shutdown")
        assert await peer.text() == "kicked 4200"
        assert (await peer.frame())[0] == CLOSE
        peer.writer.transport.abort()
        assert await home.ended(live) == (1006, "connection_lost")
        peer, live = await home.join(tls=tls[1])
        peer.send(3)
        assert await home.ended(live) == (1002, "protocol_error")
        assert await peer.closing() == 1002


@on_both_loops
async def test_who_does_not_read_over_tls_is_cut_as_well(tls: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    async with house(tls=tls[0], buffer_limit=65_536) as home:
        peer, slow = await home.join(tls=tls[1])
        peer.writer.transport.pause_reading()  # type: ignore[attr-defined]
        sent = 0
        while home.node.ended.empty():
            home.node.offer(slow, "x" * 10_000)
            await asyncio.sleep(0)
            sent += 1
            assert sent < 5_000
        assert await home.ended(slow) == (1006, "slow_consumer")


async def _flood(peer: Peer, data: bytes) -> None:
    try:
        while True:
            peer.writer.write(data)
            await peer.writer.drain()
            await asyncio.sleep(0)
    except ConnectionError:
        pass  # which is what the flood is meant to lead to


async def _write(peer: Peer, data: bytes) -> None:
    peer.writer.write(data)
    await peer.writer.drain()
