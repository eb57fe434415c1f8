"""Batches: rows of any cells padded into tensors, with what each head reads and learns from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor

from ..grid import Cell
from ..tasks import Task, TaskType
from .encoding import NO_WORD, ROOT_WORD, each_window

if TYPE_CHECKING:
    from datasets import Dataset

Drawn = tuple[Cell, int]
"""A row: its cell, and its index among the encoded rows of that cell."""
MASK_RATE = 0.15
MASKED, RANDOM = 0.8, 0.1  # of the chosen positions; the rest keep their sub-word


@dataclass(frozen=True)
class WordIndex:
    """Which sub-words make up the words of S sentences, the longest of which has W words.

    Attributes:
        subwords: (M,), int64, a gather index into the B·T sub-words of a batch: those of words,
            and the token that stands for the root.
        slots: (M,), int64, the word of each, counted over S sentences of W + 1 words; a sentence's
            word 0 is its root.
        sizes: (S, W + 1), int64, the number of sub-words of each word; 0 is padding.
        lengths: the number of words of each sentence.
    """

    subwords: Tensor
    slots: Tensor
    sizes: Tensor
    lengths: tuple[int, ...]

    @classmethod
    def of(cls, words: Tensor, rows: Tensor | None = None) -> WordIndex:
        """Read the words of a batch.

        Args:
            words: (R, T), int64: the word of its sentence that each sub-word belongs to, from 1; 0
                is the root, and -1 belongs to no word. A row without a root continues the sentence
                of the row before: it is another window of the same sentence.
            rows: (R,), which rows of the batch these are; all of them if None.
        """
        sentence = (words == ROOT_WORD).any(dim=1).cumsum(dim=0) - 1
        count, width = int(sentence[-1]) + 1, int(words.max()) + 1
        belongs = words > NO_WORD
        slots = (sentence[:, None] * width + words)[belongs]
        sizes = torch.bincount(slots, minlength=count * width).view(count, width)
        row, column = belongs.nonzero(as_tuple=True)
        subwords = (row if rows is None else rows[row]) * words.shape[1] + column
        return cls(subwords, slots, sizes, tuple(((sizes > 0).sum(dim=1) - 1).tolist()))


@dataclass(frozen=True)
class TaskRows:
    """The rows of one task in a batch.

    Attributes:
        rows: (R,), int64, which rows of the batch they are.
        counts: how many scored units each example has; all windows of a sentence to parse are one.
        positions: (N,), int64, a gather index into the B·T sub-words of the batch: where a tagger
            or the head of `mlm` reads. None if the head reads every position, or none.
        words: for parsing, in place of positions.
        labels: (N,), int64: one for each position, word or text. None if the rows are unlabelled.
        heads: (N,), int64, the head of each word, for parsing.
    """

    rows: Tensor
    counts: tuple[int, ...] = ()
    positions: Tensor | None = None
    words: WordIndex | None = None
    labels: Tensor | None = None
    heads: Tensor | None = None

    @property
    def examples(self) -> int:
        """The number of examples."""
        return len(self.counts)

    @property
    def units(self) -> int:
        """The number of scored units: words, texts or masked positions."""
        return 0 if self.labels is None else len(self.labels)


@dataclass(frozen=True)
class Batch:
    """Rows of any cells, padded to the longest of them.

    Attributes:
        cells: the cell of every row.
        input_ids, attention_mask: (B, T), int64.
        tasks: the rows of each task, with what its head needs.
        token_type_ids: (B, T), int64, if the tokenizer makes them.
        indices: the index of each row among the encoded ones. The windows of a long sentence to
            parse are rows in sequence, with the same index.
        tokens: how many sub-words the rows have.
        distinct, copies: (U,) and (B,), int64: the first of all rows with the same sub-words, and
            which of these U each row has. None if no two rows have the same ones.
    """

    cells: list[Cell]
    input_ids: Tensor
    attention_mask: Tensor
    tasks: dict[str, TaskRows]
    token_type_ids: Tensor | None = None
    indices: tuple[int, ...] = ()
    tokens: int = 0
    distinct: Tensor | None = None
    copies: Tensor | None = None

    def to(self, device: torch.device | str) -> Batch:
        """Return the batch with its tensors on a device."""
        return cast(Batch, _map_tensors(self, lambda t: t.to(device, non_blocking=True)))

    def pin(self) -> Batch:
        """Return the batch in pinned memory, from which a GPU copies without waiting."""
        return cast(Batch, _map_tensors(self, Tensor.pin_memory))


def _map_tensors(value: Any, function: Callable[[Tensor], Tensor]) -> Any:
    """Apply a function to every tensor of a dataclass, of those inside it too."""
    if isinstance(value, Tensor):
        return function(value)
    if isinstance(value, dict):
        return {name: _map_tensors(inner, function) for name, inner in value.items()}
    if isinstance(value, Batch | TaskRows | WordIndex):
        return type(value)(**_map_tensors(vars(value), function))
    return value


def collate(
    rows: Sequence[Mapping[str, Any]],
    cells: Sequence[Cell],
    tasks: Mapping[str, Task],
    tokenizer: Any,
    indices: Sequence[int] | None = None,
) -> Batch:
    """Make a batch of encoded rows.

    Args:
        rows: as `encoding.encode` and `encoding.encode_inputs` return them; those of masked
            language modelling as `mask_rows` does.
        cells: the cell of each.
        tasks: the tasks by name.
        tokenizer: the one that encoded them.
        indices: the index of each row, for `Batch.indices`; 0, 1, … if None.
    """
    windows = [list(each_window(row)) if "windows" in row else [row] for row in rows]
    sources = [number for number, of_row in enumerate(windows) for _ in of_row]
    flat = [window for of_row in windows for window in of_row]
    input_ids = _padded([row["input_ids"] for row in flat], tokenizer.pad_token_id)
    lengths = torch.tensor([len(row["input_ids"]) for row in flat])
    attention_mask = (torch.arange(input_ids.shape[1]) < lengths[:, None]).long()
    types = None
    if "token_type_ids" in flat[0]:
        types = _padded([row["token_type_ids"] for row in flat], 0)
    by_task: dict[str, list[int]] = {}
    for number, source in enumerate(sources):
        by_task.setdefault(cells[source].task, []).append(number)
    # Of one tokenizer all rows have token types or none has.
    firsts: dict[tuple[int, ...], int] = {}
    same = [
        firsts.setdefault((*row["input_ids"], *row.get("token_type_ids", ())), number)
        for number, row in enumerate(flat)
    ]
    distinct = torch.tensor(list(firsts.values())) if len(firsts) < len(flat) else None
    return Batch(
        cells=[cells[source] for source in sources],
        input_ids=input_ids,
        attention_mask=attention_mask,
        tasks={
            name: _task_rows(numbers, flat, tasks[name], input_ids.shape[1])
            for name, numbers in by_task.items()
        },
        token_type_ids=types,
        indices=tuple(source if indices is None else indices[source] for source in sources),
        tokens=int(lengths.sum()),
        distinct=distinct,
        copies=None if distinct is None else torch.searchsorted(distinct, torch.tensor(same)),
    )


def _task_rows(
    numbers: Sequence[int], rows: Sequence[Mapping[str, Any]], task: Task, width: int
) -> TaskRows:
    """Gather what the head of a task needs of its rows, which are `numbers` of the batch."""
    labels = [label for number in numbers for label in rows[number]["labels"]]
    index = torch.tensor(numbers)
    label_ids = torch.tensor(labels) if labels else None
    if task.type is TaskType.PARSING:
        padded = _padded([rows[number]["words"] for number in numbers], NO_WORD, width)
        words = WordIndex.of(padded, index)
        heads = [head for number in numbers for head in rows[number]["heads"]]
        head_ids = torch.tensor(heads) if heads else None
        return TaskRows(index, words.lengths, words=words, labels=label_ids, heads=head_ids)
    if not (task.type.reads_words or task.type is TaskType.MLM):
        return TaskRows(index, (1,) * len(numbers), labels=label_ids)
    positions = [number * width + p for number in numbers for p in rows[number]["positions"]]
    counts = tuple(len(rows[number]["positions"]) for number in numbers)
    gather = torch.tensor(positions, dtype=torch.int64)
    return TaskRows(index, counts, positions=gather, labels=label_ids)


def load_rows(encoded: Mapping[Cell, Dataset], drawn: Sequence[Drawn]) -> list[dict[str, Any]]:
    """Read some rows of encoded corpora, each corpus in one access."""
    wanted: dict[Cell, list[int]] = {}
    for cell, index in drawn:
        wanted.setdefault(cell, []).append(index)
    loaded: dict[Drawn, dict[str, Any]] = {}
    for cell, indices in wanted.items():
        columns = encoded[cell][indices]
        for index, *values in zip(indices, *columns.values(), strict=True):
            loaded[cell, index] = dict(zip(columns, values, strict=True))
    return [loaded[row] for row in drawn]


def mask_rows(
    rows: Sequence[Mapping[str, Any]],
    cells: Sequence[Cell],
    tasks: Mapping[str, Task],
    tokenizer: Any,
    generator: torch.Generator | None = None,
) -> list[Mapping[str, Any]]:
    """Hide sub-words in the rows of masked language modelling; leave the others as they are.

    Mask the whole batch before it is divided among micro-batches or processes: then each row is
    masked the same way however it is divided.

    Args:
        rows, cells, tasks, tokenizer: as for `collate`.
        generator: source of the random numbers; torch's own if None.

    Returns:
        The rows. Those of masked language modelling have the hidden ``input_ids``, the chosen
        ``positions``, and as ``labels`` the sub-words that stood there.
    """
    text = [n for n, cell in enumerate(cells) if tasks[cell.task].type is TaskType.MLM]
    masked = list(rows)
    if not text:
        return masked
    width = max(w for row in rows for w in row.get("windows") or [len(row["input_ids"])])
    ids = _padded([rows[n]["input_ids"] for n in text], tokenizer.pad_token_id, width)
    hidden, chosen = mask_tokens(ids, tokenizer, generator)
    for place, number in enumerate(text):
        length = len(rows[number]["input_ids"])
        masked[number] = {
            **rows[number],
            "input_ids": hidden[place, :length].tolist(),
            "positions": chosen[place].nonzero().squeeze(1).tolist(),
            "labels": ids[place][chosen[place]].tolist(),
        }
    return masked


def mask_tokens(
    input_ids: Tensor, tokenizer: Any, generator: torch.Generator | None = None
) -> tuple[Tensor, Tensor]:
    """Choose positions to predict and hide their sub-words (Devlin et al. 2019, section 3.1).

    Of the chosen positions 80 % become the mask token, 10 % a random sub-word, and 10 % stay.
    Special and unknown tokens are neither chosen nor drawn. Every row has at least one chosen
    position, unless all of its tokens are special.

    Args:
        input_ids: (B, T), padded with the padding token, which is special.
        tokenizer: has a mask token.
        generator: source of the random numbers; torch's own if None.

    Returns:
        The hidden ids (B, T), and the chosen positions (B, T), boolean.
    """
    special = torch.tensor(sorted(set(tokenizer.all_special_ids)))
    candidates = ~torch.isin(input_ids, special)
    chance = torch.rand(input_ids.shape, generator=generator)
    chance = chance.masked_fill(~candidates, torch.inf)
    # The position with the lowest number is chosen whatever that number is.
    lowest = chance.argmin(dim=1, keepdim=True)
    chosen = (chance < MASK_RATE).scatter(1, lowest, True) & candidates

    fate = torch.rand(input_ids.shape, generator=generator)
    hidden = torch.where(chosen & (fate < MASKED), tokenizer.mask_token_id, input_ids)
    swapped = chosen & (fate >= MASKED) & (fate < MASKED + RANDOM)
    others = _ordinary_tokens(input_ids.shape, len(tokenizer), special, generator)
    return torch.where(swapped, others, hidden), chosen


def _ordinary_tokens(
    shape: torch.Size, vocabulary: int, special: Tensor, generator: torch.Generator | None
) -> Tensor:
    """Draw sub-words evenly from those that are not special (`special` sorted)."""
    special = special[special < vocabulary]
    drawn = torch.randint(vocabulary - len(special), shape, generator=generator)
    for token in special:  # the k-th ordinary id is k plus the special ids at or below it
        drawn = drawn + (drawn >= token)
    return drawn


def _padded(sequences: Sequence[Sequence[int]], value: int, width: int = 0) -> Tensor:
    """Pad to the longest, (B, T), int64."""
    width = width or max(map(len, sequences))
    return torch.tensor([[*row, *[value] * (width - len(row))] for row in sequences])
