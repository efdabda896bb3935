"""What do 50,000 connections cost of the gateway's own time, where a process may not have as many descriptors?

In this process, with real sessions, hub, wheel and connections, on transports that only count what they are given: no socket,
no kernel. Says by how much a delivery to so many is dearer than one to a thousand, and what knowing that all are alive costs.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import sys
import time
from collections.abc import Sequence
from statistics import median

from bench import traffic
from bench.machine import SERVER_CORE, pinned
from bench.report import answer
from gateway.backplane.local import LocalBroker, LocalTracker
from gateway.clock import SystemClock
from gateway.core.app import App
from gateway.core.ident import Ids
from gateway.core.publication import Publication
from gateway.core.webhook import Router
from gateway.node import Handshake, Node
from gateway.outbox.memory import MemoryOutbox
from gateway.recorder import Recorder
from gateway.telemetry import Telemetry
from gateway.transport.commons import Commons
from gateway.transport.connection import Connection
from gateway.transport.outlet import offer_all

_APP = App(traffic.APP_ID, traffic.KEY, traffic.SECRET)
_HANDSHAKE = Handshake(traffic.KEY, "7", "js", "8.4.0", None, "bench", "127.0.0.1")
_PING, _PONG = b"\x89\x00", b"\x8a\x80\x00\x00\x00\x00"
#: a beat, and the silence after which a connection is pinged, by default
_TICK_S, _TIMEOUT_S = 1.0, 120
#: deliveries that are timed at each size, at least
_DELIVERIES = 500_000
_NEAR = 1000


class _Line:
    """A transport that goes nowhere and notes whether it was pinged."""

    __slots__ = ("connection", "pinged")

    def __init__(self, pinged: list[_Line]) -> None:
        self.pinged = pinged
        self.connection: Connection | None = None

    def write(self, data: bytes) -> None:
        if data == _PING:
            self.pinged.append(self)

    def get_write_buffer_size(self) -> int:
        return 0

    def get_extra_info(self, name: str) -> None:
        return None

    def set_write_buffer_limits(self, high: int) -> None:
        pass


class _Door:
    """Lets everybody in, whatever it was that they have said."""

    def admits(self, transport: object) -> bool:
        return True

    def read(self, connection: Connection, head: bytes, known: int) -> None:
        connection.open(b"", _HANDSHAKE, _APP.limits.message, b"")


class House:
    """A node and connections, without a socket."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        clock, telemetry, ids = SystemClock(), Telemetry(), Ids(1)
        router = Router([], "bench", {})
        outbox = MemoryOutbox(capacity=1000)
        recorder = Recorder(
            outbox=outbox, router=router, telemetry=telemetry, wake=lambda _: None, capacity=1000, ids=ids, clock=clock
        )
        self.node = Node(
            apps=[_APP],
            ids=ids,
            broker=LocalBroker(),
            tracker=LocalTracker(),
            recorder=recorder,
            clock=clock,
            telemetry=telemetry,
            chance=itertools.count(1).__next__,
            defer=self._loop.call_soon,
            activity_timeout_s=_TIMEOUT_S,
            offer_all=offer_all,
        )
        self.node.started()
        self.commons = Commons(
            node=self.node,
            loop=self._loop,
            tick_s=_TICK_S,
            activity_timeout_s=_TIMEOUT_S,
            pong_timeout_s=30,
            request_timeout_s=10,
            close_timeout_s=5,
            buffer_limit=1 << 20,
        )
        self._pinged: list[_Line] = []
        self.pings = 0

    def connect(self, channel: str) -> None:
        """Open a connection that is subscribed."""
        line = _Line(self._pinged)
        line.connection = Connection(self.commons, _Door())  # type: ignore[arg-type]
        line.connection.connection_made(line)  # type: ignore[arg-type]
        line.connection.data_received(b"an upgrade")
        line.connection.data_received(traffic.subscription(channel))

    async def beat(self) -> None:
        """Let a beat pass, and let those who were pinged answer."""
        self.commons.advance()
        # Those who are due are served 256 in a turn, and their pings are written a turn later.
        for _ in range(3 + len(self.commons.wheel) // _TIMEOUT_S // 256):
            await asyncio.sleep(0)
        pinged, self._pinged[:] = list(self._pinged), []
        for line in pinged:
            assert line.connection is not None
            line.connection.data_received(_PONG)
        self.pings += len(pinged)


async def _delivery_us(house: House, channel: str, subscribers: int) -> float:
    event = traffic.event(channel)
    publication = Publication(traffic.APP_ID, event["name"], (channel,), event["data"])
    rounds = max(3, _DELIVERIES // subscribers)
    used = time.thread_time()
    for _ in range(rounds):
        house.node.publish([publication])
        await asyncio.sleep(0)
    return (time.thread_time() - used) / (rounds * subscribers) * 1e6


async def _measure(connections: int) -> int:
    house = House()
    near, far = traffic.channel(1), traffic.channel(0)
    # Over as many beats as there are between two pings, as they would have come over time.
    for first in range(_TIMEOUT_S):
        for _ in range(first, connections, _TIMEOUT_S):
            house.connect(far)
        await house.beat()
    used, house.pings = time.thread_time(), 0
    for _ in range(_TIMEOUT_S):
        await house.beat()
    share = (time.thread_time() - used) / (_TIMEOUT_S * _TICK_S)
    for _ in range(_NEAR):
        house.connect(near)
    await house.beat()
    costs = [(await _delivery_us(house, near, _NEAR), await _delivery_us(house, far, connections)) for _ in range(5)]
    near_us, far_us = (median(each) for each in zip(*costs, strict=True))
    return answer(
        f"{connections:,} connections in process, without sockets: a delivery to all of them takes {far_us:.3f} us of the "
        f"gateway's own time, {far_us / near_us:.2f} x that to {_NEAR:,} ({near_us:.3f} us); knowing that they are alive takes "
        f"{share:.2%} of a core ({house.pings:,} pings in {_TIMEOUT_S} s)",
        figures={
            "connections": connections,
            "near_us": near_us,
            "far_us": far_us,
            "liveness_share_percent": share * 100,
        },
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print one line, return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--connections", type=int, default=50_000)
    options = parser.parse_args(arguments)
    with pinned(SERVER_CORE):
        return asyncio.run(_measure(options.connections))


if __name__ == "__main__":
    sys.exit(main())
