"""Lines over a common axis, as SVG text: as much of a plot as this project needs.

Promises: no dependency, the same bytes for the same values, readable without colour. Refuses to know what the values are.
"""

import math
from collections.abc import Iterator, Sequence
from html import escape
from typing import NamedTuple

WIDTH, LEFT, RIGHT = 760, 70, 130
HEIGHT, GAP, TOP = 90, 34, 44
COLOURS = ("#1f5fa8", "#c0392b", "#2e7d32", "#8e6c00", "#6a3d9a")
DASHES = ("", "6 3", "2 3", "8 3 2 3", "1 2")

Point = tuple[float, float]


class Line(NamedTuple):
    """One series."""

    name: str
    points: Sequence[Point]


class Panel(NamedTuple):
    """Some lines over one scale; it begins at 0."""

    title: str
    lines: Sequence[Line]
    logarithmic: bool = False


class Phase(NamedTuple):
    """A named part of the common axis."""

    name: str
    start: float
    end: float


def plot(title: str, axis: str, panels: Sequence[Panel], phases: Sequence[Phase] = ()) -> str:
    """The panels below each other. `axis` names what they share."""
    xs = [x for panel in panels for line in panel.lines for x, _ in line.points]
    least, most = (phases[0].start, phases[-1].end) if phases else (min(xs), max(xs))
    height = TOP + len(panels) * (HEIGHT + GAP) + 24
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" font-size="11">',
        f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>',
        _text(LEFT, 16, title, weight="bold"),
    ]
    for number, panel in enumerate(panels):
        top = TOP + GAP / 2 + number * (HEIGHT + GAP)
        parts += _panel(panel, top, least, most, phases, named=number == 0)
    bottom = TOP + GAP / 2 + len(panels) * (HEIGHT + GAP) - GAP + 14
    parts += [_text(_x(tick, least, most), bottom, f"{tick:g}", anchor="middle") for tick in _ticks(least, most, 10)]
    parts.append(_text((LEFT + WIDTH - RIGHT) / 2, bottom + 15, axis, anchor="middle"))
    return "\n".join([*parts, "</svg>", ""])


def _panel(panel: Panel, top: float, least: float, most: float, phases: Sequence[Phase], *, named: bool) -> Iterator[str]:
    values = [y for line in panel.lines for _, y in line.points if math.isfinite(y)]
    floor = 10 ** math.floor(math.log10(max(min(values), 0.1))) if panel.logarithmic else 0.0
    ceiling = max([*values, floor * 10, 1e-9]) * (1.0 if panel.logarithmic else 1.05)

    def y_of(value: float) -> float:
        if panel.logarithmic:
            part = math.log(max(value, floor) / floor) / math.log(ceiling / floor)
        else:
            part = value / ceiling
        return top + HEIGHT * (1 - part)

    for number, phase in enumerate(phases):
        start, end = _x(phase.start, least, most), _x(phase.end, least, most)
        shade = "#f2f2f2" if number % 2 else "#fafafa"
        yield f'<rect x="{start:.1f}" y="{top:.1f}" width="{end - start:.1f}" height="{HEIGHT}" fill="{shade}"/>'
        if named:
            yield _text((start + end) / 2, top - 18 - 12 * (number % 2), phase.name, anchor="middle", colour="#666")
    yield _text(LEFT, top - 4, panel.title)
    for tick in _decades(floor, ceiling) if panel.logarithmic else _ticks(0, ceiling, 4):
        y = y_of(tick)
        yield f'<path d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}" stroke="#ccc" stroke-width="0.5"/>'
        yield _text(LEFT - 6, y + 4, f"{tick:,.10g}", anchor="end")
    last = -math.inf
    ends = sorted(zip(panel.lines, COLOURS, DASHES, strict=False), key=lambda each: -each[0].points[-1][1])
    for line, colour, dash in ends:
        path = " ".join(f"{_x(x, least, most):.1f},{y_of(y):.1f}" for x, y in line.points)
        yield f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.5" stroke-dasharray="{dash}"/>'
        last = max(last + 12, y_of(line.points[-1][1]) + 4)
        yield _text(WIDTH - RIGHT + 6, last, line.name, colour=colour)


def _x(value: float, least: float, most: float) -> float:
    return LEFT + (value - least) / (most - least) * (WIDTH - RIGHT - LEFT)


def _ticks(least: float, most: float, about: int) -> list[float]:
    """Round numbers, about so many."""
    rough = (most - least) / about
    size = 10 ** math.floor(math.log10(rough))
    step = next(size * factor for factor in (1, 2, 5, 10) if size * factor >= rough)
    return [step * number for number in range(math.ceil(least / step), math.floor(most / step) + 1)]


def _decades(least: float, most: float) -> list[float]:
    return [10.0**power for power in range(math.ceil(math.log10(least)), math.floor(math.log10(most)) + 1)]


def _text(x: float, y: float, text: str, *, anchor: str = "start", weight: str = "normal", colour: str = "#222") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-weight="{weight}" fill="{colour}">{escape(text)}</text>'
