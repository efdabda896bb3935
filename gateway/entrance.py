"""From the section [server] to open ports: places, certificate, and how many may come in."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from ipaddress import ip_network

from gateway.config import Server, check_pair, expiry
from gateway.config.record import Tls
from gateway.node import Node
from gateway.ports import Clock
from gateway.telemetry import Telemetry
from gateway.transport.deflate import Deflation
from gateway.transport.descriptor import ceiling
from gateway.transport.front import Front
from gateway.transport.tls import Certificate


class Entrance:
    """What is listened on, as the file says; `front` takes it from there."""

    def __init__(
        self, server: Server, *, node: Node, clock: Clock, http: Callable[[], asyncio.Protocol], telemetry: Telemetry
    ) -> None:
        """Raises OSError if the certificate cannot be used."""
        self._server = server
        self._certificate: Certificate | None = None
        if server.tls is not None:
            self._certificate = Certificate(server.tls.cert, server.tls.key, check=_check, expiry=expiry, telemetry=telemetry)
        self._telemetry = telemetry
        deflation = Deflation(window_bits=server.compression_window, least=server.compression_min)
        self.front = Front(
            node=node,
            clock=clock,
            http=http,
            path_prefix=server.path_prefix,
            trusted_proxies=[ip_network(network, strict=False) for network in server.trusted_proxies],
            activity_timeout_s=server.activity_timeout_s,
            pong_timeout_s=server.pong_timeout_s,
            request_timeout_s=server.handshake_timeout_s,
            buffer_limit=server.send_buffer,
            deflation=deflation if server.compression else None,
            proxy_protocol=server.proxy_protocol,
            descriptors=ceiling(),
            telemetry=telemetry,
        )

    async def open(self, inherited: Sequence[socket.socket] = ()) -> int:
        """Listen, and return the port; on sockets that were `inherited`, if there are any, instead of host and port.

        Raises OSError if a place cannot be had.
        """
        server, certificate = self._server, self._certificate
        context = None if certificate is None else certificate.context
        port = 0
        sockets: list[socket.socket | None] = [*inherited]
        for one in sockets or [None]:
            port = await self.front.listen(server.host, server.port, context, inherited=one)
        if server.unix_socket:
            await self.front.listen_unix(server.unix_socket, int(server.unix_socket_mode, 8))
            self._telemetry.note(logging.INFO, "listening on a Unix socket", path=server.unix_socket)
        if certificate is not None:
            certificate.watch()
        return port

    def renew(self, tls: Tls | None) -> bool:
        """Serve the certificate of a new configuration, and tell whether that is what is served now.

        It is not where TLS would have to be taken up or given up, or the pair cannot be used: the log says why then.
        """
        if self._certificate is None or tls is None:
            return self._certificate is None and tls is None
        return self._certificate.renew(tls.cert, tls.key)

    def stop_listening(self) -> None:
        """Close the ports at once; established connections go on."""
        if self._certificate is not None:
            self._certificate.stop()
        self.front.stop_listening()

    async def close(self) -> None:
        """Stop listening and cut whatever is left on the WebSocket side; closing twice is harmless."""
        self.stop_listening()
        await self.front.close()


def _check(cert: str, key: str) -> list[str]:
    return [sentence for _, sentence in check_pair(cert, key, datetime.now(UTC))]
