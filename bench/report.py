"""How an answer is found and told: several short rounds in turn, medians, a ratio to the floor, and the machine.

An answer is refused, and the exit code is 1, if nothing was measured or if the load was the gateway's limit: the gateway's core
was not full, and that of the load was, or the load was busier than the gateway. Where the load was only the floor's limit the
ratio of the CPU times still holds, and the line says so.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median

from bench.load import Load, Round
from bench.machine import describe

#: Shares of a core: above the first the load could not do more, below the second the server could.
_LOAD_FULL, _SERVER_FULL = 0.95, 0.90


@dataclass(frozen=True, slots=True)
class Result:
    """The medians of one server's rounds."""

    per_s: float
    cpu_us: float
    p50_us: float
    p99_us: float
    server_share: float
    load_share: float
    done: int


def alternate(loads: Sequence[Load], rounds: int, seconds: float, rate: float = 0.0) -> list[list[Round]]:
    """Run rounds against several servers in turn, so that whatever else the machine does hits all of them."""
    for load in loads:
        warm_up(load, seconds, rate)
    results: list[list[Round]] = [[] for _ in loads]
    for _ in range(rounds):
        for load, result in zip(loads, results, strict=True):
            result.append(load.run(seconds, rate))
    return results


def warm_up(load: Load, seconds: float, rate: float) -> None:
    """Run a short round that does not count: caches, memory and code are warm from then on."""
    load.run(min(seconds, 0.5) / 2, rate)


def summarize(rounds: Sequence[Round], count: Callable[[Round], int]) -> Result:
    """Return the medians of some rounds; `count` says what is counted. Raises SystemExit if a round measured nothing."""
    if not all(count(one) and one.server_cpu_s for one in rounds):
        raise SystemExit("no answer: a round measured nothing")
    if refused := sum(one.refused for one in rounds):
        raise SystemExit(f"no answer: the server refused {refused} requests")
    return Result(
        per_s=median(count(one) / one.seconds for one in rounds),
        cpu_us=median(one.server_cpu_s / count(one) * 1e6 for one in rounds),
        p50_us=median(one.p50_us for one in rounds),
        p99_us=median(one.p99_us for one in rounds),
        server_share=median(one.server_share for one in rounds),
        load_share=median(one.load_share for one in rounds),
        done=sum(map(count, rounds)),
    )


def was_limited(gateway: Result) -> bool:
    """Tell whether the load, not the gateway, was the limit."""
    if gateway.server_share >= _SERVER_FULL:
        return False
    # A load that is slow but has to share its core never fills it. It would flatter the gateway, which joins what waits.
    return gateway.load_share > min(_LOAD_FULL, gateway.server_share)


def saturated(result: Result) -> str:
    """Say whose core was full, and so whose limit the rate is."""
    sides = {"server": result.server_share >= _SERVER_FULL, "load": result.load_share >= _LOAD_FULL}
    return " and ".join(side for side, is_full in sides.items() if is_full) or "neither"


@dataclass(frozen=True, slots=True)
class Growth:
    """What one thing costs over how much there is: at each size the CPU microseconds of the gateway and of the floor."""

    over: str
    each: str
    points: Sequence[tuple[int, float, float]]


@dataclass(frozen=True, slots=True)
class Answer:
    """What a benchmark has said, or why it has not; `results` are by server, the gateway's first."""

    sentence: str
    is_refused: bool
    results: Mapping[str, Result]
    figures: Mapping[str, float]
    growth: Growth | None = None


_collectors: list[list[Answer]] = []


@contextmanager
def collected() -> Iterator[list[Answer]]:
    """Collect the answers given within, besides printing them."""
    answers: list[Answer] = []
    _collectors.append(answers)
    try:
        yield answers
    finally:
        _collectors.remove(answers)


def _tell(given: Answer) -> None:
    for answers in _collectors:
        answers.append(given)


def answer(
    sentence: str,
    *results: Result,
    names: Sequence[str] = ("gateway", "floor"),
    peers: Mapping[str, Result] | None = None,
    figures: Mapping[str, float] | None = None,
    growth: Growth | None = None,
) -> int:
    """Print the line of answer and return the exit code; the gateway's result comes first.

    `names` are those of the results; `figures` are what the sentence says besides them, each named with its unit.
    """
    if results and was_limited(results[0]):
        shares = ", ".join(f"{result.load_share:.0%} against {result.server_share:.0%}" for result in results)
        return refuse(f"the load was the limit (load and server, share of a core: {shares})")
    sentence += "".join([f"; {beside(name, results[0], peer)}" for name, peer in (peers or {}).items()])
    print(f"{sentence} | {describe()}", flush=True)
    _tell(Answer(sentence, False, dict(zip(names, results, strict=False)) | dict(peers or {}), dict(figures or {}), growth))
    return 0


def beside(name: str, gateway: Result, peer: Result) -> str:
    """Return the gateway as a ratio to a peer; without that of the rates where the load was the peer's limit."""
    rate = "" if was_limited(peer) else f"{gateway.per_s / peer.per_s:.2f} x the rate and "
    return f"{rate}{gateway.cpu_us / peer.cpu_us:.2f} x the CPU of {name}"


def refuse(why: str) -> int:
    """Print why there is no answer and return the exit code."""
    print(f"no answer: {why} | {describe()}", file=sys.stderr, flush=True)
    _tell(Answer(why, True, {}, {}))
    return 1


def compare(what: str, each: str, result: Result, floor: Result, floor_name: str) -> str:
    """Return a rate and its cost as ratios to the floor.

    Where a server's core was not full, be it that a pace was set or that others had the core, its rate is no capacity.
    """
    note = ""
    if result.server_share < _SERVER_FULL:
        note = "; the gateway's core was not full: trust the CPU's ratio"
    elif floor.server_share < _SERVER_FULL:
        note = "; the floor's core was not full, it could do more than the load asked for: trust the CPU's ratio"
    return (
        f"{result.per_s / floor.per_s:.2f} x the floor's {what} per second "
        f"({result.per_s:,.0f}; {floor_name}: {floor.per_s:,.0f}), "
        f"{result.cpu_us / floor.cpu_us:.2f} x its CPU per {each} ({result.cpu_us:.1f} us; {floor.cpu_us:.1f}); "
        f"shares of a core: server {result.server_share:.0%}, load {result.load_share:.0%}; "
        f"floor {floor.server_share:.0%}, load {floor.load_share:.0%}{note}"
    )
