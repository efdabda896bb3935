"""The door: what the head of the first request on a socket asks for decides what becomes of the socket."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from gateway.transport import upgrade
from gateway.transport.compressed import CompressedConnection
from gateway.transport.connection import Connection
from gateway.transport.remote import is_secure, remote_ip

if TYPE_CHECKING:
    from gateway.transport.front import Front

#: The message limit of those who will be refused anyway.
_NO_APP_LIMIT = 65_536

#: Enough of a first line to tell whether it can be one.
_GLANCE = 64


class Door:
    """Reads heads, within a bound of size, for all connections that come the same way; it keeps nothing of any of them."""

    __slots__ = ("_front", "_peer")

    def __init__(self, front: Front, peer: str | None = None) -> None:
        """`peer` None: whoever the other end of the socket is."""
        self._front = front
        self._peer = peer

    def admits(self, transport: asyncio.Transport) -> bool:
        """Tell whether somebody who has just come may stay."""
        if self._front.is_closed:  # it was accepted just before the port closed
            return False
        # The system gives out the lowest number that is free, so the number tells how many are taken.
        ceiling = self._front.ceiling
        if ceiling is not None and transport.get_extra_info("socket").fileno() >= ceiling:
            self._front.turned_away()
            return False
        return True

    def read(self, connection: Connection, head: bytes, known: int) -> None:
        """Act as soon as the head is whole, or cannot become one; its first `known` bytes have been looked at before."""
        front = self._front
        if not known and len(head) <= front.longest_kept:
            found = upgrade.recognised(head, front.prefix)
            if found is not None:
                wish, nonce = found
                agreed = self._agreed(wish)
                self._open(connection, upgrade.accept(nonce, agreed), wish, b"", agreed is not None)
                return
        end = head.find(b"\r\n\r\n", max(0, known - 3))
        if end > front.max_head or (end < 0 and len(head) > front.max_head):
            _refuse(connection, b"431 Request Header Fields Too Large", b"the request head is too large")
            return
        line_end = head.find(b"\n", 0, front.max_head)
        if line_end < 0:
            if not upgrade.is_promising(head[:_GLANCE]):
                _refuse(connection, b"400 Bad Request", b"this is not HTTP")
            return
        start = upgrade.read_start(head[: line_end - 1]) if head[line_end - 1 : line_end] == b"\r" else None
        if start is None:
            _refuse(connection, b"400 Bad Request", b"this is not a request of HTTP/1")
        elif end >= 0:
            self._route(connection, start, head, line_end + 1, end)

    def late(self, connection: Connection) -> None:
        """The time for the head is over, and it is not whole."""
        _refuse(connection, b"408 Request Timeout", b"the request head did not arrive in time")

    def _route(self, connection: Connection, start: upgrade.Start, head: bytes, begin: int, end: int) -> None:
        """Decide on a whole head, whose fields stand from `begin` to `end`."""
        key = upgrade.app_key(start.path, self._front.prefix)
        # An upgrade asked for in HTTP/1.0 must be ignored (RFC 9110 section 7.8).
        if key is None or not start.is_current:
            self._hand_over(connection, head)
            return
        fields = upgrade.read_fields(head[begin:end]) if begin < end else {}
        if fields is None:
            _refuse(connection, b"400 Bad Request", b"a header field is malformed")
        elif not upgrade.wants_websocket(fields):
            self._hand_over(connection, head)
        elif upgrade.is_proper(start, fields):
            wish = upgrade.wish(key, start.query, fields)
            agreed = self._agreed(wish)
            answer = upgrade.accept(fields[b"sec-websocket-key"], agreed)
            self._open(connection, answer, wish, head[end + 4 :], agreed is not None)
        else:
            answer, accepts = upgrade.judge(head[: end + 4])
            if accepts:
                self._open(connection, answer, upgrade.wish(key, start.query, fields), head[end + 4 :])
            elif answer:
                connection.refuse(answer)
            else:
                _refuse(connection, b"400 Bad Request", b"this is not a request for a WebSocket")

    def _agreed(self, wish: upgrade.Wish) -> str | None:
        """Return what is agreed of the extensions that were offered."""
        deflation = self._front.commons.deflation
        return None if deflation is None or not wish.extensions else deflation.negotiate(wish.extensions)

    def _open(self, connection: Connection, answer: bytes, wish: upgrade.Wish, rest: bytes, is_compressed: bool = False) -> None:
        transport, front = connection.transport, self._front
        peer = self._peer
        if peer is None:
            name = transport.get_extra_info("peername")
            peer = name[0] if name else ""
        has_tls = transport.get_extra_info("sslcontext") is not None
        address = remote_ip(peer, wish.forwarded_for, front.trusted_proxies)
        handshake = wish.handshake(address, is_secure(peer, has_tls, wish.forwarded_proto, front.trusted_proxies))
        app = front.node.app_by_key(handshake.key)
        if is_compressed:
            # It keeps the same things and only treats differently what is offered. A new object would have to take the old
            # one's place on the transport, which then stops and starts reading.
            connection.__class__ = CompressedConnection
        connection.open(answer, handshake, _NO_APP_LIMIT if app is None else app.limits.message, rest)

    def _hand_over(self, connection: Connection, head: bytes) -> None:
        transport, front = connection.leave(), self._front
        if self._peer is not None:
            front.peers[transport.get_extra_info("socket").fileno()] = self._peer
        elif front.peers:  # a former owner of the same number
            front.peers.pop(transport.get_extra_info("socket").fileno(), None)
        protocol = front.http()
        # In this order: it changes the marks of the transport, which may say at once that something waits, or waits no more.
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        protocol.data_received(head)


def _refuse(connection: Connection, status: bytes, sentence: bytes) -> None:
    body = upgrade.refusal(sentence.decode("ascii"))
    connection.refuse(
        b"HTTP/1.1 %b\r\nContent-Type: application/json\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%b"
        % (status, len(body), body)
    )
