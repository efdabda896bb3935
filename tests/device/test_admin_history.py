"""Samples for the charts: rates between two of them, how many are kept, and the backlog that is asked for beside them."""

from __future__ import annotations

from gateway.admin.history import FIELDS, KEPT, History
from tests.device.admin_kit import House


def named(sample: tuple[float | int | None, ...]) -> dict[str, float | int | None]:
    return dict(zip(FIELDS, sample, strict=True))


async def test_a_sample_holds_what_stands_and_what_happened_per_second() -> None:
    house = House()
    history = History(house.sources)
    live, _ = house.connect()
    house.join(live, "orders")
    house.telemetry.deliveries += 30
    house.clock.move(2)
    history.sample()
    house.clock.move(1)
    history.sample()
    first, second = map(named, history.samples)
    assert (first["connections"], first["channels"], first["sent"], first["backlog"]) == (1, 1, 15.0, None)
    assert (second["connections"], second["sent"]) == (1, 0.0)
    assert second["at"] == house.clock.epoch_ms()


async def test_the_backlog_is_that_of_all_endpoints_and_unknown_while_the_outbox_cannot_be_read() -> None:
    house = House()
    history = History(house.sources)
    await house.kit.happen(3)
    await history.look()
    history.sample()
    house.outbox.refuses_reads = True
    house.clock.move(10)
    await history.look()
    history.sample()
    assert [named(sample)["backlog"] for sample in history.samples] == [3, None]


def test_it_forgets_the_oldest_and_tells_only_what_is_new() -> None:
    history = History(House().sources)
    for _ in range(KEPT + 5):
        history.sample()
    assert (len(history.samples), history.taken) == (KEPT, KEPT + 5)
    assert history.since(history.taken) == []
    assert history.since(history.taken - 2) == list(history.samples)[-2:]
    assert len(history.since(0)) == KEPT
