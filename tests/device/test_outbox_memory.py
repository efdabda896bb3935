"""The outbox that forgets: the suite, its bounds, and what it costs."""

from __future__ import annotations

from pathlib import Path

from gateway.core.delivery import State
from gateway.outbox.memory import DEAD_LETTERS_KEPT, MemoryOutbox
from gateway.ports import Backlog, Commit, Outbox
from tests.conformance.outbox_suite import ENDPOINT, OutboxSuite, claimed, due, sequences, settled


class TestMemoryOutbox(OutboxSuite):
    def make(self, home: Path) -> Outbox:
        return MemoryOutbox(capacity=1_000_000)


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
    outbox = MemoryOutbox(capacity=10)
    await outbox.append(Commit(deliveries=tuple(due(number) for number in range(1, DEAD_LETTERS_KEPT + 4))))
    await outbox.settle(settled(await claimed(outbox, limit=DEAD_LETTERS_KEPT + 3), State.DEAD))
    letters = await outbox.dead_letters(ENDPOINT, DEAD_LETTERS_KEPT * 2)
    assert len(letters) == DEAD_LETTERS_KEPT
    assert letters[0].delivery.sequence == 4


async def test_a_second_life_begins_empty(tmp_path: Path) -> None:
    first = MemoryOutbox(capacity=10)
    await first.append(Commit(deliveries=(due(1),)))
    await first.close()
    second = MemoryOutbox(capacity=10)
    recovery = await second.open()
    assert not recovery.sequences
    assert not recovery.lanes
    assert sequences(await second.claim(ENDPOINT, 0, 9)) == []
