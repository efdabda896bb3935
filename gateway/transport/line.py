"""The outgoing half of a connection: what waits to be written, how much may wait, and how the line is closed.

What is queued in one turn of the event loop is written at its end with one call; see `commons`.
"""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import Iterable

from gateway.transport.commons import Commons
from gateway.transport.wheel import OFF

#: The phases of a connection, see `connection`.
HEAD, OPEN, CLOSING, ENDED, GONE = range(-1, 4)

#: asyncio's own default; below it nobody needs to look at the buffer at all.
_HIGH_WATER = 65_536


class Line(asyncio.Protocol):
    """A protocol that keeps its transport for as long as there is one."""

    __slots__ = ("_commons", "_is_blocked", "_pending", "_phase", "_transport", "_verdict", "spoke")

    def __init__(self, commons: Commons) -> None:
        self.spoke = OFF
        self._commons = commons
        self._transport: asyncio.Transport | None = None
        self._phase = HEAD
        #: why the connection has been cut or failed from this side
        self._verdict: tuple[int, str] | None = None
        self._pending: list[bytes] | None = None
        self._is_blocked = False

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
        self._pending = None
        if self._transport is not None:
            # Until the socket has gone the wheel must know of it.
            self._commons.wheel.put(self, self._commons.close_beats)
            self._transport.abort()

    def write_out(self) -> None:
        """Write all that is pending, in one piece."""
        pending, self._pending = self._pending, None
        transport = self._transport
        if pending is None or transport is None:
            return
        transport.write(pending[0] if len(pending) == 1 else b"".join(pending))
        if self._is_blocked and transport.get_write_buffer_size() > self._commons.buffer_limit:
            if self._verdict is None:
                self._verdict = (1006, "slow_consumer")
            self.abort()
        elif self._phase == ENDED:
            self._hang_up(transport)

    def eof_received(self) -> None:
        """Send what is pending before the transport closes itself."""
        if self._pending is not None:
            self.write_out()

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

    def _queue(self, data: bytes) -> None:
        """Send bytes that are no message: an answer, a control frame."""
        if self._pending is None:
            self._pending = [data]
            self._commons.write_later(self)
        else:
            self._pending.append(data)

    def _queue_all(self, pieces: Iterable[bytes]) -> None:
        for data in pieces:
            if data:  # an empty piece says that the end has come, and `eof_sent` says that too
                self._queue(data)

    def _hang_up(self, transport: asyncio.Transport) -> None:
        # Half-closing lets the peer read the close frame even if it is still sending: closing would reset the line.
        if transport.can_write_eof():
            transport.write_eof()
        else:
            transport.close()
