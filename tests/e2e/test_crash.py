"""Lives and deaths: what is on disk survives kill -9, and the next life closes the books of the one before."""

from __future__ import annotations

import asyncio

from tests.e2e.client import Backend, departing
from tests.e2e.conftest import Connect, StartGateway
from tests.e2e.gateway_process import app
from tests.e2e.receiver import Answer, Receiver

DISK = {"mode": "disk"}
SPANS = {"channel.occupied", "channel.vacated", "channel.member_added", "channel.member_removed"}


async def test_the_next_life_closes_the_books(start_gateway: StartGateway, connect: Connect, receiver: Receiver) -> None:
    apps = [app(webhooks=[receiver.endpoint()])]
    gateway = await start_gateway(*apps, outbox=DISK)
    for number in range(5):
        client = await connect(gateway)
        await client.join("presence-room", f"u-{number % 2}")
        await client.subscribe(f"orders-{number}")
    await receiver.one("channel.subscribed", channel="orders-4")
    receiver.forgives_repeats = True
    gateway.kill()
    await gateway.ended()
    gateway = await start_gateway(*apps, outbox=DISK, server={"recovery_linger": "300ms"})
    closed = await receiver.wait_for("connection.closed", count=5)
    assert {event.data["reason"] for event in closed} == {"gateway_lost"}
    await receiver.wait_for("channel.vacated", count=6)
    await receiver.wait_for("channel.member_removed", count=2)
    assert await gateway.stop() == 0
    receiver.check_ledger()


async def test_clients_that_come_back_after_a_crash_have_not_been_away(
    start_gateway: StartGateway, connect: Connect, receiver: Receiver
) -> None:
    apps = [app(webhooks=[receiver.endpoint()])]
    gateway = await start_gateway(*apps, outbox=DISK)
    stays, goes = await connect(gateway), await connect(gateway)
    await stays.join("presence-room", "stays")
    await goes.join("presence-room", "goes")
    await receiver.wait_for("channel.subscribed", count=2)
    receiver.forgives_repeats = True
    gateway.kill()
    await gateway.ended()
    gateway = await start_gateway(*apps, outbox=DISK, server={"recovery_linger": "1h"})
    assert await departing(gateway.port) == [("presence-room", None), ("presence-room", "goes"), ("presence-room", "stays")]
    again = await connect(gateway)
    await again.join("presence-room", "stays")
    # A client is answered before it is written down; who is told of it is so after.
    await receiver.wait_for("channel.subscribed", count=3)
    # However long that has taken, it was within the linger.
    assert await departing(gateway.port) == [("presence-room", "goes")]
    gateway.kill()
    await gateway.ended()
    # The end of a linger is waited for in another life, in which nobody comes back.
    gateway = await start_gateway(*apps, outbox=DISK, server={"recovery_linger": "300ms"})
    await receiver.one("channel.vacated")
    assert await gateway.stop() == 0
    receiver.check_ledger()
    for user in ("stays", "goes"):
        told = [kind for kind in receiver.kinds(user_id=user) if "member" in kind]
        assert told == ["channel.member_added", "channel.member_removed"]
    assert [kind for kind in receiver.kinds() if kind in ("channel.occupied", "channel.vacated")] == [
        "channel.occupied",
        "channel.vacated",
    ]


async def test_attempts_go_on_counting_in_the_next_life(start_gateway: StartGateway, receiver: Receiver) -> None:
    apps = [app(webhooks=[receiver.endpoint()])]
    receiver.rules = [lambda hook: Answer(500)]
    gateway = await start_gateway(*apps, outbox=DISK)
    async with Backend(gateway.port) as backend:
        assert await backend.publish("orders", "created") == 200
    await receiver.wait_for_hooks(lambda hook: hook.attempt == 3)
    receiver.forgives_repeats = True
    gateway.kill()
    await gateway.ended()
    made, before = len(receiver.hooks), receiver.hooks[-1].attempt
    # One attempt (the one that was under way once more, or the one after it), and the next one long after this life: none is
    # under way at its end, to be made once more in the next.
    patient = [app(webhooks=[receiver.endpoint(retry={"initial": "1h", "max_delay": "1h"})])]
    gateway = await start_gateway(*patient, outbox=DISK)
    await receiver.wait_for_hooks(lambda hook: True, made + 1)
    assert await gateway.stop() == 0
    assert receiver.hooks[-1].attempt in (before, before + 1)
    before = receiver.hooks[-1].attempt
    receiver.rules.clear()
    await start_gateway(*apps, outbox=DISK)
    await receiver.one("message.published")
    assert receiver.hooks[-1].attempt > before
    assert len({(hook.id, hook.body) for hook in receiver.hooks}) == 1


async def test_an_acknowledged_publish_is_never_missing(start_gateway: StartGateway, receiver: Receiver) -> None:
    apps = [app(webhooks=[receiver.endpoint(timeout="30s")])]
    receiver.rules = [lambda hook: Answer(hangs=True)]
    acknowledged: list[str] = []
    for life in range(3):
        gateway = await start_gateway(*apps, outbox=DISK)
        async with Backend(gateway.port) as backend:
            for number in range(30):
                assert await backend.publish(f"orders-{number % 7}", f"n{life}-{number}") == 200
                acknowledged.append(f"n{life}-{number}")
        receiver.forgives_repeats = True
        gateway.kill()
        await gateway.ended()
    receiver.rules.clear()
    await start_gateway(*apps, outbox=DISK)
    await receiver.wait_for("message.published", count=len(acknowledged))
    assert sorted(event.data["event"] for event in receiver.of()) == sorted(acknowledged)
    receiver.check_ledger()


async def test_a_deploy_is_not_a_mass_departure(start_gateway: StartGateway, connect: Connect, receiver: Receiver) -> None:
    apps = [app(webhooks=[receiver.endpoint()], linger="1h")]
    gateway = await start_gateway(*apps, outbox=DISK)
    for number in range(5):
        client = await connect(gateway)
        await client.join("presence-room", f"u-{number}")
    assert await gateway.stop() == 0
    await receiver.wait_for("connection.closed", count=5)
    gateway = await start_gateway(*apps, outbox=DISK)
    for number in range(5):
        client = await connect(gateway)
        await client.join("presence-room", f"u-{number}")
    await receiver.wait_for("channel.subscribed", count=10)
    assert await gateway.stop() == 0
    receiver.check_ledger(ended=False)
    spans = [kind for kind in receiver.kinds() if kind in SPANS]
    assert sorted(spans) == ["channel.member_added"] * 5 + ["channel.occupied"]


async def test_an_endpoint_that_asked_to_be_left_alone_is_left_alone_in_the_next_life(
    start_gateway: StartGateway, receiver: Receiver
) -> None:
    apps = [app(webhooks=[receiver.endpoint("leaving", concurrency=1), receiver.endpoint()])]
    receiver.rules = [lambda hook: Answer(410) if hook.path == "/leaving" else None]
    gateway = await start_gateway(*apps, outbox=DISK)
    async with Backend(gateway.port) as backend:
        assert await backend.publish("orders", "first") == 200
    await gateway.wait_for_line(lambda line: "endpoint disabled" in line)
    assert await gateway.stop() == 0
    receiver.rules.clear()
    gateway = await start_gateway(*apps, outbox=DISK)
    await gateway.wait_for_line(lambda line: "endpoint disabled" in line and "410" in line)
    async with Backend(gateway.port) as backend:
        assert await backend.publish("orders", "second") == 200
        await receiver.wait_for("message.published", count=2)
        assert receiver.of("leaving") == []
        status, _, _ = await backend.call("POST", "/webhooks/endpoints/leaving/enable", b"{}")
        assert status == 200
    event = await receiver.one("message.published", endpoint="leaving")
    assert event.data["event"] == "second"


async def test_it_is_left_alone_also_where_other_requests_were_under_way_when_it_asked(
    start_gateway: StartGateway, receiver: Receiver
) -> None:
    apps = [app(webhooks=[receiver.endpoint("leaving")])]
    asked = asyncio.Event()
    receiver.rules = [lambda hook: Answer(410) if hook.mentions("leaves") else Answer(until=asked)]
    gateway = await start_gateway(*apps, outbox=DISK)
    async with Backend(gateway.port) as backend:
        assert await backend.publish("stays", "first") == 200
        await receiver.wait_for_hooks(lambda hook: hook.mentions("stays"))
        assert await backend.publish("leaves", "second") == 200
        await gateway.wait_for_line(lambda line: "endpoint disabled" in line)
        asked.set()
        await gateway.wait_for_line(lambda line: '"status":200' in line)
    assert await gateway.stop() == 0
    made = len(receiver.hooks)
    receiver.rules.clear()
    gateway = await start_gateway(*apps, outbox=DISK)
    async with Backend(gateway.port) as backend:
        assert await backend.publish("stays", "third") == 200
        assert (await backend.get("/webhooks/endpoints"))["endpoints"][0]["state"] == "disabled"
        assert len(receiver.hooks) == made
        status, _, _ = await backend.call("POST", "/webhooks/endpoints/leaving/enable", b"{}")
        assert status == 200
    await receiver.wait_for("message.published", count=2, endpoint="leaving")
    assert await gateway.stop() == 0
    gateway = await start_gateway(*apps, outbox=DISK)
    async with Backend(gateway.port) as backend:
        assert (await backend.get("/webhooks/endpoints"))["endpoints"][0]["state"] == "healthy"
