"""Patience with peers that do not take what is written to them: it has an end.

A server of HTTP waits until its answer has been taken before it reads the next request. Without a bound, whoever stops
reading keeps his connection, and the answer with it, for as long as he likes.
"""

from __future__ import annotations

import asyncio

#: seconds in which a peer must have taken at least something of what waits for it
TAKE_S = 60.0


class Patience:
    """Cuts one connection when nothing of what waits in its transport is taken for `TAKE_S`.

    A protocol calls `begin` when its connection is made, `waits` and `goes_on` when writing is paused and resumed, and `ends`
    when it has lost the connection, or given it to another protocol.
    """

    __slots__ = ("_left", "_loop", "_timer", "_transport")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        #: bytes that waited when last looked at
        self._left = 0

    def begin(self, transport: asyncio.Transport) -> None:
        """Have writing paused as soon as the kernel does not take everything."""
        self._transport = transport
        # A transport that closes waits until it is empty, so what is below a higher mark would hold it open unseen.
        # Not 0: to TLS that means always.
        transport.set_write_buffer_limits(high=1, low=0)

    def waits(self) -> None:
        """Take note that something waits for the peer."""
        if self._transport is not None:
            self._left = self._transport.get_write_buffer_size()
            self._timer = self._loop.call_later(TAKE_S, self._look)

    def goes_on(self) -> None:
        """Take note that everything has been taken."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def ends(self) -> None:
        """Look no more."""
        self.goes_on()
        self._transport = None

    def _look(self) -> None:
        if self._transport is None:
            return
        if self._transport.get_write_buffer_size() < self._left:
            self.waits()
        else:
            self._timer = None
            self._transport.abort()
