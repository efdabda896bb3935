"""The operator's site: which path is whose, and what surrounds every handler."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable

import orjson
from aiohttp import hdrs, web

from gateway import health
from gateway.admin import live, order, overview
from gateway.admin.call import AppCall, Call
from gateway.admin.description import description
from gateway.admin.guard import Guard
from gateway.admin.history import History
from gateway.admin.login import LASTS_S, Logins
from gateway.admin.order import Reload
from gateway.admin.pages import BEFORE_LOGIN, HEADERS, Pages, wants_page
from gateway.admin.reply import SERVER, Connection, answered, refused
from gateway.admin.scrape import Scraper
from gateway.admin.sources import Sources
from gateway.admin.stream import Stream
from gateway.core.error import RequestError
from gateway.core.trace import PARENT, STATE, Trace
from gateway.core.trace import read as read_trace
from gateway.desk import question
from gateway.desk.answer import Answer
from gateway.node import Node

logger = logging.getLogger("rawpush.admin")

#: seconds a request has for its body
_BODY_S = 30.0
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

#: about the gateway as a whole
GENERAL: tuple[tuple[str, str, Callable[[Call], Awaitable[Answer]]], ...] = (
    ("GET", "/v1/overview", overview.overview),
    ("GET", "/v1/apps", overview.apps),
    ("GET", "/v1/connections", live.connections),
    ("GET", "/v1/channels", live.channels),
)

#: about one app, under /v1/apps/ID; what is asked and ordered about webhooks is what the HTTP API has, in its words
OF_APP: tuple[tuple[str, str, Callable[[AppCall], Awaitable[Answer]]], ...] = (
    ("POST", "/events", order.publish),
    ("GET", "/connections/{name}", live.connection),
    ("GET", "/connections/{name}/timeline", live.connection_timeline),
    ("POST", "/connections/{name}/terminate", order.terminate),
    ("POST", "/users/{name}/terminate_connections", order.terminate_user),
    ("GET", "/channels/{name}", live.channel),
    ("GET", "/channels/{name}/timeline", live.channel_timeline),
    ("GET", "/webhooks/events", question.events),
    ("GET", "/webhooks/events/{name}", question.why),
    ("GET", "/webhooks/endpoints", question.endpoints),
    ("GET", "/webhooks/endpoints/{name}/deliveries", question.deliveries),
    ("GET", "/webhooks/endpoints/{name}/request", question.request),
    ("GET", "/webhooks/endpoints/{name}/dead_letters", question.dead_letters),
    ("POST", "/webhooks/endpoints/{name}/test", question.test),
    ("POST", "/webhooks/endpoints/{name}/enable", question.enable),
    ("POST", "/webhooks/endpoints/{name}/replay", question.replay),
)


class PortUnusable(OSError):
    """The operator's port cannot be opened; the sentence names the settings that help."""

    def __init__(self, host: str, port: int, number: int) -> None:
        self.sentence = (
            f"the admin port {host}:{port} cannot be opened ({os.strerror(number)}); set another port in [admin] "
            "(0: any free one), or enabled = false"
        )
        super().__init__(number, self.sentence)

    def __str__(self) -> str:
        return self.sentence


class Site:
    """Listens between `listen` and `stop`. Make it on the running event loop; `app` takes more routes until `listen`."""

    def __init__(self, *, sources: Sources, token: str, host: str, reload: Reload) -> None:
        self._sources = sources
        self._host = host
        self._logins = Logins(token=token, clock=sources.clock)
        self._guard = Guard(token=token, host=host, logins=self._logins, before_login=BEFORE_LOGIN)
        self._history = History(sources)
        self._stream = Stream(sources=sources, history=self._history, logins=self._logins)
        self._scraper = Scraper(sources)
        self._reload = reload
        self._tasks: list[asyncio.Task[None]] = []
        self.app = web.Application(middlewares=[self._surround])
        self.app.on_response_prepare.append(_named)
        self.app.router.add_get("/healthz", self._open(health.health))
        self.app.router.add_get("/readyz", self._open(health.readiness))
        self.app.router.add_get("/metrics", self._metrics)
        self.app.router.add_get("/v1/openapi.json", self._described)
        self.app.router.add_post("/v1/reload", self._reloaded)
        self.app.router.add_get("/v1/live", self._stream.serve)
        self.app.router.add_get("/v1/session", self._session)
        self.app.router.add_post("/login", self._log_in)
        self.app.router.add_post("/logout", self._log_out)
        Pages().add_to(self.app)
        for method, path, handler in GENERAL:
            self._add(method, path, self._general(handler))
        for method, path, of_app in OF_APP:
            self._add(method, f"/v1/apps/{{app}}{path}", self._of_app(of_app))
        self._runner = web.AppRunner(self.app, access_log=None, handle_signals=False, shutdown_timeout=1.0)
        self._listener: asyncio.Server | None = None

    async def listen(self, port: int) -> int:
        """Open the port and return its number; raises `PortUnusable`."""
        await self._runner.setup()
        try:
            self._listener = await asyncio.get_running_loop().create_server(self.protocol, self._host, port)
        except OSError as error:
            raise PortUnusable(self._host, port, error.errno or 0) from error
        self._tasks.append(asyncio.create_task(self._sources.pulse.run(), name="pulse"))
        self._tasks.append(asyncio.create_task(self._history.run(), name="history"))
        bound: int = self._listener.sockets[0].getsockname()[1]
        self._logins.cookie = f"rawpush_{bound}"
        return bound

    def protocol(self) -> Connection:
        """Return a protocol for one connection; `listen` comes first."""
        assert self._runner.server is not None
        return Connection(self._runner.server)

    async def stop(self) -> None:
        """Close the port; requests under way have a second. Stopping twice is harmless."""
        if self._listener is not None:
            self._listener.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._stream.stop()
        await self._sources.stock.stop()
        await self._runner.cleanup()

    def _add(self, method: str, path: str, handler: Handler) -> None:
        if method == "GET":
            self.app.router.add_get(path, handler)
        else:
            self.app.router.add_route(method, path, handler)

    # -- what surrounds every handler

    @web.middleware
    async def _surround(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            # Where nothing takes this method nothing will be done, so how it was sent need not be looked at.
            method = request.method if request.match_info.http_exception is None else "GET"
            self._guard.check(method, request.path, request.headers)
            return await handler(request)
        except RequestError as error:
            if error.status == 401 and wants_page(request):
                return web.Response(status=303, headers={**HEADERS, hdrs.LOCATION: "login"})
            return refused(error)
        except web.HTTPException as error:
            allowed = {hdrs.ALLOW: error.headers[hdrs.ALLOW]} if hdrs.ALLOW in error.headers else {}
            sentence, where = _SENTENCES.get(error.status, (error.reason, None))
            return answered(error.status, {"error": sentence} | ({"where": where} if where else {}), **allowed)
        except OSError as error:
            logger.error("the outbox cannot be used", extra={"fields": {"error": str(error)}})
            return refused(RequestError(503, "the gateway cannot read or write its outbox now; its log says why"))
        except Exception:
            logger.exception("a request failed", extra={"fields": {"method": request.method, "path": request.path}})
            return refused(RequestError(500, "the gateway could not answer; its log says why"))

    def _open(self, handler: Callable[[Node], tuple[int, Answer]]) -> Handler:
        async def answer(request: web.Request) -> web.StreamResponse:
            return answered(*handler(self._sources.node))

        return answer

    def _general(self, handler: Callable[[Call], Awaitable[Answer]]) -> Handler:
        async def answer(request: web.Request) -> web.StreamResponse:
            return answered(200, await handler(Call(self._sources, _parameters(request), await _body(request), "")))

        return answer

    def _of_app(self, handler: Callable[[AppCall], Awaitable[Answer]]) -> Handler:
        async def answer(request: web.Request) -> web.StreamResponse:
            app = self._sources.node.app(request.match_info["app"])
            if app is None:
                raise RequestError(404, "there is no app with the id in the path", "path")
            name = request.match_info.get("name", "")
            call = AppCall(self._sources, _parameters(request), await _body(request), name, app, _trace(request))
            return answered(200, await handler(call))

        return answer

    async def _metrics(self, request: web.Request) -> web.StreamResponse:
        content_type, body = await self._scraper.scrape(request.headers.get(hdrs.ACCEPT, ""))
        return web.Response(body=body, headers={hdrs.CONTENT_TYPE: content_type, hdrs.CACHE_CONTROL: "no-store"})

    async def _described(self, request: web.Request) -> web.StreamResponse:
        return answered(200, description())

    # -- logging in

    async def _session(self, request: web.Request) -> web.StreamResponse:
        return answered(200, {"login": self._logins.are_needed})

    async def _log_in(self, request: web.Request) -> web.StreamResponse:
        try:
            asked = orjson.loads(await _body(request))
            token = asked["token"]
        except (ValueError, KeyError, TypeError):
            token = None
        if not isinstance(token, str):
            raise RequestError(400, 'the body must be {"token": "..."}', "body")
        answer = answered(200, {"ok": True})
        # Whether there is TLS in front only the browser knows for sure.
        is_secure = request.headers.get(hdrs.ORIGIN, "").startswith("https://")
        value = self._logins.open(token)
        answer.set_cookie(
            self._logins.cookie, value, max_age=int(LASTS_S), path="/", httponly=True, samesite="Strict", secure=is_secure
        )
        return answer

    async def _log_out(self, request: web.Request) -> web.StreamResponse:
        self._logins.close(self._logins.value_in(request.headers))
        answer = answered(200, {"ok": True})
        answer.del_cookie(self._logins.cookie, path="/")
        return answer

    async def _reloaded(self, request: web.Request) -> web.StreamResponse:
        await _body(request)
        # Who goes away while it is done must not leave it half done.
        return answered(*await asyncio.shield(asyncio.ensure_future(self._reload())))


_SENTENCES = {
    404: ("there is nothing at this path", "path"),
    405: ("this path does not take this method", "method"),
    413: ("the body is too large: 1048576 bytes are allowed", "body"),
}


async def _named(request: web.Request, response: web.StreamResponse) -> None:
    response.headers[hdrs.SERVER] = SERVER


def _parameters(request: web.Request) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, value in request.query.items():
        found.setdefault(name, []).append(value)
    return found


def _trace(request: web.Request) -> Trace | None:
    parents = request.headers.getall(PARENT, ())
    return read_trace(list(parents), list(request.headers.getall(STATE, ()))) if parents else None


async def _body(request: web.Request) -> bytes:
    try:
        async with asyncio.timeout(_BODY_S):
            return await request.read()
    except TimeoutError as error:
        raise RequestError(408, "the body did not arrive in time", "body") from error
