"""The peer `websockets`: whoever connects is a subscriber, and what is posted to a second port goes to all of them.

Called with the file that holds the message. Prints the two ports; on uvloop, without compression, as the gateway runs.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import uvloop
from websockets.asyncio.server import Server, ServerConnection, broadcast, serve

from bench.responder import Responder


class _Desk(Responder):
    def __init__(self, server: Server, message: str) -> None:
        self._server = server
        self._message = message

    def take(self, body: bytes) -> None:
        broadcast(self._server.connections, self._message)


async def _hold(connection: ServerConnection) -> None:
    await connection.wait_closed()


async def _serve(message: str) -> None:
    settings = {"compression": None, "ping_interval": None, "backlog": 4096}
    async with serve(_hold, "127.0.0.1", 0, **settings) as server:  # type: ignore[arg-type]
        desk = await asyncio.get_running_loop().create_server(lambda: _Desk(server, message), "127.0.0.1", 0)
        ports = [next(iter(each.sockets)).getsockname()[1] for each in (server, desk)]
        print(*ports, flush=True)
        await desk.serve_forever()


if __name__ == "__main__":
    uvloop.run(_serve(Path(sys.argv[1]).read_text()))
