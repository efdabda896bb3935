"""What all connections of one front have in common: the node, the wheel, the parsers, and the turn in which they write."""

from __future__ import annotations

import asyncio
import logging
import math

from gateway.node import Node
from gateway.transport.deflate import Deflation
from gateway.transport.parser import InflatingParser, Lender
from gateway.transport.turn import Turn
from gateway.transport.wheel import Rider, Wheel

_logger = logging.getLogger("rawpush.gateway")

#: Riders served in one turn of the loop: all those that came in one burst are due in one beat, and nobody shall wait for them.
_AT_ONCE = 256


class Commons:
    """See the head of this file; times are in seconds, `tick_s` is the length of a beat."""

    __slots__ = (
        "beat",
        "buffer_limit",
        "close_beats",
        "deflation",
        "gone",
        "idle_beats",
        "inflating_lender",
        "lender",
        "loop",
        "node",
        "pong_beats",
        "request_beats",
        "turn",
        "wheel",
    )

    def __init__(
        self,
        *,
        node: Node,
        loop: asyncio.AbstractEventLoop,
        tick_s: float,
        activity_timeout_s: float,
        pong_timeout_s: float,
        request_timeout_s: float,
        close_timeout_s: float,
        buffer_limit: int,
        deflation: Deflation | None = None,
    ) -> None:
        """`deflation` None: compression is never agreed on."""
        self.node = node
        self.loop = loop
        self.buffer_limit = buffer_limit
        self.idle_beats = _beats(activity_timeout_s, tick_s)
        self.pong_beats = _beats(pong_timeout_s, tick_s)
        self.request_beats = _beats(request_timeout_s, tick_s)
        self.close_beats = _beats(close_timeout_s, tick_s)
        self.wheel = Wheel(max(self.idle_beats, self.pong_beats, self.request_beats, self.close_beats))
        #: the number of the current beat
        self.beat = 0
        self.lender = Lender()
        self.inflating_lender = Lender(InflatingParser)
        self.deflation = deflation
        #: those of them that have something to write
        self.turn = Turn(loop, None if deflation is None else deflation.forget)
        #: set for whoever waits until nobody is left
        self.gone: asyncio.Event | None = None

    def advance(self) -> None:
        """Let one beat pass and serve those who are due, a few at a time."""
        self.beat += 1
        self.wheel.advance()
        self._serve()

    def forget(self, rider: Rider) -> None:
        """Take note that a socket has gone."""
        self.wheel.remove(rider)
        if self.gone is not None and not self.wheel:
            self.gone.set()

    def _serve(self) -> None:
        riders = self.wheel.take(_AT_ONCE)
        for rider in riders:
            try:
                rider.due()
            except Exception:  # whatever is wrong with one connection, the wheel must go on turning
                _logger.exception("a connection could not be looked after")
                rider.abort()
        if len(riders) == _AT_ONCE:
            self.loop.call_soon(self._serve)


def _beats(seconds: float, tick_s: float) -> int:
    # One more, because the first is under way already: never early, at most one beat late.
    return math.ceil(seconds / tick_s) + 1
