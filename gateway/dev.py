"""`rawpush dev`: a gateway for one terminal, with an app that lives as long as the command, and a receiver that prints.

The receiver is an ordinary HTTP server of its own: webhooks come to it as they would come to anybody's back end.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import hmac
import re
import secrets
import shutil
import signal
import sys
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

import orjson
import uvloop
from aiohttp import web

from gateway import __version__
from gateway.admin.site import PortUnusable
from gateway.bootstrap import Gateway
from gateway.config import Admin, AppEntry, Config, Log, OutboxSettings, Server, printable
from gateway.core import signing
from gateway.core.app import App
from gateway.core.channel import is_legal, kind_of
from gateway.core.endpoint import Endpoint
from gateway.process import configure_logging
from gateway.signals import deaf_at_the_end, on

HOST = "127.0.0.1"
PORT, ADMIN_PORT = 6001, 6002

#: How old a webhook may be, in seconds: what the Standard Webhooks libraries grant.
_TOLERANCE_S = 300

_SOCKET_ID = re.compile(r"[0-9]+\.[0-9]+", re.ASCII)

#: data that says nothing to a person who watches
_NOT_SHOWN = frozenset({"span", "type", "protocol"})
#: and what says most, so that it is not what is cut off
_FIRST = frozenset({"channel", "client", "code", "data", "event", "reason", "subscribers", "user_id"})


def run(port: int | None) -> int:
    """Run until Ctrl-C or SIGTERM; `port` None means the usual one, or any if that is taken. Returns the exit code."""
    return uvloop.run(deaf_at_the_end(_run(port)))


async def _run(port: int | None) -> int:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        on(number, stop.set)
    app = App(id="1001", key=secrets.token_hex(10), secret=secrets.token_hex(16))
    receiver = Receiver(app, secrets.token_urlsafe(24), say)
    await receiver.start()
    try:
        gateway = await _started(app, receiver.endpoint(), port)
        if gateway is None:
            return 1
        for line in instructions(app, gateway.port, receiver.port, gateway.admin_port):
            say(line)
        await stop.wait()
        say("")
        say("stopping; what is still due arrives now")
        await gateway.stop()
    finally:
        await receiver.stop()
    return 0


async def _started(app: App, endpoint: Endpoint, port: int | None) -> Gateway | None:
    wanted, admin = (PORT, ADMIN_PORT) if port is None else (port, ADMIN_PORT if port else 0)
    while True:
        gateway = Gateway(throw_away(app, endpoint, wanted, admin))
        configure_logging(gateway.config)
        try:
            await gateway.start()
        except PortUnusable as error:
            if not admin:
                print(f"rawpush: {error}", file=sys.stderr)
                return None
            admin = 0  # it is not what somebody who tries things out came for
        except OSError as error:
            if error.errno != errno.EADDRINUSE or port is not None or not wanted:
                print(f"rawpush: cannot listen on port {wanted}: {error.strerror or error}", file=sys.stderr)
                return None
            say(f"port {PORT} is taken; using a free one")
            wanted = 0
        else:
            return gateway


def throw_away(app: App, endpoint: Endpoint, port: int, admin_port: int) -> Config:
    """Return a configuration of which nothing remains, and that stops quickly: somebody sits and waits."""
    return Config(
        server=Server(host=HOST, port=port, drain_s=0.0, shutdown_timeout_s=4.0),
        outbox=OutboxSettings(mode="memory"),
        admin=Admin(host=HOST, port=admin_port),
        log=Log(level="warning", format="text"),
        apps=(AppEntry(app, (endpoint,)),),
    )


class Receiver:
    """A back end in miniature: takes webhooks and prints them, and signs subscriptions at `/pusher/auth`."""

    def __init__(self, app: App, secret: str, say: Callable[[str], None]) -> None:
        self.port = 0
        self._app = app
        self._secret = secret
        self._say = say
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        """Listen on a free port of the loopback address; `port` says on which."""
        site = web.Application(client_max_size=64 * 1024 * 1024)
        site.router.add_post("/webhooks", self._webhook)
        site.router.add_post("/pusher/auth", self._auth)
        site.router.add_options("/pusher/auth", self._preflight)
        self._runner = web.AppRunner(site, access_log=None, handle_signals=False, shutdown_timeout=1.0)
        await self._runner.setup()
        await web.TCPSite(self._runner, HOST, 0).start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Stop listening; stopping twice is harmless."""
        if self._runner is not None:
            await self._runner.cleanup()

    def endpoint(self) -> Endpoint:
        """Return the endpoint that sends here, everything in one order."""
        url = f"http://{HOST}:{self.port}/webhooks"
        return Endpoint(app_id=self._app.id, name="dev", url=url, secrets=(self._secret,), concurrency=1)

    async def _webhook(self, request: web.Request) -> web.Response:
        body = await request.read()
        wrong = signing.verify(body, request.headers, [self._secret], int(time.time()), _TOLERANCE_S)
        width = shutil.get_terminal_size((140, 24)).columns
        for line in webhook_lines(body, wrong, width):
            self._say(line)
        return web.Response(status=204 if wrong is None else 401)

    async def _auth(self, request: web.Request) -> web.Response:
        form = await request.post()
        status, answer = authorise(self._app, str(form.get("socket_id", "")), str(form.get("channel_name", "")))
        # Any page may ask, from whatever port its developer serves it: the app is gone when the command ends.
        return web.json_response(answer, status=status, headers={"Access-Control-Allow-Origin": "*"})

    async def _preflight(self, request: web.Request) -> web.Response:
        headers = {
            "Access-Control-Allow-Origin": "*",
            "Access-Control-Allow-Methods": "POST",
            "Access-Control-Allow-Headers": request.headers.get("Access-Control-Request-Headers", "*"),
            "Access-Control-Allow-Private-Network": "true",
        }
        return web.Response(status=204, headers=headers)


def authorise(app: App, socket_id: str, channel: str) -> tuple[int, dict[str, str]]:
    """Return status and answer of an authorisation endpoint that lets everybody in, each connection as a user of its own."""
    if not _SOCKET_ID.fullmatch(socket_id) or not is_legal(channel):
        return 400, {"error": "socket_id and channel_name are needed, form-encoded, as client libraries send them"}
    kind = kind_of(channel)
    if kind.type == "encrypted":
        return 403, {"error": "encrypted channels need a back end that holds their master key; this one has none"}
    if not kind.has_members:
        return 200, {"auth": f"{app.key}:{_signed(app, f'{socket_id}:{channel}')}"}
    user = "user-" + socket_id.partition(".")[2]
    data = orjson.dumps({"user_id": user, "user_info": {"name": user}}).decode()
    return 200, {"auth": f"{app.key}:{_signed(app, f'{socket_id}:{channel}:{data}')}", "channel_data": data}


def _signed(app: App, text: str) -> str:
    return hmac.new(app.secret.encode(), text.encode(), hashlib.sha256).hexdigest()


# -- what is printed


def say(line: str) -> None:
    """Print a line at once, also into a pipe."""
    print(line, flush=True)


def webhook_lines(body: bytes, wrong: str | None, width: int) -> list[str]:
    """Return a line for each event of a webhook: time, event, subject, signature, data; no character in it moves a cursor."""
    verdict = "signature ok" if wrong is None else f"signature WRONG ({wrong})"
    try:
        content = orjson.loads(body)
        return [_event_line(event, verdict, width) for event in content.get("events", [content])]
    except (ValueError, TypeError, KeyError, AttributeError):
        return [
            f"{time.strftime('%H:%M:%S')}      {'(not a webhook)':27} {printable(repr(body[:40]), 26):26} {printable(verdict)}"
        ]


def _event_line(event: Mapping[str, Any], verdict: str, width: int) -> str:
    data: Mapping[str, Any] = event["data"]
    kind = str(event["event"])
    at = datetime.fromisoformat(event["timestamp"]).astimezone().strftime("%H:%M:%S.%f")[:-3]
    own = "socket_id" if kind.startswith("connection.") else "channel"
    subject = str(data.get(own) or event["metadata"]["webhook_id"])
    names = sorted(data.keys() - _NOT_SHOWN - {own}, key=lambda name: (name not in _FIRST, name))
    facts = " ".join(f"{name}={_plain(data[name])}" for name in names if data[name] is not None)
    line = f"{at} {printable(kind, 27):27} {printable(subject, 26):26} {printable(verdict):12}"
    return f"{line}  {printable(facts, max(20, width - len(line) - 2))}".rstrip()


def _plain(value: object) -> str:
    return value if isinstance(value, str) else orjson.dumps(value).decode()


def instructions(app: App, port: int, receiver: int, admin: int) -> list[str]:
    """Return what to paste where: real addresses, real key, real secret."""
    options = (
        f'wsHost: "{HOST}", wsPort: {port}, forceTLS: false, enabledTransports: ["ws"], cluster: "dev",',
        f'channelAuthorization: {{ endpoint: "http://{HOST}:{receiver}/pusher/auth" }},',
    )
    return f"""\
RawPush {__version__}: a gateway for this terminal. Nothing is kept; Ctrl-C ends it.

  clients     ws://{HOST}:{port}/app/{app.key}
  back ends   http://{HOST}:{port}/apps/{app.id}/events
  operators   http://{HOST}:{admin}/metrics, /readyz, /v1/overview
  app id      {app.id}
  key         {app.key}
  secret      {app.secret}

In a page:

  <script src="https://js.pusher.com/8.4.0/pusher.min.js"></script>
  <script>
    const pusher = new Pusher("{app.key}", {{
      {options[0]}
      {options[1]}
    }});
    pusher.subscribe("room-7").bind("greeting", (data) => console.log(data));
    pusher.subscribe("presence-room-7").bind("pusher:subscription_succeeded", (members) => console.log(members.me));
  </script>

In Node (npm install pusher-js):

  const Pusher = require("pusher-js");
  const pusher = new Pusher("{app.key}", {{
    {options[0]}
    {options[1]}
  }});
  pusher.subscribe("private-room-7").bind("greeting", (data) => console.log(data));

From a back end in Python (pip install pusher):

  import pusher
  client = pusher.Pusher(app_id="{app.id}", key="{app.key}", secret="{app.secret}", host="{HOST}", port={port}, ssl=False)
  client.trigger(["room-7", "private-room-7"], "greeting", {{"hello": "world"}})

Webhooks, as they arrive and verified (http://{HOST}:{receiver}/webhooks):
""".splitlines()
