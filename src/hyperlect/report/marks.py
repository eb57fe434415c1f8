"""The marks of the kinds: discs filled by how much training has seen of a cell.

Full for a supervised cell, half for an unseen combination, a quarter for a language with raw text
only, empty for an untouched one. They are told apart without colour, on paper and on screen.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.markers import MarkerStyle
from matplotlib.path import Path

from ..grid import Kind
from .markup import Html, join, tag
from .svg import PAPER

FILLS = {
    Kind.SUPERVISED: 1.0,
    Kind.UNSEEN_COMBINATION: 0.5,
    Kind.TEXT_ONLY: 0.25,
    Kind.UNTOUCHED: 0.0,
}


def mark(kind: Kind) -> Html:
    """The mark of a kind for running HTML. It is silent: the kind's name must stand beside it."""
    use = tag("use", href=f"#mark-{kind.name.lower()}")
    return tag("svg", use, class_="mark", viewBox="0 0 12 12", aria_hidden="true")


def symbols() -> Html:
    """The definitions that `mark` refers to, once a page."""
    return tag(
        "svg",
        join(_symbol(kind, fill) for kind, fill in FILLS.items()),
        width=0,
        height=0,
        class_="symbols",
        aria_hidden="true",
    )


def _symbol(kind: Kind, fill: float) -> Html:
    ring = tag("circle", cx=6, cy=6, r=5, fill="none", stroke="currentColor", stroke_width="1.5")
    parts = [ring]
    if fill == 1:
        parts.append(tag("circle", cx=6, cy=6, r=5, fill="currentColor"))
    elif fill:
        angle = 2 * math.pi * fill
        x, y = 6 + 5 * math.sin(angle), 6 - 5 * math.cos(angle)
        path = f"M6 6V1A5 5 0 0 1 {x:.2f} {y:.2f}Z"
        parts.append(tag("path", d=path, fill="currentColor"))
    return tag("symbol", *parts, id=f"mark-{kind.name.lower()}", viewBox="0 0 12 12")


def draw(
    axes: Axes, points: Sequence[tuple[float, float]], radius: float, fill: float, colour: str
) -> None:
    """Draw one mark at all `points` of a canvas."""
    if not points:
        return
    x, y = zip(*points, strict=True)
    size = (2 * radius) ** 2  # matplotlib measures markers by the area of the square around them
    axes.scatter(x, y, s=size, facecolors=PAPER, edgecolors=colour, linewidths=1.3, zorder=4)
    if fill:
        slice_ = Path.wedge(90 - 360 * fill, 90)
        axes.scatter(x, y, s=size, marker=MarkerStyle(slice_), color=colour, linewidths=0, zorder=5)
