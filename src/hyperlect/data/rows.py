"""Rows: what the windows of an example are kept as."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any

from ..grid import Cell
from ..tasks import TaskType
from .labels import Ids
from .subwords import Window

if TYPE_CHECKING:
    from datasets import Features

Row = dict[str, Any]

ROOT_WORD, NO_WORD = 0, -1
"""In ``words`` of parsing rows: the token that stands for the root, and one of no word."""


def window_rows(
    windows: Sequence[Sequence[Window]],
    start: int,
    types: bool,
    labels: tuple[Ids, Ids] | None = None,
) -> Iterator[Row]:
    """Turn every window into a row; the fields are those that `encoding.encode` tells of.

    Args:
        windows: those of some examples.
        start: the index of the first of these examples.
        types: whether token types are kept.
        labels: as `labels.label_ids` gives them, of all examples; None for no labels.
    """
    for example, parts in enumerate(windows, start):
        own = _labels_of(example, labels)
        for window in parts:
            row: Row = {"input_ids": window.input_ids}
            if types:
                row["token_type_ids"] = window.token_type_ids
            row["positions"] = window.positions
            words = window.words
            row["labels"] = own[words.start : words.stop] if words else own
            row["example"] = example
            yield row


def sentence_rows(
    windows: Sequence[Sequence[Window]],
    start: int,
    types: bool,
    labels: tuple[Ids, Ids] | None = None,
    heads: Sequence[Sequence[int]] | None = None,
) -> Iterator[Row]:
    """Turn all windows of each sentence into one row, for parsing; a sentence of no words has none.

    Args:
        windows, start, types, labels: as in `window_rows`.
        heads: of these sentences; None for none.
    """
    for example, parts in enumerate(windows, start):
        if not parts:
            continue
        row: Row = {"input_ids": [token for part in parts for token in part.input_ids]}
        if types:
            row["token_type_ids"] = [kind for part in parts for kind in part.token_type_ids]
        row["windows"] = [len(part.input_ids) for part in parts]
        row["words"] = [word for part in parts for word in _word_numbers(part)]
        assert row["words"][0] == NO_WORD  # all supported tokenizers begin with a special token
        row["words"][0] = ROOT_WORD
        row["labels"] = _labels_of(example, labels)
        row["heads"] = [] if heads is None else heads[example - start]
        row["example"] = example
        yield row


def each_window(
    rows: Sequence[Mapping[str, Any]], cells: Sequence[Cell], indices: Sequence[int]
) -> tuple[list[Mapping[str, Any]], list[Cell], list[int]]:
    """Take rows of parsing apart into their windows, each a row; all other rows are windows.

    Labels and heads, which are of the whole sentence, go with its first window.

    Args:
        rows: as `encoding.encode` gives them.
        cells, indices: of each row.

    Returns:
        The rows, with the cell and the index of each.
    """
    parts = [list(_taken_apart(row)) if "windows" in row else [row] for row in rows]
    counts = list(map(len, parts))
    return (
        [window for part in parts for window in part],
        [cell for cell, count in zip(cells, counts, strict=True) for _ in range(count)],
        [index for index, count in zip(indices, counts, strict=True) for _ in range(count)],
    )


def _taken_apart(row: Mapping[str, Any]) -> Iterator[Row]:
    along = [name for name in ("input_ids", "token_type_ids", "words") if name in row]
    for begin, end in pairwise(accumulate(row["windows"], initial=0)):
        window = {name: row[name][begin:end] for name in along}
        whole = {name: [] if begin else row[name] for name in ("labels", "heads")}
        yield {**window, **whole}


def row_features(task_type: TaskType, types: bool) -> Features:
    """Return the columns of the rows of a task, with or without token types."""
    from datasets import Features, List, Value

    parsing = task_type is TaskType.PARSING
    numbers = ("windows", "words", "labels", "heads") if parsing else ("positions", "labels")
    return Features(
        {
            "input_ids": List(Value("int32")),
            **({"token_type_ids": List(Value("int8"))} if types else {}),
            **{name: List(Value("int32")) for name in numbers},
            "example": Value("int64"),
        }
    )


def _labels_of(example: int, labels: tuple[Ids, Ids] | None) -> Sequence[int] | Ids:
    if labels is None:
        return []
    ids, starts = labels
    return ids[starts[example] : starts[example + 1]]


def _word_numbers(window: Window) -> list[int]:
    """Number the word of each sub-word, from 1."""
    numbers = [NO_WORD] * len(window.input_ids)
    for word, position, size in zip(window.words, window.positions, window.sizes, strict=True):
        numbers[position : position + size] = [word + 1] * size
    return numbers
