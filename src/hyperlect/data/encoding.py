"""Encoding: examples → rows of sub-words with label ids, kept as Arrow files."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.compute as pc

from ..errors import BackboneError, DataError, Problems, counted
from ..tasks import Task, TaskType
from .corpus import arrow_column, cache_dir, cached, content_digest, list_lengths, places
from .labels import IGNORED, Ids, label_ids
from .subwords import Subwords, Window, plain_backend

if TYPE_CHECKING:
    from datasets import Dataset, Features

Row = dict[str, Any]

# Counts up when the same examples come to be encoded differently.
ENCODING_VERSION = 3

BATCH = 1000
CONTENT = ("words", "labels", "heads", "text", "pair", "label")
ROOT_WORD, NO_WORD = 0, -1
"""In ``words`` of parsing rows: the token that stands for the root, and one of no word."""


def encode(
    examples: Dataset,
    task: Task,
    tokenizer: Any,
    max_length: int,
    cache: Path | None = None,
    fingerprint: str = "",
) -> Dataset:
    """Encode labelled examples (or raw text, for masked language modelling) of one corpus.

    Sentences of words that are longer than `max_length` become several rows, cut between words
    and about equally long; every word is in exactly one of them. So do raw lines. Texts are cut
    off at the end, pairs at the end of the longer text; a warning counts them.

    A parser needs all words of a sentence at once, since the head of a word may be any other. So
    a sentence to parse is always one row. The windows of a long one stand one after the other; they
    are encoded one by one and joined before words are scored. No sentence is left out, and no head
    is out of reach.

    Args:
        examples: rows as `corpus.read_corpus` returns them.
        task: type, labels and label map.
        tokenizer: a fast tokenizer of transformers.
        max_length: the longest row in sub-words, special tokens counted.
        cache: folder of the cache; that of `cache.cache_dir` if ``None``.
        fingerprint: the `tokenizer_digest`, if it is known.

    Returns:
        Rows with ``input_ids``; ``token_type_ids`` if the tokenizer makes them; ``positions`` of
        the first sub-word of each word (empty for sentence-level tasks and raw text); ``labels``,
        one for each position, exactly one for sentence-level tasks, none for raw text; ``example``,
        the index of the example. Rows of parsing have, in place of positions, ``windows`` (the
        number of sub-words of each window) and ``words`` (for each sub-word the number of its word,
        from 1; `ROOT_WORD` for the very first token, which stands for the root; `NO_WORD` for other
        special tokens); their labels are relations, one for each word, and ``heads`` are there too.

    Raises:
        DataError: labels that the task does not know or that are missing, with file and line; a
            pair without its second text; a sentence to parse without heads; a `max_length`
            without room for anything.
        BackboneError: raw text, and a tokenizer without a mask token.
    """
    # Labels are aligned outside the cache, so that every start reports what is wrong with them.
    labels = None if task.type is TaskType.MLM else label_ids(examples, task)
    _check(examples, task, tokenizer)
    key = {
        "made by": "hyperlect.data.encoding",
        "version": ENCODING_VERSION,
        "examples": content_digest(examples, CONTENT),
        "task": [task.type, list(task.labels), dict(task.label_map), task.scheme, task.unlabelled],
        "labels": None if labels is None else hashlib.sha256(labels[0].tobytes()).hexdigest(),
        "tokenizer": fingerprint or tokenizer_digest(tokenizer),
        "max length": max_length,
    }
    folder = (cache_dir() if cache is None else cache) / "encoded"

    def build() -> Dataset:
        from datasets import Dataset, concatenate_datasets

        subwords, types = Subwords(tokenizer, max_length), makes_types(tokenizer)
        features = _features(task.type, types)
        batches = [Dataset.from_dict({name: [] for name in features}, features=features)]
        for start in range(0, len(examples), BATCH):
            batch: Mapping[str, list[Any]] = examples[start : start + BATCH]
            inputs = batch["words" if task.type.reads_words else "text"]
            if task.type.reads == "pair":
                inputs = list(zip(inputs, batch["pair"], strict=True))
            windows = _windows(inputs, task.type, subwords)
            rows = list(_rows(windows, task.type, start, types, labels, batch["heads"]))
            columns = {name: [row[name] for row in rows] for name in features}
            batches.append(Dataset.from_dict(columns, features=features))
        return concatenate_datasets(batches)

    encoded = cached(key, build, folder)
    if task.type.reads in ("text", "pair"):
        cut = int(pc.sum(arrow_column(encoded, "truncated")).as_py() or 0)
        warn_of_truncated(cut, len(encoded), max_length, examples[0]["file"] if cut else "")
    return encoded


def encode_inputs(inputs: Sequence[Any], task: Task, tokenizer: Any, max_length: int) -> list[Row]:
    """Encode inputs without labels, for prediction; the rows are those of `encode`.

    Args:
        inputs: lists of words for word-level tasks, texts for classification and raw text, pairs
            of texts for pairs.
        task, tokenizer, max_length: as in `encode`.

    Returns:
        Rows with empty ``labels`` (and ``heads``). A sentence without words has no row.
    """
    (rows,) = encode_for_tasks(inputs, [task], tokenizer, max_length)
    return rows


def encode_for_tasks(
    inputs: Sequence[Any], tasks: Sequence[Task], tokenizer: Any, max_length: int
) -> list[list[Row]]:
    """Encode the same inputs for several tasks that read alike, as `encode_inputs` for each.

    The inputs are split into sub-words once.
    """
    subwords, types = Subwords(tokenizer, max_length), makes_types(tokenizer)
    rows: list[list[Row]] = [[] for _ in tasks]
    for start in range(0, len(inputs), BATCH):
        windows = _windows(inputs[start : start + BATCH], tasks[0].type, subwords)
        for of_task, task in zip(rows, tasks, strict=True):
            of_task += _rows(windows, task.type, start, types)
    return rows


def warn_of_truncated(count: int, total: int, max_length: int, place: str = "") -> None:
    """Warn that texts were cut, if any were."""
    if count:
        where = f"{place}: " if place else ""
        which = f"{count:,} of {counted(total, 'text')} have more than {max_length} sub-words"
        warnings.warn(f"{where}{which}. The end of each is cut off.", stacklevel=3)


def tokenizer_digest(tokenizer: Any) -> str:
    """Return a SHA-256 of everything that decides how a tokenizer encodes, at this moment.

    For a large vocabulary it takes a tenth of a second, so ask once for many corpora.
    """
    state = plain_backend(tokenizer).to_str() + f"|types={makes_types(tokenizer)}"
    return hashlib.sha256(state.encode()).hexdigest()


def makes_types(tokenizer: Any) -> bool:
    """Whether a tokenizer makes token types."""
    return "token_type_ids" in tokenizer.model_input_names


def _check(examples: Dataset, task: Task, tokenizer: Any) -> None:
    """Raise where examples lack something that the task type needs besides labels."""
    if task.type is TaskType.MLM and tokenizer.mask_token_id is None:
        raise BackboneError(f"The task {task.name} needs a mask token; the tokenizer has none.")
    problems, lacking, what = Problems(), np.zeros(0, bool), ""
    if task.type.reads == "pair":
        lacking, what = arrow_column(examples, "pair").is_null().to_numpy(), "second text is"
    elif task.type is TaskType.PARSING:
        lacking = list_lengths(examples, "words") != list_lengths(examples, "heads")
        what = "heads are"
    for file, line in places(examples, np.flatnonzero(lacking)):
        problems.add(f"the {what} missing; name the column (fields)", line, file=file)
    problems.raise_if_any(DataError, f"Examples of the task {task.name} are incomplete:")


def _windows(inputs: Sequence[Any], task_type: TaskType, subwords: Subwords) -> list[list[Window]]:
    if task_type.reads_words:
        return subwords.words(inputs)
    if task_type.reads == "pair":
        return subwords.pairs(inputs)
    return subwords.texts(inputs) if task_type.reads == "text" else subwords.lines(inputs)


def _features(task_type: TaskType, types: bool) -> Features:
    """Return the columns of the rows of a task, with or without token types."""
    from datasets import Features, List, Value

    parsing = task_type is TaskType.PARSING
    numbers = ("windows", "words", "labels", "heads") if parsing else ("positions", "labels")
    columns = {"input_ids": List(Value("int32"))}
    if types:
        columns["token_type_ids"] = List(Value("int8"))
    columns |= {name: List(Value("int32")) for name in numbers}
    return Features({**columns, "example": Value("int64"), "truncated": Value("bool")})


def _rows(
    windows: Sequence[Sequence[Window]],
    task_type: TaskType,
    start: int,
    types: bool,
    labels: tuple[Ids, Ids] | None = None,
    heads: Sequence[Sequence[int]] | None = None,
) -> Iterator[Row]:
    """Turn windows into rows; the fields are those that `encode` documents.

    Args:
        windows: those of some examples.
        task_type: for parsing, all windows of a sentence are one row.
        start: the index of the first of these examples.
        types: whether token types are kept.
        labels: as `labels.label_ids` returns them, of all examples; None for no labels.
        heads: of these sentences; None for none.
    """
    for example, of_example in enumerate(windows, start):
        ids: Sequence[int] | Ids = []
        if labels is not None:
            ids = labels[0][labels[1][example] : labels[1][example + 1]]
        if task_type is not TaskType.PARSING:
            rows = [_window_row(window, ids) for window in of_example]
            # Without a labelled word a window has nothing to train or to score.
            rows = [row for row in rows if labels is None or len(row["labels"])]
        else:
            of_words = {"labels": ids, "heads": [] if heads is None else heads[example - start]}
            rows = [{**_sentence_row(of_example), **of_words}] if of_example else []
        for row in rows:
            if not types:
                del row["token_type_ids"]
            yield {**row, "example": example}


def _window_row(window: Window, labels: Sequence[int] | Ids) -> Row:
    positions = window.positions
    if window.words:
        labels = labels[window.words.start : window.words.stop]
        if IGNORED in labels:
            kept = [place for place, label in enumerate(labels) if label != IGNORED]
            positions, labels = [positions[i] for i in kept], [labels[i] for i in kept]
    return {
        "input_ids": window.input_ids,
        "token_type_ids": window.token_type_ids,
        "positions": positions,
        "labels": labels,
        "truncated": window.truncated,
    }


def _sentence_row(windows: Sequence[Window]) -> Row:
    """Join the windows of a sentence to parse."""
    words: list[int] = []  # the number of the word of each sub-word, from 1
    for window in windows:
        numbers = [NO_WORD] * len(window.input_ids)
        for word, position, size in zip(window.words, window.positions, window.sizes, strict=True):
            numbers[position : position + size] = [word + 1] * size
        words += numbers
    assert words[0] == NO_WORD  # all supported tokenizers begin with a special token
    return {
        "input_ids": [token for window in windows for token in window.input_ids],
        "token_type_ids": [kind for window in windows for kind in window.token_type_ids],
        "windows": [len(window.input_ids) for window in windows],
        "words": [ROOT_WORD, *words[1:]],
        "truncated": False,
    }


def each_window(row: Mapping[str, Any]) -> Iterator[Row]:
    """Split a row of parsing into its windows, each a row.

    Labels and heads, which belong to the whole sentence, go with its first window.
    """
    names = [name for name in ("input_ids", "token_type_ids", "words") if name in row]
    for begin, end in pairwise(accumulate(row["windows"], initial=0)):
        window = {name: row[name][begin:end] for name in names}
        yield {**window, **{n: [] if begin else row[n] for n in ("labels", "heads")}}
