"""A few-shot curve as a plot: scores against the number of labelled examples, a line a method."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise

from matplotlib.axes import Axes

from .few_shot import PointRow
from .few_shot_written import CurveTable
from .frame import Frame, ticks_of
from .markup import Html
from .scales import figure_text
from .svg import LINES, MUTED, PAPER, canvas, to_svg, write

_WIDTH, _PLOT, _FOOT = 340.0, 210.0, 44.0
_LEFT, _RIGHT = 40.0, 326.0
_ZERO, _END, _GAP = 20.0, 14.0, 36.0  # from the edges to 0 and the last number; from 0 to the first
_ENTRY, _CHARACTER = 17.0, 6.4  # pixels: a line of the key, a character of it
_FIGURE = (27.0, 11.0)  # the room that a score of a point takes
_BESIDE = ((0, -11), (0, 11), (-18, -8), (18, 8))  # where it may stand beside the point
_ABOVE = 10.0  # between the key and the plot
_APART = 2.6  # between the places of two methods with the same number of examples
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")

Place = tuple[float, float]
Box = tuple[float, float, float, float]
Places = list[tuple[float, float, PointRow]]


def draw_curve(table: CurveTable, prefix: str) -> Html:
    """Draw one task of a curve; without labelled examples a hollow mark, whiskers for the spread.

    Args:
        table: the scores.
        prefix: put before every id.
    """
    names = [method for method, of in table.lines if any(of)]
    key = _key_lines(names)
    top = len(key) * _ENTRY + _ABOVE
    figure, axes = canvas(_WIDTH, top + _PLOT + _FOOT)
    frame = Frame(_LEFT, _RIGHT, top, top + _PLOT, ticks_of(_reach(table), 6))
    frame.draw(axes)
    _across(axes, frame, table.examples)
    places = [_places(frame, table, of, number) for number, (_, of) in enumerate(table.lines)]
    for number, line in enumerate(places):
        _line(axes, frame, line, number)
    _figures(axes, frame, places)
    _key(axes, key, {method: number for number, (method, _) in enumerate(table.lines)})
    return to_svg(figure, prefix, _description(table))


def _reach(table: CurveTable) -> Iterable[float]:
    """Yield the ends of all whiskers."""
    for _, of in table.lines:
        for row in filter(None, of):
            yield from _ends(row)


def _ends(row: PointRow) -> tuple[float, float]:
    mean, spread = row.mean or 0.0, row.std or 0.0
    return mean - spread, mean + spread


def _x(examples: Sequence[int], number: int) -> float:
    """Return the place of a number of examples: 0 apart, the others on a logarithmic axis."""
    if number == 0:
        return _LEFT + _ZERO
    some = [n for n in examples if n]
    left = _LEFT + _ZERO + (_GAP if 0 in examples else 0.0)
    right = _RIGHT - _END
    if some[0] == some[-1]:
        return (left + right) / 2
    return left + math.log(number / some[0]) / math.log(some[-1] / some[0]) * (right - left)


def _across(axes: Axes, frame: Frame, examples: Sequence[int]) -> None:
    """Write the numbers of examples below the plot, as far as there is room."""
    end = -math.inf
    for number in examples:
        x, half = _x(examples, number), len(f"{number:,}") * 3.2
        if x - half > end + 3:
            frame.below(axes, x, f"{number:,}")
            end = x + half
    write(axes, ((_LEFT + _RIGHT) / 2, frame.bottom + 31), "labelled examples", 10, MUTED, "center")


def _places(frame: Frame, table: CurveTable, of: Sequence[PointRow | None], number: int) -> Places:
    """Return where the points of a method stand: beside those of others, not upon them."""
    shift = (number - (len(table.lines) - 1) / 2) * _APART
    return [
        (_x(table.examples, row.examples) + shift, frame.y(row.mean or 0.0), row)
        for row in of
        if row is not None
    ]


def _line(axes: Axes, frame: Frame, places: Places, number: int) -> None:
    """Draw the line of a method, its whiskers and its marks."""
    colour, marker = _style(number)
    for x, _, row in places:
        if row.std:
            low, high = map(frame.y, _ends(row))
            axes.plot([x, x], [low, high], color=colour, linewidth=1.1, alpha=0.6, zorder=2)
    drawn = [(x, y) for x, y, row in places if row.examples]
    if drawn:
        axes.plot(*zip(*drawn, strict=True), color=colour, linewidth=1.6, zorder=3)
    if drawn and len(places) > len(drawn):  # from 0, which is on no logarithmic axis
        first = [places[0][:2], drawn[0]]
        axes.plot(*zip(*first, strict=True), color=colour, linewidth=1, linestyle=":", zorder=3)
    for hollow in (False, True):
        at = [(x, y) for x, y, row in places if (row.examples == 0) is hollow]
        face = PAPER if hollow else colour
        _marks(axes, at, marker, colour, face)


def _style(number: int) -> tuple[str, str]:
    """Return a method's colour and the shape of its marks."""
    return LINES[number % len(LINES)], _MARKERS[number % len(_MARKERS)]


def _marks(axes: Axes, at: Sequence[Place], marker: str, colour: str, face: str) -> None:
    x, y = [place[0] for place in at], [place[1] for place in at]
    axes.scatter(
        x, y, s=26, marker=marker, facecolors=face, edgecolors=colour, linewidths=1.2, zorder=4
    )


def _figures(axes: Axes, frame: Frame, places: Sequence[Places]) -> None:
    """Write the scores at the points that have room for them, the ends of lines first."""
    points = [(x, y, row, number) for number, of in enumerate(places) for x, y, row in of]
    taken = [_box(x, y, 8, 8) for x, y, _, _ in points]
    taken += [_box(x, y, 2, 2) for of in places for x, y in _along(of)]
    taken += [_whisker(frame, x, row) for x, _, row, _ in points]
    ends = {0, max(row.examples for _, _, row, _ in points)}
    for x, y, row, number in sorted(points, key=lambda point: point[2].examples not in ends):
        for right, down in _BESIDE:
            at = (x + right, y + down)
            box = _box(*at, *_FIGURE)
            if _inside(box, frame) and not any(_meet(box, other) for other in taken):
                write(axes, at, figure_text(row.mean), 9.5, _style(number)[0], "center")
                taken.append(box)
                break


def _along(places: Places) -> Iterator[tuple[float, float]]:
    """Yield points along a line, close enough for no figure to pass between them."""
    for (x0, y0, _), (x1, y1, _) in pairwise(places):
        steps = max(1, round(math.hypot(x1 - x0, y1 - y0) / 4))
        for step in range(steps):
            share = step / steps
            yield x0 + share * (x1 - x0), y0 + share * (y1 - y0)


def _whisker(frame: Frame, x: float, row: PointRow) -> Box:
    low, high = map(frame.y, _ends(row))
    return _box(x, (low + high) / 2, 2, low - high)


def _box(x: float, y: float, width: float, height: float) -> Box:
    return x - width / 2, y - height / 2, x + width / 2, y + height / 2


def _inside(box: Box, frame: Frame) -> bool:
    """Whether a box touches neither the figures of the axes nor the key nor the edge."""
    down = frame.top - _ABOVE <= box[1] and box[3] <= frame.bottom
    return down and frame.left - 4 <= box[0] and box[2] <= _WIDTH


def _meet(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _key_lines(names: Sequence[str]) -> list[list[tuple[float, str]]]:
    """Break the key into lines: names with their places."""
    lines: list[list[tuple[float, str]]] = []
    x = math.inf
    for name in names:
        width = 30 + len(name) * _CHARACTER
        if x + width > _WIDTH:
            lines.append([])
            x = _LEFT
        lines[-1].append((x, name))
        x += width
    return lines


def _key(
    axes: Axes, lines: Sequence[Sequence[tuple[float, str]]], numbers: Mapping[str, int]
) -> None:
    for row, line in enumerate(lines):
        y = (row + 0.5) * _ENTRY
        for x, name in line:
            colour, marker = _style(numbers[name])
            axes.plot([x, x + 16], [y, y], color=colour, linewidth=1.6)
            _marks(axes, [(x + 8, y)], marker, colour, colour)
            write(axes, (x + 21, y), name, 11)


def _description(table: CurveTable) -> str:
    said = [
        f"{method}: "
        + ", ".join(f"{figure_text(row.mean)} with {row.examples}" for row in filter(None, of))
        for method, of in table.lines
        if any(of)
    ]
    return (
        f"{table.task}, {table.metric}, against the number of labelled examples. {'; '.join(said)}."
    )
