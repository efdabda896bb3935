"""Whoever asks as fast as the line takes it: his neighbours notice nothing, and what is recorded of him has a bound."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Callable

import pytest

from tests.e2e.client import Client, Frame, text_frame
from tests.e2e.conftest import Connect, StartGateway
from tests.e2e.gateway_process import app
from tests.e2e.receiver import Receiver
from tests.machine import Machine

#: how often each flooder asks
TIMES = 4_000
#: what he may hold, and so may ask for at once
CHANNELS = 50
#: subscriptions a second after that
RATE = 10
#: events that one subscription may make with its end: occupied, subscribed, member added, cache miss, and the same backwards
EVENTS = 8

Turn = Callable[[Client, int], list[Frame]]


def _subscribe(client: Client, channel: str, member: object = None, **more: str) -> Frame:
    return {"event": "pusher:subscribe", "data": {**client.subscription(channel, member), **more}}


def _unsubscribe(channel: str) -> Frame:
    return {"event": "pusher:unsubscribe", "data": {"channel": channel}}


FLOODS: dict[str, Turn] = {
    "one channel": lambda client, _: [_subscribe(client, "orders"), _unsubscribe("orders")],
    "one presence channel": lambda client, _: [
        _subscribe(client, "presence-cache-orders", {"user_id": "flooder"}),
        _unsubscribe("presence-cache-orders"),
    ],
    "ever new channels": lambda client, number: [_subscribe(client, f"orders-{number}")],
    "ever new channels, each left again": lambda client, number: [
        _subscribe(client, f"orders-{number}"),
        _unsubscribe(f"orders-{number}"),
    ],
    "wrong signatures": lambda client, _: [_subscribe(client, "private-orders", auth=f"{client.key}:{'0' * 64}")],
    "sign-ins": lambda client, _: [{"event": "pusher:signin", "data": client.signature("flooder")}],
    "nothing but pings": lambda client, _: [{"event": "pusher:ping", "data": {}}],
}


@pytest.mark.parametrize("turn", FLOODS.values(), ids=FLOODS)
async def test_a_flood_of_requests_is_the_flooders_alone(
    start_gateway: StartGateway, connect: Connect, receiver: Receiver, turn: Turn
) -> None:
    webhooks = [receiver.endpoint(format="batch")]
    limits = {"channels_per_connection": CHANNELS, "subscriptions": RATE, "client_events": 1_000_000}
    gateway = await start_gateway(app(webhooks=webhooks, limits=limits))
    flooder, neighbour, friend = [await connect(gateway) for _ in range(3)]
    for client in (neighbour, friend):
        await client.subscribe("private-chat")
    started = time.monotonic()
    flood = asyncio.create_task(_flood(flooder, turn))
    with Machine(gateway.pid) as machine:
        slowest = await _talk(neighbour, friend, flood, machine)
    answers = await flood
    took_s = time.monotonic() - started
    assert slowest < 1.0
    assert await neighbour.settle() == []
    # He is still there, and is heard.
    await flooder.settle()
    for client in (flooder, neighbour, friend):
        await client.close()
    assert await gateway.stop() == 0
    receiver.check_ledger()
    passed = CHANNELS + RATE * took_s + 1
    succeeded = answers["pusher_internal:subscription_succeeded"] + answers["pusher:signin_success"]
    assert succeeded <= CHANNELS + passed
    of_him = [event for event in receiver.of() if event.data.get("socket_id") == flooder.socket_id]
    assert len(of_him) <= EVENTS * (CHANNELS + passed)
    assert len(gateway.lines) < 100


async def _flood(client: Client, turn: Turn) -> Counter[str]:
    """Ask, and read what comes, each as fast as it goes; return the answers by event."""
    answers: Counter[str] = Counter()

    async def read() -> None:
        while not answers["pusher:the_end"]:
            frame = await client.next()
            answers["pusher:the_end" if "the-end" in json.dumps(frame) else frame["event"]] += 1

    reader = asyncio.create_task(read())
    for number in range(0, TIMES, 50):
        frames = [frame for one in range(number, number + 50) for frame in turn(client, one)]
        client.write(b"".join(text_frame(json.dumps(frame).encode()) for frame in frames))
        await client.ws.drain()
        await asyncio.sleep(0)
    # Refused with its own name in the sentence: nothing before it is still to come.
    await client.send("the-end", {})
    await reader
    return answers


async def _talk(speaker: Client, listener: Client, until: asyncio.Task[Counter[str]], machine: Machine) -> float:
    """Speak over and over; return how long the slowest word took."""
    slowest = 0.0
    number = 0
    while not until.done():
        said_at = machine.time()
        await speaker.send(f"client-{number}", {}, "private-chat")
        await listener.expect(f"client-{number}")
        slowest = max(slowest, machine.time() - said_at)
        number += 1
    return slowest
