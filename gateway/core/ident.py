"""Ids: of lifecycle events and spans (time-ordered), and of sockets (not guessable)."""

from __future__ import annotations


class Ids:
    """Makes ids that sort by time of making, also when the wall clock steps back, and never repeat.

    `seed` must be 48 random bits, new in every process: it is what keeps two nodes, or two lives of one node, apart.
    An id is a prefix, 12 hex digits of milliseconds, 8 of a counter, 12 of the seed.
    """

    __slots__ = ("_counter", "_ms", "_ms_digits", "_seed")

    def __init__(self, seed: int) -> None:
        self._seed = f"{seed & 0xFFFF_FFFF_FFFF:012x}"
        self._ms = 0
        self._ms_digits = f"{0:012x}"
        self._counter = 0

    def make(self, prefix: str, epoch_ms: int) -> str:
        """Return the next id, e.g. `evt_0199f0c2a3b4` + counter + seed; `epoch_ms` is now, in Unix milliseconds."""
        if epoch_ms > self._ms:
            self._ms = epoch_ms
            self._ms_digits = f"{epoch_ms:012x}"
            self._counter = 0
        else:
            self._counter += 1
        # Of all ways to write a number at a fixed width this is the quickest, and an id is made for every event.
        return "%s_%s%08x%s" % (prefix, self._ms_digits, self._counter, self._seed)  # noqa: UP031


def socket_id(chance: int) -> str:
    """Return a socket id from 62 random bits: digits, a dot, digits, each part below 2^31 (Pusher protocol: socket ids)."""
    return f"{(chance >> 31) & 0x7FFF_FFFF}.{chance & 0x7FFF_FFFF}"
