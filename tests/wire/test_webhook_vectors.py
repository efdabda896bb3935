"""The webhook half of the vectors: our bodies and signatures to the byte, and what the official Python SDK makes of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pusher
import pytest

from gateway.core.endpoint import Endpoint
from gateway.core.signing import headers, plain
from gateway.core.span import LifecycleEvent
from gateway.core.webhook import Router, request

VECTORS: dict[str, Any] = json.loads((Path(__file__).parent / "vectors.json").read_text(encoding="utf-8"))
ROWS: list[dict[str, Any]] = VECTORS["webhooks"]
APPS: list[dict[str, Any]] = VECTORS["apps"]

KINDS = {
    "channel_occupied": "channel.occupied",
    "channel_vacated": "channel.vacated",
    "member_added": "channel.member_added",
    "member_removed": "channel.member_removed",
    "client_event": "client_event",
    "cache_miss": "channel.cache_miss",
    "subscription_count": "channel.subscription_count",
}


def by_name(is_valid: bool) -> list[Any]:
    return [pytest.param(row, id=row["name"]) for row in ROWS if row["valid"] == is_valid]


def secret_of(key: str) -> str:
    (secret,) = (app["secret"] for app in APPS if app["key"] == key)
    assert isinstance(secret, str)
    return secret


def endpoint_of(row: dict[str, Any]) -> Endpoint:
    key = row["headers"]["X-Pusher-Key"]
    return Endpoint(
        "1001", "old", "https://example.com", ("hook",), format="pusher", pusher_key=key, pusher_secret=secret_of(key)
    )


def happened(one: dict[str, Any], at_ms: int) -> LifecycleEvent:
    """Return the lifecycle event that the protocol's event tells of, with what ours tell beyond that."""
    more = {"type": "private", "span": "spn_1", "subscribers": one.get("subscription_count", 1), "size": 1, "recipients": 0}
    data = {**more, **{name: value for name, value in one.items() if name not in ("name", "subscription_count")}}
    subject = f"1001/channel/{one['channel']}"
    return LifecycleEvent("evt_1", KINDS[one["name"]], "1001", at_ms, subject, data, one["channel"], one.get("event"))


def accepts(row: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> bool:
    """Tell what the official SDK says, whose clock shows the time of the row."""
    monkeypatch.setattr("time.time", lambda: row["receiver_time_ms"] / 1000)
    key, signature = row["headers"]["X-Pusher-Key"], row["headers"]["X-Pusher-Signature"]
    return pusher.Pusher("1001", key, secret_of(key)).validate_webhook(key, signature, row["body"]) is not None


@pytest.mark.parametrize("row", by_name(True))
def test_what_we_send_is_the_vector(row: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    to = endpoint_of(row)
    parsed = json.loads(row["body"])
    router = Router([to], "n", {})
    deliveries = [delivery for one in parsed["events"] for delivery in router.route(happened(one, parsed["time_ms"]))]
    webhook = request(to, deliveries, row["receiver_time_ms"])
    sent = headers(to, webhook, attempt=1, now_s=row["receiver_time_ms"] // 1000, user_agent="u")
    assert webhook.body.decode() == row["body"]
    assert sent.items() >= row["headers"].items()
    assert accepts(row, monkeypatch)


@pytest.mark.parametrize("row", by_name(False))
def test_what_is_no_valid_webhook_is_refused_and_not_what_we_would_send(
    row: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not accepts(row, monkeypatch)
    to = endpoint_of(row)
    parsed = json.loads(row["body"])
    (delivery,) = Router([to], "n", {}).route(happened(parsed["events"][0], parsed["time_ms"]))
    webhook = request(to, [delivery], row["receiver_time_ms"])
    signature = plain(to.pusher_secret, webhook.body)
    ours = {**row, "body": webhook.body.decode(), "headers": {**row["headers"], "X-Pusher-Signature": signature}}
    # Body or signature differ, and make it right: at this very time, the SDK accepts ours.
    assert (ours["body"], signature) != (row["body"], row["headers"]["X-Pusher-Signature"])
    assert accepts(ours, monkeypatch)


def test_every_kind_of_the_protocol_has_its_vector() -> None:
    assert {one["name"] for row in ROWS for one in json.loads(row["body"])["events"]} == KINDS.keys()
