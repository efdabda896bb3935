"""The pure reading of a request head: what it asks for, and how an upgrade is answered.

A head that asks for a WebSocket in the plain and proper way is answered here, for it happens thousands of times a second
after a restart; whatever is unusual about the upgrade is left to websockets, which accepts it or says what is wrong.

The heads that one kind of client sends from one page differ in nothing but the nonce. So what a head says is kept under its
bytes without the nonce, and such a head is read once, however many come with it (`recognised`).
"""

from __future__ import annotations

import binascii
import hashlib
import re
from collections.abc import Mapping
from functools import lru_cache
from urllib.parse import unquote_to_bytes

import orjson
from websockets.http11 import Request
from websockets.protocol import State
from websockets.server import ServerProtocol

from gateway.core.value import value
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

#: 16 bytes in base64 (RFC 6455 section 4.1)
_NONCE = re.compile(rb"[A-Za-z0-9+/]{22}==")
#: What stands before it, as browsers and libraries write it, and as proxies do that speak HTTP/2 on their other side.
_BEFORE_NONCE = (b"\r\nSec-WebSocket-Key: ", b"\r\nsec-websocket-key: ")
_NONCE_SIZE = 24
#: What the answer's proof is made with (RFC 6455 section 1.3); copying the state is quicker than looking up the algorithm.
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_SHA1 = hashlib.sha1(usedforsecurity=False)

#: Different heads, queries and texts whose reading is kept; none is longer than a request head may be.
_KEPT = 256
#: Longest head whose reading is kept, in bytes: without cookies nobody sends more, and with them no two are alike.
LONGEST_KEPT = 2048


@value
class Start:
    """The first line of a request; `path` and `query` are not decoded."""

    method: bytes
    path: bytes
    query: bytes
    #: HTTP/1.1 rather than 1.0
    is_current: bool


@value
class Wish:
    """What a request for a WebSocket says beside its nonce; see `Handshake` for the texts."""

    key: str
    protocol: str | None
    client: str | None
    version: str | None
    origin: str | None
    user_agent: str | None
    forwarded_for: bytes | None
    forwarded_proto: bytes | None
    #: the extensions that are offered
    extensions: bytes | None

    def handshake(self, remote_ip: str, is_secure: bool) -> Handshake:
        """Return what the node needs to know of the request."""
        return Handshake(self.key, self.protocol, self.client, self.version, self.origin, self.user_agent, remote_ip, is_secure)


def recognised(head: bytes, prefix: bytes) -> tuple[Wish, bytes] | None:
    """Return what a whole head asks for and its nonce if that is a proper upgrade to WebSocket; None: read it step by step.

    `head` is what has been received so far, at most `LONGEST_KEPT` bytes.
    """
    for before in _BEFORE_NONCE:
        at = head.find(before) + len(before)
        if at >= len(before):
            nonce = head[at : at + _NONCE_SIZE]
            if _NONCE.fullmatch(nonce) is None:
                return None
            wish = _known(head[:at], head[at + _NONCE_SIZE :], prefix)
            return None if wish is None else (wish, nonce)
    return None


@lru_cache(maxsize=_KEPT)
def _known(before: bytes, behind: bytes, prefix: bytes) -> Wish | None:
    """Read the head whose nonce has been cut out of it."""
    line, _, lines = (before + b"A" * 22 + b"==" + behind).partition(b"\r\n")
    lines, end, rest = lines.partition(b"\r\n\r\n")
    start = read_start(line)
    fields = read_fields(lines)
    if not end or rest or start is None or fields is None:
        return None
    key = app_key(start.path, prefix)
    return wish(key, start.query, fields) if key is not None and wants_websocket(fields) and is_proper(start, fields) else None


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
        and _NONCE.fullmatch(fields.get(b"sec-websocket-key", b"")) is not None
        and fields.get(b"content-length", b"0") == b"0"
        and b"transfer-encoding" not in fields
    )


def accept(nonce: bytes, extensions: str | None = None) -> bytes:
    """Return the answer to a proper upgrade request: no sub-protocol is selected, and of extensions what was agreed."""
    proof = _SHA1.copy()
    proof.update(nonce + _GUID)
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %b%b\r\n\r\n"
        % (
            binascii.b2a_base64(proof.digest(), newline=False),
            b"" if extensions is None else b"\r\nSec-WebSocket-Extensions: " + extensions.encode("ascii"),
        )
    )


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


def wish(key: bytes, query: bytes, fields: Mapping[bytes, bytes]) -> Wish:
    """Return what a request for a WebSocket says; its texts are made harmless, see `Handshake` for what they may hold."""
    protocol, client, version = _asked(query)
    origin, user_agent = fields.get(b"origin"), fields.get(b"user-agent")
    return Wish(
        _text(_decoded(key)),
        protocol,
        client,
        version,
        None if origin is None else _text(origin),
        None if user_agent is None else _text(user_agent),
        fields.get(b"x-forwarded-for"),
        fields.get(b"x-forwarded-proto"),
        fields.get(b"sec-websocket-extensions"),
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


@lru_cache(maxsize=_KEPT)
def _tokens(text: bytes) -> tuple[bytes, ...]:
    return tuple(token.strip(b" \t") for token in text.lower().split(b","))


def _decoded(raw: bytes) -> bytes:
    return unquote_to_bytes(raw) if b"%" in raw else raw


@lru_cache(maxsize=_KEPT)
def _text(raw: bytes) -> str:
    text = raw.decode("utf-8", "replace")
    return (text if text.isprintable() else text.translate(_CONTROLS))[:_LONGEST]
