"""Encoding: examples → rows of sub-words with label ids, kept as Arrow files."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..errors import BackboneError, DataError, Problems
from ..tasks import Task, TaskType
from .cache import cache_dir, cached
from .labels import Ids, column, inventory_of, label_ids, places
from .rows import Row, row_features, sentence_rows, window_rows
from .subwords import Subwords, Window, plain_backend

if TYPE_CHECKING:
    from datasets import Dataset

__all__ = ["encode", "encode_inputs", "inventory_of"]

# Counts up when the same examples come to be encoded differently.
ENCODING_VERSION = 2

BATCH = 1000
CONTENT = ("words", "labels", "heads", "text", "pair", "label")


def encode(
    examples: Dataset, task: Task, tokenizer: Any, max_length: int, cache: Path | None = None
) -> Dataset:
    """Encode labelled examples (or raw text, for masked language modelling) of one corpus.

    Sentences of words that are longer than `max_length` become several rows, cut between words
    and about equally long; every word is in exactly one of them. So do raw lines. Texts are cut
    off at the end, pairs at the end of the longer text.

    A parser needs all words of a sentence at once, since the head of a word may be any other. So
    with parsing a sentence is always one row: of one that is too long, the windows stand one after
    the other, to be encoded one by one and put together again before words are scored. No sentence
    is left out, and no head is out of reach.

    Args:
        examples: rows as `corpus.read_corpus` gives them.
        task: type, labels and label map.
        tokenizer: a fast tokenizer of transformers.
        max_length: the longest row in sub-words, special tokens counted.
        cache: folder of the cache; that of `cache.cache_dir` if ``None``.

    Returns:
        Rows with ``input_ids``; ``token_type_ids`` if the tokenizer makes them; ``positions`` of
        the first sub-word of each word (empty for sentence-level tasks and raw text); ``labels``,
        one a position, exactly one for sentence-level tasks, none for raw text; ``example``, the
        index of the example. Rows of parsing have, in place of positions, ``windows`` (how many
        sub-words each window has) and ``words`` (for each sub-word the number of its word, from 1;
        `rows.ROOT_WORD` for the very first token, which stands for the root; `rows.NO_WORD` for
        other special tokens); their labels are relations, one a word, and ``heads`` are there too,
        as in :class:`~hyperlect.data.examples.Example`.

    Raises:
        DataError: labels that the task does not know or that are missing, with file and line; a
            pair that lacks its second text; a sentence to parse without heads; a `max_length`
            without room for anything.
        BackboneError: raw text, and a tokenizer without a mask token.
    """
    # Labels are aligned outside the cache, so that what is said about them is said every time.
    labels = None if task.type is TaskType.MLM else label_ids(examples, task)
    if task.type is TaskType.PAIRS:
        _check_pairs(examples, task)
    if task.type is TaskType.PARSING:
        _check_heads(examples, task)
    if task.type is TaskType.MLM and tokenizer.mask_token_id is None:
        raise BackboneError(
            f"The task {task.name} needs a mask token, and the backbone's tokenizer has none."
        )
    key = {
        "made by": "hyperlect.data.encoding",
        "version": ENCODING_VERSION,
        "examples": content_digest(examples),
        "task": [task.type, list(task.labels), dict(task.label_map)],
        "tokenizer": tokenizer_digest(tokenizer),
        "max length": max_length,
    }
    folder = (cache_dir() if cache is None else cache) / "encoded"
    return cached(key, lambda: _build(examples, task, tokenizer, max_length, labels), folder)


def encode_inputs(inputs: Sequence[Any], task: Task, tokenizer: Any, max_length: int) -> list[Row]:
    """Encode inputs without labels, for prediction; the rows are those of `encode`.

    Args:
        inputs: lists of words for word-level tasks, texts for classification and raw text, pairs
            of texts for pairs.
        task, tokenizer, max_length: as in `encode`.

    Returns:
        Rows with empty ``labels`` (and ``heads``). A sentence without words has no row.
    """
    subwords = Subwords(tokenizer, max_length)
    types = makes_types(tokenizer)
    rows: list[Row] = []
    for start in range(0, len(inputs), BATCH):
        windows = _windows(inputs[start : start + BATCH], task.type, subwords)
        make = sentence_rows if task.type is TaskType.PARSING else window_rows
        rows += make(windows, start, types)
    return rows


def content_digest(examples: Dataset) -> str:
    """Return a SHA-256 of what the examples hold, whatever file they were read from."""
    digest = hashlib.sha256()
    for name in CONTENT:
        table = pa.table({name: column(examples, name)})
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, table.schema) as stream:
            stream.write_table(table)
        digest.update(sink.getvalue())
    return digest.hexdigest()


@functools.lru_cache(maxsize=4)  # by identity: a large tokenizer takes a tenth of a second
def tokenizer_digest(tokenizer: Any) -> str:
    """Return a SHA-256 of all that decides how a tokenizer encodes."""
    state = plain_backend(tokenizer).to_str() + f"|types={makes_types(tokenizer)}"
    return hashlib.sha256(state.encode()).hexdigest()


def makes_types(tokenizer: Any) -> bool:
    """Whether a tokenizer makes token types."""
    return "token_type_ids" in tokenizer.model_input_names


def _check_pairs(examples: Dataset, task: Task) -> None:
    problems = Problems()
    lacking = np.flatnonzero(column(examples, "pair").is_null().to_numpy(zero_copy_only=False))
    for place in places(examples, lacking):
        problems.add(f"{place}: no second text")
    problems.raise_if_any(DataError, f"The task {task.name} takes two texts at a time:")


def _check_heads(examples: Dataset, task: Task) -> None:
    """Raise where an example lacks heads; a reader has checked that there is one a word."""
    counts = [
        pc.list_value_length(column(examples, name)).to_numpy(zero_copy_only=False)
        for name in ("words", "heads")
    ]
    problems = Problems()
    for place in places(examples, np.flatnonzero(counts[0] != counts[1])):
        problems.add(f"{place}: no heads")
    problems.raise_if_any(
        DataError,
        f"Examples of the task {task.name} without heads. Say which column holds them (fields: "
        "{head: …}):",
    )


def _windows(inputs: Sequence[Any], task_type: TaskType, subwords: Subwords) -> list[list[Window]]:
    match task_type:
        case TaskType.TAGGING | TaskType.SPANS | TaskType.PARSING:
            return subwords.words(inputs)
        case TaskType.CLASSIFICATION:
            return subwords.texts(inputs)
        case TaskType.PAIRS:
            return subwords.pairs(inputs)
        case TaskType.MLM:
            return subwords.lines(inputs)


def _build(
    examples: Dataset,
    task: Task,
    tokenizer: Any,
    max_length: int,
    labels: tuple[Ids, Ids] | None,
) -> Dataset:
    from datasets import Dataset, concatenate_datasets

    subwords = Subwords(tokenizer, max_length)
    types = makes_types(tokenizer)
    features = row_features(task.type, types)
    parts = [Dataset.from_dict({name: [] for name in features}, features=features)]
    for start in range(0, len(examples), BATCH):
        batch: Mapping[str, list[Any]] = examples[start : start + BATCH]
        windows = _windows(_inputs(batch, task.type), task.type, subwords)
        if task.type is TaskType.PARSING:
            rows = list(sentence_rows(windows, start, types, labels, batch["heads"]))
        else:
            rows = list(window_rows(windows, start, types, labels))
        columns = {name: [row[name] for row in rows] for name in features}
        parts.append(Dataset.from_dict(columns, features=features))
    return concatenate_datasets(parts)


def _inputs(batch: Mapping[str, list[Any]], task_type: TaskType) -> list[Any]:
    if task_type.reads_words:
        return batch["words"]
    if task_type is TaskType.PAIRS:
        return list(zip(batch["text"], batch["pair"], strict=True))
    return batch["text"]
