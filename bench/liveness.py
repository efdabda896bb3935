"""What does it cost to know that idle connections are alive, and how many can one process hold?

All of them are held, with as many as there may be descriptors, and pinged more often than by default, which says what a ping
and its pong cost. The share at the default pace is calculated from that and from what an idle gateway uses.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from bench import traffic
from bench.load import crowd
from bench.machine import raise_files, resident_bytes
from bench.report import answer
from bench.server import gateway

#: descriptors for other things than connections: the gateway keeps 512 from its clients
_SPARE = 600
_CHANNELS = 100
#: seconds of silence after which a connection is pinged by default
_DEFAULT_S = 120


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print one line, return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--connections", type=int, default=50_000, help="fewer if there are not enough descriptors")
    parser.add_argument("--seconds", type=float, default=30, help="more than the next, a few times as many at best")
    parser.add_argument("--silence", type=int, default=10, help="seconds of it after which a connection is pinged")
    options = parser.parse_args(arguments)

    files = raise_files()
    count = min(options.connections, files - _SPARE)
    request = [traffic.publish(traffic.channel(0))]
    with gateway(server={"activity_timeout": f"{options.silence}s"}) as tested:
        with crowd(tested, traffic.subscribers(1, 1), request, 0) as load:
            empty = load.run(options.seconds / 3).server_share
        before = resident_bytes(tested.pid)
        with crowd(tested, traffic.subscribers(count, _CHANNELS), request, 0) as load:
            # The pings that came while the others were still connecting are answered here.
            load.run(options.silence / 2)
            one = load.run(options.seconds)
            size = (resident_bytes(tested.pid) - before) / count
    if not one.published:
        raise SystemExit("no answer: nobody was pinged; have the rounds last longer")
    ping_us = max(0.0, one.server_cpu_s - empty * one.seconds) / one.published * 1e6
    share, of_most = (empty + ping_us / 1e6 * number / _DEFAULT_S for number in (count, options.connections))
    return answer(
        f"{count:,} idle connections, {files:,} descriptors a process may have: {ping_us:.1f} us of CPU for a ping and its pong "
        f"({one.published:,} in {one.seconds:.0f} s, {one.server_share:.1%} of a core; without connections {empty:.2%}), "
        f"which at the default of one in {_DEFAULT_S} seconds is {share:.2%} of a core, and for {options.connections:,} would be "
        f"{of_most:.2%}; {size / 1024:.2f} KB each",
        figures={
            "connections": count,
            "descriptors": files,
            "ping_us": ping_us,
            "idle_share_percent": empty * 100,
            "measured_share_percent": one.server_share * 100,
            "share_percent": share * 100,
            "share_of_all_wanted_percent": of_most * 100,
        },
    )


if __name__ == "__main__":
    sys.exit(main())
