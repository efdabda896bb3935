"""How webhooks are delivered to receivers that fail, stall, throttle, redirect, or go away."""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from datetime import datetime

import pytest

from tests.e2e.client import Backend
from tests.e2e.conftest import Connect, StartGateway
from tests.e2e.gateway_process import GatewayProcess, app, free_port
from tests.e2e.receiver import Answer, Hook, Receiver, by_attempt


async def test_a_retry_is_the_same_request_signed_afresh(start_gateway: StartGateway, receiver: Receiver) -> None:
    gateway = await start_gateway(app(webhooks=[receiver.endpoint(timeout="1100ms", secrets=("new", "old"))]))
    receiver.rules = [by_attempt(Answer(500), Answer(hangs=True), Answer(resets=True), Answer(404))]
    async with Backend(gateway.port) as backend:
        assert await backend.publish("orders", "created", '{"id":17}') == 200
    await receiver.one("message.published")
    hooks = receiver.hooks
    assert [hook.attempt for hook in hooks] == [1, 2, 3, 4, 5]
    assert len({(hook.id, hook.body) for hook in hooks}) == 1
    assert len({frozenset(hook.headers) for hook in hooks}) == 1
    # More than a second has passed in the second attempt, so the stamps of the first and the last cannot be the same.
    assert int(hooks[-1].headers["x-webhook-timestamp"]) > int(hooks[0].headers["x-webhook-timestamp"])
    assert len({hook.headers["webhook-signature"] for hook in hooks}) > 1


async def test_a_header_tells_the_time_of_the_attempt_and_a_body_that_of_the_event_wherever_the_gateway_stands(
    start_gateway: StartGateway, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "KTM-5:45")
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    gateway = await start_gateway(app(webhooks=[receiver.endpoint(concurrency=1, timeout="10s")]))
    receiver.rules = [lambda hook: Answer(delay_s=2.5) if hook.mentions("first") else None]
    async with Backend(gateway.port) as backend:
        began_at = time.time()
        for channel in ("first", "second", "third"):
            assert await backend.publish(channel, "created") == 200
        published_at = time.time()
    await receiver.one("message.published", channel="third")
    written = [hook.envelopes[0]["timestamp"] for hook in receiver.hooks]
    happened = [datetime.fromisoformat(text).timestamp() for text in written]
    assert all(text.endswith("Z") for text in written)
    assert happened == sorted(happened)
    # A millisecond is what a body is exact to.
    assert began_at - 0.001 <= happened[0]
    assert happened[-1] <= published_at
    sent = [int(hook.headers["x-webhook-timestamp"]) for hook in receiver.hooks]
    # Each was sent when the one before was answered, and that is the time in its header, cut to a whole second.
    first, second, third = (hook.at for hook in receiver.hooks)
    for at, earliest, latest in zip(sent, (began_at, first + 2.5, second), (first, second, third), strict=True):
        assert int(earliest) <= at <= latest


async def test_redirects_are_not_followed(start_gateway: StartGateway, receiver: Receiver) -> None:
    gateway = await start_gateway()
    elsewhere = {"Location": f"http://127.0.0.1:{receiver.port}/elsewhere"}
    answers = [Answer(status, elsewhere) for status in (301, 302, 303, 307, 308)]
    receiver.rules = [by_attempt(*answers, Answer(307, {"Location": "/elsewhere"}), Answer(307))]
    async with Backend(gateway.port) as backend:
        assert await backend.publish("orders", "created") == 200
    await receiver.one("message.published")
    assert [(hook.path, hook.attempt) for hook in receiver.hooks] == [("/all", attempt) for attempt in range(1, 9)]


async def test_every_other_failure_is_tried_again(start_gateway: StartGateway, receiver: Receiver) -> None:
    statuses = [400, 401, 403, 404, 408, 409, 413, 425, 500, 501, 504]
    gateway = await start_gateway(app(webhooks=[receiver.endpoint(retry={"initial": "10ms", "max_delay": "30ms"})]))
    receiver.rules = [by_attempt(*map(Answer, statuses))]
    async with Backend(gateway.port) as backend:
        assert await backend.publish("orders", "created") == 200
    await receiver.one("message.published")
    assert [hook.answer.status for hook in receiver.hooks] == [*statuses, 200]


async def test_retry_after_is_obeyed_and_capped(start_gateway: StartGateway, receiver: Receiver) -> None:
    endpoint = receiver.endpoint(retry={"initial": "20ms", "max_delay": "1500ms"})
    gateway = await start_gateway(app(webhooks=[endpoint]), outbox={"mode": "disk"})
    receiver.rules = [
        by_attempt(
            Answer(503, {"Retry-After": "1"}),
            Answer(429, {"Retry-After": "soon"}),
            Answer(503, {"Retry-After": "-5"}),
            Answer(429, {"Retry-After": "1000000"}),
        )
    ]
    async with Backend(gateway.port) as backend:
        assert await backend.publish("orders", "created") == 200
        await receiver.one("message.published")
        told = (await backend.get("/webhooks/endpoints/all/deliveries"))["deliveries"]
    at = [hook.at for hook in receiver.hooks]
    gaps = [later - earlier for earlier, later in itertools.pairwise(at)]
    assert len(gaps) == 4
    assert min(gaps[0], gaps[3]) >= 1.0
    # How long it meant to wait is its own to say: how long it has waited is the machine's, too.
    meant = {
        one["attempt"]: seconds(one["next_attempt_at"]) - seconds(one["at"]) - one["latency_ms"] / 1000
        for one in told
        if "next_attempt_at" in one
    }
    assert meant.keys() == {1, 2, 3, 4}
    assert meant[1] < 1.2
    assert max(meant[2], meant[3]) < 0.8
    assert meant[4] < 1.6


def seconds(stamp: str) -> float:
    return datetime.fromisoformat(stamp).timestamp()


async def test_gone_disables_this_endpoint_only(start_gateway: StartGateway, receiver: Receiver) -> None:
    gateway = await start_gateway(app(webhooks=[receiver.endpoint("leaving"), receiver.endpoint()]))
    receiver.rules = [lambda hook: Answer(410) if hook.path == "/leaving" else None]
    async with Backend(gateway.port) as backend:
        assert await backend.publish("orders", "first") == 200
        await receiver.wait_for_hooks(lambda hook: hook.path == "/leaving")
        await gateway.wait_for_line(lambda line: "disabled" in line)
        for number in range(5):
            assert await backend.publish(f"orders-{number}", "later") == 200
    await receiver.wait_for("message.published", count=6)
    assert await gateway.stop() == 0
    assert [hook.path for hook in receiver.hooks].count("/leaving") == 1


async def test_one_bad_channel_does_not_hold_up_the_others(
    start_gateway: StartGateway, connect: Connect, receiver: Receiver
) -> None:
    spans = ["channel.occupied", "channel.vacated"]
    gateway = await start_gateway(app(webhooks=[receiver.endpoint(events=spans)]))
    receiver.rules = [lambda hook: Answer(500) if hook.mentions("bad") else None]
    client = await connect(gateway)
    for number in range(40):
        for channel in ("bad", f"good-{number}"):
            await client.subscribe(channel)
            await client.unsubscribe(channel)
    await client.settle()
    # The bad channel shares its lane, one of eight, with a few of the forty.
    await receiver.wait_for("channel.vacated", count=25)
    assert receiver.kinds(channel="bad") == []
    receiver.rules.clear()
    await receiver.wait_for("channel.vacated", count=80)
    assert receiver.kinds(channel="bad") == spans * 40
    receiver.check_delivery()


async def test_a_dead_endpoint_delays_no_other(start_gateway: StartGateway, receiver: Receiver) -> None:
    dead = {"name": "dead", "url": f"http://127.0.0.1:{free_port()}/", "secrets": ["s"], "retry": {"initial": "50ms"}}
    endpoints = [dead, receiver.endpoint("stuck", timeout="10m"), receiver.endpoint()]
    gateway = await start_gateway(app(webhooks=endpoints), server={"shutdown_timeout": "1s"})
    receiver.rules = [lambda hook: Answer(hangs=True) if hook.path == "/stuck" else None]
    async with Backend(gateway.port) as backend:
        for number in range(50):
            assert await backend.publish(f"orders-{number}", "created") == 200
    await receiver.wait_for("message.published", count=50)
    # Nothing but the deadline ends the wait for the dead one and the stuck one.
    assert await gateway.stop() == 0


async def test_a_batch_takes_what_has_piled_up(start_gateway: StartGateway, receiver: Receiver) -> None:
    gateway = await start_gateway(app(webhooks=[receiver.endpoint(format="batch", concurrency=1, batch_max=40, timeout="60s")]))
    gate = asyncio.Event()
    receiver.rules = [lambda hook: Answer(until=gate)]
    async with Backend(gateway.port) as backend:
        for number in range(101):
            assert await backend.publish("orders", f"n{number}") == 200
            await receiver.wait_for_hooks(lambda hook: True)
    gate.set()
    await receiver.wait_for("message.published", count=101)
    assert [len(hook.envelopes) for hook in receiver.hooks] == [1, 40, 40, 20]
    assert [event.data["event"] for event in receiver.of()] == [f"n{number}" for number in range(101)]


async def test_a_batch_is_not_cut_anew_by_a_retry(start_gateway: StartGateway, receiver: Receiver) -> None:
    gateway = await start_gateway(app(webhooks=[receiver.endpoint(format="batch", concurrency=1)]))
    receiver.rules = [by_attempt(Answer(500), Answer(500), Answer(500))]
    async with Backend(gateway.port) as backend:
        for number in range(30):
            assert await backend.publish("orders", f"n{number}") == 200
    await receiver.wait_for("message.published", count=30)
    bodies: dict[str, set[bytes]] = {}
    for hook in receiver.hooks:
        bodies.setdefault(hook.id, set()).add(hook.body)
    assert all(len(body) == 1 for body in bodies.values())
    assert sum(len(hook.envelopes) for hook in receiver.hooks if hook.answer.status == 200) == 30


@pytest.mark.parametrize(("format_", "concurrency"), [("event", 16), ("batch", 4), ("batch", 1)])
async def test_order_of_a_subject_survives_failures_and_delays(
    start_gateway: StartGateway, connect: Connect, receiver: Receiver, format_: str, concurrency: int
) -> None:
    endpoint = receiver.endpoint(
        format=format_, concurrency=concurrency, timeout="800ms", retry={"initial": "10ms", "max_delay": "40ms"}
    )
    gateway = await start_gateway(app(webhooks=[endpoint]))
    chance = random.Random(7)

    def rule(hook: Hook) -> Answer:
        # Where all of it goes into a few batches chance might let each of them pass.
        roll = chance.random() if len(receiver.hooks) > 1 else 0.0
        bad = Answer(500) if roll < 0.12 else Answer(resets=True) if roll < 0.18 else Answer(hangs=True)
        return bad if roll < 0.2 else Answer(delay_s=chance.random() * 0.02)

    receiver.rules = [rule]
    await asyncio.gather(*(_come_and_go(gateway, connect, number) for number in range(10)))
    await receiver.wait_for("connection.closed", count=20)
    await receiver.wait_for("channel.vacated", count=10)
    assert await gateway.stop() == 0
    receiver.check_ledger()
    assert any(hook.attempt > 1 for hook in receiver.hooks)


async def _come_and_go(gateway: GatewayProcess, connect: Connect, number: int) -> None:
    for _ in range(2):
        client = await connect(gateway)
        for turn in range(4):
            channel = f"presence-{number}"
            await client.join(channel, f"u-{turn}")
            await client.subscribe(f"public-{(number + turn) % 5}")
            await client.unsubscribe(channel)
            await client.unsubscribe(f"public-{(number + turn) % 5}")
        await client.settle()
        await client.close()
