"""A WebSocket whose peer has agreed on permessage-deflate."""

from __future__ import annotations

from gateway.transport.connection import Connection
from gateway.transport.parser import Lender
from gateway.transport.phase import OPEN


class CompressedConnection(Connection):
    """A connection whose peer agreed on permessage-deflate; message sizes are counted without it.

    It is one only where the commons have a deflation. It has no slots of its own: a connection becomes one when it is opened.
    """

    __slots__ = ()

    def offer(self, data: bytes) -> None:
        """See `gateway.ports.Connection`."""
        if self._phase == OPEN:
            deflation = self._commons.deflation
            assert deflation is not None
            self.offer_as(data, deflation.shared(data))

    @property
    def _lender(self) -> Lender:
        return self._commons.inflating_lender
