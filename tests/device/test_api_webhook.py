"""The webhook side of the HTTP API: what can be asked, in which words, and that nothing is told to strangers."""

from __future__ import annotations

import asyncio
import errno
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from gateway.core.delivery import Outcome, Stage, State
from tests.desk_kit import REFUSED_500, DeskKit, endpoint
from tests.device.served import APP, OTHER, Served, serve, signed
from tests.fake import FakeClock
from tests.patience import LONG_S

BASE = f"/apps/{APP.id}/webhooks"
BACKEND = f"{BASE}/endpoints/backend"
KEY = f"{APP.id}/backend"

ASKING = [
    ("GET", f"{BASE}/events"),
    ("GET", f"{BASE}/snapshot"),
    ("GET", f"{BASE}/events/evt_1"),
    ("GET", f"{BASE}/endpoints"),
    ("GET", f"{BACKEND}/deliveries"),
    ("GET", f"{BACKEND}/dead_letters"),
    ("POST", f"{BACKEND}/test"),
    ("POST", f"{BACKEND}/enable"),
    ("POST", f"{BACKEND}/replay"),
]


@pytest.fixture
def kit() -> DeskKit:
    # the clocks of the site and of the desk are not the same one, and need not be
    kit = DeskKit(endpoint(concurrency=1), endpoint("audit", channels=("room-*",)), clock=FakeClock())
    kit.deliverer.health.clear()
    return kit


@pytest.fixture
async def served(kit: DeskKit) -> AsyncIterator[Served]:
    async with serve(desk=kit.desk) as served:
        yield served


async def refused(served: Served, path: str, body: object = b"", **parameters: str) -> tuple[int, str, str | None]:
    answer = await served.ask("POST" if body != b"" else "GET", path, body, **parameters)
    return answer.status, answer.json["error"], answer.json.get("where")


# -- who may ask


@pytest.mark.parametrize(("method", "path"), ASKING)
async def test_nothing_is_told_or_done_without_a_right_signature(served: Served, kit: DeskKit, method: str, path: str) -> None:
    assert (await served.send(method, path)).status == 401
    other = await served.ask(method, path, app=OTHER)
    assert other.status == 401
    right = served.signed(method, path)
    assert (await served.send(method, right[:-1] + ("0" if right[-1] != "0" else "1"))).status == 401
    assert (await served.send(method, right + "&limit=1")).status == 401
    assert kit.deliverer.tested == []
    assert kit.deliverer.health == {}


@pytest.mark.parametrize(("method", "path"), ASKING)
async def test_the_wrong_method_is_told_the_right_one(served: Served, method: str, path: str) -> None:
    answer = await served.ask("DELETE", path)
    assert answer.status == 405
    assert answer.headers["Allow"].startswith(method)


async def test_an_app_hears_only_of_itself(kit: DeskKit) -> None:
    (event,) = await kit.happen(1)
    other = OTHER.__class__(id=OTHER.id, key=OTHER.key, secret=OTHER.secret)
    async with serve(APP, other, desk=kit.desk) as served:
        base = f"/apps/{other.id}/webhooks"
        assert (await served.ask("GET", f"{base}/events", app=other)).json["events"] == []
        assert (await served.ask("GET", f"{base}/events/{event.id}", app=other)).status == 404
        assert (await served.ask("GET", f"{base}/endpoints/backend/deliveries", app=other)).status == 404
        assert (await served.ask("GET", f"{base}/endpoints", app=other)).json == {"endpoints": []}


# -- receivers


async def test_the_feed(served: Served, kit: DeskKit) -> None:
    events = [*await kit.happen(3), *await kit.happen(1, kind="channel.occupied", name=None)]
    answer = await served.ask("GET", f"{BASE}/events", limit="2")
    assert answer.status == 200
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert [event["id"] for event in answer.json["events"]] == [event.id for event in events[:2]]
    assert answer.json["forgotten"] == 0
    rest = await served.ask("GET", f"{BASE}/events", after=str(answer.json["cursor"]))
    assert [event["id"] for event in rest.json["events"]] == [event.id for event in events[2:]]
    chosen = await served.ask("GET", f"{BASE}/events", event="channel.*,client_event")
    assert [event["event"] for event in chosen.json["events"]] == ["channel.occupied"]
    head = await served.ask("HEAD", f"{BASE}/events")
    assert head.status == 200
    end = str(rest.json["cursor"])
    assert (await served.ask("GET", f"{BASE}/events", after=end)).json == {"events": [], "cursor": int(end), "forgotten": 0}


async def test_a_long_poll_is_answered_by_the_event_it_waits_for(served: Served, kit: DeskKit) -> None:
    waiting = asyncio.create_task(served.ask("GET", f"{BASE}/events", after="latest", wait="50"))
    await kit.until_waiting(1)
    (event,) = await kit.happen(1)
    async with asyncio.timeout(LONG_S):
        answer = await waiting
    assert [one["id"] for one in answer.json["events"]] == [event.id]


async def test_a_client_that_goes_away_leaves_nothing_waiting(served: Served, kit: DeskKit) -> None:
    path = f"{BASE}/events"
    target = signed("GET", path, b"", app=APP, now_s=served.clock.epoch_ms() // 1000, wait="50")
    line = await served.connect()
    await line.send(f"GET {target} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    await kit.until_waiting(1)
    line.writer.close()
    async with asyncio.timeout(LONG_S):
        await kit.until_waiting(0)
        await served.site.stop(5)


async def test_stopping_lets_those_who_wait_go(served: Served, kit: DeskKit) -> None:
    waiting = asyncio.create_task(served.ask("GET", f"{BASE}/events", wait="50"))
    await kit.until_waiting(1)
    async with asyncio.timeout(LONG_S):
        kit.desk.stop()
        assert (await waiting).json["events"] == []


async def test_a_snapshot_is_an_object_of_lists_also_when_nothing_is_open(served: Served) -> None:
    answer = await served.ask("GET", f"{BASE}/snapshot")
    assert answer.json == {"cursor": 0, "connections": [], "subscriptions": [], "channels": [], "members": []}


@pytest.mark.parametrize(
    ("parameters", "where", "sentence"),
    [
        ({"after": "x"}, "after", "must be a whole number"),
        ({"after": "-1"}, "after", "must be a whole number"),
        ({"after": "9" * 30}, "after", "must be a whole number"),
        ({"after": "77"}, "after", "the cursor is ahead of the ledger"),
        ({"limit": "0"}, "limit", "must be from 1 to 1000"),
        ({"limit": "1001"}, "limit", "must be from 1 to 1000"),
        ({"wait": "56"}, "wait", "must be seconds from 0 to 55"),
        ({"wait": "nan"}, "wait", "must be seconds from 0 to 55"),
        ({"event": "channel.ocupied"}, "event", "did you mean 'channel.occupied'"),
        ({"evnt": "x"}, "evnt", 'did you mean "event"?'),
    ],
)
async def test_a_mistaken_question_is_refused_with_its_place(
    served: Served, parameters: dict[str, str], where: str, sentence: str
) -> None:
    status, error, at = await refused(served, f"{BASE}/events", **parameters)
    assert (status, at) == (400, where)
    assert sentence in error


# -- operators


async def test_why(served: Served, kit: DeskKit) -> None:
    (event,) = await kit.happen(1)
    answer = await served.ask("GET", f"{BASE}/events/{event.id}")
    assert [(one["name"], one["matches"]) for one in answer.json["endpoints"]] == [("backend", True), ("audit", False)]
    assert answer.json["endpoints"][1]["left_out_by"] == "channels"
    assert (await served.ask("GET", f"{BASE}/events/evt_%2F..")).status == 404


async def test_endpoints_deliveries_and_dead_letters(served: Served, kit: DeskKit) -> None:
    rooms = await kit.happen(2, channel="room-1")
    orders = await kit.happen(2)
    await kit.settle(KEY, State.DEAD, REFUSED_500, reason="max_attempts")
    listed = (await served.ask("GET", f"{BASE}/endpoints")).json["endpoints"]
    assert [(one["name"], one["dead_letters"], one["backlog"]) for one in listed] == [("backend", 4, 0), ("audit", 0, 2)]
    assert "s3cret" not in json.dumps(listed)
    log = await served.ask("GET", f"{BACKEND}/deliveries", limit="3")
    assert [one["request_id"] for one in log.json["deliveries"]] == [event.id for event in (orders[1], orders[0], rooms[1])]
    rest = await served.ask("GET", f"{BACKEND}/deliveries", before=str(log.json["before"]))
    assert [one["request_id"] for one in rest.json["deliveries"]] == [rooms[0].id]
    dead = await served.ask("GET", f"{BACKEND}/dead_letters", channel="room-*", to="2100-01-01T00:00:00Z")
    assert [one["event_id"] for one in dead.json["dead_letters"]] == [event.id for event in rooms]
    none = await served.ask("GET", f"{BACKEND}/dead_letters", **{"from": "2100-01-01T00:00:00.5+02:00"})
    assert none.json == {"dead_letters": [], "count": 4}


async def test_an_unknown_endpoint(served: Served) -> None:
    for path in (f"{BASE}/endpoints/backnd/deliveries", f"{BASE}/endpoints/backnd/dead_letters"):
        assert await refused(served, path) == (404, 'there is no endpoint "backnd"; did you mean "backend"?', None)
    for verb in ("test", "enable"):
        answer = await served.ask("POST", f"{BASE}/endpoints/%3Cscript%3E/{verb}")
        assert (answer.status, answer.json) == (404, {"error": 'there is no endpoint "<script>"; there are: backend, audit'})


async def test_the_test_button(served: Served, kit: DeskKit) -> None:
    kit.deliverer.outcome = Outcome(Stage.CONNECT, 0.5, error="cannot connect")
    answer = await served.ask("POST", f"{BACKEND}/test")
    assert answer.status == 200
    assert answer.json == {
        "ok": False,
        "event_id": kit.deliverer.tested[0].event_id,
        "stage": "connect",
        "latency_ms": 0.5,
        "error": "cannot connect",
    }


async def test_enable(served: Served, kit: DeskKit) -> None:
    assert (await served.ask("POST", f"{BACKEND}/enable", b"{}")).json == {"name": "backend", "state": "healthy"}


# -- replay


async def replay(served: Served, body: object, name: str = "backend") -> Any:
    answer = await served.ask("POST", f"{BASE}/endpoints/{name}/replay", body)
    assert answer.status == 200, answer.json
    return answer.json


async def test_replay_of_dead_letters_in_steps(served: Served, kit: DeskKit) -> None:
    events = await kit.happen(5)
    await kit.settle(KEY, State.DEAD, REFUSED_500, reason="max_attempts")
    body: dict[str, Any] = {"dead_letters": "all", "limit": 2, "event": ["message.*"], "from": 0}
    replayed = []
    while True:
        answer = await replay(served, body)
        replayed.append(answer["replayed"])
        if answer["resume"] is None:
            break
        body["resume"] = answer["resume"]
    assert replayed == [2, 2, 1]
    assert [one.event_id for one in await kit.replayed(KEY)] == [event.id for event in events]


async def test_replay_by_number_by_id_by_cursor_and_by_time(served: Served, kit: DeskKit) -> None:
    events = await kit.happen(6)
    await kit.settle(KEY, State.DEAD, REFUSED_500, reason="max_attempts")
    numbers = [one["number"] for one in (await served.ask("GET", f"{BACKEND}/dead_letters")).json["dead_letters"]]
    assert (await replay(served, {"dead_letters": [numbers[0]]}))["replayed"] == 1
    assert (await replay(served, {"event_id": events[1].id}))["replayed"] == 1
    # an attempt settles, or the two would be left out as still due
    await kit.settle(KEY, State.DELIVERED, Outcome(Stage.ANSWERED, 1.0, 200))
    cursors = [one["cursor"] for one in (await served.ask("GET", f"{BASE}/events")).json["events"]]
    assert await replay(served, {"after": cursors[1], "until": cursors[3]}) == {"replayed": 2, "left_out": 0, "resume": None}
    await kit.settle(KEY, State.DELIVERED, Outcome(Stage.ANSWERED, 1.0, 200))
    assert (await replay(served, {"from": events[4].at_ms, "to": "2100-01-01 00:00:00Z"}))["replayed"] == 2
    assert [one.event_id for one in await kit.replayed(KEY)] == [event.id for event in events[4:]]
    assert await kit.outbox.count_dead(KEY) == 0


@pytest.mark.parametrize(
    ("body", "where", "sentence"),
    [
        ({}, None, 'name one of "event_id", "dead_letters" and a range'),
        ([], "body", "must be a JSON object"),
        ({"event_id": "x", "dead_letters": "all"}, None, "name one of"),
        ({"event_id": 5}, "event_id", "must be a text"),
        ({"event_id": "x", "limit": 5}, "limit", "cannot be asked here"),
        ({"dead_letters": "some"}, "dead_letters", 'must be "all" or a list'),
        ({"dead_letters": []}, "dead_letters", "must hold from 1 to 1000 numbers"),
        ({"dead_letters": [1, True]}, "dead_letters[1]", "must be a whole number"),
        ({"dead_letters": "all", "after": 5}, "after", "cannot be asked here"),
        ({"dead_letter": "all"}, "dead_letter", 'did you mean "dead_letters"?'),
        ({"after": -1}, "after", "must be a whole number"),
        ({"from": "yesterday"}, "from", "must be a time: RFC 3339"),
        ({"from": "2026-02-30T00:00:00Z"}, "from", "must be a time"),
        ({"from": "2026-01-25T10:00:00"}, "from", "must be a time"),
        ({"after": 0, "limit": 1001}, "limit", "must be from 1 to 1000"),
        ({"after": 0, "event": "message.publishd"}, "event", "did you mean 'message.published'"),
        ({"after": 0, "resume": "dead:1:2"}, "resume", "resume must be"),
        # what a program sends that has no value for it: it must not be taken for a wish to have everything again
        ({"after": None}, None, "name one of"),
        ({"from": None, "until": None}, None, "name one of"),
        ({"event_id": None, "dead_letters": None}, None, "name one of"),
        ({"after": 2, "until": 1}, "until", "must not be before after"),
        ({"from": "2026-01-25T10:00:01Z", "to": "2026-01-25T10:00:00Z"}, "to", "must not be before from"),
        ({"dead_letters": "all", "from": 2, "to": 1}, "to", "must not be before from"),
        ({"after": 4_000}, "after", "the cursor is ahead of the ledger"),
    ],
)
async def test_a_mistaken_replay_is_refused_with_its_place(
    served: Served, kit: DeskKit, body: object, where: str | None, sentence: str
) -> None:
    await kit.happen(1)
    await kit.settle(KEY, State.DEAD, REFUSED_500, reason="max_attempts")
    status, error, at = await refused(served, f"{BACKEND}/replay", body)
    assert (status, at) == (400, where)
    assert sentence in error
    assert await kit.outbox.count_dead(KEY) == 1


async def test_what_is_null_in_a_replay_is_as_if_it_were_not_there(served: Served, kit: DeskKit) -> None:
    await kit.happen(1)
    await kit.settle(KEY, State.DEAD, REFUSED_500, reason="max_attempts")
    body = {"event_id": None, "dead_letters": "all", "after": None, "from": None, "event": None, "limit": None, "resume": None}
    assert (await replay(served, body))["replayed"] == 1


async def test_dead_letters_of_a_time_that_ends_before_it_begins_are_refused(served: Served) -> None:
    status, error, at = await refused(served, f"{BACKEND}/dead_letters", **{"from": "2", "to": "1"})
    assert (status, error, at) == (400, "must not be before from", "to")


async def test_a_body_that_is_no_json_is_refused(served: Served) -> None:
    answer = await served.ask("POST", f"{BACKEND}/replay", b"{")
    assert answer.status == 400
    assert (await served.ask("POST", f"{BACKEND}/replay")).status == 400


async def test_a_disk_at_fault_is_503_without_a_stack_trace(
    served: Served, kit: DeskKit, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(*args: Any, **more: Any) -> Any:
        raise OSError(errno.EIO, "reading failed", "/secret/place")

    kit.outbox.snapshot = broken  # type: ignore[method-assign]
    answer = await served.ask("GET", f"{BASE}/snapshot")
    assert (answer.status, answer.headers["Retry-After"]) == (503, "1")
    assert "/secret/place" not in json.dumps(answer.json)
    assert [record.exc_info for record in caplog.records] == [None]
