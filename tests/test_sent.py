"""What was sent, made again: byte for byte what was sent, or a sentence why not."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.core import signing
from gateway.core.delivery import REPLAY_LANE, Outcome, Request, Stage, State
from gateway.core.error import RequestError
from gateway.core.format import FORMATS
from gateway.core.webhook import request
from gateway.outbox import memory_ledger
from gateway.ports import Page
from tests.desk_kit import REFUSED_500, DeskKit, endpoint

APP = "740213"
KEY = f"{APP}/backend"
FINE = Outcome(Stage.ANSWERED, 3.0, 200)
ALL = ("channel.*", "client_event", "message.*")


def kit_of(format_: str = "event", **settings: Any) -> DeskKit:
    signer = {"pusher_key": "app-key", "pusher_secret": "s3cret-app"} if FORMATS[format_].needs_app else {}
    return DeskKit(endpoint(format=format_, events=ALL, **{"concurrency": 2, **settings}, **signer))


async def attempt(kit: DeskKit, lane: int, limit: int = 100, state: State = State.DELIVERED) -> tuple[Request, int, int] | None:
    """Make one attempt at the head of a lane; return what was sent, the number of the attempt at it, and when."""
    claim = await kit.outbox.claim(KEY, lane, limit)
    if claim is None:
        return None
    at_ms = kit.clock.epoch_ms()
    made = request(kit.endpoints[KEY], claim.deliveries, at_ms)
    first_at_ms = claim.first_at_ms or at_ms
    await kit.outbox.settle(made.settlement(claim.attempts + 1, at_ms, first_at_ms, state, FINE))
    return made, claim.attempts + 1, at_ms


def expected(kit: DeskKit, sent: tuple[Request, int, int]) -> dict[str, Any]:
    made, number, at_ms = sent
    one = kit.endpoints[KEY]
    headers = signing.headers(one, made, attempt=number, now_s=at_ms // 1000, user_agent="RawPush/test")
    headers |= dict.fromkeys(one.headers, "***")
    return {"method": "POST", "url": "http://127.0.0.1:9/backend?...", "headers": headers, "body": made.body.decode()}


async def newest(kit: DeskKit) -> dict[str, Any]:
    """Return what is told of the newest attempt."""
    (made,) = (await kit.desk.deliveries(APP, "backend", before=None, limit=1))["deliveries"]
    told = await kit.desk.request(APP, "backend", made["number"])
    assert "s3cret" not in json.dumps(told)
    found: dict[str, Any] = told.pop("request")
    assert told == made
    return found


@pytest.mark.parametrize("format_", FORMATS)
async def test_it_is_what_was_sent_whatever_the_format(format_: str) -> None:
    kit = kit_of(format_, headers={"X-Token": "s3cret", "X-Tenant": "7"})
    # in two lanes, so that neither holds a piece of the sequence without gaps
    for number in range(40):
        await kit.happen(1, kind="client_event", channel=f"room-{number % 7}")
    batches = FORMATS[format_].several == format_
    seen = 0
    for lane in (0, 1):
        limit = 5
        while (sent := await attempt(kit, lane, limit if batches else 1)) is not None:
            assert await newest(kit) == expected(kit, sent)
            kit.clock.move(400)
            seen += 1
            limit += 3
    assert seen > 3


async def test_a_later_attempt_has_its_own_number_and_time() -> None:
    kit = kit_of()
    await kit.happen(1)
    for number in (1, 2, 3):
        (sent,) = [sent for lane in (0, 1) if (sent := await attempt(kit, lane, state=State.DUE)) is not None]
        assert sent[1] == number
        assert await newest(kit) == expected(kit, sent)
        kit.clock.move(60)


async def test_a_batch_that_waited_long_is_found_behind_all_that_came_later() -> None:
    kit = kit_of("batch", concurrency=1)
    await kit.happen(3)
    sent = await attempt(kit, 0, 3)
    assert sent is not None
    kit.clock.move(3600)
    await kit.happen(3_000)
    assert await newest(kit) == expected(kit, sent)


async def test_a_batch_of_events_so_large_that_a_page_holds_few_is_found_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    kit = kit_of("batch", concurrency=1)
    await kit.happen(8)
    sent = await attempt(kit, 0)
    assert sent is not None
    feed = kit.outbox.feed

    async def narrow(app_id: str, *, after: int, limit: int, kinds: frozenset[str] | None = None) -> Page:
        return await feed(app_id, after=after, limit=min(limit, 3), kinds=kinds)

    monkeypatch.setattr(kit.outbox, "feed", narrow)
    assert await newest(kit) == expected(kit, sent)


async def test_replays_of_one_event_are_told_and_of_a_batch_not() -> None:
    kit = kit_of()
    events = await kit.happen(2)
    await kit.settle(KEY, State.DELIVERED, FINE)
    await kit.desk.replay_event(APP, "backend", events[1].id)
    sent = await attempt(kit, REPLAY_LANE, 1)
    assert sent is not None
    assert json.loads(sent[0].body)["metadata"]["sequence"] == 2
    assert await newest(kit) == expected(kit, sent)
    kit = kit_of("batch")
    events = await kit.happen(2)
    await kit.settle(KEY, State.DELIVERED, FINE)
    await kit.desk.replay_event(APP, "backend", events[1].id)
    assert await attempt(kit, REPLAY_LANE) is not None
    assert "replay lane" in (await newest(kit))["unknown"]


async def test_what_cannot_be_told_is_said() -> None:
    kit = kit_of(concurrency=1)
    await kit.happen(1)
    await kit.settle(KEY, State.DELIVERED, FINE)
    before = kit.endpoints[KEY]
    kit.configure(endpoint(format="batch", concurrency=1))
    assert "have been changed" in (await newest(kit))["unknown"]
    kit.configure(before)
    await kit.happen(1)
    claim = await kit.outbox.claim(KEY, 0, 1)
    assert claim is not None
    one = request(before, claim.deliveries)
    await kit.outbox.settle(kit.settlement(one.id, claim.deliveries, 0, State.DEAD, None, reason="max_age"))
    assert "without an attempt" in (await newest(kit))["unknown"]


async def test_lanes_that_were_cut_otherwise_are_noticed() -> None:
    kit = kit_of("batch", concurrency=1)
    for number in range(20):
        await kit.happen(1, channel=f"room-{number}")
    assert await attempt(kit, 0) is not None
    kit.configure(endpoint(format="batch", concurrency=8, events=ALL))
    assert "have been changed" in (await newest(kit))["unknown"]


@pytest.mark.parametrize("format_", ["event", "batch"])
async def test_events_that_are_gone_are_said_to_be(format_: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_ledger, "EVENTS_KEPT", 5)
    kit = kit_of(format_, concurrency=1)
    await kit.happen(1)
    assert await attempt(kit, 0, 1) is not None
    await kit.happen(10)
    assert "older than the retention" in (await newest(kit))["unknown"]


async def test_an_attempt_that_is_not_there() -> None:
    kit = kit_of(concurrency=1)
    await kit.happen(2)
    await kit.settle(KEY, State.DELIVERED, FINE)
    (first, _) = reversed((await kit.desk.deliveries(APP, "backend", before=None, limit=2))["deliveries"])
    for number in (0, first["number"] - 1, 10**15):
        with pytest.raises(RequestError, match="404: the delivery log"):
            await kit.desk.request(APP, "backend", number)
    assert (await kit.desk.request(APP, "backend", None))["number"] > first["number"]
    with pytest.raises(RequestError, match="has no attempt"):
        await kit_of().desk.request(APP, "backend", None)


# -- the trace of an event


async def test_why_tells_what_would_be_sent_and_then_what_was() -> None:
    kit = kit_of(concurrency=1)
    (event,) = await kit.happen(1)

    async def told() -> dict[str, Any]:
        (delivery,) = (await kit.desk.why(APP, event.id))["endpoints"][0]["deliveries"]
        found: dict[str, Any] = delivery["request"]
        return found

    claim = await kit.outbox.claim(KEY, 0, 1)
    assert claim is not None
    assert await told() == expected(kit, (request(kit.endpoints[KEY], claim.deliveries), 1, kit.clock.epoch_ms()))
    await attempt(kit, 0, state=State.DUE)
    kit.clock.move(5)
    sent = await attempt(kit, 0, state=State.DUE)
    assert sent is not None
    kit.clock.move(5)
    assert await told() == expected(kit, sent)
    kit.configure()
    (gone,) = (await kit.desk.why(APP, event.id))["endpoints"]
    assert "not configured" in gone["deliveries"][0]["request"]["unknown"]


async def test_why_leads_to_the_attempt_where_there_are_batches() -> None:
    kit = kit_of("batch", concurrency=1)
    (event,) = await kit.happen(1)
    await kit.settle(KEY, State.DUE, REFUSED_500)
    (delivery,) = (await kit.desk.why(APP, event.id))["endpoints"][0]["deliveries"]
    assert "by its number" in delivery["request"]["unknown"]
    told = await kit.desk.request(APP, "backend", delivery["attempts"][0]["number"])
    assert json.loads(told["request"]["body"])["events"][0]["id"] == event.id
