"""The languages of a run beside each other: as their trained vectors have it, and as typology does.

Both are distances that come from cosines, sqrt(2 - 2 cos): of the two vectors, less the mean of
all, and of the features. So the lengths of trained vectors do not count: in 64 dimensions the
longest would be far from all others, whatever its direction. A map shows distances in the plane by
classical scaling (Torgerson 1952, Psychometrika 17).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import matplotlib
import numpy as np
import pandas as pd
from markupsafe import Markup
from numpy.typing import NDArray

from ..data.typology import URIEL, Typology
from ..errors import DataError, counted
from ..grid import Kind
from .data import Embeddings
from .plots import INK, LINES, MUTED, STYLE, draw_mark, empty_figure, to_svg

PERMUTATIONS = 1999
FEWEST = 5
"""Languages below which agreement says nothing: three or four can be arranged in too few ways."""
_SEED = 20221207
_MARKS = {"labelled": Kind.SUPERVISED, "text only": Kind.TEXT_ONLY}
_WIDTH, _HEIGHT = 420, 380
# The first four colours differ for the colour-blind too; the signs do for everybody.
_SIGNS, _COLOURS = "¹²³⁴⁵⁶", (1, 2, 5, 8, 3, 4)


def distances_of(codes: list[str], cosines: NDArray[np.float64]) -> pd.DataFrame:
    """Turn cosines into the distances of vectors of length 1, languages × languages."""
    return pd.DataFrame(np.sqrt(np.clip(2 - 2 * cosines, 0, None)), codes, codes)


def nearest(distances: pd.DataFrame, code: str, count: int = 3) -> list[str]:
    """Return the nearest languages, the nearest first; none where the language is missing."""
    if code not in distances:
        return []
    return list(distances[code].drop(code).sort_values(kind="stable").index[:count])


class Agreement(NamedTuple):
    """Spearman's correlation of two distances over `languages` languages, and its p."""

    correlation: float
    p: float
    languages: int


@dataclass(frozen=True)
class Languages:
    """What the report shows of a run's languages.

    Attributes:
        learned: how far they are apart by the trained vectors, languages × languages.
        typology: by URIEL; None where it is not installed, or has fewer than three of them.
        families: the language family by code, as far as it is known.
        kinds: the sort of data by code.
        agreement: of the two, over languages that were trained; None for fewer than `FEWEST`.
        licence: of the typology.
    """

    learned: pd.DataFrame
    kinds: dict[str, str]
    typology: pd.DataFrame | None = None
    families: dict[str, str] = field(default_factory=dict)
    agreement: Agreement | None = None
    licence: str = ""

    @property
    def marked(self) -> dict[str, tuple[str, int]]:
        """The families that a map marks: a sign, and the number of a colour in the style sheet.

        They are the largest of those with two languages or more.
        """
        counts = Counter(sorted(self.families.values())).most_common(len(_SIGNS))
        largest = [family for family, count in counts if count > 1]
        return dict(zip(largest, zip(_SIGNS, _COLOURS, strict=True), strict=False))


def describe_languages(embeddings: Embeddings) -> Languages:
    """Compare the language vectors of a run with each other, and with typology."""
    codes, kinds = embeddings.languages, embeddings.kinds
    centred = embeddings.vectors - embeddings.vectors.mean(axis=0)
    directions = centred / np.linalg.norm(centred, axis=1, keepdims=True).clip(1e-12)
    learned = distances_of(codes, directions @ directions.T)
    try:
        table = Typology.read(URIEL)
    except DataError:  # it is an extra
        return Languages(learned, kinds)
    known = [code for code in codes if code in table]
    if len(known) < 3:
        return Languages(learned, kinds)
    similar = [list(table.similarity(code, known).values()) for code in known]
    typology = distances_of(known, np.array(similar))
    trained = [code for code in known if kinds.get(code) in _MARKS]
    agree = agreement(learned.loc[trained, trained], typology.loc[trained, trained])
    families = table.families(known)
    return Languages(learned, kinds, typology, families, agree, table.licence)


def agreement(one: pd.DataFrame, other: pd.DataFrame) -> Agreement | None:
    """Test whether two distances of the same languages agree (Mantel 1967, Cancer Research 27).

    p = (1 + k) / (1 + permutations), with k the permutations of the languages of one of them that
    agree as well or better.

    Returns:
        None for fewer languages than `FEWEST`, or if one has all languages equally far apart.
    """
    count = len(one)
    upper = np.triu_indices(count, 1)
    pair = [distances.to_numpy()[upper] for distances in (one, other)]
    if count < FEWEST or any(np.ptp(values) == 0 for values in pair):
        return None
    first, second = np.zeros((2, count, count))
    for matrix, values in zip((first, second), pair, strict=True):
        ranks = pd.Series(values).rank().to_numpy()
        matrix[upper] = (ranks - ranks.mean()) / (ranks.std() * math.sqrt(len(ranks)))
    second = second + second.T
    generator = np.random.default_rng(_SEED)
    correlation = float(first[upper] @ second[upper])
    orders = (generator.permutation(count) for _ in range(PERMUTATIONS))
    permuted = np.array([first[upper] @ second[np.ix_(order, order)][upper] for order in orders])
    as_well = int((permuted >= correlation - 1e-9).sum())
    return Agreement(correlation, (1 + as_well) / (1 + PERMUTATIONS), count)


def project(distances: NDArray[np.float64]) -> tuple[NDArray[np.float64], tuple[float, ...]]:
    """Place languages in the plane by classical scaling.

    The sign of each axis is set so that its farthest point lies to the right (or above), which
    makes the map the same every time.

    Args:
        distances: (N, N), of two languages or more.

    Returns:
        Points (N, 2), and the share of the variance on each axis.
    """
    squared = distances**2
    inner = -0.5 * (squared - squared.mean(axis=0) - squared.mean(axis=1)[:, None] + squared.mean())
    sizes, axes = np.linalg.eigh((inner + inner.T) / 2)  # in ascending order
    sizes = np.where(sizes > 1e-12, sizes, 0)[::-1]
    points = axes[:, :-3:-1] * np.sqrt(sizes[:2])
    points *= np.sign(points[np.abs(points).argmax(axis=0), [0, 1]])
    return points, tuple(sizes[:2] / max(sizes.sum(), 1e-12))


@matplotlib.rc_context(STYLE)
def draw_map(languages: Languages, distances: pd.DataFrame, title: str, prefix: str) -> Markup:
    """Draw languages in the plane, named by their codes, coloured by family, marked by kind."""
    points, explained = project(distances.to_numpy())
    size = np.array([_WIDTH, _HEIGHT])
    scale = max(*(np.ptp(points, axis=0) / (size - 90)), 1e-12)  # a margin of 45 pixels
    ends = points.min(axis=0) + points.max(axis=0)
    (left, bottom), (right, top) = ((ends + scale * side) / 2 for side in (-size, size))
    figure = empty_figure(_WIDTH, _HEIGHT)
    figure.set_layout_engine("none")
    axes = figure.add_axes((0, 0, 1, 1), xticks=[], yticks=[])
    axes.set(xlim=(left, right), ylim=(bottom, top))
    axes.spines[:].set_visible(True)
    texts = []
    for code, point in zip(distances, points, strict=True):
        kind = _MARKS.get(languages.kinds.get(code, ""), Kind.UNTOUCHED)
        sign, number = languages.marked.get(languages.families.get(code, ""), ("", 0))
        draw_mark(axes, point[:1], point[1:], 4.5, kind, LINES[number - 1] if number else INK)
        texts.append(code + sign)
    pixels = axes.transData.transform(points)
    spots = place_labels(pixels, texts, (_WIDTH, _HEIGHT))
    for label, spot, point in zip(texts, spots, pixels, strict=True):
        if math.dist(spot, point) > 15 + len(label) * 3.15:
            axes.plot(*zip(spot, point, strict=True), color=MUTED, linewidth=0.6, transform=None)
        middle: dict[str, Any] = {"ha": "center", "va": "center", "transform": None}
        axes.text(spot[0], spot[1], label, size=10.5, **middle)
    first, second = (f"{share:.0%}" for share in explained)
    axes.text(8, 8, f"→ axis 1, {first} of the variance", color=MUTED, transform=None)
    axes.text(8, _HEIGHT - 16, f"↑ axis 2, {second}", color=MUTED, transform=None)
    text = f"{counted(len(points), 'language')} in the plane, which shows {first} and {second} of "
    text += "the variance on its axes. The table of neighbours says which are near."
    return to_svg(figure, prefix, title, text)


def place_labels(
    points: NDArray[np.float64], texts: Sequence[str], size: tuple[float, float]
) -> NDArray[np.float64]:
    """Choose a place around its point for each text, the most crowded first: the cheapest of 40.

    What a label covers of points and other labels costs by area, distance costs a little, and
    leaving the canvas much.

    Args:
        points: (N, 2) pixels.
        texts: the N labels.
        size: width and height of the canvas.

    Returns:
        The middles of the labels, (N, 2).
    """
    angles = np.radians([0, 180, 90, 270, 45, 135, 225, 315])
    ways = np.stack([np.cos(angles), np.sin(angles)], axis=1).round(6)
    taken = np.concatenate([points - 5, points + 5], axis=1)  # boxes: left, bottom, right, top
    middles = np.zeros_like(points)
    near = np.linalg.norm(points[:, None] - points, axis=2) < 40
    for number in np.argsort(-near.sum(axis=1), kind="stable"):
        half = np.array([len(texts[number]) * 3.15, 6.25])  # a little more than the text needs
        offsets = [ways * distance + np.sign(ways) * half for distance in (6, 11, 18, 27, 38)]
        spots = points[number] + np.concatenate(offsets)
        boxes = np.concatenate([spots - half, spots + half], axis=1)
        ends = np.minimum(boxes[:, None, 2:], taken[:, 2:])
        covered = (ends - np.maximum(boxes[:, None, :2], taken[:, :2])).clip(0).prod(axis=2)
        inside = (boxes[:, :2] > [3, 20]) & (boxes[:, 2:] < [size[0] - 3, size[1] - 20])
        cost = covered.sum(axis=1) + 0.6 * np.linalg.norm(spots - points[number], axis=1)
        best = int((cost + 1e4 * ~inside.all(axis=1)).argmin())
        middles[number] = spots[best]
        taken = np.concatenate([taken, boxes[[best]]])
    return middles
