"""Parsers of WebSocket frames, lent to connections for as long as they have something to parse.

The parser is websockets' Sans-I/O protocol. Between two messages it holds nothing that belongs to the connection, so one
can serve all connections whose frames arrive whole, and an idle connection costs no parser.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from websockets.exceptions import PayloadTooBig
from websockets.frames import Frame, Opcode
from websockets.protocol import Protocol, Side, State

from gateway.transport.deflate import Inflation

#: What the library itself logs would be a line per connection that says nothing new.
LOG = logging.getLogger("rawpush.websockets")
LOG.setLevel(logging.ERROR)

#: Spares kept: as many as connections may sensibly be in the middle of something at once; making one is not dear.
_SPARES = 64

#: The payload of the largest control frame (RFC 6455 section 5.5).
_CONTROL_FRAME = 125


class Parser(Protocol):
    """A parser in the OPEN state."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        super().__init__(Side.SERVER, state=State.OPEN, max_size=limit, logger=LOG)

    @property
    def max_message_size(self) -> int:
        """The size the library holds a frame to, less what the message already has.

        The library does so with control frames too, so a ping within a fragmented message would count as part of it: there
        must be room for one, and whoever puts the fragments together sees to the exact limit.
        """
        return self._limit if self.current_size is None else self._limit + _CONTROL_FRAME

    @max_message_size.setter
    def max_message_size(self, limit: int) -> None:
        self._limit = limit

    def recv_frame(self, frame: Frame) -> None:
        """See the library's method, to which a close frame within a fragmented message is an error: it is none.

        A control frame may stand between fragments, and a close frame is one (RFC 6455 sections 5.4 and 5.5.1).
        """
        if frame.opcode is Opcode.CLOSE:
            self.current_size = None
        super().recv_frame(frame)

    def size_on_wire(self, frame: Frame) -> int:
        """Return the least number of bytes a client's frame can have taken (RFC 6455 section 5.2).

        A client may write the length in a longer form than it needs; then more was fed than frames account for, and the
        connection keeps its parser.
        """
        return _size_on_wire(len(frame.data))

    def verdict(self) -> tuple[int, str]:
        """Return close code and reason of the end: the peer's close frame, or what the peer did wrong."""
        cause = self.parser_exc
        if cause is None:
            return (1006 if self.close_rcvd is None else int(self.close_rcvd.code)), "client"
        if isinstance(cause, PayloadTooBig):
            return 1009, "message_too_large"
        if isinstance(cause, UnicodeDecodeError):
            return 1007, "protocol_error"
        return 1002, "protocol_error"


class InflatingParser(Parser):
    """A parser for connections that have agreed on permessage-deflate."""

    def __init__(self, limit: int) -> None:
        super().__init__(limit)
        self._inflation = Inflation()
        self.extensions.append(self._inflation)

    def size_on_wire(self, frame: Frame) -> int:
        """See `Parser.size_on_wire`; to be asked about each frame once, in the order they came."""
        return _size_on_wire(self._inflation.sizes.pop(0))


class Lender:
    """Lends parsers and takes back those that are between two messages; `make` makes one, given its limit in bytes."""

    __slots__ = ("_make", "_spares")

    def __init__(self, make: Callable[[int], Parser] = Parser) -> None:
        self._make = make
        self._spares: list[Parser] = []

    def lend(self, limit: int) -> Parser:
        """Return a parser that refuses messages of more than `limit` bytes with 1009."""
        if self._spares:
            parser = self._spares.pop()
            parser.max_message_size = limit
            return parser
        return self._make(limit)

    def take_back(self, parser: Parser) -> None:
        """Take back a parser that is OPEN, has parsed all it was fed and is in no fragmented message."""
        if len(self._spares) < _SPARES:
            self._spares.append(parser)
        else:
            discard(parser)


def discard(parser: Protocol) -> None:
    """Do away with a parser that will not be used again: what refers back to it would be left to the garbage collector."""
    del parser.parser
    fault: BaseException | None
    for fault in (parser.parser_exc, parser.handshake_exc):
        while fault is not None:
            fault.__traceback__ = None  # its frames hold the parser as well
            fault = fault.__cause__ or fault.__context__


def _size_on_wire(size: int) -> int:
    return size + (6 if size < 126 else 8 if size < 65_536 else 14)
