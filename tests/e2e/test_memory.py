"""What comes in great numbers or sizes takes no more memory the fourth time than the second: nothing of it is kept.

Rounds are compared with each other, after those to which the heap grows; nothing waits for it to shrink. Each bound is a
fraction of what would stay if something of each were kept.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import re
import struct
import zlib
from collections.abc import Awaitable, Callable
from pathlib import Path

from tests.certificate import anybody, write_pair
from tests.e2e.bare import dial, reset, until, upgrade
from tests.e2e.client import Backend, Client
from tests.e2e.conftest import StartGateway
from tests.e2e.gateway_process import KEY, GatewayProcess, app
from tests.e2e.outside import memory_mb, tcp_states
from tests.e2e.test_broken_off import hello
from tests.patience import LONG_S

ROUNDS = 4
ESTABLISHED = "01"


async def growth(round_: Callable[[], Awaitable[None]], look: Callable[[], float]) -> float:
    """Return how much memory each round after the second takes along at least, in MB: what is kept is kept each time."""
    seen = []
    for _ in range(ROUNDS):
        await round_()
        seen.append(look())
    return min(after - before for before, after in itertools.pairwise(seen[1:]))


async def alone(gateway: GatewayProcess, witness: Client) -> None:
    """Wait until the gateway has dealt with the end of everybody but the witness."""
    async with asyncio.timeout(LONG_S):
        while tcp_states(gateway).count(ESTABLISHED) > 1:
            await witness.settle()
    await witness.settle()


# -- TLS -------------------------------------------------------------------------------------------------------------------

#: of each kind, in each round
HANDSHAKES = 60
#: An OpenSSL connection with its buffers takes some 50 KB here: if those of one kind stayed, each round would leave 3 MB.
TLS_MB = 1.5


async def test_tls_handshakes_that_are_broken_off_take_no_memory_along(start_gateway: StartGateway, tmp_path: Path) -> None:
    cert, key, _ = write_pair(tmp_path)
    gateway = await start_gateway(app(webhooks=[]), server={"tls": {"cert": str(cert), "key": str(key)}})
    trust, first = anybody(), hello()
    witness = await Client.connect(gateway.port, ssl=trust)

    def broken_off() -> None:
        for _ in range(HANDSHAKES):
            begun = dial(gateway.port)
            begun.sendall(first)
            reset(begun)
            reset(trust.wrap_socket(dial(gateway.port), server_hostname="x"))
            whole = trust.wrap_socket(dial(gateway.port), server_hostname="x")
            whole.sendall(upgrade())
            until(whole, b"connection_established")
            reset(whole)

    async def round_() -> None:
        await asyncio.to_thread(broken_off)
        await alone(gateway, witness)

    assert await growth(round_, lambda: memory_mb(gateway)) < TLS_MB
    await witness.close()


# -- compression -----------------------------------------------------------------------------------------------------------

COMPRESSED = 300
#: Kilobytes for a connection, all included. What zlib keeps for one that takes its context over is 40 to 300 KB.
EACH_KB = 16
#: If what zlib needs stayed with each connection, each round would leave 12 MB at least.
DEFLATE_MB = 1


class Compressed:
    """A connection that has agreed on compression, has sent something compressed and got something compressed."""

    def __init__(self, gateway: GatewayProcess) -> None:
        self.line = dial(gateway.port)
        # as browsers offer it
        self.line.sendall(upgrade("Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n"))
        greeting = until(self.line, b"activity_timeout")
        assert re.search(rb"Sec-WebSocket-Extensions: permessage-deflate.*no_context_takeover", greeting, re.IGNORECASE)

    def subscribe(self) -> None:
        self.say({"event": "pusher:subscribe", "data": {"channel": "orders", "padding": "x" * 2_000}})
        until(self.line, b"subscription_succeeded")

    def say(self, what: object) -> None:
        squeezer = zlib.compressobj(wbits=-15)
        data = (squeezer.compress(json.dumps(what).encode()) + squeezer.flush(zlib.Z_SYNC_FLUSH))[:-4]
        assert len(data) < 126
        self.line.sendall(struct.pack("!BB", 0xC1, 0x80 | len(data)) + b"\0\0\0\0" + data)


async def test_compressed_connections_keep_nothing_of_their_compression(start_gateway: StartGateway) -> None:
    gateway = await start_gateway(app(webhooks=[]), server={"compression": True})
    witness = await Client.connect(gateway.port)
    connected: list[float] = []
    compressed: list[Compressed] = []

    def come() -> None:
        for _ in range(COMPRESSED):
            compressed.append(Compressed(gateway))
            compressed[-1].subscribe()

    def hear() -> None:
        for one in compressed:
            said = one.line.recv(4096)
            assert said[0] == 0xC1, "it does not come compressed"

    async def round_() -> None:
        before = memory_mb(gateway)
        await asyncio.to_thread(come)
        async with Backend(gateway.port) as backend:
            assert await backend.publish("orders", "created", "y" * 5_000) == 200
            await asyncio.to_thread(hear)
            connected.append(memory_mb(gateway) - before)
            # They go in the middle of what is published.
            publishing = [asyncio.create_task(backend.publish("orders", f"n{number}", "z" * 9_000)) for number in range(20)]
            for one in compressed:
                reset(one.line)
                await asyncio.sleep(0)
            assert await asyncio.gather(*publishing) == [200] * 20
        compressed.clear()
        await alone(gateway, witness)

    assert await growth(round_, lambda: memory_mb(gateway)) < DEFLATE_MB
    assert max(connected) < COMPRESSED * EACH_KB / 1024
    await witness.close()


# -- bodies ----------------------------------------------------------------------------------------------------------------

#: bytes of one body, and how many come at once
BODY, AT_ONCE = 25_000_000, 4
#: What the gateway may take for them, `limits.request` (1 MB) of each and some room: less than a tenth of what was sent.
BODIES_MB = 10


async def test_bodies_that_are_too_large_are_not_taken_into_memory(start_gateway: StartGateway) -> None:
    gateway = await start_gateway(app(webhooks=[]))

    def post(head: str) -> None:
        line = dial(gateway.port)
        line.sendall(f"POST /apps/740213/events?auth_key={KEY} HTTP/1.1\r\nHost: x\r\n{head}\r\n\r\n".encode())
        try:
            for _ in range(0, BODY, 50_000):
                line.sendall(b"C350\r\n" + b"x" * 50_000 + b"\r\n")
        except ConnectionError:
            pass  # told to stop, and what is still in flight is refused
        line.close()

    async with Backend(gateway.port) as backend:
        heads = ("Transfer-Encoding: chunked", f"Content-Length: {BODY}", "Content-Length: 10000000000")
        for _ in range(2):  # first to have all code loaded and all buffers made
            before, most = memory_mb(gateway), 0.0
            for head in heads:
                posts = [asyncio.create_task(asyncio.to_thread(post, head)) for _ in range(AT_ONCE)]
                while not all(one.done() for one in posts):
                    assert await backend.publish("orders", "created") == 200
                    most = max(most, memory_mb(gateway) - before)
                await asyncio.gather(*posts)
    assert most < BODIES_MB
