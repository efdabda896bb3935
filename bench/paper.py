"""What a run leaves behind: every figure as JSON, the same as a table in Markdown, and plots."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from bench import peer, plot
from bench.machine import describe
from bench.report import Answer, Result, saturated, was_limited
from bench.server import ROOT

#: where the load's histogram of times ends (c/load.c)
_LONGEST_US = (1 << 20) - 1

_LIBRARIES = ("aiohttp", "orjson", "uvloop", "websockets")


@dataclass(frozen=True, slots=True)
class Told:
    """A question with all its answers, and how long they took."""

    name: str
    seconds: float
    answers: Sequence[Answer]


def surroundings() -> dict[str, object]:
    """Return what figures belong to: machine, date, versions, commit, and the peers that are there or why they are not."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
        "machine": describe(),
        "kernel": platform.release(),
        "python": sys.version,
        "versions": {name: version(name) for name in ("rawpush-gateway", *_LIBRARIES)},
        "peers": {each.name: each.version for each in peer.peers()},
        "absent": dict(peer.absent()),
    }


def _commit() -> str:
    """Return the commit, with a word if the files are not quite its."""
    try:
        said = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12"], cwd=ROOT, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown: not a git checkout"
    return said.stdout.strip()


def write(folder: Path, around: Mapping[str, object], told: Sequence[Told]) -> None:
    """Write figures.json, README.md and the plots, as far as the run has come."""
    folder.mkdir(parents=True, exist_ok=True)
    content = {**around, "questions": [_as_json(each) for each in told]}
    (folder / "figures.json").write_text(json.dumps(content, indent=2) + "\n")
    plots = _plots(told)
    for name, svg in plots.items():
        (folder / name).write_text(svg)
    (folder / "README.md").write_text(_markdown(around, told, list(plots)))


def _as_json(told: Told) -> dict[str, object]:
    answers = [
        asdict(each)
        | {
            "results": {
                name: asdict(result)
                | {name_us: us or None for name_us, us in (("p50_us", result.p50_us), ("p99_us", result.p99_us))}
                | {"saturated": saturated(result), "is_load_the_limit": was_limited(result)}
                for name, result in each.results.items()
            }
        }
        for each in told.answers
    ]
    return {"name": told.name, "seconds": round(told.seconds, 1), "answers": answers}


def _markdown(around: Mapping[str, object], told: Sequence[Told], plots: Sequence[str]) -> str:
    lines = ["# Benchmarks", ""]
    lines += [f"* {name}: {_words(around[name])}" for name in ("date", "commit", "machine", "versions", "peers", "absent")]
    lines += [
        "",
        "The floor is measured in the same run; a ratio is to the first other server of its question, which is the floor where",
        "there is one. `core` is the share of its core that the server and the load used; `full` says whose core was full.",
        "A rate in brackets is no capacity: neither core was full, or the load's was.",
        "",
        "| question | server | per second | ratio | CPU us each | ratio | p50 us | p99 us | core | full |",
        "|---|---|--:|--:|--:|--:|--:|--:|--:|---|",
    ]
    for each in told:
        for given in each.answers:
            lines += _rows(each.name, given.results)
    lines += ["", "## In words", ""]
    for each in told:
        lines += [f"* **{each.name}**: {'no answer: ' if one.is_refused else ''}{_line(one.sentence)}" for one in each.answers]
    for name in plots:
        lines += ["", f"![{name.removesuffix('.svg')}]({name})"]
    return "\n".join(lines) + "\n"


def _line(sentence: str) -> str:
    """A refusal may quote a log; a point of a list is one line."""
    return " ".join(sentence.split())


def _words(value: object) -> str:
    return "; ".join(f"{name}: {said}" for name, said in value.items()) if isinstance(value, dict) else str(value)


def _time(us: float) -> str:
    """Nothing where nothing was timed; and the load's histogram ends somewhere."""
    return f"over {_LONGEST_US:,}" if us >= _LONGEST_US else f"{us:,.0f}" if us else ""


def _rows(question: str, results: Mapping[str, Result]) -> list[str]:
    rows, yardstick = [], list(results.values())[1:2]
    for name, one in results.items():
        rate = f"{one.per_s:,.0f}" if saturated(one) == "server" else f"({one.per_s:,.0f})"
        ratios = [f"{one.per_s / other.per_s:.2f} | {one.cpu_us:,.1f} | {one.cpu_us / other.cpu_us:.2f}" for other in yardstick]
        rows.append(
            f"| {question} | {name} | {rate} | {ratios[0] if ratios else f'| {one.cpu_us:,.1f} |'} | {_time(one.p50_us)} "
            f"| {_time(one.p99_us)} | {one.server_share:.0%}, {one.load_share:.0%} | {saturated(one)} |"
        )
    return rows


def _plots(told: Sequence[Told]) -> dict[str, str]:
    plots = {}
    for each in told:
        for number, given in enumerate(each.answers, 1):
            if given.results:
                cost = {name: one.cpu_us for name, one in given.results.items()}
                suffix = f"-{number}" if len(each.answers) > 1 else ""
                plots[f"{each.name}{suffix}.svg"] = plot.bars(f"{each.name}{suffix}: CPU microseconds each", cost)
    return plots
