"""The gauges of the admin port are what is there, however connections end or fail to begin."""

from __future__ import annotations

import asyncio
import socket
import struct

from tests.e2e.client import Backend, Client
from tests.e2e.conftest import StartGateway
from tests.e2e.gateway_process import APP_ID, GatewayProcess, app
from tests.e2e.operator import metrics
from tests.e2e.receiver import Receiver
from tests.patience import LONG_S

MANY = 10
#: of those who do not read; the kernel takes megabytes for each before anything waits in the gateway
SLOW = 3
BACKLOG = "rawpush_webhook_backlog_events"
GAUGES = {"rawpush_connections", "rawpush_channels", BACKLOG}


def gauges(read: dict[tuple[str, ...], float]) -> dict[tuple[str, ...], float]:
    """Return the gauges that are not 0."""
    return {name: value for name, value in read.items() if name[0] in GAUGES and value}


async def refused(gateway: GatewayProcess, code: int, **options: str) -> None:
    for _ in range(MANY):
        client = await Client.dial(gateway.port, **options)
        assert await client.closed() == code


async def test_gauges_are_true_whatever_happens_to_connections(start_gateway: StartGateway, receiver: Receiver) -> None:
    off = app("2", key="off-key", enabled=False)
    full = app("3", key="full-key", limits={"connections": 1})
    large = app(webhooks=[receiver.endpoint(format="batch")], limits={"event_data": "100KB"})
    gateway = await start_gateway(large, off, full, server={"send_buffer": "16KB"}, admin={"port": 0, "token": "admin-token"})
    only = await Client.connect(gateway.port, key="full-key")
    await only.subscribe("alone")
    await refused(gateway, 4001, key="nobody")
    await refused(gateway, 4003, key="off-key")
    await refused(gateway, 4100, key="full-key")
    await refused(gateway, 4007, query="protocol=3")
    for _ in range(MANY):
        with socket.create_connection(("127.0.0.1", gateway.port)) as half:
            half.sendall(b"GET /app/demo-key?protocol=7 HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgr")
            half.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    read = gauges(await metrics(gateway))
    assert {name: value for name, value in read.items() if name[0] != BACKLOG} == {
        ("rawpush_connections", "3"): 1,
        ("rawpush_channels", "3"): 1,
    }
    clients = [await Client.connect(gateway.port) for _ in range(SLOW + 2 * MANY)]
    for number, client in enumerate(clients):
        await client.subscribe(f"own-{number}")
        await client.join("presence-all", f"u-{number}")
    slow, closing, cut = clients[:SLOW], clients[SLOW:-MANY], clients[-MANY:]
    read = gauges(await metrics(gateway))
    assert read["rawpush_connections", APP_ID] == SLOW + 2 * MANY
    assert read["rawpush_channels", APP_ID] == SLOW + 2 * MANY + 1
    for client in closing:
        await client.settle()  # who has not read does not see the answer to his close frame
        await client.close()
    for client in cut:
        client.reset()
    for client in slow:
        await client.subscribe("flood")
        client.ws.transport.pause_reading()
    async with Backend(gateway.port) as backend, asyncio.timeout(LONG_S):
        while (await metrics(gateway)).get(("rawpush_connections_closed_total", "slow_consumer"), 0) < SLOW:
            for _ in range(20):
                assert await backend.publish("flood", "much", "x" * 100_000) == 200
    await only.close()
    async with asyncio.timeout(LONG_S):
        while gauges(read := await metrics(gateway)):
            pass
    opened = read["rawpush_connections_opened_total",]
    assert opened == SLOW + 2 * MANY + 1
    assert sum(value for name, value in read.items() if name[0] == "rawpush_connections_closed_total") == opened
    assert sum(value for name, value in read.items() if name[0] == "rawpush_connections_refused_total") == 4 * MANY
    assert min(read.values()) >= 0
    assert await gateway.stop() == 0
    receiver.check_ledger()
