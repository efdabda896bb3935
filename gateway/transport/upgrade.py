"""The pure reading of a request head: what it asks for, and how an upgrade is answered.

A head that asks for a WebSocket in the plain and proper way is answered here, for it happens thousands of times a second
after a restart; whatever is unusual about the upgrade is left to websockets, which accepts it or says what is wrong.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import unquote_to_bytes

import orjson
from websockets.http11 import Request
from websockets.protocol import State
from websockets.server import ServerProtocol
from websockets.utils import accept_key

from gateway.node import Handshake
from gateway.transport.parser import LOG, discard

#: Longest text taken over from a request, in characters.
_LONGEST = 512
_CONTROLS = dict.fromkeys([*range(0x20), *range(0x7F, 0xA0)], "\ufffd")

# RFC 9112 section 3; of the versions, those with this syntax. Bytes beyond ASCII are let through, to be judged by the route.
_REQUEST_LINE = re.compile(rb"([A-Z]{1,32}) ([!-~\x80-\xff]+) HTTP/1\.([01])")
# What may still become a request line: enough to turn away TLS, and all else that is not HTTP, at its first byte.
_PROMISING = re.compile(rb"[A-Z]{1,32}(?: [^\x00-\x1f\x7f]*\r?)?")
# RFC 9112 section 5, without folded lines.
_FIELD = re.compile(rb"([-!#$%&'*+.^_`|~0-9A-Za-z]+):([\t\x20-\x7e\x80-\xff]*)")

_WANTED = (b"protocol", b"client", b"version")

#: Different queries and texts whose reading is kept; none is longer than a request head may be.
_KEPT = 256


@dataclass(frozen=True, slots=True)
class Start:
    """The first line of a request; `path` and `query` are not decoded."""

    method: bytes
    path: bytes
    query: bytes
    #: HTTP/1.1 rather than 1.0
    is_current: bool


def is_promising(beginning: bytes) -> bool:
    """Tell whether these few bytes, without a line feed, can be the beginning of a request."""
    return _PROMISING.fullmatch(beginning) is not None


def read_start(line: bytes) -> Start | None:
    """Return what the first line says; None if it is not that of an HTTP/1 request."""
    match = _REQUEST_LINE.fullmatch(line)
    if match is None:
        return None
    path, _, query = match[2].partition(b"?")
    return Start(match[1], path, query, match[3] == b"1")


def read_fields(lines: bytes) -> dict[bytes, bytes] | None:
    """Return the header fields, names in lower case, repeated ones joined by commas; None if a line is malformed."""
    fields: dict[bytes, bytes] = {}
    for line in lines.split(b"\r\n"):
        match = _FIELD.fullmatch(line)
        if match is None:
            return None
        name, value = match[1].lower(), match[2].strip(b" \t")
        known = fields.get(name)
        fields[name] = value if known is None else known + b", " + value
    return fields


def app_key(path: bytes, prefix: bytes) -> bytes | None:
    """Return the key, as it stands in `/app/{key}` with or without prefix and trailing slash; None on other paths."""
    for mount in (prefix + b"/app/", b"/app/"):
        if path.startswith(mount):
            return path[len(mount) :].removesuffix(b"/")
    return None


def wants_websocket(fields: Mapping[bytes, bytes]) -> bool:
    """Tell whether the request asks for an upgrade to WebSocket, properly or not."""
    return b"websocket" in _tokens(fields.get(b"upgrade", b""))


def is_proper(start: Start, fields: Mapping[bytes, bytes]) -> bool:
    """Tell whether the upgrade request is as RFC 6455 section 4.2.1 wants it."""
    return (
        start.method == b"GET"
        and start.is_current
        and b"upgrade" in _tokens(fields.get(b"connection", b""))
        and b"13" in _tokens(fields.get(b"sec-websocket-version", b""))
        and _is_nonce(fields.get(b"sec-websocket-key", b""))
        and fields.get(b"content-length", b"0") == b"0"
        and b"transfer-encoding" not in fields
    )


def accept(fields: Mapping[bytes, bytes], extensions: str | None = None) -> bytes:
    """Return the answer to a proper upgrade request: no sub-protocol is selected, and of extensions what was agreed."""
    key = accept_key(fields[b"sec-websocket-key"].decode("ascii"))
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + key.encode("ascii") + _extensions_field(extensions) + b"\r\n\r\n"
    )


def _extensions_field(agreed: str | None) -> bytes:
    return b"" if agreed is None else b"\r\nSec-WebSocket-Extensions: " + agreed.encode("ascii")


def judge(head: bytes) -> tuple[bytes, bool]:
    """Return the answer to an upgrade request that is not as it should be, and whether it accepts all the same.

    `head` ends with the empty line. The answer is empty if the head makes no sense at all.
    """
    # What is offered as sub-protocol or extension is of no interest, so it cannot be wrong either.
    lines = [
        line
        for line in head.split(b"\r\n")
        if not line.lower().startswith((b"sec-websocket-protocol:", b"sec-websocket-extensions:"))
    ]
    server = ServerProtocol(logger=LOG)
    server.receive_data(b"\r\n".join(lines))
    for request in server.events_received():
        if isinstance(request, Request):
            server.send_response(server.accept(request))
    answer, accepts = b"".join(server.data_to_send()), server.state is State.OPEN
    discard(server)
    return answer if accepts or not answer else _in_json(answer), accepts


def refusal(sentence: str) -> bytes:
    """Return the body that tells why a request is refused, as the HTTP API does."""
    return orjson.dumps({"error": sentence})


def _in_json(answer: bytes) -> bytes:
    head, _, text = answer.partition(b"\r\n\r\n")
    body = refusal(text.decode("utf-8", "replace").strip())
    kept = [line for line in head.split(b"\r\n") if not line.lower().startswith(b"content-")]
    return b"\r\n".join([*kept, b"Content-Type: application/json", b"Content-Length: %d" % len(body), b"", body])


def handshake(key: bytes, query: bytes, fields: Mapping[bytes, bytes], remote_ip: str, is_secure: bool) -> Handshake:
    """Return what the node needs to know of the request; see there for what its texts may hold."""
    protocol, client, version = _asked(query)
    origin, user_agent = fields.get(b"origin"), fields.get(b"user-agent")
    return Handshake(
        key=_text(_decoded(key)),
        protocol=protocol,
        client=client,
        version=version,
        origin=None if origin is None else _text(origin),
        user_agent=None if user_agent is None else _text(user_agent),
        remote_ip=remote_ip,
        is_secure=is_secure,
    )


# All connections of a page ask for the same, and those of a kind of client nearly so; what is kept is also shared.
@lru_cache(maxsize=_KEPT)
def _asked(query: bytes) -> tuple[str | None, ...]:
    """Return protocol, client and version, as far as the query gives them; the first of several counts."""
    given: dict[bytes, str] = {}
    for pair in query.split(b"&"):
        name, _, value = pair.partition(b"=")
        if name in _WANTED and name not in given:
            given[name] = _text(_decoded(value.replace(b"+", b" ")))
    return tuple(given.get(name) for name in _WANTED)


def _tokens(value: bytes) -> list[bytes]:
    return [token.strip(b" \t") for token in value.lower().split(b",")]


def _is_nonce(value: bytes) -> bool:
    try:
        return len(value) == 24 and len(base64.b64decode(value, validate=True)) == 16
    except binascii.Error:
        return False


def _decoded(raw: bytes) -> bytes:
    return unquote_to_bytes(raw) if b"%" in raw else raw


@lru_cache(maxsize=_KEPT)
def _text(raw: bytes) -> str:
    text = raw.decode("utf-8", "replace")
    return (text if text.isprintable() else text.translate(_CONTROLS))[:_LONGEST]
