"""What clients and back ends send, as finished bytes: the load only has to write them."""

from __future__ import annotations

import base64
import hashlib
import hmac
import struct
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import orjson

from gateway.core import frame

APP_ID, KEY, SECRET = "1001", "bench-key", "bench-secret"

#: characters of a message's data, such that the frame is one of some 140 bytes
_DATA = "x" * 78


def channel(number: int) -> str:
    """Return the name of a channel; all are equally long."""
    return f"bench-{number:05}"


def hello(path: str = f"/app/{KEY}?protocol=7&client=js&version=8.4.0&flash=false", number: int = 0) -> bytes:
    """Return a client's upgrade request; each number has a nonce of its own, as each client has."""
    nonce = base64.b64encode(number.to_bytes(16)).decode()
    return (
        f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\n"
        f"Connection: Upgrade\r\nSec-WebSocket-Key: {nonce}\r\nSec-WebSocket-Version: 13\r\n\r\n"
    ).encode()


def subscription(name: str, socket_id: str | None = None) -> bytes:
    """Return a subscription as a client's frame, signed if a socket id is given."""
    data = {"channel": name}
    if socket_id is not None:
        data["auth"] = f"{KEY}:{hmac.digest(SECRET.encode(), f'{socket_id}:{name}'.encode(), 'sha256').hex()}"
    return client_frame(orjson.dumps({"event": "pusher:subscribe", "data": data}))


def client_event(name: str) -> bytes:
    """Return a client event as a client's frame, of the size of a message."""
    return client_frame(orjson.dumps({"event": "client-message", "channel": name, "data": _DATA}))


def client_frame(payload: bytes) -> bytes:
    """Return a text frame as a client sends it: masked with zeros, which is a mask like any other."""
    size = bytes([0x80 | len(payload)]) if len(payload) < 126 else struct.pack("!BH", 0x80 | 126, len(payload))
    return b"\x81" + size + bytes(4) + payload


def message() -> bytes:
    """Return what a published message looks like to a subscriber, without the frame around it."""
    return frame.message("message", channel(0), _DATA)


def subscribers(count: int, channels: int) -> list[bytes]:
    """Return what so many clients send, two pieces each; client `i` subscribes to channel `i % channels`."""
    return [piece for number in range(count) for piece in (hello(number=number), subscription(channel(number % channels)))]


def event(name: str) -> dict[str, str]:
    """Return an event as a back end publishes it."""
    return {"name": "message", "channel": name, "data": _DATA}


def publish(name: str) -> bytes:
    """Return a signed publish of one event."""
    return signed(f"/apps/{APP_ID}/events", event(name))


def publish_batch(names: Iterable[str]) -> bytes:
    """Return a signed publish of a batch, one event a channel."""
    return signed(f"/apps/{APP_ID}/batch_events", {"batch": [event(name) for name in names]})


def signed(path: str, content: object) -> bytes:
    """Return a request with its signature, which is good for ten minutes and may be sent many times."""
    body = orjson.dumps(content)
    digest = hashlib.md5(body, usedforsecurity=False).hexdigest()
    query = f"auth_key={KEY}&auth_timestamp={int(time.time())}&auth_version=1.0&body_md5={digest}"
    signature = hmac.digest(SECRET.encode(), f"POST\n{path}\n{query}".encode(), "sha256").hex()
    head = (
        f"POST {path}?{query}&auth_signature={signature} HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def floor_says() -> list[bytes]:
    """Return what a floor answers: to an upgrade, to a subscription, the message itself, to a publish."""
    upgraded = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ?\r\n\r\n"
    return [
        upgraded + frame.wire(frame.established("1.1", 120)),
        frame.wire(frame.subscription_succeeded(channel(0), None)),
        frame.wire(frame.message("message", channel(0), _DATA)),
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}",
    ]


def write(path: Path, records: Sequence[bytes]) -> Path:
    """Write records, each behind its length, for a program to read; returns the path."""
    path.write_bytes(b"".join([struct.pack("!I", len(record)) + record for record in records]))
    return path


def read(path: Path) -> list[bytes]:
    """Return the records that `write` has written."""
    data, records, at = path.read_bytes(), [], 0
    while at < len(data):
        (size,) = struct.unpack_from("!I", data, at)
        records.append(data[at + 4 : at + 4 + size])
        at += 4 + size
    return records
