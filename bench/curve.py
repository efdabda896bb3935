"""Does what one thing costs grow with how much there is? Four curves, each beside the floor of the same run.

    fanout     CPU per delivery, over the subscribers of the channel
    publish    CPU per signed publish, over the channels that are occupied
    connect    CPU per connection that comes, subscribes and goes, over the connections that are there and idle
    webhook    CPU per event that is recorded and delivered, over the events that wait for an endpoint that refuses them

Says a table and, for each curve, whether its far end costs more than its near end.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from bench import traffic
from bench.load import churn, crowd
from bench.machine import LOAD_CORE, pinned, raise_files
from bench.neighbour import refusing
from bench.receiver import Receiver
from bench.report import Growth, Result, alternate, answer, refuse, saturated, summarize, was_limited
from bench.server import floor, gateway, responder
from bench.stock import ENDPOINT, stock
from bench.webhook import rate_of

#: what grows by less is flat; two runs of the same thing differ by up to 15 % on a busy machine, and there are two of them
_FLAT = 1.3
#: descriptors for other things than subscribers: the gateway keeps 512 from its clients
_SPARE = 600
_WINDOW, _PUBLISHERS, _AT_ONCE = 4, 16, 64
#: channels that one connection holds where there are to be more of them than connections
_PER_CONNECTION = 100


@dataclass(frozen=True, slots=True)
class Curve:
    """A question over sizes: `measure` returns the result of the gateway and that of the floor at one of them."""

    name: str
    over: str
    each: str
    sizes: Sequence[int]
    measure: Callable[[int, int, float], tuple[Result, Result]]


@dataclass(frozen=True, slots=True)
class Point:
    """What was measured at one size."""

    size: int
    gateway: Result
    floor: Result


def at_most(sizes: Iterable[int], connections: int) -> list[int]:
    """Return the sizes for which so many connections are enough, and that many if the last ones are not."""
    wanted = list(sizes)
    return [size for size in wanted if size < connections] + [connections] * (wanted[-1] >= connections)


def verdict(points: Sequence[Point]) -> tuple[float, float, str]:
    """Return the ratio of the costs at the ends, far over near, that of the floor's, and what to call the first.

    What grows no more than the floor does is the kernel's growth, or the machine got busier meanwhile.
    """
    near, far = points[0], points[-1]
    ratio, floors = far.gateway.cpu_us / near.gateway.cpu_us, far.floor.cpu_us / near.floor.cpu_us
    return ratio, floors, "grows" if ratio > _FLAT * max(1, floors) else "is flat" if ratio > 1 / _FLAT else "falls"


def _fanout(size: int, rounds: int, seconds: float) -> tuple[Result, Result]:
    scripts, requests = traffic.subscribers(size, 1), [traffic.publish(traffic.channel(0))]
    with (
        gateway() as tested,
        floor() as bare,
        crowd(tested, scripts, requests, _WINDOW) as to_gateway,
        crowd(bare, scripts, requests, _WINDOW) as to_floor,
    ):
        mine, least = alternate([to_gateway, to_floor], rounds, seconds)
    return summarize(mine, lambda one: one.delivered), summarize(least, lambda one: one.delivered)


def _publish(size: int, rounds: int, seconds: float) -> tuple[Result, Result]:
    names = [traffic.channel(number) for number in range(size)]
    step = max(1, min(_PER_CONNECTION, size // _PUBLISHERS))
    scripts: list[bytes] = []
    for first in range(0, size, step):
        scripts += [traffic.hello(), b"".join(map(traffic.subscription, names[first : first + step]))]
    requests = [traffic.publish(name) for name in names]
    with (
        gateway() as tested,
        responder() as bare,
        crowd(tested, scripts, requests, _PUBLISHERS) as to_gateway,
        crowd(bare, [], requests, _PUBLISHERS) as to_floor,
    ):
        mine, least = alternate([to_gateway, to_floor], rounds, seconds)
    return summarize(mine, lambda one: one.published), summarize(least, lambda one: one.published)


def _connect(size: int, rounds: int, seconds: float) -> tuple[Result, Result]:
    idle, scripts = traffic.subscribers(size, _PER_CONNECTION), traffic.subscribers(_PER_CONNECTION, _PER_CONNECTION)
    with ExitStack() as stack:
        loads = []
        for server in (stack.enter_context(gateway()), stack.enter_context(floor())):
            stack.enter_context(crowd(server, idle, [traffic.publish(traffic.channel(0))], 1))
            loads.append(stack.enter_context(churn(server, scripts, _AT_ONCE)))
        mine, least = alternate(loads, rounds, seconds)
    return summarize(mine, lambda one: one.published), summarize(least, lambda one: one.published)


def _webhook(size: int, rounds: int, seconds: float) -> tuple[Result, Result]:
    with tempfile.TemporaryDirectory(prefix="bench-") as folder, pinned(LOAD_CORE), refusing() as nowhere, Receiver() as receiver:
        state = Path(folder, "state")
        if size:
            stock(state, size)
        else:
            state.mkdir(mode=0o700)
        # Of what is published here the dead endpoint wants nothing: its backlog is what it was.
        dead = receiver.webhook(events=["channel.occupied"], format="batch", **{"retry.initial": "10s", "retry.max_delay": "10s"})
        webhooks = [receiver.webhook(format="batch", events=["message.published"]), dead | {"name": ENDPOINT, "url": nowhere}]
        _, mine, least = rate_of(receiver, rounds, seconds, lambda: gateway(outbox="disk", webhooks=webhooks, state=state))
    return mine, least


def _curves(connections: int) -> list[Curve]:
    return [
        Curve("fanout", "subscribers", "delivery", at_most((10, 100, 1000, 10_000, 50_000), connections), _fanout),
        Curve("publish", "channels", "publish", (1, 100, 10_000, 100_000), _publish),
        Curve("connect", "idle connections", "connection", at_most((0, 1000, 10_000, 50_000), connections), _connect),
        Curve("webhook", "waiting events", "event", (0, 10_000, 100_000, 1_000_000), _webhook),
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; the exit code is 1 if a point was refused."""
    parser = argparse.ArgumentParser(prog="python -m bench.curve", description=__doc__)
    parser.add_argument("--only", action="append", choices=[curve.name for curve in _curves(1)])
    parser.add_argument("--most", type=int, default=1_000_000, help="no size beyond this")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=1, help="length of a round")
    options = parser.parse_args(arguments)

    files = raise_files()
    if files - _SPARE < 50_000:
        print(f"connections: {files - _SPARE:,} at most, of {files:,} descriptors a process may have", flush=True)
    code = 0
    for curve in _curves(files - _SPARE):
        if options.only and curve.name not in options.only:
            continue
        points, refused = _measured(curve, options.most, options.rounds, options.seconds)
        code |= refused
        if len(points) > 1:
            code |= _answer(curve, points)
    return code


def _measured(curve: Curve, most: int, rounds: int, seconds: float) -> tuple[list[Point], int]:
    points, refused = [], 0
    for size in (size for size in curve.sizes if size <= most):
        begun_at = time.monotonic()
        try:
            mine, least = curve.measure(size, rounds, seconds)
        except SystemExit as reason:
            refused = refuse(f"{curve.name}, {size:,} {curve.over}: {str(reason).removeprefix('no answer: ')}")
            continue
        if was_limited(mine):
            refused = refuse(f"{curve.name}, {size:,} {curve.over}: the load was the limit")
            continue
        points.append(Point(size, mine, least))
        print(f"{curve.name}: {size:,} {curve.over}, {time.monotonic() - begun_at:.0f} s", file=sys.stderr, flush=True)
    return points, refused


def _answer(curve: Curve, points: Sequence[Point]) -> int:
    print(f"\n| {curve.over} | CPU us per {curve.each} | floor | ratio | per second | full |\n|--:|--:|--:|--:|--:|---|")
    for each in points:
        mine, least = each.gateway, each.floor
        print(
            f"| {each.size:,} | {mine.cpu_us:,.1f} | {least.cpu_us:,.1f} | {mine.cpu_us / least.cpu_us:.2f} "
            f"| {mine.per_s:,.0f} | {saturated(mine)} |"
        )
    ratio, floors, word = verdict(points)
    return answer(
        f"{curve.name} {word}: the CPU per {curve.each} at {points[-1].size:,} {curve.over} is {ratio:.2f} x that at "
        f"{points[0].size:,}; the floor's {floors:.2f} x",
        figures={"far_over_near": ratio, "floor_far_over_near": floors},
        growth=Growth(curve.over, curve.each, [(each.size, each.gateway.cpu_us, each.floor.cpu_us) for each in points]),
    )


if __name__ == "__main__":
    sys.exit(main())
