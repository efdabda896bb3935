"""Two apps that use the same names at the same time know nothing of each other."""

from __future__ import annotations

from tests.e2e.client import Backend
from tests.e2e.conftest import Connect, StartGateway
from tests.e2e.gateway_process import app
from tests.e2e.receiver import Receiver

SECOND = {"key": "k2", "secret": "s2"}


async def test_the_same_channels_and_users_of_two_apps_are_different_ones(
    start_gateway: StartGateway, receiver: Receiver, connect: Connect
) -> None:
    gateway = await start_gateway(
        app(webhooks=[receiver.endpoint(concurrency=1)]),
        app("740214", **SECOND, webhooks=[receiver.endpoint("two", app_id="740214", concurrency=1)]),
    )
    one, another = await connect(gateway), await connect(gateway)
    stranger = await connect(gateway, **SECOND)
    for client in (one, another, stranger):
        await client.subscribe("orders")
        await client.subscribe("cache-prices")
        await client.join("presence-room", "ada")
    await another.settle()
    async with Backend(gateway.port) as ours, Backend(gateway.port, "740214", **SECOND) as theirs:
        for channel in ("orders", "cache-prices", "presence-room"):
            assert await ours.publish(channel, "created", "ours") == 200
        await one.send("client-typing", "{}", "presence-room")
        await another.expect("client-typing", "presence-room")
        assert await stranger.settle() == [], "nothing of the other app"
        assert await theirs.publish("orders", "created", "theirs") == 200
        assert (await stranger.expect("created"))["data"] == "theirs"
        await one.settle()
        assert [frame["data"] for frame in one.passed if frame["event"] == "created"] == ["ours"] * 3
        # A socket id of the other app leaves nobody out here, and nobody can terminate the other app's users.
        assert await ours.publish("orders", "again", "x", socket_id=stranger.socket_id) == 200
        await one.expect("again")
        _, counts, _ = await theirs.call("GET", "/channels/presence-room", info="user_count")
        assert counts["user_count"] == 1
        status, _, _ = await theirs.call("POST", "/users/ada/terminate_connections", b"{}")
        assert status == 200
    assert await one.settle() == []
    newcomer = await connect(gateway, **SECOND)
    await newcomer.subscribe("cache-prices")
    assert [frame["event"] for frame in await newcomer.settle()] == ["pusher:cache_miss"], "kept for the other app only"
    for client in (one, another, stranger, newcomer):
        await client.close()
    await receiver.wait_for("connection.closed", count=2)
    await receiver.wait_for("connection.closed", endpoint="two", count=2)
    receiver.check_ledger()
    receiver.check_ledger("two", "740214")
