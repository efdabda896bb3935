"""A full app: exactly as many get in as it has room for, every way to go frees a place, and a reload moves the limit."""

from __future__ import annotations

import asyncio

from tests.e2e.client import Client
from tests.e2e.conftest import Connect, StartGateway
from tests.e2e.gateway_process import APP_ID, GatewayProcess, app
from tests.e2e.operator import metrics
from tests.e2e.receiver import Receiver

SECOND = {"key": "k2", "secret": "s2"}


async def try_to_enter(gateway: GatewayProcess, **options: str) -> tuple[Client, int | None]:
    """Connect; return the code of the refusal, None for being let in."""
    client = await Client.dial(gateway.port, **options)
    frame = await client.next()
    if frame["event"] == "pusher:error":
        code: int = frame["data"]["code"]
        assert await client.closed() == code
        return client, code
    assert frame["event"] == "pusher:connection_established"
    return client, None


async def rush(gateway: GatewayProcess, count: int, **options: str) -> tuple[list[Client], list[int]]:
    """Have so many connect at once; return who was let in, and the codes of the others."""
    tried = await asyncio.gather(*(try_to_enter(gateway, **options) for _ in range(count)))
    return [client for client, code in tried if code is None], [code for _, code in tried if code is not None]


async def test_every_way_to_go_frees_a_place_and_a_refusal_takes_none(
    start_gateway: StartGateway, receiver: Receiver, connect: Connect
) -> None:
    gateway = await start_gateway(
        app(webhooks=[receiver.endpoint(format="batch")], limits={"connections": 5}),
        app("740214", **SECOND, webhooks=[], hard_connection_limit=True, limits={"connections": 3}),
    )
    others, codes = await rush(gateway, 6, **SECOND)
    assert (len(others), codes) == (3, [4004] * 3)
    for turn in range(1, 11):
        inside, codes = await rush(gateway, 20)
        assert (len(inside), codes) == (5, [4100] * 15)
        # There are refused ones who do not wait for their close frame either.
        for hasty in await asyncio.gather(*(Client.dial(gateway.port) for _ in range(5))):
            hasty.reset()
        assert await rush(gateway, 1) == ([], [4100])
        for client in inside[:2]:
            await client.close()
        inside[2].finish()
        for client in inside[3:]:
            client.reset()
        await receiver.wait_for("connection.closed", count=5 * turn)
    samples = await metrics(gateway)
    assert (samples["rawpush_connections", APP_ID], samples["rawpush_connections", "740214"]) == (0, 3)
    # The other app was full all the time, and has a place as soon as one of its own goes.
    assert await rush(gateway, 1, **SECOND) == ([], [4004])
    await others[0].close()
    newcomer = await connect(gateway, **SECOND)
    for client in (newcomer, *others[1:]):
        assert await client.settle() == []
    assert len([event for event in receiver.of() if event.kind == "connection.opened"]) == 50
    receiver.check_ledger()


async def test_a_reload_moves_the_limit_and_sends_nobody_away(
    start_gateway: StartGateway, receiver: Receiver, connect: Connect
) -> None:
    webhooks = [receiver.endpoint(format="batch")]
    second = app("740214", **SECOND, webhooks=[], limits={"connections": 1})
    gateway = await start_gateway(app(webhooks=webhooks, limits={"connections": 5}), second)
    inside = [await connect(gateway) for _ in range(5)]
    other = await connect(gateway, **SECOND)

    async def limit(connections: int, **settings: object) -> None:
        await gateway.reload([app(webhooks=webhooks, limits={"connections": connections}, **settings), second])

    await limit(3)
    gone = 0
    while len(inside) > 2:
        assert await rush(gateway, 2) == ([], [4100] * 2), "more are there than the new limit, or as many"
        for client in inside:
            await client.subscribe(f"still-here-{len(inside)}")
        await inside.pop().close()
        gone += 1
        await receiver.wait_for("connection.closed", count=gone)
    newcomers, codes = await rush(gateway, 4)
    assert (len(newcomers), codes) == (1, [4100] * 3)
    await limit(6, hard_connection_limit=True)
    more, codes = await rush(gateway, 5)
    assert (len(more), codes) == (3, [4004] * 2)
    await limit(0)
    unlimited, codes = await rush(gateway, 10)
    assert (len(unlimited), codes) == (10, [])
    # The other app was neither emptied nor opened by any of this.
    assert await rush(gateway, 1, **SECOND) == ([], [4100])
    for client in (other, *inside, *newcomers, *more, *unlimited):
        assert [frame for frame in await client.settle() if frame["event"] == "pusher:error"] == []
