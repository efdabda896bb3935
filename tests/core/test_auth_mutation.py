"""Changed requests: one that still verifies still says the same. And how long a refusal takes tells nothing."""

from __future__ import annotations

import hmac
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core import auth, signing
from gateway.core.app import App
from gateway.core.auth import channel_signature_error, sign_request, spellings, verify_request
from gateway.core.delivery import Delivery
from gateway.core.endpoint import Endpoint
from gateway.core.error import RequestError
from gateway.core.signing import headers, verify
from gateway.core.webhook import request
from tests.mutation import Edit, edits, meaning, mutate

APP = App(id="1001", key="demo-key", secret="demo-secret-9f3a")
NOW = 1_754_300_000
PATHS = ("/apps/1001/channels/private-a@b,c;d=e", "/rt/apps/1001/events", "/apps/1001/channels/presence-a/users")
PARAMETERS: list[list[tuple[str, str]]] = [
    [],
    [("info", "user_count,subscription_count"), ("filter_by_prefix", "presence-é")],
    [("channels[]", "a"), ("channels[]", "b"), ("name", "a b+c=d"), ("data", "")],
]


def accepts(method: str, target: bytes, body: bytes) -> bool:
    path, _, query = target.decode("utf-8", "surrogateescape").partition("?")
    refused: RequestError | None = None
    try:
        verify_request(APP, method=method, paths=spellings(path, "/rt"), query=query, body=body, now_s=NOW)
    except RequestError as error:
        refused = error
    if refused is None:
        return True
    refused.sentence.encode()
    assert refused.status == 401
    assert APP.secret not in refused.sentence
    return False


@settings(max_examples=15 * settings.default.max_examples)
@given(
    st.sampled_from(PATHS), st.sampled_from(PARAMETERS), st.sampled_from([b"", b'{"name":"e"}']), edits, st.sampled_from("tbm")
)
def test_a_changed_request_that_verifies_says_the_same(
    path: str, parameters: list[tuple[str, str]], body: bytes, changes: list[Edit], changed: str
) -> None:
    query = sign_request(APP, method="POST", path=path, parameters=parameters, body=body, now_s=NOW)
    target = f"{path}?{query}".encode()
    assert accepts("POST", target, body)
    after = mutate(target, changes) if changed == "t" else target
    body_after = mutate(body, changes) if changed == "b" else body
    method_after = "GET" if changed == "m" else "POST"
    if accepts(method_after, after, body_after):
        assert (method_after, body_after) == ("POST", body)
        assert meaning(after, b"/rt") == meaning(target, b"/rt")


@settings(max_examples=10 * settings.default.max_examples)
@given(edits, st.sampled_from(["auth", "socket_id", "channel", "channel_data"]))
def test_a_changed_subscription_is_refused(changes: list[Edit], changed: str) -> None:
    channel_data = '{"user_id":"7"}'
    said = {"socket_id": "1.2", "channel": "presence-a", "channel_data": channel_data}
    digest = hmac.new(APP.secret.encode(), ":".join(said.values()).encode(), "sha256").hexdigest()
    said["auth"] = f"{APP.key}:{digest}"
    assert channel_signature_error(APP, **said) is None
    before = said[changed]
    said[changed] = mutate(before.encode(), changes).decode("utf-8", "surrogateescape")
    # a colon may wander from one part to the other; the session lets only legal names and ids come so far
    if said[changed] != before and not (changed != "auth" and ":" in said[changed]):
        assert channel_signature_error(APP, **said) is not None


# -- webhooks


ENDPOINT = Endpoint("1001", "backend", "https://example.com", ("s3cret", "old"))
WEBHOOK = request(ENDPOINT, [Delivery("1001/backend", 1, 0, "evt_1", "channel.occupied", 1, b'{"id":"evt_1"}')])
SENT = headers(ENDPOINT, WEBHOOK, attempt=1, now_s=NOW, user_agent="RawPush/1")
VERIFIED = ["X-Webhook-Signature", "webhook-id", "webhook-timestamp", "webhook-signature"]


@settings(max_examples=10 * settings.default.max_examples)
@given(edits, st.sampled_from(["body", *VERIFIED]))
def test_a_changed_webhook_is_refused_and_nothing_is_raised(changes: list[Edit], changed: str) -> None:
    body, given_ = WEBHOOK.body, dict(SENT)
    assert verify(body, given_, ENDPOINT.secrets, NOW, 300) is None
    if changed == "body":
        body = mutate(body, changes)
    else:
        given_[changed] = mutate(given_[changed].encode(), changes).decode("utf-8", "surrogateescape")
    if verify(body, given_, ENDPOINT.secrets, NOW, 300) is None:
        assert body == WEBHOOK.body
        same = {name: given_[name] for name in VERIFIED} == {name: SENT[name] for name in VERIFIED}
        # of several signatures one is enough
        assert same or (changed == "webhook-signature" and set(given_[changed].split(" ")) & set(SENT[changed].split(" ")))


# -- time


class Compared:
    """Stands in for hmac, and notes what was compared: only lengths may make a difference."""

    def __init__(self) -> None:
        self.lengths: list[tuple[int, int]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(hmac, name)

    def compare_digest(self, one: bytes, other: bytes) -> bool:
        self.lengths.append((len(one), len(other)))
        return hmac.compare_digest(one, other)


def wrong_digests(right: str) -> list[str]:
    """Return the digest with one place changed, for each place."""
    return [right[:place] + ("0" if digit != "0" else "1") + right[place + 1 :] for place, digit in enumerate(right)]


def test_a_wrong_signature_of_a_request_takes_the_same_steps_wherever_it_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    for parameters in PARAMETERS:
        query = sign_request(APP, method="POST", path="/apps/1001/events", parameters=parameters, body=b"{}", now_s=NOW)
        head, _, right = query.partition("&auth_signature=")
        steps = set()
        for digest in wrong_digests(right):
            compared = Compared()
            monkeypatch.setattr(auth, "hmac", compared)
            assert not accepts("POST", f"/apps/1001/events?{head}&auth_signature={digest}".encode(), b"{}")
            steps.add(tuple(compared.lengths))
        assert len(steps) == 1
        assert (64, 64) in steps.pop()


def test_a_wrong_signature_of_a_webhook_takes_the_same_steps_wherever_it_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    steps = set()
    for digest in wrong_digests(SENT["X-Webhook-Signature"]):
        compared = Compared()
        monkeypatch.setattr(signing, "hmac", compared)
        assert verify(WEBHOOK.body, {**SENT, "X-Webhook-Signature": digest}, ENDPOINT.secrets, NOW, 300)
        steps.add(tuple(compared.lengths))
    assert steps == {((64, 64), (64, 64))}
