"""Signed requests to a running gateway, one at a time."""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import ProxyHandler, Request, build_opener

import orjson

from gateway import __version__
from gateway.command.error import Refused
from gateway.command.target import Target, target
from gateway.core.auth import sign_request

#: Seconds for an answer: more than an endpoint's usual time-out, which a test waits for, and the longest poll.
TIMEOUT_S = 75.0

#: characters of an answer that is not JSON which are shown
SHOWN = 200


class Client:
    """Asks on behalf of an app, where its gateway is."""

    def __init__(self, target: Target) -> None:
        self.app = target.app
        self.url = target.url
        self._path = f"{urlsplit(self.url).path}/apps/{self.app.id}"
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


def open_client(options: argparse.Namespace) -> Client:
    """Return a client for what the options say (see `option.add_app`); raises ConfigError and Misused."""
    return Client(target(options))


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
