"""How many connections per second can come, subscribe and go, against a floor that accepts and answers constants?"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from bench import traffic
from bench.contest import Contest, guests
from bench.load import churn
from bench.report import answer, compare, summarize
from bench.server import floor, gateway


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print one line, return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--at-once", type=int, default=64)
    parser.add_argument("--channels", type=int, default=100)
    parser.add_argument("--peers", action="store_true", help="other servers too, those that are installed: bench/peer")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1, help="length of a round")
    options = parser.parse_args(arguments)

    scripts = traffic.subscribers(options.channels, options.channels)
    with Contest() as contest:
        for run in (gateway, floor):
            contest.host(run, lambda server: churn(server, scripts, options.at_once))
        for each in guests(options.peers):
            contest.guest(
                each, lambda server, peer: churn(server, peer.scripts(options.channels, options.channels), options.at_once)
            )
        rounds, beside = contest.run(options.rounds, options.seconds, lambda one: one.published)
    result, least = (summarize(some, lambda one: one.published) for some in rounds)
    sentence = f"connect, subscribe and close, {options.at_once} at once:"
    sentence += f" {compare('connections', 'connection', result, least, 'constant answers')}{beside.said}"
    return answer(sentence, result, least, peers=beside.results)


if __name__ == "__main__":
    sys.exit(main())
