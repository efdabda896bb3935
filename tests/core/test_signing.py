from __future__ import annotations

import base64
import hashlib
import hmac
from dataclasses import replace
from datetime import UTC, datetime

import pytest
import standardwebhooks
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from gateway.core.delivery import REPLAY_LANE, Delivery
from gateway.core.endpoint import RESERVED_HEADERS, Endpoint
from gateway.core.signing import headers, verify
from gateway.core.webhook import request

BASE64 = "whsec_" + base64.b64encode(b"a key of twenty-four by.").decode()
DELIVERY = Delivery("1001/backend", 1, 0, "evt_1", "channel.occupied", 1, '{"id":"evt_1","data":{"channel":"Zürich"}}'.encode())


def signed(*secrets: str, attempt: int = 1, now_s: int | None = None, **settings: object) -> tuple[bytes, dict[str, str]]:
    """A body and the headers of an attempt at it; the published library judges by its own clock, so now is the default."""
    endpoint = Endpoint("1001", "backend", "https://example.com", secrets, **settings)  # type: ignore[arg-type]
    webhook = request(endpoint, [DELIVERY])
    now_s = round(datetime.now(UTC).timestamp()) if now_s is None else now_s
    return webhook.body, headers(endpoint, webhook, attempt=attempt, now_s=now_s, user_agent="RawPush/1")


def test_all_headers_of_an_attempt() -> None:
    body, sent = signed("s3cret", attempt=4, now_s=1_754_300_000, headers={"X-Tenant": "7"})
    digest = hmac.new(b"s3cret", b"evt_1.1754300000." + body, hashlib.sha256).digest()
    assert sent == {
        "X-Tenant": "7",
        "Content-Type": "application/json",
        "User-Agent": "RawPush/1",
        "X-Webhook-Id": "evt_1",
        "X-Webhook-Event": "channel.occupied",
        "X-Webhook-Version": "1",
        "X-Webhook-Timestamp": "1754300000",
        "X-Webhook-Attempt": "4",
        "X-Webhook-Signature": hmac.new(b"s3cret", body, hashlib.sha256).hexdigest(),
        "webhook-id": "evt_1",
        "webhook-timestamp": "1754300000",
        "webhook-signature": "v1," + base64.b64encode(digest).decode(),
    }


def test_a_replay_says_that_it_is_one_and_is_signed_like_any_other() -> None:
    _, live = signed("s3cret", now_s=1_754_300_000)
    endpoint = Endpoint("1001", "backend", "https://example.com", ("s3cret",))
    again = request(endpoint, [replace(DELIVERY, lane=REPLAY_LANE)])
    sent = headers(endpoint, again, attempt=1, now_s=1_754_300_000, user_agent="RawPush/1")
    assert sent == {**live, "X-Webhook-Replay": "true"}
    assert {name.lower() for name in sent} <= RESERVED_HEADERS


def test_every_header_the_gateway_sets_is_reserved() -> None:
    _, sent = signed("s3cret")
    assert {name.lower() for name in sent} <= RESERVED_HEADERS


@pytest.mark.parametrize("secret", [BASE64, "whsec_" + base64.b64encode(b"x").decode()])
def test_the_published_library_verifies_a_base64_secret(secret: str) -> None:
    body, sent = signed(secret)
    assert standardwebhooks.Webhook(secret).verify(body, sent)


def test_the_published_library_verifies_any_other_secret_by_its_bytes() -> None:
    body, sent = signed("plain sécret")
    library = Webhook(base64.b64encode("plain sécret".encode()).decode())
    assert library.verify(body, sent)
    with pytest.raises(WebhookVerificationError):
        library.verify(body + b" ", sent)


def test_while_secrets_are_rotated_the_first_signs_the_plain_header_and_all_sign_the_standard_one() -> None:
    body, sent = signed(BASE64, "old")
    assert sent["X-Webhook-Signature"] == hmac.new(BASE64.encode(), body, hashlib.sha256).hexdigest()
    assert len(sent["webhook-signature"].split(" ")) == 2
    assert Webhook(BASE64).verify(body, sent)
    assert Webhook(base64.b64encode(b"old").decode()).verify(body, sent)


def test_a_retry_keeps_the_id_and_the_body_and_is_stamped_and_signed_afresh() -> None:
    first_body, first = signed("s3cret", attempt=1, now_s=1_754_300_000)
    last_body, last = signed("s3cret", attempt=9, now_s=1_754_386_000)
    assert first_body == last_body
    assert first.keys() == last.keys()
    assert {name for name in first if first[name] != last[name]} == {
        "X-Webhook-Attempt",
        "X-Webhook-Timestamp",
        "webhook-timestamp",
        "webhook-signature",
    }


def test_what_was_sent_verifies_with_any_of_the_secrets_and_header_names_in_any_case() -> None:
    body, sent = signed(BASE64, "old", now_s=1000)
    sent = {name.upper(): value for name, value in sent.items()}
    assert verify(body, sent, [BASE64], 1000, 300) is None
    assert verify(body, sent, ["other", BASE64], 1300, 300) is None


def test_an_old_secret_alone_is_not_enough_for_the_plain_header() -> None:
    body, sent = signed("new", "old", now_s=1000)
    assert verify(body, sent, ["old"], 1000, 300) == "X-Webhook-Signature does not match the body"


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"X-Webhook-Signature": None}, "missing header: x-webhook-signature"),
        ({"webhook-id": None, "webhook-signature": None}, "missing header: webhook-id, webhook-signature"),
        ({"X-Webhook-Signature": "00"}, "X-Webhook-Signature does not match the body"),
        ({"X-Webhook-Signature": "é\udcff"}, "X-Webhook-Signature does not match the body"),
        ({"webhook-id": "evt_2"}, "webhook-signature does not match id, timestamp and body"),
        ({"webhook-id": "evt_1\udcff"}, "webhook-signature does not match id, timestamp and body"),
        ({"webhook-timestamp": "\ud83d"}, "webhook-signature does not match id, timestamp and body"),
        ({"webhook-timestamp": "1001"}, "webhook-signature does not match id, timestamp and body"),
        ({"webhook-signature": "v1,"}, "webhook-signature does not match id, timestamp and body"),
    ],
)
def test_a_request_that_was_tampered_with_is_refused(change: dict[str, str | None], complaint: str) -> None:
    body, sent = signed("s3cret", now_s=1000)
    changed = {name: value for name, value in {**sent, **change}.items() if value is not None}
    assert verify(body, changed, ["s3cret"], 1000, 300) == complaint


def test_another_body_is_refused() -> None:
    body, sent = signed("s3cret", now_s=1000)
    assert verify(body.replace(b"evt_1", b"evt_9"), sent, ["s3cret"], 1000, 300) is not None


@pytest.mark.parametrize(("now_s", "fine"), [(699, False), (700, True), (1300, True), (1301, False)])
def test_a_request_too_old_or_from_the_future_is_refused(now_s: int, fine: bool) -> None:
    body, sent = signed("s3cret", now_s=1000)
    complaint = verify(body, sent, ["s3cret"], now_s, 300)
    assert complaint == (None if fine else "webhook-timestamp is more than 300 s away from this clock")


def test_a_signed_timestamp_that_is_no_number_is_refused() -> None:
    body, sent = signed("s3cret", now_s=-1)
    assert verify(body, sent, ["s3cret"], 1000, 300) == "webhook-timestamp is not in Unix seconds"


def test_without_a_secret_nothing_is_genuine() -> None:
    body, sent = signed("s3cret", now_s=1000)
    assert verify(body, sent, [], 1000, 300) is not None
