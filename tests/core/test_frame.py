from __future__ import annotations

import dataclasses
import json
from typing import Any, get_args

import orjson
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode

from gateway.core import frame
from gateway.core.error import Code
from gateway.core.frame import (
    BadFrame,
    ClientEvent,
    ClientFrame,
    Ping,
    Pong,
    SignInRequest,
    SubscribeRequest,
    Unknown,
    UnsubscribeRequest,
    decode,
    wire,
)
from gateway.core.roster import Member

# -- what clients say


@pytest.mark.parametrize("data", ["{}", '""', "null", "[]", "0", "true", '"{"'])
def test_a_ping_is_a_ping_whatever_its_data(data: str) -> None:
    assert decode(f'{{"event":"pusher:ping","data":{data}}}') == Ping()
    assert decode(f'{{"event":"pusher:pong","data":{data}}}') == Pong()


def test_a_ping_needs_no_data() -> None:
    assert decode('{"event": "pusher:ping"}') == Ping()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "   ",
        "[]",
        "null",
        "7",
        '"x"',
        "{}",
        '{"event":null}',
        '{"event":[]}',
        '{"event":1}',
        '{"event":"pusher:ping"}{"event":"pusher:ping"}',
        '{"event":"pusher:ping","data":NaN}',
        '{"event":"pusher:ping","data":' + "1" * 5_000 + "}",
        '{"event":"\\ud83d"}',
        '{"event":"client-x","channel":"private-c","data":{"t":"a\\ud83db"}}',
        '{"event":"client-x","channel":"private-c","data":"\ud83d"}',
        "\ufeff{}",
        "[" * 100_000,
        '{"event":"pusher:ping","data":' + "[" * 2_000 + "]" * 2_000 + "}",
    ],
)
def test_what_is_no_frame_counts(text: str) -> None:
    bad = decode(text)
    assert isinstance(bad, BadFrame)
    assert bad.counts
    assert len(bad.sentence) < 200


@pytest.mark.parametrize(
    ("data", "place"),
    [
        ('""', "data "),
        ("null", "data "),
        ("[]", "data "),
        ('"x"', "data "),
        ("7", "data "),
        ('"[]"', "data "),
        ("{}", "data.channel "),
        ('{"channel":null}', "data.channel "),
        ('{"channel":7}', "data.channel "),
        ('{"channel":["a"]}', "data.channel "),
        ('{"channel":{"a":1}}', "data.channel "),
    ],
)
def test_a_bad_request_names_the_place_and_does_not_count(data: str, place: str) -> None:
    for event in ("pusher:subscribe", "pusher:unsubscribe"):
        bad = decode(f'{{"event":"{event}","data":{data}}}')
        assert isinstance(bad, BadFrame)
        assert bad.sentence.startswith(place)
        assert event in bad.sentence
        assert not bad.counts


def test_a_request_without_data_is_bad() -> None:
    assert isinstance(decode('{"event":"pusher:subscribe"}'), BadFrame)
    assert isinstance(decode('{"event":"pusher:unsubscribe"}'), BadFrame)


@pytest.mark.parametrize(
    ("data", "place"),
    [('{"channel":"private-a","auth":7}', "data.auth "), ('{"channel":"presence-a","channel_data":{}}', "data.channel_data ")],
)
def test_wrong_types_beside_the_channel(data: str, place: str) -> None:
    bad = decode(f'{{"event":"pusher:subscribe","data":{data}}}')
    assert isinstance(bad, BadFrame)
    assert bad.sentence.startswith(place)


def test_null_is_the_same_as_absent_and_empty_is_not() -> None:
    assert decode('{"event":"pusher:subscribe","data":{"channel":"a","auth":null,"channel_data":null}}') == SubscribeRequest("a")
    assert decode('{"event":"pusher:subscribe","data":{"channel":"a","auth":"","channel_data":""}}') == SubscribeRequest(
        "a", "", ""
    )


def test_data_may_be_a_string_that_holds_the_object() -> None:
    inner = json.dumps({"channel": "private-a", "auth": "K:x", "channel_data": '{"a": 1}'})
    text = json.dumps({"event": "pusher:subscribe", "data": inner})
    assert decode(text) == SubscribeRequest("private-a", "K:x", '{"a": 1}')
    assert decode('{"event":"pusher:unsubscribe","data":"{\\"channel\\":\\"a\\"}"}') == UnsubscribeRequest("a")


def test_a_surrogate_inside_such_a_string_does_not_get_through() -> None:
    assert isinstance(decode('{"event":"pusher:unsubscribe","data":"{\\"channel\\":\\"\\\\ud83d\\"}"}'), BadFrame)


def test_channel_data_is_kept_to_the_letter() -> None:
    odd = '{ "user_id" :"\\u00eb",  "a":1.0 }'
    decoded = decode(json.dumps({"event": "pusher:subscribe", "data": {"channel": "presence-a", "channel_data": odd}}))
    assert decoded == SubscribeRequest("presence-a", None, odd)


@pytest.mark.parametrize(
    ("data", "relayed"),
    [
        ('"plain"', "plain"),
        ('""', ""),
        ('"{\\"on\\": true}"', '{"on": true}'),
        ('"\\"\\\\ud83d\\""', '"\\ud83d"'),  # JSON inside a string is not ours to judge
        ('{"on" : true}', '{"on":true}'),
        ("[1, 2.50, 1e3]", "[1,2.5,1000.0]"),
        ("7", "7"),
        ("18446744073709551615", "18446744073709551615"),
        ("false", "false"),
        ("null", "null"),
        ('{"a":1,"a":2}', '{"a":2}'),
        ('"\\ud83d\\ude00"', "😀"),
        ('{"t":"\\u2028\\u00e9"}', '{"t":"\u2028é"}'),
    ],
)
def test_client_event_data_becomes_a_string(data: str, relayed: str) -> None:
    text = f'{{"event":"client-x","channel":"private-c","user_id":"admin","data":{data}}}'
    assert decode(text) == ClientEvent("client-x", "private-c", relayed)


def test_a_client_event_without_data() -> None:
    assert decode('{"event":"client-x","channel":"private-c"}') == ClientEvent("client-x", "private-c", "{}")


@pytest.mark.parametrize("event", ["client-", "client-x\n", "client-\0", "client-\x1b[2J", "client-a.b:c", "client-App\\Typing"])
def test_whatever_follows_the_prefix_is_the_name_of_a_client_event(event: str) -> None:
    text = json.dumps({"event": event, "channel": "private-c", "data": ""})
    assert decode(text) == ClientEvent(event, "private-c", "")


def test_client_event_data_nested_too_deeply_is_refused_not_raised() -> None:
    for depth in (250, 256, 500, 1_000):
        deep = "[" * depth + "]" * depth
        decoded = decode(f'{{"event":"client-x","channel":"private-c","data":{deep}}}')
        assert isinstance(decoded, ClientEvent if depth == 250 else BadFrame)


@pytest.mark.parametrize("channel", ["", ',"channel":null', ',"channel":7', ',"channel":["private-c"]'])
def test_a_client_event_needs_a_channel(channel: str) -> None:
    bad = decode(f'{{"event":"client-x"{channel}}}')
    assert bad == BadFrame("channel of a client event must be a string", event=(None, "client-x", "invalid_channel"))


@pytest.mark.parametrize(
    "event",
    [
        "pusher:signout",
        "typing",
        "Client-x",
        "xclient-x",
        "pusher:client-x",
        "client",
        "",
        "client_x",
        "\nclient-x",
        "\0client-x",
        "client\n-x",
    ],
)
def test_other_events_are_unknown(event: str) -> None:
    assert decode(json.dumps({"event": event, "channel": "private-c", "data": {}})) == Unknown(event)


@pytest.mark.parametrize("auth", ["KEY:SIGNATURE", "", None])
def test_a_sign_in_keeps_the_text_that_was_signed(auth: str | None) -> None:
    data = {"user_data": '{"id": "\\u00eb"}'} | ({} if auth is None else {"auth": auth})
    for sent in (data, json.dumps(data)):
        assert decode(json.dumps({"event": "pusher:signin", "data": sent})) == SignInRequest(auth, '{"id": "\\u00eb"}')


@pytest.mark.parametrize(
    "data", [None, "", [], "x", 7, {}, {"user_data": None}, {"user_data": {"id": "u"}}, {"user_data": "{}", "auth": 7}]
)
def test_a_sign_in_without_what_it_needs_names_the_place(data: object) -> None:
    bad = decode(json.dumps({"event": "pusher:signin", "data": data}))
    assert isinstance(bad, BadFrame)
    assert bad.sentence.startswith("data")
    assert "pusher:signin" in bad.sentence
    assert not bad.counts


def test_an_empty_half_of_a_watchlist_is_left_out() -> None:
    for online, offline, expected in (
        (["a"], [], [{"name": "online", "user_ids": ["a"]}]),
        ([], ["b", "c"], [{"name": "offline", "user_ids": ["b", "c"]}]),
    ):
        news = json.loads(frame.watchlist_events(online, offline))
        assert news.keys() == {"event", "data"}
        assert json.loads(news["data"]) == {"events": expected}


def test_the_last_of_two_equal_keys_wins() -> None:
    assert decode('{"event":"pusher:ping","event":"client-x","channel":"a","channel":"b"}') == ClientEvent("client-x", "b", "{}")


any_text = st.text(st.characters(exclude_categories=()), max_size=20)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | any_text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(any_text, inner, max_size=3),
    max_leaves=8,
)
events = st.sampled_from(["pusher:subscribe", "pusher:unsubscribe", "pusher:ping", "client-x", "client-", "other"]) | any_text
frames = st.fixed_dictionaries(
    {"event": events},
    optional={
        "channel": st.sampled_from(["private-c", "c"]) | values,
        "data": values | st.fixed_dictionaries({"channel": values}, optional={"auth": values, "channel_data": values}),
        "user_id": values,
    },
)
texts = any_text | (frames | values).flatmap(
    lambda value: st.sampled_from([json.dumps(value), json.dumps(value, ensure_ascii=False)])
)


def assert_encodable(decoded: ClientFrame) -> None:
    assert isinstance(decoded, get_args(ClientFrame))
    for field in dataclasses.fields(decoded):
        value = getattr(decoded, field.name)
        if isinstance(value, str):
            value.encode()


@given(texts)
def test_decode_never_raises_and_what_it_returns_can_be_encoded(text: str) -> None:
    assert_encodable(decode(text))


@given(texts.filter(bool), st.integers(0), st.integers(1, 30))
def test_a_frame_cut_short_is_no_surprise_either(text: str, start: int, length: int) -> None:
    start %= len(text)
    assert_encodable(decode(text[:start] + text[start + length :]))


@given(values)
def test_relayed_data_means_what_was_sent(value: object) -> None:
    text = json.dumps({"event": "client-x", "channel": "private-c", "data": [value]})
    decoded = decode(text)
    assume(isinstance(decoded, ClientEvent))  # but for what is no JSON to orjson
    assert isinstance(decoded, ClientEvent)
    assert orjson.loads(decoded.data) == orjson.loads(text)["data"]


# -- what the server says


def parsed(encoded: bytes) -> dict[str, Any]:
    value: dict[str, Any] = orjson.loads(encoded)
    return value


def test_errors_are_objects_with_a_code_even_if_it_is_null() -> None:
    assert frame.error(None, "no") == b'{"event":"pusher:error","data":{"code":null,"message":"no"}}'
    assert frame.error(Code.OVER_QUOTA, "no") == b'{"event":"pusher:error","data":{"code":4004,"message":"no"}}'
    assert frame.error(4301, "é") == '{"event":"pusher:error","data":{"code":4301,"message":"é"}}'.encode()


def test_presence_without_anybody_is_still_an_object() -> None:
    data = parsed(frame.subscription_succeeded("presence-c", {}))["data"]
    assert data == '{"presence":{"ids":[],"hash":{},"count":0}}'


def test_a_publication_has_no_member_that_is_null() -> None:
    assert frame.message("e", "c", "") == b'{"event":"e","channel":"c","data":""}'
    assert frame.message("e", "presence-c", "1", "u") == b'{"event":"e","channel":"presence-c","data":"1","user_id":"u"}'


valid_text = st.text(max_size=12)
infos = st.dictionaries(valid_text, st.none() | valid_text | st.integers(-(2**53), 2**53), max_size=3).map(orjson.dumps)


@given(st.lists(st.builds(Member, valid_text.filter(bool), infos), max_size=4))
def test_members_come_out_as_they_went_in(members: list[Member]) -> None:
    by_id = {member.user_id: member for member in members}
    encoded = parsed(frame.subscription_succeeded("presence-c", by_id))
    presence = orjson.loads(encoded["data"])["presence"]
    assert presence["ids"] == list(by_id)
    assert presence["hash"] == {user_id: orjson.loads(member.info) for user_id, member in by_id.items()}
    assert presence["count"] == len(by_id)
    for member in members:
        added = parsed(frame.member_added("presence-c", member))
        assert orjson.loads(added["data"]) == {"user_id": member.user_id, "user_info": orjson.loads(member.info)}
        removed = parsed(frame.member_removed("presence-c", member.user_id))
        assert orjson.loads(removed["data"]) == {"user_id": member.user_id}


@given(valid_text, valid_text, st.none() | valid_text)
def test_a_publication_comes_out_as_it_went_in(event: str, data: str, user_id: str | None) -> None:
    expected = {"event": event, "channel": "c", "data": data} | ({} if user_id is None else {"user_id": user_id})
    assert parsed(frame.message(event, "c", data, user_id)) == expected


# -- the WebSocket frame


@pytest.mark.parametrize("length", [0, 1, 125, 126, 127, 65_535, 65_536, 70_000])
def test_the_wire_form_is_that_of_a_library_that_knows_it(length: int) -> None:
    payload = bytes(index % 251 for index in range(length))
    assert wire(payload) == Frame(Opcode.TEXT, payload).serialize(mask=False)
