"""The outbox that forgets: the suite, its bounds, and what it costs."""

from __future__ import annotations

from pathlib import Path

from gateway.core.delivery import REPLAY_LANE, State
from gateway.outbox.memory import DEAD_LETTERS_KEPT, MemoryOutbox
from gateway.outbox.memory_ledger import ATTEMPTS_KEPT, EVENTS_KEPT
from gateway.ports import Backlog, Commit, Storage
from tests.conformance.ledger_suite import LedgerSuite
from tests.conformance.outbox_suite import ENDPOINT, OTHER, OutboxSuite, claimed, due, event, sequences, settled


class TestMemoryOutbox(OutboxSuite, LedgerSuite):
    def make(self, home: Path) -> MemoryOutbox:
        return MemoryOutbox(capacity=1_000_000)


async def test_it_can_always_be_written_and_counts_no_bytes() -> None:
    assert MemoryOutbox(capacity=3).storage() == Storage(True, None, None)


async def test_is_full_at_its_capacity_for_that_app_only() -> None:
    outbox = MemoryOutbox(capacity=3)
    await outbox.append(Commit(deliveries=(due(1), due(2))))
    assert not outbox.is_full("1001")
    await outbox.append(Commit(deliveries=(due(3, 1),)))
    assert outbox.is_full("1001")
    assert not outbox.is_full("1002")


async def test_a_full_one_still_accepts_and_has_room_again_when_something_went() -> None:
    outbox = MemoryOutbox(capacity=2)
    await outbox.append(Commit(deliveries=(due(1), due(2))))
    await outbox.append(Commit(deliveries=(due(3),)))
    assert await outbox.backlog(ENDPOINT) == Backlog(3, due(1).at_ms)
    await outbox.settle(settled(await claimed(outbox, limit=1), State.DUE))
    assert outbox.is_full("1001")
    await outbox.settle(settled(await claimed(outbox), State.DELIVERED))
    assert outbox.is_full("1001")
    await outbox.settle(settled(await claimed(outbox, limit=1), State.DEAD))
    assert not outbox.is_full("1001")


async def test_the_oldest_dead_letters_are_dropped() -> None:
    outbox = MemoryOutbox(capacity=DEAD_LETTERS_KEPT)
    await outbox.append(Commit(deliveries=tuple(due(number) for number in range(1, DEAD_LETTERS_KEPT + 4))))
    await outbox.settle(settled(await claimed(outbox, limit=DEAD_LETTERS_KEPT + 3), State.DEAD))
    letters = await outbox.dead_letters(ENDPOINT, DEAD_LETTERS_KEPT * 2)
    assert len(letters) == DEAD_LETTERS_KEPT
    assert letters[0].delivery.sequence == 4
    assert await outbox.count_dead(ENDPOINT) == DEAD_LETTERS_KEPT
    assert outbox.dead_letters_dropped == {ENDPOINT: 3}


async def test_a_second_life_begins_empty(tmp_path: Path) -> None:
    first = MemoryOutbox(capacity=10)
    await first.append(Commit(deliveries=(due(1),)))
    await first.close()
    second = MemoryOutbox(capacity=10)
    recovery = await second.open()
    assert not recovery.sequences
    assert not recovery.lanes
    assert sequences(await second.claim(ENDPOINT, 0, 9)) == []


# -- overflow


class Losses(list[tuple[str, int, int, int]]):
    def __call__(self, endpoint: str, count: int, first: int, last: int, untold: int) -> None:
        self.append((endpoint, count, first, last))


async def test_an_endpoint_with_twice_the_capacity_loses_its_oldest_and_it_is_told_once_an_append() -> None:
    losses = Losses()
    outbox = MemoryOutbox(capacity=32, dropped=losses)
    await outbox.append(Commit(deliveries=tuple(due(number, number % 3) for number in range(1, 65))))
    assert not losses
    await outbox.append(Commit(deliveries=(due(65), due(66), due(1, 0, OTHER))))
    assert losses == [(ENDPOINT, 4, 1, 4)]  # two too many, and a sixteenth of the capacity for telling of it
    assert await outbox.backlog(ENDPOINT) == Backlog(62, due(5).at_ms)
    assert sequences(await outbox.claim(ENDPOINT, 2, 2)) == [5, 8]
    await outbox.append(Commit(deliveries=(due(67),)))
    assert len(losses) == 1
    assert sequences(await outbox.claim(OTHER, 0, 9)) == [1]


async def test_what_is_under_way_or_was_attempted_is_not_lost() -> None:
    losses = Losses()
    outbox = MemoryOutbox(capacity=16, dropped=losses)
    await outbox.append(Commit(deliveries=tuple(due(number, number % 2) for number in range(1, 31))))
    await outbox.settle(settled(await claimed(outbox, 0, 3), State.DUE))  # 2, 4, 6
    under_way = await claimed(outbox, 1, 2)  # 1, 3
    await outbox.append(Commit(deliveries=(due(31), due(33), due(35))))
    assert losses == [(ENDPOINT, 2, 5, 7)]
    assert sequences(await outbox.claim(ENDPOINT, 0, 1)) == [2, 4, 6]
    await outbox.settle(settled(under_way, State.DELIVERED))
    assert sequences(await outbox.claim(ENDPOINT, 1, 2)) == [9, 11]


async def test_where_too_little_is_idle_only_that_is_lost() -> None:
    losses = Losses()
    outbox = MemoryOutbox(capacity=2, dropped=losses)
    await outbox.append(Commit(deliveries=tuple(due(number) for number in range(1, 5))))
    await claimed(outbox, limit=100)
    await outbox.append(Commit(deliveries=(due(5, 1),)))
    assert losses == [(ENDPOINT, 1, 5, 5)]
    assert await outbox.claim(ENDPOINT, 1, 100) is None
    assert sequences(await outbox.claim(ENDPOINT, 0, 100)) == [1, 2, 3, 4]


async def test_replays_count_for_the_capacity_but_are_not_lost() -> None:
    losses = Losses()
    outbox = MemoryOutbox(capacity=2, dropped=losses)
    await outbox.replay(ENDPOINT, [due(number) for number in range(1, 6)])
    assert outbox.is_full("1001")
    await outbox.append(Commit(deliveries=tuple(due(number) for number in range(11, 16))))
    assert losses == [(ENDPOINT, 2, 11, 12)]
    assert sequences(await outbox.claim(ENDPOINT, REPLAY_LANE, 9)) == [1, 2, 3, 4, 5]


async def test_a_loss_is_in_the_delivery_log_and_in_the_trace() -> None:
    outbox = MemoryOutbox(capacity=1, dropped=Losses())
    await outbox.append(Commit((event(1), event(2), event(3)), (due(1, 0), due(2, 1), due(3, 0))))
    (trace,) = await outbox.trace("1001", "evt_000001")
    assert (trace.state, trace.attempts[0].settlement.reason, trace.attempts[0].settlement.attempts) == ("dead", "overflow", 0)
    assert [trace.state for trace in await outbox.trace("1001", "evt_000003")] == ["due"]


# -- what is remembered


async def test_the_newest_events_are_kept_and_the_page_says_what_was_forgotten() -> None:
    outbox = MemoryOutbox(capacity=10)
    await outbox.append(Commit(tuple(event(number) for number in range(1, EVENTS_KEPT + 4))))
    page = await outbox.feed("1001", after=0, limit=2)
    assert [entry.event for entry in page.entries] == [event(4), event(5)]
    assert page.forgotten == 3
    assert (await outbox.feed("1001", after=page.cursor, limit=1)).entries[0].event == event(6)
    assert await outbox.find("1001", "evt_000003") is None


async def test_the_newest_attempts_are_kept_and_what_became_of_the_others_is_not_made_up() -> None:
    outbox = MemoryOutbox(capacity=10)
    await outbox.append(Commit((event(1), event(2)), (due(1), due(2))))
    await outbox.settle(settled(await claimed(outbox, limit=1), State.DELIVERED))
    for attempts in range(1, ATTEMPTS_KEPT + 1):
        await outbox.settle(settled(await claimed(outbox), State.DUE, attempts=attempts))
    assert len(await outbox.attempts(ENDPOINT, limit=2 * ATTEMPTS_KEPT)) == ATTEMPTS_KEPT
    assert await outbox.trace("1001", "evt_000001") == []
    (trace,) = await outbox.trace("1001", "evt_000002")
    assert (trace.state, len(trace.attempts)) == ("due", ATTEMPTS_KEPT)
