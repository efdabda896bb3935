"""The one listening port: looks at the head of the first request and hands the socket to the WebSocket or the HTTP side."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Sequence
from ssl import SSLContext
from typing import cast

from gateway.node import Node
from gateway.ports import Clock
from gateway.telemetry import Telemetry
from gateway.transport import upgrade
from gateway.transport.commons import Commons
from gateway.transport.compressed import CompressedConnection
from gateway.transport.connection import Connection
from gateway.transport.deflate import Deflation
from gateway.transport.place import BACKLOG, UnixPlace, tcp_sockets
from gateway.transport.porch import Gatekeeper
from gateway.transport.remote import UNIX, Network, is_secure, remote_ip
from gateway.transport.wheel import OFF

_logger = logging.getLogger("rawpush.gateway")

#: Seconds between two lines in the log that say that newcomers are turned away.
_COMPLAINT_S = 60.0

#: The message limit of those who will be refused anyway.
_NO_APP_LIMIT = 65_536

#: Enough of a first line to tell whether it can be one.
_GLANCE = 64


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
            self._servers.append(await loop.create_unix_server(lambda: Door(self, UNIX), sock=listening, backlog=BACKLOG))
        else:
            server = await loop.create_server(
                lambda: Door(self),
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
                lambda: Door(self, peer),
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
        door = Door(self, self.peers.get(transport.get_extra_info("socket").fileno()))
        transport.set_protocol(door)
        door.connection_made(transport)
        if not self.is_closed:
            door.data_received(data)

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


class Door(asyncio.Protocol):
    """The first protocol on each socket: reads the head of a request, within bounds of size and total time."""

    __slots__ = ("_front", "_head", "_is_refused", "_peer", "_transport", "spoke")

    def __init__(self, front: Front, peer: str | None = None) -> None:
        """`peer` None: whoever the other end of the socket is."""
        self.spoke = OFF
        self._peer = peer
        self._front = front
        self._head = b""
        self._is_refused = False
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Give the peer its time for a request head."""
        # cast, not checked: uvloop's transports are transports without inheriting from asyncio's
        self._transport = transport = cast(asyncio.Transport, transport)
        if self._front.is_closed:  # it was accepted just before the port closed
            transport.abort()
            return
        # The system gives out the lowest number that is free, so the number tells how many are taken.
        ceiling = self._front.ceiling
        if ceiling is not None and transport.get_extra_info("socket").fileno() >= ceiling:
            self._front.turned_away()
            transport.abort()
            return
        self._front.commons.wheel.put(self, self._front.commons.request_beats)

    def data_received(self, data: bytes) -> None:
        """Collect the head; act as soon as it is whole, or cannot become one."""
        if self._is_refused:
            return
        if not self._head and len(data) <= self._front.longest_kept:
            found = upgrade.recognised(data, self._front.prefix)
            if found is not None:
                wish, nonce = found
                agreed = self._agreed(wish)
                self._upgrade(upgrade.accept(nonce, agreed), wish, b"", agreed is not None)
                return
        searched = max(0, len(self._head) - 3)
        self._head = head = self._head + data
        end = head.find(b"\r\n\r\n", searched)
        if end > self._front.max_head or (end < 0 and len(head) > self._front.max_head):
            self._refuse(b"431 Request Header Fields Too Large", b"the request head is too large")
            return
        line_end = head.find(b"\n", 0, self._front.max_head)
        if line_end < 0:
            if not upgrade.is_promising(head[:_GLANCE]):
                self._refuse(b"400 Bad Request", b"this is not HTTP")
            return
        start = upgrade.read_start(head[: line_end - 1]) if head[line_end - 1 : line_end] == b"\r" else None
        if start is None:
            self._refuse(b"400 Bad Request", b"this is not a request of HTTP/1")
        elif end >= 0:
            self._route(start, head[line_end + 1 : end], head[end + 4 :])

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the socket; who left before asking for anything is not worth a line in the log."""
        self._transport = None
        self._front.commons.forget(self)

    def due(self) -> None:
        """The time for a request head, or for reading a refusal, is over."""
        if self._head and not self._is_refused:
            self._refuse(b"408 Request Timeout", b"the request head did not arrive in time")
        else:
            self.abort()

    def abort(self) -> None:
        """Cut the line at once."""
        if self._transport is not None:
            # Until the socket has gone the wheel must know of it.
            self._front.commons.wheel.put(self, self._front.commons.close_beats)
            self._transport.abort()

    def _route(self, start: upgrade.Start, lines: bytes, rest: bytes) -> None:
        key = upgrade.app_key(start.path, self._front.prefix)
        # An upgrade asked for in HTTP/1.0 must be ignored (RFC 9110 section 7.8).
        if key is None or not start.is_current:
            self._hand_over()
            return
        fields = upgrade.read_fields(lines) if lines else {}
        if fields is None:
            self._refuse(b"400 Bad Request", b"a header field is malformed")
        elif not upgrade.wants_websocket(fields):
            self._hand_over()
        elif upgrade.is_proper(start, fields):
            wish = upgrade.wish(key, start.query, fields)
            agreed = self._agreed(wish)
            self._upgrade(upgrade.accept(fields[b"sec-websocket-key"], agreed), wish, rest, agreed is not None)
        else:
            answer, accepts = upgrade.judge(self._head[: len(self._head) - len(rest)])
            if accepts:
                self._upgrade(answer, upgrade.wish(key, start.query, fields), rest)
            elif answer:
                self._say_no(answer)
            else:
                self._refuse(b"400 Bad Request", b"this is not a request for a WebSocket")

    def _agreed(self, wish: upgrade.Wish) -> str | None:
        """Return what is agreed of the extensions that were offered."""
        deflation = self._front.commons.deflation
        return None if deflation is None or not wish.extensions else deflation.negotiate(wish.extensions)

    def _upgrade(self, answer: bytes, wish: upgrade.Wish, rest: bytes, is_compressed: bool = False) -> None:
        transport, front = self._leave(), self._front
        peer = self._peer
        if peer is None:
            name = transport.get_extra_info("peername")
            peer = name[0] if name else ""
        has_tls = transport.get_extra_info("sslcontext") is not None
        address = remote_ip(peer, wish.forwarded_for, front.trusted_proxies)
        handshake = wish.handshake(address, is_secure(peer, has_tls, wish.forwarded_proto, front.trusted_proxies))
        app = front.node.app_by_key(handshake.key)
        kind = CompressedConnection if is_compressed else Connection
        connection = kind(front.commons, transport, _NO_APP_LIMIT if app is None else app.limits.message)
        transport.set_protocol(connection)
        connection.open(answer, handshake, rest)

    def _hand_over(self) -> None:
        transport, head = self._leave(), self._head
        if self._peer is not None:
            self._front.peers[transport.get_extra_info("socket").fileno()] = self._peer
        elif self._front.peers:  # a former owner of the same number
            self._front.peers.pop(transport.get_extra_info("socket").fileno(), None)
        protocol = self._front.http()
        # In this order: it changes the marks of the transport, which may say at once that something waits, or waits no more.
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        protocol.data_received(head)

    def _leave(self) -> asyncio.Transport:
        transport, self._transport = self._transport, None
        assert transport is not None
        self._front.commons.forget(self)
        return transport

    def _refuse(self, status: bytes, sentence: bytes) -> None:
        body = upgrade.refusal(sentence.decode("ascii"))
        self._say_no(
            b"HTTP/1.1 %b\r\nContent-Type: application/json\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%b"
            % (status, len(body), body)
        )

    def _say_no(self, answer: bytes) -> None:
        self._is_refused = True
        self._head = b""
        transport = self._transport
        assert transport is not None
        transport.write(answer)
        self._front.commons.wheel.put(self, self._front.commons.close_beats)
        # Half-closing lets the peer read the answer even if it is still sending: closing would reset the line.
        if transport.can_write_eof():
            transport.write_eof()
        else:
            transport.close()
