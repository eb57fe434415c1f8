"""The paired bootstrap, against what is known of it."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from hyperlect.report.bootstrap import difference


def counts(right: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.stack([right, np.ones_like(right)])


def sample(seed: int, chance: float, examples: int) -> NDArray[np.int64]:
    return (np.random.default_rng(seed).random(examples) < chance).astype(np.int64)


def test_the_interval_is_that_of_the_normal_approximation() -> None:
    a, b = sample(1, 0.8, 400), sample(2, 0.6, 400)
    found = difference([([[counts(a)]], [[counts(b)]])], draws=4000)
    assert found.mean == pytest.approx(100 * (a - b).mean())
    error = 100 * (a - b).std() / 400**0.5
    assert found.low == pytest.approx(found.mean - 1.96 * error, abs=0.15 * error)
    assert found.high == pytest.approx(found.mean + 1.96 * error, abs=0.15 * error)
    assert found.significant


def test_equal_systems_do_not_differ() -> None:
    a = sample(1, 0.5, 50)
    found = difference([([[counts(a)]], [[counts(a)]])])
    assert (found.mean, found.low, found.high, found.p) == (0, 0, 0, 1)


def test_pairing_matters() -> None:
    """Always better in the same tenth of the examples: hardly chance, as unpaired it would be."""
    a = np.tile([1, 0], 50)
    b = a.copy()
    b[:20:2] = 0
    paired = difference([([[counts(a)]], [[counts(b)]])])
    shuffled = difference([([[counts(a)]], [[counts(np.random.default_rng(0).permutation(b))]])])
    assert paired.significant
    assert not shuffled.significant


def test_seeds_are_drawn_too() -> None:
    """Two seeds that differ by much make the interval wide."""
    low, high = counts(np.array([0] * 90 + [1] * 10)), counts(np.array([0] * 10 + [1] * 90))
    base = counts(np.array([0, 1] * 50))
    steady = difference([([[base, base]], [[base, base]])])
    unsteady = difference([([[low, high]], [[base, base]])])
    assert steady.high - steady.low == 0
    assert unsteady.high - unsteady.low > 60


def test_f1_comes_from_sums_and_tasks_weigh_alike() -> None:
    spans = np.array([[2, 0, 4], [2, 3, 5]])  # 2 tp over gold + predicted
    none = np.array([[0, 0, 0], [2, 3, 5]])
    words = counts(np.array([1, 1, 0, 0]))
    found = difference([([[spans]], [[none]]), ([[words]] * 2, [[words]] * 2)])
    assert found.mean == pytest.approx(100 * 6 / 10 / 2)
