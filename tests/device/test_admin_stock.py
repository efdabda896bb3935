"""What the outbox holds: asked once for all, and never waited for longer than is good."""

from __future__ import annotations

import asyncio
import logging

import pytest

from tests.device.admin_kit import House


async def test_many_who_ask_cost_one_question() -> None:
    house = House()
    looks = await asyncio.gather(*(house.stock.look() for _ in range(20)))
    assert house.outbox.asked == 1
    assert all(look is looks[0] for look in looks)
    assert [one["name"] for one in looks[0].endpoints["740213"]] == ["backend"]
    assert looks[0].endpoints["740214"] == []
    house.clock.move(1.9)
    await house.stock.look()
    assert house.outbox.asked == 1
    await house.kit.happen(1)
    house.clock.move(1)
    assert (await house.stock.look()).endpoints["740213"][0]["backlog"] == 1
    assert house.outbox.asked == 2


async def test_a_disk_that_hangs_holds_nobody_up() -> None:
    house = House()
    await house.stock.look()
    house.clock.move(10)
    house.outbox.gate.clear()
    old = await house.stock.look()
    assert not old.is_whole
    assert [one["name"] for one in old.endpoints["740213"]] == ["backend"]
    await house.stock.look()
    assert house.outbox.asked == 2, "it was asked again although it has not answered yet"
    house.outbox.gate.set()
    assert (await house.stock.look()).is_whole
    house.clock.move(10)
    house.outbox.gate.clear()
    await house.stock.look()
    await house.stock.stop()


async def test_a_disk_that_cannot_be_read_is_told_of(caplog: pytest.LogCaptureFixture) -> None:
    house = House()
    house.outbox.refuses_reads = True
    with caplog.at_level(logging.WARNING):
        look = await house.stock.look()
    assert not look.is_whole
    assert "740213" not in look.endpoints
    assert [record.getMessage() for record in caplog.records] == ["the outbox cannot be read"]
    house.outbox.refuses_reads = False
    house.clock.move(10)
    assert (await house.stock.look()).is_whole
