"""What every outbox must do besides delivering: answer for what it holds, replay it, and let go of an endpoint.

`LedgerSuite` is for all of them; a device's test file inherits it and says how to make one.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Protocol

import pytest

from gateway.core.delivery import REPLAY_LANE, Claim, Delivery, State
from gateway.core.lifecycle import SpanClosed, SpanDeparting, SpanOpened
from gateway.ports import Backlog, Commit, DeadLetter, Ledger, Outbox, Page, Past, Snapshot, Trace
from tests.conformance.outbox_suite import ENDPOINT, OTHER, claimed, due, event, sequences, settled, span


class Store(Outbox, Ledger, Protocol):
    """Both sides at once."""


async def dead(store: Store, endpoint: str = ENDPOINT) -> list[Delivery]:
    """Return the deliveries that are dead letters."""
    return [letter.delivery for _, letter in await store.dead(endpoint, limit=10_000)]


async def recorded(store: Store, *numbers: int, app_id: str = "1001") -> None:
    """Append events that nobody wants."""
    await store.append(Commit(tuple(event(number, app_id) for number in numbers)))


def ids(page: Page) -> list[str]:
    """Return which events a page holds."""
    return [entry.event.id for entry in page.entries]


class LedgerSuite:
    """For every outbox. Subclasses are named `Test...` and override `make`."""

    def make(self, home: Path) -> Store:
        """Return an outbox that is not open yet."""
        raise NotImplementedError

    @pytest.fixture
    async def store(self, tmp_path: Path) -> AsyncIterator[Store]:
        store = self.make(tmp_path)
        await store.open()
        yield store
        await store.close()

    # -- the feed

    async def test_an_empty_ledger_answers_that_it_is_empty(self, store: Store) -> None:
        assert await store.feed("1001", after=0, limit=10) == Page((), 0, 0)
        assert await store.feed("1001", after=7, limit=10, kinds=frozenset({"client_event"})) == Page((), 7, 0)
        assert await store.snapshot("1001") == Snapshot(0, ())
        assert await store.find("1001", "evt_000001") is None
        assert list(await store.trace("1001", "evt_000001")) == []
        assert list(await store.attempts(ENDPOINT)) == []
        assert list(await store.dead(ENDPOINT)) == []
        assert await store.count_dead(ENDPOINT) == 0
        assert store.latest("1001") == 0

    async def test_the_feed_returns_events_unchanged_in_order_and_page_by_page(self, store: Store) -> None:
        await recorded(store, 1, 2)
        await recorded(store, 3)
        await recorded(store, 4, 5)
        page = await store.feed("1001", after=0, limit=3)
        assert [entry.event for entry in page.entries] == [event(1), event(2), event(3)]
        assert page.cursor == page.entries[-1].cursor
        rest = await store.feed("1001", after=page.cursor, limit=3)
        assert [entry.event for entry in rest.entries] == [event(4), event(5)]
        cursors = [entry.cursor for entry in (*page.entries, *rest.entries)]
        assert cursors == sorted(set(cursors))
        assert await store.feed("1001", after=rest.cursor, limit=3) == Page((), rest.cursor, 0)
        assert store.latest("1001") == rest.cursor

    async def test_apps_are_apart(self, store: Store) -> None:
        await store.append(Commit((event(1), event(2, "1002"), event(3), event(4, "1002"))))
        assert ids(await store.feed("1001", after=0, limit=9)) == ["evt_000001", "evt_000003"]
        assert ids(await store.feed("1002", after=0, limit=9)) == ["evt_000002", "evt_000004"]
        assert await store.find("1001", "evt_000002") is None
        # a poller that has seen all of its app is not told that there is more
        for app_id in ("1001", "1002"):
            assert store.latest(app_id) == (await store.feed(app_id, after=0, limit=9)).cursor
        assert store.latest("1003") == 0

    async def test_the_cursor_passes_over_kinds_that_were_left_out(self, store: Store) -> None:
        mixed = [
            dataclasses.replace(event(number), kind="channel.occupied" if number % 3 == 0 else "client_event")
            for number in range(1, 9)
        ]
        await store.append(Commit(tuple(mixed)))
        page = await store.feed("1001", after=0, limit=9, kinds=frozenset({"channel.occupied"}))
        assert ids(page) == ["evt_000003", "evt_000006"]
        assert page.cursor == store.latest("1001")
        first = await store.feed("1001", after=0, limit=1, kinds=frozenset({"channel.occupied"}))
        assert ids(first) == ["evt_000003"]
        assert first.cursor == first.entries[0].cursor
        none = await store.feed("1001", after=0, limit=9, kinds=frozenset({"channel.vacated"}))
        assert (ids(none), none.cursor) == ([], store.latest("1001"))

    async def test_an_event_is_found_by_its_id(self, store: Store) -> None:
        await recorded(store, 1, 2, 3)
        found = await store.find("1001", "evt_000002")
        assert found is not None
        assert found.event == event(2)
        assert ids(await store.feed("1001", after=found.cursor, limit=9)) == ["evt_000003"]
        assert await store.find("1001", "evt_000009") is None

    async def test_snapshot_and_the_events_after_it_are_the_present(self, store: Store) -> None:
        other = dataclasses.replace(span("1.1"), app_id="1002")
        await store.append(Commit((event(1), SpanOpened(span("1.1")), SpanOpened(span("2.2")), SpanOpened(other))))
        await store.append(Commit((event(2), SpanOpened(span("room-1", "channel")))))
        await store.append(Commit((event(3), SpanClosed("1001", "connection", "2.2"))))
        await store.append(Commit((SpanDeparting("1001", "channel", "room-1", 99),)))
        snapshot = await store.snapshot("1001")
        assert snapshot.cursor == store.latest("1001")
        expected = [span("1.1"), span("room-1", "channel", 99)]
        assert sorted(snapshot.spans, key=lambda one: one.id) == expected
        await store.append(Commit((event(4), SpanClosed("1001", "connection", "1.1"))))
        assert ids(await store.feed("1001", after=snapshot.cursor, limit=9)) == ["evt_000004"]
        assert [one.key for one in (await store.snapshot("1001")).spans] == ["room-1"]
        assert (await store.snapshot("1002")) == Snapshot(0, (other,))

    async def test_a_snapshot_is_never_between_an_event_and_its_span(self, store: Store) -> None:
        async def write() -> None:
            for number in range(1, 201):
                await store.append(Commit((event(number), SpanOpened(span(f"{number}.1")))))

        writing = asyncio.ensure_future(write())
        while not writing.done():
            snapshot = await store.snapshot("1001")
            after = await store.feed("1001", after=snapshot.cursor, limit=1_000)
            assert len(snapshot.spans) == 200 - len(after.entries) if writing.done() else snapshot.cursor == len(snapshot.spans)
            await asyncio.sleep(0)
        await writing

    # -- what became of it

    async def test_the_delivery_log_is_newest_first_and_paged_by_number(self, store: Store) -> None:
        await store.append(Commit(deliveries=(due(1, 0), due(2, 1), due(3, 0), due(1, 0, OTHER))))
        made = []
        for lane, state in ((0, State.DUE), (1, State.DELIVERED), (0, State.DUE), (0, State.DELIVERED), (0, State.DEAD)):
            attempts = 1 + sum(one.lane == lane for one in made)
            made.append(settled(await claimed(store, lane, limit=1), state, attempts=attempts))
            await store.settle(made[-1])
        await store.settle(settled(await claimed(store, 0, endpoint=OTHER), State.DELIVERED))
        log = await store.attempts(ENDPOINT)
        assert [one.settlement for one in log] == made[::-1]
        numbers = [one.number for one in log]
        assert numbers == sorted(set(numbers), reverse=True)
        assert [one.settlement for one in await store.attempts(ENDPOINT, limit=2)] == made[:2:-1]
        assert list(await store.attempts(ENDPOINT, before=numbers[1], limit=2)) == list(log[2:4])
        assert list(await store.attempts(ENDPOINT, before=numbers[-1])) == []
        assert len(await store.attempts(OTHER)) == 1

    async def test_a_trace_tells_what_became_of_an_event_at_each_endpoint(self, store: Store) -> None:
        deliveries = (*(due(number, 1) for number in range(1, 7)), *(due(number, 0, OTHER) for number in range(1, 7)))
        await store.append(Commit(tuple(event(number) for number in range(1, 7)), deliveries))
        states = (State.DUE, State.DUE, State.DELIVERED, State.DELIVERED, State.DEAD)
        limits = (2, 2, 2, 1, 1)  # 1 and 2 go together, then 3, then 4
        for state, limit in zip(states, limits, strict=True):
            await store.settle(settled(await claimed(store, 1, limit), state))
        await store.settle(settled(await claimed(store, 0, 2, OTHER), State.DUE))
        log = list(await store.attempts(ENDPOINT))[::-1]
        (other,) = await store.attempts(OTHER)
        assert list(await store.trace("1001", "evt_000002")) == [
            Trace(ENDPOINT, 1, 2, "delivered", tuple(log[:3])),
            Trace(OTHER, 0, 2, "due", (other,)),
        ]
        assert list(await store.trace("1001", "evt_000003")) == [
            Trace(ENDPOINT, 1, 3, "delivered", (log[3],)),
            Trace(OTHER, 0, 3, "due", ()),
        ]
        assert (await store.trace("1001", "evt_000004"))[0] == Trace(ENDPOINT, 1, 4, "dead", (log[4],))
        assert (await store.trace("1001", "evt_000005"))[0] == Trace(ENDPOINT, 1, 5, "due", ())
        assert list(await store.trace("1002", "evt_000002")) == []

    async def test_whoever_asks_what_became_of_an_event_is_told_at_once(self, store: Store) -> None:
        await store.append(Commit((event(1), event(2), event(3)), (due(1), due(2), due(3))))
        delivered = [settled(await claimed(store, 0, 1), State.DELIVERED)]
        await store.settle_soon(delivered[0])
        assert [told.state for told in await store.trace("1001", event(1).id)] == ["delivered"]
        delivered.append(settled(await claimed(store, 0, 1), State.DELIVERED))
        await store.settle_soon(delivered[1])
        assert [told.settlement for told in await store.attempts(ENDPOINT)] == delivered[::-1]
        await store.settle_soon(settled(await claimed(store, 0, 1), State.DELIVERED))
        assert await store.past("1001", ENDPOINT, [event(3).id]) == {event(3).id: Past(False, 3)}

    async def test_the_past_of_events_is_what_their_traces_tell(self, store: Store) -> None:
        await store.append(Commit((*map(event, range(1, 6)), event(6, "1002")), tuple(due(n, n % 2) for n in (1, 2, 3, 4))))
        await store.settle(settled(await claimed(store, 1, 1), State.DEAD))
        await store.settle(settled(await claimed(store, 0, 1), State.DELIVERED))
        await store.settle(settled(await claimed(store, 1, 1), State.DELIVERED))
        await store.replay(ENDPOINT, [due(3, 1), due(5)])
        ids = [event(number).id for number in range(1, 7)]
        assert await store.past("1001", ENDPOINT, ids) == {
            ids[0]: Past(False, 1),
            ids[1]: Past(False, 2),
            ids[2]: Past(True, 3),  # its replay is due
            ids[3]: Past(True, 4),
            ids[4]: Past(True, None),  # it was never due but as a replay
        }
        assert await store.past("1001", ENDPOINT, ids[1:2]) == {ids[1]: Past(False, 2)}
        assert await store.past("1001", OTHER, ids) == {}
        assert await store.past("1002", ENDPOINT, ids) == {}

    async def test_an_event_that_was_due_to_nobody_has_no_trace(self, store: Store) -> None:
        await recorded(store, 1)
        assert list(await store.trace("1001", "evt_000001")) == []

    # -- dead letters

    async def test_dead_letters_are_paged_by_number_and_counted(self, store: Store) -> None:
        await store.append(Commit(deliveries=(*(due(number) for number in range(1, 6)), due(1, 0, OTHER))))
        given_up = settled(await claimed(store, limit=3), State.DEAD, reason="gone")
        await store.settle(given_up)
        await store.settle(settled(await claimed(store, endpoint=OTHER), State.DEAD))
        await store.settle(settled(await claimed(store), State.DEAD))
        first = await store.dead(ENDPOINT, limit=2)
        assert [letter for _, letter in first] == [DeadLetter(due(1), given_up), DeadLetter(due(2), given_up)]
        rest = await store.dead(ENDPOINT, after=first[-1][0])
        assert [letter.delivery.sequence for _, letter in rest] == [3, 4, 5]
        assert list(await store.dead(ENDPOINT, after=rest[-1][0])) == []
        numbers = [number for number, _ in (*first, *rest)]
        assert numbers == sorted(set(numbers))
        assert await store.count_dead(ENDPOINT) == 5
        assert await store.count_dead(OTHER) == 1

    # -- replays

    async def test_a_replay_goes_through_a_lane_of_its_own_numbered_anew(self, store: Store) -> None:
        await store.append(Commit((event(1), event(2), event(3)), (due(1, 0), due(2, 1), due(3, 0))))
        await store.settle(settled(await claimed(store, 0), State.DELIVERED))
        await store.replay(ENDPOINT, [due(3, 0), due(1, 0)])
        await store.replay(ENDPOINT, [due(2, 1)])
        claim = await claimed(store, REPLAY_LANE, 2)
        assert claim == Claim(
            (
                dataclasses.replace(due(3), sequence=1, lane=REPLAY_LANE),
                dataclasses.replace(due(1), sequence=2, lane=REPLAY_LANE),
            )
        )
        assert await store.backlog(ENDPOINT) == Backlog(4, due(2).at_ms)
        await store.settle(settled(claim, State.DELIVERED))
        assert sequences(await store.claim(ENDPOINT, REPLAY_LANE, 9)) == [3]
        # the live lanes have not noticed
        assert sequences(await store.claim(ENDPOINT, 1, 9)) == [2]
        await store.append(Commit((event(4),), (due(4, 0),)))
        assert sequences(await store.claim(ENDPOINT, 0, 9)) == [4]

    async def test_a_replayed_dead_letter_is_none_any_more_until_it_is_given_up_again(self, store: Store) -> None:
        await store.append(Commit((event(1), event(2)), (due(1), due(2), due(1, 0, OTHER))))
        await store.settle(settled(await claimed(store), State.DEAD))
        await store.settle(settled(await claimed(store, endpoint=OTHER), State.DEAD))
        letters = await dead(store)
        await store.replay(ENDPOINT, letters[:1])
        assert [delivery.event_id for delivery in await dead(store)] == ["evt_000002"]
        assert await store.count_dead(ENDPOINT) == 1
        assert await store.count_dead(OTHER) == 1
        replayed = await claimed(store, REPLAY_LANE)
        assert replayed.deliveries[0].envelope == due(1).envelope
        await store.settle(settled(replayed, State.DEAD))
        assert [delivery.event_id for delivery in await dead(store)] == ["evt_000002", "evt_000001"]
        assert await store.count_dead(ENDPOINT) == 2

    async def test_a_dead_letter_with_another_envelope_stays(self, store: Store) -> None:
        await store.append(Commit(deliveries=(due(1),)))
        await store.settle(settled(await claimed(store), State.DEAD))
        await store.replay(ENDPOINT, [due(1, text="rendered anew")])
        assert await dead(store) == [due(1)]

    async def test_a_trace_shows_the_replays_too(self, store: Store) -> None:
        await store.append(Commit((event(1),), (due(1, 3),)))
        await store.settle(settled(await claimed(store, 3), State.DELIVERED))
        await store.replay(ENDPOINT, [due(1, 3)])
        live, replayed = await store.trace("1001", "evt_000001")
        assert (live.lane, live.state, replayed.lane, replayed.sequence, replayed.state) == (
            3,
            "delivered",
            REPLAY_LANE,
            1,
            "due",
        )
        await store.settle(settled(await claimed(store, REPLAY_LANE), State.DELIVERED))
        assert [trace.state for trace in await store.trace("1001", "evt_000001")] == ["delivered", "delivered"]

    async def test_replaying_nothing_changes_nothing(self, store: Store) -> None:
        await store.replay(ENDPOINT, [])
        assert await store.claim(ENDPOINT, REPLAY_LANE, 9) is None

    # -- an endpoint that is no more

    async def test_what_is_due_to_an_abandoned_endpoint_becomes_dead_letters(self, store: Store) -> None:
        deliveries = [due(number, number % 3) for number in range(1, 602)]
        await store.append(Commit(deliveries=(*deliveries, due(1, 0, OTHER))))
        await store.settle(settled(await claimed(store, 1, limit=2), State.DUE, attempts=3))
        await store.settle(settled(await claimed(store, 2, limit=1), State.DELIVERED))
        await store.replay(ENDPOINT, [due(2, 2)])
        assert await store.abandon(ENDPOINT, "endpoint_removed", 1_700_000_150_000) == 601
        assert await store.backlog(ENDPOINT) == Backlog()
        assert sorted(delivery.event_id for delivery in await dead(store)) == sorted(one.event_id for one in deliveries)
        letters = {letter.delivery.sequence: letter.settlement for _, letter in await store.dead(ENDPOINT, limit=9_999)}
        assert (letters[3].reason, letters[3].at_ms, letters[3].attempts) == ("endpoint_removed", 1_700_000_150_000, 0)
        assert letters[4].attempts == 3  # it and 1 were under way together
        assert (letters[4].first_sequence, letters[4].last_sequence, letters[4].count) == (1, 4, 2)
        for lane in (0, 1, 2, REPLAY_LANE):
            assert await store.claim(ENDPOINT, lane, 9) is None
        assert sequences(await store.claim(OTHER, 0, 9)) == [1]
        assert await store.abandon(ENDPOINT, "endpoint_removed", 1_700_000_150_000) == 0
        assert await store.abandon("1001/never", "endpoint_removed", 1_700_000_150_000) == 0

    async def test_an_abandoned_endpoint_that_comes_back_goes_on_counting(self, store: Store) -> None:
        await store.append(Commit(deliveries=(due(1), due(2))))
        await store.abandon(ENDPOINT, "endpoint_removed", 1_700_000_150_000)
        await store.append(Commit(deliveries=(due(3),)))
        assert sequences(await store.claim(ENDPOINT, 0, 9)) == [3]
        await store.replay(ENDPOINT, await dead(store))
        assert sequences(await store.claim(ENDPOINT, REPLAY_LANE, 9)) == [1, 2]

    async def test_an_attempt_that_ends_after_its_endpoint_was_abandoned_changes_nothing(self, store: Store) -> None:
        await store.append(Commit(deliveries=(due(1),)))
        under_way = await claimed(store)
        await store.abandon(ENDPOINT, "endpoint_removed", 1_700_000_150_000)
        await store.settle(settled(under_way, State.DELIVERED))
        assert await store.count_dead(ENDPOINT) == 1
