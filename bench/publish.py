"""How many signed publishes per second does the HTTP API take, against a bare HTTP responder that answers a constant?"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from bench import traffic
from bench.contest import Contest, guests
from bench.load import crowd
from bench.report import answer, compare, summarize
from bench.server import gateway, responder


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print one line, return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--channels", type=int, default=1000, help="with one subscriber each")
    parser.add_argument("--connections", type=int, default=16, help="kept alive, with one publish in flight each")
    parser.add_argument("--peers", action="store_true", help="other servers too, those that are installed: bench/peer")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1, help="length of a round")
    options = parser.parse_args(arguments)

    names = [traffic.channel(number) for number in range(options.channels)]
    scripts, requests = traffic.subscribers(options.channels, options.channels), [traffic.publish(name) for name in names]
    with Contest() as contest:
        contest.host(gateway, lambda server: crowd(server, scripts, requests, options.connections))
        contest.host(responder, lambda server: crowd(server, [], requests, options.connections))
        for each in guests(options.peers):
            contest.guest(
                each,
                lambda server, peer: crowd(
                    server,
                    peer.scripts(options.channels, options.channels),
                    peer.requests(options.channels),
                    options.connections,
                ),
            )
        rounds, beside = contest.run(options.rounds, options.seconds, lambda one: one.published)
    if any(one.delivered != one.published for one in rounds[0]):
        raise SystemExit("no answer: not every publish has reached its subscriber")
    result, least = (summarize(some, lambda one: one.published) for some in rounds)
    sentence = f"signed publishes to one subscriber each, {options.connections} connections:"
    sentence += f" {compare('answers', 'answer', result, least, 'a constant on uvloop')}{beside.said}"
    return answer(sentence, result, least, peers=beside.results)


if __name__ == "__main__":
    sys.exit(main())
