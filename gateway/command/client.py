"""Signed requests to a running gateway, one at a time."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import ProxyHandler, Request, build_opener

import orjson

from gateway import __version__
from gateway.command.error import Misused, Refused
from gateway.config import Config, load
from gateway.core.app import App
from gateway.core.auth import sign_request

#: Seconds for an answer: more than an endpoint's usual time-out, which a test waits for, and the longest poll.
TIMEOUT_S = 75.0

#: characters of an answer that is not JSON which are shown
SHOWN = 200


class Client:
    """Asks on behalf of one app of a configuration file.

    `url` is where the gateway's API is, by default where the file says it listens. Raises Misused where the app is not clear.
    """

    def __init__(self, config: Config, *, app_id: str | None = None, url: str | None = None) -> None:
        self.app = _app(config, app_id)
        self.url = (url or address(config)).rstrip("/")
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
            raise Misused(f"--url must be such as http://127.0.0.1:6001, not {self.url}")
        self._path = f"{parts.path}/apps/{self.app.id}"
        # A proxy of the environment is for the world outside; what is asked here is next door.
        self._opener = build_opener(ProxyHandler({}))

    def get(self, path: str, **parameters: object) -> Any:
        """Return the answer to a question; parameters that are None are left out. Raises Refused."""
        return self._call("GET", path, parameters, b"")

    def post(self, path: str, body: Mapping[str, object]) -> Any:
        """Return the answer to an order. Raises Refused."""
        return self._call("POST", path, {}, orjson.dumps(body))

    def _call(self, method: str, path: str, parameters: Mapping[str, object], body: bytes) -> Any:
        path = f"{self._path}/{path}"
        pairs = [(name, str(value)) for name, value in parameters.items() if value is not None]
        query = sign_request(self.app, method=method, path=path, parameters=pairs, body=body, now_s=time.time())
        target = self.url.removesuffix(urlsplit(self.url).path) + f"{path}?{query}"
        headers = {"User-Agent": f"rawpush/{__version__}", "Content-Type": "application/json"}
        request = Request(target, data=body or None, headers=headers, method=method)
        try:
            with self._opener.open(request, timeout=TIMEOUT_S) as response:
                return parsed(response.read())
        except HTTPError as error:
            raise Refused(_why(error), error.code) from None
        except (OSError, HTTPException) as error:
            reason = getattr(error, "reason", None) or error
            raise Refused(f"no answer from the gateway at {self.url}: {reason}; is it running?") from None


def open_client(path: Path, app_id: str | None, url: str | None) -> Client:
    """Return a client for the app of a configuration file; raises ConfigError and Misused."""
    return Client(load(path, os.environ), app_id=app_id, url=url)


def address(config: Config) -> str:
    """Return the URL of the API of a gateway that runs on this machine with this configuration."""
    server = config.server
    return f"http{'s' if server.tls else ''}://{reachable(server.host)}:{server.port}{server.path_prefix}"


def reachable(host: str) -> str:
    """Return the host of a URL at which one reaches what listens there: nobody can connect to "all addresses"."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"[{host}]" if ":" in host else host


def _app(config: Config, app_id: str | None) -> App:
    apps = {entry.app.id: entry.app for entry in config.apps}
    if app_id is None and len(apps) == 1:
        return next(iter(apps.values()))
    if app_id is None:
        raise Misused(f"the file has several apps; say which with --app: {', '.join(apps)}")
    if app_id not in apps:
        raise Misused(f"the file has no app {app_id}; there is {', '.join(apps)}")
    return apps[app_id]


def parsed(raw: bytes) -> Any:
    """Return the JSON of an answer; raises Refused where it is none."""
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError:
        shown = raw[:SHOWN].decode("utf-8", "replace")
        raise Refused(f"what answered is not the gateway's API; it said {shown!r}") from None


def _why(error: HTTPError) -> str:
    raw = error.read()
    try:
        answer = orjson.loads(raw)
        where = f" (at {answer['where']})" if "where" in answer else ""
        return f"{answer['error']}{where}"
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return f"status {error.code}, and not in the way of the gateway's API: {raw[:SHOWN].decode('utf-8', 'replace')!r}"
