"""Chance nobody can guess, from the system, for who needs a little of it very often."""

from __future__ import annotations

import os
import struct

#: 62 random bits each: the system is asked once for so many, since the asking costs more than the bits.
_AT_ONCE = struct.Struct("64Q")


class Chance:
    """Returns 62 random bits each time it is called; for one thread, and for a process that does not fork."""

    __slots__ = ("_left",)

    def __init__(self) -> None:
        self._left: list[int] = []

    def __call__(self) -> int:
        """Return a number below 2^62."""
        if not self._left:
            self._left.extend(_AT_ONCE.unpack(os.urandom(_AT_ONCE.size)))
        return self._left.pop() >> 2
