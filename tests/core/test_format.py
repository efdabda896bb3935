from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
from cloudevents.core.bindings.http import HTTPMessage, from_structured_event
from cloudevents.core.formats.json import JSONFormat
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.delivery import Delivery
from gateway.core.endpoint import RESERVED_HEADERS, Endpoint
from gateway.core.format import FORMATS, PUSHER_FRESH_MS, batches, together
from gateway.core.signing import headers
from gateway.core.span import CATALOGUE, LifecycleEvent
from gateway.core.trace import Trace, of_envelope
from gateway.core.webhook import Router, request

AT_MS = 1_754_300_000_123
KINDS_OF_PUSHER = {
    "channel.occupied",
    "channel.vacated",
    "channel.member_added",
    "channel.member_removed",
    "channel.subscription_count",
    "channel.cache_miss",
    "client_event",
}


def endpoint(format_: str, **settings: Any) -> Endpoint:
    signer: dict[str, Any] = {"pusher_key": "app-key", "pusher_secret": "app-secret"} if FORMATS[format_].needs_app else {}
    return Endpoint("1001", "backend", "https://example.com", ("s",), format=format_, **signer, **settings)


def event(kind: str, at_ms: int = AT_MS, id_: str = "evt_1", **data: Any) -> LifecycleEvent:
    return LifecycleEvent(id_, kind, "1001", at_ms, "subject", data, data.get("channel"), data.get("event"))


def routed(to: Endpoint, *events: LifecycleEvent, node: str = "gw-1") -> list[Delivery]:
    router = Router([to], node, {})
    return [delivery for one in events for delivery in router.route(one)]


def body(format_: str, *events: LifecycleEvent, at_ms: int | None = None, **settings: Any) -> Any:
    to = endpoint(format_, **settings)
    return orjson.loads(request(to, routed(to, *events), at_ms).body)


TRACE = Trace("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", 'a="\\,b=2')


# -- traces


@pytest.mark.parametrize("state", ["", 'a="\\,b=2', "k=" + '"' * 255 + ",l=" + "\\" * 252])
def test_a_trace_is_told_at_the_end_of_the_metadata_and_in_attributes(state: str) -> None:
    traced = replace(event("message.published", channel="a", data="x"), trace=TRACE._replace(state=state))
    told = {"traceparent": TRACE.parent} | ({"tracestate": state} if state else {})
    metadata = {"webhook_id": "backend", "sequence": 1, "node": "gw-1", **told}
    assert list(body("event", traced)["metadata"].items()) == list(metadata.items())
    assert body("batch", traced)["events"][0]["metadata"] == metadata
    for attributes in (body("cloudevents", traced), body("cloudevents-batch", traced)[0]):
        assert told.items() <= attributes.items()


@pytest.mark.parametrize("name", FORMATS)
def test_a_request_belongs_to_a_trace_if_all_of_it_does(name: str) -> None:
    to = endpoint(name)
    traced = replace(event("client_event", channel="a", event="e"), trace=TRACE)
    other = replace(traced, trace=TRACE._replace(state=""))
    sent = {"traceparent": TRACE.parent, "tracestate": TRACE.state}

    def told(*events: LifecycleEvent) -> dict[str, str]:
        signed = headers(to, request(to, routed(to, *events)), attempt=1, now_s=1, user_agent="x")
        assert {key.lower() for key in signed} <= RESERVED_HEADERS
        return {key: value for key, value in signed.items() if key.startswith("trace")}

    assert told(traced) == sent
    assert told(other) == {"traceparent": TRACE.parent}
    assert told(replace(traced, trace=None)) == {}
    if batches(name):
        assert told(traced, traced) == sent
        assert told(traced, other) == told(traced, replace(traced, trace=None)) == {}


def test_nobody_can_put_a_trace_into_an_event_by_its_data() -> None:
    text = f',"traceparent":"{TRACE.parent}"}}}}'
    for node in (text, text.replace('"', "'"), "x"):
        (delivery,) = routed(endpoint("event"), event("client_event", channel="a", data=text, event=text), node=node)
        assert of_envelope(delivery.envelope) is None


# -- the table


@pytest.mark.parametrize("name", FORMATS)
def test_each_row_of_the_table_is_whole(name: str) -> None:
    row = FORMATS[name]
    assert batches(row.several)
    assert row.kinds <= set(CATALOGUE)
    assert row.content_type.startswith("application/")


def test_only_one_event_travels_where_the_format_takes_one() -> None:
    deliveries = routed(endpoint("event"), *[event("channel.occupied", channel="a")] * 3)
    assert [name for name in FORMATS if batches(name)] == ["batch", "pusher", "cloudevents-batch"]
    for name in FORMATS:
        assert together(name, deliveries) == (3 if batches(name) else 1)
        assert together(name, []) == 0


@given(st.sampled_from(["batch", "pusher", "cloudevents-batch"]), st.integers(1, 5), st.integers(0, 10**15))
def test_the_same_deliveries_give_the_same_bytes(name: str, count: int, late_ms: int) -> None:
    to = endpoint(name)
    deliveries = routed(to, *[event("channel.occupied", id_=f"evt_{number}", channel="a") for number in range(count)])
    late_ms = late_ms % PUSHER_FRESH_MS
    assert request(to, deliveries) == request(to, list(deliveries), AT_MS + late_ms) == request(to, deliveries, AT_MS - late_ms)


# -- pusher


def test_pusher_has_no_other_kinds_than_the_protocol() -> None:
    router = Router([endpoint("pusher")], "n", {})
    assert router.wanted["1001"] == KINDS_OF_PUSHER
    sequences: dict[str, int] = {}
    router = Router([endpoint("pusher")], "n", sequences)
    sent = [delivery for kind in CATALOGUE for delivery in router.route(event(kind, channel="a"))]
    assert {delivery.kind for delivery in sent} == KINDS_OF_PUSHER
    assert [delivery.sequence for delivery in sent] == list(range(1, 8))
    assert router.left_out_by("1001/backend", event("connection.opened", socket_id="1.2")) == "format"
    chosen = Router([endpoint("pusher", events=("channel.*", "connection.*"))], "n", {})
    assert chosen.wanted["1001"] == KINDS_OF_PUSHER - {"client_event"}
    assert chosen.left_out_by("1001/backend", event("client_event", channel="a", event="client-x")) == "events"


def test_pusher_events_are_flat_and_hold_what_sdks_read() -> None:
    told: dict[str, Any] = {"type": "presence", "span": "spn_1", "socket_id": "1.2", "subscribers": 3}
    parsed = body(
        "pusher",
        event("channel.occupied", channel="presence-a", **told),
        event("channel.member_added", channel="presence-a", user_id="u-1", **told),
        event("client_event", channel="presence-a", event="client-x", size=7, socket_id="1.2", user_id="u-1", data='{"a":1}'),
        event("channel.subscription_count", channel="a", type="public", subscribers=3),
        event("channel.cache_miss", channel="cache-a", type="public", cache=True, socket_id="1.2"),
    )
    assert parsed == {
        "time_ms": AT_MS,
        "events": [
            {"name": "channel_occupied", "channel": "presence-a"},
            {"name": "member_added", "channel": "presence-a", "user_id": "u-1"},
            {
                "name": "client_event",
                "channel": "presence-a",
                "event": "client-x",
                "data": '{"a":1}',
                "socket_id": "1.2",
                "user_id": "u-1",
            },
            {"name": "subscription_count", "channel": "a", "subscription_count": 3},
            {"name": "cache_miss", "channel": "cache-a"},
        ],
    }


@pytest.mark.parametrize("data", [{"a": [1, "é"]}, 7, None, [], True])
def test_pusher_data_is_a_text_whatever_it_was(data: object) -> None:
    (one,) = body("pusher", event("client_event", channel="private-a", event="client-x", data=data, socket_id="1.2"))["events"]
    assert isinstance(one["data"], str)
    assert orjson.loads(one["data"]) == data


def test_a_payload_that_is_left_out_is_left_out_of_pusher_too() -> None:
    one = event("client_event", channel="private-a", event="client-x", data="secret", socket_id="1.2")
    parsed = body("pusher", one, include_payload=False)
    assert parsed["events"] == [{"name": "client_event", "channel": "private-a", "event": "client-x", "socket_id": "1.2"}]


def test_a_test_webhook_is_a_pusher_body_without_events() -> None:
    to = endpoint("pusher")
    delivery = Router([to], "n", {}).route_to(to.key, event("webhook.test"))
    assert orjson.loads(request(to, [delivery]).body) == {"time_ms": AT_MS, "events": []}


@pytest.mark.parametrize(
    ("late_ms", "is_fresh"),
    [(0, False), (PUSHER_FRESH_MS - 1, False), (PUSHER_FRESH_MS, True), (86_400_000, True), (-PUSHER_FRESH_MS, True)],
)
def test_a_pusher_time_is_the_oldest_event_s_until_an_sdk_would_refuse_it(late_ms: int, is_fresh: bool) -> None:
    two = event("channel.occupied", channel="a"), event("channel.vacated", AT_MS + 5_000, channel="a")
    assert body("pusher", *two, at_ms=AT_MS + late_ms)["time_ms"] == (AT_MS + late_ms if is_fresh else AT_MS)


def test_a_late_attempt_is_signed_over_what_it_sends_and_keeps_its_id() -> None:
    to = endpoint("pusher")
    deliveries = routed(to, event("channel.occupied", channel="a"))
    early, late = (request(to, deliveries, AT_MS + late_ms) for late_ms in (0, 3_600_000))
    assert early.id == late.id
    assert early.body != late.body
    for one in (early, late):
        sent = headers(to, one, attempt=1, now_s=1, user_agent="u")
        assert sent["Content-Type"] == "application/json"
        assert sent["X-Pusher-Key"] == "app-key"
        assert sent["X-Pusher-Signature"] == hmac.new(b"app-secret", one.body, hashlib.sha256).hexdigest()
        assert sent["X-Webhook-Signature"] == hmac.new(b"s", one.body, hashlib.sha256).hexdigest()
    assert "app-secret" not in repr(to)


@pytest.mark.parametrize("name", [name for name in FORMATS if name != "pusher"])
def test_no_other_format_is_signed_with_the_app_s_secret(name: str) -> None:
    to = endpoint(name)
    webhook = request(to, routed(to, event("channel.occupied", channel="a")))
    assert not [header for header in headers(to, webhook, attempt=1, now_s=1, user_agent="u") if "Pusher" in header]


def channels(*names: str) -> list[LifecycleEvent]:
    return [event("channel.occupied", channel=name) for name in names]


@pytest.mark.parametrize(
    ("names", "count"),
    [
        (["a", "b", "c"], 3),
        (["private-encrypted-a", "b"], 1),
        (["a", "b", "private-encrypted-a", "c"], 2),
        (["private-encrypted-a", "private-encrypted-a"], 1),
        (["private-encrypted-cache-a", "a"], 1),
        (["a", "not-private-encrypted-a", "b"], 3),
    ],
)
def test_events_of_encrypted_channels_travel_alone_in_pusher_only(names: Sequence[str], count: int) -> None:
    to = endpoint("pusher")
    assert together("pusher", routed(to, *channels(*names))) == count
    assert together("batch", routed(to, *channels(*names))) == len(names)


def test_what_only_talks_of_an_encrypted_channel_need_not_travel_alone() -> None:
    talk = event("client_event", channel="private-a", event="client-x", data='{"channel":"private-encrypted-a"}', socket_id="1.2")
    assert together("pusher", routed(endpoint("pusher"), talk, talk)) == 2


# -- cloudevents

EVERY_KIND = [
    event("connection.opened", socket_id="1.2", remote_ip="127.0.0.1"),
    event("connection.authenticated", socket_id="1.2", channel="private-a"),
    event("channel.occupied", channel="room-7", socket_id="1.2", subscribers=1),
    event("client_event", channel="private-a", event="client-x", data='{"on":true}', socket_id="1.2"),
    event("message.rejected", reason="invalid_channel", channel="a\nb", source="http"),
    event("message.rejected", reason="invalid_channel", channel="", source="http"),
    event("message.rejected", reason="overloaded", source="client", socket_id="1.2"),
    event("webhook.test", text="é"),
]
SUBJECTS = ["1.2", "1.2", "room-7", "private-a", None, None, "1.2", None]


@pytest.mark.parametrize(("one", "subject"), list(zip(EVERY_KIND, SUBJECTS, strict=True)))
def test_the_sdk_reads_a_structured_cloudevent(one: LifecycleEvent, subject: str | None) -> None:
    to = endpoint("cloudevents")
    webhook = request(to, routed(to, one))
    sent = headers(to, webhook, attempt=1, now_s=1, user_agent="u")
    read = from_structured_event(HTTPMessage(sent, webhook.body))
    assert sent["Content-Type"] == "application/cloudevents+json"
    assert (read.get_specversion(), read.get_id(), read.get_type()) == ("1.0", "evt_1", f"dev.rawpush.{one.kind}")
    assert (read.get_source(), read.get_subject()) == ("/apps/1001/nodes/gw-1", subject)
    assert read.get_time() == datetime(2025, 8, 4, 9, 33, 20, 123_000, UTC)
    assert (read.get_datacontenttype(), read.get_data()) == ("application/json", one.data)
    assert read.get_extension("sequence") == "0000000000000001"


def test_a_cloudevent_to_the_byte() -> None:
    to = endpoint("cloudevents")
    webhook = request(to, routed(to, event("channel.vacated", channel="room-7", subscribers=0), node="höst/1"))
    assert webhook.body == (
        b'{"specversion":"1.0","id":"evt_1","source":"/apps/1001/nodes/h%C3%B6st%2F1","type":"dev.rawpush.channel.vacated",'
        b'"subject":"room-7","time":"2025-08-04T09:33:20.123Z","datacontenttype":"application/json",'
        b'"sequence":"0000000000000001","data":{"channel":"room-7","subscribers":0}}'
    )
    assert webhook.id == "evt_1"


@pytest.mark.parametrize("count", [1, 3])
def test_a_batch_of_cloudevents_is_an_array_however_many_there_are(count: int) -> None:
    to = endpoint("cloudevents-batch")
    webhook = request(to, routed(to, *EVERY_KIND[:count]))
    assert webhook.content_type == "application/cloudevents-batch+json"
    assert webhook.id.startswith("whb_")
    read = [JSONFormat().read(None, orjson.dumps(one)) for one in orjson.loads(webhook.body)]
    assert [one.get_extension("sequence") for one in read] == [f"{number:016d}" for number in range(1, count + 1)]
    assert [one.get_data() for one in read] == [dict(one.data) for one in EVERY_KIND[:count]]


@given(st.lists(st.integers(0, 2**53), min_size=2, max_size=2))
def test_sequences_sort_as_texts_as_they_do_as_numbers(two: list[int]) -> None:
    to = endpoint("cloudevents")
    texts = []
    for last in two:
        (delivery,) = Router([to], "n", {to.key: last}).route(EVERY_KIND[0])
        texts.append(orjson.loads(request(to, [delivery]).body)["sequence"])
    assert (texts[0] < texts[1]) == (two[0] < two[1])
