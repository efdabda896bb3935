"""An application as a browser sees it: its pages, the stock clients' files, and endpoints that sign with the Python SDK."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from html import escape
from typing import Any

import pusher
from aiohttp import web

from tests.e2e.gateway_process import APP_ID, KEY, SECRET
from tests.e2e.node_script import HERE, MODULES
from tests.patience import LONG_S

#: what takes the place of a module of the same name when a script of this folder runs in a browser
BROWSER = HERE / "browser"
_REPLACED = {path.name for path in BROWSER.iterdir()}

PAGE = """<!doctype html><meta charset="utf-8"><title>{script}</title>
<script src="/node_modules/pusher-js/dist/web/{build}"></script>
<script src="/node_modules/laravel-echo/dist/echo.iife.js"></script>
<script type="importmap">{{"imports": {{"pusher-js": "/pusher-js.mjs", "laravel-echo": "/laravel-echo.mjs"}}}}</script>
<script type="module" src="/{script}"></script>
"""


class Application:
    """Serves on a free port of loopback; make one with `await Application.start()`.

    Whoever asks for a signature says who he is: by a bearer token, which is his user id, or by the form fields `member` and
    `user`. A presence channel's signature for who says nothing is one for who has signed in.
    """

    def __init__(self) -> None:
        self.port = 0
        #: the channels signatures were asked for, and "" for each sign-in
        self.asked: list[str] = []
        #: channels nobody may subscribe to
        self.forbidden: set[str] = set()
        self._sdk: pusher.Pusher | None = None
        self._sign: Callable[[dict[str, str]], str] | None = None
        self._runner: web.AppRunner | None = None

    @classmethod
    async def start(cls) -> Application:
        """Open the port."""
        application = cls()
        app = web.Application()
        for path in ("/pusher/auth", "/broadcasting/auth"):
            app.router.add_post(path, application._authorize)
        for path in ("/pusher/user-auth", "/broadcasting/user-auth"):
            app.router.add_post(path, application._sign_in)
        app.router.add_post("/server", application._server)
        app.router.add_post("/publish", application._publish)
        app.router.add_get("/page", application._page)
        app.router.add_static("/node_modules", MODULES)
        app.router.add_get("/{script:[a-z_-]+\\.mjs}", application._script)
        application._runner = web.AppRunner(app, shutdown_timeout=0.5)
        await application._runner.setup()
        site = web.TCPSite(application._runner, "127.0.0.1", 0)
        await site.start()
        application.port = application._runner.addresses[0][1]
        return application

    async def stop(self) -> None:
        """Close the port."""
        if self._runner is not None:
            await self._runner.cleanup()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def use(self, port: int, *, app_id: str = APP_ID, key: str = KEY, secret: str = SECRET, master_key: str = "") -> None:
        """Sign for this app, and publish to the gateway at this port."""
        encryption = {"encryption_master_key_base64": master_key} if master_key else {}
        self._sdk = pusher.Pusher(app_id, key, secret, ssl=False, host="127.0.0.1", port=port, timeout=LONG_S, **encryption)

    def signs_with(self, sign: Callable[[dict[str, str]], str]) -> None:
        """Have this answer who asks to subscribe: it is given the form, and returns JSON."""
        self._sign = sign

    async def publish(self, channel: str, event: str, data: object) -> None:
        """Publish over the HTTP API, encrypted where the channel is."""
        assert self._sdk is not None
        await asyncio.to_thread(self._sdk.trigger, channel, event, data)

    async def send_to_user(self, user_id: str, event: str, data: object) -> None:
        """Publish to one user, wherever he is signed in."""
        assert self._sdk is not None
        await asyncio.to_thread(self._sdk.send_to_user, user_id, event, data)

    async def terminate(self, user_id: str) -> None:
        """Have all connections of a user closed."""
        assert self._sdk is not None
        await asyncio.to_thread(self._sdk.terminate_user_connections, user_id)

    async def _server(self, request: web.Request) -> web.Response:
        told = await request.json()
        self.use(told["port"], app_id=told["appId"], key=told["key"], secret=told["secret"], master_key=told.get("masterKey", ""))
        return web.Response()

    async def _publish(self, request: web.Request) -> web.Response:
        told = await request.json()
        await self.publish(told["channel"], told["event"], told["data"])
        return web.Response()

    async def _authorize(self, request: web.Request) -> web.Response:
        form = await request.post()
        channel, socket_id = str(form["channel_name"]), str(form["socket_id"])
        self.asked.append(channel)
        if self._sign is not None:
            answer = self._sign({name: str(value) for name, value in form.items()})
            return web.Response(text=answer, content_type="application/json")
        member = _member(request, str(form.get("member", "")))
        assert self._sdk is not None
        if channel in self.forbidden:
            return web.Response(status=403)
        signed = self._sdk.authenticate(channel, socket_id, member if channel.startswith("presence-") else None)
        if "shared_secret" in signed:
            # the SDK returns bytes here, which JSON does not know
            signed["shared_secret"] = signed["shared_secret"].decode()
        return web.json_response(signed)

    async def _sign_in(self, request: web.Request) -> web.Response:
        form = await request.post()
        self.asked.append("")
        user = json.loads(str(form["user"])) if "user" in form else {"id": _token(request)}
        assert self._sdk is not None
        return web.json_response(self._sdk.authenticate_user(str(form["socket_id"]), user))

    async def _page(self, request: web.Request) -> web.Response:
        names = {name: escape(request.query[name]) for name in ("script", "build")}
        return web.Response(text=PAGE.format(**names), content_type="text/html")

    async def _script(self, request: web.Request) -> web.FileResponse:
        name = request.match_info["script"]
        folder = BROWSER if name in _REPLACED else HERE
        return web.FileResponse(folder / name, headers={"Content-Type": "text/javascript"})


def _token(request: web.Request) -> str:
    return request.headers.get("Authorization", "").removeprefix("Bearer ")


def _member(request: web.Request, text: str) -> Any:
    token = _token(request)
    if token:
        return {"user_id": token, "user_info": {"name": token}}
    return json.loads(text) if text else None
