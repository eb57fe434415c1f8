"""The best dependency tree: maximum spanning arborescences.

`networkx` has them too and is the twin in the tests, but it takes half a minute for 200 words where
this takes milliseconds. Why none is borrowed: `ufal.chu_liu_edmonds` is under the GPL, `rustworkx`
has undirected trees alone, `torch-struct` and `supar` date from 2021, and that of `stanza`, a whole
toolkit, takes ten times as long (126 ms where this takes 13, for 250 words).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Scores = NDArray[np.float64]
Indices = NDArray[np.int64]


def best_tree(scores: Scores) -> list[int]:
    """Find the tree of the highest sum of scores in which exactly one word hangs on the root.

    The algorithm is that of Chu and Liu (1965) and Edmonds (1967). That there is one root is had
    by taking the same large amount off the score of every word as the root: a tree of two roots
    then never beats one of a single root, and those keep their order.

    Args:
        scores: (words, words + 1), finite; of each word (row) with every head, the root (0) and
            the words from 1. What a word scores with itself is not looked at.

    Returns:
        The head of each word, counted from 1; 0 for the root.
    """
    words = len(scores)
    if not words:
        return []
    table = np.full((words + 1, words + 1), -np.inf)
    table[1:] = scores
    np.fill_diagonal(table, -np.inf)
    finite = table[np.isfinite(table)]
    table[1:, 0] -= 1 + words * (np.ptp(finite) if len(finite) else 0)
    levels: list[_Level] = []
    while True:
        heads = table.argmax(axis=1)
        heads[0] = 0
        circle = _find_circle(heads)
        if circle is None:
            break
        table, level = _contract(table, heads, circle)
        levels.append(level)
    for level in reversed(levels):
        heads = level.expand(heads)
    found: list[int] = heads[1:].tolist()
    return found


@dataclass(frozen=True)
class _Level:
    """What is needed to open a contracted circle again.

    Attributes:
        circle, others: the nodes inside and outside; outside, they are numbered anew in order,
            and the circle is the last node.
        inner: the head of each node of the circle in it.
        entered: for each other node as the head of the circle, the place in the circle where it
            enters.
        left: for each other node with its head in the circle, the place of that head.
    """

    circle: Indices
    others: Indices
    inner: Indices
    entered: Indices
    left: Indices

    def expand(self, heads: Indices) -> Indices:
        """Turn heads of the contracted graph into heads of the one before."""
        last = len(self.others)
        opened = np.empty(last + len(self.circle), np.int64)
        outside = heads[:last]
        opened[self.others] = np.where(
            outside == last, self.circle[self.left], self.others[np.minimum(outside, last - 1)]
        )
        opened[self.circle] = self.inner
        entry = heads[last]
        opened[self.circle[self.entered[entry]]] = self.others[entry]
        return opened


def _find_circle(heads: Indices) -> Indices | None:
    """Find nodes that head each other in a circle; the root, node 0, heads itself."""
    seen = np.zeros(len(heads), np.int64)  # the way up on which a node was first met
    for start in range(1, len(heads)):
        node = start
        while node and not seen[node]:
            seen[node] = start
            node = heads[node]
        if node and seen[node] == start:
            circle = [node]
            while (head := heads[circle[-1]]) != node:
                circle.append(head)
            return np.array(circle)
    return None


def _contract(table: Scores, heads: Indices, circle: Indices) -> tuple[Scores, _Level]:
    """Make one node of a circle.

    To enter it at a node costs the score of the edge that this node has inside.
    """
    inside = np.zeros(len(table), bool)
    inside[circle] = True
    others = np.flatnonzero(~inside)
    inner = heads[circle]
    entering = table[np.ix_(circle, others)] - table[circle, inner][:, None]
    leaving = table[np.ix_(others, circle)]
    smaller = np.full((len(others) + 1, len(others) + 1), -np.inf)
    smaller[:-1, :-1] = table[np.ix_(others, others)]
    smaller[-1, :-1] = entering.max(axis=0)
    smaller[:-1, -1] = leaving.max(axis=1)
    level = _Level(circle, others, inner, entering.argmax(axis=0), leaving.argmax(axis=1))
    return smaller, level
