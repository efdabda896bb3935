"""The stock Python client, Pysher, against the real gateway."""

from __future__ import annotations

import asyncio
import json
import logging
import sched
import socket
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pysher
import pytest

from tests.e2e.client import Backend
from tests.e2e.conftest import Connect, StartGateway
from tests.e2e.gateway_process import KEY, SECRET, GatewayProcess, app
from tests.e2e.receiver import Receiver
from tests.e2e.silent import hear_out
from tests.patience import LONG_S


class Threaded:
    """A Pysher client, whose callbacks come from its own thread as messages in a queue."""

    def __init__(self, port: int, key: str) -> None:
        self.pusher = pysher.Pusher(
            key,
            secure=False,
            secret=SECRET,
            custom_host="127.0.0.1",
            port=port,
            user_data={"user_id": "u-1", "user_info": {"name": "Ada"}},
            log_level=logging.ERROR,
            reconnect_interval=0.2,
        )
        # Its timer thread sleeps up to 30 s at a stretch and would keep the test run from ending.
        self.pusher.connection.timeout_scheduler = sched.scheduler(time.time, lambda span_s: time.sleep(min(span_s, 0.02)))
        self.queue: asyncio.Queue[tuple[str, Any]] = asyncio.Queue()
        self.loop = asyncio.get_running_loop()
        # What is bound to a channel after `subscribe` may be bound too late for the success, so that is overheard here.
        handle = self.pusher.connection.event_handler

        def overheard(event: str, data: object, channel: str) -> None:
            self.hear(f"{event} {channel}")(data)
            handle(event, data, channel)

        self.pusher.connection.event_handler = overheard
        for event in ("pusher:connection_established", "pusher:pong", "pusher:error"):
            self.pusher.connection.bind(event, self.hear(event))

    def hear(self, name: str) -> Callable[[Any], None]:
        """Return a callback that puts what it is told into the queue, under this name."""

        def heard(data: object) -> None:
            self.loop.call_soon_threadsafe(self.queue.put_nowait, (name, data))

        return heard

    async def expect(self, name: str) -> Any:
        async with asyncio.timeout(LONG_S):
            while True:
                found, data = await self.queue.get()
                if found == name:
                    return data

    async def subscribe(self, channel: str, *events: str) -> None:
        """Subscribe, bind the events, and wait for the success."""
        subscription = await asyncio.to_thread(self.pusher.subscribe, channel)
        for event in events:
            subscription.bind(event, self.hear(event))
        await self.expect(f"pusher_internal:subscription_succeeded {channel}")

    async def end(self) -> None:
        """See both of its threads end."""
        await end(self.pusher.connection)


async def end(connection: Any) -> None:
    """End a Pysher connection, and see both of its threads end.

    Its own `disconnect` closes the socket under a `select` of 100 s that does not notice; the end of the line it notices.
    """
    connection.disconnect_called = True
    stock = connection.socket.sock
    if stock is not None and stock.sock is not None:
        stock.sock.shutdown(socket.SHUT_RDWR)
    await asyncio.to_thread(connection.join, LONG_S)
    for event in list(connection.timeout_scheduler.queue):
        connection.timeout_scheduler.cancel(event)
    timer = connection.timeout_scheduler_thread
    if timer is not None:
        await asyncio.to_thread(timer.join, LONG_S)
        assert not timer.is_alive()
    assert not connection.is_alive()


@pytest.fixture
async def pysher_of() -> AsyncIterator[Callable[..., Threaded]]:
    made: list[Threaded] = []

    def make(gateway: GatewayProcess, key: str = KEY) -> Threaded:
        made.append(Threaded(gateway.port, key))
        made[-1].pusher.connect()
        return made[-1]

    yield make
    for client in made:
        await client.end()


async def test_subscribe_and_receive(gateway: GatewayProcess, backend: Backend, pysher_of: Callable[..., Threaded]) -> None:
    client = pysher_of(gateway)
    await client.expect("pusher:connection_established")
    # It sends this ping the moment the socket opens, before it has read anything.
    await client.expect("pusher:pong")
    for channel in ("orders", "private-orders", "presence-orders"):
        await client.subscribe(channel, "created")
        assert await backend.publish(channel, "created", '{"id":17}') == 200
        assert json.loads(await client.expect("created")) == {"id": 17}


async def test_client_events_go_both_ways(gateway: GatewayProcess, pysher_of: Callable[..., Threaded]) -> None:
    clients = [pysher_of(gateway) for _ in range(2)]
    for client in clients:
        await client.expect("pusher:connection_established")
        await client.subscribe("private-chat", "client-typing")
    for sender, other in (clients, clients[::-1]):
        await asyncio.to_thread(sender.pusher.channel("private-chat").trigger, "client-typing", {"on": True})
        assert json.loads(await other.expect("client-typing")) == {"on": True}


async def test_ping_and_pong(gateway: GatewayProcess, pysher_of: Callable[..., Threaded]) -> None:
    client = pysher_of(gateway)
    await client.expect("pusher:connection_established")
    await client.expect("pusher:pong")
    await asyncio.to_thread(client.pusher.connection.send_ping)
    await client.expect("pusher:pong")


async def test_it_stays_however_long_it_is_idle(
    start_gateway: StartGateway, pysher_of: Callable[..., Threaded], receiver: Receiver
) -> None:
    gateway = await start_gateway(app(webhooks=[receiver.endpoint()]), server={"activity_timeout": "1s", "pong_timeout": "2s"})
    client = pysher_of(gateway)
    await client.expect("pusher:connection_established")
    # Until somebody who came after it and does not answer was found out: more than it would have been given.
    await hear_out(gateway.port)
    (silent,) = await receiver.wait_for("connection.closed")
    assert silent.data["reason"] == "ping_timeout"
    await client.subscribe("orders")
    await receiver.one("channel.subscribed", channel="orders")
    await receiver.wait_for("connection.opened", count=2)
    assert receiver.kinds().count("connection.opened") == 2


async def test_an_unknown_key_stops_it(gateway: GatewayProcess, pysher_of: Callable[..., Threaded]) -> None:
    client = pysher_of(gateway, "no-such-key")
    error = await client.expect("pusher:error")
    assert error["code"] == 4001
    # Its thread ends only if it has understood that it must not come back.
    await asyncio.to_thread(client.pusher.connection.join, LONG_S)
    assert not client.pusher.connection.is_alive()


async def test_a_full_app_only_delays_it(
    start_gateway: StartGateway, connect: Connect, pysher_of: Callable[..., Threaded], receiver: Receiver
) -> None:
    gateway = await start_gateway(app(webhooks=[receiver.endpoint()], limits={"connections": 1}))
    first = await connect(gateway)
    client = pysher_of(gateway)
    for _ in range(2):
        assert (await client.expect("pusher:error"))["code"] == 4100
    await first.close()
    await client.expect("pusher:connection_established")
