from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.app import App, Limits
from gateway.core.effect import Authenticated, AuthFailed, Close, Effect, Publish, Rejected, Reply, SignIn, Subscribe, Unsubscribe
from gateway.core.frame import decode
from gateway.core.publication import Publication
from gateway.core.roster import Member
from gateway.core.session import MOST_BAD_FRAMES, Session
from gateway.core.user import User, member_of

APP = App(id="1001", key="demo-key", secret="demo-secret")
SOCKET_ID = "123.456"


def with_limits(**limits: int) -> App:
    return replace(APP, limits=Limits(**limits))


def sign(channel: str, channel_data: str | None = None, secret: str = APP.secret) -> str:
    signed = ":".join([SOCKET_ID, channel] if channel_data is None else [SOCKET_ID, channel, channel_data])
    return f"{APP.key}:{hmac.new(secret.encode(), signed.encode(), hashlib.sha256).hexdigest()}"


def subscribe_text(channel: str, member: object = None, **data: object) -> str:
    """Return a signed subscribe frame; what is given in `data` replaces or adds."""
    channel_data = None if member is None else json.dumps(member)
    full: dict[str, object] = {"channel": channel, "auth": sign(channel, channel_data)}
    if channel_data is not None:
        full["channel_data"] = channel_data
    return json.dumps({"event": "pusher:subscribe", "data": full | data})


def unsubscribe_text(channel: str) -> str:
    return json.dumps({"event": "pusher:unsubscribe", "data": {"channel": channel}})


def event_text(channel: str, event: str = "client-x", data: object = "hi") -> str:
    return json.dumps({"event": event, "channel": channel, "data": data})


def sign_in_text(signed: object, secret: str = APP.secret, **data: object) -> str:
    """Return a signed sign-in; a text is sent as it is, anything else as its JSON."""
    text = signed if isinstance(signed, str) else json.dumps(signed)
    signature = hmac.new(secret.encode(), f"{SOCKET_ID}::user::{text}".encode(), hashlib.sha256).hexdigest()
    full: dict[str, object] = {"auth": f"{APP.key}:{signature}", "user_data": text}
    return json.dumps({"event": "pusher:signin", "data": full | data})


class Harness:
    """A session, and the clock it is given."""

    def __init__(self, app: App = APP) -> None:
        self.session = Session(app, SOCKET_ID)
        self.now = 1000.0

    def send(self, text: str) -> Sequence[Effect]:
        return self.session.receive(decode(text), self.now)

    def join(self, channel: str, member: object = None) -> None:
        assert isinstance(self.send(subscribe_text(channel, member))[-1], Subscribe)


def said(effects: Sequence[Effect]) -> list[dict[str, Any]]:
    """Return the frames among the effects, each checked for the shape that clients demand."""
    frames = [orjson.loads(effect.frame) for effect in effects if isinstance(effect, Reply)]
    for frame in frames:
        assert isinstance(frame["event"], str)
        assert None not in frame.values()
        if frame["event"] == "pusher:error":
            assert set(frame) == {"event", "data"}
            assert set(frame["data"]) == {"code", "message"}
            assert frame["data"]["code"] in (None, 4301)
            assert frame["data"]["message"]
        else:
            assert isinstance(frame["data"], str)
            orjson.loads(frame["data"])
    return frames


def error_of(effects: Sequence[Effect]) -> tuple[int | None, str]:
    """Return code and sentence of the one error among the effects."""
    (data,) = [frame["data"] for frame in said(effects) if frame["event"] == "pusher:error"]
    return data["code"], data["message"]


def subscription_error_of(effects: Sequence[Effect]) -> tuple[str, str, int]:
    first, second = said(effects)
    assert (first["event"], second["event"]) == ("pusher:error", "pusher:subscription_error")
    assert first["data"]["code"] is None
    data = orjson.loads(second["data"])
    assert data["error"] == first["data"]["message"]
    return second["channel"], data["type"], data["status"]


# -- subscribing


def test_a_public_channel_needs_nothing_and_proves_nothing() -> None:
    harness = Harness()
    assert harness.send('{"event":"pusher:subscribe","data":{"channel":"orders","auth":""}}') == (Subscribe("orders", None),)
    assert dict(harness.session.channels) == {"orders": None}
    assert not harness.session.authenticated


def test_a_public_channel_ignores_auth_and_channel_data() -> None:
    text = '{"event":"pusher:subscribe","data":{"channel":"orders","auth":"nonsense","channel_data":"nonsense"}}'
    assert Harness().send(text) == (Subscribe("orders", None),)


@pytest.mark.parametrize("channel", ["private-a", "private-cache-a", "private-encrypted-a", "private-encrypted-cache-a"])
def test_the_first_signature_that_gets_in_authenticates(channel: str) -> None:
    harness = Harness()
    assert harness.send(subscribe_text(channel)) == (Subscribe(channel, None),)
    harness.session.revoke(channel)
    assert not harness.session.authenticated
    assert harness.send(subscribe_text("private-other")) == (Subscribe("private-other", None),)
    assert harness.session.entered("orders") == ()
    assert harness.session.entered("private-other") == (Authenticated("private-other"),)
    assert harness.session.authenticated
    assert harness.session.entered(channel) == ()


def test_a_presence_channel_makes_a_member() -> None:
    member = Member("u-1", b'{"name":"Ada"}')
    harness = Harness()
    effects = harness.send(subscribe_text("presence-c", {"user_id": "u-1", "user_info": {"name": "Ada"}}))
    assert effects == (Subscribe("presence-c", member),)
    assert harness.session.channels["presence-c"] == member


def test_channel_data_on_a_private_channel_is_signed_and_not_parsed() -> None:
    assert Harness().send(subscribe_text("private-c", {"user_id": "u-1"}))[-1] == Subscribe("private-c", None)
    text = json.dumps(
        {"event": "pusher:subscribe", "data": {"channel": "private-c", "auth": sign("private-c", ""), "channel_data": ""}}
    )
    assert Harness().send(text)[-1] == Subscribe("private-c", None)


@pytest.mark.parametrize("auth", [None, "", "x", f"{APP.key}:", "other:" + "0" * 64, sign("private-c", secret="wrong"), "é:é"])
def test_a_wrong_signature_is_refused_in_both_ways_and_recorded(auth: str | None) -> None:
    harness = Harness()
    effects = harness.send(subscribe_text("private-c", auth=auth))
    assert subscription_error_of(effects) == ("private-c", "AuthError", 401)
    failure = effects[-1]
    assert isinstance(failure, AuthFailed)
    assert (failure.channel, failure.reason) == ("private-c", error_of(effects)[1])
    assert not harness.session.channels
    assert not harness.session.authenticated


def test_the_refusal_names_the_string_to_sign_and_no_secret() -> None:
    _, sentence = error_of(Harness().send(subscribe_text("private-c", auth=sign("private-d"))))
    assert f"{SOCKET_ID}:private-c" in sentence
    assert APP.secret not in sentence
    assert sign("private-c").split(":")[1] not in sentence


def test_a_signature_does_not_carry_over() -> None:
    good = sign("presence-c", '{"user_id": "u-1"}')
    text = subscribe_text("presence-c", {"user_id": "admin"}, auth=good)
    assert isinstance(Harness().send(text)[-1], AuthFailed)


@pytest.mark.parametrize("channel", ["", "a b", "a:b", "a\n", "é", "a" * 165, "#server-to-user-u-1", "#x", "private-a\0"])
def test_illegal_names_come_before_signatures(channel: str) -> None:
    harness = Harness()
    effects = harness.send(subscribe_text(channel))
    assert subscription_error_of(effects) == (channel, "InvalidChannel", 400)
    assert len(effects) == 2
    assert not harness.session.channels


def test_the_name_limit_is_the_apps() -> None:
    assert isinstance(Harness(with_limits(channel_name=200)).send(subscribe_text("a" * 200))[0], Subscribe)
    assert "1 to 20 characters" in error_of(Harness(with_limits(channel_name=20)).send(subscribe_text("a" * 21)))[1]


def test_subscribing_again_changes_nothing() -> None:
    harness = Harness()
    harness.join("presence-c", {"user_id": "u-1"})
    for again in ({"user_id": "u-1"}, {"user_id": "u-2"}):
        effects = harness.send(subscribe_text("presence-c", again))
        (frame,) = said(effects)
        assert frame["event"] == "pusher:error"
        assert error_of(effects) == (None, "existing subscription to channel presence-c")
        assert len(effects) == 1
    assert harness.session.channels == {"presence-c": Member("u-1")}


def test_channels_per_connection() -> None:
    harness = Harness(with_limits(channels_per_connection=2))
    harness.join("a")
    harness.join("private-b")
    assert subscription_error_of(harness.send(subscribe_text("c"))) == ("c", "LimitReached", 4100)
    assert error_of(harness.send(subscribe_text("a")))[1].startswith("existing"), "what is held stays held"
    harness.send(unsubscribe_text("a"))
    harness.join("c")


@pytest.mark.parametrize(
    ("channel_data", "sentence"),
    [
        ("my-custom-data", "must be JSON"),
        ("", "must be JSON"),
        ("[]", "must be a JSON object"),
        ("7", "must be a JSON object"),
        ("{}", "user_id must be"),
        ('{"user_id":""}', "user_id must be"),
        ('{"user_id":null}', "user_id must be"),
        ('{"user_id":true}', "user_id must be"),
        ('{"user_id":1.0}', "user_id must be"),
        ('{"user_id":{"a":1}}', "user_id must be"),
        ('{"user_id":["u"]}', "user_id must be"),
        ('{"user_id":' + "9" * 30 + "}", "user_id must be"),
        ('{"user_id":"\\ud83d"}', "must be JSON"),
        ('{"user_id":"u","user_info":{"a":"\\ud83d"}}', "must be JSON"),
        ('{"user_id":"' + "u" * 129 + '"}', "128 characters"),
        ('{"user_id":"u","user_info":{"a":"' + "x" * 1_017 + '"}}', "1024 bytes"),
        ('{"user_id":"u","user_info":{"a":"' + "é" * 509 + '"}}', "1024 bytes"),
        ('{"user_id":"u","user_info":{"a":' + "[" * 64 + "]" * 64 + "}}", "64 levels"),
        ('{"user_id":"u","user_info":{"a":' + "[" * 1_000 + "]" * 1_000 + "}}", "64 levels"),
        ('{"user_id":"u","user_info":{"a":' + "[" * 5_000 + "]" * 5_000 + "}}", "must be JSON"),
    ],
)
def test_signed_channel_data_that_names_nobody(channel_data: str, sentence: str) -> None:
    harness = Harness()
    text = subscribe_text("presence-c", auth=sign("presence-c", channel_data), channel_data=channel_data)
    effects = harness.send(text)
    assert subscription_error_of(effects) == ("presence-c", "InvalidData", 400)
    assert sentence in error_of(effects)[1]
    assert len(effects) == 2, "the signature was right: nobody failed to authenticate"
    assert not harness.session.channels
    assert not harness.session.authenticated


def test_presence_without_channel_data_is_nobody() -> None:
    effects = Harness().send(subscribe_text("presence-c"))
    assert subscription_error_of(effects) == ("presence-c", "InvalidData", 400)


@pytest.mark.parametrize(
    ("channel_data", "member"),
    [
        ('{"user_id":"1"}', Member("1")),
        ('{"user_id":1}', Member("1")),
        ('{"user_id":-7}', Member("-7")),
        ('{"user_id":"u","user_info":true}', Member("u")),
        ('{"user_id":"u","user_info":[]}', Member("u")),
        ('{"user_id":"u","user_info":null}', Member("u")),
        ('{"user_id":"u","user_info":"Ada"}', Member("u")),
        ('{"user_id":"u","user_info":{ "a" : "\\u00eb" }}', Member("u", '{"a":"ë"}'.encode())),
        ('{"user_id":"' + "é" * 128 + '"}', Member("é" * 128)),
        ('{"user_id":"u","user_info":{"a":"' + "x" * 1_016 + '"}}', Member("u", b'{"a":"' + b"x" * 1_016 + b'"}')),
        (
            '{"user_id":"u","user_info":{"a":' + "[" * 63 + "]" * 63 + "}}",
            Member("u", b'{"a":' + b"[" * 63 + b"]" * 63 + b"}"),
        ),
    ],
)
def test_signed_channel_data_that_names_somebody(channel_data: str, member: Member) -> None:
    assert member_of(channel_data, Limits()) == member


# -- unsubscribing


def test_unsubscribing_forgets_at_once_and_says_as_whom() -> None:
    harness = Harness()
    harness.join("orders")
    harness.join("presence-c", {"user_id": 7})
    assert harness.send(unsubscribe_text("presence-c")) == (Unsubscribe("presence-c", Member("7")),)
    assert harness.send(unsubscribe_text("orders")) == (Unsubscribe("orders", None),)
    assert dict(harness.session.channels) == {}


@pytest.mark.parametrize("channel", ["orders", "", "#x", "a b", "x" * 500])
def test_unsubscribing_from_what_is_not_held_is_silent(channel: str) -> None:
    assert Harness().send(unsubscribe_text(channel)) == ()


def test_back_to_back_requests_are_carried_out_in_order() -> None:
    harness = Harness()
    harness.join("presence-c", {"user_id": "u", "user_info": {"n": -1}})
    for turn in range(100):
        member = {"user_id": "u", "user_info": {"n": turn % 2}}
        assert isinstance(harness.send(unsubscribe_text("presence-c"))[0], Unsubscribe)
        assert harness.send(subscribe_text("presence-c", member)) == (
            Subscribe("presence-c", Member("u", b'{"n":%d}' % (turn % 2))),
        )
        assert isinstance(harness.send(event_text("presence-c"))[0], Publish)
        harness.now += 1


# -- what the roster refused


def test_a_full_channel_is_forgotten() -> None:
    harness = Harness()
    harness.join("presence-c", {"user_id": "u"})
    effects = harness.session.revoke("presence-c")
    assert subscription_error_of(effects) == ("presence-c", "LimitReached", 4100)
    assert dict(harness.session.channels) == {}
    assert harness.send(unsubscribe_text("presence-c")) == ()
    harness.join("presence-c", {"user_id": "u"})


def test_revoking_what_is_not_held_is_silent() -> None:
    assert Harness().session.revoke("presence-c") == ()


# -- signing in


def test_a_right_signature_signs_in_with_the_text_as_it_came() -> None:
    harness = Harness()
    text = '{"id": "u-1", "user_info": {"name": "\\u00eb"}, "watchlist": ["v"]}'
    user = User("u-1", Member("u-1", '{"name":"ë"}'.encode()), ("v",))
    assert not harness.session.is_authorised
    assert harness.send(sign_in_text(text)) == (SignIn(user, text, None),)
    assert harness.session.user == user
    assert harness.session.is_authorised
    assert not harness.session.authenticated, "the first subscription is an event of its own"


@pytest.mark.parametrize(
    "text",
    [
        sign_in_text({"id": "u"}, secret="wrong"),
        sign_in_text({"id": "u"}, auth=None),
        sign_in_text({"id": "u"}, auth=""),
        sign_in_text({"id": "u"}, auth="x"),
        sign_in_text({"id": "u"}, auth="other-key:" + "0" * 64),
        sign_in_text({"id": "u"}, user_data='{"id": "v"}'),
        sign_in_text("no JSON", secret="wrong"),
    ],
)
def test_a_wrong_signature_signs_nobody_in_and_is_recorded(text: str) -> None:
    harness = Harness()
    effects = harness.send(text)
    code, sentence = error_of(effects)
    assert code is None
    assert effects[1:] == (AuthFailed(None, sentence),)
    assert APP.secret not in sentence
    assert harness.session.user is None


def test_what_is_signed_but_names_nobody_is_an_error_and_no_failed_authentication() -> None:
    harness = Harness()
    effects = harness.send(sign_in_text({"id": 42}))
    assert error_of(effects) == (None, "user_data.id must be a string that is not empty")
    assert len(effects) == 1
    assert harness.session.user is None


def test_the_same_user_may_sign_in_again_and_another_may_not() -> None:
    harness = Harness()
    (first,) = harness.send(sign_in_text({"id": "u"}))
    assert isinstance(first, SignIn)
    (again,) = harness.send(sign_in_text({"id": "u", "watchlist": ["v"]}))
    assert again == SignIn(User("u", Member("u"), ("v",)), json.dumps({"id": "u", "watchlist": ["v"]}), first.user)
    effects = harness.send(sign_in_text({"id": "w"}))
    assert "signed in as u" in error_of(effects)[1]
    assert harness.session.user is not None
    assert harness.session.user.id == "u"


def test_a_sign_in_without_room_is_taken_back() -> None:
    harness = Harness()
    harness.send(sign_in_text({"id": "u"}))
    assert error_of(harness.session.refuse_sign_in(None))[0] is None
    assert harness.session.user is None
    assert isinstance(harness.send(sign_in_text({"id": "w"}))[0], SignIn)


def test_sign_in_and_watchlists_can_be_switched_off() -> None:
    harness = Harness(replace(APP, user_signin=False))
    assert "switched off" in error_of(harness.send(sign_in_text({"id": "u"})))[1]
    harness = Harness(replace(APP, watchlists=False))
    (effect,) = harness.send(sign_in_text({"id": "u", "watchlist": ["v"]}))
    assert isinstance(effect, SignIn)
    assert effect.user.watchlist == ()


def test_the_own_users_channel_is_answered_and_nobody_elses() -> None:
    harness = Harness()
    text = json.dumps({"event": "pusher:subscribe", "data": {"auth": "", "channel": "#server-to-user-u"}})
    assert subscription_error_of(harness.send(text)) == ("#server-to-user-u", "InvalidChannel", 400)
    harness.send(sign_in_text({"id": "u"}))
    for _ in range(2):
        (frame,) = said(harness.send(text))
        assert frame == {"event": "pusher_internal:subscription_succeeded", "channel": "#server-to-user-u", "data": "{}"}
    for other in ("#server-to-user-v", "#server-to-user-", "#server-to-user-u2", "#u"):
        assert subscription_error_of(harness.send(subscribe_text(other))) == (other, "InvalidChannel", 400)
    assert harness.send(unsubscribe_text("#server-to-user-u")) == ()
    assert not harness.session.channels


def test_who_has_signed_in_needs_no_channel_data_on_a_presence_channel() -> None:
    harness = Harness()
    harness.send(sign_in_text({"id": "u", "user_info": {"name": "Ada"}}))
    member = Member("u", b'{"name":"Ada"}')
    assert harness.send(subscribe_text("presence-a")) == (Subscribe("presence-a", member),)
    assert harness.send(subscribe_text("presence-b", {"user_id": "other"})) == (Subscribe("presence-b", Member("other")),)
    assert isinstance(harness.send(subscribe_text("presence-c", auth=sign("presence-x")))[-1], AuthFailed)
    assert harness.send(event_text("presence-a"))[0] == Publish(
        Publication("1001", "client-x", ("presence-a",), "hi", SOCKET_ID, from_client=True, user_id="u")
    )


def test_who_signed_in_with_too_much_user_info_is_nobody_on_a_presence_channel() -> None:
    harness = Harness()
    harness.send(sign_in_text({"id": "u", "user_info": {"a": "x" * 2_000}}))
    effects = harness.send(subscribe_text("presence-a"))
    assert subscription_error_of(effects) == ("presence-a", "InvalidData", 400)
    assert "user_data.user_info may have 1024 bytes" in error_of(effects)[1]


# -- client events


def test_a_client_event_is_published_to_the_others() -> None:
    harness = Harness()
    harness.join("private-c")
    (effect,) = harness.send(event_text("private-c", "client-typing", {"on": True}))
    assert effect == Publish(
        Publication(
            app_id="1001",
            event="client-typing",
            channels=("private-c",),
            data='{"on":true}',
            except_socket_id=SOCKET_ID,
            from_client=True,
        )
    )


def test_the_sender_is_who_the_channel_says_not_who_the_frame_says() -> None:
    harness = Harness()
    harness.join("presence-c", {"user_id": 7})
    text = '{"event":"client-x","channel":"presence-c","data":"","user_id":"admin","socket_id":"9.9"}'
    (effect,) = harness.send(text)
    assert isinstance(effect, Publish)
    assert (effect.publication.user_id, effect.publication.except_socket_id) == ("7", SOCKET_ID)


def rejection(effects: Sequence[Effect]) -> Rejected:
    reply, rejected = effects
    assert isinstance(reply, Reply)
    assert isinstance(rejected, Rejected)
    return rejected


@pytest.mark.parametrize(
    ("channel", "reason"),
    [
        ("private-c", "not_subscribed"),
        ("presence-c", "not_subscribed"),
        ("orders", "not_allowed"),
        ("cache-orders", "not_allowed"),
        ("private-encrypted-c", "not_allowed"),
        ("#server-to-user-u-1", "invalid_channel"),
        ("", "invalid_channel"),
        ("private-c\n", "invalid_channel"),
    ],
)
def test_client_events_without_a_subscription(channel: str, reason: str) -> None:
    effects = Harness().send(event_text(channel, data="abc"))
    assert rejection(effects) == Rejected(reason, channel, "client-x", 3)
    assert error_of(effects)[0] is None


@pytest.mark.parametrize("channel", ["orders", "cache-orders", "private-encrypted-c", "private-encrypted-cache-c"])
def test_a_subscription_alone_does_not_allow_client_events(channel: str) -> None:
    harness = Harness()
    harness.join(channel)
    assert rejection(harness.send(event_text(channel))).reason == "not_allowed"


def test_no_client_event_after_a_refusal_or_an_unsubscribe() -> None:
    harness = Harness()
    harness.send(subscribe_text("private-c", auth="x:y"))
    assert rejection(harness.send(event_text("private-c"))).reason == "not_subscribed"
    harness.join("private-c")
    harness.send(unsubscribe_text("private-c"))
    assert rejection(harness.send(event_text("private-c"))).reason == "not_subscribed"
    harness.join("presence-c", {"user_id": "u"})
    harness.session.revoke("presence-c")
    assert rejection(harness.send(event_text("presence-c"))).reason == "not_subscribed"


def test_an_app_without_client_events() -> None:
    harness = Harness(replace(APP, client_events=False))
    harness.join("private-c")
    effects = harness.send(event_text("private-c"))
    assert rejection(effects).reason == "client_events_disabled"
    assert error_of(effects)[0] is None
    harness.session.app = APP
    assert isinstance(harness.send(event_text("private-c"))[0], Publish), "a reload takes effect at once"


def test_the_event_name_has_an_exact_border() -> None:
    harness = Harness()
    harness.join("private-c")
    assert isinstance(harness.send(event_text("private-c", "client-" + "é" * 193))[0], Publish)
    effects = harness.send(event_text("private-c", "client-" + "é" * 194))
    assert rejection(effects) == Rejected("invalid_event", "private-c", "client-" + "é" * 193 + "…", 2)


@pytest.mark.parametrize(
    ("fits", "too_large"),
    [
        ("x" * 10_240, "x" * 10_241),
        ("東" * 3_413 + "x", "東" * 3_414),
        ({"k": "x" * 10_232}, {"k": "x" * 10_233}),
    ],
)
def test_the_data_of_a_client_event_has_an_exact_border(fits: object, too_large: object) -> None:
    harness = Harness()
    harness.join("private-c")
    (effect,) = harness.send(event_text("private-c", data=fits))
    assert isinstance(effect, Publish)
    assert len(effect.publication.data.encode()) == 10_240
    effects = harness.send(event_text("private-c", data=too_large))
    assert rejection(effects).reason == "payload_too_large"
    assert rejection(effects).size > 10_240
    assert error_of(effects)[0] == 4301


def test_ten_client_events_a_second() -> None:
    harness = Harness()
    harness.join("private-c")
    results = [harness.send(event_text("private-c")) for _ in range(12)]
    assert all(isinstance(effects[0], Publish) for effects in results[:10])
    for effects in results[10:]:
        assert rejection(effects).reason == "rate_limited"
        assert error_of(effects)[0] == 4301
    harness.now += 0.1
    assert isinstance(harness.send(event_text("private-c"))[0], Publish)
    assert rejection(harness.send(event_text("private-c"))).reason == "rate_limited"


def test_what_is_refused_otherwise_costs_no_token() -> None:
    harness = Harness()
    harness.join("private-c")
    for _ in range(20):
        harness.send(event_text("private-other"))
        harness.send(event_text("private-c", data="x" * 20_000))
    assert all(isinstance(harness.send(event_text("private-c"))[0], Publish) for _ in range(10))


def test_a_new_rate_takes_effect_on_a_living_connection() -> None:
    harness = Harness(with_limits(client_events=1))
    harness.join("private-c")
    assert isinstance(harness.send(event_text("private-c"))[0], Publish)
    assert rejection(harness.send(event_text("private-c"))).reason == "rate_limited"
    harness.session.app = with_limits(client_events=2)
    assert [type(harness.send(event_text("private-c"))[0]) for _ in range(3)] == [Publish, Publish, Reply]


def test_no_room_to_record() -> None:
    harness = Harness()
    harness.join("private-c")
    (effect,) = harness.send(event_text("private-c", data="東"))
    assert isinstance(effect, Publish)
    effects = harness.session.overloaded(effect.publication)
    assert rejection(effects) == Rejected("overloaded", "private-c", "client-x", 3)
    assert error_of(effects)[0] == 4301


# -- mistakes and floods


def test_pings_are_answered_and_pongs_are_not() -> None:
    harness = Harness()
    assert harness.send('{"event":"pusher:ping","data":""}') == (Reply(b'{"event":"pusher:pong","data":"{}"}'),)
    assert harness.send('{"event":"pusher:pong"}') == ()


@pytest.mark.parametrize("text", ['{"event":"pusher:signin","data":{}}', '{"event":"nonsense"}', '{"event":"Client-x"}'])
def test_unknown_events_are_answered_and_never_end_a_connection(text: str) -> None:
    harness = Harness()
    for _ in range(MOST_BAD_FRAMES * 3):
        (reply,) = harness.send(text)
        assert error_of((reply,))[0] is None


def test_wrong_data_never_ends_a_connection() -> None:
    harness = Harness()
    for _ in range(MOST_BAD_FRAMES * 3):
        assert error_of(harness.send('{"event":"pusher:subscribe","data":""}'))[0] is None
    harness.join("orders")


def test_twenty_messages_that_are_no_frames_are_borne_and_the_next_ends_it() -> None:
    harness = Harness()
    for _ in range(MOST_BAD_FRAMES):
        assert error_of(harness.send("nonsense"))[0] is None
        assert len(harness.send('{"event":"pusher:ping"}')) == 1
    (close,) = harness.send("nonsense")
    assert isinstance(close, Close)
    assert close.code == 1008
    assert close.sentence
    assert harness.send("nonsense") == ()
    assert harness.send(subscribe_text("orders")) == (), "after the end nothing begins"


# -- anything at all

names = st.sampled_from(["a", "private-a", "private-b", "presence-a", "presence-b", "private-encrypted-a", "#x", "", "a b"])
users = st.sampled_from([None, {"user_id": "u"}, {"user_id": 1, "user_info": {"a": 1}}, {"user_id": 1.5}, {"user_info": 1}])
any_text = st.text(st.characters(exclude_categories=()), max_size=12)
messages = (
    st.builds(subscribe_text, names, users)
    | st.builds(lambda name, auth: subscribe_text(name, auth=auth), names, any_text | st.none() | st.integers())
    | st.builds(unsubscribe_text, names)
    | st.builds(sign_in_text, st.sampled_from([{"id": "u"}, {"id": "v"}, {"id": 1}, "x"]), st.sampled_from([APP.secret, "wrong"]))
    | st.builds(event_text, names, st.sampled_from(["client-x", "client-", "x", "client-" + "y" * 300]), any_text | st.integers())
    | any_text
    | st.just('{"event":"pusher:ping"}')
)
steps = st.lists(st.tuples(messages | names.map(lambda name: ("full", name)), st.floats(0, 2)), max_size=30)
apps = st.sampled_from([APP, replace(APP, client_events=False), with_limits(channels_per_connection=2, client_events=1)])


@given(apps, steps)
def test_whatever_comes_the_session_holds_what_its_effects_say(app: App, steps: list[tuple[Any, float]]) -> None:
    session = Session(app, SOCKET_ID)
    held: dict[str, Member | None] = {}
    signed_in: str | None = None
    now = 0.0
    for step, pause in steps:
        now += pause
        if isinstance(step, tuple):
            was_held = held.pop(step[1], "nothing") != "nothing"
            effects = session.revoke(step[1])
            assert bool(effects) == was_held
        else:
            effects = session.receive(decode(step), now)
        frames = said(effects)
        assert sum(frame["event"] == "pusher:error" for frame in frames) <= 1
        for effect in effects:
            match effect:
                case Subscribe(channel, member):
                    assert channel not in held
                    assert (member is not None) == channel.startswith("presence-")
                    held[channel] = member
                case Unsubscribe(channel, member):
                    assert held.pop(channel) == member
                case Publish(publication):
                    assert publication.channels[0] in held
                case SignIn(user, _, before):
                    assert signed_in in (None, user.id)
                    assert (None if before is None else before.id) == signed_in
                    signed_in = user.id
                case _:
                    pass
        assert dict(session.channels) == held
        assert len(held) <= app.limits.channels_per_connection
    assert not session.authenticated, "nothing was let in"
    assert (None if session.user is None else session.user.id) == signed_in


def test_what_was_meant_for_a_client_event_is_recorded_as_refused() -> None:
    harness = Harness(with_limits(event_name=10))
    assert rejection(harness.send('{"event":"client-123456"}')) == Rejected("invalid_channel", None, "client-123…", 0)
    deep = '{"event":"client-e","channel":"private-c","data":' + "[" * 1000 + "]" * 1000 + "}"
    assert rejection(harness.send(deep)) == Rejected("invalid_data", "private-c", "client-e", 0)
