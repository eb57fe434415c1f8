from __future__ import annotations

import itertools

import networkx
import pytest

from hyperlect.data.readers.trees import read_heads


def said(heads: str) -> list[tuple[int, str]]:
    found = heads.split()
    return read_heads(found, [f"w{i + 1}" for i in range(len(found))])[1]


def test_a_tree_is_read() -> None:
    assert read_heads(["2", "0", "2"], ["a", "b", "c"]) == ((2, 0, 2), [])
    assert read_heads([], ["no", "heads"]) == ((), [])


@pytest.mark.parametrize(
    ("heads", "expected"),
    [
        ("2 _", [(2, 'word 2 ("w2") has no head')]),
        ("0 -1", [(2, 'the head of word 2 ("w2") is "-1", which is no number from 0')]),
        ("0 1.0", [(2, 'the head of word 2 ("w2") is "1.0", which is no number from 0')]),
        ("0 ١", [(2, 'the head of word 2 ("w2") is "١", which is no number from 0')]),
        ("0 3", [(2, 'word 2 ("w2") has the head 3, and the sentence ends with word 2')]),
        ("0 2", [(2, "word 2 is its own head")]),
        ("0 3 4 2", [(2, "words 2, 3 and 4 head each other in a circle")]),
        ("0 1 0 0", [(3, "words 1, 3 and 4 have the head 0; a tree has one root")]),
        ("9", [(1, 'word 1 ("w1") has the head 9, and the sentence ends with word 1'),
               (1, "no word has the head 0: the tree has no root")]),
        ("2 1 0 3 3 7 6", [(1, "words 1 and 2 head each other in a circle"),
                           (6, "words 6 and 7 head each other in a circle")]),
        ("4 1 0 1", [(1, "words 1 and 4 head each other in a circle")]),
    ],
)  # fmt: skip
def test_all_that_is_no_tree_is_named(heads: str, expected: list[tuple[int, str]]) -> None:
    assert said(heads) == expected


@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_trees_of_one_root_have_no_fault_and_nothing_else_is_one(size: int) -> None:
    for heads in itertools.product(range(size + 1), repeat=size):
        graph = networkx.DiGraph((head, word) for word, head in enumerate(heads, start=1))
        graph.add_nodes_from(range(size + 1))
        tree = networkx.is_arborescence(graph) and heads.count(0) == 1
        assert tree == (not said(" ".join(map(str, heads)))), heads
