"""Paired bootstrap: may the difference of two systems be chance?

Examples are drawn with replacement within each cell, the same for both systems, and seeds too
(Efron and Tibshirani 1993, chapter 16; Koehn 2004; for several seeds, Dror et al. 2018, section 6).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .systems import Counts

DRAWS = 2000
LEVEL = 0.05
SEED = 20221207


@dataclass(frozen=True)
class Difference:
    """How a system differs from the one it is compared with, in points.

    Attributes:
        mean: the difference of their scores.
        low, high: the middle 95 % of the differences in the draws.
        p: twice the share of draws in which the difference is zero or has the other sign.
    """

    mean: float
    low: float
    high: float
    p: float

    @property
    def significant(self) -> bool:
        """Whether it is hardly chance, at a level of 5 %."""
        return self.p < LEVEL


Sample = tuple[list[list[Counts]], list[list[Counts]]]
"""Of two systems: cells, of each the counts of every seed, (2, examples)."""


def difference(tasks: Sequence[Sample], draws: int = DRAWS) -> Difference:
    """Compare two systems.

    Args:
        tasks: for each task the counts of both systems in the same cells, the same seeds and
            examples. A task's score is the mean over its cells, the whole that over tasks.
        draws: how many times.
    """
    generator = np.random.default_rng(SEED)
    observed, drawn = [], []
    seeds = len(tasks[0][0][0])
    weights = _weights(generator, draws, seeds) / seeds
    for first, second in tasks:
        pairs = list(zip(first, second, strict=True))
        observed.append(np.mean([_mean(a) - _mean(b) for a, b in pairs]))
        found = np.zeros(draws)
        for a, b in pairs:
            examples = _weights(generator, draws, a[0].shape[1])
            for counts, sign in ((a, 1), (b, -1)):
                scores = np.stack([_scores(own, examples) for own in counts], axis=1)
                found += sign * (weights * scores).sum(axis=1)
        drawn.append(found / len(pairs))
    mean, all_drawn = float(np.mean(observed)), np.mean(drawn, axis=0)
    low, high = np.percentile(all_drawn, [100 * LEVEL / 2, 100 * (1 - LEVEL / 2)])
    beyond = min(np.mean(all_drawn <= 0), np.mean(all_drawn >= 0))
    return Difference(mean, float(low), float(high), float(min(1.0, 2 * beyond)))


def _weights(generator: np.random.Generator, draws: int, items: int) -> NDArray[np.float64]:
    """How often each item is drawn, (draws, items)."""
    return generator.multinomial(items, np.full(items, 1 / items), size=draws).astype(np.float64)


def _scores(counts: Counts, weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """The score of one cell in each draw, in percent; 0 where there is nothing to divide by."""
    right, of = weights @ counts[0], weights @ counts[1]
    scores: NDArray[np.float64] = np.divide(right, of, out=np.zeros_like(right), where=of > 0)
    return 100 * scores


def _mean(counts: Sequence[Counts]) -> float:
    return float(np.mean([_scores(own, np.ones((1, own.shape[1])))[0] for own in counts]))
