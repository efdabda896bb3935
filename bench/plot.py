"""Plots as SVG, by hand: bars and lines with labels are all that is needed, and nobody has to install anything to run or to
read them. A library would bring more code than the benchmarks have, and fonts that look different on every machine."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

_WIDTH, _BAR, _LABEL, _TOP = 760, 24, 190, 48
_HEIGHT, _LEFT, _BOTTOM = 380, 70, 46
_COLOURS = ("#2563eb", "#737373", "#d97706", "#059669", "#9333ea", "#dc2626")


def bars(title: str, values: Mapping[str, float]) -> str:
    """Return a bar for each value, in order, each with its number."""
    most = max(values.values(), default=0) or 1
    room = _WIDTH - _LABEL - 110
    parts = []
    for number, (name, value) in enumerate(values.items()):
        y, width = _TOP + number * _BAR, room * value / most
        parts.append(_text(_LABEL - 8, y + 15, name, "end"))
        parts.append(f'<rect x="{_LABEL}" y="{y + 3}" width="{width:.1f}" height="{_BAR - 7}" fill="{_colour(number)}"/>')
        parts.append(_text(_LABEL + width + 6, y + 15, f"{value:,.4g}" if value < 1000 else f"{value:,.0f}"))
    return _svg(title, _TOP + len(values) * _BAR + 12, parts)


def lines(title: str, across: str, up: str, curves: Mapping[str, Sequence[tuple[float, float]]]) -> str:
    """Return curves over a logarithmic x axis, on which 0 has its place before the rest, and a y axis that begins at 0."""
    xs = sorted({x for points in curves.values() for x, _ in points})
    most = max((y for points in curves.values() for _, y in points), default=0) or 1
    positive = [x for x in xs if x > 0] or [1.0]
    least = math.log10(positive[0]) - (1 if xs and xs[0] <= 0 else 0)
    span = math.log10(positive[-1]) - least or 1
    right, bottom = _WIDTH - 30, _HEIGHT - _BOTTOM

    def place(x: float, y: float) -> tuple[float, float]:
        share = (math.log10(x) - least) / span if x > 0 else 0
        return _LEFT + share * (right - _LEFT), bottom - y / most * (bottom - _TOP - 16)

    parts = [f'<path d="M{_LEFT},{_TOP} V{bottom} H{right}" fill="none" stroke="#404040"/>']
    for x in xs:
        at, _ = place(x, 0)
        parts += [f'<path d="M{at:.1f},{bottom} v5" stroke="#404040"/>', _text(at, bottom + 18, f"{x:,.0f}", "middle")]
    for tick in range(5):
        _, at = place(1, most * tick / 4)
        parts += [
            f'<path d="M{_LEFT},{at:.1f} H{right}" stroke="#e5e5e5"/>',
            _text(_LEFT - 8, at + 4, f"{most * tick / 4:.3g}", "end"),
        ]
    for number, (name, points) in enumerate(curves.items()):
        places = [place(x, y) for x, y in points]
        joined = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        parts.append(f'<polyline points="{joined}" fill="none" stroke="{_colour(number)}" stroke-width="2"/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{_colour(number)}"/>' for x, y in places]
        parts.append(f'<rect x="{_LEFT + 10 + number * 130}" y="{_TOP - 12}" width="10" height="10" fill="{_colour(number)}"/>')
        parts.append(_text(_LEFT + 24 + number * 130, _TOP - 3, name))
    parts += [_text((_LEFT + right) / 2, _HEIGHT - 8, across, "middle"), _text(8, _TOP - 3, up)]
    return _svg(title, _HEIGHT, parts)


def _colour(number: int) -> str:
    return _COLOURS[number % len(_COLOURS)]


def _text(x: float, y: float, words: str, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>'


def _svg(title: str, height: float, parts: Sequence[str]) -> str:
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" height="{height}" '
        'font-family="sans-serif" font-size="12"><rect width="100%" height="100%" fill="white"/>'
    )
    name = f'<text x="12" y="20" font-size="14" font-weight="bold">{escape(title)}</text>'
    return "\n".join([head, name, *parts, "</svg>"]) + "\n"
