"""The peer `websockets`: whoever connects subscribes to the channel that the path names; a second port takes what is posted.

Called with the file that holds the message. Prints the two ports; on uvloop, without compression, as the gateway runs.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import uvloop
from websockets.asyncio.server import ServerConnection, broadcast, serve

from bench.responder import Responder

_channels: dict[str, set[ServerConnection]] = {}


class _Desk(Responder):
    def __init__(self, message: str) -> None:
        self._message = message

    def take(self, head: bytes, body: bytes) -> None:
        path = head.split(b" ", 2)[1].partition(b"?")[0].decode()
        broadcast(_channels.get(path, ()), self._message)


async def _hold(connection: ServerConnection) -> None:
    assert connection.request is not None
    subscribers = _channels.setdefault(connection.request.path, set())
    subscribers.add(connection)
    try:
        await connection.wait_closed()
    finally:
        subscribers.remove(connection)


async def _serve(message: str) -> None:
    settings = {"compression": None, "ping_interval": None, "backlog": 4096}
    async with serve(_hold, "127.0.0.1", 0, **settings) as server:  # type: ignore[arg-type]
        desk = await asyncio.get_running_loop().create_server(lambda: _Desk(message), "127.0.0.1", 0)
        ports = [next(iter(each.sockets)).getsockname()[1] for each in (server, desk)]
        print(*ports, flush=True)
        await desk.serve_forever()


if __name__ == "__main__":
    uvloop.run(_serve(Path(sys.argv[1]).read_text()))
