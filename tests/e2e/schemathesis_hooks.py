"""What schemathesis needs to know to talk to the gateway: how requests are signed, and that it is in a hurry.

Read by its own process. Where there is no key, for the operator's port, nothing is signed.
"""

from __future__ import annotations

import os
import time
from urllib.parse import unquote_plus, urlsplit, urlunsplit

import requests
import schemathesis

from gateway.core.app import App
from gateway.core.auth import sign_request

APP = (
    App(id=os.environ["API_ID"], key=os.environ["API_KEY"], secret=os.environ["API_SECRET"]) if "API_KEY" in os.environ else None
)


class Ready(requests.auth.AuthBase):
    """Changes as little as possible of what is about to be sent, whatever it holds."""

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        assert request.url is not None
        url = urlsplit(request.url)
        query = "&".join(map(_hurried, url.query.split("&")))
        if APP is not None:
            query = _signed(APP, request, url.path, query)
        request.url = urlunsplit(url._replace(query=query))
        return request


def _hurried(piece: str) -> str:
    """Return one parameter of a query; nobody has the time to wait for events, and a client gives up before the gateway."""
    name, _, value = piece.partition("=")
    return f"{name}=0.01" if name.lower() == "wait" and _is_long(unquote_plus(value)) else piece


def _signed(app: App, request: requests.PreparedRequest, path: str, query: str) -> str:
    assert request.method is not None
    body = request.body or b""
    body = body.encode() if isinstance(body, str) else body
    pieces = [piece.partition("=") for piece in query.split("&") if piece]
    pairs = [(unquote_plus(name, errors="replace").lower(), unquote_plus(value, errors="replace")) for name, _, value in pieces]
    pairs = [(name, value) for name, value in pairs if not name.startswith("auth_") and name != "body_md5"]
    return sign_request(app, method=request.method, path=path, parameters=pairs, body=body, now_s=time.time())


def _is_long(wait: str) -> bool:
    try:
        return 0.01 < float(wait) <= 55
    except ValueError:
        return False


schemathesis.auth.set_from_requests(Ready())
