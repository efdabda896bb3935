"""Requests to the admin port of a running gateway."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlencode, urlsplit
from urllib.request import ProxyHandler, Request, build_opener

from gateway import __version__
from gateway.command.client import TIMEOUT_S, parsed
from gateway.command.error import Misused, Refused
from gateway.command.target import reachable
from gateway.config import Admin


class AdminClient:
    """Asks at `url`, by default where the file says the admin port is, with the token of the file."""

    def __init__(self, admin: Admin, url: str | None, option: str = "--url") -> None:
        """`option` is what names another place. Raises Misused where it is not clear where to ask."""
        if url is None:
            if not admin.enabled:
                raise Misused(f"the file has no admin port ([admin] enabled = false); {option} names that of another gateway")
            if not admin.port:
                raise Misused(
                    f"the file leaves the admin port open ([admin] port = 0); give {option}, as the gateway said it at its start"
                )
            url = f"http://{reachable(admin.host)}:{admin.port}"
        self.url = url.rstrip("/")
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
            raise Misused(f"{option} must be such as http://127.0.0.1:6002, not {self.url}")
        self._token = admin.token
        self._option = option
        # A proxy of the environment is for the world outside; what is asked here is next door.
        self._opener = build_opener(ProxyHandler({}))

    def call(self, method: str, path: str, accepts: Collection[int] = (), **parameters: object) -> tuple[int, Any]:
        """Return status and answer; raises Refused for any status but 2xx and those in `accepts`."""
        status, raw = self._ask(method, path, accepts, parameters)
        return status, parsed(raw)

    def text(self, path: str) -> str:
        """Return an answer that is not JSON; raises Refused."""
        return self._ask("GET", path, (), {})[1].decode("utf-8", "replace")

    def _ask(self, method: str, path: str, accepts: Collection[int], parameters: Mapping[str, object]) -> tuple[int, bytes]:
        query = f"?{urlencode(parameters)}" if parameters else ""
        headers = {"User-Agent": f"rawpush/{__version__}", "Content-Type": "application/json"}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        body = b"" if method == "POST" else None
        request = Request(f"{self.url}{path}{query}", data=body, headers=headers, method=method)
        try:
            with self._opener.open(request, timeout=TIMEOUT_S) as response:
                return response.status, response.read()
        except HTTPError as error:
            raw: bytes = error.read()
            if error.code in accepts:
                return error.code, raw
            answer = parsed(raw)
            if error.code == 401:
                raise Refused("the gateway has another admin token than the file ([admin] token)", 401) from None
            raise Refused(f"{answer['error']}" if "error" in answer else f"status {error.code}", error.code) from None
        except (OSError, HTTPException) as error:
            reason = getattr(error, "reason", None) or error
            raise Refused(
                f"no answer from an admin port at {self.url}: {reason}; is the gateway running? It listens where [admin] said "
                f"at its start, and printed it; {self._option} names another place"
            ) from None
