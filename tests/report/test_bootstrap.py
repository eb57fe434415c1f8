"""The test of differences, against what is known of it."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from hyperlect.report.compare import DRAWS, Difference, difference, resample

Right = NDArray[np.int64]
"""Which examples a system has right with each seed, (seeds, examples)."""


def compare(*pairs: tuple[Right, Right]) -> list[Difference | None]:
    """Compare pairs of systems that were scored on the same examples of one cell."""
    right = np.concatenate([system for pair in pairs for system in pair])
    scores = resample(np.stack([right, np.ones_like(right)], axis=1), 0)
    systems = scores.reshape(2 * len(pairs), -1, scores.shape[1])
    return [difference(systems[n] - systems[n + 1]) for n in range(0, len(systems), 2)]


def sample(seed: int, chance: float, examples: int) -> NDArray[np.int64]:
    return (np.random.default_rng(seed).random(examples) < chance).astype(np.int64)


def equal_systems(
    generator: np.random.Generator, seeds: int, by_seed: float, by_example: float
) -> tuple[Right, Right]:
    """Draw two systems that are equal but for chance.

    `by_seed` and `by_example` say how much the log-odds of seeds and examples differ.
    """
    difficulty = generator.normal(0.5, 1.5, size=80)
    right = []
    for _ in range(2):
        odds = difficulty + generator.normal(0, by_example, size=80)
        odds = odds + generator.normal(0, by_seed, size=(seeds, 1))
        right.append((generator.random(odds.shape) < 1 / (1 + np.exp(-odds))).astype(np.int64))
    return right[0], right[1]


@pytest.mark.parametrize("seeds", [3, 5])
@pytest.mark.parametrize(("by_seed", "by_example"), [(0, 0), (0, 1), (0.3, 0.5), (1, 0)])
def test_equal_systems_are_marked_in_about_one_case_of_twenty(
    seeds: int, by_seed: float, by_example: float
) -> None:
    """Whether examples or seeds differ more. Of 400 cases 20 are expected."""
    generator = np.random.default_rng(seeds)
    cases = [equal_systems(generator, seeds, by_seed, by_example) for _ in range(400)]
    results = [result for result in compare(*cases) if result is not None]
    assert len(results) == 400
    assert 4 <= sum(result.significant for result in results) <= 30


def test_a_true_difference_is_seen() -> None:
    generator = np.random.default_rng(1)
    first, second = equal_systems(generator, 3, 0.05, 0.2)
    worse = second * (generator.random(second.shape) < 0.5)
    (result,) = compare((first, worse))
    assert result is not None
    assert result.significant
    assert result.low > 0


@pytest.mark.parametrize("seeds", [1, 2])
def test_below_three_seeds_nothing_is_tested(seeds: int) -> None:
    pair = np.ones((seeds, 40), np.int64), np.zeros((seeds, 40), np.int64)
    assert compare(pair) == [None]


def test_p_is_never_zero() -> None:
    (result,) = compare((np.ones((3, 40), np.int64), np.zeros((3, 40), np.int64)))
    assert result is not None
    assert (result.mean, result.p) == (100, 1 / (1 + DRAWS))


def test_the_same_scores_do_not_differ() -> None:
    right = np.tile(sample(1, 0.5, 50), (3, 1))
    (result,) = compare((right, right))
    assert result is not None
    assert (result.mean, result.low, result.high, result.p) == (0, 0, 0, 1)


def test_without_a_spread_of_seeds_the_interval_is_that_of_the_examples() -> None:
    """That of the normal approximation."""
    a, b = sample(1, 0.8, 400), sample(2, 0.6, 400)
    (result,) = compare((np.tile(a, (3, 1)), np.tile(b, (3, 1))))
    assert result is not None
    assert result.mean == pytest.approx(100 * (a - b).mean())
    error = 100 * (a - b).std() / 400**0.5
    assert result.low == pytest.approx(result.mean - 1.96 * error, abs=0.15 * error)
    assert result.high == pytest.approx(result.mean + 1.96 * error, abs=0.15 * error)


def test_without_a_spread_of_examples_the_interval_is_that_of_student() -> None:
    """Each example counts for the same seed alone, so only seeds are drawn from a population."""
    differences = np.repeat([[1.0], [2.0], [4.5]], 1 + DRAWS, axis=1)
    result = difference(differences)
    assert result is not None
    assert result.mean == 2.5
    half = 4.303 * np.std([1, 2, 4.5], ddof=1) / 3**0.5  # t of two degrees of freedom at 97.5 %
    assert result.high - result.mean == pytest.approx(half, rel=0.15)
    assert result.mean - result.low == pytest.approx(half, rel=0.15)


def test_pairing_matters() -> None:
    """Always better in the same tenth of the examples: hardly chance, as unpaired it would be."""
    a = np.tile([1, 0], 50)
    b = a.copy()
    b[:20:2] = 0
    shuffled = np.random.default_rng(0).permutation(b)
    pairs = [(np.tile(a, (3, 1)), np.tile(other, (3, 1))) for other in (b, shuffled)]
    paired, unpaired = compare(*pairs)
    assert paired is not None
    assert unpaired is not None
    assert paired.significant
    assert not unpaired.significant


def test_f1_comes_from_sums() -> None:
    spans = np.array([[[2, 0, 4], [2, 3, 5]]])  # 2 tp over gold + predicted
    scores = resample(spans, 0)
    assert scores[0, 0] == pytest.approx(60)
    assert scores.shape == (1, 1 + DRAWS)
    drawn = {round(score, 6) for score in scores[0, 1:]}
    assert {100.0, 0.0, round(100 * 4 / 7, 6)} <= drawn  # the first alone, the second, two and one


def test_the_draws_depend_on_the_cell_alone() -> None:
    counts = np.stack([sample(1, 0.5, 30), np.ones(30, np.int64)])[None]
    assert np.array_equal(resample(counts, 3), resample(counts, 3))
    assert not np.array_equal(resample(counts, 3), resample(counts, 4))
