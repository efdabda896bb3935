"""Many connections at once, coming and going in every way, and counts that do not drift."""

from __future__ import annotations

import asyncio
import json
import random
from collections import defaultdict

from tests.e2e.client import Backend, Client
from tests.e2e.conftest import Connect, StartGateway
from tests.e2e.gateway_process import APP_ID, GatewayProcess, app
from tests.e2e.operator import ask, metrics
from tests.e2e.receiver import Receiver

COUNT = "pusher_internal:subscription_count"

#: the channels of each connection that is there, and on a presence channel as whom
Model = dict[Client, dict[str, str]]


async def act(gateway: GatewayProcess, backend: Backend, model: Model, chance: random.Random) -> None:
    """Do one thing at random, on the wire and in the model."""
    roll = chance.random()
    if len(model) < 20 or (roll < 0.15 and len(model) < 60):
        # What nobody waits for must not stop the reading: a close frame would not be seen then.
        model[await Client.connect(gateway.port, max_queue=None)] = {}
        return
    client = chance.choice(list(model))
    if roll < 0.25:
        del model[client]
        await leave(gateway, backend, client, chance.choice(["close", "fin", "reset", "backend", "operator"]))
        return
    channel = chance.choice(["public", "presence"]) + f"-{chance.randrange(12)}"
    if channel in model[client]:
        del model[client][channel]
        await client.unsubscribe(channel)
    else:
        user_id = f"u-{chance.randrange(8)}"
        model[client][channel] = user_id
        await client.subscribe(channel, {"user_id": user_id} if channel.startswith("presence-") else None)


async def leave(gateway: GatewayProcess, backend: Backend, client: Client, way: str) -> None:
    match way:
        case "close":
            await client.close()
        case "fin":
            client.finish()
        case "reset":
            client.reset()
        case "backend":
            await client.sign_in(client.socket_id)
            status, _, _ = await backend.call("POST", f"/users/{client.socket_id}/terminate_connections", b"{}")
            assert status == 200
            assert await client.closed() == 4009
        case "operator":
            status, _ = await ask(gateway, "POST", f"/v1/apps/{APP_ID}/connections/{client.socket_id}/terminate", json={})
            assert status == 200
            assert await client.closed() == 4009


async def compare(gateway: GatewayProcess, backend: Backend, model: Model) -> None:
    """Hold everything that can be asked for against the model; nothing may be under way."""
    here: dict[str, list[str]] = defaultdict(list)
    for channels in model.values():
        for channel, user_id in channels.items():
            here[channel].append(user_id)
    users = {channel: set(on) for channel, on in here.items() if channel.startswith("presence-")}
    presence = {channel: {"user_count": len(on)} for channel, on in users.items()}
    public = {channel: {"subscription_count": len(on)} for channel, on in here.items() if channel not in users}
    asked = await backend.get("/channels", info="subscription_count")
    assert asked == {"channels": {**public, **{key: {} for key in presence}}}
    asked = await backend.get("/channels", info="user_count", filter_by_prefix="presence-")
    assert asked == {"channels": presence}
    for channel, counts in {**public, **presence}.items():
        assert await backend.get(f"/channels/{channel}", info=",".join(counts)) == {"occupied": True, **counts}
    for channel, on in users.items():
        told = (await backend.get(f"/channels/{channel}/users"))["users"]
        assert sorted(user["id"] for user in told) == sorted(on)
    samples = await metrics(gateway)
    assert samples["rawpush_connections", APP_ID] == len(model)
    assert samples["rawpush_channels", APP_ID] == len(here)
    # Who is on a public channel was told each new number of its subscribers.
    await settle(model)
    for client, channels in model.items():
        told = {frame["channel"]: json.loads(frame["data"]) for frame in client.passed if frame["event"] == COUNT}
        expected = {channel: counts for channel, counts in public.items() if channel in channels}
        assert {channel: told.get(channel) for channel in expected} == expected


async def settle(model: Model) -> None:
    """Return when everything asked for up to now has been done; what the clients were told stays in `passed`."""
    for client in model:
        heard = list(client.passed)
        await client.settle()
        client.passed[:0] = heard


async def test_counts_do_not_drift(start_gateway: StartGateway, receiver: Receiver) -> None:
    webhooks = [receiver.endpoint(format="batch")]
    gateway = await start_gateway(app(webhooks=webhooks, linger="100ms", subscription_counts=True))
    chance = random.Random(11)
    model: Model = {}
    async with Backend(gateway.port) as backend:
        for turn in range(1, 1201):
            await act(gateway, backend, model, chance)
            if turn % 200 == 0:
                await settle(model)
                await receiver.wait_for("connection.closed", count=len(Client.made) - len(model))
                await compare(gateway, backend, model)
        for client in model:
            client.reset()
        await receiver.wait_until(lambda: balanced(receiver), "every connection's end")
        await compare(gateway, backend, {})
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
        await receiver.wait_for("connection.closed", count=270)
        assert (await backend.get("/channels/presence-feed/users")) == {"users": []}
        # Newcomers are not held up by all these departures.
        newcomer = await connect(gateway)
        await newcomer.subscribe("feed")
        await newcomer.close()
    for client in control:
        await client.close()
    assert await gateway.stop() == 0
    receiver.check_ledger()
