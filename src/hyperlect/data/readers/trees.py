"""Dependency trees: from the heads in the data to checked ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

Fault = tuple[int, str]
"""The word that a fault is about, counted from 1, and what is wrong with it."""


def read_heads(heads: Sequence[str], words: Sequence[str]) -> tuple[tuple[int, ...], list[Fault]]:
    """Read the heads of one sentence, and see whether they make a tree.

    Every word has one head: a word of the sentence, counted from 1, or 0. Exactly one word has
    the head 0, the root, and from every word the way up ends there.

    Args:
        heads: one a word, as they stand in the data; or none at all.
        words: the words, to name them.

    Returns:
        The heads as numbers (those that are none as -1), and every fault: no number, none of the
        words, circles, no root, several roots.
    """
    numbers = tuple(int(head) if head.isascii() and head.isdigit() else -1 for head in heads)
    faults: list[Fault] = []
    for word, (text, number) in enumerate(zip(heads, numbers, strict=True), start=1):
        name = f'word {word} ("{words[word - 1]}")'
        if text in ("", "_"):
            faults.append((word, f"{name} has no head"))
        elif number < 0:
            faults.append((word, f'the head of {name} is "{text}", which is no number from 0'))
        elif number > len(heads):
            end = f"the sentence ends with word {len(heads)}"
            faults.append((word, f"{name} has the head {number}, and {end}"))
    for circle in _circles(numbers):
        faults.append((circle[0], _about_circle(circle)))
    roots = [word for word, number in enumerate(numbers, start=1) if number == 0]
    if len(roots) > 1:
        faults.append((roots[1], f"words {_listed(roots)} have the head 0; a tree has one root"))
    elif numbers and not roots and -1 not in numbers:
        faults.append((1, "no word has the head 0: the tree has no root"))
    return numbers, faults


def _circles(heads: Sequence[int]) -> Iterator[list[int]]:
    """Find the words (from 1) that head each other in a circle; heads that are no word's end it."""
    seen: dict[int, int] = {}  # word → the way up on which it was first met
    for start in range(1, len(heads) + 1):
        word = start
        while 0 < word <= len(heads) and word not in seen:
            seen[word] = start
            word = heads[word - 1]
        if seen.get(word) == start:
            circle = [word]
            while (head := heads[circle[-1] - 1]) != word:
                circle.append(head)
            yield sorted(circle)


def _about_circle(circle: Sequence[int]) -> str:
    if len(circle) == 1:
        return f"word {circle[0]} is its own head"
    return f"words {_listed(circle)} head each other in a circle"


def _listed(words: Sequence[int]) -> str:
    *most, last = words
    return f"{', '.join(map(str, most))} and {last}"
