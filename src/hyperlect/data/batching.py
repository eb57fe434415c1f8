"""Batches: rows of one cell padded into tensors, and which rows go together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..tasks import Task, TaskType
from .masking import mask_tokens

if TYPE_CHECKING:
    from datasets import Dataset

# Rows of like length are sought among this many batches; more would pad less and mix less.
BATCHES_PER_POOL = 50


@dataclass
class Batch:
    """Rows of one cell, padded to the longest of them.

    Attributes:
        task, language: the cell.
        input_ids, attention_mask: (B, T), int64.
        token_type_ids: (B, T), int64, if the tokenizer makes them.
        positions: (B, T), boolean, where a word-level head or the one of `mlm` reads; None for
            sentence-level tasks.
        labels: (N,), int64: one a true position in row-major order, or one a row; None if the
            rows are unlabelled.
        rows: the index of each row among the encoded ones.
    """

    task: str
    language: str
    input_ids: Tensor
    attention_mask: Tensor
    token_type_ids: Tensor | None = None
    positions: Tensor | None = None
    labels: Tensor | None = None
    rows: list[int] = field(default_factory=list)

    def to(self, device: torch.device | str) -> Batch:
        """Return the batch with its tensors on a device."""
        moved: dict[str, Any] = {
            name: value.to(device, non_blocking=True)
            for name, value in vars(self).items()
            if isinstance(value, Tensor)
        }
        return replace(self, **moved)


def collate(
    rows: Sequence[Mapping[str, Any]],
    task: Task,
    tokenizer: Any,
    language: str,
    generator: torch.Generator | None = None,
    indices: Sequence[int] | None = None,
) -> Batch:
    """Make a batch of encoded rows; for masked language modelling, hide some sub-words.

    Args:
        rows: as `encoding.encode` and `encoding.encode_inputs` give them.
        task, language: their cell.
        tokenizer: the one that encoded them.
        generator: source of chance for the masks.
        indices: the index of each row, for `Batch.rows`; 0, 1, … if None.
    """
    input_ids = _padded([row["input_ids"] for row in rows], tokenizer.pad_token_id)
    attention_mask = _marked([range(len(row["input_ids"])) for row in rows], input_ids).long()
    batch = Batch(task.name, language, input_ids, attention_mask)
    batch.rows = list(range(len(rows)) if indices is None else indices)
    if "token_type_ids" in rows[0]:
        batch.token_type_ids = _padded([row["token_type_ids"] for row in rows], 0)
    if task.type is TaskType.MLM:
        batch.input_ids, batch.positions = mask_tokens(
            input_ids, attention_mask, tokenizer, generator
        )
        batch.labels = input_ids[batch.positions]
        return batch
    if task.type.reads_words:
        batch.positions = _marked([row["positions"] for row in rows], input_ids)
    labels = [label for row in rows for label in row["labels"]]
    batch.labels = torch.tensor(labels) if labels else None
    return batch


def make_batch(
    encoded: Dataset,
    indices: Sequence[int],
    task: Task,
    tokenizer: Any,
    language: str,
    generator: torch.Generator | None = None,
) -> Batch:
    """Make the batch of some rows of an encoded corpus; see `collate`."""
    columns = encoded[list(indices)]
    rows = [
        dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)
    ]
    return collate(rows, task, tokenizer, language, generator, indices)


def row_lengths(encoded: Dataset) -> list[int]:
    """Return the number of sub-words of every row of an encoded corpus, without reading them."""
    import pyarrow.compute as pc

    table: Any = encoded.select_columns("input_ids").with_format("arrow")[:]
    lengths: list[int] = pc.list_value_length(table["input_ids"]).to_pylist()
    return lengths


def length_grouped(
    lengths: Sequence[int] | NDArray[np.int64], batch_size: int, generator: torch.Generator
) -> list[list[int]]:
    """Shuffle rows into batches of rows of about the same length, for training.

    Rows are shuffled, sorted by length within pools of 50 batches, cut into batches, and the
    batches shuffled. Each row comes exactly once; one batch may be smaller.

    Args:
        lengths: of every row.
        batch_size: rows a batch.
        generator: decides the order, alone.

    Returns:
        Batches of row indices.
    """
    shuffled = torch.randperm(len(lengths), generator=generator).numpy()
    pool = np.arange(len(shuffled)) // (batch_size * BATCHES_PER_POOL)
    grouped = shuffled[np.lexsort((np.asarray(lengths)[shuffled], pool))]
    starts = range(0, len(grouped), batch_size)
    batches = [grouped[start : start + batch_size].tolist() for start in starts]
    order = torch.randperm(len(batches), generator=generator).tolist()
    return [batches[index] for index in order]


def by_length(
    lengths: Sequence[int], tokens: int, batch_size: int | None = None
) -> list[list[int]]:
    """Put rows into batches by length, longest first, for evaluation.

    The first batch needs the most memory, so what does not fit fails at once.

    Args:
        lengths: of every row.
        tokens: at most this many sub-words a batch, padding counted; a longer row goes alone.
        batch_size: at most this many rows a batch.

    Returns:
        Batches of row indices; rows of equal length stay in order.
    """
    order = np.argsort(-np.asarray(lengths, np.int64), kind="stable").tolist()
    batches: list[list[int]] = []
    start = 0
    while start < len(order):
        fitting = max(1, tokens // max(1, lengths[order[start]]))
        end = start + min(fitting, batch_size or fitting)
        batches.append(order[start:end])
        start = end
    return batches


def _padded(sequences: Sequence[Sequence[int]], value: int) -> Tensor:
    """Pad to the longest, (B, T), int64."""
    width = max(map(len, sequences))
    return torch.tensor([[*row, *[value] * (width - len(row))] for row in sequences])


def _marked(places: Sequence[Sequence[int]], like: Tensor) -> Tensor:
    """Mark some places of every row, boolean, in the shape of `like`."""
    marks = torch.zeros(like.shape, dtype=torch.bool)
    for row, where in enumerate(places):
        marks[row, list(where)] = True
    return marks
