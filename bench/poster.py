"""The floor of webhooks: a bare aiohttp client that posts given bodies, so many at once. Neither kept, signed nor retried.

Called with the URL and how many at once. Each line on standard input is how often to post all bodies of a file, and its path;
the answer is a line of the monotonic seconds at which each post began, in order.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import uvloop

from bench.traffic import read

_HEADERS = {"Content-Type": "application/json"}


async def _post(session: aiohttp.ClientSession, url: str, bodies: Iterator[bytes], begun_at: list[float]) -> None:
    for body in bodies:
        begun_at.append(time.monotonic())
        async with session.post(url, data=body, headers=_HEADERS) as answer:
            answer.raise_for_status()
            await answer.read()


async def _main(url: str, at_once: int) -> None:
    async with aiohttp.ClientSession() as session:
        while line := (await asyncio.to_thread(sys.stdin.readline)).strip():
            times, _, path = line.partition(" ")
            bodies, begun_at = iter(read(Path(path)) * int(times)), list[float]()
            await asyncio.gather(*(_post(session, url, bodies, begun_at) for _ in range(at_once)))
            print(*begun_at, flush=True)


if __name__ == "__main__":
    uvloop.run(_main(sys.argv[1], int(sys.argv[2])))
