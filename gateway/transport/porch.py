"""Before the door: sockets whose first bytes are a proxy's word about the client.

Such sockets are accepted here and not by the event loop, since the header has to be taken off before the loop, or TLS,
sees the first byte. Nothing behind the header is read.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import ssl
from typing import TYPE_CHECKING

from gateway.transport.proxy import LONGEST, MalformedHeader, read_header
from gateway.transport.remote import UNIX, is_trusted_peer
from gateway.transport.wheel import OFF

if TYPE_CHECKING:
    from gateway.transport.front import Front

_logger = logging.getLogger("rawpush.gateway")

#: Sockets accepted in one turn of the loop, so that a crowd leaves room for those who are in.
_AT_ONCE = 64
#: Seconds without accepting when the system has no descriptor or no memory left; those who come meanwhile wait in the backlog.
_PAUSE_S = 0.5
_EXHAUSTED = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}


class Gatekeeper:
    """Accepts the sockets of one listening port, and has each of them looked at on the porch."""

    def __init__(self, front: Front, listening: socket.socket, tls: ssl.SSLContext | None) -> None:
        """`listening` belongs to the gatekeeper from now on."""
        listening.setblocking(False)
        self._front = front
        self._loop = front.commons.loop
        self._socket = listening
        self._tls = tls
        self._is_unix = listening.family == socket.AF_UNIX
        self._pause: asyncio.TimerHandle | None = None
        self._loop.add_reader(listening, self._accept)

    def close(self) -> None:
        """Close the port at once; who is in, or on the porch, stays. Closing twice is harmless."""
        if self._pause is not None:
            self._pause.cancel()
        self._loop.remove_reader(self._socket)
        self._socket.close()

    def _accept(self) -> None:
        for _ in range(_AT_ONCE):
            try:
                raw, address = self._socket.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno not in _EXHAUSTED:
                    raise
                # The listening socket would be ready all the time, and the loop would do nothing else.
                self._loop.remove_reader(self._socket)
                self._pause = self._loop.call_later(_PAUSE_S, self._resume)
                self._front.turned_away()
                return
            raw.setblocking(False)
            peer = UNIX if self._is_unix else address[0]
            if is_trusted_peer(peer, self._front.trusted_proxies):
                Porch(self._front, raw, peer, self._tls).begin()
            else:
                self._front.take_over(raw, peer, self._tls)

    def _resume(self) -> None:
        self._pause = None
        self._loop.add_reader(self._socket, self._accept)


class Porch:
    """One socket whose header is being read, within bounds of size and time."""

    __slots__ = ("_front", "_head", "_peer", "_raw", "_tls", "spoke")

    def __init__(self, front: Front, raw: socket.socket, peer: str, tls: ssl.SSLContext | None) -> None:
        self.spoke = OFF
        self._front = front
        self._raw = raw
        self._peer = peer
        self._tls = tls
        self._head = b""

    def begin(self) -> None:
        """Wait for the header."""
        commons = self._front.commons
        commons.wheel.put(self, commons.request_beats)
        commons.loop.add_reader(self._raw, self._read)

    def due(self) -> None:
        """The time for a header is over."""
        self.abort()

    def abort(self) -> None:
        """Cut the line at once."""
        self._leave()
        self._raw.close()

    def _leave(self) -> None:
        self._front.commons.loop.remove_reader(self._raw)
        self._front.commons.forget(self)

    def _read(self) -> None:
        try:
            # Only looked at, because what stands behind the header is somebody else's.
            data = self._raw.recv(LONGEST, socket.MSG_PEEK)
            if not data:
                self.abort()
                return
            known = len(self._head)
            header = read_header(self._head + data)
            taken = self._raw.recv(len(data) if header is None else header.size - known)
        except (BlockingIOError, InterruptedError):
            return
        except (OSError, MalformedHeader) as error:
            _logger.debug("a proxy's connection was closed: %s", error)
            self.abort()
            return
        self._head += taken
        if header is not None:
            self._leave()
            self._front.take_over(self._raw, header.client or self._peer, self._tls)
