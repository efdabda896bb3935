"""Signs of life, in real time: who answers stays, whatever it answers with; who does not is told so and sent away."""

from __future__ import annotations

import asyncio
import json

from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.uri import parse_uri

from tests.e2e.client import QUERY, Backend
from tests.e2e.conftest import Connect, RunNode, StartGateway
from tests.e2e.gateway_process import KEY, app
from tests.e2e.receiver import Receiver


async def hear_out(port: int) -> list[Frame]:
    """Connect, never answer anything, and return all frames up to the end of the line."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    silent = ClientProtocol(parse_uri(f"ws://127.0.0.1:{port}/app/{KEY}?{QUERY}"))
    silent.send_request(silent.connect())
    writer.write(b"".join(silent.data_to_send()))
    while piece := await reader.read(65_536):
        silent.receive_data(piece)
    silent.receive_eof()
    writer.close()
    return [event for event in silent.events_received() if isinstance(event, Frame)]


async def test_who_answers_stays_and_who_does_not_goes(
    start_gateway: StartGateway, connect: Connect, run_node: RunNode, receiver: Receiver
) -> None:
    gateway = await start_gateway(app(webhooks=[receiver.endpoint()]), server={"activity_timeout": "1s", "pong_timeout": "1s"})
    # This one never says anything of its own accord, but its library answers pings of the protocol.
    quiet = await connect(gateway)
    # This one hears so much that it never thinks of asking.
    script = await run_node("pusher_js.mjs")
    script.send("connect", key=KEY, port=gateway.port)
    script.send("subscribe", channel="feed")
    await script.expect("event", event="pusher:subscription_succeeded")
    heard = asyncio.create_task(hear_out(gateway.port))
    async with Backend(gateway.port) as backend:
        # Until the silent one was asked, given time, and sent away: two of these periods and more.
        while not heard.done():
            assert await backend.publish("feed", "tick") == 200
            await script.expect("event", event="tick")
            await asyncio.wait([heard], timeout=0.1)
    ping, error, close = heard.result()[1:]
    assert ping.opcode is Opcode.PING
    assert json.loads(error.data)["event"] == "pusher:error"
    assert json.loads(error.data)["data"]["code"] == 4201
    assert close.opcode is Opcode.CLOSE
    assert int.from_bytes(close.data[:2]) == 4201
    assert (await receiver.one("connection.closed")).data["reason"] == "ping_timeout"
    assert await quiet.settle() == []
    assert [message["event"] for message in script.messages if message["type"] == "frame"].count("pusher:pong") == 0
    assert receiver.kinds().count("connection.closed") == 1
