"""Does a gateway through which many connections have come and gone hold more memory than before?"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence

from bench import traffic
from bench.load import churn
from bench.machine import resident_bytes
from bench.report import answer
from bench.server import gateway

_AT_ONCE, _CHANNELS = 64, 100
#: seconds of a round, and the part of all connects after which the memory counts: what is kept for reuse has been made by then
_ROUND_S, _FIRST = 0.5, 0.2


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print one line, return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--connects", type=int, default=1_000_000)
    parser.add_argument("--seconds", type=float, default=3600, help="end after so long, whatever the number is by then")
    options = parser.parse_args(arguments)

    scripts = traffic.subscribers(_CHANNELS, _CHANNELS)
    sizes: list[tuple[int, int]] = []
    begun_at, done = time.monotonic(), 0
    with gateway() as tested, churn(tested, scripts, _AT_ONCE) as load:
        while len(sizes) < 2 or (done < options.connects and time.monotonic() - begun_at < options.seconds):
            done += load.run(_ROUND_S).published
            sizes.append((done, resident_bytes(tested.pid)))
            if len(sizes) % 60 == 0:
                print(f"{done:,} connects, {sizes[-1][1] / 2**20:.1f} MB", file=sys.stderr, flush=True)
    first, before = next(each for each in sizes if each[0] >= _FIRST * done)
    if first == done:
        raise SystemExit("no answer: most of the connects were in the last round")
    after = sizes[-1][1]
    curve = [next(size for number, size in sizes if number >= done * tenth / 10) / 2**20 for tenth in range(1, 11)]
    grown = (after - before) / (done - first)
    return answer(
        f"{done:,} connections came, subscribed and went: {before / 2**20:.1f} MB after {first:,}, "
        f"{after / 2**20:.1f} MB after all, {grown:+.2f} bytes for each that came between; "
        f"most {max(size for _, size in sizes) / 2**20:.1f} MB; after each tenth {', '.join(f'{size:.1f}' for size in curve)} MB",
        figures={
            "connects": done,
            "before_mb": before / 2**20,
            "after_mb": after / 2**20,
            "grown_bytes_per_connect": grown,
        },
    )


if __name__ == "__main__":
    sys.exit(main())
