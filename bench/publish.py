"""How many signed publishes per second does the HTTP API take, against a bare HTTP responder that answers a constant?"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from bench import traffic
from bench.load import crowd
from bench.report import alternate, answer, compare, summarize
from bench.server import gateway, responder


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print one line, return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--channels", type=int, default=1000, help="with one subscriber each")
    parser.add_argument("--connections", type=int, default=16, help="kept alive, with one publish in flight each")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1, help="length of a round")
    options = parser.parse_args(arguments)

    names = [traffic.channel(number) for number in range(options.channels)]
    scripts, requests = traffic.subscribers(options.channels, options.channels), [traffic.publish(name) for name in names]
    with (
        gateway() as tested,
        responder() as bare,
        crowd(tested, scripts, requests, options.connections) as to_gateway,
        crowd(bare, [], requests, options.connections) as to_floor,
    ):
        rounds = alternate([to_gateway, to_floor], options.rounds, options.seconds)
    if any(one.delivered != one.published for one in rounds[0]):
        raise SystemExit("no answer: not every publish has reached its subscriber")
    result, least = (summarize(some, lambda one: one.published) for some in rounds)
    sentence = f"signed publishes to one subscriber each, {options.connections} connections:"
    return answer(f"{sentence} {compare('answers', 'answer', result, least, 'a constant on uvloop')}", result, least)


if __name__ == "__main__":
    sys.exit(main())
