"""The one listening port, and whatever else is listened on: lets in who comes, and knows what all of them share."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Sequence
from functools import partial
from ssl import SSLContext

from gateway.node import Node
from gateway.ports import Clock
from gateway.telemetry import Telemetry
from gateway.transport import upgrade
from gateway.transport.commons import Commons
from gateway.transport.connection import Connection
from gateway.transport.deflate import Deflation
from gateway.transport.door import Door
from gateway.transport.place import BACKLOG, UnixPlace, tcp_sockets
from gateway.transport.porch import Gatekeeper
from gateway.transport.remote import UNIX, Network

_logger = logging.getLogger("rawpush.gateway")

#: Seconds between two lines in the log that say that newcomers are turned away.
_COMPLAINT_S = 60.0


class Front:
    """The listening ports, the sockets behind them, and the one timer that all of them share.

    `http` makes the protocol that takes over a socket whose first request is no WebSocket upgrade; what becomes of the
    socket is that protocol's affair then. Sizes are in bytes, times in seconds: `request_timeout_s` is for a whole request
    head, `close_timeout_s` for the end of a connection once it has been decided. `tick_s` is how coarse time is.
    `deflation` None: no compression. `proxy_protocol`: connections from the trusted proxies begin with a header of the PROXY
    protocol. `descriptors`: newcomers are turned away when the process has so many files open; None: never.
    """

    def __init__(
        self,
        *,
        node: Node,
        clock: Clock,
        http: Callable[[], asyncio.Protocol],
        path_prefix: str = "",
        trusted_proxies: Sequence[Network] = (),
        activity_timeout_s: float = 120,
        pong_timeout_s: float = 30,
        request_timeout_s: float = 10,
        close_timeout_s: float = 5,
        buffer_limit: int = 1 << 20,
        max_head: int = 16_384,
        deflation: Deflation | None = None,
        proxy_protocol: bool = False,
        descriptors: int | None = None,
        telemetry: Telemetry | None = None,
        tick_s: float | None = None,
    ) -> None:
        """To be called on the event loop."""
        shortest = min(activity_timeout_s, pong_timeout_s, request_timeout_s, close_timeout_s)
        self.tick_s = tick_s or min(1.0, shortest / 4)
        self.node = node
        self.http = http
        self.prefix = path_prefix.rstrip("/").encode()
        self.trusted_proxies = tuple(trusted_proxies)
        self.max_head = max_head
        #: heads up to so many bytes are looked up before they are read
        self.longest_kept = min(upgrade.LONGEST_KEPT, max_head)
        self.is_closed = False
        #: no newcomer may have a descriptor from here on
        self.ceiling = descriptors
        self._proxy_protocol = proxy_protocol
        #: whose the sockets are that were handed to `http`, where not simply the other end's; by descriptor, which
        #: `http` keeps open as long as it may give the connection back
        self.peers: dict[int, str] = {}
        self._telemetry = telemetry or Telemetry()
        self._complained_at = -_COMPLAINT_S
        self.commons = Commons(
            node=node,
            loop=asyncio.get_running_loop(),
            tick_s=self.tick_s,
            activity_timeout_s=activity_timeout_s,
            pong_timeout_s=pong_timeout_s,
            request_timeout_s=request_timeout_s,
            close_timeout_s=close_timeout_s,
            buffer_limit=buffer_limit,
            deflation=deflation,
        )
        self._clock = clock
        self._handshake_timeout_s = request_timeout_s
        self._shutdown_timeout_s = close_timeout_s
        self._servers: list[asyncio.Server | Gatekeeper] = []
        self._unix_places: list[UnixPlace] = []
        self._moves: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._next_tick_at = clock.monotonic() + self.tick_s

    async def listen(self, host: str, port: int, ssl: SSLContext | None = None, *, inherited: socket.socket | None = None) -> int:
        """Take connections on one more port from now on; returns it, which is of interest if `port` was 0.

        "::" means all addresses, of IPv4 as well; a name means all of its addresses. An `inherited` socket listens already; host
        and port are then of no interest. Raises OSError if the port cannot be had.
        """
        sockets = [inherited] if inherited is not None else await asyncio.to_thread(tcp_sockets, host, port)
        for one in sockets:
            await self._serve(one, ssl)
        return int(sockets[0].getsockname()[1])

    async def listen_unix(self, path: str, mode: int = 0o600) -> None:
        """Take connections on a Unix socket too; `mode` are the permissions of its file, which goes with the port.

        Whoever connects there is trusted as a proxy. Raises OSError if the path cannot be had; see `UnixPlace`.
        """
        place = UnixPlace(path, mode)
        self._unix_places.append(place)
        await self._serve(place.socket, None)

    async def _serve(self, listening: socket.socket, ssl: SSLContext | None) -> None:
        loop = self.commons.loop
        if self._proxy_protocol:
            self._servers.append(Gatekeeper(self, listening, ssl))
        elif listening.family == socket.AF_UNIX:
            arrive = partial(Connection, self.commons, Door(self, UNIX))
            self._servers.append(await loop.create_unix_server(arrive, sock=listening, backlog=BACKLOG))
        else:
            server = await loop.create_server(
                partial(Connection, self.commons, Door(self)),
                sock=listening,
                ssl=ssl,
                backlog=BACKLOG,
                ssl_handshake_timeout=None if ssl is None else self._handshake_timeout_s,
                ssl_shutdown_timeout=None if ssl is None else self._shutdown_timeout_s,
            )
            self._servers.append(server)
        if self._timer is None:
            self._timer = loop.call_later(self.tick_s, self._on_timer)

    def take_over(self, raw: socket.socket, peer: str, ssl: SSLContext | None) -> None:
        """Let in a socket that was accepted elsewhere; `peer` is whose it is."""
        move = self.commons.loop.create_task(self._move(raw, peer, ssl), name="take over a socket")
        self._moves.add(move)
        move.add_done_callback(self._moves.discard)

    async def _move(self, raw: socket.socket, peer: str, ssl: SSLContext | None) -> None:
        try:
            await self.commons.loop.connect_accepted_socket(
                lambda: Connection(self.commons, Door(self, peer)),
                raw,
                ssl=ssl,
                ssl_handshake_timeout=None if ssl is None else self._handshake_timeout_s,
                ssl_shutdown_timeout=None if ssl is None else self._shutdown_timeout_s,
            )
        except OSError:
            # Whoever breaks off the TLS handshake, or is too slow with it: ssl.SSLError and TimeoutError are among these.
            raw.close()

    def turned_away(self) -> None:
        """Count somebody who could not be let in for want of descriptors, and say so now and then."""
        self._telemetry.turned_away += 1
        now = self.commons.loop.time()
        if now - self._complained_at >= _COMPLAINT_S:
            self._complained_at = now
            _logger.warning(
                "newcomers are turned away: nearly as many files are open as may be (ulimit -Hn, LimitNOFILE=); so far: %d",
                self._telemetry.turned_away,
            )

    def take_back(self, transport: asyncio.Transport, data: bytes) -> None:
        """Treat a connection that was handed to `http` as one that has just come and sent `data`, which begins a request."""
        arrival = Connection(self.commons, Door(self, self.peers.get(transport.get_extra_info("socket").fileno())))
        transport.set_protocol(arrival)
        arrival.connection_made(transport)
        arrival.data_received(data)

    def stop_listening(self) -> None:
        """Close the ports at once; established connections go on."""
        for server in self._servers:
            server.close()
        self._servers.clear()
        for place in self._unix_places:
            place.remove()
        self._unix_places.clear()

    async def close(self) -> None:
        """Stop listening, cut whatever is left on the WebSocket side, and return when the node has been told of it all.

        Whoever wants his connections closed politely does that first. Closing twice is harmless.
        """
        self.stop_listening()
        self.is_closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for move in self._moves:
            move.cancel()
        await asyncio.gather(*self._moves, return_exceptions=True)
        if self.commons.wheel:
            self.commons.gone = self.commons.gone or asyncio.Event()
            for rider in list(self.commons.wheel):
                rider.abort()
            await self.commons.gone.wait()

    def tick(self) -> None:
        """Let time pass as the clock says, but never more than two beats at once.

        If the loop has been held up for longer than that, nobody could be heard meanwhile, and nobody is held to it.
        """
        now = self._clock.monotonic()
        for _ in range(2):
            if now < self._next_tick_at:
                return
            self._next_tick_at += self.tick_s
            self.commons.advance()
        if self._next_tick_at <= now:
            self._next_tick_at = now + self.tick_s

    def _on_timer(self) -> None:
        self._timer = self.commons.loop.call_later(self.tick_s, self._on_timer)
        self.tick()
