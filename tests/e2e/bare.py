"""Connections of which a test has the socket, for what no client does, or what thousands do."""

from __future__ import annotations

import socket
import struct

from tests.e2e.client import QUERY
from tests.e2e.gateway_process import KEY
from tests.patience import LONG_S


def dial(port: int) -> socket.socket:
    """Connect, and say nothing."""
    return socket.create_connection(("127.0.0.1", port), timeout=LONG_S)


def upgrade(more: str = "") -> bytes:
    """Return what asks for a WebSocket, with more fields if need be."""
    return (
        f"GET /app/{KEY}?{QUERY} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{more}\r\n"
    ).encode()


def until(line: socket.socket, word: bytes) -> bytes:
    """Read until the word has come, and return all of it: what else begins may be half read with it, and nobody may care."""
    read = b""
    while word not in read:
        piece = line.recv(65_536)
        assert piece, f"cut off while waiting for {word!r}, after {read[-200:]!r}"
        read += piece
    return read


def reset(line: socket.socket) -> None:
    """End it with a RST."""
    line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    line.close()
