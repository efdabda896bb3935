"""Who has shown the token in a browser: a random name in a cookie stands for it, here and nowhere else."""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Mapping
from hashlib import sha256

from gateway.core.error import RequestError
from gateway.core.limit import TokenBucket
from gateway.ports import Clock

#: seconds a login lasts: a working day
LASTS_S = 12 * 3600.0

#: Logins at once; the oldest makes room. An operator has a few browsers, and this bounds what a script can leave behind.
MOST = 256

#: Wrong tries per second, and at once, for everybody together: a person mistypes, a program that guesses is not worth serving.
_TRIES_S, _TRIES = 0.2, 10


class Logins:
    """Keeps logins in memory: a restart ends them all. Without a token there is nothing to log in to."""

    def __init__(self, *, token: str, clock: Clock) -> None:
        self._token = token.encode()
        self._clock = clock
        self._tries = TokenBucket(_TRIES_S, _TRIES)
        #: by the hash of the cookie's value, so that a look into memory, or at how long comparing takes, finds no key
        self._until: dict[bytes, float] = {}
        #: Cookies know hosts, not ports: two gateways on one machine must not log each other out. Set when the port is known.
        self.cookie = "rawpush"

    @property
    def are_needed(self) -> bool:
        """Whether there is a token at all."""
        return bool(self._token)

    def open(self, token: str) -> str:
        """Return the value of a new login's cookie; raises RequestError 401 for a wrong token, 429 for too many tries."""
        now = self._clock.monotonic()
        if not self._token or not hmac.compare_digest(token.encode("utf-8", "surrogatepass"), self._token):
            # Only wrong ones are counted: whoever guesses must not keep the operator out.
            if not self._tries.take(now):
                raise RequestError(429, "there were too many tries to log in; wait some seconds", "token")
            raise RequestError(401, "this is not the admin token ([admin] token in the file)", "token")
        self._until = {key: until for key, until in self._until.items() if until > now}
        while len(self._until) >= MOST:
            del self._until[next(iter(self._until))]
        value = secrets.token_urlsafe(32)
        self._until[_hashed(value)] = now + LASTS_S
        return value

    def is_open(self, value: str) -> bool:
        """Tell whether a cookie's value stands for a login that lasts."""
        until = self._until.get(_hashed(value)) if value else None
        return until is not None and until > self._clock.monotonic()

    def close(self, value: str) -> None:
        """End a login; one that is not there is no error."""
        self._until.pop(_hashed(value), None)

    def value_in(self, headers: Mapping[str, str]) -> str:
        """Return the value of the cookie that a request brings, empty if it brings none."""
        for piece in headers.get("Cookie", "").split(";"):
            name, _, value = piece.strip().partition("=")
            if name == self.cookie:
                return value
        return ""


def _hashed(value: str) -> bytes:
    return sha256(value.encode("utf-8", "surrogatepass")).digest()
