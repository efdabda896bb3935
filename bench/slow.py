"""The load in Python, for machines without a compiler: called as the programs in C are (c/load.c), and answers as they do.

It is slower than most servers, so that an answer will often be refused; that is better than a wrong one.
"""

from __future__ import annotations

import asyncio
import sys
import time
from itertools import cycle
from pathlib import Path

import uvloop

from bench.traffic import read

#: FIN and close, masked with zeros, code 1000 (RFC 6455 section 5.5.1)
_CLOSE = b"\x88\x82\x00\x00\x00\x00\x03\xe8"

#: seconds after which a round is given up that does not come to an end
_PATIENCE_S = 10.0

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Load:
    """All clients of one server."""

    def __init__(self, ports: str, scripts: list[bytes], requests: list[bytes], at_once: int) -> None:
        self._port, _, self._publish_port = ports.partition(":")
        self._scripts = scripts
        self._requests = requests
        self._at_once = at_once
        self._publishers: list[Streams] = []
        self._listeners: list[asyncio.Task[None]] = []
        self._progress = asyncio.Event()
        self._channels = cycle(range(len(requests)))
        self._audience = len(scripts) // 2 // max(len(requests), 1)
        self._begin()

    def _begin(self) -> None:
        self._published = self._delivered = self._refused = 0
        self._sent_at: list[list[float]] = [[] for _ in self._requests]
        self._seen = [0] * (len(self._scripts) // 2)
        self._delays_us: list[int] = []

    async def gather(self) -> None:
        """Connect subscribers and publishers."""
        for number in range(len(self._scripts) // 2):
            self._listeners.append(asyncio.create_task(self._listen(number, *await self._subscribe(number))))
        self._publishers = [await self._dial(self._publish_port or self._port) for _ in range(self._at_once)]

    async def crowd(self, seconds: float, rate: float) -> None:
        """Publish for so long and wait until everything has arrived."""
        self._begin()
        start = time.monotonic()
        pace = len(self._publishers) / rate if rate else 0.0
        await asyncio.gather(*(self._publish(*streams, start, start + seconds, pace) for streams in self._publishers))
        while self._delivered < (self._published - self._refused) * self._audience:
            await self._news()

    async def churn(self, seconds: float) -> None:
        """Let connections come and go for so long."""
        self._begin()
        end = time.monotonic() + seconds
        await asyncio.gather(*(self._lives(number, end) for number in range(self._at_once)))

    def counted(self) -> str:
        """Return what was counted in the latest round: numbers, and behind them the times of a delivery."""
        delays = sorted(self._delays_us) or [0]
        times = (delays[len(delays) // 2], delays[len(delays) * 99 // 100], delays[-1])
        return f"{self._published} {self._delivered} {self._refused} {{}} {{}} {' '.join(map(str, times))}"

    async def _dial(self, port: str) -> Streams:
        return await asyncio.open_connection("127.0.0.1", int(port))

    async def _subscribe(self, number: int) -> Streams:
        reader, writer = await self._dial(self._port)
        writer.write(self._scripts[2 * number])
        await reader.readuntil(b"\r\n\r\n")
        if subscription := self._scripts[2 * number + 1]:
            await _text(reader)
            writer.write(subscription)
            await _text(reader)
        return reader, writer

    async def _listen(self, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while not writer.is_closing():
            await _text(reader)
            self._delivered += 1
            sent_at = self._sent_at[number % len(self._requests)][self._seen[number]]
            self._seen[number] += 1
            self._delays_us.append(int((time.monotonic() - sent_at) * 1e6))
            self._progress.set()

    async def _publish(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, due: float, end: float, pace: float
    ) -> None:
        while (now := time.monotonic()) < end:
            if due > now:
                await asyncio.sleep(due - now)
            channel = next(self._channels)
            self._sent_at[channel].append(due if pace else now)
            self._published += 1
            writer.write(self._requests[channel])
            head = await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]))
            self._refused += not head.startswith(b"HTTP/1.1 2")
            due += pace
            while (self._published - self._refused - self._at_once + 1) * self._audience > self._delivered:
                await self._news()

    async def _news(self) -> None:
        self._progress.clear()
        await asyncio.wait_for(self._progress.wait(), _PATIENCE_S)

    async def _lives(self, number: int, end: float) -> None:
        while (begun_at := time.monotonic()) < end:
            reader, writer = await self._subscribe(number % (len(self._scripts) // 2))
            writer.write(_CLOSE)
            await reader.read()
            writer.close()
            self._published += 1
            self._delays_us.append(int((time.monotonic() - begun_at) * 1e6))


async def _text(reader: asyncio.StreamReader) -> None:
    """Read up to the end of the next text frame of a server."""
    while True:
        opcode, size = await reader.readexactly(2)
        if size > 125:
            size = int.from_bytes(await reader.readexactly(2 if size == 126 else 8))
        await reader.readexactly(size)
        if opcode & 15 == 1:
            return


async def _main(kind: str, ports: str, scripts: str, requests: str, at_once: str) -> None:
    load = Load(ports, read(Path(scripts)), read(Path(requests)), int(at_once))
    if kind == "load":
        await load.gather()
    print("ready", flush=True)
    while line := await asyncio.to_thread(sys.stdin.readline):
        seconds, rate = map(float, line.split())
        cpu, start = time.process_time(), time.monotonic()
        await (load.crowd(seconds, rate) if kind == "load" else load.churn(seconds))
        counted = load.counted()
        print(counted.format(time.monotonic() - start, time.process_time() - cpu), flush=True)


if __name__ == "__main__":
    uvloop.run(_main(*sys.argv[1:]))
