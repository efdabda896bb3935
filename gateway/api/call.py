"""What a handler is given: a request whose signature was found right."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import orjson
from aiohttp import web

from gateway.core.app import App
from gateway.core.auth import Parameters
from gateway.core.error import RequestError
from gateway.desk import Desk
from gateway.node import Node

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

    def json(self) -> object:
        """Return the parsed body; raises RequestError 400 where it is not JSON in UTF-8 (without a byte order mark)."""
        try:
            return orjson.loads(self.body)
        except orjson.JSONDecodeError as error:
            raise RequestError(400, f"the body is not JSON in UTF-8: {error}", reason="invalid_data") from error

    def asked(self, name: str) -> str:
        """Return a parameter that is a comma-separated list, however it was spelled; empty if it is not there."""
        return ",".join(self.parameters.get(name, []) + self.parameters.get(f"{name}[]", []))


async def read_body(request: web.BaseRequest, limit: int) -> bytes:
    """Return the body as received, of at most `limit` bytes.

    Raises RequestError: 413 as soon as it is clear that there are more, none of them kept; 408 and 400 where it does not
    come, or not whole.
    """
    content = request.content
    length = request.content_length
    if length is not None and length > limit:
        raise _too_large(limit)
    if content.is_eof() and content.total_bytes <= limit:
        return content.read_nowait()
    if request.headers.get("Expect", "").lower() == "100-continue" and request.transport is not None:
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
        raise RequestError(408, "the body did not arrive in time") from error
    except (ConnectionError, web.RequestPayloadError) as error:
        raise RequestError(400, "the body ended early or was sent in a malformed way") from error
    return b"".join(chunks)


def _too_large(limit: int) -> RequestError:
    return RequestError(413, f"the body is too large: {limit} bytes are allowed", reason="payload_too_large")
