"""What one value of the configuration file may be: its type, its range, how it is written, and where it stands.

Nothing is ever coerced: a text that looks like a number is a mistake, and the sentence says what to write instead.
"""

from __future__ import annotations

import datetime
import ipaddress
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from gateway.core.endpoint import shown_url

_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)", re.ASCII)
_SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86_400}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)(B|KB|MB|GB)", re.ASCII)
_BYTES = {"B": 1, "KB": 1024, "MB": 1024**2, "GB": 1024**3}

#: How much of a secret's file is read, in bytes: no key is that long, and /dev/zero has no end.
_SECRET_MAX = 65_536


class Wrong(Exception):
    """A value cannot be taken: one or more (position behind the setting's name, sentence).

    `partial` is what could be taken all the same, so that the rest can be checked as well.
    """

    def __init__(self, *found: tuple[str, str], partial: Any = None) -> None:
        super().__init__(*found)
        self.found = found
        self.partial = partial


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of value: how it is read, how an environment variable spells it, how it is shown.

    `read` takes what TOML parsed (and the environment, for secrets) and raises `Wrong`; `parse` makes of an environment
    variable's text what TOML would have parsed, and hands anything else through for `read` to refuse.
    """

    read: Callable[[object, Mapping[str, str]], Any]
    show: Callable[[Any], str]
    parse: Callable[[str], object] = str
    #: what the record's field is called behind the setting's name
    suffix: str = ""
    #: False: this kind of value cannot stand in an environment variable
    is_plain: bool = True
    is_secret: bool = False


def described(raw: object) -> str:
    """Return what a value of the file is, in words; its content only where that cannot be long."""
    match raw:
        case bool():
            return "true" if raw else "false"
        case int():
            return f"the whole number {raw}"
        case float():
            return f"the number {raw}"
        case str():
            return f'the text "{raw if len(raw) <= 40 else raw[:40] + "…"}"'
        case list():
            return "a list"
        case dict():
            return "a table"
        case datetime.date() | datetime.time():
            return "a date or time"
    return type(raw).__name__


def printable(text: str, longest: int = 0) -> str:
    """Return the text with everything escaped that could move a cursor or forge a line, cut to `longest` (0: never)."""
    shown = "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
    return shown if not longest or len(shown) <= longest else shown[: longest - 1] + "…"


def is_loopback(host: str) -> bool:
    """Tell whether only this machine can reach the address; of names, `localhost` alone is believed."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def nearest(word: str, known: Iterable[str]) -> str | None:
    """Return the known word the writer most likely meant, None if none is near."""
    close = get_close_matches(word.lower(), list(known), 1, 0.6)
    return close[0] if close else None


# -- kinds


def text(must: str = "", accepts: Callable[[str], object] = bool) -> Kind:
    """A text that `accepts` finds true; `must` says what that is."""

    def read(raw: object, environ: Mapping[str, str]) -> str:
        if not isinstance(raw, str):
            raise Wrong(("", f"must be a text in quotes, not {described(raw)}"))
        if not accepts(raw):
            raise Wrong(("", f"must be {must or 'a text that is not empty'}, not {described(raw)}"))
        return raw

    return Kind(read, _quoted)


def url() -> Kind:
    """A URL; what is wrong with it is found out where the rest of it is judged. It is shown without its query."""
    return Kind(text().read, lambda value: _quoted(shown_url(value)))


def choice(*words: str, absent: tuple[str, ...] = ()) -> Kind:
    """One of the words; `absent` are words that a later version will know."""

    def read(raw: object, environ: Mapping[str, str]) -> str:
        if not isinstance(raw, str) or raw not in words:
            listed = ", ".join(f'"{word}"' for word in words)
            later = ": that is not in this version" if raw in absent else ""
            raise Wrong(("", f"must be one of {listed}, not {described(raw)}{later}"))
        return raw

    return Kind(read, _quoted)


def flag() -> Kind:
    """True or false."""

    def read(raw: object, environ: Mapping[str, str]) -> bool:
        if not isinstance(raw, bool):
            raise Wrong(("", f"must be true or false (without quotes), not {described(raw)}"))
        return raw

    def parse(value: str) -> object:
        return {"true": True, "false": False}.get(value, value)

    return Kind(read, lambda value: "true" if value else "false", parse)


def whole(low: int, high: int) -> Kind:
    """A whole number from `low` to `high`."""

    def read(raw: object, environ: Mapping[str, str]) -> int:
        if not isinstance(raw, int) or isinstance(raw, bool):
            raise Wrong(("", f"must be a whole number (without quotes), not {described(raw)}"))
        if not low <= raw <= high:
            raise Wrong(("", f"must be from {low} to {high}, not {raw}"))
        return raw

    return Kind(read, str, _integer)


def number(low: float, high: float) -> Kind:
    """A number from `low` to `high`."""

    def read(raw: object, environ: Mapping[str, str]) -> float:
        if not isinstance(raw, int | float) or isinstance(raw, bool):
            raise Wrong(("", f"must be a number (without quotes), not {described(raw)}"))
        if not low <= raw <= high:  # NaN is refused too: it is not between any two numbers
            raise Wrong(("", f"must be from {low:g} to {high:g}, not {raw}"))
        return float(raw)

    return Kind(read, lambda value: f"{value:g}")


def duration(low_s: float, high_s: float, *, whole_seconds: bool = False) -> Kind:
    """A time span such as "10s", in seconds."""

    def read(raw: object, environ: Mapping[str, str]) -> float:
        return _duration(raw, low_s, high_s, whole_seconds)

    return Kind(read, lambda value: f'"{shown_duration(value)}"', suffix="_s")


def durations(low_s: float, high_s: float) -> Kind:
    """A list of time spans."""

    def one(raw: object, environ: Mapping[str, str]) -> float:
        return _duration(raw, low_s, high_s, False)

    return _listed(one, lambda value: f'"{shown_duration(value)}"', 'a list such as ["5s", "5m"]', suffix="_s")


def size(low: int, high: int) -> Kind:
    """A number of bytes, or a size such as "10KB" (1 KB is 1024 bytes)."""

    def read(raw: object, environ: Mapping[str, str]) -> int:
        match = _SIZE.fullmatch(raw) if isinstance(raw, str) else None
        if match:
            count = float(match[1]) * _BYTES[match[2]]
        elif isinstance(raw, int) and not isinstance(raw, bool):
            count = raw
        else:
            raise Wrong(("", f'must be a size such as "10KB" (B, KB, MB, GB) or a number of bytes, not {described(raw)}'))
        if count != int(count):
            raise Wrong(("", f"must be a whole number of bytes, not {described(raw)}"))
        if not low <= count <= high:
            raise Wrong(("", f'must be from "{shown_size(low)}" to "{shown_size(high)}", not {described(raw)}'))
        return int(count)

    return Kind(read, lambda value: f'"{shown_size(value)}"', _integer)


def texts(must: str = "", accepts: Callable[[str], object] = bool) -> Kind:
    """A list of texts, each of which `accepts` finds true."""
    return _listed(text(must, accepts).read, _quoted, 'a list such as ["one", "two"]')


def networks() -> Kind:
    """A list of IP networks in CIDR notation."""

    def one(raw: object, environ: Mapping[str, str]) -> str:
        try:
            if not isinstance(raw, str):
                raise ValueError
            return str(ipaddress.ip_network(raw))
        except ValueError:
            problem = f'must be a network such as "10.0.0.0/8" or "fd00::/8", not {described(raw)}'
        try:
            problem += f'; did you mean "{ipaddress.ip_network(str(raw), strict=False)}"?'
        except ValueError:
            pass  # nothing like a network: there is nothing to suggest
        raise Wrong(("", problem))

    return _listed(one, _quoted, 'a list such as ["10.0.0.0/8"]')


def secret() -> Kind:
    """A secret: itself, `env:NAME` or `file:PATH`."""
    return Kind(_secret, lambda value: "(set)" if value else "(not set)", is_plain=False, is_secret=True)


def secrets() -> Kind:
    """A list of at least one secret."""
    kind = _listed(_secret, lambda value: "(set)", 'a list such as ["env:HOOK_SECRET"]', least=1)
    return Kind(kind.read, kind.show, is_plain=False, is_secret=True)


def headers() -> Kind:
    """A table of header names and values; the values are secrets."""

    def read(raw: object, environ: Mapping[str, str]) -> dict[str, str]:
        if not isinstance(raw, dict):
            what = "a text" if isinstance(raw, str) else described(raw)  # it may be a secret
            raise Wrong(("", f'must be a table such as {{ X-Tenant = "7" }}, not {what}'))
        found: list[tuple[str, str]] = []
        values: dict[str, str] = {}
        for name, value in raw.items():
            try:
                values[name] = _secret(value, environ)
            except Wrong as wrong:
                found += [(f".{name}", sentence) for _, sentence in wrong.found]
        if found:
            raise Wrong(*found, partial=values)
        return values

    def show(value: Mapping[str, str]) -> str:
        return "{ " + ", ".join(f"{name} = (set)" for name in value) + " }" if value else "{}"

    return Kind(read, show, is_plain=False, is_secret=True)


def _listed(
    one: Callable[[object, Mapping[str, str]], Any], show: Callable[[Any], str], must: str, *, least: int = 0, suffix: str = ""
) -> Kind:
    def read(raw: object, environ: Mapping[str, str]) -> tuple[Any, ...]:
        if not isinstance(raw, list):
            what = "a single value in quotes" if isinstance(raw, str) else described(raw)  # it may be a secret
            raise Wrong(("", f"must be {must}, not {what}"))
        if len(raw) < least:
            raise Wrong(("", f"must be {must}, not an empty list"))
        found: list[tuple[str, str]] = []
        values = []
        for position, value in enumerate(raw):
            try:
                values.append(one(value, environ))
            except Wrong as wrong:
                found += [(f"[{position}]{behind}", sentence) for behind, sentence in wrong.found]
        if found:
            raise Wrong(*found, partial=None if least else tuple(values))
        return tuple(values)

    def parse(value: str) -> object:
        return [part.strip() for part in value.split(",") if part.strip()]

    return Kind(read, lambda values: "[" + ", ".join(map(show, values)) + "]", parse, suffix)


def _duration(raw: object, low_s: float, high_s: float, whole_seconds: bool) -> float:
    match = _DURATION.fullmatch(raw) if isinstance(raw, str) else None
    if match is None:
        raise Wrong(("", f'must be a duration with its unit, such as "10s" (ms, s, m, h, d), not {described(raw)}'))
    seconds = round(float(match[1]) * _SECONDS[match[2]], 6)
    if not low_s <= seconds <= high_s:
        raise Wrong(("", f'must be from "{shown_duration(low_s)}" to "{shown_duration(high_s)}", not {described(raw)}'))
    if whole_seconds and seconds != int(seconds):
        raise Wrong(("", f"must be whole seconds, not {described(raw)}"))
    return seconds


def _secret(raw: object, environ: Mapping[str, str]) -> str:
    """Return the secret; the sentences of what it raises never hold any of it."""
    if not isinstance(raw, str):
        kind = "a number" if isinstance(raw, int | float) and not isinstance(raw, bool) else described(raw)
        raise Wrong(("", f'must be a text in quotes ("env:NAME" and "file:PATH" say where it is), not {kind}'))
    how, colon, where = raw.partition(":")
    if colon and how == "env":
        if where not in environ:
            raise Wrong(("", f"the environment variable {where} is not set"))
        value, source = environ[where], f"the environment variable {where}"
    elif colon and how == "file":
        value, source = _content(where), f"the file {where}"
    else:
        value, source = raw, "the secret"
    if not value.strip():
        raise Wrong(("", f"{source} is empty"))
    return value


def _content(where: str) -> str:
    try:
        with Path(where).open("rb") as file:
            content = file.read(_SECRET_MAX + 1)
        if len(content) > _SECRET_MAX:
            raise Wrong(("", f"the file {where} is too large for a secret"))
        return content.decode().removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:
        raise Wrong(("", f"the file {where} is not UTF-8 text")) from None
    except (OSError, ValueError) as error:  # ValueError: a name with a NUL
        why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise Wrong(("", f"the file {where} cannot be read: {why}")) from None


def _integer(value: str) -> object:
    return int(value) if re.fullmatch(r"-?[0-9]{1,18}", value) else value


def _quoted(value: str) -> str:
    return f'"{value}"'


def shown_duration(seconds: float) -> str:
    """Return the duration as one writes it in the file."""
    milliseconds = round(seconds * 1000, 3)
    for unit, length in (("h", 3_600_000), ("m", 60_000), ("s", 1000)):
        if milliseconds and milliseconds % length == 0:
            return f"{int(milliseconds // length)}{unit}"
    return f"{int(milliseconds) if milliseconds == int(milliseconds) else milliseconds}ms" if milliseconds else "0s"


def shown_size(count: int) -> str:
    """Return the size as one writes it in the file."""
    for unit in ("GB", "MB", "KB"):
        if count and count % _BYTES[unit] == 0:
            return f"{count // _BYTES[unit]}{unit}"
    return f"{count}B"
