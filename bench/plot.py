"""Plots as SVG, by hand: bars and lines with labels are all that is needed, and nobody has to install anything to run or to
read them. A library would bring more code than the benchmarks have, and fonts that look different on every machine.

A sheet has panels; it brings its own background, light or dark as the reader's system is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

_WIDTH, _GAP, _HEAD = 860, 28, 58
_BAR, _LABEL = 21, 112
_LINES, _LEFT, _BOTTOM, _TOP = 230, 46, 40, 34
#: of the words below an axis: how wide a character is at most, and how far apart two of them stay
_CHARACTER, _APART = 7, 6

#: one class each: of text, of what belongs to the gateway, to the floor, to others, of axes; light, then dark
_COLOURS = {
    "ground": ("fill", "#ffffff", "#161b22"),
    "title": ("fill", "#1f2328", "#f0f3f6"),
    "words": ("fill", "#57606a", "#a5adb6"),
    "gateway": ("fill", "#2563eb", "#5b9dff"),
    "floor": ("fill", "#6e7781", "#8b949e"),
    "other": ("fill", "#c3cad3", "#444c56"),
    "gateway-line": ("stroke", "#2563eb", "#5b9dff"),
    "floor-line": ("stroke", "#8c959f", "#8b949e"),
    "axis": ("stroke", "#d0d7de", "#373e47"),
}


@dataclass(frozen=True, slots=True)
class Panel:
    """A piece of a sheet: what is drawn, from its own origin on, and how high it is."""

    parts: Sequence[str]
    height: float


def bars(title: str, values: Mapping[str, float], width: float) -> Panel:
    """Return a bar for each value, in order, each with its number; that of the gateway stands out, and so does the floor's."""
    most = max(values.values(), default=0) or 1
    room = width - _LABEL - 50
    parts = [_text(0, 12, title, "title", weight="bold")]
    for number, (name, value) in enumerate(values.items()):
        y, long = 24 + number * _BAR, max(1.5, room * value / most)
        kind = name if name in ("gateway", "floor") else "other"
        weight = "bold" if name == "gateway" else "normal"
        parts.append(_text(_LABEL - 8, y + 12, name, "title" if name == "gateway" else "words", "end", weight))
        parts.append(f'<rect x="{_LABEL}" y="{y}" width="{long:.1f}" height="{_BAR - 5}" rx="2" class="{kind}"/>')
        parts.append(_text(_LABEL + long + 6, y + 12, number_of(value), "title" if name == "gateway" else "words", weight=weight))
    return Panel(parts, 24 + len(values) * _BAR)


def lines(title: str, across: str, curves: Mapping[str, Sequence[tuple[float, float]]], width: float) -> Panel:
    """Return curves over a logarithmic x axis, on which 0 has its place before the rest, and a y axis that begins at 0."""
    xs = sorted({x for points in curves.values() for x, _ in points})
    ticks = _ticks(max((y for points in curves.values() for _, y in points), default=0) or 1)
    most = ticks[-1]
    positive = [x for x in xs if x > 0] or [1.0]
    least = math.log10(positive[0]) - (1 if xs and xs[0] <= 0 else 0)
    span = math.log10(positive[-1]) - least or 1
    right, bottom = width - 34, _LINES - _BOTTOM

    def place(x: float, y: float) -> tuple[float, float]:
        share = (math.log10(x) - least) / span if x > 0 else 0
        return _LEFT + share * (right - _LEFT), bottom - y / most * (bottom - _TOP)

    parts = [_text(0, 12, title, "title", weight="bold")]
    for tick in ticks:
        _, at = place(1, tick)
        parts.append(f'<path d="M{_LEFT},{at:.1f} H{right:.1f}" class="axis"/>')
        parts.append(_text(_LEFT - 8, at + 4, number_of(tick), "words", "end"))
    parts += [_text(at, bottom + 17, words, "words", "middle") for at, words in labels([(place(x, 0)[0], _short(x)) for x in xs])]
    for name, points in curves.items():
        kind = name if name in ("gateway", "floor") else "other"
        places = [place(x, y) for x, y in points]
        joined = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        parts.append(f'<polyline points="{joined}" fill="none" class="{kind}-line" stroke-width="2"/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" class="{kind}"/>' for x, y in places]
    parts.append(_text((_LEFT + right) / 2, _LINES - 8, across, "words", "middle"))
    return Panel(parts, _LINES)


def labels(wanted: Sequence[tuple[float, str]]) -> list[tuple[float, str]]:
    """Return where the words below an axis go, middle and words, from left to right: below their points, but never into others.

    One gives way to its right neighbour: it moves to the left, or is left out if that would be by more than half its width.
    """
    found: list[tuple[float, str]] = []
    room = math.inf
    for at, words in reversed(wanted):
        half = len(words) * _CHARACTER / 2
        middle = min(at, room - half)
        if at - middle <= half:
            found.append((middle, words))
            room = middle - half - _APART
    return found[::-1]


def sheet(title: str, note: str, panels: Sequence[Panel], columns: int) -> str:
    """Return an SVG with the panels beside and below each other, each `panel_width(columns)` wide."""
    parts, y = [], float(_HEAD + 14)
    for first in range(0, len(panels), columns):
        row = panels[first : first + columns]
        for number, panel in enumerate(row):
            x = _GAP + number * (panel_width(columns) + _GAP)
            parts += [f'<g transform="translate({x:.0f},{y:.0f})">', *panel.parts, "</g>"]
        y += max(panel.height for panel in row) + _GAP
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {y:.0f}" width="{_WIDTH}" height="{y:.0f}" '
        'font-family="system-ui, -apple-system, Segoe UI, Helvetica, Arial, sans-serif" font-size="12" role="img">'
    )
    return "\n".join(
        [
            head,
            f"<title>{escape(title)}</title>",
            f"<style>{_style(1)} @media (prefers-color-scheme: dark) {{ {_style(2)} }}</style>",
            f'<rect width="{_WIDTH}" height="{y:.0f}" rx="8" class="ground"/>',
            f'<text x="{_GAP}" y="32" font-size="17" font-weight="bold" class="title">{escape(title)}</text>',
            _text(_GAP, 51, note, "words"),
            *parts,
            "</svg>\n",
        ]
    )


def panel_width(columns: int) -> float:
    """Return how wide a panel is on a sheet with so many beside each other."""
    return (_WIDTH - _GAP * (columns + 1)) / columns


def number_of(value: float) -> str:
    """Return a number as short as a label should be."""
    return f"{value:,.0f}" if value >= 100 or value == 0 else f"{value:.3g}"


def _ticks(most: float) -> list[float]:
    """Return round numbers from 0 to one that is not below the greatest value."""
    unit = 10 ** math.floor(math.log10(most / 4))
    step = next(unit * times for times in (1, 2, 2.5, 5, 10) if unit * times * 4.5 >= most)
    return [step * number for number in range(math.ceil(most / step - 1e-9) + 1)]


def _short(x: float) -> str:
    return f"{x / 1e6:g}M" if x >= 1e6 else f"{x / 1e3:.3g}k" if x >= 1000 else f"{x:g}"


def _style(shade: int) -> str:
    return " ".join(f".{name} {{ {colour[0]}: {colour[shade]}; }}" for name, colour in _COLOURS.items())


def _text(x: float, y: float, words: str, kind: str, anchor: str = "start", weight: str = "normal") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-weight="{weight}" class="{kind}">{escape(words)}</text>'
