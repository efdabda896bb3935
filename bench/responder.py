"""The floor of a publish: reads a whole HTTP request on uvloop and answers a constant. Prints its port."""

from __future__ import annotations

import asyncio
from typing import cast

import uvloop

_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"


class Responder(asyncio.Protocol):
    """Answers what comes on one connection; whoever wants to look at a request overrides `take`."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are none by inheritance.
        self._transport = cast(asyncio.Transport, transport)
        self._pending = b""

    def data_received(self, data: bytes) -> None:
        data = self._pending + data if self._pending else data
        head, end, body = data.partition(b"\r\n\r\n")
        if end and len(body) >= int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0] or 0):
            data = b""
            self.take(head, body)
            self._transport.write(_ANSWER)
        self._pending = data

    def take(self, head: bytes, body: bytes) -> None:
        """Look at a request."""


async def _serve() -> None:
    server = await asyncio.get_running_loop().create_server(Responder, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(_serve())
