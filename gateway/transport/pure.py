"""The walk over the subscribers of a publication, in Python; `outlet` says what it is for. `_outlet.c` promises the same."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol, TypeVar

from gateway.transport.phase import HEAD, INDIRECT, OPEN

if TYPE_CHECKING:
    from gateway.transport.turn import Turn

#: What one system call takes: the kernel allows 1024, and beyond a few the call is no longer what costs.
_MOST_PIECES = 64


class Taker(Protocol):
    """Whoever takes offers: an outlet, or what offers in another way."""

    def offer(self, data: bytes, /) -> None:
        """Take one finished frame."""
        ...


class Outlet:
    """What the walk touches of a connection: its counters, what waits to be written, and where to."""

    __slots__ = ("_descriptor", "_is_blocked", "_pending", "_phase", "_turn", "sent_bytes", "sent_messages")

    def __init__(self, turn: Turn) -> None:
        """It puts itself into the turn when it has something to write."""
        self.sent_messages = 0
        self.sent_bytes = 0
        self._turn = turn
        #: None: nothing; what else it is, is the outlet's own affair
        self._pending: list[bytes] | None = None
        self._descriptor = INDIRECT
        self._phase = HEAD
        self._is_blocked = False

    def offer(self, data: bytes) -> None:
        """Take one finished frame, and count it; whoever is not open drops it."""
        if self._phase == OPEN:
            size = len(data)
            self.sent_messages += 1
            # What the frame's own head takes (RFC 6455 section 5.2) is no payload.
            self.sent_bytes += size - (2 if size < 128 else 4 if size < 65_540 else 10)
            if self._pending is None:
                self.queue(data)
            else:
                self._pending.append(data)

    def offer_as(self, data: bytes, wire: bytes) -> None:
        """Do as `offer` does, but write `wire` in its place."""
        if self._phase == OPEN:
            Outlet.offer(self, data)
            assert self._pending is not None
            self._pending[-1] = wire

    def queue(self, data: bytes) -> None:
        """Take bytes that are no message, whatever the phase: an answer, a control frame."""
        if self._pending is not None:
            self._pending.append(data)
            return
        if not self._turn:
            self._turn.begin()
        self._turn.append(self)  # type: ignore[arg-type]  # there are no outlets but those of lines
        self._pending = [data]

    def take(self) -> bytes:
        """Return what waits, in one piece, for somebody else to write."""
        pending, self._pending = self._pending, None
        return b"" if pending is None else pending[0] if len(pending) == 1 else b"".join(pending)

    def forget(self) -> None:
        """Drop what waits."""
        self._pending = None

    def write_straight(self) -> bool:
        """Write what waits to the descriptor; returns whether nothing is left.

        What is wrong with the socket is not told here: the transport, which is given the rest, meets it again.
        """
        pending = self._pending or []
        try:
            while pending:
                sent = os.writev(self._descriptor, pending[:_MOST_PIECES])
                whole = 0
                while whole < len(pending) and sent >= len(pending[whole]):
                    sent -= len(pending[whole])
                    whole += 1
                del pending[:whole]
                if sent:
                    pending[0] = pending[0][sent:]
        except OSError:
            return False
        self._pending = None
        return True


AnOutlet = TypeVar("AnOutlet", bound=Outlet)


def offer_all(subscribers: Mapping[str, Taker], data: bytes, excluded: object) -> None:
    """Offer the same frame to all of them but the excluded one, if there is one; see `gateway.ports.OfferAll`."""
    for subscriber in subscribers.values():
        if subscriber is not excluded:
            subscriber.offer(data)


def write_some(turn: list[AnOutlet], start: int, most: int) -> Sequence[AnOutlet]:
    """Write what the outlets from `start` on have, at most so many of them; returns those where Python is to do the rest."""
    return [
        outlet
        for outlet in turn[start : start + most]
        if outlet._pending is not None and (outlet._phase != OPEN or outlet._descriptor < 0 or not outlet.write_straight())
    ]
