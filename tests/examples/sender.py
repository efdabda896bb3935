"""Webhooks as the gateway makes them, and as somebody would who is not the gateway; written without its code."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from http.client import HTTPConnection
from itertools import count
from typing import Any

from tests.patience import LONG_S

NEW, OLD, FOREIGN = "whsec_bmV3IHNlY3JldCBvZiAyNCBieXRlcw==", "the-old-secret", "whsec_c29tZWJvZHkgZWxzZSdzIHNlY3JldA=="
KEY, SECRET = "demo-key", "demo-secret"
MAX_BODY = 100_000

#: what a receiver under test is told
ENVIRONMENT = {"HOOK_SECRETS": f"{NEW} {OLD}", "APPS": f"other:secret {KEY}:{SECRET}", "MAX_BODY": str(MAX_BODY)}

_numbers: Iterator[int] = count(1)


@dataclass(frozen=True)
class Webhook:
    """One request; `sign` it, spoil it, `post` it."""

    body: bytes
    id: str
    path: str = "/hooks"
    headers: dict[str, str] = field(default_factory=dict)
    is_chunked: bool = False

    def sign(self, *secrets: str, age_s: float = 0, stamp: str = "") -> Webhook:
        """Add the headers of an attempt that was made so long ago."""
        stamp = stamp or str(int(time.time() - age_s))
        signatures = [standard(secret, f"{self.id}.{stamp}.".encode() + self.body) for secret in secrets or (NEW,)]
        plain = hmac.new((secrets or (NEW,))[0].encode(), self.body, hashlib.sha256).hexdigest()
        return self.with_(
            **{
                "webhook-id": self.id,
                "webhook-timestamp": stamp,
                "webhook-signature": " ".join(signatures),
                "x-webhook-signature": plain,
            }
        )

    def sign_pusher(self, key: str = KEY, secret: str = SECRET) -> Webhook:
        """Add what the format pusher has besides."""
        digest = hmac.new(secret.encode(), self.body, hashlib.sha256).hexdigest()
        return self.with_(**{"x-pusher-key": key, "x-pusher-signature": digest})

    def with_(self, **headers: str) -> Webhook:
        return replace(self, headers={**self.headers, **headers})

    def without(self, *names: str) -> Webhook:
        return replace(self, headers={name: value for name, value in self.headers.items() if name not in names})

    def post(self, port: int, method: str = "POST") -> int:
        """Send it over a connection of its own and return the status of the answer."""
        connection = HTTPConnection("127.0.0.1", port, timeout=LONG_S)
        try:
            body = iter([self.body]) if self.is_chunked else self.body
            headers = {"Content-Type": "application/json", **self.headers}
            connection.request(method, self.path, body, headers, encode_chunked=self.is_chunked)  # type: ignore[arg-type]
            return connection.getresponse().status
        finally:
            connection.close()


def standard(secret: str, signed: bytes) -> str:
    key = base64.b64decode(secret.removeprefix("whsec_")) if secret.startswith("whsec_") else secret.encode()
    return "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()


def envelope(number: int = 0, endpoint: str = "backend", **more: Any) -> dict[str, Any]:
    """Return an event of its own; with the number 0 it stands outside of the count."""
    return {
        "id": f"evt_{next(_numbers):032x}",
        "event": "channel.occupied",
        "version": "1",
        "timestamp": "2026-01-25T10:00:00.123Z",
        "app_id": "1001",
        "data": {"channel": "room-7", "type": "public", "subscribers": 1, "socket_id": "1.2", "span": "spn_1"},
        "metadata": {"webhook_id": endpoint, "sequence": number, "node": "gw-1"},
        **more,
    }


def one(event: dict[str, Any]) -> Webhook:
    """Return the request of the format event; nothing is signed yet."""
    return Webhook(json.dumps(event, ensure_ascii=False).encode(), event["id"])


def batch(*events: dict[str, Any]) -> Webhook:
    """Return a request of the format batch."""
    return Webhook(json.dumps({"events": events}).encode(), f"whb_{next(_numbers):032x}")


def pusher(*channels: str) -> Webhook:
    """Return a request of the format pusher."""
    body = {"time_ms": int(time.time() * 1000), "events": [{"name": "channel_occupied", "channel": one} for one in channels]}
    return Webhook(json.dumps(body).encode(), f"whb_{next(_numbers):032x}", "/pusher")


def raw(body: bytes) -> Webhook:
    """Return a request with any body."""
    return Webhook(body, f"evt_{next(_numbers):032x}")
