"""HMAC-SHA256 with keys that are used again and again.

The first block that either of its two hashes takes is made of the key alone (RFC 2104 section 2). So a hash that has taken
it is kept and copied for each message, which spares half of the blocks and all of the looking up what is to be computed.
"""

from __future__ import annotations

from functools import lru_cache
from hashlib import sha256

#: bytes of a block of SHA-256
_BLOCK = 64
_INNER, _OUTER = (bytes(byte ^ mask for byte in range(256)) for mask in (0x36, 0x5C))


class Keyed:
    """Signs messages that begin alike: with one key, and with `start`, which may be empty."""

    __slots__ = ("_inner", "_outer")

    def __init__(self, key: bytes, start: bytes = b"") -> None:
        block = (key if len(key) <= _BLOCK else sha256(key).digest()).ljust(_BLOCK, b"\0")
        self._inner = sha256(block.translate(_INNER) + start)
        self._outer = sha256(block.translate(_OUTER))

    def sign(self, rest: bytes) -> str:
        """Return the signature, in lower-case hex, of the message that goes on with `rest`."""
        inner, outer = self._inner.copy(), self._outer.copy()
        inner.update(rest)
        outer.update(inner.digest())
        return outer.hexdigest()

    def digest(self, *pieces: bytes) -> bytes:
        """Return the signature as bytes, of the message that goes on with these pieces."""
        inner, outer = self._inner.copy(), self._outer.copy()
        for piece in pieces:
            inner.update(piece)
        outer.update(inner.digest())
        return outer.digest()


@lru_cache(maxsize=1024)
def keyed(key: bytes) -> Keyed:
    """Return what signs with this key: the same for as long as it is in use."""
    return Keyed(key)
