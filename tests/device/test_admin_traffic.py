"""What has crossed the wires: it never goes down, whoever comes and goes meanwhile."""

from __future__ import annotations

import asyncio

import pytest

from gateway.admin import traffic as module
from gateway.admin.traffic import Traffic, traffic
from tests.device.admin_kit import House


async def test_live_and_ended_connections_are_added_up() -> None:
    house = House()
    (one, first), (_, second) = house.connect(), house.connect("key-2")
    for connection in (first, second):
        connection.received_bytes, connection.sent_messages, connection.sent_bytes = 10, 3, 100
    both = Traffic(20, 6, 200)
    assert await traffic(house.node.tenants, house.telemetry) == both
    house.node.lost(one, 1000, "client")
    assert await traffic(house.node.tenants, house.telemetry) == both


async def test_who_ends_while_it_is_added_up_is_counted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_AT_ONCE", 1)
    house = House()
    lives = []
    for _ in range(4):
        live, connection = house.connect()
        connection.received_bytes, connection.sent_messages, connection.sent_bytes = 1, 1, 1
        lives.append(live)
    counting = asyncio.ensure_future(traffic(house.node.tenants, house.telemetry))
    await asyncio.sleep(0)
    for live in lives:
        house.node.lost(live, 1000, "client")
    house.connect()[1].sent_bytes = 1_000_000
    assert await counting == Traffic(4, 4, 4)
