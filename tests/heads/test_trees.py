from __future__ import annotations

import itertools

import networkx
import numpy as np
import pytest

from hyperlect.data.readers.trees import read_heads
from hyperlect.heads import best_tree


def total(scores: np.ndarray, heads: list[int]) -> float:
    return float(sum(scores[word, head] for word, head in enumerate(heads)))


def is_tree(heads: list[int]) -> bool:
    return not read_heads([str(head) for head in heads], ["w"] * len(heads))[1]


@pytest.mark.parametrize("size", [1, 2, 3, 4])
@pytest.mark.parametrize("seed", range(5))
def test_no_tree_of_one_root_is_better(size: int, seed: int) -> None:
    scores = np.random.default_rng(seed).normal(size=(size, size + 1))
    scores[:, 0] += 3 * (seed % 2)  # every word would be the root
    trees = filter(is_tree, map(list, itertools.product(range(size + 1), repeat=size)))
    assert best_tree(scores) == max(trees, key=lambda heads: total(scores, heads))


@pytest.mark.parametrize("size", [8, 20, 33])
@pytest.mark.parametrize("seed", range(4))
def test_it_is_the_tree_that_networkx_finds(size: int, seed: int) -> None:
    scores = 10 * np.random.default_rng(seed).normal(size=(size, size + 1))
    graph = networkx.DiGraph()
    for word, head in itertools.product(range(1, size + 1), range(size + 1)):
        if word != head:
            graph.add_edge(head, word, weight=scores[word - 1, head] - 1e4 * (head == 0))
    tree = networkx.maximum_spanning_arborescence(graph)
    expected = {word: head for head, word in tree.edges}
    found = best_tree(scores)
    assert found == [expected[word] for word in range(1, size + 1)]
    assert found.count(0) == 1


def test_what_is_a_tree_already_stays_although_scores_tie() -> None:
    heads = [2, 0, 2, 3]
    scores = np.zeros((4, 5))
    scores[range(4), heads] = 1
    assert best_tree(scores) == heads
    assert is_tree(best_tree(np.zeros((6, 7))))


def test_circles_inside_circles_are_opened() -> None:
    """Every word wants the one before it, and the first any other, so circles grow word by word."""
    size = 40
    scores = np.full((size, size + 1), -100.0)
    for word in range(2, size + 1):
        scores[word - 1, word - 1] = 100
        scores[0, word] = 100 - word
    scores[-1, 0] = 0
    assert best_tree(scores) == [size, *range(1, size - 1), 0]


def test_a_long_sentence_and_one_without_words() -> None:
    scores = np.random.default_rng(1).normal(size=(300, 301))
    assert is_tree(best_tree(scores))
    assert best_tree(np.empty((0, 1))) == []


def test_what_is_no_number_is_no_crash() -> None:
    assert len(best_tree(np.full((3, 4), np.nan))) == 3
