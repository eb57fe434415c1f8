"""Batches: rows of any cells padded into tensors."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..grid import Cell
from ..tasks import Task, TaskType
from .masking import mask_tokens
from .rows import NO_WORD, each_window

if TYPE_CHECKING:
    from datasets import Dataset


Drawn = tuple[Cell, int]
"""A row: its cell, and its index among the encoded rows of that cell."""


@dataclass
class Batch:
    """Rows of any cells, padded to the longest of them.

    Attributes:
        cells: the cell of every row.
        input_ids, attention_mask: (B, T), int64.
        positions: (B, T), boolean, where a tagger or the head of `mlm` reads; nowhere in the rows
            of other tasks.
        labels: by task, (N,), int64, over the task's rows in order: one a true position, one a
            word for parsing, or one a row for sentence-level tasks. Empty if the rows are
            unlabelled.
        token_type_ids: (B, T), int64, if the tokenizer makes them.
        rows: the index of each row among the encoded ones. The windows of a long sentence to parse
            are rows that follow each other, with the same index.
        tokens: how many sub-words the rows have.
        drawn: by task, how many rows there are, all windows of a sentence being one; by default,
            that each row is one.
        words: (B, T), int64, which word of its sentence each sub-word belongs to, as in
            `heads.ParserHead.forward`; None where nothing is parsed.
        heads: by task, (N,), int64: the head of each word, for parsing.
        weight: what the batch's loss counts for in the mean over processes, that each row may weigh
            the same; 1 where a process is alone.
    """

    cells: list[Cell]
    input_ids: Tensor
    attention_mask: Tensor
    positions: Tensor
    labels: dict[str, Tensor] = field(default_factory=dict)
    token_type_ids: Tensor | None = None
    rows: list[int] = field(default_factory=list)
    tokens: int = 0
    drawn: dict[str, int] = field(default_factory=dict)
    words: Tensor | None = None
    heads: dict[str, Tensor] = field(default_factory=dict)
    weight: float = 1.0

    def __post_init__(self) -> None:
        self.tokens = self.tokens or int(self.attention_mask.sum())
        self.drawn = self.drawn or dict(Counter(self.tasks))

    @property
    def tasks(self) -> list[str]:
        """The task of every row."""
        return [cell.task for cell in self.cells]

    @property
    def languages(self) -> list[str]:
        """The language of every row."""
        return [cell.language for cell in self.cells]

    def to(self, device: torch.device | str) -> Batch:
        """Return the batch with its tensors on a device."""
        return self._apply(lambda tensor: tensor.to(device, non_blocking=True))

    def pin(self) -> Batch:
        """Return the batch in pinned memory, from which a GPU fetches without waiting."""
        return self._apply(Tensor.pin_memory)

    def _apply(self, function: Callable[[Tensor], Tensor]) -> Batch:
        moved: dict[str, Any] = {
            name: function(value) for name, value in vars(self).items() if isinstance(value, Tensor)
        }
        for name in ("labels", "heads"):
            by_task: dict[str, Tensor] = getattr(self, name)
            moved[name] = {task: function(value) for task, value in by_task.items()}
        return replace(self, **moved)


def collate(
    rows: Sequence[Mapping[str, Any]],
    cells: Sequence[Cell],
    tasks: Mapping[str, Task],
    tokenizer: Any,
    generator: torch.Generator | None = None,
    indices: Sequence[int] | None = None,
) -> Batch:
    """Make a batch of encoded rows; for masked language modelling, hide some sub-words.

    Args:
        rows: as `encoding.encode` and `encoding.encode_inputs` give them.
        cells: the cell of each.
        tasks: the tasks by name.
        tokenizer: the one that encoded them.
        generator: source of chance for the masks.
        indices: the index of each row, for `Batch.rows`; 0, 1, … if None.
    """
    indices = range(len(rows)) if indices is None else indices
    drawn = dict(Counter(cell.task for cell in cells))
    rows, cells, indices = each_window(rows, cells, indices)
    input_ids = _padded([row["input_ids"] for row in rows], tokenizer.pad_token_id)
    lengths = torch.tensor([len(row["input_ids"]) for row in rows])
    attention_mask = (torch.arange(input_ids.shape[1]) < lengths[:, None]).long()
    types = [tasks[cell.task].type for cell in cells]
    read = [
        row.get("positions", ()) if task_type.reads_words else ()
        for row, task_type in zip(rows, types, strict=True)
    ]
    batch = Batch(
        cells, input_ids, attention_mask, _marked(read, input_ids), rows=indices, drawn=drawn
    )
    if "token_type_ids" in rows[0]:
        batch.token_type_ids = _padded([row["token_type_ids"] for row in rows], 0)
    if TaskType.PARSING in types:
        batch.words = torch.full_like(input_ids, NO_WORD)
        for number, row in enumerate(rows):
            if "words" in row:
                batch.words[number, : len(row["words"])] = torch.tensor(row["words"])
    text = [index for index, task_type in enumerate(types) if task_type is TaskType.MLM]
    if text:
        batch.input_ids = input_ids.clone()
        batch.input_ids[text], batch.positions[text] = mask_tokens(
            input_ids[text], attention_mask[text], tokenizer, generator
        )
    for task in dict.fromkeys(batch.tasks):
        own = [index for index, cell in enumerate(cells) if cell.task == task]
        if tasks[task].type is TaskType.MLM:
            batch.labels[task] = input_ids[own][batch.positions[own]]
        elif labels := [label for index in own for label in rows[index]["labels"]]:
            batch.labels[task] = torch.tensor(labels)
            if tasks[task].type is TaskType.PARSING:
                batch.heads[task] = torch.tensor([h for i in own for h in rows[i]["heads"]])
    return batch


def make_batch(
    encoded: Mapping[Cell, Dataset],
    drawn: Sequence[Drawn],
    tasks: Mapping[str, Task],
    tokenizer: Any,
    generator: torch.Generator | None = None,
) -> Batch:
    """Make the batch of some rows of encoded corpora; see `collate`."""
    wanted: dict[Cell, list[int]] = {}
    for cell, index in drawn:
        wanted.setdefault(cell, []).append(index)
    found: dict[Drawn, dict[str, Any]] = {}
    for cell, indices in wanted.items():
        columns = encoded[cell][indices]
        for index, *values in zip(indices, *columns.values(), strict=True):
            found[cell, index] = dict(zip(columns, values, strict=True))
    rows = [found[row] for row in drawn]
    cells = [cell for cell, _ in drawn]
    return collate(rows, cells, tasks, tokenizer, generator, [index for _, index in drawn])


def _padded(sequences: Sequence[Sequence[int]], value: int) -> Tensor:
    """Pad to the longest, (B, T), int64."""
    width = max(map(len, sequences))
    return torch.tensor([[*row, *[value] * (width - len(row))] for row in sequences])


def _marked(places: Sequence[Sequence[int]], like: Tensor) -> Tensor:
    """Mark some places of every row, boolean, in the shape of `like`."""
    width = like.shape[1]
    every = [row * width + place for row, where in enumerate(places) for place in where]
    marks = torch.zeros(like.shape, dtype=torch.bool)
    marks.view(-1)[torch.tensor(every, dtype=torch.int64)] = True
    return marks
