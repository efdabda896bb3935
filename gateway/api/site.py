"""The HTTP API's front: which path is whose, and what surrounds every handler.

Theory of operation
-------------------
aiohttp parses requests and calls `Site._handle`. That finds the route and the app, reads the body, has the signature
checked over the very bytes received, and only then lets a handler look at anything. Whatever happens, the answer is a
JSON object, and before the signature was checked it tells nothing that the request did not say itself.

The two busy routes have a shorter way beside this one, past aiohttp, for publishes written plainly: see `express`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any, cast

from aiohttp import web

from gateway import health
from gateway.api import channel, description, event, user
from gateway.api.call import Call, read_body, verified, waits_for_leave
from gateway.api.connection import Connection, Requests
from gateway.api.express import Express, Shortcut
from gateway.api.reply import Reply, failure, wrong_method
from gateway.core.auth import claimed_key, decode_text
from gateway.core.error import RequestError
from gateway.core.trace import PARENT, STATE, Trace
from gateway.core.trace import read as read_trace
from gateway.desk import Desk
from gateway.desk import question as webhook
from gateway.node import Node
from gateway.ports import Clock

logger = logging.getLogger("rawpush.api")

Handler = Callable[[Call], Coroutine[Any, Any, dict[str, Any]]]

#: seconds a request that was cut off has for its own clean-up
_CUT_OFF_S = 0.1


@dataclass(frozen=True, slots=True)
class Route:
    """A method, and a path cut at its slashes; an empty segment stands for a name, the first under `apps` for the app's."""

    method: str
    path: tuple[str, ...]
    handler: Handler
    #: its refusals are refused publishes, and recorded
    publishes: bool = False
    #: its answer may take long; it ends when the client goes away
    waits: bool = False

    @property
    def has_app(self) -> bool:
        """Whether the path says which app is meant; else the request's key does."""
        return self.path[0] == "apps"

    def named(self, segments: list[str]) -> str:
        """Return what a path that fits names beside the app, decoded; empty if it names nothing."""
        start = 2 if self.has_app else 0
        for fixed, segment in zip(self.path[start:], segments[start:], strict=True):
            if not fixed:
                return decode_text(segment)
        return ""


#: for requests with a right signature; the busiest first
SIGNED = (
    Route("POST", ("apps", "", "events"), event.publish, publishes=True),
    Route("POST", ("apps", "", "batch_events"), event.publish_batch, publishes=True),
    Route("GET", ("apps", "", "channels"), channel.channels),
    Route("GET", ("apps", "", "channels", ""), channel.channel),
    Route("GET", ("apps", "", "channels", "", "users"), channel.users),
    Route("POST", ("apps", "", "users", "", "terminate_connections"), user.terminate_connections),
    # how the Python SDK (3.3.4 and before) writes it
    Route("POST", ("users", "", "terminate_connections"), user.terminate_connections),
    Route("GET", ("apps", "", "webhooks", "events"), webhook.events, waits=True),
    Route("GET", ("apps", "", "webhooks", "snapshot"), webhook.snapshot),
    Route("GET", ("apps", "", "webhooks", "events", ""), webhook.why),
    Route("GET", ("apps", "", "webhooks", "endpoints"), webhook.endpoints),
    Route("GET", ("apps", "", "webhooks", "endpoints", "", "deliveries"), webhook.deliveries),
    Route("GET", ("apps", "", "webhooks", "endpoints", "", "request"), webhook.request),
    Route("GET", ("apps", "", "webhooks", "endpoints", "", "dead_letters"), webhook.dead_letters),
    Route("POST", ("apps", "", "webhooks", "endpoints", "", "test"), webhook.test, waits=True),
    Route("POST", ("apps", "", "webhooks", "endpoints", "", "enable"), webhook.enable),
    Route("POST", ("apps", "", "webhooks", "endpoints", "", "replay"), webhook.replay),
)

#: for everybody
OPEN: Mapping[str, Callable[[Node], tuple[int, dict[str, object]]]] = {
    "/healthz": health.health,
    "/readyz": health.readiness,
    "/openapi.json": description.description,
}


class Site:
    """Answers the requests on the connections handed to it; see `protocol`. Make it on the running event loop.

    `path_prefix` is where the API is mounted (`/rt`, or empty). Everything is also there without it, for proxies that
    strip it.
    """

    def __init__(self, *, node: Node, desk: Desk, clock: Clock, path_prefix: str = "") -> None:
        self._node = node
        self._desk = desk
        self._clock = clock
        self._prefix = path_prefix.rstrip("/")
        self._server = web.Server(self._handle)
        self._requests = Requests()
        self._shortcut = Shortcut(node=node, clock=clock, prefix=self._prefix)
        #: takes over a connection, with all that came from the head of its present request on, if that asks for a WebSocket
        self.take_back: Callable[[asyncio.Transport, bytes], None] | None = None

    def protocol(self) -> asyncio.Protocol:
        """Return a protocol for one connection: call `connection_made`, then `data_received` with all bytes, from the first."""
        return Express(self._shortcut, self._requests, self._server)

    async def stop(self, timeout_s: float) -> None:
        """Close idle connections at once, and the others as their requests are answered, at the latest after `timeout_s`."""
        self._requests.is_stopping = True
        self._server.pre_shutdown()
        try:
            async with asyncio.timeout(timeout_s):
                await self._requests.answered()
        except TimeoutError:
            logger.warning("requests were cut off", extra={"fields": {"requests": self._requests.running}})
        await self._server.shutdown(_CUT_OFF_S)

    async def _handle(self, request: web.BaseRequest) -> Reply:
        self._requests.began()
        try:
            reply = await self._answer(request)
        except Exception as error:  # noqa: BLE001 -- what is not a refusal is logged there
            reply = failure(error, request.method, request.raw_path.partition("?")[0])
        finally:
            self._requests.ended()
            cast(Connection, request.protocol).answered += 1
        if not request.content.is_eof() and waits_for_leave(request):
            # the body will not come now, and what comes instead must not be taken for it
            reply.force_close()
        if self._requests.is_stopping:
            reply.force_close()
        return reply

    async def _answer(self, request: web.BaseRequest) -> Reply:
        method = request.method
        path, _, query = _origin_form(request.raw_path).partition("?")
        local = path.removeprefix(self._prefix) if self._prefix and path.startswith(f"{self._prefix}/") else path
        if local in OPEN:
            if method not in ("GET", "HEAD"):
                return wrong_method("GET, HEAD")
            return Reply(*OPEN[local](self._node))

        segments = local.split("/")[1:]
        route = _find(segments)
        if route is None:
            if await self._gives_back(request):
                return Reply(404, {})  # nobody reads it
            raise RequestError(404, "there is nothing at this path; GET /openapi.json lists what there is", "path")
        if method != route.method and (method != "HEAD" or route.method != "GET"):
            return wrong_method("GET, HEAD" if route.method == "GET" else route.method)
        app = self._node.app(decode_text(segments[1])) if route.has_app else self._node.app_by_key(claimed_key(query))
        if app is None and not route.has_app:
            raise RequestError(401, "auth_key is missing, or not the key of any app", "auth_key")
        if app is None:
            raise RequestError(404, "there is no app with the id in the path; ids are those of the gateway's [[apps]]", "path")

        body = b""
        try:
            body = await read_body(request, app.limits.request)
            parameters = verified(app, method, path, self._prefix, query, body, self._clock)
        except RequestError as error:
            if route.publishes and error.reason is not None:
                self._node.reject(app.id, error.reason, None, None, len(body) or request.content_length or 0)
            raise
        if route.method == "GET":
            self._node.admit_read(app.id)
        if request.headers.get("Content-Encoding", "identity").lower() != "identity":
            raise RequestError(415, "send the body as it is, without a Content-Encoding", "Content-Encoding")
        trace = _trace(request) if route.publishes else None
        call = Call(self._node, self._desk, app, parameters, body, route.named(segments), trace)
        if not route.waits:
            return Reply(200, await route.handler(call))
        return Reply(200, await _while_there(request.protocol, route.handler(call)))

    async def _gives_back(self, request: web.BaseRequest) -> bool:
        """Let the WebSocket side have a connection on which an upgrade follows plain requests; proxies that reuse theirs do that.

        An upgrade that is the first request has been judged by that side already.
        """
        connection = cast(Connection, request.protocol)
        if self.take_back is None or not connection.answered or "websocket" not in request.headers.get("Upgrade", "").lower():
            return False
        try:
            # That side keeps its bound from when writing is paused on; it must not find it so.
            await request.writer.drain()
        except ConnectionError:
            return True  # the client has gone
        lines = [f"{request.method} {request.raw_path} HTTP/{request.version.major}.{request.version.minor}".encode()]
        lines += [name + b": " + value for name, value in request.raw_headers]
        transport, rest = connection.release()
        if transport is not None:
            self.take_back(transport, b"\r\n".join(lines) + b"\r\n\r\n" + rest)
        return True


async def _while_there(connection: object, work: Coroutine[Any, Any, dict[str, Any]]) -> dict[str, Any]:
    """Do the work, but no longer than the client is there."""
    assert isinstance(connection, Connection)
    if connection.is_lost:
        work.close()
        return {}
    connection.work = task = asyncio.ensure_future(work)
    try:
        return await task
    except asyncio.CancelledError:
        if connection.is_lost:
            return {}  # nobody reads it
        task.cancel()
        raise
    finally:
        connection.work = None


def _trace(request: web.BaseRequest) -> Trace | None:
    parents = request.headers.getall(PARENT, ())
    return read_trace(list(parents), list(request.headers.getall(STATE, ()))) if parents else None


def _find(segments: list[str]) -> Route | None:
    for route in SIGNED:
        if len(route.path) == len(segments) and all(map(_fits, route.path, segments)):
            return route
    return None


def _fits(fixed: str, segment: str) -> bool:
    return fixed == segment if fixed else segment != ""


def _origin_form(target: str) -> str:
    """Return path and query of a request target; proxies may send the absolute form (RFC 9112 section 3.2.2)."""
    if target.startswith("/"):
        return target
    _, scheme, rest = target.partition("://")
    return "/" + rest.partition("/")[2] if scheme else target
