"""Signs of life, in real time: who answers stays, whatever it answers with; who does not is told so and sent away."""

from __future__ import annotations

import asyncio
import json

from websockets.frames import Opcode

from tests.e2e.client import Backend
from tests.e2e.conftest import Connect, RunNode, StartGateway
from tests.e2e.gateway_process import KEY, app
from tests.e2e.receiver import Receiver
from tests.e2e.silent import answer_events, hear_out


async def test_who_answers_stays_and_who_does_not_goes(
    start_gateway: StartGateway, connect: Connect, run_node: RunNode, receiver: Receiver
) -> None:
    gateway = await start_gateway(app(webhooks=[receiver.endpoint()]), server={"activity_timeout": "2s", "pong_timeout": "2s"})
    # This one never says anything of its own accord, but its library answers pings of the protocol.
    quiet = await connect(gateway)
    # This one hears so much that it never thinks of asking.
    script = await run_node("pusher_js.mjs")
    script.send("connect", key=KEY, port=gateway.port)
    script.send("subscribe", channel="feed")
    await script.expect("event", event="pusher:subscription_succeeded")
    # This one knows pings only as events, whatever its library should do.
    by_hand = asyncio.create_task(answer_events(gateway.port, pings=2))
    # This one is stock too, and hears nothing at all, so it asks by itself.
    idle = await run_node("pusher_js.mjs")
    idle.send("connect", key=KEY, port=gateway.port)
    heard = asyncio.create_task(hear_out(gateway.port))
    async with Backend(gateway.port) as backend:
        # Until the silent one was asked, given time, and sent away: two of these periods and more.
        while not (heard.done() and by_hand.done()):
            assert await backend.publish("feed", "tick") == 200
            await script.expect("event", event="tick")
            await asyncio.wait([heard, by_hand], timeout=0.1)
    ping, event, error, close = heard.result()[1:]
    assert ping.opcode is Opcode.PING
    assert json.loads(event.data) == {"event": "pusher:ping", "data": "{}"}
    assert json.loads(error.data)["event"] == "pusher:error"
    assert json.loads(error.data)["data"]["code"] == 4201
    assert close.opcode is Opcode.CLOSE
    assert int.from_bytes(close.data[:2]) == 4201
    assert (await receiver.one("connection.closed")).data["reason"] == "ping_timeout"
    assert by_hand.result() == 2
    # Nobody else was asked in the second form: their libraries have answered the first.
    assert await quiet.settle() == []
    await idle.expect("frame", event="pusher:pong")
    for one in (script, idle):
        assert [message["event"] for message in one.messages if message["type"] == "frame"].count("pusher:ping") == 0
    assert [message["event"] for message in script.messages if message["type"] == "frame"].count("pusher:pong") == 0
    ended = [event.data["reason"] for event in receiver.of() if event.kind == "connection.closed"]
    assert ended.count("ping_timeout") == 1
    assert ended in (["ping_timeout"], ["ping_timeout", "connection_lost"], ["connection_lost", "ping_timeout"])
