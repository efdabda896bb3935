"""What a handler is given: a request whose signature was found right."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import orjson
from aiohttp import web

from gateway.core.app import App
from gateway.core.auth import Parameters, spellings, verify_request
from gateway.core.error import RequestError
from gateway.core.trace import Trace
from gateway.desk import Desk
from gateway.node import Node
from gateway.ports import Clock

#: seconds a client has for sending a body; without a bound, half a body would hold a connection for ever
BODY_TIMEOUT_S = 30.0


@dataclass(slots=True)
class Call:
    """One request; `name` is what the path names beside the app (a channel, say), decoded and not yet looked at, or empty."""

    node: Node
    desk: Desk
    app: App
    parameters: Parameters
    body: bytes
    name: str
    #: what the request belongs to; looked for only where it matters
    trace: Trace | None = None

    def json(self) -> object:
        """Return the parsed body; see `parsed`."""
        return parsed(self.body)

    def asked(self, name: str) -> str:
        """Return a parameter that is a comma-separated list, however it was spelled; empty if it is not there."""
        return ",".join(self.parameters.get(name, []) + self.parameters.get(f"{name}[]", []))


def parsed(body: bytes) -> object:
    """Return the parsed body; raises RequestError 400 where it is not JSON in UTF-8 (without a byte order mark)."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise RequestError(400, f"the body is not JSON in UTF-8: {error}", "body", reason="invalid_data") from error


async def read_body(request: web.BaseRequest, limit: int) -> bytes:
    """Return the body as received, of at most `limit` bytes.

    Raises RequestError: 413 as soon as it is clear that there are more, none of them kept; 408 and 400 where it does not
    come, or not whole; 501 where it is wrapped in something else than chunks (RFC 9112 section 6.1).
    """
    content = request.content
    length = request.content_length
    if length is not None and length > limit:
        raise _too_large(limit)
    coding = request.headers.get("Transfer-Encoding", "chunked")
    if coding.lower() != "chunked":
        raise RequestError(501, "send the body as it is, or in chunks, but not in another transfer coding", "Transfer-Encoding")
    if content.is_eof() and content.total_bytes <= limit:
        return content.read_nowait()
    if waits_for_leave(request) and request.transport is not None:
        # the client sends its body only when it has seen this, or after a second
        request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    chunks = []
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            while not content.at_eof():
                chunks.append(await content.readany())
                if content.total_bytes > limit:
                    raise _too_large(limit)
    except TimeoutError as error:
        raise too_late() from error
    except (ConnectionError, web.RequestPayloadError) as error:
        raise RequestError(400, "the body ended early, or one of its chunks is malformed", "body") from error
    return b"".join(chunks)


def verified(app: App, method: str, path: str, prefix: str, query: str, body: bytes, clock: Clock) -> Parameters:
    """Return the request's own parameters, if it is signed as it must be and the app is to be served.

    `path` is as received, `prefix` where the API is mounted. Raises RequestError 401 and 403.
    """
    parameters = verify_request(
        app, method=method, paths=spellings(path, prefix), query=query, body=body, now_s=clock.epoch_ms() / 1000
    )
    if not app.enabled:
        raise RequestError(403, "the app is disabled: its setting enabled is false")
    return parameters


def waits_for_leave(request: web.BaseRequest) -> bool:
    """Return whether the client sends its body only once it is told to (RFC 9110 section 10.1.1)."""
    return request.headers.get("Expect", "").lower() == "100-continue"


def too_late() -> RequestError:
    """Return the refusal of a request whose body did not come in time."""
    return RequestError(408, f"the body did not arrive within {BODY_TIMEOUT_S:g} seconds; send it again", "body")


def _too_large(limit: int) -> RequestError:
    sentence = f"the body is too large: {limit} bytes are allowed (the app's limits.request)"
    return RequestError(413, sentence, "body", reason="payload_too_large")
