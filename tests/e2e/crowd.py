"""Many members of one presence channel on bare sockets: they come one after the other, listen to nobody, and go together."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import re
import socket
from collections.abc import Iterable

from tests.e2e.bare import dial, reset, until, upgrade
from tests.e2e.client import text_frame
from tests.e2e.gateway_process import KEY, SECRET


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
            reset(member)
        self._members = []

    def _fill(self, port: int, channel: str, user_ids: Iterable[str]) -> None:
        for user_id in user_ids:
            member = dial(port)
            self._members.append(member)
            member.sendall(upgrade())
            (socket_id,) = re.findall(rb'socket_id\\":\\"([0-9.]+)', until(member, b"activity_timeout"))
            channel_data = json.dumps({"user_id": user_id})
            signed = f"{socket_id.decode()}:{channel}:{channel_data}".encode()
            auth = f"{KEY}:{hmac.new(SECRET.encode(), signed, hashlib.sha256).hexdigest()}"
            data = {"channel": channel, "auth": auth, "channel_data": channel_data}
            member.sendall(text_frame(json.dumps({"event": "pusher:subscribe", "data": data}).encode()))
            until(member, b"subscription_succeeded")
