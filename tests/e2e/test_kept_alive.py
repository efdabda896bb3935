"""A WebSocket on a connection that carried HTTP requests before: what a proxy does that keeps its connections."""

from __future__ import annotations

import asyncio
import socket

from tests.e2e.client import Backend, Client
from tests.e2e.conftest import StartGateway
from tests.e2e.gateway_process import GatewayProcess, app
from tests.e2e.receiver import Receiver

HEALTH = b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n"


async def used(gateway: GatewayProcess, requests: int = 3) -> socket.socket:
    """Return a connection on which this many requests were answered."""
    loop = asyncio.get_running_loop()
    line = socket.socket()
    line.setblocking(False)
    await loop.sock_connect(line, ("127.0.0.1", gateway.port))
    for _ in range(requests):
        await loop.sock_sendall(line, HEALTH)
        answer = b""
        while not answer.endswith(b"}"):  # which ends its JSON, and is in no header
            piece = await loop.sock_recv(line, 65_536)
            assert piece, answer
            answer += piece
        assert answer.startswith(b"HTTP/1.1 200")
    return line


async def test_a_websocket_behind_requests(gateway: GatewayProcess, backend: Backend, receiver: Receiver) -> None:
    clients = [await Client.connect(gateway.port, sock=await used(gateway)) for _ in range(3)]
    for client in clients:
        await client.join("presence-room", client.socket_id)
    assert await backend.publish("presence-room", "created", "x" * 10_000) == 200
    for client in clients:
        await client.expect("created")
    stranger = await Client.dial(gateway.port, sock=await used(gateway), key="no-such-key")
    assert await stranger.closed() == 4001
    for client in clients:
        await client.close()
    await receiver.wait_for("connection.closed", count=3)
    assert await gateway.stop() == 0
    receiver.check_ledger()


async def test_it_goes_down_in_order_with_such_connections(start_gateway: StartGateway, receiver: Receiver) -> None:
    gateway = await start_gateway(app(webhooks=[receiver.endpoint()]))
    client = await Client.connect(gateway.port, sock=await used(gateway))
    await client.subscribe("orders")
    idle = await used(gateway)
    gateway.signal()
    assert await client.closed() == 4200
    assert await gateway.ended() == 0
    idle.close()
    receiver.check_ledger()
