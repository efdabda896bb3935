"""Many connections at once, coming and going in every way, and counts that do not drift."""

from __future__ import annotations

import asyncio
import random

from tests.e2e.client import Backend, Client
from tests.e2e.conftest import Connect, StartGateway
from tests.e2e.gateway_process import GatewayProcess, app
from tests.e2e.receiver import Receiver

Model = dict[Client, set[str]]


async def act(gateway: GatewayProcess, model: Model, chance: random.Random) -> None:
    """Do one thing at random, on the wire and in the model."""
    roll = chance.random()
    if len(model) < 20 or (roll < 0.15 and len(model) < 60):
        model[await Client.connect(gateway.port)] = set()
        return
    client = chance.choice(list(model))
    if roll < 0.25:
        del model[client]
        leave = chance.choice(["close", "fin", "reset"])
        if leave == "close":
            await client.close()
        elif leave == "fin":
            client.finish()
        else:
            client.reset()
        return
    channel = chance.choice(["public", "presence"]) + f"-{chance.randrange(12)}"
    if channel in model[client]:
        model[client].discard(channel)
        await client.unsubscribe(channel)
    else:
        model[client].add(channel)
        member = {"user_id": f"u-{chance.randrange(8)}"} if channel.startswith("presence-") else None
        await client.subscribe(channel, member)


async def test_counts_do_not_drift(start_gateway: StartGateway, receiver: Receiver) -> None:
    gateway = await start_gateway(app(webhooks=[receiver.endpoint(format="batch")], linger="100ms"))
    chance = random.Random(11)
    model: Model = {}
    async with Backend(gateway.port) as backend:
        for turn in range(1, 1201):
            await act(gateway, model, chance)
            if turn % 300 == 0:
                await asyncio.gather(*(client.settle() for client in model))
                opened = len([event for event in receiver.of() if event.kind == "connection.opened"])
                await receiver.wait_for("connection.closed", count=opened - len(model))
                expected = {channel for channels in model.values() for channel in channels}
                assert set((await backend.get("/channels"))["channels"]) == expected
        for client in model:
            client.reset()
        await receiver.wait_until(lambda: balanced(receiver), "every connection's end")
        assert await backend.get("/channels") == {"channels": {}}
    assert await gateway.stop() == 0
    receiver.check_ledger()


def balanced(receiver: Receiver) -> bool:
    kinds = [event.kind for event in receiver.of()]
    return kinds.count("connection.opened") == kinds.count("connection.closed")


async def test_many_vanish_in_the_middle_of_a_broadcast(
    start_gateway: StartGateway, connect: Connect, receiver: Receiver
) -> None:
    gateway = await start_gateway(app(webhooks=[receiver.endpoint(format="batch")]))
    control = [await connect(gateway) for _ in range(5)]
    for client in control:
        await client.subscribe("feed")
    sent = 0
    async with Backend(gateway.port) as backend:
        for _ in range(3):
            crowd = await asyncio.gather(*(Client.connect(gateway.port) for _ in range(90)))
            for number, client in enumerate(crowd):
                await client.subscribe("feed")
                if number % 2:
                    await client.join("presence-feed", f"u-{number}")
            for number, client in enumerate(crowd):
                if number % 3 == 0:
                    client.reset()
                elif number % 3 == 1:
                    client.finish()
                else:
                    client.ws.transport.pause_reading()
                    client.write(b"\x88\x82\0\0\0\0\x03\xe8")
                if number % 9 == 0:
                    assert await backend.publish("feed", f"n{sent}", "x" * 5_000) == 200
                    sent += 1
        for client in control:
            events = [(await client.expect(f"n{number}"))["event"] for number in range(sent)]
            assert len(events) == sent
            assert client.passed == []
        await receiver.wait_for("connection.closed", count=270, within_s=20)
        assert (await backend.get("/channels/presence-feed/users")) == {"users": []}
        # Newcomers are not held up by all these departures.
        newcomer = await connect(gateway)
        await newcomer.subscribe("feed")
        await newcomer.close()
    for client in control:
        await client.close()
    assert await gateway.stop() == 0
    receiver.check_ledger()
