"""Who may ask and order: a token, or nobody but this machine; and never a page in a browser behind its user's back."""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Mapping

from gateway.core.error import RequestError

#: for everybody: a supervisor that restarts or routes has no token
OPEN = frozenset({"/healthz", "/readyz"})

_SAFE = frozenset({"GET", "HEAD"})


class Guard:
    """Judges a request by its head. Without a token the port is open to this machine alone, whatever a name resolves to."""

    def __init__(self, *, token: str, host: str) -> None:
        """`host` is what the port listens on."""
        self._token = token.encode()
        self._host = host.lower()

    def check(self, method: str, path: str, headers: Mapping[str, str]) -> None:
        """Let the request pass, or raise RequestError 401, 403 or 415; names in `headers` in any case."""
        if path in OPEN:
            return
        if self._token:
            self._check_token(headers.get("Authorization", ""))
        elif not self._is_ours(host_of(headers.get("Host", ""))):
            # A page whose name its owner points at 127.0.0.1 once it is loaded is of the same origin as this port (DNS
            # rebinding), but its requests still carry that name.
            raise RequestError(
                403, "without a token this port answers to loopback names only; the Host header has another", "Host"
            )
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

    def _is_ours(self, host: str) -> bool:
        if host in ("localhost", self._host):
            return True
        try:
            return ipaddress.ip_address(host).is_loopback
        except ValueError:
            return False


def host_of(header: str) -> str:
    """Return the host in a Host header, without port and brackets, in lower case."""
    if header.startswith("["):
        return header[1:].partition("]")[0].lower()
    return header.partition(":")[0].lower()
