"""The desk over an outbox in memory: feed, snapshot, why, dead letters, replay, test."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import orjson
import pytest

from gateway.core.delivery import REPLAY_LANE, Delivery, Outcome, Stage, State
from gateway.core.error import RequestError
from gateway.core.lifecycle import LifecycleEvent, Span, SpanClosed, SpanDeparting, SpanOpened
from gateway.core.retry import RetryPolicy
from gateway.core.webhook import timestamp
from gateway.desk import Selection, answer, snapshot
from gateway.desk.feed import MOST_WAITING
from gateway.desk.replay import MOST_EXAMINED
from gateway.outbox.memory import MemoryOutbox
from gateway.ports import Commit, DeadLetter, Page
from tests.desk_kit import REFUSED_500, DeskKit, FakeHealth, endpoint
from tests.patience import LONG_S

APP = "740213"
KEY = f"{APP}/backend"


async def asked(kit: DeskKit, **more: Any) -> dict[str, Any]:
    return await kit.desk.events(APP, **{"after": 0, "limit": 100, **more})


def ids(answer: dict[str, Any]) -> list[str]:
    return [event["id"] for event in answer["events"]]


# -- feed


async def test_the_feed_is_the_ledger_page_by_page() -> None:
    kit = DeskKit(endpoint())
    events = await kit.happen(5)
    first = await asked(kit, limit=2)
    second = await asked(kit, limit=2, after=first["cursor"])
    third = await asked(kit, limit=2, after=second["cursor"])
    assert [*ids(first), *ids(second), *ids(third)] == [event.id for event in events]
    assert await asked(kit, after=third["cursor"]) == {"events": [], "cursor": third["cursor"], "forgotten": 0}
    told = first["events"][0]
    assert told.pop("cursor") < first["events"][1]["cursor"]
    # the envelope without what belongs to an endpoint, in the same order
    envelope = json.loads(kit.router.render(KEY, events[0], 1).envelope)
    assert envelope.pop("metadata")
    assert list(told.items()) == list(envelope.items())


async def test_the_feed_can_be_of_some_kinds_and_only_of_what_is_to_come() -> None:
    kit = DeskKit(endpoint())
    await kit.happen(3)
    (wanted,) = await kit.happen(1, kind="client_event")
    answer = await asked(kit, kinds=frozenset({"client_event"}))
    assert ids(answer) == [wanted.id]
    latest = await asked(kit, after=None)
    assert latest["events"] == []
    (later,) = await kit.happen(1)
    assert ids(await asked(kit, after=latest["cursor"])) == [later.id]


async def test_a_cursor_of_another_ledger_is_refused() -> None:
    kit = DeskKit(endpoint())
    await kit.happen(3)
    with pytest.raises(RequestError, match="400: the cursor is ahead of the ledger"):
        await asked(kit, after=4_000)


async def test_who_waits_is_woken_by_the_commit() -> None:
    kit = DeskKit(endpoint())
    waiting = asyncio.create_task(asked(kit, wait_s=50))
    await kit.until_waiting(1)
    async with asyncio.timeout(LONG_S):
        (event,) = await kit.happen(1)
        assert ids(await waiting) == [event.id]
    assert kit.desk.waiting == 0


async def test_what_is_not_asked_for_wakes_nobody() -> None:
    kit = DeskKit(endpoint())
    reads = 0
    feed = kit.outbox.feed

    async def counted(*args: Any, **more: Any) -> Any:
        nonlocal reads
        reads += 1
        return await feed(*args, **more)

    kit.outbox.feed = counted  # type: ignore[method-assign]
    waiting = asyncio.create_task(asked(kit, wait_s=50, kinds=frozenset({"client_event"})))
    await kit.until_waiting(1)
    await kit.happen(20)
    await kit.record(SpanClosed("740214", "channel", "x"))
    assert not waiting.done()
    (event,) = await kit.happen(1, kind="client_event")
    async with asyncio.timeout(LONG_S):
        assert ids(await waiting) == [event.id]
    assert reads == 2


async def test_a_commit_between_looking_and_waiting_is_not_missed() -> None:
    kit = DeskKit(endpoint())
    feed = kit.outbox.feed

    async def slow(*args: Any, **more: Any) -> Any:
        page = await feed(*args, **more)
        kit.outbox.feed = feed  # type: ignore[method-assign]
        await kit.happen(1)
        return page

    kit.outbox.feed = slow  # type: ignore[method-assign]
    async with asyncio.timeout(LONG_S):
        assert len((await asked(kit, wait_s=50))["events"]) == 1


async def test_the_wait_ends_and_the_cursor_has_passed_what_was_left_out() -> None:
    kit = DeskKit(endpoint())
    await kit.happen(3)
    answer = await asked(kit, wait_s=0.01, kinds=frozenset({"client_event"}))
    assert answer["events"] == []
    assert answer["cursor"] == (await asked(kit))["cursor"]
    assert kit.desk.waiting == 0


async def test_a_look_that_goes_only_so_far_is_followed_by_the_next() -> None:
    kit = DeskKit(endpoint())
    await kit.happen(9)
    (wanted,) = await kit.happen(1, kind="client_event")
    feed = kit.outbox.feed

    async def short_sighted(app_id: str, *, after: int, limit: int, kinds: frozenset[str] | None = None) -> Page:
        page = await feed(app_id, after=after, limit=3)
        found = tuple(entry for entry in page.entries if kinds is None or entry.event.kind in kinds)
        return Page(found, page.cursor, page.forgotten)

    kit.outbox.feed = short_sighted  # type: ignore[method-assign]
    async with asyncio.timeout(LONG_S):
        assert ids(await asked(kit, wait_s=50, kinds=frozenset({"client_event"}))) == [wanted.id]


async def test_waiting_is_bounded_and_leaves_nothing_behind() -> None:
    kit = DeskKit(endpoint())
    tasks = [asyncio.create_task(asked(kit, wait_s=50)) for _ in range(MOST_WAITING)]
    await kit.until_waiting(MOST_WAITING)
    with pytest.raises(RequestError, match="429"):
        await asked(kit, wait_s=50)
    tasks.pop().cancel()
    await asyncio.sleep(0)
    await kit.until_waiting(MOST_WAITING - 1)
    tasks.append(asyncio.create_task(asked(kit, wait_s=50)))
    await kit.until_waiting(MOST_WAITING)
    # stopping lets all go, and nobody waits any more
    kit.desk.stop()
    async with asyncio.timeout(LONG_S):
        assert [answer["events"] for answer in await asyncio.gather(*tasks)] == [[]] * MOST_WAITING
        assert (await asked(kit, wait_s=50))["events"] == []
    assert kit.desk.waiting == 0


# -- snapshot


async def test_a_snapshot_tells_what_is_open() -> None:
    kit = DeskKit(endpoint())
    facts = {"remote_ip": "::1", "user_agent": "x"}
    await kit.record(
        SpanOpened(Span(APP, "connection", "1.2", "spn_1", 1_000, facts)),
        SpanOpened(Span(APP, "channel", "presence-cache-a", "spn_2", 2_000)),
        SpanOpened(Span(APP, "member", "presence-cache-a\nada", "spn_3", 3_000)),
        SpanOpened(Span(APP, "subscription", "presence-cache-a\n1.2", "spn_4", 4_000, {"user_id": "ada"})),
        SpanDeparting(APP, "member", "presence-cache-a\nada", 9_000),
        SpanOpened(Span("740214", "connection", "1.3", "spn_5", 5_000)),
    )
    (event,) = await kit.happen(1)
    told = orjson.loads(orjson.dumps(await kit.desk.snapshot(APP)))
    cursor = told.pop("cursor")
    assert (await asked(kit))["cursor"] == cursor
    assert told == {
        "connections": [{**facts, "socket_id": "1.2", "span": "spn_1", "opened_at": timestamp(1_000)}],
        "channels": [
            {
                "channel": "presence-cache-a",
                "type": "presence",
                "cache": True,
                "span": "spn_2",
                "opened_at": timestamp(2_000),
            }
        ],
        "members": [
            {
                "channel": "presence-cache-a",
                "user_id": "ada",
                "span": "spn_3",
                "opened_at": timestamp(3_000),
                "departs_at": timestamp(9_000),
            }
        ],
        "subscriptions": [{"channel": "presence-cache-a", "socket_id": "1.2", "user_id": "ada", "opened_at": timestamp(4_000)}],
    }
    assert (await asked(kit, after=cursor))["events"] == []
    assert event.id in ids(await asked(kit))


async def test_others_get_their_turn_while_a_large_snapshot_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshot, "_AT_ONCE", 10)
    kit = DeskKit(endpoint())
    kinds = [("connection", "{0}.1"), ("channel", "room-{0}"), ("subscription", "room-{0}\n{0}.1")]
    spans = [Span(APP, kind, key.format(number), f"spn_{number}", number) for number in range(35) for kind, key in kinds]
    await kit.record(*map(SpanOpened, spans))
    written = 0
    most = 0
    one = answer.span

    def counted(span: Span) -> dict[str, Any]:
        nonlocal written
        written += 1
        return one(span)

    async def others() -> None:
        nonlocal written, most
        while True:
            most, written = max(most, written), 0
            await asyncio.sleep(0)

    monkeypatch.setattr(answer, "span", counted)
    beside = asyncio.create_task(others())
    told = orjson.loads(orjson.dumps(await kit.desk.snapshot(APP)))
    beside.cancel()
    assert most == 10
    assert {kind: len(some) for kind, some in told.items() if kind != "cursor"} == {
        "connections": 35,
        "channels": 35,
        "subscriptions": 35,
        "members": 0,
    }
    assert sorted(span["opened_at"] for span in told["channels"]) == [timestamp(number) for number in range(35)]


# -- endpoints


async def test_endpoints_tell_how_they_are_without_secrets() -> None:
    kit = DeskKit(endpoint(), endpoint("audit"), endpoint("foreign", app_id="740214"))
    await kit.happen(3)
    await kit.settle(KEY, State.DEAD, REFUSED_500, reason="max_attempts")
    last = Outcome(Stage.TIMEOUT, 2000.04, error="no answer within 2 s")
    kit.deliverer.health[KEY] = FakeHealth("disabled", "it answered 410", 1, 2, 3, last, 5_000)
    answer = await kit.desk.endpoints(APP)
    backend, audit = answer["endpoints"]
    assert backend["name"] == "backend"
    assert backend["url"] == "http://127.0.0.1:9/backend?..."
    assert (backend["state"], backend["why"], backend["failures"]) == ("disabled", "it answered 410", 3)
    assert (backend["backlog"], backend["dead_letters"]) == (0, 3)
    assert "oldest_at" not in backend
    assert backend["last"] == {
        "at": timestamp(5_000),
        "stage": "timeout",
        "latency_ms": 2000.0,
        "error": "no answer within 2 s",
    }
    assert (audit["name"], audit["state"], audit["backlog"], audit["dead_letters"]) == ("audit", "healthy", 3, 0)
    assert audit["oldest_age_ms"] == 3_000
    assert "s3cret" not in json.dumps(answer)


async def test_an_unknown_endpoint_is_refused_with_the_nearest_names() -> None:
    kit = DeskKit(endpoint(), endpoint("audit"), endpoint("elsewhere", app_id="740214"))
    with pytest.raises(RequestError, match='404: there is no endpoint "backnd"; did you mean "backend"') as refused:
        await kit.desk.deliveries(APP, "backnd", before=None, limit=10)
    assert refused.value.status == 404
    with pytest.raises(RequestError, match=r"there are: backend, audit$"):
        await kit.desk.test(APP, "elsewhere")
    with pytest.raises(RequestError, match="the app has none"):
        await kit.desk.enable("1", "backend")


async def test_enable() -> None:
    kit = DeskKit(endpoint())
    kit.deliverer.health[KEY] = FakeHealth("disabled")
    assert await kit.desk.enable(APP, "backend") == {"name": "backend", "state": "healthy"}


# -- why


async def test_why_names_the_filter_for_each_endpoint() -> None:
    kit = DeskKit(
        endpoint(),
        endpoint("kinds", events=("channel.*",)),
        endpoint("channels", channels=("room-*",)),
        endpoint("not-channels", exclude_channels=("ord*",)),
        endpoint("names", event_names=("deleted",)),
        endpoint("not-names", exclude_event_names=("cre*",)),
        endpoint("pusher", format="pusher"),
        endpoint("foreign", app_id="740214"),
    )
    (event,) = await kit.happen(1)
    answer = await kit.desk.why(APP, event.id)
    assert answer["event"]["id"] == event.id
    found = {one["name"]: one for one in answer["endpoints"]}
    assert {name: one.get("left_out_by") for name, one in found.items()} == {
        "backend": None,
        "kinds": "events",
        "channels": "channels",
        "not-channels": "exclude_channels",
        "names": "event_names",
        "not-names": "exclude_event_names",
        "pusher": "format",
    }
    assert [one["matches"] for one in answer["endpoints"]] == [True] + [False] * 6
    (delivery,) = found["backend"]["deliveries"]
    assert delivery.pop("request")["headers"]["X-Webhook-Id"] == event.id
    lane = kit.router.render(KEY, event, 1).lane
    assert delivery == {"state": "due", "lane": lane, "replay": False, "sequence": 1, "attempts": []}
    assert found["kinds"]["deliveries"] == []


async def test_why_tells_each_attempt_also_at_an_endpoint_that_is_gone() -> None:
    kit = DeskKit(endpoint(), endpoint("audit"))
    (event,) = await kit.happen(1)
    retry_at = kit.clock.epoch_ms() + 5_000
    await kit.settle(KEY, State.DUE, REFUSED_500, due_at_ms=retry_at)
    kit.clock.move(5)
    await kit.settle(KEY, State.DELIVERED, Outcome(Stage.ANSWERED, 3.0, 204))
    kit.configure(endpoint("audit"))
    answer = await kit.desk.why(APP, event.id)
    assert [one["name"] for one in answer["endpoints"]] == ["audit", "backend"]
    gone = answer["endpoints"][1]
    assert gone["removed"] is True
    (delivery,) = gone["deliveries"]
    assert (delivery["state"], delivery["sequence"]) == ("delivered", 1)
    first, second = delivery["attempts"]
    assert (first["attempt"], first["status"], first["body"], first["state"]) == (1, 500, "no \ufffd", "due")
    assert first["next_attempt_at"] == timestamp(retry_at)
    assert (second["attempt"], second["status"], second["state"]) == (2, 204, "delivered")
    assert first["number"] < second["number"]


async def test_why_of_an_event_that_is_not_there() -> None:
    kit = DeskKit(endpoint())
    with pytest.raises(RequestError, match="404: event 'evt_0' is not in the ledger"):
        await kit.desk.why(APP, "evt_0")


# -- lists


async def test_the_delivery_log_is_paged_newest_first() -> None:
    kit = DeskKit(endpoint(concurrency=1))
    events = await kit.happen(5)
    await kit.settle(KEY, State.DELIVERED, Outcome(Stage.ANSWERED, 3.0, 200))
    first = await kit.desk.deliveries(APP, "backend", before=None, limit=3)
    second = await kit.desk.deliveries(APP, "backend", before=first["before"], limit=3)
    assert "before" not in second
    told = first["deliveries"] + second["deliveries"]
    assert [one["request_id"] for one in told] == [event.id for event in reversed(events)]
    assert [one["number"] for one in told] == sorted((one["number"] for one in told), reverse=True)


async def test_a_page_of_dead_letters_reads_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    kit = DeskKit(endpoint(concurrency=1))
    await kit.happen(30)
    await kit.settle(KEY, State.DEAD, REFUSED_500, reason="max_attempts")
    read: list[int] = []
    dead = kit.outbox.dead

    async def noted(*args: Any, limit: int, **more: Any) -> Any:
        read.append(limit)
        return await dead(*args, limit=limit, **more)

    monkeypatch.setattr(kit.outbox, "dead", noted)
    after: int | None = 0
    told: list[int] = []
    while after is not None:
        page = await kit.desk.dead_letters(APP, "backend", Selection(), after=after, limit=10)
        told += [one["number"] for one in page["dead_letters"]]
        after = page.get("after")
    assert len(told) == len(set(told)) == 30
    assert read == [11, 11, 11, 1], "a page that is shorter than it could be may have been cut"


async def test_dead_letters_are_paged_oldest_first_and_can_be_selected() -> None:
    kit = DeskKit(endpoint(concurrency=1))
    start_ms = kit.clock.epoch_ms()
    rooms = await kit.happen(3, channel="room-1")
    (client,) = await kit.happen(1, kind="client_event", channel="room-2")
    orders = await kit.happen(2)
    await kit.settle(KEY, State.DEAD, REFUSED_500, reason="max_attempts")

    async def letters(selection: Selection = Selection(), after: int = 0, limit: int = 100) -> dict[str, Any]:  # noqa: B008
        return await kit.desk.dead_letters(APP, "backend", selection, after=after, limit=limit)

    def events_of(answer: dict[str, Any]) -> list[str]:
        return [one["event_id"] for one in answer["dead_letters"]]

    first = await letters(limit=4)
    assert first["count"] == 6
    second = await letters(limit=4, after=first["after"])
    assert "after" not in second
    assert events_of(first) + events_of(second) == [event.id for event in (*rooms, client, *orders)]
    one = first["dead_letters"][0]
    assert (one["reason"], one["attempts"], one["status"]) == ("max_attempts", 1, 500)
    assert one["envelope"]["metadata"]["sequence"] == 1
    assert events_of(await letters(Selection(channel="room-*"))) == [event.id for event in (*rooms, client)]
    assert events_of(await letters(Selection(kinds=frozenset({"client_event"})))) == [client.id]
    assert events_of(await letters(Selection(from_ms=start_ms + 1_000, to_ms=start_ms + 3_000))) == [
        event.id for event in (*rooms[1:], client)
    ]


# -- replay


async def test_all_dead_letters_are_sent_again_in_steps_as_they_were() -> None:
    kit = DeskKit(endpoint(concurrency=1))
    events = await kit.happen(25)
    dead = await kit.settle(KEY, State.DEAD, REFUSED_500, reason="max_attempts")
    resume, counts = None, []
    while True:
        answer = await kit.desk.replay_all_letters(APP, "backend", Selection(), limit=10, resume=resume)
        counts.append(answer["replayed"])
        resume = answer["resume"]
        if resume is None:
            break
    assert counts == [10, 10, 5]
    replayed = await kit.replayed(KEY)
    assert [one.event_id for one in replayed] == [event.id for event in events]
    assert [one.envelope for one in replayed] == [one.envelope for one in dead]
    assert {one.lane for one in replayed} == {REPLAY_LANE}
    assert kit.deliverer.woken == [(KEY, REPLAY_LANE)] * 3
    assert (await kit.desk.endpoints(APP))["endpoints"][0]["dead_letters"] == 0


async def test_what_dies_again_while_a_replay_runs_is_not_replayed_for_ever() -> None:
    kit = DeskKit(endpoint(concurrency=1))
    await kit.happen(20)
    await kit.settle(KEY, State.DEAD, REFUSED_500, reason="max_attempts")
    resume, replayed, steps = None, 0, 0
    while steps == 0 or resume is not None:
        answer = await kit.desk.replay_all_letters(APP, "backend", Selection(), limit=7, resume=resume)
        replayed, resume, steps = replayed + answer["replayed"], answer["resume"], steps + 1
        await kit.settle(KEY, State.DEAD, REFUSED_500, reason="max_attempts")
        assert steps < 10
    assert (replayed, steps) == (20, 3)
    assert await kit.outbox.count_dead(KEY) == 20


async def test_some_dead_letters_by_selection_and_by_number() -> None:
    kit = DeskKit(endpoint(concurrency=1))
    rooms = await kit.happen(2, channel="room-1")
    orders = await kit.happen(3)
    await kit.settle(KEY, State.DEAD, REFUSED_500, reason="max_attempts")
    answer = await kit.desk.replay_all_letters(APP, "backend", Selection(channel="room-*"), limit=100)
    assert answer == {"replayed": 2, "left_out": 0, "resume": None}
    assert [one.event_id for one in await kit.replayed(KEY)] == [event.id for event in rooms]
    listed = await kit.desk.dead_letters(APP, "backend", Selection(), after=0, limit=100)
    numbers = [one["number"] for one in listed["dead_letters"]]
    answer = await kit.desk.replay_letters(APP, "backend", [numbers[2], numbers[0], 99_999])
    assert answer == {"replayed": 2, "left_out": 0, "resume": None, "missing": [99_999]}
    assert [one.event_id for one in await kit.replayed(KEY)][2:] == [orders[0].id, orders[2].id]
    with pytest.raises(RequestError, match="404"):
        await kit.desk.replay_letters(APP, "backend", [numbers[0]])


class Narrow(MemoryOutbox):
    """Gives out three at once, as if they were large."""

    async def dead(self, endpoint: str, *, after: int = 0, limit: int = 100) -> Sequence[tuple[int, DeadLetter]]:
        return await super().dead(endpoint, after=after, limit=min(limit, 3))


async def test_dead_letters_that_come_in_short_pages_are_listed_to_the_end_and_sent_again() -> None:
    kit = DeskKit(endpoint(concurrency=1), outbox=Narrow(capacity=100))
    events = await kit.happen(8)
    await kit.settle(KEY, State.DEAD, REFUSED_500, reason="max_attempts")
    after: int | None = 0
    listed: list[str] = []
    while after is not None:
        page = await kit.desk.dead_letters(APP, "backend", Selection(), after=after, limit=100)
        listed += [one["event_id"] for one in page["dead_letters"]]
        after = page.get("after")
    assert listed == [event.id for event in events]
    resume, replayed = None, 0
    while not replayed or resume is not None:
        answer = await kit.desk.replay_all_letters(APP, "backend", Selection(), limit=100, resume=resume)
        replayed, resume = replayed + answer["replayed"], answer["resume"]
    assert replayed == len(events)


async def test_large_dead_letters_that_are_sent_again_by_number_are_not_written_all_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kit = DeskKit(endpoint(concurrency=1))
    events = await kit.happen(5)
    dead = await kit.settle(KEY, State.DEAD, REFUSED_500, reason="max_attempts")
    monkeypatch.setattr("gateway.desk.replay.MOST_AT_ONCE", len(dead[0].envelope) + 1)
    put: list[int] = []
    replay = kit.outbox.replay

    async def noted(endpoint: str, deliveries: Sequence[Delivery]) -> None:
        put.append(len(deliveries))
        await replay(endpoint, deliveries)

    monkeypatch.setattr(kit.outbox, "replay", noted)
    numbers = [number for number, _ in await kit.outbox.dead(KEY)]
    answer = await kit.desk.replay_letters(APP, "backend", numbers)
    assert (answer["replayed"], put) == (5, [2, 2, 1])
    assert [one.event_id for one in await kit.replayed(KEY)] == [event.id for event in events]


async def test_one_event_keeps_envelope_and_sequence() -> None:
    kit = DeskKit(endpoint(concurrency=1), endpoint("bare", include_payload=False))
    await kit.happen(2)
    (event,) = await kit.happen(1)
    originals = {one.event_id: one for one in await kit.settle(KEY, State.DELIVERED, Outcome(Stage.ANSWERED, 1.0, 200))}
    bare = {one.event_id: one for one in await kit.settle(f"{APP}/bare", State.DELIVERED, Outcome(Stage.ANSWERED, 1.0, 200))}
    for _ in range(2):
        answer = await kit.desk.replay_event(APP, "backend", event.id)
        assert answer == {"replayed": 1, "left_out": 0, "resume": None}
        (again,) = await kit.settle(KEY, State.DELIVERED, Outcome(Stage.ANSWERED, 1.0, 200))
        assert again.envelope == originals[event.id].envelope
        assert b'"sequence":3' in again.envelope
    await kit.desk.replay_event(APP, "bare", event.id)
    assert [one.envelope for one in await kit.replayed(f"{APP}/bare")] == [bare[event.id].envelope]
    # and no number was used up
    assert kit.sequences[KEY] == 3
    replays = (await kit.desk.why(APP, event.id))["endpoints"][0]["deliveries"]
    assert [one["replay"] for one in replays] == [False, True, True]
    assert "sequence" not in replays[1]


async def test_an_event_that_cannot_be_replayed_is_refused_with_the_reason() -> None:
    kit = DeskKit(endpoint(), endpoint("rooms", channels=("room-*",)))
    (event,) = await kit.happen(1)
    with pytest.raises(RequestError, match=r"409: .* it is still due to this endpoint"):
        await kit.desk.replay_event(APP, "backend", event.id)
    with pytest.raises(RequestError, match=r"409: .* never due to this endpoint, whose `channels` leaves it out"):
        await kit.desk.replay_event(APP, "rooms", event.id)
    with pytest.raises(RequestError, match="404"):
        await kit.desk.replay_event(APP, "backend", "evt_0")


async def test_what_was_never_due_is_sent_outside_of_the_sequence_always_the_same() -> None:
    kit = DeskKit(endpoint())
    (event,) = await kit.happen(1)
    kit.configure(endpoint(), endpoint("newcomer"))
    for _ in range(2):
        await kit.desk.replay_event(APP, "newcomer", event.id)
        await kit.settle(f"{APP}/newcomer", State.DELIVERED, Outcome(Stage.ANSWERED, 1.0, 200))
    await kit.desk.replay_event(APP, "newcomer", event.id)
    (again,) = await kit.replayed(f"{APP}/newcomer")
    assert json.loads(again.envelope)["metadata"] == {"webhook_id": "newcomer", "sequence": 0, "node": "gw-1"}
    assert f"{APP}/newcomer" not in kit.sequences


async def test_an_event_about_one_endpoint_is_nobody_else_s() -> None:
    kit = DeskKit(endpoint(), endpoint("audit"))
    data = {"endpoint": "backend", "count": 3, "first_sequence": 1, "last_sequence": 3}
    now_ms = kit.clock.epoch_ms()
    told = LifecycleEvent("evt_dropped", "webhook.events_dropped", APP, now_ms, f"{APP}/endpoint/backend", data)
    await kit.outbox.append(Commit((told,), (kit.router.route_to(KEY, told),)))
    answer = await kit.desk.why(APP, told.id)
    assert [(one["name"], one.get("left_out_by")) for one in answer["endpoints"]] == [("backend", None), ("audit", "subject")]
    replayed = await kit.desk.replay_range(APP, "audit", Selection(), limit=10, after=0)
    assert replayed == {"replayed": 0, "left_out": 1, "resume": None}


async def test_a_range_by_cursor() -> None:
    kit = DeskKit(endpoint(concurrency=1), endpoint("rooms", channels=("room-*",)))
    events = []
    for number in range(30):
        events += await kit.happen(1, channel="room-1" if number % 3 == 0 else "orders")
    await kit.settle(KEY, State.DELIVERED, Outcome(Stage.ANSWERED, 1.0, 200))
    cursors = [one["cursor"] for one in (await asked(kit))["events"]]
    resume, counts = None, []
    while True:
        answer = await kit.desk.replay_range(
            APP, "backend", Selection(), limit=4, after=cursors[4], until=cursors[14], resume=resume
        )
        counts.append(answer["replayed"])
        resume = answer["resume"]
        if resume is None:
            break
    assert sum(counts) == 10
    assert max(counts) == 4
    assert [one.event_id for one in await kit.replayed(KEY)] == [event.id for event in events[5:15]]
    # what is still due is left out, what was never meant for the endpoint too
    answer = await kit.desk.replay_range(APP, "rooms", Selection(), limit=1000, after=0)
    assert answer == {"replayed": 0, "left_out": 30, "resume": None}


async def test_a_range_by_time_is_found_without_reading_everything() -> None:
    kit = DeskKit(endpoint(concurrency=1))
    events = []
    for _ in range(2_500):
        event = kit.event()
        events.append(event)
        kit.clock.move(1)
    await kit.record(*events)
    await kit.settle(KEY, State.DELIVERED, Outcome(Stage.ANSWERED, 1.0, 200))
    reads = []
    feed = kit.outbox.feed

    async def counted(app_id: str, **more: Any) -> Any:
        page = await feed(app_id, **more)
        reads.append(len(page.entries))
        return page

    kit.outbox.feed = counted  # type: ignore[method-assign]
    selection = Selection(from_ms=events[2_300].at_ms, to_ms=events[2_319].at_ms, channel="orders")
    answer = await kit.desk.replay_range(APP, "backend", selection, limit=100)
    assert answer == {"replayed": 20, "left_out": 0, "resume": None}
    assert [one.event_id for one in await kit.replayed(KEY)] == [event.id for event in events[2_300:2_320]]
    assert sum(reads) < 700


async def test_a_range_does_not_go_beyond_what_was_there_and_steps_are_bounded() -> None:
    kit = DeskKit(endpoint(concurrency=1, retry=RetryPolicy()))
    await kit.record(*[kit.event(kind="client_event") for _ in range(MOST_EXAMINED + 10)])
    await kit.settle(KEY, State.DELIVERED, Outcome(Stage.ANSWERED, 1.0, 200))
    nothing = Selection(channel="nowhere")
    answer = await kit.desk.replay_range(APP, "backend", nothing, limit=1000, after=0)
    assert answer["replayed"] == 0
    assert answer["resume"] is not None
    await kit.record(*[kit.event(channel="nowhere") for _ in range(3)])
    await kit.settle(KEY, State.DELIVERED, Outcome(Stage.ANSWERED, 1.0, 200))
    answer = await kit.desk.replay_range(APP, "backend", nothing, limit=1000, after=0, resume=answer["resume"])
    assert answer == {"replayed": 0, "left_out": 0, "resume": None}


async def test_a_full_outbox_and_a_foreign_mark_are_refused() -> None:
    kit = DeskKit(endpoint())
    await kit.happen(1)
    await kit.settle(KEY, State.DEAD, REFUSED_500, reason="max_attempts")
    with pytest.raises(RequestError, match="400: resume must be"):
        await kit.desk.replay_all_letters(APP, "backend", Selection(), limit=10, resume="range:1:2")
    with pytest.raises(RequestError, match="400: resume must be"):
        await kit.desk.replay_range(APP, "backend", Selection(), limit=10, resume="range:1")
    await kit.outbox.append(Commit(deliveries=tuple(kit.router.route(kit.event())[0] for _ in range(10_000))))
    with pytest.raises(RequestError, match="503: the outbox is full"):
        await kit.desk.replay_all_letters(APP, "backend", Selection(), limit=10)
    assert await kit.outbox.count_dead(KEY) == 1


# -- test


async def test_a_test_webhook_is_outside_of_everything() -> None:
    kit = DeskKit(endpoint())
    answer = await kit.desk.test(APP, "backend")
    (sent,) = kit.deliverer.tested
    assert answer == {
        "ok": True,
        "event_id": sent.event_id,
        "stage": "answered",
        "status": 200,
        "latency_ms": 1.2,
        "body": "fine",
    }
    envelope = json.loads(sent.envelope)
    assert envelope["event"] == "webhook.test"
    assert envelope["metadata"]["sequence"] == 0
    assert kit.sequences == {}
    assert (await asked(kit))["events"] == []
    kit.deliverer.outcome = REFUSED_500
    answer = await kit.desk.test(APP, "backend")
    assert (answer["ok"], answer["status"], answer["body"]) == (False, 500, "no \ufffd")


async def test_one_test_of_an_endpoint_at_a_time() -> None:
    kit = DeskKit(endpoint(), endpoint("audit"))
    let_go = asyncio.Event()

    async def slow(delivery: Any) -> Outcome:
        await let_go.wait()
        return kit.deliverer.outcome

    kit.deliverer.test = slow  # type: ignore[method-assign]
    first = asyncio.create_task(kit.desk.test(APP, "backend"))
    other = asyncio.create_task(kit.desk.test(APP, "audit"))
    await asyncio.sleep(0)
    with pytest.raises(RequestError, match="429"):
        await kit.desk.test(APP, "backend")
    let_go.set()
    assert (await first)["ok"]
    assert (await other)["ok"]
    assert (await kit.desk.test(APP, "backend"))["ok"]
