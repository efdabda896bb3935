"""A WebSocket whose peer has agreed on permessage-deflate."""

from __future__ import annotations

import asyncio

from gateway.transport.commons import Commons
from gateway.transport.connection import OPEN, Connection


class CompressedConnection(Connection):
    """A connection whose peer agreed on permessage-deflate; message sizes are counted without it."""

    __slots__ = ("_deflation",)

    def __init__(self, commons: Commons, transport: asyncio.Transport, limit: int) -> None:
        """See `Connection`; only where the commons have a deflation."""
        super().__init__(commons, transport, limit)
        assert commons.deflation is not None
        self._deflation = commons.deflation
        self._lender = commons.inflating_lender

    def offer(self, data: bytes) -> None:
        """See `gateway.ports.Connection`."""
        if self._phase == OPEN:
            super().offer(data)
            assert self._pending is not None
            self._pending[-1] = self._deflation.shared(data)
