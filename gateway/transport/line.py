"""The outgoing half of a connection: what waits to be written, how much may wait, and how the line is closed.

What is queued in one turn of the event loop is written at its end with one call; see `turn`.
"""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import Iterable

from gateway.transport.commons import Commons
from gateway.transport.outlet import Outlet
from gateway.transport.phase import ENDED, INDIRECT, NEVER, OPEN
from gateway.transport.wheel import OFF

#: asyncio's own default; below it nobody needs to look at the buffer at all.
_HIGH_WATER = 65_536


class Line(Outlet, asyncio.Protocol):
    """A protocol that keeps its transport for as long as there is one."""

    __slots__ = ("_commons", "_transport", "_verdict", "spoke")

    def __init__(self, commons: Commons) -> None:
        super().__init__(commons.turn)
        self.spoke = OFF
        self._commons = commons
        self._transport: asyncio.Transport | None = None
        #: why the connection has been cut or failed from this side
        self._verdict: tuple[int, str] | None = None

    @property
    def transport(self) -> asyncio.Transport:
        """The transport, while there is one."""
        assert self._transport is not None
        return self._transport

    @property
    def peer(self) -> str:
        """See `gateway.ports.Connection`; asked of the socket, since most connections are never asked about."""
        name = None if self._transport is None else self._transport.get_extra_info("peername")
        return str(name[0]) if isinstance(name, tuple) else ""

    def abort(self) -> None:
        """Cut the line at once."""
        self._phase = max(self._phase, ENDED)
        self._descriptor = NEVER
        self.forget()
        if self._transport is not None:
            # Until the socket has gone the wheel must know of it.
            self._commons.wheel.put(self, self._commons.close_beats)
            self._transport.abort()

    def write_out(self) -> None:
        """Write what is pending as far as the walk has not: by way of the transport, unless that has nothing left to write."""
        transport = self._transport
        if self._pending is None or transport is None:
            return
        if self._phase == OPEN and self._descriptor == INDIRECT:
            self._descriptor = _straight_way(transport)
            if self._descriptor >= 0 and self.write_straight():
                return
        if self._descriptor >= 0:
            self._descriptor = INDIRECT
        transport.write(self.take())
        if self._is_blocked and transport.get_write_buffer_size() > self._commons.buffer_limit:
            if self._verdict is None:
                self._verdict = (1006, "slow_consumer")
            self.abort()
        elif self._phase == ENDED:
            self._hang_up(transport)

    def eof_received(self) -> None:
        """Send what is pending before the transport closes itself."""
        self.write_out()
        self._descriptor = NEVER

    def pause_writing(self) -> None:
        """Note that the socket takes no more for now; from here on each write looks at the bound."""
        self._is_blocked = True

    def resume_writing(self) -> None:
        """Note that the socket takes more again."""
        self._is_blocked = False

    @abstractmethod
    def due(self) -> None:
        """See `gateway.transport.wheel.Rider`."""

    # -- for the incoming half -------------------------------------------------------------------------------------

    def _bound(self) -> None:
        """Let the transport say when as much is waiting as may wait."""
        if self._commons.buffer_limit < _HIGH_WATER:
            self.transport.set_write_buffer_limits(high=self._commons.buffer_limit)

    def _queue_all(self, pieces: Iterable[bytes]) -> None:
        for data in pieces:
            if data:  # an empty piece says that the end has come, and `eof_sent` says that too
                self.queue(data)

    def _hang_up(self, transport: asyncio.Transport) -> None:
        self._descriptor = NEVER
        # Half-closing lets the peer read the close frame even if it is still sending: closing would reset the line.
        if transport.can_write_eof():
            transport.write_eof()
        else:
            transport.close()


def _straight_way(transport: asyncio.Transport) -> int:
    """Return the descriptor where the socket may be written to past the transport, else why not."""
    if transport.get_write_buffer_size():
        return INDIRECT
    socket = transport.get_extra_info("socket")
    if socket is None or transport.get_extra_info("sslcontext") is not None or transport.is_closing():
        return NEVER
    return int(socket.fileno())
