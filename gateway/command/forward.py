"""Webhooks that are made here, out of the feed: the same body, id and signatures as an endpoint would get."""

from __future__ import annotations

import base64
import hmac
import time
from collections.abc import Mapping
from datetime import datetime
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Any
from urllib.parse import urlsplit

from gateway import __version__
from gateway.core import signing
from gateway.core.app import App
from gateway.core.endpoint import BASE64_SECRET, Endpoint
from gateway.core.span import LifecycleEvent
from gateway.core.webhook import Router, request

#: what the bodies say in `metadata.webhook_id` and `metadata.node`: no endpoint of the file, and no gateway
NAME, NODE = "listen", "rawpush-listen"


def secret_for(app: App) -> str:
    """Return the secret that signs what is forwarded where none was given: always the same for an app, and not the app's."""
    digest = hmac.digest(app.secret.encode(), b"rawpush listen", "sha256")
    return BASE64_SECRET + base64.b64encode(digest).decode()


def event_of(entry: Mapping[str, Any]) -> LifecycleEvent:
    """Return the event of an entry of the feed."""
    at_ms = round(datetime.fromisoformat(entry["timestamp"]).timestamp() * 1000)
    channel = entry["data"].get("channel")
    return LifecycleEvent(
        entry["id"], entry["event"], entry["app_id"], at_ms, f"{entry['app_id']}/{NODE}", entry["data"], channel
    )


class Forwarder:
    """Chooses and forwards as `endpoint` says; no attempt is repeated."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._router = Router([endpoint], NODE, {})

    def wants(self, event: LifecycleEvent) -> bool:
        """Tell whether the endpoint's filter lets the event pass."""
        return self._router.left_out_by(self._endpoint.key, event) is None

    def post(self, event: LifecycleEvent) -> dict[str, object]:
        """Send the event and return what came back: `status` or `error`, and `latency_ms`.

        Its sequence is 0: what comes out of the feed is outside of every endpoint's sequence.
        """
        delivery = self._router.render(self._endpoint.key, event, 0)
        webhook = request(self._endpoint, [delivery], round(time.time() * 1000))
        headers = signing.headers(
            self._endpoint, webhook, attempt=1, now_s=int(time.time()), user_agent=f"rawpush-listen/{__version__}"
        )
        parts = urlsplit(self._endpoint.url)
        kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
        connection = kind(parts.hostname or "", parts.port, timeout=self._endpoint.timeout_s)
        began = time.perf_counter()
        try:
            connection.putrequest("POST", parts._replace(scheme="", netloc="").geturl() or "/", skip_accept_encoding=True)
            for name, value in (*headers.items(), ("Content-Length", str(len(webhook.body)))):
                connection.putheader(name, value)
            connection.endheaders(webhook.body)
            answer: dict[str, object] = {"status": connection.getresponse().status}
        except (OSError, HTTPException) as error:
            answer = {"error": str(error) or type(error).__name__}
        finally:
            connection.close()
        return {**answer, "latency_ms": round((time.perf_counter() - began) * 1000, 1)}
