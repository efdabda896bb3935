"""Writes the reference pages from the code: `python docs/generate.py`. A test says when that was forgotten."""

from __future__ import annotations

import argparse
import re
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from gateway.admin.metric import FAMILIES  # noqa: E402
from gateway.command.parser import command_line, subcommands  # noqa: E402
from gateway.config.schema import TABLES  # noqa: E402 -- a clone need not be installed for this
from gateway.core.catalogue import ENTRIES, Entry  # noqa: E402

_SETTING = re.compile(r"(?:# )?(\w+) = ((?:\[.*?\]|\{.*?\}|\".*?\"|[^#\s]+))\s*(?:# ?(.*))?")

_EVENTS = """\
# Every event

What the gateway tells, and the `data` of each event. [webhooks.md](webhooks.md) has what surrounds it: envelopes,
signatures, order. Times are milliseconds, sizes bytes. A receiver should pass over members it does not know.

| event | when |
|---|---|
"""

_SETTINGS = """\
# Every setting

One TOML file; `rawpush check -c config.toml` says what is wrong in it, all of it at once, and `--resolved` shows every
value and where it came from. [`config.example.toml`](../config.example.toml) is the same list as a file to start from.

Durations are texts with their unit (`"500ms"`, `"10s"`, `"5m"`, `"24h"`), sizes are texts (`"10KB"`, `"2GB"`; 1 KB is 1024
bytes) or numbers of bytes. A secret is written as itself, as `"env:NAME"` or as `"file:PATH"`. `RAWPUSH_SECTION__SETTING`
in the environment overrides a setting of a table that stands once in the file: `RAWPUSH_SERVER__PORT=8001`.
"""

_METRICS = """\
# Every metric

What `GET /metrics` on the [admin port](operating.md) tells, in the Prometheus text format, or in OpenMetrics for who asks for
it. Counters begin with the process. Labels are names out of the file or out of closed lists, so there is no series for a
channel, a connection or a user. Beside these there are the usual `process_…` metrics: CPU time, memory, open files.

| metric | type | labels | |
|---|---|---|---|
"""

_COMMANDS = """\
# Every command

What `rawpush` does from a shell. `rawpush COMMAND --help` says the same as this page. Exit codes: 0 done, 1 the thing failed,
2 wrong usage. `eval "$(rawpush completion bash)"` has your shell complete commands and options.

Commands that speak to a running gateway take from the file where it listens and what signs for an app; where there is no file,
`--key`, `--secret`, `--app` and `--url` stand for it. What one command says to a person it says to a program with `--json`.
"""

#: an option of so many commands is explained once
_COMMON = 5


def events() -> str:
    """The page of all lifecycle events."""
    lines = _EVENTS.splitlines()
    lines += [f"| [`{name}`](#{_anchor(name)}) | {entry.when} |" for name, entry in ENTRIES.items()]
    for name, entry in ENTRIES.items():
        lines += ["", f"## {name}", "", entry.when, "", *_facts(entry)]
    return "\n".join(lines) + "\n"


def _facts(entry: Entry) -> Iterator[str]:
    yield f"In order with everything else of the same {entry.subject}."
    yield ""
    yield "| member | type | |"
    yield "|---|---|---|"
    for fact in entry.facts:
        yield f"| `{fact.name}`{' (optional)' if fact.is_optional else ''} | {fact.type} | {fact.meaning} |"


def _anchor(name: str) -> str:
    return name.replace(".", "")


def settings() -> str:
    """The page of all settings: what the commented example says, as tables."""
    lines = _SETTINGS.splitlines()
    table = ""
    for line in (HERE.parent / "config.example.toml").read_text().splitlines():
        header = re.match(r"(\[+[\w.]+\]+)\s*(?:# ?(.*))?$", line)
        if header:
            table = header[1]
            lines += ["", f"## {table}", ""]
            if header[2]:
                lines += [_sentence(header[2]), ""]
            lines += ["| setting | value in the example | |", "|---|---|---|"]
        elif table and (found := _SETTING.fullmatch(line)):
            name, value, meaning = found.groups()
            required = "" if name in TABLES[table].defaults() or line.startswith("#") else " (required)"
            lines.append(f"| `{name}`{required} | `{value}` | {(meaning or '').replace('|', chr(92) + '|')} |")
    return "\n".join(lines) + "\n"


def metrics() -> str:
    """The page of all metrics."""
    lines = _METRICS.splitlines()
    for family in FAMILIES:
        labels = ", ".join(f"`{label}`" for label in family.labels)
        lines.append(f"| `{family.shown}` | {family.kind} | {labels} | {family.text} |")
    return "\n".join(lines) + "\n"


def commands() -> str:
    """The page of all commands: what the parser knows of them."""
    lines = _COMMANDS.splitlines()
    leaves = list(_leaves(command_line()))
    counts = Counter(_row(action) for parser, _ in leaves for action in _own(parser) if action.option_strings)
    common = {row for row, count in counts.items() if count >= _COMMON}
    lines += ["", "| command | does |", "|---|---|"]
    lines += [f"| [`{parser.prog}`](#{parser.prog.replace(' ', '-')}) | {_cell(text)} |" for parser, text in leaves]
    lines += ["", "## Options of many commands", "", "| option | |", "|---|---|"]
    lines += [row for row in counts if row in common]
    for parser, _ in leaves:
        lines += ["", f"## {parser.prog}", "", *_prose(parser.description or "")]
        own = [_row(action) for action in _own(parser) if _row(action) not in common]
        if own:
            lines += ["", "| argument or option | |", "|---|---|", *own]
        if shared := [f"`{action.option_strings[-1]}`" for action in _own(parser) if _row(action) in common]:
            lines += ["", f"Also, [as elsewhere](#options-of-many-commands): {', '.join(shared)}."]
        examples = (parser.epilog or "").removeprefix("examples:\n").splitlines()
        lines += ["", "```sh", *(line.removeprefix("  ") for line in examples), "```"]
    return "\n".join(lines) + "\n"


def _leaves(parser: argparse.ArgumentParser) -> Iterator[tuple[argparse.ArgumentParser, str]]:
    """Yield the commands that can be given, each with the line that says what it is for."""
    for below, text in subcommands(parser):
        verbs = list(_leaves(below))
        yield from verbs or [(below, text)]


def _own(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    return [action for action in parser._actions if action.dest != "help"]


def _row(action: argparse.Action) -> str:
    value = f" {action.metavar or '{' + ','.join(action.choices or ()) + '}'}" if action.nargs != 0 else ""
    value += "..." if action.nargs == "+" else ""
    if action.nargs == "?" and action.option_strings:
        return f"| `{_cell(', '.join(action.option_strings))} [{_cell(value.strip())}]` | {_cell(action.help or '')} |"
    shown = ", ".join(action.option_strings) + value
    return f"| `{_cell(shown.strip())}`{' (optional)' if action.nargs == '?' else ''} | {_cell(action.help or '')} |"


def _prose(text: str) -> Iterator[str]:
    """A description's paragraphs; what is indented is a table of its own."""
    for number, paragraph in enumerate(text.strip().split("\n\n")):
        if number:
            yield ""
        yield from ("```", *paragraph.splitlines(), "```") if paragraph.startswith(" ") else paragraph.splitlines()


def _cell(text: str) -> str:
    return text.replace("|", chr(92) + "|")


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:] + "."


PAGES = {"commands.md": commands, "events.md": events, "settings.md": settings, "metrics.md": metrics}

if __name__ == "__main__":
    for page, write in PAGES.items():
        (HERE / page).write_text(write())
