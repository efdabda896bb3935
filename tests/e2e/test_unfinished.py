"""Messages that are begun and not ended: what they hold has a bound, and is given back."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable

import pytest

from tests.e2e.bare import dial, until, upgrade
from tests.e2e.client import Client
from tests.e2e.conftest import StartGateway
from tests.e2e.gateway_process import GatewayProcess, app
from tests.e2e.outside import descriptors, is_read, memory_mb

MANY = 200
LIMIT = 256 * 1024
#: what may be kept of a message in the making, in times of its size: what has come, and room for it to grow
TIMES = 1.5


def upgraded(gateway: GatewayProcess) -> socket.socket:
    connection = dial(gateway.port)
    connection.sendall(upgrade())
    until(connection, b"connection_established")
    return connection


def fragment() -> bytes:
    """Return a whole frame that says there is more to come."""
    return struct.pack("!BBQ", 0x01, 0xFF, LIMIT - 1) + b"\0\0\0\0" + b"x" * (LIMIT - 1)


def half() -> bytes:
    """Return a frame without its last byte."""
    return struct.pack("!BBQ", 0x81, 0xFF, LIMIT) + b"\0\0\0\0" + b"x" * (LIMIT - 1)


@pytest.mark.parametrize("begun", [fragment, half])
async def test_unfinished_messages_are_bounded_and_given_back(start_gateway: StartGateway, begun: Callable[[], bytes]) -> None:
    gateway = await start_gateway(app(limits={"message": "256KB"}))
    witness = await Client.connect(gateway.port)
    before = memory_mb(gateway)
    whole = MANY * LIMIT / 2**20
    # What is given back need not leave the process: the heap keeps it for the next who comes. So the second round tells.
    for _ in range(2):
        connections = [upgraded(gateway) for _ in range(MANY)]
        for connection in connections:
            await asyncio.to_thread(connection.sendall, begun())
        async with asyncio.timeout(60):
            while not is_read(gateway):
                await witness.settle()
        await witness.settle()
        held = memory_mb(gateway) - before
        here = descriptors(gateway)
        for connection in connections:
            connection.close()
        async with asyncio.timeout(60):
            while descriptors(gateway) > here - MANY:
                await witness.settle()
        assert 0.9 * whole < held < TIMES * whole
    await witness.close()
