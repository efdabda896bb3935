"""How much memory does an idle subscribed connection take, against an empty protocol on uvloop?"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from bench import traffic
from bench.load import crowd
from bench.machine import resident_bytes
from bench.report import answer
from bench.server import Server, floor, gateway


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print one line, return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--connections", type=int, default=5000)
    parser.add_argument("--channels", type=int, default=100)
    options = parser.parse_args(arguments)

    with gateway() as tested:
        mine = _per_connection(tested, options.connections, options.channels)
    with floor(in_python=True) as bare:
        least = _per_connection(bare, options.connections, options.channels)
    if min(mine, least) <= 0:
        raise SystemExit("no answer: the connections are too few to be seen in the process's memory")
    return answer(
        f"{options.connections} idle connections subscribed over {options.channels} channels: {mine / least:.2f} x the "
        f"floor's memory per connection ({mine / 1024:.2f} KB; a uvloop transport and an empty protocol: {least / 1024:.2f} KB), "
        "of the process, without the kernel's buffers",
        figures={"gateway_bytes": mine, "floor_bytes": least},
    )


def _per_connection(server: Server, connections: int, channels: int) -> float:
    # What the first few bring in, code and caches, is not theirs.
    with crowd(server, traffic.subscribers(channels, channels), [traffic.publish(traffic.channel(0))], 1):
        before = resident_bytes(server.pid)
        with crowd(server, traffic.subscribers(connections, channels), [traffic.publish(traffic.channel(0))], 1):
            return (resident_bytes(server.pid) - before) / connections


if __name__ == "__main__":
    sys.exit(main())
