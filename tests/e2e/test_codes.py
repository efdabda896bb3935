"""Each way to be refused, on the wire: an error frame first, whose data is an object, then a close frame with the same code."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed

from tests.e2e.client import Client
from tests.e2e.conftest import Connect, StartGateway
from tests.e2e.gateway_process import GatewayProcess, app
from tests.e2e.operator import metrics
from tests.e2e.receiver import Receiver

REFUSED: list[tuple[int, dict[str, Any]]] = [
    (4000, {"key": "tls"}),
    (4001, {"key": "no-such-key"}),
    (4003, {"key": "off"}),
    (4004, {"key": "hard"}),
    (4007, {"query": "protocol=8"}),
    (4008, {"query": "client=x"}),
    (4009, {"key": "elsewhere", "origin": "https://shop.example.net"}),
    (4100, {"key": "soft"}),
]


async def test_an_address_that_brings_too_many_is_told_to_come_back_later(start_gateway: StartGateway) -> None:
    server = {"newcomers_per_address": 1, "newcomers_burst": 5, "trusted_proxies": ["127.0.0.1/32"]}
    gateway = await start_gateway(app(), server=server, admin={"port": 0, "token": "admin-token"})
    near, far = ({"X-Forwarded-For": one} for one in ("203.0.113.9", "203.0.113.10"))
    clients = await asyncio.gather(*(Client.dial(gateway.port, additional_headers=near) for _ in range(30)))
    first = [await client.next() for client in clients]
    refused = [client for client, said in zip(clients, first, strict=True) if said["event"] == "pusher:error"]
    # a second that goes by brings another place
    assert 1 <= len(refused) <= 25
    for client in refused:
        assert await client.closed() == 4100
    # the address is the one the proxy tells; its own has nothing to do with it
    await (await Client.connect(gateway.port, additional_headers=far)).close()
    await (await Client.connect(gateway.port)).close()
    samples = await metrics(gateway)
    assert samples["rawpush_connections_refused_total", "4100"] == len(refused)
    assert samples["rawpush_connections_opened_total",] == len(clients) - len(refused) + 2


async def ends_with(client: Client, code: int) -> None:
    """The error frame, the close frame, and nothing before, between or after."""
    frame = await client.next()
    assert frame.keys() == {"event", "data"}
    assert frame["event"] == "pusher:error"
    assert frame["data"].keys() == {"code", "message"}
    assert frame["data"]["code"] == code
    assert frame["data"]["message"]
    with pytest.raises(ConnectionClosed):
        await client.next()
    assert client.ws.close_code == code


async def test_who_is_refused_is_told_twice(start_gateway: StartGateway, connect: Connect, receiver: Receiver) -> None:
    def one(id_: str, key: str, **settings: object) -> dict[str, object]:
        return app(id_, key=key, webhooks=[receiver.endpoint(app_id=id_)], **settings)

    gateway = await start_gateway(
        app(),
        one("2", "tls", needs_tls=True),
        one("3", "off", enabled=False),
        one("4", "hard", hard_connection_limit=True, limits={"connections": 1}),
        one("5", "soft", limits={"connections": 1}),
        one("6", "elsewhere", allowed_origins=["*.example.com"]),
    )
    inside = [await connect(gateway, key=key) for key in ("hard", "soft")]
    for code, options in REFUSED:
        await ends_with(await Client.dial(gateway.port, **options), code)
    for client in inside:
        assert await client.settle() == []
        await client.close()
    assert await gateway.stop() == 0
    # Nobody hears of those who were never in.
    kinds = sorted(event.kind for event in receiver.events)
    assert kinds == ["connection.closed", "connection.closed", "connection.opened", "connection.opened"]


async def test_who_is_sent_away_is_told_twice(start_gateway: StartGateway, connect: Connect, receiver: Receiver) -> None:
    settings = app(webhooks=[receiver.endpoint()])
    gateway = await start_gateway(settings)
    client = await connect(gateway)
    await gateway.reload([{**settings, "enabled": False}])
    await ends_with(client, 4003)
    await gateway.reload([settings])
    client = await connect(gateway)
    gateway.signal()
    await ends_with(client, 4200)
    assert await gateway.ended() == 0


async def test_who_sends_client_events_too_fast_is_told_once_each(gateway: GatewayProcess, connect: Connect) -> None:
    client = await connect(gateway)
    await client.subscribe("private-chat")
    # In one write: a pause among them would give some of the allowance back.
    await client.write_frames([{"event": "client-typing", "channel": "private-chat", "data": {}}] * 12)
    errors = await client.settle()
    assert [(frame["event"], frame["data"]["code"]) for frame in errors] == [("pusher:error", 4301)] * 2
