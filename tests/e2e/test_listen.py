"""`rawpush listen` beside a real gateway: the local server gets what an endpoint gets, and a restart loses nothing."""

from __future__ import annotations

import json

from gateway.command.forward import secret_for
from gateway.core.app import App
from tests.e2e.client import Backend
from tests.e2e.command import Command
from tests.e2e.conftest import StartGateway
from tests.e2e.gateway_process import APP_ID, KEY, SECRET, GatewayProcess, app
from tests.e2e.receiver import Answer, Receiver

DERIVED = secret_for(App(APP_ID, KEY, SECRET))


async def test_a_local_server_gets_what_an_endpoint_gets(gateway: GatewayProcess, backend: Backend, receiver: Receiver) -> None:
    url = receiver.endpoint("listen", secrets=(DERIVED,))["url"]
    receiver.rules.append(lambda hook: Answer(status=503) if hook.path == "/listen" and hook.mentions("room-9") else None)
    arguments = ("--forward", str(url), "--events", "message.*", "--channels", "room-*", "--json", "--count", "3")
    async with Command("listen", "-c", str(gateway.config), *arguments) as listen:
        await listen.line("listening to app")
        for channel in ("room-7", "elsewhere", "room-9", "room-8"):
            await backend.publish(channel, "created", '{"n":1}')
        assert await listen.ended() == 0
    await receiver.wait_for("message.published", count=4)
    # the receiver has verified each with the standardwebhooks package
    ours, theirs = (
        {hook.envelopes[0]["data"]["channel"]: hook for hook in receiver.hooks if hook.path == path}
        for path in ("/listen", "/all")
    )
    assert list(ours) == ["room-7", "room-9", "room-8"]
    for channel, hook in ours.items():
        (mine,), (its,) = hook.envelopes, theirs[channel].envelopes
        assert mine.pop("metadata") == {"webhook_id": "listen", "sequence": 0, "node": "rawpush-listen"}
        del its["metadata"]
        assert list(mine.items()) == list(its.items())
        assert hook.headers.keys() == theirs[channel].headers.keys()
        assert hook.id == theirs[channel].id
    told = [json.loads(line) for line in listen.out]
    assert [one["forwarded"]["status"] for one in told] == [200, 503, 200]
    assert all(one["forwarded"]["latency_ms"] > 0 for one in told)
    assert any(DERIVED in line for line in listen.err)


async def test_a_secret_of_ones_own_and_a_server_that_is_not_there(gateway: GatewayProcess, backend: Backend) -> None:
    await backend.publish("room-1", "before", "{}")
    arguments = ("--since", "10m", "--events", "message.published", "--webhook-secret", "my-secret")
    async with Command("listen", "-c", str(gateway.config), *arguments, "--forward", "http://127.0.0.1:1/") as listen:
        event = await listen.line('"event":"before"')
        assert "refused" in await listen.line("->")
        await listen.line("listening to app")
        assert await listen.interrupt() == 0
    cursor = event.split()[0]
    assert listen.err[-1] == f"go on with: --since {cursor}"
    assert not any("my-secret" in line for line in listen.out + listen.err)


async def test_a_restart_loses_nothing(start_gateway: StartGateway, receiver: Receiver) -> None:
    entry = app(feed=["message.published"])
    gateway = await start_gateway(entry, outbox={"mode": "disk"})
    async with Command("listen", "-c", str(gateway.config), "--json") as listen:
        await listen.line("listening to app")
        async with Backend(gateway.port) as backend:
            await backend.publish("room", "one", "{}")
        await listen.line('"one"')
        await gateway.stop()
        await listen.line("trying again")
        gateway = await start_gateway(entry, outbox={"mode": "disk"}, port=gateway.port)
        async with Backend(gateway.port) as backend:
            await backend.publish("room", "two", "{}")
            await listen.line('"two"')
        assert await listen.interrupt() == 0
    assert [json.loads(line)["data"]["event"] for line in listen.out] == ["one", "two"]
