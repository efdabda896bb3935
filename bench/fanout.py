"""How fast does one message reach many subscribers, against a bare loop that sends the same frame to as many sockets?"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from bench import traffic
from bench.contest import Contest, guests
from bench.load import crowd
from bench.report import answer, compare, summarize
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
    with Contest() as contest:
        for run in (gateway, floor):
            contest.host(run, lambda server: crowd(server, scripts, requests, options.window))
        for each in guests(options.peers):
            contest.guest(
                each, lambda server, peer: crowd(server, peer.scripts(options.subscribers, 1), peer.requests(1), options.window)
            )
        rounds, beside = contest.run(options.rounds, options.seconds, lambda one: one.delivered, options.rate)
    result, least = (summarize(some, lambda one: one.delivered) for some in rounds)
    sentence = f"fan-out to {options.subscribers} subscribers, {options.window} publishes in flight"
    if options.rate:
        sentence += f", {options.rate:g} publishes per second: p99 {result.p99_us / least.p99_us:.2f} x the floor's, and"
    else:
        sentence += ":"
    sentence += f" {compare('deliveries', 'delivery', result, least, 'one send each')}{beside.said}"
    return answer(sentence, result, least, peers=beside.results)


if __name__ == "__main__":
    sys.exit(main())
