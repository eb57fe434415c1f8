from __future__ import annotations

import random
from itertools import combinations, pairwise

import pytest

from hyperlect.data.windows import balanced_windows, cut


def test_what_fits_is_one_window():
    assert balanced_windows([3, 4], 7) == [range(2)]
    assert balanced_windows([], 7) == []


def test_windows_are_even():
    assert [len(w) for w in balanced_windows([1] * 10, 8)] == [5, 5]
    assert [len(w) for w in balanced_windows([1] * 21, 10)] == [7, 7, 7]


@pytest.mark.parametrize("seed", range(20))
def test_fewest_windows_and_smallest_greatest_one(seed: int):
    chance = random.Random(seed)
    lengths = [chance.randint(1, 5) for _ in range(9)]
    found = balanced_windows(lengths, 8)
    assert [index for window in found for index in window] == list(range(9))

    def sums(bounds: tuple[int, ...]) -> list[int]:
        edges = (0, *bounds, 9)
        return [sum(lengths[a:b]) for a, b in pairwise(edges)]

    for parts in range(9):
        fitting = [s for c in combinations(range(1, 9), parts) if max(s := sums(c)) <= 8]
        if fitting:
            break
    assert len(found) == parts + 1
    assert max(sum(lengths[i] for i in window) for window in found) == min(map(max, fitting))


def test_cut():
    assert list(cut([3, 10, 4], 4)) == [3, 4, 4, 2, 4]
