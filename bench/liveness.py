"""What does it cost to know that idle connections are alive, and how many can be held?

By one gateway where a process may have as many descriptors, else by as many gateways as it takes, whose shares of a core are
added up. They come evenly over the time from one ping to the next, so that the pings go out evenly too: from the last one's
coming on, any short time is like any other.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from statistics import median

from bench import meanwhile, traffic
from bench.load import Load, Round, arriving
from bench.machine import cpu_s, raise_files, resident_bytes
from bench.report import answer
from bench.server import Server, gateway

#: descriptors for other things than connections: the gateway keeps 512 from its clients
SPARE = 600
_CHANNELS = 100
#: seconds of silence after which a connection is pinged by default
DEFAULT_S = 120
#: a round that has seen much fewer pings than are due in it has not seen what it was to measure
DUE_PART = 0.7


def shares(connections: int, most: int) -> list[int]:
    """Return how many connections each gateway holds, where one can hold so many at most: as few gateways as can be."""
    gateways = -(-connections // most)
    return [connections // gateways + (number < connections % gateways) for number in range(gateways)]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print one line, return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--connections", type=int, default=50_000)
    parser.add_argument("--silence", type=int, default=DEFAULT_S, help="seconds of it after which a connection is pinged")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=10, help="length of a round")
    options = parser.parse_args(arguments)

    files = raise_files()
    counts = shares(options.connections, files - SPARE)
    # Found silent in the beat after the silence is over.
    period_s = options.silence + 1
    with ExitStack() as stack:
        # With the silence of the default, the time for a pong is that of the default too.
        server = {"activity_timeout": f"{options.silence}s", "pong_timeout": f"{max(2, options.silence // 4)}s"}
        gateways = [stack.enter_context(gateway(outbox="disk", server=server)) for _ in counts]
        empty = _idle_share(gateways, options.seconds)
        sizes = [resident_bytes(each.pid) for each in gateways]
        loads = [
            stack.enter_context(arriving(each, traffic.subscribers(count, _CHANNELS), count / period_s))
            for each, count in zip(gateways, counts, strict=True)
        ]
        meanwhile.begin()
        for load in loads:
            load.wait_until_ready()
        meanwhile.settle()
        _round(loads, min(2.0, options.seconds))
        rounds = [_round(loads, options.seconds) for _ in range(options.rounds)]
        size = sum(resident_bytes(each.pid) - before for each, before in zip(gateways, sizes, strict=True)) / sum(counts)
    share = median(sum(one.server_share for one in ones) for ones in rounds)
    per_s = median(sum(one.published / one.seconds for one in ones) for ones in rounds)
    due_per_s = options.connections / period_s
    if per_s < DUE_PART * due_per_s:
        raise SystemExit(f"no answer: {per_s:.0f} pings a second were answered, where {due_per_s:.0f} are due")
    ping_us = max(0.0, share - empty) / per_s * 1e6
    held = "one gateway" if len(counts) == 1 else f"{len(counts)} gateways"
    by_default = empty + ping_us / 1e6 * options.connections / DEFAULT_S
    sentence = (
        f"{options.connections:,} idle connections held by {held} (a process may have {files:,} descriptors), pinged after "
        f"{options.silence} seconds of silence: {share:.2%} of a core in all, {per_s:,.0f} pings answered per second; without "
        f"connections {empty:.2%}, and {ping_us:.1f} us for a ping and its pong; {size / 1024:.2f} KB each"
    )
    if options.silence != DEFAULT_S:
        sentence += f"; by default, after {DEFAULT_S} seconds, it would be {by_default:.2%} of a core"
    return answer(
        sentence,
        figures={
            "connections": options.connections,
            "processes": len(counts),
            "descriptors": files,
            "pings_per_s": per_s,
            "ping_us": ping_us,
            "idle_share_percent": empty * 100,
            "measured_share_percent": share * 100,
            "share_percent": (share if options.silence == DEFAULT_S else by_default) * 100,
        },
    )


def _idle_share(gateways: Sequence[Server], seconds: float) -> float:
    """Return what they use of a core while nobody is connected."""
    start, used = time.monotonic(), sum(cpu_s(each.pid) for each in gateways)
    time.sleep(seconds)
    return (sum(cpu_s(each.pid) for each in gateways) - used) / (time.monotonic() - start)


def _round(loads: Sequence[Load], seconds: float) -> list[Round]:
    for load in loads:
        load.begin(seconds)
    return [load.finish() for load in loads]


if __name__ == "__main__":
    sys.exit(main())
