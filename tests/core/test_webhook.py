from __future__ import annotations

from collections import defaultdict
from fnmatch import fnmatchcase
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.delivery import Delivery
from gateway.core.span import CATALOGUE, LifecycleEvent
from gateway.core.webhook import Endpoint, Router, request, timestamp


def endpoint(name: str = "backend", app_id: str = "1001", **settings: Any) -> Endpoint:
    return Endpoint(app_id, name, "https://example.com", ("s",), **settings)


def event(
    kind: str = "channel.occupied", channel: str | None = "room-7", name: str | None = None, app_id: str = "1001", **data: object
) -> LifecycleEvent:
    subject = f"{app_id}/channel/{channel}" if channel else f"{app_id}/connection/1.2"
    told = {"channel": channel, **data} if channel else {"socket_id": "1.2", **data}
    return LifecycleEvent("evt_1", kind, app_id, 1_769_335_200_123, subject, told, channel, name)


def test_the_envelope_to_the_byte() -> None:
    router = Router([endpoint(name='b"k')], "gw-1", {'1001/b"k': 1041})
    (delivery,) = router.route(event(subscribers=1, user="Zoë"))
    assert (
        delivery.envelope
        == (
            '{"id":"evt_1","event":"channel.occupied","version":"1","timestamp":"2026-01-25T10:00:00.123Z","app_id":"1001",'
            '"data":{"channel":"room-7","subscribers":1,"user":"Zoë"},'
            '"metadata":{"webhook_id":"b\\"k","sequence":1042,"node":"gw-1"}}'
        ).encode()
    )
    assert (delivery.endpoint, delivery.sequence, delivery.event_id) == ('1001/b"k', 1042, "evt_1")
    assert (delivery.kind, delivery.at_ms) == ("channel.occupied", 1_769_335_200_123)


@pytest.mark.parametrize(
    ("epoch_ms", "text"),
    [
        (0, "1970-01-01T00:00:00.000Z"),
        (1_769_335_200_007, "2026-01-25T10:00:00.007Z"),
        (1_769_335_200_999, "2026-01-25T10:00:00.999Z"),
        (4_107_542_399_999, "2100-02-28T23:59:59.999Z"),
    ],
)
def test_timestamps_are_utc_to_the_millisecond(epoch_ms: int, text: str) -> None:
    assert timestamp(epoch_ms) == text


def test_a_payload_is_left_out_only_where_the_endpoint_says_so() -> None:
    router = Router([endpoint("full"), endpoint("bare", include_payload=False), endpoint("late")], "n", {})
    bodies = [
        orjson.loads(delivery.envelope) for delivery in router.route(event("message.published", name="e", size=2, data="{}"))
    ]
    assert [body["data"] for body in bodies] == [
        {"channel": "room-7", "size": 2, "data": "{}"},
        {"channel": "room-7", "size": 2},
        {"channel": "room-7", "size": 2, "data": "{}"},
    ]
    assert list(bodies[1]) == ["id", "event", "version", "timestamp", "app_id", "data", "metadata"]


def test_each_endpoint_gets_its_own_sequence_and_no_other_app_s_events() -> None:
    sequences: dict[str, int] = {}
    router = Router(
        [
            endpoint("existence", events=("channel.occupied", "channel.vacated"), channels=("private-*",)),
            endpoint("clients", events=("client_event",)),
            endpoint("all"),
            endpoint("all", app_id="2002"),
        ],
        "n",
        sequences,
    )
    for one in (
        event(channel="private-a"),
        event(channel="public-a"),
        event("client_event", "private-a", "client-x"),
        event("channel.vacated", "private-a", app_id="2002"),
        event(app_id="3003"),
    ):
        router.route(one)
    assert sequences == {"1001/existence": 1, "1001/clients": 1, "1001/all": 3, "2002/all": 1}


@pytest.mark.parametrize(
    ("settings", "one", "passes"),
    [
        ({}, event(), True),
        ({"events": ("channel.*",)}, event(), True),
        ({"events": ("channel.*",)}, event("client_event", name="client-x"), False),
        ({"events": ()}, event(), False),
        ({"events": ("CHANNEL.*",)}, event(), False),
        ({"channels": ("room-?",)}, event(), True),
        ({"channels": ("ROOM-?",)}, event(), False),
        ({"channels": ("other-*", "room-[!1-6]")}, event(), True),
        ({"channels": ("room",)}, event(), False),
        ({"channels": ("oom-7",)}, event(), False),
        ({"channels": ()}, event(), False),
        ({"channels": ("x-*",)}, event("connection.opened", None), True),
        ({"exclude_channels": ("room-*",)}, event(), False),
        ({"exclude_channels": ("*",)}, event("connection.opened", None), True),
        ({"channels": ("room-*",), "exclude_channels": ("room-8",)}, event(), True),
        ({"event_names": ("client-a*",)}, event("client_event", name="client-abc"), True),
        ({"event_names": ("client-a*",)}, event("client_event", name="client-b"), False),
        ({"event_names": ("client-a*",)}, event(), True),
        ({"exclude_event_names": ("client-typing",)}, event("client_event", name="client-typing"), False),
        ({"exclude_event_names": ("client-typing",)}, event("client_event", name="client-typing-x"), True),
        ({"exclude_event_names": ("*",)}, event("client_event", name="a\nb"), False),
        ({"exclude_event_names": ("*",)}, event(), True),
    ],
)
def test_the_filter(settings: dict[str, Any], one: LifecycleEvent, passes: bool) -> None:
    assert len(Router([endpoint(**settings)], "n", {}).route(one)) == passes


def test_what_is_wanted_is_known_beforehand_by_app() -> None:
    router = Router(
        [
            endpoint("a", events=("channel.*d",)),
            endpoint("b", events=("client_event",)),
            endpoint("c", app_id="2002"),
            endpoint("d", app_id="3003", events=()),
        ],
        "n",
        {},
    )
    assert router.wanted["1001"] == {kind for kind in CATALOGUE if fnmatchcase(kind, "channel.*d")} | {"client_event"}
    assert router.wanted["2002"] == set(CATALOGUE)
    assert not router.wanted["3003"]
    assert "4004" not in router.wanted


def test_a_test_webhook_goes_to_one_endpoint_whatever_its_filter() -> None:
    sequences = {"1001/b": 5}
    router = Router([endpoint("a"), endpoint("b", events=("client_event",))], "n", sequences)
    delivery = router.route_to("1001/b", event("webhook.test", None))
    assert (delivery.endpoint, delivery.sequence, sequences) == ("1001/b", 6, {"1001/b": 6})
    with pytest.raises(KeyError):
        router.route_to("1001/c", event("webhook.test", None))


subjects = st.sampled_from([*(f"room-{number}" for number in range(30)), None])


@given(st.lists(st.tuples(subjects, st.sampled_from(CATALOGUE)), max_size=60), st.integers(1, 16))
def test_sequences_have_no_gaps_and_a_subject_keeps_its_lane(happened: list[tuple[str | None, str]], concurrency: int) -> None:
    endpoints = [
        endpoint("all", concurrency=concurrency),
        endpoint("some", events=("channel.*",), channels=("room-1*",), concurrency=concurrency),
    ]
    got: dict[str, list[Delivery]] = defaultdict(list)
    lanes: dict[tuple[str, str], set[int]] = defaultdict(set)
    sequences = {"1001/some": 10}
    for life in range(2):  # the second goes on with the sequences of the first
        router = Router(endpoints, f"node-{life}", sequences)
        for channel, kind in happened:
            one = event(kind, channel)
            for delivery in router.route(one):
                got[delivery.endpoint].append(delivery)
                lanes[delivery.endpoint, one.subject].add(delivery.lane)
    assert [one.sequence for one in got["1001/all"]] == list(range(1, 2 * len(happened) + 1))
    assert [one.sequence for one in got["1001/some"]] == list(range(11, 11 + len(got["1001/some"])))
    for delivery in got["1001/all"] + got["1001/some"]:
        assert orjson.loads(delivery.envelope)["metadata"]["sequence"] == delivery.sequence
    assert all(len(used) == 1 and used < set(range(concurrency + 1)) for used in lanes.values())


def test_an_event_that_cannot_be_written_out_for_all_leaves_no_gap_at_anyone() -> None:
    sequences: dict[str, int] = {"1001/bare": 4}
    router = Router([endpoint("bare", include_payload=False), endpoint("full")], "n", sequences)
    with pytest.raises(TypeError):
        router.route(event("message.published", data="\ud83d"))
    assert [one.sequence for one in router.route(event())] == [5, 1]


def test_lanes_are_the_same_in_every_process() -> None:
    (delivery,) = Router([endpoint(concurrency=8)], "n", {}).route(event())
    assert delivery.lane == 6


def test_subjects_spread_over_the_lanes() -> None:
    router = Router([endpoint(concurrency=8)], "n", {})
    assert {router.route(event(channel=f"room-{number}"))[0].lane for number in range(100)} == set(range(8))


def deliveries(count: int) -> list[Delivery]:
    router = Router([endpoint()], "n", {})
    return [router.route(event(subscribers=number))[0] for number in range(count)]


def test_format_event_sends_the_envelope_under_the_event_s_id() -> None:
    (one,) = deliveries(1)
    webhook = request(endpoint(), [one])
    assert (webhook.id, webhook.event, webhook.content_type) == ("evt_1", "channel.occupied", "application/json")
    assert webhook.body == one.envelope
    assert (webhook.endpoint, webhook.lane, webhook.deliveries) == ("1001/backend", one.lane, (one,))


def test_format_event_takes_one_event_a_webhook() -> None:
    with pytest.raises(ValueError, match="one event"):
        request(endpoint(), deliveries(2))


@pytest.mark.parametrize("format_", ["event", "batch"])
def test_a_webhook_without_events_is_refused(format_: str) -> None:
    with pytest.raises(ValueError, match="at least one"):
        request(endpoint(format=format_), [])


def test_format_batch_sends_the_envelopes_in_their_order() -> None:
    three = deliveries(3)
    webhook = request(endpoint(format="batch"), three)
    assert webhook.event == "batch"
    assert orjson.loads(webhook.body) == {"events": [orjson.loads(one.envelope) for one in three]}
    assert webhook.deliveries == tuple(three)


def test_a_batch_is_known_by_its_bounds() -> None:
    batch = endpoint(format="batch")
    four = deliveries(4)
    assert request(batch, four[:3]) == request(batch, list(four[:3]))
    ids = {request(batch, cut).id for cut in (four[:2], four[:3], four[1:3], four[2:], four[:1])}
    assert len(ids) == 5
    assert all(id_.startswith("whb_") and len(id_) == 36 for id_ in ids)
    assert request(endpoint("other", format="batch"), four[:2]).id not in ids


def test_a_batch_of_one_is_named_after_its_event() -> None:
    webhook = request(endpoint(format="batch"), deliveries(1))
    assert webhook.event == "channel.occupied"
    assert len(orjson.loads(webhook.body)["events"]) == 1


# -- what the desk asks


def test_an_event_is_rendered_as_it_was_routed_and_nothing_is_counted() -> None:
    sequences = {"1001/full": 41}
    router = Router([endpoint("full"), endpoint("bare", include_payload=False)], "gw-1", sequences)
    told = event("message.published", name="created", size=2, data='{"é":1}')
    full, bare = router.route(told)
    before = dict(sequences)
    assert router.render("1001/full", told, 42) == full
    assert router.render("1001/bare", told, 1) == bare
    assert orjson.loads(router.render("1001/full", told, 0).envelope)["metadata"]["sequence"] == 0
    assert sequences == before


@pytest.mark.parametrize(
    ("settings", "setting"),
    [
        ({}, None),
        ({"events": ("channel.*",)}, "events"),
        ({"format": "pusher"}, "format"),
        ({"channels": ("x*",)}, "channels"),
        ({"exclude_channels": ("room-*",)}, "exclude_channels"),
        ({"event_names": ("x",)}, "event_names"),
        ({"exclude_event_names": ("e*",)}, "exclude_event_names"),
        ({"channels": ("x*",), "exclude_channels": ("room-*",)}, "channels"),
    ],
)
def test_the_setting_that_leaves_an_event_out_is_named(settings: dict[str, Any], setting: str | None) -> None:
    router = Router([endpoint(**settings)], "n", {})
    told = event("message.published", name="e")
    assert router.left_out_by("1001/backend", told) == setting
    assert bool(router.route(told)) == (setting is None)


def test_what_the_feed_is_to_hold_is_wanted_too() -> None:
    router = Router(
        [endpoint(events=("client_event",))], "n", {}, {"1001": ("channel.o*",), "1002": ("connection.*",), "1003": ()}
    )
    assert router.wanted["1001"] == {"client_event", "channel.occupied"}
    assert router.wanted["1002"] == {kind for kind in CATALOGUE if kind.startswith("connection.")}
    assert "1003" not in router.wanted
    # nobody is told of it all the same
    assert router.route(event("channel.occupied")) == []


def test_a_replayed_batch_is_never_taken_for_a_live_one() -> None:
    def delivery(number: int, sequence: int, lane: int) -> Delivery:
        return Delivery("1001/backend", sequence, lane, f"evt_{number}", "client_event", 1, b'{"n":%d}' % number)

    batch = endpoint(format="batch")
    live = request(batch, [delivery(1, 1, 0), delivery(2, 2, 0)])
    replay = request(batch, [delivery(1, 1, 4096), delivery(3, 2, 4096)])
    assert live.id != replay.id
    assert replay.id == request(batch, [delivery(1, 1, 4096), delivery(3, 2, 4096)]).id
