"""How much memory does an idle subscribed connection take, against an empty protocol on uvloop?"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from bench import traffic
from bench.contest import guests
from bench.load import crowd
from bench.machine import resident_bytes
from bench.report import answer
from bench.server import Server, floor, gateway

#: connections that come first: what they bring in, code and caches, is not that of the others
_FIRST = 100


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print one line, return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--connections", type=int, default=5000)
    parser.add_argument("--channels", type=int, default=100)
    parser.add_argument("--peers", action="store_true", help="other servers too, those that are installed: bench/peer")
    options = parser.parse_args(arguments)

    first = traffic.subscribers(_FIRST, options.channels)
    scripts = traffic.subscribers(options.connections, options.channels)
    with gateway() as tested:
        mine = _per_connection(tested, first, scripts)
    with floor(in_python=True) as bare:
        least = _per_connection(bare, first, scripts)
    if min(mine, least) <= 0:
        raise SystemExit("no answer: the connections are too few to be seen in the process's memory")
    sentence = (
        f"{options.connections} idle connections subscribed over {options.channels} channels: {mine / least:.2f} x the "
        f"floor's memory per connection ({mine / 1024:.2f} KB; a uvloop transport and an empty protocol: {least / 1024:.2f} KB), "
        "of the process, without the kernel's buffers"
    )
    figures = {"gateway_bytes": mine, "floor_bytes": least}
    for peer in guests(options.peers):
        try:
            with peer.run() as server:
                size = _per_connection(
                    server, peer.scripts(_FIRST, options.channels), peer.scripts(options.connections, options.channels)
                )
        except (SystemExit, OSError) as reason:
            sentence += f"; {peer.name} is left out: {str(reason).removeprefix('no answer: ')}"
            continue
        figures[f"{peer.name}_bytes"] = size
        sentence += f"; {peer.name}: {size / 1024:.2f} KB"
    return answer(sentence, figures=figures)


def _per_connection(server: Server, first: Sequence[bytes], scripts: Sequence[bytes]) -> float:
    with crowd(server, first, [traffic.publish(traffic.channel(0))], 1):
        before = resident_bytes(server.pid)
        with crowd(server, scripts, [traffic.publish(traffic.channel(0))], 1):
            return (resident_bytes(server.pid) - before) / (len(scripts) // 2)


if __name__ == "__main__":
    sys.exit(main())
