"""Drawing a few examples of a corpus, the same ones wherever and whenever it is done."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datasets import Dataset


def draw(examples: Dataset, count: int, name: str) -> Dataset:
    """Draw some examples at random, without replacement.

    Every name puts the examples into a random order of its own, of which the first are taken; so
    the first ten hold the first five. The order is that of hashes, which no version of a library
    and no seed changes.

    Args:
        examples: rows as `corpus.read_corpus` gives them.
        count: how many; at most as many as there are.
        name: of the draw.
    """
    from datasets import Dataset

    def place(index: int) -> bytes:
        return hashlib.blake2b(f"{name}: {index}".encode()).digest()

    chosen = sorted(range(len(examples)), key=place)[:count]
    return Dataset.from_dict(examples[chosen], features=examples.features)
