"""What is known of a line by whoever has its transport."""

from __future__ import annotations

import asyncio


class Line(asyncio.Protocol):
    """A protocol that keeps its transport for as long as there is one."""

    __slots__ = ("_transport",)

    _transport: asyncio.Transport | None

    @property
    def peer(self) -> str:
        """See `gateway.ports.Connection`; asked of the socket, since most connections are never asked about."""
        name = None if self._transport is None else self._transport.get_extra_info("peername")
        return str(name[0]) if isinstance(name, tuple) else ""
