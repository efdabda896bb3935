"""What schemathesis needs to know to talk to the gateway: how requests are signed. Read by its own process."""

from __future__ import annotations

import os
import time
from urllib.parse import unquote_plus, urlsplit, urlunsplit

import requests
import schemathesis

from gateway.core.app import App
from gateway.core.auth import sign_request

APP = App(id=os.environ["API_ID"], key=os.environ["API_KEY"], secret=os.environ["API_SECRET"])


class Signed(requests.auth.AuthBase):
    """Signs what is about to be sent, whatever it holds."""

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        assert request.url is not None
        assert request.method is not None
        url = urlsplit(request.url)
        body = request.body or b""
        body = body.encode() if isinstance(body, str) else body
        pieces = [piece.partition("=") for piece in url.query.split("&") if piece]
        pairs = [(unquote_plus(name, errors="replace"), unquote_plus(value, errors="replace")) for name, _, value in pieces]
        # nobody has the time to wait for events; how long is otherwise left as it was generated
        pairs = [(name.lower(), "0.01" if name == "wait" and _is_long(value) else value) for name, value in pairs]
        pairs = [(name, value) for name, value in pairs if not name.startswith("auth_") and name != "body_md5"]
        query = sign_request(APP, method=request.method, path=url.path, parameters=pairs, body=body, now_s=time.time())
        request.url = urlunsplit(url._replace(query=query))
        return request


def _is_long(wait: str) -> bool:
    try:
        return 0.01 < float(wait) <= 55
    except ValueError:
        return False


schemathesis.auth.set_from_requests(Signed())
