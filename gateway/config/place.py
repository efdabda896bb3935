"""Where in the file a setting stands.

The parser of the standard library keeps no positions, so the text is scanned once more. That is a best effort, made for
sentences such as "config.toml:12": it is right for files as people write them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

#: a place in the document: names of tables and settings, positions in lists of tables
Place = tuple[str | int, ...]


_NAME = r"""(?:[A-Za-z0-9_-]+|"(?:[^"\\]|\\.)*"|'[^']*')"""
_PART = re.compile(_NAME)
_KEY = re.compile(rf"\s*({_NAME}(?:\s*\.\s*{_NAME})*)\s*=")
_HEADER = re.compile(rf"\s*(\[\[?)\s*({_NAME}(?:\s*\.\s*{_NAME})*)\s*\]")
#: what can begin or end something that goes on in the next line, and what can hide it
_TOKEN = re.compile(r'"""|\'\'\'|"(?:[^"\\]|\\.)*"|\'[^\']*\'|#.*|[\[\]{}]')


def find_lines(document: str) -> dict[Place, int]:
    """Return the line (from 1) on which each table and setting begins; what stands in a list or inline table has none."""
    lines: dict[Place, int] = {}
    counts: dict[Place, int] = {}
    table: Place = ()
    depth, quotes = 0, ""
    for position, line in enumerate(document.split("\n"), 1):
        if not depth and not quotes:
            if header := _HEADER.match(line):
                *parents, name = _PART.findall(header[2])
                table = (*_resolved(tuple(map(_bare, parents)), counts), _bare(name))
                if header[1] == "[[":
                    counts[table] = counts.get(table, -1) + 1
                    table = (*table, counts[table])
                lines[table] = position
                continue
            if key := _KEY.match(line):
                place = (*table, *map(_bare, _PART.findall(key[1])))
                for end in range(len(table) + 1, len(place) + 1):
                    lines.setdefault(place[:end], position)
                line = line[key.end() :]
        depth, quotes = _after(line, depth, quotes)
    return lines


def _resolved(names: tuple[str, ...], counts: Mapping[Place, int]) -> Place:
    """The place of a table by its names: where one is a list of tables, the last entry so far is meant (TOML 1.0)."""
    place: Place = ()
    for name in names:
        place = (*place, name)
        if place in counts:
            place = (*place, counts[place])
    return place


def _after(line: str, depth: int, quotes: str) -> tuple[int, str]:
    """How deep in brackets, and in which kind of long text, the next line begins."""
    position = 0
    while position < len(line):
        if quotes:
            end = line.find(quotes, position)
            while quotes == '"""' and end > 0 and line[end - 1] == "\\":
                end = line.find(quotes, end + 1)
            if end < 0:
                return depth, quotes
            position, quotes = end + 3, ""
            continue
        token = _TOKEN.search(line, position)
        if token is None:
            break
        position = token.end()
        if token[0] in ('"""', "'''"):
            quotes = token[0]
        elif token[0] in "[{":
            depth += 1
        elif token[0] in "]}":
            depth = max(0, depth - 1)
    return depth, quotes


def _bare(part: str) -> str:
    return part[1:-1] if part[:1] in "\"'" else part
