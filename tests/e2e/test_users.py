"""Users, with the stock JavaScript client and the stock server SDKs of Node and Python."""

from __future__ import annotations

import asyncio
from typing import Any

import pusher
import pytest

from tests.e2e.client import Backend
from tests.e2e.conftest import Connect, RunNode, StartGateway
from tests.e2e.gateway_process import APP_ID, KEY, SECRET, GatewayProcess, app
from tests.e2e.node_script import NodeScript
from tests.e2e.receiver import Receiver
from tests.patience import LONG_S

TERMINATE_ADA = "/users/ada/terminate_connections"


async def start(run_node: RunNode, gateway: GatewayProcess) -> NodeScript:
    script = await run_node("users.mjs")
    script.send("server", appId=APP_ID, key=KEY, secret=SECRET, port=gateway.port)
    return script


async def signed_in(script: NodeScript, gateway: GatewayProcess, who: str, **user: Any) -> None:
    """Connect and sign in; returns when pusher-js has been let into the user's own channel."""
    script.send("connect", who=who, key=KEY, port=gateway.port, user={"id": f"user-{who}", **user})
    script.send("signin", who=who)
    await script.expect("frame", who=who, event="pusher:signin_success")
    await script.expect(
        "frame",
        who=who,
        event="pusher_internal:subscription_succeeded",
        channel=f"#server-to-user-{user.get('id', f'user-{who}')}",
    )


async def test_a_user_is_sent_events_on_each_of_his_connections(
    gateway: GatewayProcess, run_node: RunNode, receiver: Receiver
) -> None:
    script = await start(run_node, gateway)
    for who in ("a", "b"):
        await signed_in(script, gateway, who, id="ada")
    await signed_in(script, gateway, "c")
    told = sorted(await receiver.wait_for("connection.authenticated", count=3), key=lambda event: event.sequence)
    assert [event.data["signin"] for event in told] == [True] * 3
    assert [event.data["user_id"] for event in told] == ["ada", "ada", "user-c"]
    assert await script.ask("sendToUser", user="ada", event="note", data={"hi": 1}) == 200
    for who in ("a", "b"):
        assert (await script.expect("user", who=who))["data"] == {"hi": 1}
    assert await script.ask("sendToUser", user="user-c", event="other", data=2) == 200
    heard = await script.expect("user", who="c")
    assert (heard["event"], heard["data"]) == ("other", 2), "nothing came before it"


async def test_the_python_sdk_sends_to_users_too(gateway: GatewayProcess, run_node: RunNode) -> None:
    script = await start(run_node, gateway)
    await signed_in(script, gateway, "a")
    sdk = pusher.Pusher(APP_ID, KEY, SECRET, ssl=False, host="127.0.0.1", port=gateway.port, timeout=LONG_S)
    await asyncio.to_thread(sdk.send_to_user, "user-a", "note", {"hi": 1})
    assert (await script.expect("user", who="a", event="note"))["data"] == {"hi": 1}
    # they are of no channel that could be asked for
    assert await asyncio.to_thread(sdk.channels_info) == {"channels": {}}


async def test_who_has_signed_in_joins_presence_channels_as_himself(gateway: GatewayProcess, run_node: RunNode) -> None:
    script = await start(run_node, gateway)
    await signed_in(script, gateway, "a", user_info={"name": "Ada"})
    script.send("join", channel="presence-room")
    joined = await script.expect("joined", channel="presence-room")
    assert joined["me"] == {"id": "user-a", "info": {"name": "Ada"}}


async def test_a_refused_sign_in_is_reported_and_the_connection_stays(
    gateway: GatewayProcess, run_node: RunNode, receiver: Receiver
) -> None:
    script = await start(run_node, gateway)
    script.send("connect", key=KEY, port=gateway.port, user={"id": "u"}, secret="not-the-secret")
    script.send("signin")
    assert (await script.expect("error"))["code"] is None
    assert (await receiver.one("connection.auth_failed")).data["signin"] is True
    script.send("join", channel="orders")
    await script.expect("joined", channel="orders")


async def test_watchers_see_their_friends_come_and_go(gateway: GatewayProcess, run_node: RunNode) -> None:
    script = await start(run_node, gateway)
    await signed_in(script, gateway, "a")
    await signed_in(script, gateway, "w", watchlist=["user-a", "user-b"])
    assert (await script.expect("watchlist", who="w", name="online"))["ids"] == ["user-a"]
    assert (await script.expect("watchlist", who="w", name="offline"))["ids"] == ["user-b"]
    await signed_in(script, gateway, "b")
    assert (await script.expect("watchlist", who="w", name="online"))["ids"] == ["user-b"]
    script.send("disconnect", who="a")
    assert (await script.expect("watchlist", who="w", name="offline"))["ids"] == ["user-a"]
    script.send("connectAgain", who="a")
    assert (await script.expect("watchlist", who="w", name="online"))["ids"] == ["user-a"], "pusher-js signs in again by itself"


async def test_a_watchlist_that_is_too_long_is_cut(gateway: GatewayProcess, run_node: RunNode) -> None:
    script = await start(run_node, gateway)
    names = [f"u-{number}" for number in range(150)]
    await signed_in(script, gateway, "w", watchlist=names)
    assert (await script.expect("error"))["code"] == 4302
    assert (await script.expect("watchlist", name="offline"))["ids"] == names[:100]


async def terminate(by: str, script: NodeScript, gateway: GatewayProcess, user: str) -> None:
    if by == "node":
        assert await script.ask("terminate", user=user) == 200
    else:
        sdk = pusher.Pusher(APP_ID, KEY, SECRET, ssl=False, host="127.0.0.1", port=gateway.port, timeout=LONG_S)
        assert await asyncio.to_thread(sdk.terminate_user_connections, user) == {}


@pytest.mark.parametrize("by", ["node", "python"])
async def test_a_terminated_user_is_sent_away_and_stays_away(
    by: str, gateway: GatewayProcess, run_node: RunNode, receiver: Receiver
) -> None:
    script = await start(run_node, gateway)
    for who in ("a", "b"):
        await signed_in(script, gateway, who, id="ada")
    await signed_in(script, gateway, "c")
    await terminate(by, script, gateway, "ada")
    for who in ("a", "b"):
        await script.expect("error", who=who, code=4009)
        await script.expect("state", who=who, current="disconnected")
    closed = await receiver.wait_for("connection.closed", count=2)
    assert [(event.data["code"], event.data["reason"], event.data["user_id"]) for event in closed] == [
        (4009, "terminated", "ada")
    ] * 2
    await terminate(by, script, gateway, "nobody")
    assert await script.ask("sendToUser", user="user-c", event="note", data=1) == 200
    await script.expect("user", who="c", event="note")
    script.send("connectAgain", who="a")
    await script.expect("frame", who="a", event="pusher:signin_success")


async def test_terminating_again_and_again_hits_who_is_there_and_keeps_the_books(
    gateway: GatewayProcess, backend: Backend, connect: Connect, receiver: Receiver
) -> None:
    bystander = await connect(gateway)
    await bystander.sign_in("bob")
    await bystander.subscribe("feed")

    async def come_and_be_sent_away() -> int:
        client = await connect(gateway)
        await client.subscribe("feed")
        await client.sign_in("ada")
        return await client.closed(within_s=10)

    async def terminate() -> None:
        # Each hits some who are there, some who are on their way, and some who have been told to go already.
        for _ in range(5):
            results = await asyncio.gather(*(backend.call("POST", TERMINATE_ADA, b"{}") for _ in range(10)))
            assert [(status, answer) for status, answer, _ in results] == [(200, {})] * 10
            assert await backend.publish("feed", "tick") == 200

    crowd = [asyncio.create_task(come_and_be_sent_away()) for _ in range(40)]
    await receiver.wait_for("connection.authenticated", count=2)
    await terminate()
    await receiver.wait_for("connection.authenticated", count=41)
    await terminate()
    assert await asyncio.gather(*crowd) == [4009] * 40
    closed = await receiver.wait_for("connection.closed", count=40)
    assert {event.data["reason"] for event in closed} == {"terminated"}
    assert len([frame for frame in await bystander.settle() if frame["event"] == "pusher:error"]) == 0
    await bystander.close()
    await receiver.one("channel.vacated", channel="feed")
    await receiver.wait_for("connection.closed", count=41)
    receiver.check_ledger()


async def test_who_does_not_prove_himself_is_sent_away(
    start_gateway: StartGateway, run_node: RunNode, connect: Connect, receiver: Receiver
) -> None:
    guarded = app(webhooks=[receiver.endpoint()], authorised_connections=True, authorisation_timeout="3s")
    gateway = await start_gateway(guarded)
    script = await start(run_node, gateway)
    await signed_in(script, gateway, "a")
    private, public = await connect(gateway), await connect(gateway)
    await private.subscribe("private-orders")
    await public.subscribe("orders")
    script.send("connect", who="idle", key=KEY, port=gateway.port, user={})
    assert (await public.expect("pusher:error"))["data"]["code"] == 4009
    assert await public.closed() == 4009
    await script.expect("error", who="idle", code=4009)
    await script.expect("state", who="idle", current="disconnected")
    closed = await receiver.wait_for("connection.closed", count=2)
    assert {event.data["reason"] for event in closed} == {"unauthorised"}
    assert all(2_950 <= event.data["duration_ms"] < 15_000 for event in closed), "half of what would be by default"
    assert await private.settle() == []
    assert await script.ask("sendToUser", user="user-a", event="note", data=1) == 200
    await script.expect("user", who="a", event="note")


async def test_after_a_crash_the_end_of_a_connection_still_names_its_user(
    start_gateway: StartGateway, run_node: RunNode, receiver: Receiver
) -> None:
    gateway = await start_gateway(outbox={"mode": "disk"})
    script = await start(run_node, gateway)
    await signed_in(script, gateway, "a")
    await receiver.one("connection.authenticated")
    receiver.forgives_repeats = True
    gateway.kill()
    await gateway.ended()
    await start_gateway(outbox={"mode": "disk"}, port=gateway.port)
    closed = await receiver.one("connection.closed", reason="gateway_lost")
    assert closed.data["user_id"] == "user-a"
