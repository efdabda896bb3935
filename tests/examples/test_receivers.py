"""Each receiver under examples/: one table of requests, well-meant and hostile, for all languages."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from tests.examples.receiver_process import RUNTIMES, ReceiverProcess, Runtime
from tests.examples.sender import ENVIRONMENT, FOREIGN, MAX_BODY, NEW, OLD, Webhook, batch, envelope, one, pusher, raw

_names = count(1)


@pytest.fixture(scope="module", params=RUNTIMES)
def runtime(request: pytest.FixtureRequest) -> Runtime:
    """One language after the other."""
    runtime = RUNTIMES[request.param]
    runtime.require()
    return runtime


@pytest.fixture(scope="module")
def receiver(runtime: Runtime, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReceiverProcess]:
    """A running receiver that tells of a gap after a second."""
    receiver = runtime.start(tmp_path_factory.mktemp("receiver"), **ENVIRONMENT, GAP_AFTER="1")
    yield receiver
    receiver.kill()


@pytest.fixture
def mortal(runtime: Runtime, tmp_path: Path) -> Iterator[ReceiverProcess]:
    """A receiver to be killed and started by the test."""
    receiver = ReceiverProcess(runtime, tmp_path, {**ENVIRONMENT, "GAP_AFTER": "1"})
    yield receiver
    receiver.kill()


def post(receiver: ReceiverProcess, *webhooks: Webhook) -> list[int]:
    return [webhook.post(receiver.port) for webhook in webhooks]


def settle(receiver: ReceiverProcess) -> None:
    """Return when everything that has been stored so far is handled: what has no line now never gets one."""
    last = envelope()
    assert post(receiver, one(last).sign()) == [204]
    receiver.wait_for(last["id"])


def times_handled(receiver: ReceiverProcess, event_id: str) -> int:
    settle(receiver)
    return receiver.count(event_id)


GENUINE: dict[str, Callable[[dict[str, Any]], Webhook]] = {
    "the new secret": lambda event: one(event).sign(NEW),
    "the old secret": lambda event: one(event).sign(OLD),
    "both": lambda event: one(event).sign(NEW, OLD),
    "ours after another's": lambda event: one(event).sign(FOREIGN, FOREIGN, OLD),
    "ours before another's": lambda event: one(event).sign(NEW, FOREIGN),
    "beside a signature of another kind": lambda event: with_signature(one(event), lambda given: f"v1a,AAAA {given} v2,é"),
    "almost five minutes old": lambda event: one(event).sign(age_s=290),
    "from a clock that is ahead": lambda event: one(event).sign(age_s=-290),
    "in a batch": lambda event: batch(envelope(), event, envelope()).sign(),
    "in pieces": lambda event: replace(one(event).sign(), is_chunked=True),
    "any language": lambda event: one({**event, "data": {"channel": "Zoë-東京-🦊", "data": '"\\u0000"'}}).sign(),
    "almost too large": lambda event: one({**event, "data": {"data": "x" * (MAX_BODY - 1000)}}).sign(),
    "without a channel": lambda event: one({**event, "event": "connection.opened", "data": {"socket_id": "1.2"}}).sign(),
}


def with_signature(webhook: Webhook, change: Callable[[str], str]) -> Webhook:
    webhook = webhook.sign()
    return webhook.with_(**{"webhook-signature": change(webhook.headers["webhook-signature"])})


REFUSED: dict[str, tuple[int, Callable[[dict[str, Any]], Webhook]]] = {
    "the wrong secret": (401, lambda event: one(event).sign(FOREIGN)),
    "an altered body": (401, lambda event: replace(one(event).sign(), body=one(event).body + b" ")),
    "an altered id": (401, lambda event: one(event).sign().with_(**{"webhook-id": "evt_1"})),
    "a refreshed timestamp": (
        401,
        lambda event: one(event).sign(age_s=310).with_(**{"webhook-timestamp": str(int(time.time()))}),
    ),
    "an old timestamp": (401, lambda event: one(event).sign(age_s=310)),
    "a future timestamp": (401, lambda event: one(event).sign(age_s=-310)),
    "a timestamp that is no number": (401, lambda event: one(event).sign(stamp="now")),
    "a timestamp in another notation": (401, lambda event: one(event).sign(stamp=f"{time.time():e}")),
    "no id": (401, lambda event: one(event).sign().without("webhook-id")),
    "no timestamp": (401, lambda event: one(event).sign().without("webhook-timestamp")),
    "no signature": (401, lambda event: one(event).sign().without("webhook-signature")),
    "no headers": (401, lambda event: one(event)),
    "an empty signature": (401, lambda event: with_signature(one(event), lambda given: "")),
    "half a signature": (401, lambda event: with_signature(one(event), lambda given: given[:-8])),
    "a signature without its version": (401, lambda event: with_signature(one(event), lambda given: given[3:])),
    "a signature of another version": (401, lambda event: with_signature(one(event), lambda given: "v2" + given[2:])),
    "a signature that is no ASCII": (401, lambda event: with_signature(one(event), lambda given: "v1,é")),
    "the format pusher without its signature": (401, lambda event: replace(one(event).sign(), path="/pusher")),
    "no JSON": (400, lambda event: raw(b"{" + event["id"].encode()).sign()),
    "too large": (413, lambda event: one({**event, "data": {"data": "x" * MAX_BODY}}).sign()),
    "too large, in pieces": (
        413,
        lambda event: replace(one({**event, "data": {"data": "x" * MAX_BODY}}).sign(), is_chunked=True),
    ),
    "another path": (404, lambda event: replace(one(event).sign(), path="/other")),
}


@pytest.mark.parametrize("name", GENUINE)
def test_what_is_genuine_is_handled_once(receiver: ReceiverProcess, name: str) -> None:
    event = envelope()
    assert post(receiver, GENUINE[name](event)) == [204]
    receiver.wait_for(event["id"])
    assert times_handled(receiver, event["id"]) == 1


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_is_refused_and_never_handled(receiver: ReceiverProcess, name: str) -> None:
    event = envelope()
    status, make = REFUSED[name]
    assert post(receiver, make(event)) == [status]
    assert times_handled(receiver, event["id"]) == 0


@pytest.mark.parametrize(
    "body", [b"null", b"[1]", b'"text"', b"7", b"{}", b'{"events":7}', b'{"events":[{"id":"evt_1"}]}', b"\xff"]
)
def test_what_is_signed_and_no_event_is_refused(receiver: ReceiverProcess, body: bytes) -> None:
    assert post(receiver, raw(body).sign()) == [400]
    settle(receiver)


def test_only_a_post_is_taken(receiver: ReceiverProcess) -> None:
    event = envelope()
    assert one(event).sign().post(receiver.port, "PUT") in (404, 405)
    assert times_handled(receiver, event["id"]) == 0


def test_a_repeat_is_answered_well_and_not_handled_again(receiver: ReceiverProcess) -> None:
    event, other = envelope(), envelope()
    first = one(event).sign()
    again = [first, one(event).sign(age_s=-2), batch(event, other, event).sign(), batch(other).sign()]
    assert post(receiver, first, *again) == [204] * 5
    assert times_handled(receiver, event["id"]) == 1
    assert receiver.count(other["id"]) == 1


def test_the_format_pusher(receiver: ReceiverProcess) -> None:
    genuine = pusher("room-1", "room-2").sign_pusher()
    assert post(receiver, genuine.sign(), genuine.sign(OLD)) == [204, 204]
    settle(receiver)
    handled = [line for line in receiver.lines if line.startswith(genuine.id)]
    assert handled == [f"{genuine.id}/0 channel_occupied room-1", f"{genuine.id}/1 channel_occupied room-2"]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda webhook: webhook.sign(FOREIGN).sign_pusher(),
        lambda webhook: webhook.sign().sign_pusher(secret="not-the-secret"),
        lambda webhook: webhook.sign().sign_pusher(key="nobody's", secret=""),
        lambda webhook: webhook.sign().sign_pusher(key="other"),
        lambda webhook: webhook.sign().sign_pusher().without("x-pusher-key"),
        lambda webhook: webhook.sign().sign_pusher().with_(**{"x-pusher-signature": "é"}),
        lambda webhook: replace(webhook.sign_pusher(), body=webhook.body + b" ").sign(),
        lambda webhook: webhook.sign_pusher(),
    ],
)
def test_the_format_pusher_needs_both_signatures(receiver: ReceiverProcess, spoil: Callable[[Webhook], Webhook]) -> None:
    webhook = pusher("room-1")
    assert post(receiver, spoil(webhook)) == [401]
    assert times_handled(receiver, webhook.id) == 0


def test_a_gap_is_told_once_and_what_came_late_is_none(receiver: ReceiverProcess) -> None:
    name = f"gap-{next(_names)}"
    # Late is what comes within a second. A machine on which that takes longer is given further tries.
    for late in (f"late-{next(_names)}" for _ in range(20)):
        began_at = time.monotonic()
        for number in (40, 42, 41, 44, 43, 0):
            assert post(receiver, one(envelope(number, late)).sign()) == [204]
        if time.monotonic() - began_at < 0.9:
            break
    for number in (5, 6, 9, 10, 12):
        assert post(receiver, one(envelope(number, name)).sign()) == [204]
    receiver.wait_for(f"gap 1001/{name}@gw-1 7 to 8: ask the feed")
    receiver.wait_for(f"gap 1001/{name}@gw-1 11 to 11: ask the feed")
    # What was given up and is replayed changes nothing any more, nor does a repeat; the next gap is told.
    for number in (7, 8, 12, 14):
        assert post(receiver, one(envelope(number, name)).sign()) == [204]
    receiver.wait_for(f"gap 1001/{name}@gw-1 13 to 13")
    assert receiver.count(f"gap 1001/{name}@") == 3
    assert receiver.count(f"gap 1001/{late}@") == 0


def test_the_same_event_at_another_endpoint_is_a_repeat_and_yet_counted(receiver: ReceiverProcess) -> None:
    first, second = f"first-{next(_names)}", f"second-{next(_names)}"
    for number in (1, 2, 3):
        event = envelope(number, first)
        other = {**event, "metadata": {**event["metadata"], "webhook_id": second}}
        assert post(receiver, one(event).sign(), one(other).sign()) == [204, 204]
        assert times_handled(receiver, event["id"]) == 1
    assert post(receiver, one(envelope(5, second)).sign()) == [204]
    receiver.wait_for(f"gap 1001/{second}@gw-1 4 to 4")
    assert receiver.count(f"gap 1001/{second}@") == 1


def test_without_a_secret_nothing_is_genuine(mortal: ReceiverProcess) -> None:
    mortal.environment |= {"HOOK_SECRETS": " ", "APPS": ""}
    mortal.start()
    assert post(mortal, one(envelope()).sign(""), pusher("room-1").sign("").sign_pusher("", "")) == [401, 401]


def test_what_is_stored_survives(mortal: ReceiverProcess) -> None:
    mortal.start()
    known, name = envelope(1, "kept"), "kept"
    assert post(mortal, one(known).sign()) == [204]
    mortal.wait_for(known["id"])
    settle(mortal)
    mortal.kill()
    mortal.start()
    assert post(mortal, one(known).sign(), one(envelope(2, name)).sign(), one(envelope(4, name)).sign()) == [204] * 3
    assert times_handled(mortal, known["id"]) == 1
    mortal.wait_for(f"gap 1001/{name}@gw-1 3 to 3")


def test_what_a_former_life_has_not_handled_is_handled(mortal: ReceiverProcess) -> None:
    mortal.start()
    settle(mortal)
    mortal.kill()
    event = envelope()
    leave_unhandled(mortal, event)
    mortal.start()
    mortal.wait_for(event["id"])
    settle(mortal)
    mortal.kill()
    mortal.start()
    assert times_handled(mortal, event["id"]) == 1


def leave_unhandled(receiver: ReceiverProcess, event: dict[str, Any]) -> None:
    """Write an event into the store of a receiver that does not run, as it is before it was handled."""
    if receiver.runtime.file.endswith(".go"):
        with receiver.state.open("a") as journal:
            journal.write(json.dumps({"at": "2026-11-25T10:00:00Z", "event": event}) + '\n{"at":"2026-11-2')
        return
    database = sqlite3.connect(receiver.state)
    with database:
        database.execute("INSERT INTO inbox (id, event, at) VALUES (?, ?, ?)", (event["id"], json.dumps(event), time.time()))
    database.close()
