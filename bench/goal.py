"""What the gateway is meant to reach, held against what a run has measured: met, not met, or not measured and why."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from bench.record import Told
from bench.report import Answer, Result, saturated, was_limited

MET, NOT_MET, NOT_MEASURED = "met", "**not met**", "not measured"

#: two servers that differ by less are level: so much do two runs of one of them
NOISE = 0.15

_FANOUTS = (100, 1000, 5000)


@dataclass(frozen=True, slots=True)
class Row:
    """One goal."""

    what: str
    wanted: str
    measured: str
    verdict: str


class Measured:
    """The answers of a run, by question."""

    def __init__(self, told: Sequence[Told]) -> None:
        self._told = {each.name: each for each in told}

    def answer(self, question: str, begins: str = "") -> Answer | str:
        """Return the answer whose sentence begins so, or why there is none."""
        if (told := self._told.get(question)) is None:
            return f"{question} was not asked"
        for given in told.answers:
            if not given.is_refused and given.sentence.startswith(begins):
                return given
        reasons = [given.sentence for given in told.answers if given.is_refused] or ["it was not answered"]
        return f"{question}: {' '.join(reasons[0].split())}"

    def pair(self, question: str, other: str, begins: str = "") -> tuple[Result, Result] | str:
        """Return the first result, the gateway's, and that of another server."""
        given = self.answer(question, begins)
        if isinstance(given, str):
            return given
        if other not in given.results:
            return f"{question}: {other} was not beside it"
        return next(iter(given.results.values())), given.results[other]

    def figure(self, question: str, name: str, begins: str = "") -> float | str:
        """Return a figure."""
        given = self.answer(question, begins)
        return given if isinstance(given, str) else given.figures.get(name, f"{question}: nothing is known of {name}")


def rate_ratio(mine: Result, other: Result) -> float:
    """Return how many times the other's work this one does in the same time.

    Where one of the two cores was not full the rates are no capacities: then it is the work for the same CPU time.
    """
    if all(saturated(each).startswith("server") and not was_limited(each) for each in (mine, other)):
        return mine.per_s / other.per_s
    return other.cpu_us / mine.cpu_us


def rows(told: Sequence[Told]) -> list[Row]:
    """Return all goals."""
    measured = Measured(told)
    return [*_fanout(measured), *_requests(measured), *_memory(measured), *_growth(measured), *_webhooks(measured)]


def _judged(
    what: str,
    wanted: str,
    found: Mapping[str, float | str],
    *,
    least: float | None = None,
    most: float | None = None,
    unit: str = " x",
) -> Row:
    """Judge a goal by all that was found for it; a text says why something is missing."""
    missing = [value for value in found.values() if isinstance(value, str)]
    values = {name: value for name, value in found.items() if not isinstance(value, str)}
    parts = [f"{name}{': ' if name else ''}{_digits(value)}{unit}" for name, value in values.items()] + missing[:1]
    if any((least is not None and value < least) or (most is not None and value > most) for value in values.values()):
        verdict = NOT_MET
    else:
        verdict = NOT_MEASURED if missing else MET
    return Row(what, wanted, "; ".join(parts), verdict)


def _digits(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}" if value >= 1 else f"{value:.2f}"


def _rates(measured: Measured, questions: Mapping[str, str], other: str) -> dict[str, float | str]:
    pairs = {label: measured.pair(question, other) for label, question in questions.items()}
    return {label: pair if isinstance(pair, str) else rate_ratio(*pair) for label, pair in pairs.items()}


def _fanout(measured: Measured) -> Iterator[Row]:
    what = "fan-out, 4 publishes in flight"
    questions = {f"N = {count}": f"fanout-{count}-4" for count in _FANOUTS}
    yield _judged(what, "level with bare uWebSockets.js", _rates(measured, questions, "uWebSockets.js"), least=1 - NOISE)
    yield _judged(what, "3 x soketi", _rates(measured, questions, "soketi"), least=3)
    yield _judged(what, "1.5 x the floor", _rates(measured, questions, "floor"), least=1.5)
    questions = {f"N = {count}": f"fanout-{count}-32" for count in _FANOUTS}
    yield _judged("fan-out, 32 in flight", "10 x the floor", _rates(measured, questions, "floor"), least=10)
    pair = measured.pair("fanout-paced", "floor")
    cpu: float | str = pair if isinstance(pair, str) else pair[0].cpu_us / pair[1].cpu_us
    p99: float | str = pair if isinstance(pair, str) else pair[0].p99_us / pair[1].p99_us
    what = "fan-out at 50,000 deliveries/s"
    yield _judged(what, "at most 1.1 x the floor's CPU", {"": cpu}, most=1.1)
    yield _judged(what, "p99 at most 1.2 x the floor's", {"": p99}, most=1.2)


def _requests(measured: Measured) -> Iterator[Row]:
    what = "signed publish, 1 subscriber each"
    yield _judged(what, "3 x soketi", _rates(measured, {"": "publish"}, "soketi"), least=3)
    yield _judged(what, "level with Node's ws", _rates(measured, {"": "publish"}, "ws"), least=1 - NOISE)
    yield _judged("client event, 10 receivers", "3 x soketi", _rates(measured, {"": "client-event"}, "soketi"), least=3)
    yield _judged("connect, subscribe, close", "soketi's rate", _rates(measured, {"": "connect"}, "soketi"), least=1 - NOISE)


def _memory(measured: Measured) -> Iterator[Row]:
    size = measured.figure("memory", "gateway_bytes")
    found = {"": size if isinstance(size, str) else size / 1024}
    yield _judged("memory of an idle connection", "below 4 KB", found, most=4, unit=" KB")
    grown = measured.figure("churn", "grown_bytes_per_connect")
    yield _judged("memory over connects and closes", "flat: below 1 byte each", {"": grown}, most=1, unit=" bytes each")
    held, processes, files = (measured.figure("liveness", name) for name in ("connections", "processes", "descriptors"))
    by = ""
    if not isinstance(processes, str) and not isinstance(files, str):
        by = " by one process" if processes == 1 else f" by {processes:.0f} processes: here one may have {files:,.0f} files open"
    yield _judged("idle connections held on this machine", "50,000", {"": held}, least=50_000, unit=by)
    shares = {
        _count(measured, "liveness", "with sockets"): measured.figure("liveness", "share_percent"),
        _count(measured, "in-process", "in process"): measured.figure("in-process", "liveness_share_percent"),
    }
    yield _judged("liveness of all of them, as set by default", "below 2 % of a core in all", shares, most=2, unit=" %")


def _count(measured: Measured, question: str, how: str) -> str:
    """Return how many connections there were, and how."""
    count = measured.figure(question, "connections")
    return how if isinstance(count, str) else f"{count:,.0f} {how}"


def _growth(measured: Measured) -> Iterator[Row]:
    wanted = "at most 1.3 x"
    given = measured.answer("growth-fanout")
    found: dict[str, float | str] = {}
    if isinstance(given, str) or given.growth is None:
        found[""] = str(given)
    else:
        costs = {size: mine for size, mine, _ in given.growth.points}
        far, near = max(costs), costs.get(1000)
        found[f"at {far:,}"] = "1,000 was not measured" if near is None else costs[far] / near
        more = [measured.figure("in-process", name) for name in ("far_us", "near_us")]
        if far < 50_000 and near is not None:
            # What more of them cost without sockets comes on top of what a delivery costs with them.
            add = [each for each in more if not isinstance(each, str)]
            found["at 50,000, calculated"] = 1 + (add[0] - add[1]) / near if len(add) == 2 else str(more[0])
    yield _judged("CPU per delivery over that at 1,000 subscribers", wanted, found, most=1.3)
    for name, what in (
        ("publish", "CPU per publish, 100,000 channels over 1"),
        ("connect", "CPU per connect, full over empty"),
        ("webhook", "CPU per webhook event, 1,000,000 waiting over none"),
    ):
        mine, floors = (measured.figure(f"growth-{name}", figure) for figure in ("far_over_near", "floor_far_over_near"))
        over, each = mine, ""
        if not isinstance(mine, str) and not isinstance(floors, str):
            # The floor knows nothing of what there is more of: what its cost grows by is the kernel's growth, or the load's.
            over, each = mine / max(1, floors), f": the gateway's {_digits(mine)} x, the floor's {_digits(floors)} x"
        yield _judged(what, f"{wanted}, the floor's growth taken out", {"": over}, most=1.3, unit=f" x{each}")


def _webhooks(measured: Measured) -> Iterator[Row]:
    pair = measured.pair("webhook", "floor", "webhooks, format batch")
    rate: float | str = pair if isinstance(pair, str) else pair[0].per_s
    yield _judged("webhooks, durable, signed, in batches", "20,000 events/s", {"": rate}, least=20_000, unit=" events/s")
    pair = measured.pair("webhook", "without", "publish to ")
    p99: float | str = pair if isinstance(pair, str) else pair[0].p99_us / pair[1].p99_us
    yield _judged("p99 of a publish with all events wanted", "at most 1.3 x without", {"": p99}, most=1.3)
    stopped = measured.figure("stop", "stopped_max_ms")
    yield _judged("longest stop of the loop by another thread", "at most 1 ms", {"": stopped}, most=1, unit=" ms")
