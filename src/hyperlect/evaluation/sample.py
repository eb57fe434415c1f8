"""Scoring a part of large data: examples spread evenly over it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from datasets import Dataset


def spread(encoded: Dataset, examples: int | None) -> Dataset:
    """Keep at most so many examples, evenly spread from first to last, with all their rows.

    Evenly, since files begin with one document or even one class; and not at random, so that
    every run is scored on the same ones.

    Args:
        encoded: the encoded rows of a cell.
        examples: how many; None for all.
    """
    if examples is None:
        return encoded
    owners = np.asarray(encoded["example"])
    there = np.unique(owners)
    if len(there) <= examples:
        return encoded
    chosen = there[np.arange(examples) * len(there) // examples]
    return encoded.select(np.flatnonzero(np.isin(owners, chosen)))
