"""Connections that are broken off before they are any: in number, with and without TLS."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

from tests.certificate import anybody, write_pair
from tests.e2e.bare import dial, reset
from tests.e2e.client import Backend, Client
from tests.e2e.conftest import StartGateway
from tests.e2e.gateway_process import GatewayProcess, app
from tests.e2e.outside import descriptors, tcp_states
from tests.e2e.receiver import Receiver
from tests.patience import LONG_S

#: of each kind
MANY = 50
#: for whoever is silent in the middle of a handshake
TIMEOUT_S = 4
#: besides what was open before: a connection of the HTTP API, and what is being accepted
SLACK = 4
CLOSE_WAIT = "08"


def hello() -> bytes:
    """Return what a TLS client begins with."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = anybody().wrap_bio(incoming, outgoing, server_hostname="x")
    try:
        client.do_handshake()
    except ssl.SSLWantReadError:
        pass
    return outgoing.read()


def said_since(gateway: GatewayProcess, number: int) -> list[str]:
    """Return what the gateway has logged beside the ends of real connections, and what it delivered of them."""
    return [line for line in gateway.lines[number:] if "webhook delivered" not in line and "connection ended" not in line]


async def freed(gateway: GatewayProcess, witness: Client, most: int) -> None:
    """Wait until no more files are open than that; what is served meanwhile is the witness."""
    async with asyncio.timeout(LONG_S):
        while descriptors(gateway) > most:
            await witness.settle()


async def all_gone(gateway: GatewayProcess, witness: Client, before: int) -> None:
    """Wait until no more files are open than before, and nobody is left who has gone: who was not accepted yet has no file."""
    async with asyncio.timeout(LONG_S):
        while descriptors(gateway) > before or CLOSE_WAIT in tcp_states(gateway):
            await witness.settle()


async def test_handshakes_that_are_broken_off_leave_nothing(
    start_gateway: StartGateway, receiver: Receiver, tmp_path: Path
) -> None:
    cert, key, _ = write_pair(tmp_path)
    server = {"tls": {"cert": str(cert), "key": str(key)}, "handshake_timeout": f"{TIMEOUT_S}s"}
    gateway = await start_gateway(app(webhooks=[receiver.endpoint(events=["connection.*"])]), server=server)
    trust = anybody()
    witness = await Client.connect(gateway.port, ssl=trust)
    await witness.subscribe("orders")
    await receiver.wait_for("connection.opened")
    before, said, first = descriptors(gateway), len(gateway.lines), hello()
    silent = []
    for _ in range(MANY):
        reset(dial(gateway.port))
        for words in (b"\0garbage\r\n" * 9, first):
            connection = dial(gateway.port)
            connection.sendall(words)
            reset(connection)
        silent.append(dial(gateway.port))
        silent[-1].sendall(first[: len(first) // 2])
        done = await asyncio.to_thread(trust.wrap_socket, dial(gateway.port), server_hostname="x")
        reset(done)
        await freed(gateway, witness, before + len(silent) + SLACK)
    newcomer = await Client.connect(gateway.port, ssl=trust)
    await newcomer.subscribe("orders")
    async with Backend(gateway.port, ssl=trust) as backend:
        assert await backend.publish("orders", "created", {}) == 200
    for client in (witness, newcomer):
        await client.expect("created")
    await newcomer.close()
    for connection in silent:
        try:
            assert await asyncio.to_thread(connection.recv, 1) == b""
        except ConnectionResetError:
            pass
        connection.close()
    await all_gone(gateway, witness, before)
    assert said_since(gateway, said) == []
    await witness.close()
    assert await gateway.stop() == 0
    assert receiver.kinds().count("connection.opened") == 2
    receiver.check_ledger()


async def test_two_thousand_who_say_nothing_leave_nothing(start_gateway: StartGateway, receiver: Receiver) -> None:
    gateway = await start_gateway(app(webhooks=[receiver.endpoint(events=["connection.*"])]))
    witness = await Client.connect(gateway.port)
    await receiver.wait_for("connection.opened")
    before, said = descriptors(gateway), len(gateway.lines)
    for number in range(2_000):
        connection = dial(gateway.port)
        if number % 2:
            connection.close()
        else:
            reset(connection)
        if number % 100 == 0:
            await witness.settle()
    await all_gone(gateway, witness, before)
    assert said_since(gateway, said) == []
    await witness.close()
    assert await gateway.stop() == 0
    assert receiver.kinds().count("connection.opened") == 1
    receiver.check_ledger()
