"""The floor in Python on uvloop: a transport and an empty protocol per connection, constant answers, one write per delivery.

The floor of memory, and of everything else where there is no compiler. Called like the one in C: with the file of what to
say; prints its port.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import cast

import uvloop

from bench.traffic import read

_CLOSED = b"\x88\x02\x03\xe8"
_PING, _PONG = b"\x89\x80\x00\x00\x00\x00", b"\x8a\x00"


class _Holder(asyncio.Protocol):
    __slots__ = ("_transport",)

    says: tuple[bytes, ...] = ()
    subscribers: dict[asyncio.Transport, None] = {}  # noqa: RUF012  (one process, one floor)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are none by inheritance.
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        upgraded, subscribed, message, published = self.says
        if data.startswith(b"GET"):
            self._transport.write(upgraded)
        elif data.startswith(b"POST"):
            for subscriber in self.subscribers:
                subscriber.write(message)
            self._transport.write(published)
        elif data[0] & 15 == 8:
            self._transport.write(_CLOSED)
            self._transport.close()
        elif data[0] & 15 == 9:
            self._transport.write(_PONG * data.count(_PING))
        elif self._transport in self.subscribers:
            for subscriber in self.subscribers:
                if subscriber is not self._transport:
                    subscriber.write(message)
        else:
            self.subscribers[self._transport] = None
            self._transport.write(subscribed)

    def connection_lost(self, exc: Exception | None) -> None:
        self.subscribers.pop(self._transport, None)


async def _serve(says: Path) -> None:
    _Holder.says = tuple(read(says))
    server = await asyncio.get_running_loop().create_server(_Holder, "127.0.0.1", 0, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(_serve(Path(sys.argv[1])))
