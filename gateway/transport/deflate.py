"""permessage-deflate (RFC 7692): what is agreed in the handshake, and one compression for all who agreed.

No context is taken over, in either direction. So a connection keeps no state of zlib between two messages, and what is
compressed for one subscriber is right for all of them: a publication is compressed once, however many there are.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from functools import lru_cache

from websockets.exceptions import InvalidHeader, NegotiationError, PayloadTooBig
from websockets.extensions.permessage_deflate import PerMessageDeflate, ServerPerMessageDeflateFactory
from websockets.frames import Frame
from websockets.headers import build_extension, parse_extension
from websockets.typing import ExtensionHeader, ExtensionParameter

from gateway.core import frame as codec

#: Level 6 saves another tenth of the bytes and takes two to three times as long, on JSON of 1 to 70 KB.
_LEVEL = 1
#: In step with a small window; level 1 has no use for more.
_MEM_LEVEL = 5

_FIN_TEXT = 0x81
_RSV1 = 0x40
#: What a sync flush ends with and a message goes without (RFC 7692 section 7.2.1).
_TAIL = b"\x00\x00\xff\xff"

#: A library offers one or two forms; who offers dozens is not worth the reading.
_MOST_OFFERS = 8
#: The window of whoever says nothing of it (RFC 7692 section 7.1.2).
_LARGEST_WINDOW = 15
#: Enough to tell a message of exactly the limit, whose last block may be waiting for room, from one that goes on.
_SLACK = 8


class Deflation:
    """Negotiates and compresses.

    `window_bits` (9 to 15) is the compressor's window; frames below `least` bytes stay as they are.
    """

    __slots__ = ("_compressed", "_factory", "_least", "_plain", "_window_bits", "negotiate")

    def __init__(self, *, window_bits: int, least: int) -> None:
        self._window_bits = window_bits
        self._least = least
        self._factory = ServerPerMessageDeflateFactory(
            server_no_context_takeover=True, client_no_context_takeover=True, server_max_window_bits=window_bits
        )
        #: `_negotiate` with a memory: a client library always offers the same
        self.negotiate = lru_cache(maxsize=32)(self._negotiate)
        self._plain = self._compressed = b""

    def shared(self, frame: bytes) -> bytes:
        """Return the compressed form of a finished text frame, or the very frame where compressing is of no use.

        The last one is remembered: a fan-out offers the same object to one subscriber after the other.
        """
        if frame is not self._plain:
            self._plain, self._compressed = frame, self._compress(frame)
        return self._compressed

    def forget(self) -> None:
        """Let go of the frame that is remembered."""
        self._plain = self._compressed = b""

    def _compress(self, frame: bytes) -> bytes:
        if len(frame) < self._least or frame[0] != _FIN_TEXT:
            return frame
        compressed = self.compressed(frame)
        return compressed if len(compressed) < len(frame) else frame

    def compressed(self, frame: bytes) -> bytes:
        """Return the compressed form of a finished data frame, useful or not (RFC 7692 section 7.2.1)."""
        size = frame[1]
        payload = memoryview(frame)[2 if size < 126 else 4 if size == 126 else 10 :]
        squeezer = zlib.compressobj(_LEVEL, zlib.DEFLATED, -self._window_bits, _MEM_LEVEL)
        squeezed = squeezer.compress(payload) + squeezer.flush(zlib.Z_SYNC_FLUSH)
        wire = bytearray(codec.wire(squeezed[: -len(_TAIL)]))
        wire[0] = frame[0] | _RSV1
        return bytes(wire)

    def _negotiate(self, offers: bytes) -> str | None:
        """Return the value of the answer's `Sec-WebSocket-Extensions` for that of the request; None: nothing is agreed.

        Whatever is strange about an offer, it is passed over; the next one may do.
        """
        try:
            parsed = parse_extension(offers.decode("latin-1"))
        except InvalidHeader:
            return None
        for name, parameters in parsed[:_MOST_OFFERS]:
            if name == self._factory.name and (answer := self._accepted(parameters)) is not None:
                header: ExtensionHeader = (name, list(answer))
                return build_extension([header])
        return None

    def _accepted(self, offered: Sequence[ExtensionParameter]) -> Sequence[ExtensionParameter] | None:
        try:
            answer, agreed = self._factory.process_request_params(offered, [])
        except NegotiationError:
            return None
        # A client with a smaller window could not read what is compressed for all the others.
        return answer if agreed.local_max_window_bits == self._window_bits else None


class Inflation(PerMessageDeflate):
    """The reading side of one parser: inflates within the message limit, and keeps account of what the frames took."""

    def __init__(self) -> None:
        super().__init__(True, True, _LARGEST_WINDOW, _LARGEST_WINDOW)
        #: payload sizes as they came, of frames that have not been asked about yet
        self.sizes: list[int] = []

    def decode(self, frame: Frame, *, max_size: int | None = None) -> Frame:
        """See the library's class, which does not take a message of exactly the limit in some cases."""
        assert max_size is not None
        self.sizes.append(len(frame.data))
        inflated = super().decode(frame, max_size=max_size + _SLACK)
        if len(inflated.data) > max_size:
            raise PayloadTooBig(None, max_size)
        return inflated
