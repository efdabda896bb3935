"""A trace goes from the request that publishes to the webhook, over a restart and a replay, whatever the format."""

from __future__ import annotations

import asyncio
import json
import time

import aiohttp

from gateway.core.app import App
from gateway.core.auth import sign_request
from tests.e2e.client import Backend
from tests.e2e.conftest import StartGateway
from tests.e2e.gateway_process import APP_ID, KEY, SECRET, app
from tests.e2e.receiver import Answer, Hook, Receiver
from tests.patience import LONG_S

PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


async def publish(port: int, name: str, *headers: tuple[str, str], chunked: bool | None = None) -> None:
    """Publish one event with these headers; in chunks it goes the long way."""
    body = json.dumps({"name": name, "channel": "orders", "data": "{}"}).encode()
    path = f"/apps/{APP_ID}/events"
    query = sign_request(App(APP_ID, KEY, SECRET), method="POST", path=path, parameters=[], body=body, now_s=time.time())
    async with (
        aiohttp.ClientSession() as http,
        http.post(f"http://127.0.0.1:{port}{path}?{query}", data=body, headers=list(headers), chunked=chunked) as answer,
    ):
        assert answer.status == 200


def traces(hooks: list[Hook]) -> list[tuple[str | None, str | None]]:
    return [(hook.headers.get("traceparent"), hook.headers.get("tracestate")) for hook in hooks]


async def test_a_trace_goes_on(start_gateway: StartGateway, receiver: Receiver) -> None:
    endpoint = receiver.endpoint(events=["message.published"], concurrency=1)
    # One attempt, and the next one long after this life: none is under way at its end, to be made once more in the next.
    patient = {**endpoint, "retry": {"initial": "1h", "max_delay": "1h"}}
    settings = {"outbox": {"mode": "disk"}}
    gateway = await start_gateway(app(webhooks=[patient]), **settings)
    receiver.rules.append(lambda hook: Answer(503))
    await publish(gateway.port, "short", ("traceparent", PARENT), ("tracestate", "a=1,b=2"))
    await publish(gateway.port, "long", ("traceparent", PARENT), ("tracestate", "a=1"), ("tracestate", "b=2"), chunked=True)
    await publish(gateway.port, "malformed", ("traceparent", PARENT.upper()), ("tracestate", "a=1"))
    await publish(gateway.port, "none")
    await receiver.wait_for_hooks(lambda hook: True)
    assert await gateway.stop() == 0
    receiver.rules.clear()
    heard = len(receiver.hooks)
    gateway = await start_gateway(app(webhooks=[endpoint]), **settings)
    events = await receiver.wait_for("message.published", count=4)
    whole = (PARENT, "a=1,b=2")
    assert [event.data["event"] for event in events] == ["short", "long", "malformed", "none"]
    assert traces(receiver.hooks[heard:]) == [whole, whole, (None, None), (None, None)]
    told = [event.envelope["metadata"] for event in events]
    assert [(one.get("traceparent"), one.get("tracestate")) for one in told] == traces(receiver.hooks[heard:])

    async with Backend(gateway.port) as backend:
        for event in events:
            body = json.dumps({"event_id": event.envelope["id"]}).encode()
            status = 409
            async with asyncio.timeout(LONG_S):
                while status == 409:  # the gateway has not read the answer to the last one yet
                    status, _, _ = await backend.call("POST", "/webhooks/endpoints/all/replay", body)
            assert status == 200
    replays = await receiver.wait_for_hooks(lambda hook: hook.is_replay, 4)
    assert traces(replays) == [whole, whole, (None, None), (None, None)]
