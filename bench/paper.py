"""What a run leaves behind for people: goals and servers as tables, every answer, and three plots."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from bench import goal, peer, plot
from bench.goal import Measured
from bench.machine import describe
from bench.record import Told
from bench.report import Answer, Result, saturated
from bench.server import ROOT

#: where the load's histogram of times ends (c/load.c)
_LONGEST_US = (1 << 20) - 1

_LIBRARIES = ("aiohttp", "orjson", "uvloop", "websockets")

#: the pages of the documentation that show what was measured last
PAGES = (ROOT / "README.md", ROOT / "docs" / "performance.md")

#: columns of the table of servers: their head, the question, and that question's own unit
_COLUMNS = {
    "fan-out, N = 100": "fanout-100-4",
    "N = 1000": "fanout-1000-4",
    "N = 5000": "fanout-5000-4",
    "N = 1000, 32 in flight": "fanout-1000-32",
    "client event": "client-event",
    "publish": "publish",
    "connect": "connect",
}
_CAPTION = (
    "Thousand per second of one core (deliveries, with 4 publishes in flight where nothing else is said), and KB per idle "
    "connection. soketi is asked the very same; the others below it check no signature, parse no body and keep nothing."
)
_GROWTHS = ("fanout", "publish", "connect", "webhook")


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
    """Write README.md and the plots, as far as the run has come."""
    plots = _plots(told)
    for name, svg in plots.items():
        (folder / name).write_text(svg)
    (folder / "README.md").write_text(_report(around, told, list(plots)))


def show(folder: Path, into: Path, around: Mapping[str, object], told: Sequence[Told], pages: Sequence[Path] = PAGES) -> None:
    """Copy a run's files to a folder of the documentation, and renew the pages that show it.

    A page has the places `<!-- bench: NAME -->` ... `<!-- /bench -->`. Raises ValueError for a NAME there is not.
    """
    into.mkdir(parents=True, exist_ok=True)
    for file in folder.iterdir():
        if file.name in ("README.md", "figures.json") or file.suffix == ".svg":
            shutil.copy(file, into)
    for page in pages:
        page.write_text(filled(page.read_text(), around, told, os.path.relpath(into, page.parent)))


def filled(text: str, around: Mapping[str, object], told: Sequence[Told], figures: str) -> str:
    """Return a page with what was measured in its places; `figures` is the folder of the plots as seen from the page."""
    names = _plots(told)
    pieces: dict[str, Callable[[], Sequence[str]]] = {
        "machine": lambda: [_machine(around)],
        "servers": lambda: [_CAPTION, "", *_servers(told)],
        "goals": lambda: _goals(told),
        "answers": lambda: _answers(told),
    }
    pieces |= {name.removesuffix(".svg"): (lambda name=name: [f"![{_ALT[name]}]({figures}/{name})"]) for name in names}  # type: ignore[misc]

    def piece(found: re.Match[str]) -> str:
        name = found[1]
        if name in pieces:
            inside = pieces[name]()
        elif f"{name}.svg" in _ALT:
            inside = ["Not measured."]
        else:
            raise ValueError(f"there is no piece {name} of a run; there are: {', '.join([*pieces, *_ALT])}")
        return "\n".join([f"<!-- bench: {name} -->", *inside, "<!-- /bench -->"])

    return re.sub(r"<!-- bench: (\S+) -->\n.*?<!-- /bench -->", piece, text, flags=re.DOTALL)


def _report(around: Mapping[str, object], told: Sequence[Told], plots: Sequence[str]) -> str:
    lines = ["# Benchmarks", ""]
    lines += [f"* {name}: {_words(around[name])}" for name in ("date", "commit", "machine", "versions", "peers", "absent")]
    lines += ["", "## Goals", "", *_goals(told), "", "## Servers", "", _CAPTION, "", *_servers(told)]
    for name in plots:
        lines += ["", f"![{_ALT[name]}]({name})"]
    lines += ["", "## Every answer", "", *_answers(told)]
    lines += ["", "## How long it took", "", "| question | seconds |", "|---|--:|"]
    lines += [f"| {each.name} | {each.seconds:,.0f} |" for each in told]
    lines.append(f"| all | {sum(each.seconds for each in told):,.0f} |")
    return "\n".join(lines) + "\n"


def _machine(around: Mapping[str, object]) -> str:
    peers = around["peers"]
    assert isinstance(peers, dict)
    beside = "; ".join(f"{name} {release}" for name, release in peers.items())
    where = f"Measured on {str(around['date'])[:10]}, commit {around['commit']}: {around['machine']}."
    return f"{where} Beside it: {beside or 'nobody'}."


# -- tables


def _goals(told: Sequence[Told]) -> list[str]:
    lines = ["| what | goal | measured | |", "|---|---|---|---|"]
    return lines + [f"| {row.what} | {row.wanted} | {row.measured} | {row.verdict} |" for row in goal.rows(told)]


def _servers(told: Sequence[Told]) -> list[str]:
    """A row for each server: what one core does per second, in thousands, by the CPU time that was used; and memory."""
    found = _by_server(told)
    sizes = _sizes(told)
    names = list(dict.fromkeys([*(name for column in found.values() for name in column), *sizes]))
    lines = ["| server | " + " | ".join([*_COLUMNS, "KB idle"]) + " |", "|---|" + "--:|" * (len(_COLUMNS) + 1)]
    for name in names:
        cells = [f"{plot.number_of(1000 / found[head][name].cpu_us)}" if name in found[head] else "" for head in _COLUMNS]
        row = [f"**{cell}**" if name == "gateway" and cell else cell for cell in [*cells, _kb(sizes.get(name))]]
        lines.append(f"| {name} | " + " | ".join(row) + " |")
    return lines


def _by_server(told: Sequence[Told]) -> dict[str, Mapping[str, Result]]:
    measured = Measured(told)
    answers = {head: measured.answer(question) for head, question in _COLUMNS.items()}
    return {head: {} if isinstance(given, str) else given.results for head, given in answers.items()}


def _sizes(told: Sequence[Told]) -> dict[str, float]:
    given = Measured(told).answer("memory")
    return {} if isinstance(given, str) else {name.removesuffix("_bytes"): size for name, size in given.figures.items()}


def _kb(size: float | None) -> str:
    return "" if size is None else f"{size / 1024:.1f}"


def _answers(told: Sequence[Told]) -> list[str]:
    lines = [
        "`core` is the share of its core that the server and the load used; `full` says whose core was full. A rate in brackets",
        "is no capacity: neither core was full, or the load's was.",
        "",
        "| question | server | per second | × floor | CPU us each | × floor | p50 us | p99 us | core | full |",
        "|---|---|--:|--:|--:|--:|--:|--:|--:|---|",
    ]
    for each in told:
        for given in each.answers:
            lines += _rows(each.name, given)
    lines.append("")
    for each in told:
        lines += [f"* **{each.name}**: {'no answer: ' if one.is_refused else ''}{_line(one.sentence)}" for one in each.answers]
    return lines


def _rows(question: str, given: Answer) -> list[str]:
    rows, yardstick = [], list(given.results.values())[1:2]
    for name, one in given.results.items():
        rate = f"{one.per_s:,.0f}" if saturated(one) == "server" else f"({one.per_s:,.0f})"
        ratios = [f"{one.per_s / other.per_s:.2f} | {one.cpu_us:,.1f} | {one.cpu_us / other.cpu_us:.2f}" for other in yardstick]
        rows.append(
            f"| {question} | {name} | {rate} | {ratios[0] if ratios else f'| {one.cpu_us:,.1f} |'} | {_time(one.p50_us)} "
            f"| {_time(one.p99_us)} | {one.server_share:.0%}, {one.load_share:.0%} | {saturated(one)} |"
        )
    return rows


def _line(sentence: str) -> str:
    """A refusal may quote a log; a point of a list is one line."""
    return " ".join(sentence.split())


def _words(value: object) -> str:
    return "; ".join(f"{name}: {said}" for name, said in value.items()) if isinstance(value, dict) else str(value)


def _time(us: float) -> str:
    """Nothing where nothing was timed; and the load's histogram ends somewhere."""
    return f"over {_LONGEST_US:,}" if us >= _LONGEST_US else f"{us:,.0f}" if us else ""


# -- plots

_ALT = {
    "fanout.svg": "Deliveries per second of each server, by how many publishes are in flight",
    "requests.svg": "Client events, publishes and connections per second of each server, and the memory of an idle connection",
    "growth.svg": "What a delivery, a publish, a connection and a webhook event cost where there is more of everything",
}


def _plots(told: Sequence[Told]) -> dict[str, str]:
    plots = {"fanout.svg": _fanout_plot(told), "requests.svg": _requests_plot(told), "growth.svg": _growth_plot(told)}
    return {name: svg for name, svg in plots.items() if svg}


def _fanout_plot(told: Sequence[Told]) -> str:
    found = _by_server(told)
    heads = {"N = 1000": "4 publishes in flight", "N = 1000, 32 in flight": "32 publishes in flight"}
    panels = [plot.bars(title, _per_ms(found[head]), plot.panel_width(2)) for head, title in heads.items() if found[head]]
    note = "Thousand deliveries per second of one core, from the CPU time used; floor: one send each, in C. More is better."
    return plot.sheet("Fan-out of one message to 1000 subscribers", note, panels, 2) if panels else ""


def _requests_plot(told: Sequence[Told]) -> str:
    found, sizes = _by_server(told), _sizes(told)
    titles = {
        "publish": "Signed publishes, a thousand channels",
        "client event": "Client events to ten receivers",
        "connect": "Connect, subscribe, close",
    }
    panels = [plot.bars(title, _per_ms(found[head]), plot.panel_width(2)) for head, title in titles.items() if found[head]]
    if sizes:
        kb = {name: size / 1024 for name, size in sizes.items()}
        panels.append(plot.bars("KB per idle connection (less is better)", kb, plot.panel_width(2)))
    note = "Thousand per second of one core, from the CPU time used; more is better, but for memory."
    return plot.sheet("Publishing, client events, connecting, memory", note, panels, 2) if panels else ""


def _growth_plot(told: Sequence[Told]) -> str:
    panels = []
    for name in _GROWTHS:
        given = Measured(told).answer(f"growth-{name}")
        if not isinstance(given, str) and given.growth is not None:
            growth = given.growth
            curves = {
                "floor": [(size, least) for size, _, least in growth.points],
                "gateway": [(size, mine) for size, mine, _ in growth.points],
            }
            panels.append(plot.lines(f"CPU µs per {growth.each}", growth.over, curves, plot.panel_width(2)))
    note = "Blue: the gateway; grey: the floor of the same run. A flat line is a cost that does not grow."
    return plot.sheet("What it costs where there is more of it", note, panels, 2) if panels else ""


def _per_ms(results: Mapping[str, Result]) -> dict[str, float]:
    return {name: 1000 / one.cpu_us for name, one in results.items()}
