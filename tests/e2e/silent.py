"""Clients whose library does not answer the pings of WebSocket, as RFC 6455 says it must."""

from __future__ import annotations

import asyncio
import json

from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.uri import parse_uri

from tests.e2e.client import QUERY, text_frame
from tests.e2e.gateway_process import KEY


async def hear_out(port: int) -> list[Frame]:
    """Connect, never answer anything, and return all frames up to the end of the line."""
    reader, writer, silent = await _dial(port)
    while piece := await reader.read(65_536):
        silent.receive_data(piece)
    silent.receive_eof()
    writer.close()
    return [event for event in silent.events_received() if isinstance(event, Frame)]


async def answer_events(port: int, pings: int) -> int:
    """Connect, answer nothing but `pusher:ping`, leave after so many of them, and return how many there were."""
    reader, writer, silent = await _dial(port)
    seen = 0
    while seen < pings and (piece := await reader.read(65_536)):
        silent.receive_data(piece)
        for event in silent.events_received():
            if isinstance(event, Frame) and event.opcode is Opcode.TEXT and json.loads(event.data)["event"] == "pusher:ping":
                seen += 1
                writer.write(text_frame(b'{"event":"pusher:pong","data":{}}'))
    writer.close()
    return seen


async def _dial(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter, ClientProtocol]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    silent = ClientProtocol(parse_uri(f"ws://127.0.0.1:{port}/app/{KEY}?{QUERY}"))
    silent.send_request(silent.connect())
    writer.write(b"".join(silent.data_to_send()))
    return reader, writer, silent
