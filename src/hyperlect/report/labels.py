"""Where to write the names of points so that they cover neither points nor each other."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_ANGLES = [0, 180, 90, 270, 45, 135, 225, 315]
_DISTANCES = [6.0, 11.0, 18.0, 27.0, 38.0]
_CHARACTER, _LINE = 6.3, 12.5  # pixels, a little more than an 11.5 pixel sans-serif needs
_POINT = 5.0


@dataclass(frozen=True)
class Spot:
    """The middle of a label, in pixels, and whether it needs a line to its point."""

    x: float
    y: float
    leader: bool


def place_labels(
    points: NDArray[np.float64], texts: Sequence[str], size: tuple[float, float]
) -> list[Spot]:
    """Choose a place for each text, the most crowded points first.

    Each label takes the cheapest of 40 places around its point, where covering what is there
    already costs by area, leaving the canvas is as good as forbidden, and distance costs a little.

    Args:
        points: (N, 2) pixels.
        texts: the N labels.
        size: width and height of the canvas.
    """
    halves = np.array([(len(text) * _CHARACTER / 2, _LINE / 2) for text in texts])
    taken = [np.concatenate([points - _POINT, points + _POINT], axis=1)]
    spots: dict[int, Spot] = {}
    distances = np.linalg.norm(points[:, None] - points[None], axis=-1)
    for index in np.argsort((distances < 40).sum(axis=1))[::-1]:
        best = math.inf
        for spot in _candidates(points[index], halves[index]):
            box = np.array([spot.x, spot.y, spot.x, spot.y])
            box += np.concatenate([-halves[index], halves[index]])
            reach = math.hypot(spot.x - points[index][0], spot.y - points[index][1])
            cost = _overlap(box, np.concatenate(taken)) + 0.6 * reach + _outside(box, size)
            if cost < best:
                best, spots[index], chosen = cost, spot, box
        taken.append(chosen[None])
    return [spots[index] for index in range(len(texts))]


def _candidates(point: NDArray[np.float64], half: NDArray[np.float64]) -> list[Spot]:
    spots = []
    for distance in _DISTANCES:
        for angle in _ANGLES:
            across, down = math.cos(math.radians(angle)), -math.sin(math.radians(angle))
            x = point[0] + across * distance + half[0] * np.sign(round(across, 6))
            y = point[1] + down * distance + half[1] * np.sign(round(down, 6))
            spots.append(Spot(float(x), float(y), distance > 11))
    return spots


def _overlap(box: NDArray[np.float64], others: NDArray[np.float64]) -> float:
    """The area, in square pixels, that `box` shares with all `others` (N, 4)."""
    width = np.minimum(box[2], others[:, 2]) - np.maximum(box[0], others[:, 0])
    height = np.minimum(box[3], others[:, 3]) - np.maximum(box[1], others[:, 1])
    return float((np.clip(width, 0, None) * np.clip(height, 0, None)).sum())


def _outside(box: NDArray[np.float64], size: tuple[float, float]) -> float:
    inside = box[0] >= 3 and box[1] >= 18 and box[2] <= size[0] - 3 and box[3] <= size[1] - 20
    return 0.0 if inside else 1e4
