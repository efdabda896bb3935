"""A short look at a WebSocket frame: what nearly every frame is can be read without a parser.

A whole, masked frame that is a message of its own, a ping, a pong or the usual farewell needs no state to be read. All else,
and all that is wrong with a frame, is left to the parser, which judges it as if nobody had looked before.
"""

from __future__ import annotations

try:
    from websockets.speedups import apply_mask
except ImportError:  # where the library came without its compiled part
    from websockets.utils import apply_mask

#: First bytes: FIN, no extension, and an opcode (RFC 6455 section 5.2)
TEXT, BINARY, CLOSE, PING, PONG = 0x81, 0x82, 0x88, 0x89, 0x8A

MESSAGES = (TEXT, BINARY)
_CONTROLS = (PING, PONG)
_MASKED = 0x80

#: Close codes of a peer that simply goes (RFC 6455 section 7.4.1), as they stand in the frame; 1005: it gave none.
_FAREWELLS = {b"": 1005, b"\x03\xe8": 1000, b"\x03\xe9": 1001}


def glance(data: bytes, at: int, most: int) -> tuple[int, bytes, int] | None:
    """Return first byte, payload and end of the frame that begins at `at`; None if the parser must see to it.

    `most` is the greatest size of a message in bytes. A close frame is returned only if it is one of `code_of`.
    """
    if len(data) < at + 6:
        return None
    first, size = data[at], data[at + 1] - _MASKED
    start = at + 6
    if size == 126:
        size = int.from_bytes(data[at + 2 : at + 4])
        start = at + 8
        if size < 126:  # longer than it need be: the parser's owner counts it otherwise
            return None
    elif not 0 <= size < 126:
        return None
    end = start + size
    if end > len(data):
        return None
    if first in MESSAGES:
        if size > most:
            return None
    elif first == CLOSE:
        if size > 2 or apply_mask(data[start:end], data[start - 4 : start]) not in _FAREWELLS:
            return None
    elif first not in _CONTROLS or size > 125:
        return None
    return first, apply_mask(data[start:end], data[start - 4 : start]), end


def code_of(payload: bytes) -> int:
    """Return the code of a close frame that `glance` has returned."""
    return _FAREWELLS[payload]


def echo(first: int, payload: bytes) -> bytes:
    """Return a control frame of a server: unmasked, at most 125 bytes of payload."""
    return bytes((first, len(payload))) + payload
