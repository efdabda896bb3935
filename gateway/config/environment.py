"""What the environment has to say: settings that it overrides, and variables that look as if they did."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from gateway.config.kind import Kind, nearest
from gateway.config.place import Place
from gateway.config.problem import Problem
from gateway.config.schema import FILE, Table

PREFIX = "RAWPUSH_"

#: What Kubernetes puts into the environment for a service that is called like the product; nobody wrote it.
_SERVICE_LINK = re.compile(r"RAWPUSH\w*_SERVICE_(HOST|PORT\w*)|RAWPUSH\w*_PORT_[0-9]+_(TCP|UDP|SCTP)\w*", re.ASCII)
_SERVICE_ADDRESS = re.compile(r"(tcp|udp|sctp)://")


def override(document: dict[str, Any], environ: Mapping[str, str]) -> tuple[dict[Place, str], list[Problem]]:
    """Put what the environment overrides into the document.

    Returns the variables, by the place each is for, and what is wrong with those that override nothing.
    """
    known = {variable: (place, kind) for place, kind in _plain(FILE, ()) for variable in [_variable(place)]}
    used = set(_references(document))
    overridden: dict[Place, str] = {}
    problems: list[Problem] = []
    for variable in sorted(name for name in environ if name.startswith(PREFIX)):
        value = environ[variable]
        if variable not in known:
            is_link = _SERVICE_LINK.fullmatch(variable) or _SERVICE_ADDRESS.match(value)
            if variable not in used and not is_link:
                problems.append(Problem(f"environment variable {variable}", _stray(variable, known)))
            continue
        place, kind = known[variable]
        table: Any = document
        for name in place[:-1]:
            table = table.setdefault(name, {}) if isinstance(table, dict) else None
        if isinstance(table, dict):
            table[place[-1]] = kind.parse(value)
            overridden[place] = variable
    return overridden, problems


def texts(raw: object) -> Iterator[str]:
    """Every text in a value, however deep."""
    match raw:
        case str():
            yield raw
        case list():
            for value in raw:
                yield from texts(value)
        case dict():
            for value in raw.values():
                yield from texts(value)


def _stray(variable: str, known: Mapping[str, object]) -> str:
    if variable.upper().startswith(PREFIX + "APPS__"):
        return 'apps cannot be set from the environment; write "env:NAME" for a secret in the file'
    same = [name for name in known if PREFIX + name.rsplit("__", 1)[-1] == variable]
    close = same[0] if same else (nearest(variable, [name.lower() for name in known]) or "").upper()
    return "overrides nothing" + (f"; did you mean {close}?" if close else "")


def _plain(table: Table, place: Place) -> Iterator[tuple[Place, Kind]]:
    """Every setting that an environment variable can override: those that stand once in a file and hold no secret."""
    for name, kind in table.settings.items():
        if kind.is_plain:
            yield (*place, name), kind
    for name, inner in table.tables.items():
        yield from _plain(inner, (*place, name))


def _variable(place: Place) -> str:
    return PREFIX + "__".join(str(name).upper() for name in place)


def _references(document: object) -> Iterator[str]:
    """The environment variables a document names as the place of a secret."""
    return (value.removeprefix("env:") for value in texts(document) if value.startswith("env:"))
