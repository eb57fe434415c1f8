"""Which rows go together: those of like length, so that little is padded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from .arrow import arrow_column

if TYPE_CHECKING:
    from datasets import Dataset

# Rows of like length are sought among this many batches; more would pad less and mix less.
BATCHES_PER_POOL = 50

# Where a batch is bounded by its sub-words, no row is shorter than this share of the longest.
LEAST_FILLED = 0.75
# Up to so many positions it takes any row: a pass of fewer costs about as much by itself.
SMALL_BATCH = 512


def row_lengths(encoded: Dataset) -> list[int]:
    """Return the number of sub-words of every row of an encoded corpus, without reading them."""
    import pyarrow.compute as pc

    lengths: list[int] = pc.list_value_length(arrow_column(encoded, "input_ids")).to_pylist()
    return lengths


def length_grouped(
    lengths: Sequence[int] | NDArray[np.int64],
    batch_size: int,
    generator: torch.Generator,
    tokens: int | None = None,
) -> list[list[int]]:
    """Shuffle rows into batches of rows of about the same length, for training.

    Rows are shuffled, sorted by length within pools of 50 batches, cut into batches, and the
    batches shuffled. Each row comes exactly once; some batches may be smaller.

    Args:
        lengths: of every row.
        batch_size: rows a batch.
        generator: decides the order, alone.
        tokens: in place of a number of rows, at most this many sub-words a batch, padding
            counted; a longer row goes alone.

    Returns:
        Batches of row indices.
    """
    lengths = np.asarray(lengths, np.int64)
    shuffled = torch.randperm(len(lengths), generator=generator).numpy()
    if tokens is None:
        pools = np.arange(len(shuffled)) // (batch_size * BATCHES_PER_POOL)
    else:
        pools = np.cumsum(lengths[shuffled]) // (tokens * BATCHES_PER_POOL)
    bounds = np.flatnonzero(np.diff(pools)) + 1
    batches = [
        pool[batch].tolist()
        for pool in np.split(shuffled, bounds)
        for batch in by_length(lengths[pool], tokens, None if tokens else batch_size)
    ]
    order = torch.randperm(len(batches), generator=generator).tolist()
    return [batches[index] for index in order]


def by_length(
    lengths: Sequence[int] | NDArray[np.int64],
    tokens: int | None,
    batch_size: int | None = None,
) -> list[list[int]]:
    """Put rows into batches by length, longest first.

    The first batch needs the most memory, so what does not fit fails at once.

    Args:
        lengths: of every row.
        tokens: at most this many sub-words a batch, padding counted; a longer row goes alone.
            None for any number.
        batch_size: at most this many rows a batch; None for any number.

    Returns:
        Batches of row indices; rows of equal length stay in order.
    """
    lengths = np.asarray(lengths, np.int64)
    order = np.argsort(-lengths, kind="stable")
    ordered = lengths[order]
    batches: list[list[int]] = []
    start = 0
    while start < len(order):
        longest = int(ordered[start])
        end = start + (batch_size or len(order))
        if tokens is not None:
            end = min(end, start + max(1, tokens // max(1, longest)))
            # Of few rows, far shorter ones would go along and be padded to twice their length.
            alike = int(np.searchsorted(-ordered, -LEAST_FILLED * longest, side="right"))
            end = min(end, max(alike, start + SMALL_BATCH // max(1, longest)))
        batches.append(order[start:end].tolist())
        start = end
    return batches
