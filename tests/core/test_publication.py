"""What may be published: every rule, the place an error names, and what is passed on unchanged."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.app import App, Limits
from gateway.core.error import RequestError
from gateway.core.publication import Publication, describe, parse_batch, parse_event, parse_info

APP = App(id="1001", key="demo-key", secret="demo-secret")
EVENT: dict[str, Any] = {"name": "created", "channels": ["orders"], "data": '{"id":17}'}
ITEM: dict[str, Any] = {"name": "created", "channel": "orders", "data": '{"id":17}'}

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


def refusal(event: object, app: App = APP) -> RequestError:
    with pytest.raises(RequestError) as caught:
        parse_event(event, app)
    return caught.value


def batch_refusal(batch: object) -> RequestError:
    with pytest.raises(RequestError) as caught:
        parse_batch(batch, APP)
    return caught.value


def facts(error: RequestError) -> tuple[int, str | None, str | None]:
    return error.status, error.where, error.reason


def test_an_event() -> None:
    assert parse_event(EVENT, APP) == Publication("1001", "created", ("orders",), '{"id":17}')


def test_everything_an_event_can_say() -> None:
    event = EVENT | {"channels": ["orders", "presence-a"], "socket_id": "1.2", "info": "user_count, subscription_count,x"}
    assert parse_event(event, APP) == Publication(
        "1001",
        "created",
        ("orders", "presence-a"),
        '{"id":17}',
        except_socket_id="1.2",
        info=frozenset({"user_count", "subscription_count"}),
    )


def test_one_channel_may_stand_alone() -> None:
    assert parse_event(ITEM, APP).channels == ("orders",)
    assert parse_event(ITEM | {"channels": None}, APP).channels == ("orders",)
    assert parse_event(EVENT | {"channel": None}, APP).channels == ("orders",)


def test_a_channel_named_twice_counts_once() -> None:
    assert parse_event(EVENT | {"channels": ["b", "a", "b"]}, APP).channels == ("b", "a")


@pytest.mark.parametrize(
    "name", ["App\\Events\\OrderCreated", "grüße", "client-x", "n" * 200, "東" * 200, "pusherx", "a b", "a\n", "\0"]
)
def test_event_names_are_free(name: str) -> None:
    assert parse_event(EVENT | {"name": name}, APP).event == name


@pytest.mark.parametrize("name", [None, "", 7, ["a"], "n" * 201, "pusher:ping", "pusher_internal:member_added"])
def test_event_names_that_are_refused(name: object) -> None:
    assert facts(refusal(EVENT | {"name": name})) == (400, "name", "invalid_event")


@pytest.mark.parametrize("data", ["", "plain", "null", "\u0001", "🛰", " {} "])
def test_data_is_passed_on_unchanged(data: str) -> None:
    assert parse_event(EVENT | {"data": data}, APP).data == data


@pytest.mark.parametrize(
    ("data", "text"), [({"b": 1, "a": [1.5, "é"]}, '{"b":1,"a":[1.5,"é"]}'), (7, "7"), (False, "false"), ([], "[]")]
)
def test_data_that_is_not_a_string_becomes_compact_json(data: object, text: str) -> None:
    assert parse_event(EVENT | {"data": data}, APP).data == text


def test_data_is_required() -> None:
    assert facts(refusal(EVENT | {"data": None})) == (400, "data", "invalid_data")
    assert facts(refusal({"name": "e", "channels": ["a"]})) == (400, "data", "invalid_data")


def test_data_nested_deeper_than_can_be_written() -> None:
    data = orjson.loads("[" * 500 + "]" * 500)
    assert facts(refusal(EVENT | {"data": data})) == (400, "data", "invalid_data")


@pytest.mark.parametrize("unit", ["x", "é", "東", "🛰", '"', "\u0001"])
def test_data_is_measured_in_bytes_of_utf8(unit: str) -> None:
    fill = APP.limits.event_data // len(unit.encode())
    full = unit * fill + "x" * (APP.limits.event_data - fill * len(unit.encode()))
    assert parse_event(EVENT | {"data": full}, APP).data == full
    assert facts(refusal(EVENT | {"data": full + "x"})) == (413, "data", "payload_too_large")


def test_data_that_is_not_a_string_is_measured_as_it_is_sent() -> None:
    assert facts(refusal(EVENT | {"data": ["x" * 10_240]})) == (413, "data", "payload_too_large")


@pytest.mark.parametrize("name", ["a", "A_z-0=9@x,y.z;w", "n" * 164, "#server-to-user-u-42", "#server-to-user-" + "u" * 184])
def test_channels_that_can_be_published_to(name: str) -> None:
    assert parse_event(EVENT | {"channels": [name]}, APP).channels == (name,)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "a b",
        "a/b",
        "a:b",
        "é",
        "a\n",
        "n" * 165,
        "#foo",
        "#server-to-user-",
        "#server-to-user-a b",
        "#server-to-user-" + "u" * 185,
        None,
        7,
        ["a"],
    ],
)
def test_channels_that_cannot(name: object) -> None:
    assert facts(refusal(EVENT | {"channels": ["ok", name]})) == (400, "channels[1]", "invalid_channel")


def test_the_number_of_channels() -> None:
    names = [f"c{number}" for number in range(100)]
    assert parse_event(EVENT | {"channels": names}, APP).channels == tuple(names)
    for channels in ([], [*names, "c"], "orders", {"a": 1}):
        assert facts(refusal(EVENT | {"channels": channels})) == (400, "channels", "invalid_channel")
    assert facts(refusal({"name": "e", "data": ""})) == (400, "channels", "invalid_channel")
    assert facts(refusal(EVENT | {"channel": "orders"})) == (400, "channel", "invalid_channel")


@pytest.mark.parametrize("socket_id", ["", "1", "1.2.3", "1.2:private-x", "1.2\n", "١.٢", 1.2, []])
def test_a_socket_id_has_one_form(socket_id: object) -> None:
    assert facts(refusal(EVENT | {"socket_id": socket_id})) == (400, "socket_id", "invalid_event")


def test_info_is_a_list_in_a_string() -> None:
    assert facts(refusal(EVENT | {"info": ["user_count"]})) == (400, "info", "invalid_event")
    assert parse_event(EVENT | {"info": ""}, APP).info == frozenset()
    assert parse_info(" a,,b ,a") == {"a", "b"}


@pytest.mark.parametrize("body", [None, [], "x", 7, True])
def test_a_body_is_an_object(body: object) -> None:
    assert facts(refusal(body)) == (400, "body", "invalid_event")
    assert facts(batch_refusal(body)) == (400, "body", "invalid_event")


def test_the_limits_are_those_of_the_app() -> None:
    app = replace(APP, limits=Limits(channel_name=3, event_name=3, event_data=3, channels_per_publish=1))
    event = {"name": "abc", "channels": ["abc"], "data": "abc"}
    assert parse_event(event, app).event == "abc"
    for change in ({"name": "abcd"}, {"channels": ["abcd"]}, {"channels": ["a", "b"]}, {"data": "abcd"}):
        refusal(event | change, app)


# -- batches


def test_a_batch_keeps_its_order() -> None:
    items = [ITEM | {"name": f"n{number}"} for number in range(10)]
    assert [publication.event for publication in parse_batch({"batch": items}, APP)] == [f"n{number}" for number in range(10)]


@pytest.mark.parametrize("batch", [None, {}, "x", [], [ITEM] * 11])
def test_a_batch_has_one_to_ten_events(batch: object) -> None:
    assert facts(batch_refusal({"batch": batch})) == (400, "batch", "invalid_event")


@pytest.mark.parametrize(
    ("item", "expected"),
    [
        (7, (400, "batch[2]", "invalid_event")),
        (ITEM | {"name": ""}, (400, "batch[2].name", "invalid_event")),
        (ITEM | {"data": "x" * 10_241}, (413, "batch[2].data", "payload_too_large")),
        (ITEM | {"channel": "a b"}, (400, "batch[2].channel", "invalid_channel")),
        (ITEM | {"socket_id": "x"}, (400, "batch[2].socket_id", "invalid_event")),
        ({"name": "e", "data": "", "channels": ["a"]}, (400, "batch[2].channel", "invalid_channel")),
    ],
)
def test_one_wrong_event_refuses_the_batch_and_is_named(item: object, expected: tuple[int, str, str]) -> None:
    assert facts(batch_refusal({"batch": [ITEM, ITEM, item, ITEM]})) == expected


def test_whoever_names_the_channels_of_an_event_in_a_batch_is_told_how_to_name_its_channel() -> None:
    refusal = batch_refusal({"batch": [{"name": "e", "data": "", "channels": ["a"]}]})
    assert "an event of a batch goes to one channel: name it in channel" in str(refusal)


# -- what is recorded of a refused publish


def test_a_refusal_is_described() -> None:
    assert describe(EVENT, "data") == ("orders", "created", 9)
    assert describe(ITEM | {"data": "é"}, "data") == ("orders", "created", 2)
    assert describe({"batch": [ITEM, ITEM | {"channel": "x"}]}, "batch[1].data") == ("x", "created", 9)


def test_long_names_are_cut_in_a_description() -> None:
    channel, event, _ = describe({"name": "n" * 10_000, "channel": "c" * 10_000}, "name")
    assert channel is not None
    assert event is not None
    assert len(channel) == len(event) == 200


@given(json_values, st.dictionaries(st.sampled_from(["name", "data", "channel", "channels", "socket_id", "info"]), json_values))
def test_no_json_does_more_than_be_refused_and_described(value: object, changes: dict[str, object]) -> None:
    for body in (value, EVENT | changes, {"batch": value}, {"batch": [ITEM, value, ITEM | changes]}):
        for parse in (parse_event, parse_batch):
            try:
                parse(body, APP)
            except RequestError as error:
                orjson.dumps(describe(body, error.where))
