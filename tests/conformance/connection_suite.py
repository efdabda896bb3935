"""What every `Connection` does, the fake included: see `gateway.ports.Connection`."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Protocol

from gateway.core import frame
from gateway.ports import Connection


class Line(Protocol):
    """A connection, and what its peer sees of it."""

    connection: Connection

    async def seen(self) -> tuple[list[bytes], tuple[int, str]]:
        """Return the payloads that arrived before the close frame, and the code and reason in it, once it has come."""
        ...


class ConnectionSuite:
    """Subclasses say how a line is opened; nothing has been sent on it by way of `offer` yet."""

    def line(self) -> AbstractAsyncContextManager[Line]:
        raise NotImplementedError

    async def test_what_is_offered_arrives_in_order_and_before_the_close_frame(self) -> None:
        async with self.line() as line:
            texts = [
                b"%d " % number + b"x" * size for number, size in enumerate([0, 1, 123, 124, 65_530, 65_533, 65_534, 100_000])
            ]
            for text in texts:
                line.connection.offer(frame.wire(text))
            line.connection.close(4200, "come back")
            assert await line.seen() == (texts, (4200, "come back"))

    async def test_after_close_offers_are_dropped_and_the_first_code_stands(self) -> None:
        async with self.line() as line:
            line.connection.offer(frame.wire(b"before"))
            line.connection.close(4001, "first")
            line.connection.offer(frame.wire(b"after"))
            line.connection.close(4100, "second")
            assert await line.seen() == ([b"before"], (4001, "first"))
            line.connection.offer(frame.wire(b"long after"))
            line.connection.close(4200, "third")

    async def test_shared_bytes_are_left_as_they_are(self) -> None:
        data = frame.wire(b"for many")
        async with self.line() as one, self.line() as other:
            for line in (one, other):
                line.connection.offer(data)
                line.connection.offer(data)
                line.connection.close(1000, "")
            assert await one.seen() == await other.seen() == ([b"for many"] * 2, (1000, ""))
        assert data == frame.wire(b"for many")

    async def test_messages_and_payload_bytes_are_counted(self) -> None:
        async with self.line() as line:
            messages, size = line.connection.sent_messages, line.connection.sent_bytes
            for length in (0, 125, 126, 65_535, 65_536):
                line.connection.offer(frame.wire(b"x" * length))
            line.connection.close(1000, "")
            line.connection.offer(frame.wire(b"dropped"))
            await line.seen()
            assert line.connection.sent_messages - messages == 5
            assert line.connection.sent_bytes - size == 125 + 126 + 65_535 + 65_536
            assert (line.connection.received_messages, line.connection.received_bytes) == (0, 0)
