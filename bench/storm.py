"""How long do those who are connected wait while thousands of others connect at once, as after a restart?

Seen from outside: a client pings every millisecond while the others come, subscribe, go and come again, as many at once as a
gateway has lost. Held against the same storm on a bare loop in C that answers constants, and to a gateway without one.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from bench import traffic
from bench.load import Load, Round, churn
from bench.probe import at
from bench.report import answer, refuse
from bench.server import floor, gateway
from bench.stall import Pinger, pinging

_CHANNELS = 100
_SHARES = {"p50": 0.5, "p99": 0.99, "p999": 0.999}
#: the part of what it measured that the pinger itself may be late
_OWN_PART = 0.5


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print one line, return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench.storm", description=__doc__)
    parser.add_argument("--at-once", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=5, help="how long they keep coming")
    options = parser.parse_args(arguments)

    scripts = traffic.subscribers(_CHANNELS, _CHANNELS)
    with (
        gateway() as tested,
        floor() as bare,
        churn(tested, scripts, options.at_once) as to_gateway,
        churn(bare, scripts, options.at_once) as to_floor,
        pinging(tested) as beside_gateway,
        pinging(bare) as beside_floor,
    ):
        idle, _ = beside_gateway.ping(options.seconds)
        least, _, bare_round = _beside(to_floor, beside_floor, options.seconds)
        mine, lates, one = _beside(to_gateway, beside_gateway, options.seconds)
    late_us, wait_us = at(lates, 0.999), at(mine, 0.999)
    if late_us > _OWN_PART * wait_us:
        return refuse(f"the pinger itself was late, by {late_us:,} us at p99.9, where pongs took {wait_us:,} us")
    figures: dict[str, float] = {"pinger_late_p999_us": late_us}
    for name, waits in {"gateway": mine, "idle": idle, "floor": least}.items():
        figures |= {f"{name}_{share}_us": at(waits, part) for share, part in _SHARES.items()} | {f"{name}_max_us": waits[-1]}
    for name, done in {"gateway": one, "floor": bare_round}.items():
        figures |= {f"{name}_lives": done.published, f"{name}_per_s": done.published / done.seconds}
    return answer(
        f"a ping beside {options.at_once:,} clients that connect at once, {one.published / one.seconds:,.0f} per second: "
        f"{_told(mine)}; the floor, {bare_round.published / bare_round.seconds:,.0f} per second: {_told(least)}; "
        f"a gateway at rest: {_told(idle)}; the pinger's own delay: p99.9 {late_us / 1000:.2f} ms",
        figures=figures,
    )


def _beside(load: Load, pinger: Pinger, seconds: float) -> tuple[list[int], list[int], Round]:
    with ThreadPoolExecutor(1) as other:
        loaded = other.submit(load.run, seconds)
        waits, lates = pinger.ping(seconds)
        return waits, lates, loaded.result()


def _told(waits: Sequence[int]) -> str:
    p50, p99, p999 = (at(waits, share) / 1000 for share in _SHARES.values())
    return f"p50 {p50:.2f} ms, p99 {p99:.1f} ms, p99.9 {p999:.1f} ms, longest {waits[-1] / 1000:.1f} ms"


if __name__ == "__main__":
    sys.exit(main())
