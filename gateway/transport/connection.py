"""One socket, and mostly one WebSocket: bytes in, texts to the node, and what the node offers out again.

A connection passes through five phases, in this order, and may skip any:

    HEAD      the head of the first request is awaited, for the door to read; it may end here, or become somebody else's
    OPEN      texts go to the node, offers go out
    CLOSING   a close frame is on its way; the peer's is awaited, offers are dropped
    ENDED     nothing more is read; what is pending goes out, then the line is closed
    GONE      the socket has been closed

The node is told of the end once: when the peer's close frame or its mistake has been read, else when the socket has gone.
There is no task and no timer; the wheel calls `due` when the connection has been silent, or in one of the later phases, for
too long.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, cast

from websockets.frames import Frame, Opcode
from websockets.protocol import State

from gateway.core import frame as codec
from gateway.core.error import Code
from gateway.node import Handshake, Live
from gateway.transport.commons import Commons
from gateway.transport.glance import CLOSE, MESSAGES, PING, PONG, TEXT, code_of, echo, glance
from gateway.transport.line import Line
from gateway.transport.parser import Lender, Parser, discard
from gateway.transport.phase import CLOSING, ENDED, GONE, HEAD, NEVER, OPEN

if TYPE_CHECKING:
    from gateway.transport.door import Door

_logger = logging.getLogger("rawpush.gateway")

#: An empty ping, unmasked (RFC 6455 section 5.5.2).
_PING = b"\x89\x00"
#: The same question as an event, for clients made by hand that know it only in this form.
_PING_EVENT = codec.wire(codec.ping())

#: Bytes parsed at a stretch: at most 170 of the smallest frames, about a millisecond.
_SLICE = 1024
#: Frames taken from one connection before the others have their turn.
_FRAMES_PER_TURN = 64
#: Beats between telling a silent peer that it was closed and cutting the line.
_FAREWELL_BEATS = 2
#: What a close frame has room for beside the code (RFC 6455 section 5.5).
_LONGEST_REASON = 123


class Connection(Line):
    """See the head of this file and `gateway.ports.Connection`, which this is."""

    __slots__ = (
        "_asked_at",
        "_door",
        "_fragments",
        "_heard_at",
        "_is_text",
        "_limit",
        "_live",
        "_message",
        "_parser",
        "_rest",
        "_unparsed",
        "received_bytes",
        "received_messages",
    )

    def __init__(self, commons: Commons, door: Door) -> None:
        """`door` is the one it has come to."""
        super().__init__(commons)
        self.received_messages = 0
        self.received_bytes = 0
        self._door: Door | None = door
        self._live: Live | None = None
        #: the greatest size of an inbound message in bytes, all fragments together, not compressed
        self._limit = 0
        #: beats at which something was last heard, and at which a ping was sent that nothing has followed yet
        self._heard_at = commons.beat
        self._asked_at: int | None = None
        self._parser: Parser | None = None
        #: bytes fed to the parser that no frame has accounted for yet
        self._unparsed = 0
        #: received, but to be parsed in a later turn; before that, the head as far as it has come
        self._rest: bytes | None = None
        #: the fragments so far of an unfinished message
        self._message: bytearray | None = None
        self._fragments = 0
        self._is_text = False

    # -- what the door says ----------------------------------------------------------------------------------------

    def open(self, answer: bytes, handshake: Handshake, limit: int, rest: bytes) -> None:
        """Answer the upgrade, present the connection to the node, and take what came behind the request's head.

        `limit` is the greatest size of an inbound message in bytes.
        """
        self._phase = OPEN
        self._limit = limit
        self._door = self._rest = None
        self._bound()
        self.queue(answer)
        self._commons.wheel.put(self, self._commons.idle_beats)
        try:
            self._live = self._commons.node.open(handshake, self)
        except Exception:  # a fault that one handshake meets must not spread
            _logger.exception("a connection could not be opened")
            self.close(1011, "internal error")
        if rest:
            self.data_received(rest)

    def refuse(self, answer: bytes) -> None:
        """Answer the request, and read nothing more."""
        self._phase = ENDED
        self._rest = None
        self._commons.wheel.put(self, self._commons.close_beats)
        self.queue(answer)
        self.write_out()

    def leave(self) -> asyncio.Transport:
        """Let go of the transport, which is somebody else's from now on."""
        transport = self.transport
        self._transport = self._rest = None
        self._phase = GONE
        self._descriptor = NEVER
        self._commons.forget(self)
        return transport

    # -- what the node says ----------------------------------------------------------------------------------------

    def close(self, code: int, reason: str) -> None:
        """See `gateway.ports.Connection`; a reason too long for a close frame is cut."""
        if self._phase != OPEN:
            return
        self._phase = CLOSING
        parser = self._borrowed()
        if parser.state is State.OPEN:  # else the peer was faster, and its close frame is about to be dealt with
            parser.send_close(code, reason.encode()[:_LONGEST_REASON].decode("utf-8", "ignore"))
            self._queue_all(parser.data_to_send())
        self._commons.wheel.put(self, self._commons.close_beats)

    # -- what the wheel and the commons say ------------------------------------------------------------------------

    def due(self) -> None:
        """Look whether the peer is alive; cut the line if it was to be closed by now."""
        if self._phase == HEAD and self._rest and self._door is not None:
            self._door.late(self)
            return
        if self._phase != OPEN:
            self.abort()
            return
        commons = self._commons
        if self._asked_at is not None and self._heard_at < self._asked_at:
            left = self._asked_at + commons.pong_beats - commons.beat
            if left > 0:
                # Only now: nearly every library answers the first question by itself, and is spared the second.
                self.offer(_PING_EVENT)
                commons.wheel.put(self, left)
                return
            # Back on the wheel whatever the node does. A peer that has not answered the ping will hardly answer the close.
            commons.wheel.put(self, _FAREWELL_BEATS)
            if self._live is not None:
                commons.node.kick(self._live, Code.NO_PONG, "nothing was heard, not even a pong", "ping_timeout")
                commons.wheel.put(self, _FAREWELL_BEATS)
            return
        silence = commons.beat - self._heard_at
        if silence >= commons.idle_beats:
            self._asked_at = commons.beat
            self.queue(_PING)
            commons.wheel.put(self, max(1, commons.pong_beats // 2))
        else:
            self._asked_at = None
            commons.wheel.put(self, commons.idle_beats - silence)

    # -- what the transport says -----------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Give the peer its time for a request head."""
        # cast, not checked: uvloop's transports are transports without inheriting from asyncio's
        self._transport = transport = cast(asyncio.Transport, transport)
        if self._door is None or self._door.admits(transport):
            self._commons.wheel.put(self, self._commons.request_beats)
        else:
            self._phase = ENDED
            transport.abort()

    def data_received(self, data: bytes) -> None:
        """Take bytes from the wire."""
        self._heard_at = self._commons.beat
        if self._phase >= ENDED:
            return
        if self._door is not None:
            known = self._rest or b""
            self._rest = head = known + data
            self._door.read(self, head, len(known))
        elif self._rest is not None:
            # Reading is paused, but TLS hands over what it has decrypted already.
            self._rest += data
        else:
            self._feed(data)

    def connection_lost(self, exc: Exception | None) -> None:
        """Let go of everything and report the end, unless it has been reported."""
        self._phase = GONE
        self._transport = None
        self._descriptor = NEVER
        self.forget()
        self._rest = self._message = None
        self._drop_parser()
        self._commons.forget(self)
        if self._live is not None:
            self._report(self._verdict or (1006, "connection_lost"))

    # -- reading ---------------------------------------------------------------------------------------------------

    def _feed(self, data: bytes) -> None:
        frames = at = 0
        # A parser is at work where something is unfinished, or the end has begun.
        while self._parser is None and frames < _FRAMES_PER_TURN:
            found = glance(data, at, self._limit)
            if found is None:
                break
            first, payload, at = found
            frames += 1
            self._take_whole(first, payload)
            if self._phase >= ENDED:
                return
        for start in range(at, len(data), _SLICE):
            if frames >= _FRAMES_PER_TURN:
                self._pause(data[start:])
                return
            frames += self._parse(data[start : start + _SLICE])
            if self._phase >= ENDED:
                return

    def _pause(self, rest: bytes) -> None:
        """Go on in the next turn; meanwhile the peer's own TCP holds it back."""
        self._rest = rest
        if self._transport is not None:
            self._transport.pause_reading()
        self._commons.loop.call_soon(self._resume)

    def _resume(self) -> None:
        rest, self._rest = self._rest, None
        if rest is not None and self._phase < ENDED:
            self._feed(rest)
        if self._rest is None and self._transport is not None:
            self._transport.resume_reading()

    def _take_whole(self, first: int, payload: bytes) -> None:
        """Take a frame that needed no parser."""
        if first in MESSAGES:
            self._is_text = first == TEXT
            self._finish(payload)
            if self._verdict is not None:
                self._parse(b"")  # there is a parser now, and it has something to say
        elif first == PING:
            self.queue(echo(PONG, payload))
        elif first == CLOSE:
            self.queue(echo(CLOSE, payload))
            self._end((code_of(payload), "client"))

    def _parse(self, data: bytes) -> int:
        """Parse some bytes, act on the frames in them, and return how many there were."""
        parser = self._borrowed()
        parser.receive_data(data)
        frames = parser.events_received()
        self._unparsed += len(data)
        # A pong for each ping, in order; behind them perhaps a close frame.
        answers = parser.data_to_send()
        for frame in frames:
            assert isinstance(frame, Frame)
            self._unparsed -= parser.size_on_wire(frame)
            if frame.opcode <= Opcode.BINARY:
                if self._verdict is None:
                    self._take(frame)
            elif frame.opcode is Opcode.PING:
                self.queue(answers.pop(0))
        self._queue_all(answers)
        self._queue_all(parser.data_to_send())
        if parser.eof_sent:
            self._end(self._verdict or parser.verdict())
        elif self._unparsed == 0 and self._message is None and parser.state is State.OPEN:
            self._parser = None
            self._lender.take_back(parser)
        return len(frames)

    def _take(self, frame: Frame) -> None:
        """Take a data frame: a message, or a fragment of one."""
        data, frame.data = frame.data, b""  # the parser holds its last frame until there is another
        if frame.opcode is not Opcode.CONT:
            self._is_text = frame.opcode is Opcode.TEXT
            if not frame.fin:
                self._message = bytearray(data)
                self._fragments = 1
                return
        else:
            assert self._message is not None
            self._message += data
            self._fragments += 1
            # More fragments than bytes are allowed: there are empty ones among them, and no end to it.
            if max(self._fragments, len(self._message)) > self._limit:
                self._fail(1009, "message_too_large", "the message is too large")
                return
            if not frame.fin:
                return
            data, self._message = self._message, None
        self._finish(bytes(data))

    def _finish(self, data: bytes) -> None:
        """Take a whole message."""
        self.received_messages += 1
        self.received_bytes += len(data)
        # A binary message is no frame of the protocol and is ignored (Pusher protocol: closing would cost old clients dearly).
        if self._is_text:
            self._hand_over(data)

    def _hand_over(self, data: bytes) -> None:
        try:
            text = data.decode()
        except UnicodeDecodeError:
            self._fail(1007, "protocol_error", "text must be UTF-8")
            return
        if self._live is None or self._phase != OPEN:
            return
        try:
            self._commons.node.receive(self._live, text)
        except Exception:  # a fault that one message meets costs the connection it came by, and no other
            _logger.exception("a message could not be handled")
            self._fail(1011, "internal_error", "internal error")

    # -- ending ----------------------------------------------------------------------------------------------------

    def _fail(self, code: int, reason: str, sentence: str) -> None:
        self._verdict = (code, reason)
        self._borrowed().fail(code, sentence)

    def _end(self, verdict: tuple[int, str]) -> None:
        """Nothing more will be read: report it, and close the line when all is written."""
        if self._phase == OPEN:
            self._commons.wheel.put(self, self._commons.close_beats)
        self._phase = ENDED
        self._message = None
        self._drop_parser()
        if self._pending is None and self._transport is not None:
            self._hang_up(self._transport)
        self._report(verdict)

    def _report(self, verdict: tuple[int, str]) -> None:
        live, self._live = self._live, None
        if live is not None:
            self._commons.node.lost(live, *verdict)

    # -- helpers ---------------------------------------------------------------------------------------------------

    @property
    def _lender(self) -> Lender:
        return self._commons.lender

    def _borrowed(self) -> Parser:
        if self._parser is None:
            self._unparsed = 0
            self._parser = self._lender.lend(self._limit)
        return self._parser

    def _drop_parser(self) -> None:
        if self._parser is not None:
            discard(self._parser)
            self._parser = None
