"""From a file's bytes to its TOML, and to what line each setting stands in."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gateway.config.place import Place, find_lines
from gateway.config.problem import ConfigError, Problem

_SYNTAX = re.compile(r"(.*) \(at (?:line ([0-9]+), column ([0-9]+)|end of document)\)", re.DOTALL)


def parse(path: Path) -> tuple[dict[str, Any], Mapping[Place, int]]:
    """Return the document and the lines of its places; raises `ConfigError` for what is no TOML file in UTF-8."""
    try:
        content = path.read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a name with a NUL
        sentence = f"cannot be read: {getattr(error, 'strerror', None) or error}"
        raise ConfigError([Problem("", sentence, str(path))]) from error
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise ConfigError([Problem("", "is UTF-16; save the file as UTF-8", path.name)])
    try:
        # Editors of one system put a byte order mark in front; it means nothing in UTF-8.
        document = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        column = error.start - content.rfind(b"\n", 0, error.start)
        sentence = f"column {column}: the byte 0x{content[error.start]:02x} is not UTF-8 (Latin-1?); save the file as UTF-8"
        raise ConfigError([Problem("", sentence, path.name, line)]) from error
    try:
        parsed = tomllib.loads(document)
    except tomllib.TOMLDecodeError as error:
        sentence, line = _not_toml(str(error), document.count("\n") + 1)
        raise ConfigError([Problem("", sentence, path.name, line)]) from error
    return parsed, find_lines(document)


def _not_toml(message: str, last_line: int) -> tuple[str, int]:
    message = message.replace("Cannot overwrite a value", "Cannot overwrite a value: it is set twice")
    found = _SYNTAX.fullmatch(message)
    if found and found[2]:
        return f"column {found[3]}: not TOML: {found[1]}", int(found[2])
    return f"not TOML: {found[1] if found else message} (at the end of the file)", last_line
