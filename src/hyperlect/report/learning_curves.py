"""Learning curves: the loss of each task and the selection score over the steps of training."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from .data import Curves
from .frame import Frame, ticks_of
from .markup import Html
from .svg import ACCENT, INK, canvas, to_svg, write

_WIDTH, _HEIGHT = 340.0, 190.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 40.0, 318.0, 12.0, 166.0
_DRAWN = 120  # points of a curve beyond which neighbours are averaged

Points = Sequence[tuple[int, float]]


def panels(curves: Curves, prefix: str) -> list[tuple[str, Html]]:
    """Draw one panel a task and one for selection. Returns (title, drawing) pairs."""
    drawn = []
    for index, (task, points) in enumerate(curves.losses.items()):
        if points:
            said = f"Training loss of {task}: {points[0][1]:.3g} at step {points[0][0]}, "
            said += f"{points[-1][1]:.3g} at step {points[-1][0]}."
            drawn.append((f"{task}, training loss", _panel(points, f"{prefix}-loss{index}", said)))
    if curves.selection:
        title = "selection score, development data"
        drawn.append((title, _selection(curves, f"{prefix}-selection")))
    return drawn


def _selection(curves: Curves, prefix: str) -> Html:
    points = curves.selection
    said = f"Selection score: {points[0][1]:.3g} at step {points[0][0]}, "
    said += f"{points[-1][1]:.3g} at step {points[-1][0]}"
    best = next((point for point in points if point[0] == curves.best_step), None)
    said += f"; best {best[1]:.3g} at step {best[0]}." if best else "."
    return _panel(points, prefix, said, best)


class _Panel:
    """The axes of a panel: from (step, value) to pixels."""

    def __init__(self, points: Points) -> None:
        steps, values = zip(*points, strict=True)
        self.x_ticks = MaxNLocator(5, integer=True, steps=[1, 2, 5, 10]).tick_values(0, max(steps))
        self.frame = Frame(_LEFT, _RIGHT, _TOP, _BOTTOM, ticks_of(values))
        self.last = max(max(steps), 1)

    def place(self, step: float, value: float) -> tuple[float, float]:
        return _LEFT + step / self.last * (_RIGHT - _LEFT), self.frame.y(value)

    def draw(self, axes: Axes) -> None:
        self.frame.draw(axes)
        for tick in self.x_ticks:
            if tick <= self.last:
                self.frame.below(axes, self.place(tick, 0)[0], f"{tick:,.0f}")


def _panel(points: Points, prefix: str, said: str, best: tuple[int, float] | None = None) -> Html:
    figure, axes = canvas(_WIDTH, _HEIGHT)
    panel = _Panel(points)
    panel.draw(axes)
    colour = ACCENT
    means, lows, highs = _thinned(points)
    line = [panel.place(step, value) for step, value in means]
    x, y = zip(*line, strict=True)
    if len(points) > len(means):
        band = [[panel.place(s, v)[1] for s, v in edge] for edge in (lows, highs)]
        axes.fill_between(x, band[0], band[1], color=colour, alpha=0.18, linewidth=0, zorder=2)
    marker = "o" if len(means) <= 40 else None
    axes.plot(x, y, color=colour, linewidth=1.6, marker=marker, markersize=3.2, zorder=3)
    if best is not None:
        _best(axes, panel, best)
    return to_svg(figure, prefix, said)


def _best(axes: Axes, panel: _Panel, best: tuple[int, float]) -> None:
    x, y = panel.place(*best)
    axes.scatter([x], [y], s=70, facecolors="none", edgecolors=INK, linewidths=1.3, zorder=5)
    above = y > _TOP + 24
    align: Literal["left", "right"] = "right" if x > (_LEFT + _RIGHT) / 2 else "left"
    place = (x + (6 if align == "left" else -6), y - 15 if above else y + 16)
    write(axes, place, f"best {best[1]:.1f}, step {best[0]:,}", 11, INK, align, weight="bold")


def _thinned(points: Points) -> tuple[Points, Points, Points]:
    """Average neighbours until at most `_DRAWN` points are left: means, minima and maxima."""
    size = math.ceil(len(points) / _DRAWN)
    chunks = [np.array(points[i : i + size]) for i in range(0, len(points), size)]
    steps = [int(chunk[:, 0].mean()) for chunk in chunks]

    def with_steps(values: list[float]) -> Points:
        return list(zip(steps, values, strict=True))

    return (
        with_steps([float(chunk[:, 1].mean()) for chunk in chunks]),
        with_steps([float(chunk[:, 1].min()) for chunk in chunks]),
        with_steps([float(chunk[:, 1].max()) for chunk in chunks]),
    )
