"""One write per connection and turn of the event loop: who has something to write, and the writing of it.

What is offered to a connection within one turn is written with one system call at the end of the turn, since the call, not
the bytes, is what sending costs. Before that the loop looks at the sockets once more, without waiting: of publishes that were
sent together the first is often found alone. No timer is involved: an idle gateway loses a few microseconds by it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from gateway.transport.outlet import write_some

if TYPE_CHECKING:
    from gateway.transport.line import Line

_logger = logging.getLogger("rawpush.gateway")

#: Connections written to in one go, each 3 to 6 microseconds of the kernel's time. Nobody else has the interpreter meanwhile,
#: and nobody shall wait for it longer than the interpreter itself makes them wait (`gateway.process`: 0.1 ms).
_AT_A_STRETCH = 16


class Turn(list["Line"]):
    """Those who have something to write when this turn is over; whoever puts in the first one calls `begin` before."""

    __slots__ = ("_loop", "_written")

    def __init__(self, loop: asyncio.AbstractEventLoop, written: Callable[[], object] | None) -> None:
        """`written` is called when all of a turn has been written."""
        super().__init__()
        self._loop = loop
        self._written = written

    def begin(self) -> None:
        """Write what they have when this turn is over, and what has come meanwhile was worked off."""
        self._loop.call_soon(self._look_again)

    def _look_again(self) -> None:
        self._loop.call_soon(self._write)

    def _write(self) -> None:
        start = 0
        # Whoever is put in meanwhile has his turn as well.
        while start < len(self):
            for line in write_some(self, start, _AT_A_STRETCH):
                try:
                    line.write_out()
                except Exception:  # whatever is wrong with one connection, the others get what they were offered
                    _logger.exception("a connection could not be written to")
                    line.abort()
            start += _AT_A_STRETCH
        self.clear()
        if self._written is not None:
            self._written()
