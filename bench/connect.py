"""How many connections per second can come, subscribe and go, against a floor that accepts and answers constants?"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from bench import traffic
from bench.load import churn
from bench.report import alternate, answer, compare, summarize
from bench.server import floor, gateway


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print one line, return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--at-once", type=int, default=64)
    parser.add_argument("--channels", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1, help="length of a round")
    options = parser.parse_args(arguments)

    scripts = traffic.subscribers(options.channels, options.channels)
    with (
        gateway() as tested,
        floor() as bare,
        churn(tested, scripts, options.at_once) as to_gateway,
        churn(bare, scripts, options.at_once) as to_floor,
    ):
        rounds = alternate([to_gateway, to_floor], options.rounds, options.seconds)
    result, least = (summarize(some, lambda one: one.published) for some in rounds)
    sentence = f"connect, subscribe and close, {options.at_once} at once:"
    return answer(f"{sentence} {compare('connections', 'connection', result, least, 'constant answers')}", result, least)


if __name__ == "__main__":
    sys.exit(main())
