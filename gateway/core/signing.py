"""Signature headers of one attempt: plain HMAC for ten lines of one's own, and Standard Webhooks for its libraries.

The body is signed as it is sent. The id is the request's and never changes; the timestamp is the attempt's, so that a
receiver with a tolerance of minutes accepts a retry after hours.
"""

from __future__ import annotations

import base64
import hmac
from collections.abc import Mapping, Sequence

from gateway.core.delivery import REPLAY_LANE, Request
from gateway.core.endpoint import Endpoint, key_of
from gateway.core.format import FORMATS
from gateway.core.keyed import keyed
from gateway.core.trace import Trace, of_envelope
from gateway.core.trace import headers as trace_headers

#: of the envelope, told in every request
VERSION = "1"


def headers(endpoint: Endpoint, request: Request, *, attempt: int, now_s: int, user_agent: str) -> dict[str, str]:
    """Return all headers of this attempt, signatures included; `now_s` is Unix seconds, `attempt` counts from 1.

    A request of the replay lane says that it is one; nothing else about it differs. The trace is handed on where all events
    of the request belong to the same. Raises ValueError if a secret is not
    usable, which `endpoint.check` finds out beforehand.
    """
    stamp = str(now_s)
    pusher: dict[str, str] = {}
    if FORMATS[endpoint.format].needs_app:
        pusher = {"X-Pusher-Key": endpoint.pusher_key, "X-Pusher-Signature": plain(endpoint.pusher_secret, request.body)}
    replay = {"X-Webhook-Replay": "true"} if request.lane == REPLAY_LANE else {}
    return {
        **endpoint.headers,
        "Content-Type": request.content_type,
        "User-Agent": user_agent,
        "X-Webhook-Id": request.id,
        "X-Webhook-Event": request.event,
        "X-Webhook-Version": VERSION,
        "X-Webhook-Timestamp": stamp,
        "X-Webhook-Attempt": str(attempt),
        **replay,
        "X-Webhook-Signature": plain(endpoint.secrets[0], request.body),
        **pusher,
        **trace_headers(_trace(request)),
        "webhook-id": request.id,
        "webhook-timestamp": stamp,
        "webhook-signature": " ".join([standard(secret, request.id, stamp, request.body) for secret in endpoint.secrets]),
    }


def _trace(request: Request) -> Trace | None:
    told = map(of_envelope, (delivery.envelope for delivery in request.deliveries))
    trace = next(told, None)
    return None if trace is None or any(other != trace for other in told) else trace


def plain(secret: str, body: bytes) -> str:
    """Return the lower-case hex HMAC-SHA256 of the body; the key is the secret as it is written, `whsec_` included."""
    return keyed(secret.encode()).sign(body)


def standard(secret: str, message_id: str, timestamp: str, body: bytes) -> str:
    """Return one signature of the Standard Webhooks scheme; raises ValueError if a `whsec_` secret is not base64."""
    # a stranger's header may hold surrogates, which stand for bytes that are not UTF-8
    start = f"{message_id}.{timestamp}.".encode("utf-8", "surrogatepass")
    return f"v1,{base64.b64encode(keyed(key_of(secret)).digest(start, body)).decode()}"


def verify(body: bytes, headers: Mapping[str, str], secrets: Sequence[str], now_s: int, tolerance_s: int) -> str | None:
    """Check a received webhook; return None if it is genuine and fresh, else a sentence saying what failed.

    Any of the secrets may have signed. Both schemes are checked, so a request that carries only one of them fails. The
    case of header names does not matter. Comparisons take the same time wherever the difference is.
    """
    given = {name.lower(): value for name, value in headers.items()}
    missing = [
        name for name in ("x-webhook-signature", "webhook-id", "webhook-timestamp", "webhook-signature") if name not in given
    ]
    if missing:
        return f"missing header: {', '.join(missing)}"
    if not _is_any([plain(secret, body) for secret in secrets], [given["x-webhook-signature"]]):
        return "X-Webhook-Signature does not match the body"
    stamp = given["webhook-timestamp"]
    expected = [standard(secret, given["webhook-id"], stamp, body) for secret in secrets]
    if not _is_any(expected, given["webhook-signature"].split(" ")):
        return "webhook-signature does not match id, timestamp and body"
    # Only a signed timestamp is worth reading. One that is signed and no number is not ours either.
    if not (stamp.isascii() and stamp.isdigit() and len(stamp) <= 12):
        return "webhook-timestamp is not in Unix seconds"
    if abs(now_s - int(stamp)) > tolerance_s:
        return f"webhook-timestamp is more than {tolerance_s} s away from this clock"
    return None


def _is_any(expected: Sequence[str], given: Sequence[str]) -> bool:
    """Compare each with each, without stopping at the first that is equal."""
    matches = 0
    for one in expected:
        for other in given:
            # compare_digest takes text only if it is ASCII; what a stranger sends need not be.
            matches += hmac.compare_digest(one.encode(), other.encode("utf-8", "surrogatepass"))
    return matches > 0
