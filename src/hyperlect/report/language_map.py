"""The language embeddings in the plane: principal components, points and their labels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from .data import Embeddings
from .labels import place_labels
from .marks import draw
from .markup import Html
from .svg import ACCENT, INK, MUTED, RULE, canvas, to_svg, write

_FILLS = {"labelled": 1.0, "text only": 0.25}
_MARGIN = 34.0


@dataclass(frozen=True)
class Projection:
    """Points (languages, 2) and the share of the variance on each of the two components."""

    points: NDArray[np.float64]
    explained: tuple[float, float]


def project(vectors: NDArray[np.float64]) -> Projection:
    """Project centred vectors (languages, e) on their first two principal components.

    The components come from a singular value decomposition; the sign of each is set so that its
    farthest point lies to the right (or above), which makes the map the same every time.
    """
    centred = vectors - vectors.mean(axis=0)
    left, sizes, _ = np.linalg.svd(centred, full_matrices=False)
    points = np.zeros((len(vectors), 2))
    explained = [0.0, 0.0]
    total = float((sizes**2).sum())
    for index in range(min(2, len(sizes))):
        column = left[:, index] * sizes[index]
        points[:, index] = column * (np.sign(column[np.abs(column).argmax()]) or 1.0)
        explained[index] = float(sizes[index] ** 2) / total if total else 0.0
    return Projection(points, (explained[0], explained[1]))


def draw_map(
    embeddings: Embeddings,
    projection: Projection,
    width: float,
    label: Callable[[str], str],
    prefix: str,
    class_: str,
) -> Html:
    """Draw the map `width` pixels wide; `label` turns a code into what is written."""
    size = (width, _height(projection.points, width))
    figure, axes = canvas(*size)
    places, origin = _to_pixels(projection.points, size)
    text_size, radius = (11.5, 4.5) if width > 500 else (9.5, 3.5)
    axes.scatter(origin[:1], origin[1:], s=14**2, marker="+", color=MUTED, linewidths=1.2, zorder=1)
    _frame(axes, size, projection.explained)
    texts = [label(code) for code in embeddings.languages]
    for (x, y), spot, text in zip(places, place_labels(places, texts, size), texts, strict=True):
        if spot.leader:
            axes.plot([x, spot.x], [y, spot.y], color=MUTED, linewidth=0.6, zorder=2)
        write(axes, (spot.x, spot.y), text, text_size, INK, "center", zorder=6)
    fills = [_FILLS.get(embeddings.kinds.get(code, ""), 0.0) for code in embeddings.languages]
    for fill in sorted(set(fills)):
        points = [(x, y) for (x, y), other in zip(places, fills, strict=True) if other == fill]
        draw(axes, points, radius, fill, ACCENT)
    one, two = (f"{share:.0%}" for share in projection.explained)
    said = (
        f"Map of {len(texts)} language embeddings on their first two principal components, "
        f"which hold {one} and {two} of the variance."
    )
    return to_svg(figure, prefix, said, class_)


def _height(points: NDArray[np.float64], width: float) -> float:
    """The height that suits the points, within what looks well on a page."""
    across, down = np.ptp(points, axis=0)
    fitting = 2 * _MARGIN + (width - 2 * _MARGIN) * down / max(across, 1e-12)
    return float(np.clip(fitting, 0.5 * width, (0.7 if width > 500 else 1.25) * width))


def _to_pixels(
    points: NDArray[np.float64], size: tuple[float, float]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Fit the points into the canvas with one scale for both axes. Returns them and the origin."""
    low, high = points.min(axis=0), points.max(axis=0)
    room = np.array(size) - 2 * _MARGIN
    ratio = float((room / np.maximum(high - low, 1e-12)).min())
    flip = np.array([1.0, -1.0])
    middle = np.array(size) / 2
    return middle + flip * (points - (low + high) / 2) * ratio, middle - flip * (
        low + high
    ) / 2 * ratio


def _frame(axes: Axes, size: tuple[float, float], explained: tuple[float, float]) -> None:
    width, height = size
    axes.plot(
        [1, width - 1, width - 1, 1, 1],
        [1, 1, height - 1, height - 1, 1],
        color=RULE,
        linewidth=1,
        zorder=0,
    )
    first, second = (f"{share:.0%}" for share in explained)
    write(axes, (8, height - 12), f"→ component 1, {first} of the variance", 10, MUTED)
    write(axes, (8, 12), f"↑ component 2, {second}", 10, MUTED)
