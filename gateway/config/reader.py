"""From the file and the environment to a `Config`, or to every mistake in them at once."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from gateway.config.certificate import check_pair
from gateway.config.document import parse
from gateway.config.environment import override, texts
from gateway.config.kind import Kind, Wrong, described, is_loopback, nearest
from gateway.config.place import Place
from gateway.config.problem import ConfigError, Problem
from gateway.config.record import Admin, AppEntry, Config
from gateway.config.schema import FILE, NOT_YET, TABLES, Table
from gateway.core.app import App
from gateway.core.endpoint import Endpoint, check, check_kinds
from gateway.core.format import FORMATS

#: what may stand in a bearer token, as far as HTTP is concerned
_VISIBLE = frozenset(range(0x21, 0x7F))

#: places of the section [admin]
_ADMIN = re.compile(r"(environment variable RAWPUSH_ADMIN__|admin\b)")

_BARE = re.compile(r"[A-Za-z0-9_-]+")


@dataclass(frozen=True, slots=True)
class Row:
    """One setting as it is in force: its place, its value as one writes it (secrets only as set), and where it came from."""

    place: str
    value: str
    source: str


@dataclass(frozen=True, slots=True)
class Resolved:
    """A configuration and the origin of each of its values."""

    config: Config
    rows: tuple[Row, ...]


def load(path: Path, environ: Mapping[str, str]) -> Config:
    """Return the configuration of a file; raises `ConfigError` with every mistake."""
    return resolve(path, environ).config


def resolve(path: Path, environ: Mapping[str, str]) -> Resolved:
    """Return the configuration of a file and where each value came from; raises `ConfigError` with every mistake."""
    reader, config = _read(path, environ)
    if reader.problems:
        raise reader.error()
    return Resolved(config, tuple(reader.rows))


def load_admin(path: Path, environ: Mapping[str, str]) -> Admin:
    """Return the section [admin] alone, whatever else is wrong: enough to ask a gateway that runs.

    The shell of an operator need not have the apps' secrets. Raises `ConfigError` for a file that is not TOML, and with the
    mistakes of that section.
    """
    reader, config = _read(path, environ)
    reader.problems = [problem for problem in reader.problems if _ADMIN.match(problem.place)]
    if reader.problems:
        raise reader.error()
    return config.admin


def _read(path: Path, environ: Mapping[str, str]) -> tuple[_Reader, Config]:
    document, lines = parse(path)
    overridden, problems = override(document, environ)
    reader = _Reader(path.name, environ, lines, overridden, problems)
    return reader, reader.file(document)


class _Reader:
    """Walks through one document, and keeps what it finds wrong."""

    def __init__(
        self,
        file: str,
        environ: Mapping[str, str],
        lines: Mapping[Place, int],
        overridden: Mapping[Place, str],
        problems: list[Problem],
    ) -> None:
        self._file = file
        self._environ = environ
        self._lines = lines
        self._overridden = overridden
        self.problems = problems
        self.rows: list[Row] = []

    def error(self) -> ConfigError:
        """Return all that was found wrong."""
        return ConfigError(sorted(self.problems, key=lambda problem: problem.line or 0))

    # -- the tables

    def file(self, document: dict[str, Any]) -> Config:
        sections = self._table(FILE, document, (), "")
        raw_apps = self._list(document, (), "", "apps")
        if not raw_apps and "apps" not in document:
            self._wrong((), "", "no app: at least one [[apps]] table is needed")
        apps = [self._app(raw, ("apps", position), f"apps[{position}]") for position, raw in enumerate(raw_apps)]
        self._once("id", raw_apps, ("apps",), "apps", "another app")
        self._once("key", raw_apps, ("apps",), "apps", "another app")
        config = Config(**sections, apps=tuple(entry for entry in apps if entry is not None))
        tls = config.server.tls
        if tls is not None:
            for name, sentence in check_pair(tls.cert, tls.key, datetime.now(UTC)):
                self._wrong(("server", "tls", name), f"server.tls.{name}", sentence)
        admin = config.admin
        if admin.enabled and not admin.token and not is_loopback(admin.host):
            sentence = f'is needed where host is not a loopback address ({admin.host}); write token = "env:RAWPUSH_ADMIN_TOKEN"'
            self._wrong(("admin", "token"), "admin.token", sentence)
        elif not set(map(ord, admin.token)) <= _VISIBLE:
            self._wrong(("admin", "token"), "admin.token", "must be ASCII without spaces: it is sent in a header")
        server = config.server
        if admin.enabled and admin.port == server.port and server.host in (admin.host, "0.0.0.0", "::"):
            self._wrong(("admin", "port"), "admin.port", "must be another one than that of [server]")
        if server.proxy_protocol and not (server.trusted_proxies or server.unix_socket):
            sentence = "needs trusted_proxies: only their connections begin with a header of the PROXY protocol"
            self._wrong(("server", "proxy_protocol"), "server.proxy_protocol", sentence)
        if config.server.drain_s > config.server.shutdown_timeout_s:
            self._wrong(("server", "drain"), "server.drain", "must not be longer than shutdown_timeout")
        return config

    def _app(self, raw: object, place: Place, shown: str) -> AppEntry | None:
        values = self._table(APP_TABLE, raw, place, shown)
        if not isinstance(raw, dict):
            return None
        raw_endpoints = self._list(raw, place, shown, "webhooks")
        app_id = values.get("id", "0")
        signer = (values.get("key", "x"), values.get("secret", "x"))
        endpoints = [self._endpoint(raw, app_id, signer, place, shown, position) for position, raw in enumerate(raw_endpoints)]
        self._once("name", raw_endpoints, (*place, "webhooks"), f"{shown}.webhooks", "another endpoint of this app")
        for sentence in check_kinds(values.get("feed", ())):
            self._wrong((*place, "feed"), f"{shown}.feed", sentence)
        limits = values.get("limits")
        if limits is not None and limits.event_data > limits.request:
            at = (*place, "limits", "event_data")
            self._wrong(at, f"{shown}.limits.event_data", "must not be larger than request, which has to hold it")
        if not {"id", "key", "secret"} <= values.keys():
            return None
        return AppEntry(App(**values), tuple(endpoint for endpoint in endpoints if endpoint is not None))

    def _endpoint(
        self, raw: object, app_id: str, signer: tuple[str, str], app: Place, app_shown: str, position: int
    ) -> Endpoint | None:
        name = raw.get("name") if isinstance(raw, dict) else None
        place = (*app, "webhooks", position)
        shown = f"{app_shown}.webhooks[{position}]" + (f' "{name}"' if isinstance(name, str) and name else "")
        before = len(self.problems)
        values = self._table(WEBHOOK_TABLE, raw, place, shown)
        if not isinstance(raw, dict):
            return None
        retry = raw.get("retry")
        if isinstance(retry, dict) and retry.get("schedule") and {"initial", "factor"} & retry.keys():
            self._wrong((*place, "retry"), f"{shown}.retry", "schedule replaces initial and factor; give one or the other")
        reported = {problem.place for problem in self.problems[before:]}
        # What is missing has been reported; with something in its place the rest can be checked all the same.
        stand_in = {"name": "x", "url": "https://receiver.invalid/", "secrets": ("x" * 32,)}
        endpoint = Endpoint(app_id=app_id, **{**stand_in, **values})
        if FORMATS[endpoint.format].needs_app:
            endpoint = replace(endpoint, pusher_key=signer[0], pusher_secret=signer[1])
        for setting, sentence in check(endpoint):
            at = f"{shown}.{setting}"
            if at not in reported:
                self._wrong((*place, *setting.split(".")), at, sentence)
        return endpoint

    def _table(self, table: Table, raw: object, place: Place, shown: str) -> dict[str, Any]:
        """Read a table's settings and inner tables into values for its record, without what is absent or wrong."""
        if not isinstance(raw, dict):
            self._wrong(place, shown, f"must be a table, not {described(raw)}")
            return {}
        for key in raw:
            if key not in table.names:
                self._unknown(key, table, place, shown)
        values: dict[str, Any] = {}
        defaults = table.defaults()
        for name, kind in table.settings.items():
            at = _join(shown, name)
            if name in raw:
                try:
                    value = kind.read(raw[name], self._environ)
                except Wrong as wrong:
                    for behind, sentence in wrong.found:
                        self._wrong((*place, name), at + behind, sentence)
                    if wrong.partial is not None:
                        values[name + kind.suffix] = wrong.partial
                else:
                    values[name + kind.suffix] = value
                    self._row((*place, name), at, kind, value, raw[name])
            elif name in defaults:
                self.rows.append(Row(at, kind.show(defaults[name]), "default"))
            else:
                self._wrong(place, shown, f'needs the setting "{name}"')
        for name, inner in table.tables.items():
            at = _join(shown, name)
            required = inner.settings.keys() - inner.defaults().keys()
            if required and name not in raw:
                self.rows.append(Row(at, "(none)", "default"))
                continue
            found = self._table(inner, raw.get(name, {}), (*place, name), at)
            if required <= found.keys():
                values[name] = inner.record(**found)
        return values

    def _list(self, raw: Mapping[str, Any], place: Place, shown: str, name: str) -> list[object]:
        """Return the entries of a list of tables; each is judged by whoever reads it."""
        entries = raw.get(name, [])
        if isinstance(entries, list):
            return entries
        at = _join(shown, name)
        brackets = "[[" + ".".join(str(part) for part in (*place, name) if isinstance(part, str)) + "]]"
        self._wrong((*place, name), at, f"must be a list of tables (with the header {brackets}), not {described(entries)}")
        return []

    def _once(self, name: str, raws: Sequence[object], place: Place, shown: str, other: str) -> None:
        """Report each value of a setting that stands in two entries."""
        seen: dict[str, int] = {}
        for position, raw in enumerate(raws):
            value = raw.get(name) if isinstance(raw, dict) else None
            if not isinstance(value, str):
                continue
            if value in seen:
                line = self._line((*place, seen[value], name))
                where = f"{shown}[{seen[value]}]" + (f", line {line}" if line else "")
                self._wrong((*place, position, name), f"{shown}[{position}].{name}", f'"{value}" belongs to {other} ({where})')
            seen.setdefault(value, position)

    # -- what is said

    def _unknown(self, key: str, table: Table, place: Place, shown: str) -> None:
        at = _join(shown, key)
        if key in NOT_YET and (table is FILE or table is APP_TABLE):
            sentence = f"unknown setting: {NOT_YET[key]} not in this version"
        elif key in table.hints:
            sentence = f"unknown setting: {table.hints[key]}"
        else:
            homes = [header for header, other in TABLES.items() if key in other.names]
            close = nearest(key, table.names)
            if homes:
                sentence = f"unknown setting here: it belongs in {' or '.join(homes)}"
            elif close:
                sentence = f'unknown setting; did you mean "{close}"?'
            else:
                sentence = f"unknown setting; known here: {', '.join(table.names)}"
        self._wrong((*place, key), at, sentence)

    def _wrong(self, place: Place, shown: str, sentence: str) -> None:
        variable = self._overridden.get(place)
        if variable is not None:
            self.problems.append(Problem(f"environment variable {variable}", sentence))
        else:
            self.problems.append(Problem(shown, sentence, self._file, self._line(place)))

    def _row(self, place: Place, shown: str, kind: Kind, value: Any, raw: object) -> None:
        variable = self._overridden.get(place)
        line = self._line(place)
        source = f"environment {variable}" if variable else f"{self._file}:{line}" if line else self._file
        if kind.is_secret:
            found = sorted(set(texts(raw)))
            references = [text for text in found if text.startswith(("env:", "file:"))]
            source += "".join(f", {reference}" for reference in references)
        self.rows.append(Row(shown, kind.show(value), source))

    def _line(self, place: Place) -> int | None:
        """The line of a place, or of what it stands in."""
        for end in range(len(place), 0, -1):
            if place[:end] in self._lines:
                return self._lines[place[:end]]
        return None


APP_TABLE = FILE.lists["apps"]
WEBHOOK_TABLE = APP_TABLE.lists["webhooks"]


def _join(shown: str, name: str) -> str:
    part = name if _BARE.fullmatch(name) else f'"{name}"'
    return f"{shown}.{part}" if shown else part
