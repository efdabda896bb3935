"""How fast does one message reach many subscribers, against a bare loop that sends the same frame to as many sockets?"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from contextlib import ExitStack

from bench import traffic
from bench.load import crowd
from bench.peer import peers
from bench.report import alternate, answer, compare, summarize
from bench.server import floor, gateway


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print one line, return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--subscribers", type=int, default=1000)
    parser.add_argument("--window", type=int, default=4, help="publishes in flight")
    parser.add_argument("--rate", type=float, default=0, help="publishes per second; 0: as fast as the window lets")
    parser.add_argument("--peers", action="store_true", help="other servers too, those that are installed: bench/peer")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1, help="length of a round")
    options = parser.parse_args(arguments)

    scripts, requests = traffic.subscribers(options.subscribers, 1), [traffic.publish(traffic.channel(0))]
    others = peers() if options.peers else []
    with ExitStack() as stack:
        loads = [
            stack.enter_context(crowd(stack.enter_context(server), scripts, requests, options.window))
            for server in (gateway(), floor())
        ]
        for other in others:
            server = stack.enter_context(other.run())
            loads.append(
                stack.enter_context(crowd(server, other.scripts(options.subscribers), [other.request()], options.window))
            )
        rounds = alternate(loads, options.rounds, options.seconds, options.rate)
    result, least, *rest = (summarize(some, lambda one: one.delivered) for some in rounds)
    sentence = f"fan-out to {options.subscribers} subscribers, {options.window} publishes in flight"
    if options.rate:
        sentence += f", {options.rate:g} publishes per second: p99 {result.p99_us / least.p99_us:.2f} x the floor's, and"
    else:
        sentence += ":"
    beside = {other.name: peer for other, peer in zip(others, rest, strict=True)}
    return answer(f"{sentence} {compare('deliveries', 'delivery', result, least, 'one send each')}", result, least, peers=beside)


if __name__ == "__main__":
    sys.exit(main())
