"""A TCP proxy in which connections can vanish: nothing is copied any more, and neither side is told."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

from tests.e2e.client import Client

#: so small that what the gateway sends waits on its own side
_RECEIVE_BUFFER = 4096


class Line:
    """One connection through the proxy."""

    def __init__(self, near: socket.socket, far: socket.socket) -> None:
        self._near = near
        self._far = far
        self._up = asyncio.create_task(_copy(near, far))
        self._down = asyncio.create_task(_copy(far, near))

    @property
    def port(self) -> int:
        """Where the gateway sees this connection come from."""
        port: int = self._far.getsockname()[1]
        return port

    def vanish(self, *, only_up: bool = False) -> None:
        """Copy nothing any more, or nothing that the client says; both sockets stay open."""
        self._up.cancel()
        if not only_up:
            self._down.cancel()

    async def close(self) -> None:
        for task in (self._up, self._down):
            task.cancel()
        await asyncio.gather(self._up, self._down, return_exceptions=True)
        self._near.close()
        self._far.close()


class Hole:
    """Copies between its clients and one gateway; make one with `await Hole.start(port)`."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._listening.setblocking(False)
        self._lines: asyncio.Queue[Line] = asyncio.Queue()
        self._made: list[Line] = []
        self._accepting = asyncio.create_task(self._accept())

    @classmethod
    async def start(cls, port: int) -> Hole:
        return cls(port)

    @property
    def port(self) -> int:
        port: int = self._listening.getsockname()[1]
        return port

    async def connect(self, **options: Any) -> tuple[Client, Line]:
        """Let a client through; one at a time."""
        client = await Client.connect(self.port, **options)
        return client, await self._lines.get()

    async def stop(self) -> None:
        """Close everything."""
        self._accepting.cancel()
        await asyncio.gather(self._accepting, return_exceptions=True)
        self._listening.close()
        for line in self._made:
            await line.close()

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            near, _ = await loop.sock_accept(self._listening)
            far = socket.socket()
            far.setblocking(False)
            far.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
            await loop.sock_connect(far, ("127.0.0.1", self._target))
            self._made.append(Line(near, far))
            self._lines.put_nowait(self._made[-1])


async def _copy(source: socket.socket, target: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    try:
        while data := await loop.sock_recv(source, 65_536):
            await loop.sock_sendall(target, data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        target.close()  # the other one is told as soon as it says something
