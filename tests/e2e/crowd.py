"""Many members of one presence channel on bare sockets: they come one after the other, listen to nobody, and go together."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import re
import socket
import struct
from collections.abc import Iterable

from tests.e2e.client import QUERY, text_frame
from tests.e2e.gateway_process import KEY, SECRET
from tests.patience import LONG_S

_UPGRADE = (
    f"GET /app/{KEY}?{QUERY} HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
).encode()


class Crowd:
    """Made with `await Crowd.gather(...)`, ended with `vanish`."""

    def __init__(self, members: list[socket.socket]) -> None:
        self._members = members

    @classmethod
    async def gather(cls, port: int, channel: str, user_ids: Iterable[str]) -> Crowd:
        """Have all these users join, each with a connection of his own; returns when the last one is in."""
        crowd = cls([])
        try:
            await asyncio.to_thread(crowd._fill, port, channel, user_ids)
        except BaseException:
            crowd.vanish()
            raise
        return crowd

    def vanish(self) -> None:
        """Everybody goes with a RST."""
        for member in self._members:
            member.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            member.close()
        self._members = []

    def _fill(self, port: int, channel: str, user_ids: Iterable[str]) -> None:
        for user_id in user_ids:
            member = socket.create_connection(("127.0.0.1", port), timeout=LONG_S)
            self._members.append(member)
            member.sendall(_UPGRADE)
            (socket_id,) = re.findall(rb'socket_id\\":\\"([0-9.]+)', _until(member, b"activity_timeout"))
            channel_data = json.dumps({"user_id": user_id})
            signed = f"{socket_id.decode()}:{channel}:{channel_data}".encode()
            auth = f"{KEY}:{hmac.new(SECRET.encode(), signed, hashlib.sha256).hexdigest()}"
            data = {"channel": channel, "auth": auth, "channel_data": channel_data}
            member.sendall(text_frame(json.dumps({"event": "pusher:subscribe", "data": data}).encode()))
            _until(member, b"subscription_succeeded")


def _until(member: socket.socket, word: bytes) -> bytes:
    """Read until the word has come; nothing else that begins may be half read with it, and nobody cares if it is."""
    read = b""
    while word not in read:
        piece = member.recv(65_536)
        assert piece, f"cut off while waiting for {word!r}, after {read[-200:]!r}"
        read += piece
    return read
