"""Labels: from those in the data to the inventory of a task."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ..errors import DataError, Problems, listed, nearest
from ..tasks import OUTSIDE, Task, TaskType, inventory
from .arrow import arrow_column

if TYPE_CHECKING:
    from datasets import Dataset

Ids = NDArray[np.int64]


@dataclass(frozen=True)
class _Found:
    """The labels of a corpus, one after the other.

    Attributes:
        distinct: every label that occurs, in order of first occurrence.
        codes: (labels,), each an index into `distinct`.
        rows: (labels,), the example of each.
        starts: (examples + 1,), where the labels of each example begin.
    """

    distinct: list[str]
    codes: Ids
    rows: Ids
    starts: Ids


def label_ids(examples: Dataset, task: Task) -> tuple[Ids, Ids]:
    """Look up every label of a corpus in the inventory of a task, after the task's label map.

    An ``I-X`` that continues no span of type X is read as ``B-X``, as conlleval reads it: such
    tags occur in published corpora, and in IOB1 they are the rule. A warning counts them.

    Args:
        examples: rows as `corpus.read_corpus` gives them.
        task: any but raw text.

    Returns:
        All label ids one after the other, and where those of each example begin (one more entry
        than examples).

    Raises:
        DataError: examples without labels, or labels that the task does not know, each with file
            and line.
    """
    found = _labels_in(examples, task.type)
    _check_all_labelled(examples, task, found)
    known = {label: index for index, label in enumerate(task.labels)}
    table = np.array([known.get(task.map_label(label), -1) for label in found.distinct], np.int64)
    ids = table[found.codes]
    if task.type is TaskType.SPANS:
        strays = _stray_tags(found)
        begun = [task.map_label(f"B{label[1:]}") for label in found.distinct]
        ids[strays] = np.array([known.get(label, -1) for label in begun], np.int64)[
            found.codes[strays]
        ]
        _warn_of_strays(examples, task, found, strays)
    _check_all_known(examples, task, found, ids)
    return ids, found.starts


def inventory_of(
    corpora: Iterable[Dataset], task_type: TaskType, label_map: Mapping[str, str] | None = None
) -> tuple[str, ...]:
    """Gather the label inventory of a task from the corpora of all its training cells.

    Args:
        corpora: rows as `corpus.read_corpus` gives them.
        task_type: the type of the task.
        label_map: the task's label map.

    Returns:
        The mapped labels in the order of `tasks.inventory`.

    Raises:
        DataError: a label of a span task is not IOB2 (``O``, ``B-X``, ``I-X``); each is named
            with the file and line where it first occurs. Or there is one label alone, but for
            parsing, whose trees are learned without any.
    """
    if task_type is TaskType.MLM:
        return ()
    reader = Task("", task_type, label_map=label_map or {})
    gathered: set[str] = set()
    problems = Problems()
    for examples in corpora:
        found = _labels_in(examples, task_type)
        for code, label in enumerate(found.distinct):
            mapped = reader.map_label(label)
            gathered.add(mapped)
            if task_type is TaskType.SPANS and not _is_iob2(mapped):
                at = int(np.argmax(found.codes == code))
                problems.add(f"{_place(examples, found, at)} {_counted(found, code)}")
    problems.raise_if_any(
        DataError,
        "Labels of spans must be IOB2 tags (O, B-PER, I-PER); these are not. Name the right "
        "column, or map them:",
    )
    if len(gathered) == 1 and task_type is not TaskType.PARSING:
        raise DataError(
            f'The only label in its training data is "{gathered.pop()}", so there is nothing to '
            "learn. Name the column that holds the labels."
        )
    return inventory(task_type, gathered)


def column(examples: Dataset, name: str) -> Any:
    """Return one column of a corpus as an Arrow array."""
    return arrow_column(examples, name).combine_chunks()


def places(examples: Dataset, rows: Ids) -> list[str]:
    """Return ``file:line`` of some examples."""
    files, lines = (column(examples, name).take(pa.array(rows)) for name in ("file", "line"))
    return [
        f"{file}:{line}" for file, line in zip(files.to_pylist(), lines.to_pylist(), strict=True)
    ]


def _labels_in(examples: Dataset, task_type: TaskType) -> _Found:
    if task_type.reads_words:
        lists = column(examples, "labels")
        counts = pc.list_value_length(lists).to_numpy(zero_copy_only=False).astype(np.int64)
        encoded = pc.list_flatten(lists).dictionary_encode()
    else:
        single = column(examples, "label")
        counts = pc.is_valid(single).to_numpy(zero_copy_only=False).astype(np.int64)
        encoded = single.drop_null().dictionary_encode()
    return _Found(
        encoded.dictionary.to_pylist(),
        encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64),
        np.repeat(np.arange(len(counts)), counts),
        np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
    )


def _is_iob2(label: str) -> bool:
    return label == OUTSIDE or (label[:2] in ("B-", "I-") and len(label) > 2)


def _stray_tags(found: _Found) -> Ids:
    """Return where an ``I-X`` follows neither ``B-X`` nor ``I-X`` of the same sentence."""
    if not len(found.codes):
        return np.empty(0, np.int64)
    entities = np.unique([label[2:] for label in found.distinct], return_inverse=True)[1]
    inside = np.array([label.startswith("I-") for label in found.distinct])
    outside = np.array([label[:2] not in ("B-", "I-") for label in found.distinct])
    before, after = found.codes[:-1], found.codes[1:]
    begins = np.ones(len(found.codes), bool)
    begins[1:] = (
        (found.rows[1:] != found.rows[:-1])
        | outside[before]
        | (entities[before] != entities[after])
    )
    return np.flatnonzero(begins & inside[found.codes])


def _warn_of_strays(examples: Dataset, task: Task, found: _Found, strays: Ids) -> None:
    kept = [at for at in strays if task.map_label(found.distinct[found.codes[at]]) != OUTSIDE]
    if kept:
        warnings.warn(
            f"{_place(examples, found, kept[0])}, which continues no such span; it is read as "
            f"B-, the beginning of one. There {_are(len(kept))} in this corpus of "
            f"{len(examples)} sentences.",
            stacklevel=3,
        )


def _are(count: int) -> str:
    return "is one such tag" if count == 1 else f"are {count} such tags"


def _check_all_labelled(examples: Dataset, task: Task, found: _Found) -> None:
    """Raise where an example lacks labels; a reader has checked that there is one a word."""
    lengths = np.diff(found.starts)
    if task.type.reads_words:
        wanted = pc.list_value_length(column(examples, "words")).to_numpy(zero_copy_only=False)
    else:
        wanted = np.ones(len(examples), np.int64)
    problems = Problems()
    rows = np.flatnonzero(lengths != wanted)
    for row, place in zip(rows, places(examples, rows), strict=True):
        have = f"{lengths[row]} labels for {wanted[row]} words" if lengths[row] else "no label"
        problems.add(f"{place}: {have}")
    problems.raise_if_any(DataError, f"Examples of the task {task.name} without labels:")


def _check_all_known(examples: Dataset, task: Task, found: _Found, ids: Ids) -> None:
    """Raise one error that names each unknown label once, where it first occurs."""
    unknown = np.flatnonzero(ids < 0)
    problems = Problems()
    codes, first = np.unique(found.codes[unknown], return_index=True)
    for code, at in sorted(zip(codes, unknown[first], strict=True), key=lambda pair: pair[1]):
        mapped = task.map_label(found.distinct[code])
        problems.add(
            f"{_place(examples, found, at)} {_counted(found, code)}.{nearest(mapped, task.labels)}"
        )
    problems.raise_if_any(
        DataError,
        f"Labels that the task {task.name} does not know. Mend them, map them (label_map), or list "
        f"all there are under tasks.{task.name}.labels{_KINDS_ALONE.get(task.type, '')}. Known: "
        f"{listed(task.labels)}.",
    )


_KINDS_ALONE = {TaskType.SPANS: " (entity types, without B- and I-)"}


def _counted(found: _Found, code: int) -> str:
    times = int((found.codes == code).sum())
    return "(once)" if times == 1 else f"({times} times)"


def _place(examples: Dataset, found: _Found, at: int) -> str:
    """Say where a label is and which: ``file:line: word 3, "Anna", has the label "I-PER"``."""
    row = int(found.rows[at])
    (place,) = places(examples, np.array([row]))
    label = found.distinct[found.codes[at]]
    words = examples[row]["words"]
    if not words:
        return f'{place}: the label "{label}"'
    word = int(at - found.starts[row])
    return f'{place}: word {word + 1}, "{words[word]}", has the label "{label}"'
