"""A raw WebSocket client that says exactly what a test tells it to, and a backend that signs exactly what it sends."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import socket
import struct
import time
from collections.abc import Callable, Iterable
from ssl import SSLContext
from typing import Any, ClassVar
from urllib.parse import quote

import aiohttp
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from tests import contract
from tests.e2e.gateway_process import APP_ID, KEY, SECRET
from tests.patience import LONG_S

QUERY = "protocol=7&client=test&version=1.2"

Frame = dict[str, Any]


class Client:
    """One connection. Frames are read in order; what a test does not wait for is kept in `passed`."""

    #: all that were made and not yet cleared away
    made: ClassVar[list[Client]] = []

    def __init__(self, ws: ClientConnection, key: str, secret: str) -> None:
        self.ws = ws
        self.key = key
        self.secret = secret
        self.socket_id = ""
        self.passed: list[Frame] = []
        #: frames put back, to be read first
        self.unread: list[Frame] = []
        self.made.append(self)

    @classmethod
    async def clear_away(cls) -> None:
        """Cut every connection that is still there."""
        for client in cls.made:
            client.ws.transport.abort()
            await client.ws.wait_closed()
        cls.made.clear()

    @classmethod
    async def dial(cls, port: int, *, key: str = KEY, secret: str = SECRET, query: str = QUERY, **options: Any) -> Client:
        """Upgrade, and leave whatever comes to the test."""
        path = f"/app/{key}?{query}" if query else f"/app/{key}"
        options = {
            "open_timeout": LONG_S,
            "close_timeout": 20,
            "ping_interval": None,
            "compression": None,
            "proxy": None,
            **options,
        }
        scheme = "wss" if "ssl" in options else "ws"
        return cls(await connect(f"{scheme}://127.0.0.1:{port}{path}", **options), key, secret)

    @classmethod
    async def connect(cls, port: int, **options: Any) -> Client:
        """Upgrade and wait for `connection_established`, which must be the first frame."""
        client = await cls.dial(port, **options)
        frame = await client.next()
        assert frame["event"] == "pusher:connection_established", frame
        client.socket_id = json.loads(frame["data"])["socket_id"]
        return client

    async def next(self, within_s: float = LONG_S) -> Frame:
        async with asyncio.timeout(within_s):
            return await self._read()

    async def _read(self) -> Frame:
        frame: Frame = self.unread.pop(0) if self.unread else json.loads(await self.ws.recv())
        return frame

    async def expect(self, event: str, channel: str | None = None, within_s: float = LONG_S) -> Frame:
        """Read up to the next frame of this event (and channel), and return it."""
        try:
            async with asyncio.timeout(within_s):
                while True:
                    frame = await self._read()
                    if frame["event"] == event and channel in (None, frame.get("channel")):
                        return frame
                    self.passed.append(frame)
        except TimeoutError:
            raise AssertionError(f"waited {within_s} s for {event} {channel}; there came {self.passed[-10:]}") from None

    async def settle(self) -> list[Frame]:
        """Return all frames that came before the answer to a ping sent now: what is not among them was not sent."""
        self.passed.clear()
        await self.send("pusher:ping", {})
        await self.expect("pusher:pong")
        return list(self.passed)

    async def closed(self, within_s: float = LONG_S) -> int:
        """Read on until the connection has ended and return the close code."""
        try:
            async with asyncio.timeout(within_s):
                while True:
                    self.passed.append(await self._read())
        except ConnectionClosed:
            assert self.ws.close_code is not None
            return self.ws.close_code

    async def send(self, event: str, data: object, channel: str | None = None, **more: object) -> None:
        frame = {"event": event, "data": data, **({} if channel is None else {"channel": channel}), **more}
        await self.ws.send(json.dumps(frame))

    def subscription(self, channel: str, member: object = None) -> dict[str, str]:
        """Return the `data` of a subscribe frame, signed where the channel needs it."""
        data = {"channel": channel}
        text = f"{self.socket_id}:{channel}"
        if member is not None:
            data["channel_data"] = json.dumps(member)
            text += ":" + data["channel_data"]
        if channel.startswith(("private-", "presence-")):
            data["auth"] = f"{self.key}:" + hmac.new(self.secret.encode(), text.encode(), hashlib.sha256).hexdigest()
        return data

    async def subscribe(self, channel: str, member: object = None) -> Frame:
        """Subscribe and wait for the success."""
        await self.send("pusher:subscribe", self.subscription(channel, member))
        return await self.expect("pusher_internal:subscription_succeeded", channel)

    async def join(self, channel: str, user_id: str) -> Frame:
        """Subscribe to a presence channel as this user."""
        return await self.subscribe(channel, {"user_id": user_id, "user_info": {"name": user_id}})

    def signature(self, user_id: str, **more: object) -> dict[str, str]:
        """Return the `data` of a sign-in frame, signed."""
        user_data = json.dumps({"id": user_id, **more})
        text = f"{self.socket_id}::user::{user_data}"
        auth = f"{self.key}:" + hmac.new(self.secret.encode(), text.encode(), hashlib.sha256).hexdigest()
        return {"auth": auth, "user_data": user_data}

    async def sign_in(self, user_id: str, **more: object) -> Frame:
        """Sign in as this user and wait for the success."""
        await self.send("pusher:signin", self.signature(user_id, **more))
        return await self.expect("pusher:signin_success")

    async def unsubscribe(self, channel: str) -> None:
        await self.send("pusher:unsubscribe", {"channel": channel})

    async def close(self, code: int = 1000) -> None:
        await self.ws.close(code)

    def finish(self) -> None:
        """End the TCP connection without a close frame."""
        self.ws.transport.close()

    def reset(self) -> None:
        """End the TCP connection with a RST."""
        connection: socket.socket = self.ws.transport.get_extra_info("socket")
        if connection.fileno() != -1:  # else the other side was faster
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.ws.transport.abort()

    def write(self, data: bytes) -> None:
        """Put bytes on the wire as they are."""
        self.ws.transport.write(data)

    async def write_frames(self, frames: Iterable[object]) -> None:
        """Send many text frames in one write."""
        self.write(b"".join(text_frame(json.dumps(frame).encode()) for frame in frames))


def text_frame(payload: bytes, opcode: int = 1) -> bytes:
    """Return a masked client frame; a mask of zeros leaves the payload readable."""
    length = len(payload)
    head = struct.pack("!BB", 0x80 | opcode, 0x80 | length) if length < 126 else struct.pack("!BBH", 0x80 | opcode, 0xFE, length)
    return head + b"\0\0\0\0" + payload


class Backend:
    """An application's backend, as far as it calls the HTTP API; use it as an async context."""

    def __init__(
        self,
        port: int,
        app_id: str = APP_ID,
        key: str = KEY,
        secret: str = SECRET,
        *,
        ssl: SSLContext | None = None,
        prefix: str = "",
    ) -> None:
        """With `ssl`, speak TLS and trust whom it trusts; `prefix` is where the API is mounted."""
        self.base = f"http{'s' if ssl else ''}://127.0.0.1:{port}"
        self.prefix = prefix
        self.path = f"{prefix}/apps/{app_id}"
        self.key = key
        self.secret = secret
        #: called with the status of each answer, as soon as its head is there
        self.answered: Callable[[int], None] = lambda status: None
        connector = aiohttp.TCPConnector(ssl=ssl or True)
        self._session = aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=LONG_S))

    async def __aenter__(self) -> Backend:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._session.close()

    async def call(self, method: str, path: str, body: bytes = b"", /, **query: Any) -> tuple[int, Any, dict[str, str]]:
        """Make a signed request; return status, parsed JSON and headers (names in lower case)."""
        query = {**query, "auth_key": self.key, "auth_timestamp": str(int(time.time())), "auth_version": "1.0"}
        if body:
            query["body_md5"] = hashlib.md5(body, usedforsecurity=False).hexdigest()
        text = "\n".join([method, self.path + path, "&".join(f"{name}={value}" for name, value in sorted(query.items()))])
        query["auth_signature"] = hmac.new(self.secret.encode(), text.encode(), hashlib.sha256).hexdigest()
        url = self.base + self.path + path + "?" + "&".join(f"{name}={quote(str(value))}" for name, value in query.items())
        headers = {"Content-Type": "application/json"} if body else {}
        async with self._session.request(method, url, data=body or None, headers=headers) as answer:
            self.answered(answer.status)
            text = await answer.text()
            headers = {name.lower(): value for name, value in answer.headers.items()}
            contract.check(method, self.path + path, answer.status, headers, json.loads(text), self.prefix)
            return answer.status, json.loads(text), headers

    async def publish(self, channels: str | list[str], name: str, data: str = "{}", **more: object) -> int:
        """Publish one event and return the status of the answer."""
        channels = [channels] if isinstance(channels, str) else channels
        body = json.dumps({"name": name, "channels": channels, "data": data, **more}).encode()
        status, _, _ = await self.call("POST", "/events", body)
        return status

    async def get(self, path: str, **query: Any) -> Any:
        """Ask a question that must be answered with 200."""
        status, answer, _ = await self.call("GET", path, **query)
        assert status == 200, answer
        return answer


async def departing(port: int) -> list[tuple[str, str | None]]:
    """Return the channels and members, these with their users, that have left and will be gone when their linger is over."""
    async with Backend(port) as backend:
        snapshot = await backend.get("/webhooks/snapshot")
    open_spans = (one for kind in ("channels", "members") for one in snapshot[kind])
    return [(one["channel"], one.get("user_id")) for one in open_spans if "departs_at" in one]
