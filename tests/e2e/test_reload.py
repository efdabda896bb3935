"""SIGHUP: apps and endpoints change while connections stay; a broken file changes nothing."""

from __future__ import annotations

import signal

from tests.e2e.client import Backend, Client
from tests.e2e.conftest import Connect, StartGateway
from tests.e2e.gateway_process import app
from tests.e2e.receiver import Answer, Receiver


async def test_a_changed_app_keeps_its_connections_and_its_open_spans(
    start_gateway: StartGateway, receiver: Receiver, connect: Connect
) -> None:
    webhooks = [receiver.endpoint(concurrency=1)]
    gateway = await start_gateway(app(webhooks=webhooks))
    client = await connect(gateway)
    await client.join("presence-room", "u-1")
    await gateway.reload([app(webhooks=webhooks, secret="another", client_events=False)])
    assert await client.settle() == []
    # The new secret counts from now on, also on a connection that was there before.
    client.secret = "another"
    await client.subscribe("private-a")
    await client.send("client-x", {}, "private-a")
    await client.expect("pusher:error")
    async with Backend(gateway.port, secret="another") as backend:
        status, _, _ = await backend.call("POST", "/events", b'{"name":"e","channel":"private-a","data":"1"}')
        assert status == 200
    await client.close()
    await receiver.one("connection.closed")
    receiver.check_ledger()


async def test_a_new_app_is_let_in_and_a_removed_one_is_sent_home_with_its_books_closed(
    start_gateway: StartGateway, receiver: Receiver, connect: Connect
) -> None:
    first = app(webhooks=[receiver.endpoint(concurrency=1)])
    second = app(
        "740214", key="k2", secret="s2", linger="1h", webhooks=[receiver.endpoint("two", app_id="740214", concurrency=1)]
    )
    gateway = await start_gateway(first, second)
    staying = await connect(gateway)
    leaving = await connect(gateway, key="k2", secret="s2")
    await leaving.subscribe("orders")
    # Who is removed has two seconds for what is due to it: nothing else is.
    await receiver.one("channel.subscribed", endpoint="two")
    third = app("740215", key="k3", secret="s3", webhooks=[])
    await gateway.reload([first, third])
    assert await leaving.closed() == 4001
    await receiver.wait_until(
        lambda: {"connection.closed", "channel.vacated"} <= {event.kind for event in receiver.of("two", "740214")},
        "the end of everything, also of what would have lingered for an hour",
    )
    receiver.check_ledger("two", "740214")
    assert await staying.settle() == []
    await connect(gateway, key="k3", secret="s3")
    refused = await Client.dial(gateway.port, key="k2")
    assert await refused.closed() == 4001
    # Put back, it begins anew.
    await gateway.reload([first, second])
    back = await connect(gateway, key="k2", secret="s2")
    await back.subscribe("orders")
    await receiver.wait_until(
        lambda: [event.kind for event in receiver.of("two", "740214")].count("channel.occupied") == 2, "a second beginning"
    )


async def test_a_new_endpoint_hears_of_what_happens_next_and_a_removed_one_of_nothing_more(
    start_gateway: StartGateway, receiver: Receiver, connect: Connect
) -> None:
    one, two = receiver.endpoint("one", concurrency=1), receiver.endpoint("two", concurrency=1)
    gateway = await start_gateway(app(webhooks=[one]))
    client = await connect(gateway)
    await client.subscribe("before")
    await receiver.one("channel.subscribed", endpoint="one")
    await gateway.reload([app(webhooks=[two])])
    await client.subscribe("after")
    await receiver.one("channel.occupied", endpoint="two", channel="after")
    await client.close()
    await receiver.one("connection.closed", endpoint="two")
    assert [event.kind for event in receiver.of("one")] == ["connection.opened", "channel.occupied", "channel.subscribed"]
    assert [event.sequence for event in receiver.of("two")] == list(range(1, len(receiver.of("two")) + 1))


async def test_the_backlog_of_a_removed_endpoint_becomes_dead_letters_and_its_sequence_goes_on(
    start_gateway: StartGateway, receiver: Receiver, connect: Connect
) -> None:
    receiver.rules.append(lambda hook: Answer(status=500))
    webhooks = [receiver.endpoint(concurrency=1)]
    gateway = await start_gateway(app(webhooks=webhooks), outbox={"mode": "disk"})
    client = await connect(gateway)
    await client.subscribe("orders")
    await receiver.wait_for_hooks(lambda hook: hook.attempt >= 1)
    await gateway.reload([app(webhooks=[])])
    line = await gateway.wait_for_line(lambda line: "endpoint removed" in line)
    assert '"dead_letters":3' in line
    receiver.rules.clear()
    await gateway.reload([app(webhooks=webhooks)])
    await client.subscribe("later")
    event = await receiver.one("channel.subscribed", channel="later")
    assert event.sequence > 3


async def test_a_broken_file_changes_nothing_and_says_why(
    start_gateway: StartGateway, receiver: Receiver, connect: Connect
) -> None:
    gateway = await start_gateway()
    client = await connect(gateway)
    whole = gateway.config.read_text()
    gateway.config.write_text(whole.replace('"linger"', '"lingre"'))
    line = await gateway.hang_up("mistake")
    assert "lingre" in line
    assert "linger" in line
    gateway.config.write_text("[[[")
    await gateway.hang_up("mistake")
    await client.subscribe("orders")
    await receiver.one("channel.occupied", channel="orders")
    gateway.config.write_text(whole)
    for _ in range(10):
        gateway.signal(signal.SIGHUP)
    await gateway.hang_up()
    assert await client.settle() == []
