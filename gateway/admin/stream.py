"""`/v1/live`: samples and events, pushed to a browser over a WebSocket of this very port.

The WebSocket is that of the HTTP server which serves the pages: one port, one guard, one cookie. The one of the public port
is made for ten thousand silent clients of another protocol, and knows only sessions of apps.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import orjson
from aiohttp import WSCloseCode, WSMsgType, web

from gateway.admin.history import FIELDS, History
from gateway.admin.login import Logins
from gateway.admin.sources import Sources
from gateway.admin.watch import Filter, Watch, Watcher
from gateway.core.error import RequestError

logger = logging.getLogger("rawpush.admin")

#: Seconds between two messages: four a second look alive, and hundreds of events share one.
_PACE_S = 0.25

#: dashboards open at once
MOST = 64

_HEARTBEAT_S = 30.0
#: seconds for those who are open to take note when the gateway stops
_GOODBYE_S = 1.0
_MOST_ASKED = 4_096

#: what a browser is closed with whose login has ended, for it to ask again (4000 and above are for applications, RFC 6455)
LOGGED_OUT = 4401


class Stream:
    """Serves `/v1/live`."""

    def __init__(self, *, sources: Sources, history: History, logins: Logins) -> None:
        self._sources = sources
        self._history = history
        self._logins = logins
        self._watch = Watch(sources)
        self._open: set[web.WebSocketResponse] = set()

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """Upgrade, and push until the other side goes or its login ends. Raises RequestError before the upgrade only."""
        if len(self._open) >= MOST:
            raise RequestError(503, f"{MOST} dashboards are open already; close one")
        ws = web.WebSocketResponse(heartbeat=_HEARTBEAT_S, max_msg_size=_MOST_ASKED, compress=False)
        if not ws.can_prepare(request):
            raise RequestError(426, "this is a WebSocket; ask with Upgrade: websocket", "Upgrade")
        await ws.prepare(request)
        watcher = Watcher()
        self._open.add(ws)
        self._history.onlookers = len(self._open)
        # Who came with the header and not with a cookie has no login that could end.
        login = (
            "" if "Authorization" in request.headers or not self._logins.are_needed else self._logins.value_in(request.headers)
        )
        pushing = asyncio.create_task(self._push(ws, watcher, login), name="live")
        try:
            async for message in ws:
                if message.type is WSMsgType.TEXT:
                    await self._obey(ws, watcher, message.data)
        finally:
            self._open.discard(ws)
            self._history.onlookers = len(self._open)
            self._watch.leave(watcher)
            pushing.cancel()
            await asyncio.gather(pushing, return_exceptions=True)
        return ws

    async def stop(self) -> None:
        """Close all; who does not read must not hold up the end."""
        closing = [asyncio.create_task(ws.close(code=WSCloseCode.GOING_AWAY, message=b"the gateway stops")) for ws in self._open]
        if closing:
            await asyncio.wait(closing, timeout=_GOODBYE_S)
        for task in closing:
            task.cancel()
        await asyncio.gather(*closing, return_exceptions=True)

    async def _push(self, ws: web.WebSocketResponse, watcher: Watcher, login: str) -> None:
        try:
            await self._keep_pushing(ws, watcher, login)
        except Exception:
            # Else the page would believe that nothing happens any more.
            logger.exception("the live feed of a dashboard broke")
            await ws.close(code=WSCloseCode.INTERNAL_ERROR, message=b"the log of the gateway says why")

    async def _keep_pushing(self, ws: web.WebSocketResponse, watcher: Watcher, login: str) -> None:
        sources, history = self._sources, self._history
        seen = history.taken
        hello = {"type": "hello", "version": sources.version, "node": sources.name, "fields": FIELDS}
        await _send(ws, hello | {"samples": list(history.samples)})
        while not ws.closed:
            if login and not self._logins.is_open(login):
                await ws.close(code=LOGGED_OUT, message=b"the login has ended")
                return
            fresh = history.since(seen)
            seen = history.taken
            if fresh:
                await _send(ws, {"type": "samples", "samples": fresh})
            events, skipped = watcher.take()
            if events:
                await _send(ws, {"type": "events", "events": events, "skipped": skipped})
            await asyncio.sleep(_PACE_S)

    async def _obey(self, ws: web.WebSocketResponse, watcher: Watcher, text: str) -> None:
        try:
            what = _read(text)
        except ValueError as error:
            await _send(ws, {"type": "error", "error": str(error)})
            return
        if what is None:
            self._watch.leave(watcher)
            return
        watcher.wants(what)
        self._watch.enter(watcher)
        # So that who waits for what happens next knows from where on nothing is missed.
        await _send(ws, {"type": "watching"})


async def _send(ws: web.WebSocketResponse, told: dict[str, Any]) -> None:
    try:
        await ws.send_str(orjson.dumps(told).decode())
    except ConnectionError:
        pass  # it has gone; the reading side ends it


def _read(text: str) -> Filter | None:
    """Read what is asked: `{"watch": {...filter}}`, or `{"watch": null}` for nothing more. Raises ValueError."""
    asked = orjson.loads(text)
    if not isinstance(asked, dict) or asked.keys() != {"watch"}:
        raise ValueError('say {"watch": {"app": "", "channel": "", "socket_id": "", "event": ""}} or {"watch": null}')
    wanted = asked["watch"]
    if wanted is None:
        return None
    if not isinstance(wanted, dict) or not all(isinstance(value, str) for value in wanted.values()):
        raise ValueError("watch must be an object of texts, or null")
    try:
        return Filter(**wanted)
    except TypeError:
        raise ValueError("watch can have app, channel, socket_id and event") from None
