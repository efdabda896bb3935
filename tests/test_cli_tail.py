"""The conversation of `rawpush tail`, and after how long it connects again."""

from __future__ import annotations

import json

import pytest

from gateway.command.subscriber import Arrived, Note, Subscriber, pause_s
from gateway.core.app import App
from gateway.core.auth import channel_signature_error

APP = App("1001", "key", "secret")


def established(*channels: str) -> tuple[Subscriber, list[dict[str, str]]]:
    subscriber = Subscriber(APP, channels, user_id="me")
    heard = subscriber.receive('{"event":"pusher:connection_established","data":"{\\"socket_id\\":\\"1.2\\"}"}')
    return subscriber, [json.loads(text)["data"] for text in heard.send]


def test_each_channel_is_signed_as_its_kind_needs() -> None:
    _, sent = established("room", "private-a", "presence-b", "room")
    assert [one["channel"] for one in sent] == ["room", "private-a", "presence-b"]
    assert "auth" not in sent[0]
    for one in sent[1:]:
        assert channel_signature_error(APP, "1.2", one["channel"], one["auth"], one.get("channel_data")) is None
    assert json.loads(sent[2]["channel_data"])["user_id"] == "me"


def test_what_is_no_news_is_silent_and_a_ping_is_answered() -> None:
    subscriber, _ = established("room")
    assert subscriber.receive('{"event":"pusher:pong"}').told == []
    assert subscriber.receive('{"event":"pusher:ping"}').send == ['{"event":"pusher:pong","data":"{}"}']


@pytest.mark.parametrize("text", ["", "[]", "null", '{"data":1}', '{"event":"pusher:connection_established","data":"{}"}'])
def test_what_is_no_frame_is_told(text: str) -> None:
    (note,) = Subscriber(APP, ["room"], user_id="me").receive(text).told
    assert isinstance(note, Note)


def test_events_keep_their_text_and_internal_ones_get_their_public_name() -> None:
    subscriber, _ = established("room")
    assert subscriber.receive('{"event":"e","channel":"room","data":"{\\"n\\": 1}"}').told == [Arrived("room", "e", '{"n": 1}')]
    told = subscriber.receive('{"event":"pusher_internal:member_removed","channel":"presence-b","data":"{}"}').told
    assert told == [Arrived("presence-b", "pusher:member_removed", "{}")]


def test_alone_once_everything_is_refused() -> None:
    subscriber, _ = established("a", "b")
    for channel in "ab":
        assert not subscriber.is_alone
        subscriber.receive(json.dumps({"event": "pusher:subscription_error", "channel": channel, "data": {"error": "no"}}))
    assert subscriber.is_alone


@pytest.mark.parametrize(
    ("code", "lived_s", "failures", "lowest", "highest"),
    [
        (4100, 0.0, 1, 1.0, 2.0),
        (4200, 60.0, 1, 0.0, 0.0),
        (4200, 0.1, 1, 1.0, 2.0),
        (1006, 60.0, 1, 1.0, 2.0),
        (None, 0.0, 3, 1.0, 8.0),
        (None, 0.0, 10_000, 1.0, 30.0),
    ],
)
def test_after_how_long_it_connects_again(code: int | None, lived_s: float, failures: int, lowest: float, highest: float) -> None:
    assert [pause_s(code, lived_s=lived_s, failures=failures, roll=roll) for roll in (0.0, 1.0)] == [lowest, highest]


@pytest.mark.parametrize("code", [4000, 4001, 4009, 4099])
def test_codes_that_say_never(code: int) -> None:
    assert pause_s(code, lived_s=60.0, failures=1, roll=0.5) is None
