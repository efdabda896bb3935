"""Who may ask and order: a token, or nobody but this machine; and never a page in a browser behind its user's back."""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Mapping
from urllib.parse import urlsplit

from gateway.admin.login import Logins
from gateway.core.error import RequestError

#: for everybody: a supervisor that restarts or routes has no token
OPEN = frozenset({"/healthz", "/readyz"})

#: what a browser goes to, from wherever its user comes
PAGES = frozenset({"/", "/login"})

_SAFE = frozenset({"GET", "HEAD"})


class Guard:
    """Judges a request by its head. Without a token the port is open to this machine alone, whatever a name resolves to."""

    def __init__(
        self, *, token: str, host: str, logins: Logins | None = None, before_login: frozenset[str] = frozenset()
    ) -> None:
        """`host` is what the port listens on; `before_login` are paths that are needed to log in, and hold nothing else."""
        self._token = token.encode()
        self._host = host.lower()
        self._logins = logins
        self._before_login = before_login

    def check(self, method: str, path: str, headers: Mapping[str, str]) -> None:
        """Let the request pass, or raise RequestError 401, 403 or 415; names in `headers` in any case."""
        if path in OPEN:
            return
        by_cookie = False
        if self._token:
            by_cookie = "Authorization" not in headers and self._is_logged_in(headers)
            if not by_cookie and path not in self._before_login:
                self._check_token(headers.get("Authorization", ""))
        elif not self._is_ours(host_of(headers.get("Host", ""))):
            # A page whose name its owner points at 127.0.0.1 once it is loaded is of the same origin as this port (DNS
            # rebinding), but its requests still carry that name.
            raise RequestError(
                403, "without a token this port answers to loopback names only; the Host header has another", "Host"
            )
        is_order = method not in _SAFE or headers.get("Upgrade", "").lower() == "websocket"
        if (is_order or path not in PAGES) and method != "OPTIONS" and not _is_same_origin(headers, is_order, by_cookie):
            # A WebSocket may be opened by any page, and brings the cookie; what it says can be read (no CORS there).
            raise RequestError(403, "this was asked by a page of another origin", "Origin")
        if method not in _SAFE and headers.get("Content-Type", "").partition(";")[0].strip().lower() != "application/json":
            # What a page of another origin can send without asking first has one of three other types (Fetch, "simple").
            raise RequestError(415, "send the body as Content-Type: application/json, also where it is empty", "Content-Type")

    def _check_token(self, authorization: str) -> None:
        scheme, _, given = authorization.partition(" ")
        # Compared in a time that tells nothing about how much of it was right.
        is_right = hmac.compare_digest(given.strip().encode("utf-8", "surrogateescape"), self._token)
        if scheme.lower() != "bearer" or not is_right:
            raise RequestError(
                401, "this needs the admin token: Authorization: Bearer TOKEN ([admin] token in the file)", "Authorization"
            )

    def _is_logged_in(self, headers: Mapping[str, str]) -> bool:
        return self._logins is not None and self._logins.is_open(self._logins.value_in(headers))

    def _is_ours(self, host: str) -> bool:
        if host in ("localhost", self._host):
            return True
        try:
            return ipaddress.ip_address(host).is_loopback
        except ValueError:
            return False


def _is_same_origin(headers: Mapping[str, str], is_order: bool, by_cookie: bool) -> bool:
    """Tell whether a page of ours asks, or no page at all; an order by cookie must prove that it is the former."""
    site = headers.get("Sec-Fetch-Site")
    if site is not None:
        return site == "same-origin" or (site == "none" and not is_order)
    # Without TLS, and from WebSockets, browsers send only this.
    origin = headers.get("Origin")
    if origin is not None and is_order:
        try:
            return urlsplit(origin).netloc.lower() == headers.get("Host", "").lower()
        except ValueError:
            return False
    return not (is_order and by_cookie)


def host_of(header: str) -> str:
    """Return the host in a Host header, without port and brackets, in lower case."""
    if header.startswith("["):
        return header[1:].partition("]")[0].lower()
    return header.partition(":")[0].lower()
