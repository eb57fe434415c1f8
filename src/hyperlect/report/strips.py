"""Scores by kind as strips: every cell a dot, their mean a mark, the figure beside it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes

from ..evaluation.results import CellResult
from ..grid import Kind
from .marks import FILLS, draw
from .markup import Html
from .scales import Scale, counts_text, figure_text
from .svg import ACCENT, INK, MUTED, RULE, WARM, canvas, to_svg, write

WIDTH = 340.0
_LEFT, _RIGHT = 10.0, WIDTH - 56.0
_HEADING, _LABEL, _STRIP, _GAP, _FOOT = 20.0, 15.0, 22.0, 12.0, 30.0


@dataclass(frozen=True)
class Strip:
    """One line of a panel: the cells of one kind, of one run.

    A `label` (the run's name) is given where several runs are compared.
    """

    kind: Kind
    cells: Sequence[CellResult]
    mean: float | None
    label: str = ""


def strip_panel(
    strips: Sequence[Strip], scale: Scale, prefix: str, task: str, dot: str = "cell"
) -> Html:
    """Draw the strips of one task above each other, with a heading where the kind changes.

    A dot is a cell, or what `dot` says.
    """
    figure, axes = canvas(WIDTH, _height(strips))
    colour = WARM if scale.perplexity else ACCENT
    bottom = _height(strips) - _FOOT + 10
    for tick in scale.ticks():
        x = _x(scale, tick)
        axes.plot([x, x], [0, bottom], color=RULE, linewidth=0.8, zorder=1)
        write(axes, (x, bottom + 10), f"{tick:g}", 10, MUTED, "center")
    y = 0.0
    for index, strip in enumerate(strips):
        if index == 0 or strip.kind != strips[index - 1].kind:
            y += _GAP if index else 0.0
            draw(axes, [(_LEFT + 5, y + _HEADING / 2)], 5, FILLS[strip.kind], INK)
            # with runs left to do, systems may have different numbers
            counts = (len(other.cells) for other in strips if other.kind == strip.kind)
            text = f"{strip.kind} · {counts_text(counts, dot)}"
            write(axes, (_LEFT + 16, y + _HEADING / 2), text, 11.5)
            y += _HEADING
        if strip.label:
            write(axes, (_LEFT, y + _LABEL - 5), strip.label, 10, MUTED)
            y += _LABEL
        _strip(axes, y + _STRIP / 2, strip, scale, colour)
        y += _STRIP
    return to_svg(figure, prefix, _description(strips, task, dot))


def _height(strips: Sequence[Strip]) -> float:
    kinds = len({strip.kind for strip in strips})
    labels = sum(bool(strip.label) for strip in strips)
    return kinds * (_HEADING + _GAP) - _GAP + labels * _LABEL + len(strips) * _STRIP + _FOOT


def _x(scale: Scale, score: float) -> float:
    return _LEFT + scale.place(score) * (_RIGHT - _LEFT)


def _strip(axes: Axes, y: float, strip: Strip, scale: Scale, colour: str) -> None:
    axes.plot([_LEFT, _RIGHT], [y, y], color=RULE, linewidth=0.8, zorder=1)
    scored = sorted((cell for cell in strip.cells if cell.scored), key=lambda cell: cell.value)
    places = [_x(scale, cell.value) for cell in scored]
    axes.scatter(places, [y] * len(places), s=30, color=colour, alpha=0.32, linewidths=0, zorder=2)
    write(axes, (WIDTH - 2, y), figure_text(strip.mean), 13, INK, "right", weight="bold")
    if len(scored) > 2 and not strip.label:
        _ends(axes, y, scored, places)
    if strip.mean is not None and math.isfinite(strip.mean):
        draw(axes, [(_x(scale, strip.mean), y)], 6, FILLS[strip.kind], INK)


def _ends(axes: Axes, y: float, cells: Sequence[CellResult], places: Sequence[float]) -> None:
    """Write the codes of the languages at both ends under their dots."""
    if places[-1] - places[0] < 30:
        return
    for cell, x in ((cells[0], places[0]), (cells[-1], places[-1])):
        write(axes, (x, y + 12), cell.language, 9.5, MUTED, "center")


def _description(strips: Sequence[Strip], task: str, dot: str) -> str:
    said = [
        f"{strip.label + ', ' if strip.label else ''}{strip.kind}: mean "
        f"{figure_text(strip.mean)} over {len(strip.cells)} {dot}s"
        for strip in strips
    ]
    return f"{task}, {strips[0].cells[0].metric}. " + "; ".join(said) + "."
