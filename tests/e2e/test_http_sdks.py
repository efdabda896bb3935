"""The stock server SDKs of Python and Node against the real HTTP API."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pusher
import pytest
from pusher.errors import PusherBadAuth, PusherBadRequest

from tests.e2e.client import Backend
from tests.e2e.conftest import Connect, RunNode
from tests.e2e.gateway_process import APP_ID, KEY, SECRET, GatewayProcess
from tests.e2e.node_script import NodeScript
from tests.patience import LONG_S


def python_sdk(gateway: GatewayProcess, secret: str = SECRET) -> pusher.Pusher:
    return pusher.Pusher(APP_ID, KEY, secret, ssl=False, host="127.0.0.1", port=gateway.port, timeout=LONG_S)


async def call(function: Callable[..., Any], *arguments: object, **named: object) -> Any:
    """Call the blocking SDK without blocking the receiver."""
    return await asyncio.to_thread(function, *arguments, **named)


async def test_python_trigger(gateway: GatewayProcess, connect: Connect) -> None:
    sdk = python_sdk(gateway)
    client, other = await connect(gateway), await connect(gateway)
    for each in (client, other):
        await each.subscribe("orders")
    assert await call(sdk.trigger, "orders", "created", {"id": 17}) == {}
    frame = await client.expect("created")
    assert (frame["channel"], json.loads(frame["data"])) == ("orders", {"id": 17})
    assert await call(sdk.trigger, ["orders", "empty"], "changed", "text", client.socket_id) == {}
    assert (await other.expect("changed"))["data"] == "text"
    assert await client.settle() == []


async def test_python_trigger_batch(gateway: GatewayProcess, connect: Connect) -> None:
    client = await connect(gateway)
    await client.subscribe("orders")
    batch = [{"channel": "orders", "name": f"n{number}", "data": str(number)} for number in range(10)]
    assert await call(python_sdk(gateway).trigger_batch, batch) == {}
    assert [(await client.next())["event"] for _ in range(10)] == [f"n{number}" for number in range(10)]


async def test_python_questions(gateway: GatewayProcess, connect: Connect) -> None:
    sdk = python_sdk(gateway)
    assert await call(sdk.channels_info) == {"channels": {}}
    assert await call(sdk.users_info, "presence-room") == {"users": []}
    assert await call(sdk.channel_info, "orders") == {"occupied": False}
    client = await connect(gateway)
    await client.subscribe("orders")
    await client.join("presence-room", "u-1")
    assert await call(sdk.channels_info) == {"channels": {"orders": {}, "presence-room": {}}}
    users = await call(sdk.channels_info, "presence-", ["user_count"])
    assert users == {"channels": {"presence-room": {"user_count": 1}}}
    assert await call(sdk.channel_info, "presence-room", ["user_count"]) == {"occupied": True, "user_count": 1}
    assert await call(sdk.users_info, "presence-room") == {"users": [{"id": "u-1"}]}


async def test_python_errors(gateway: GatewayProcess) -> None:
    with pytest.raises(PusherBadAuth):
        await call(python_sdk(gateway, "not-the-secret").trigger, "orders", "created", {})
    with pytest.raises(PusherBadRequest):
        await call(python_sdk(gateway).channels_info, None, ["user_count"])
    with pytest.raises(PusherBadRequest):
        await call(python_sdk(gateway).users_info, "orders")


async def node_sdk(run_node: RunNode, gateway: GatewayProcess) -> NodeScript:
    script = await run_node("sdk.mjs")
    await script.ask("server", appId=APP_ID, key=KEY, secret=SECRET, port=gateway.port)
    return script


async def test_node_trigger_and_batch(gateway: GatewayProcess, connect: Connect, run_node: RunNode) -> None:
    sdk = await node_sdk(run_node, gateway)
    client = await connect(gateway)
    await client.subscribe("orders")
    await client.join("presence-room", "u-1")
    assert await sdk.ask("trigger", channels="orders", event="created", data={"id": 17}) == {"status": 200, "body": {}}
    assert json.loads((await client.expect("created"))["data"]) == {"id": 17}
    answer = await sdk.ask("trigger", channels=["presence-room", "empty"], event="e", data="x", params={"info": "user_count"})
    assert answer == {"status": 200, "body": {"channels": {"presence-room": {"user_count": 1}, "empty": {}}}}
    await client.expect("e")
    batch = [{"channel": "orders", "name": name, "data": {"n": name}} for name in "xyz"]
    assert await sdk.ask("triggerBatch", batch=batch) == {"status": 200, "body": {}}
    assert [(await client.next())["event"] for _ in "xyz"] == ["x", "y", "z"]


async def test_node_questions(gateway: GatewayProcess, connect: Connect, run_node: RunNode) -> None:
    sdk = await node_sdk(run_node, gateway)
    client = await connect(gateway)
    await client.join("presence-room", "u-1")
    answer = await sdk.ask("get", path="/channels", params={"filter_by_prefix": "presence-", "info": "user_count"})
    assert answer == {"status": 200, "body": {"channels": {"presence-room": {"user_count": 1}}}}
    answer = await sdk.ask("get", path="/channels/presence-room/users")
    assert answer == {"status": 200, "body": {"users": [{"id": "u-1"}]}}
    refused = await sdk.ask("refused", channels="orders", event="pusher:no", data="x")
    assert refused["status"] == 400
    assert "error" in json.loads(refused["body"])


async def test_node_send_to_user(gateway: GatewayProcess, run_node: RunNode) -> None:
    sdk = await node_sdk(run_node, gateway)
    assert await sdk.ask("sendToUser", user="u-1", event="note", data={"hi": 1}) == {"status": 200, "body": {}}


async def test_answers_have_the_shape_that_strict_sdks_parse(gateway: GatewayProcess, backend: Backend, connect: Connect) -> None:
    client = await connect(gateway)
    for channel in ("orders", "private-a", "private-encrypted-a", "cache-a"):
        await client.subscribe(channel)
    await client.join("presence-a", "u-1")
    occupied: dict[str, object] = {name: {} for name in ("orders", "private-a", "private-encrypted-a", "cache-a", "presence-a")}
    status, answer, headers = await backend.call("GET", "/channels")
    assert (status, answer) == (200, {"channels": occupied})
    assert headers["content-type"].partition(";")[0] == "application/json"
    assert await backend.get("/channels", filter_by_prefix="nothing-") == {"channels": {}}
    assert await backend.get("/channels/unknown") == {"occupied": False}
    for path, info in (("/channels", "user_count"), ("/channels/orders/users", ""), ("/channels/orders", "user_count")):
        status, answer, _ = await backend.call("GET", path, **({"info": info} if info else {}))
        assert status == 400, path
        assert "error" in answer
    status, answer, _ = await backend.call("PUT", "/channels")
    assert status == 405
    assert isinstance(answer, dict)
