"""Readers: one file a format, all giving the same examples and collecting their problems alike.

docs/extending.md shows how a reader is added.

A reader is a generator of :class:`~hyperlect.data.readers.Example`; what is wrong with its input
it notes in a :class:`~hyperlect.errors.Problems` and continues, so that a person sees every
problem of a file at once. None stands for a row that it leaves out since it has no label.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Literal

from ...errors import DataError, Problems, counted, unknown
from ..examples import SPLITS, Example, Line, Quoting, Source, Split, lines, read_text
from .columns import column_sentences
from .conllu import conllu_sentences
from .tables import hub_records, json_records, read_records, table_records

Read = Callable[[Source, bool, Problems], Iterator[Example | None]]


@dataclass(frozen=True)
class Reader:
    """What reads a format, and what the format can hold.

    Attributes:
        read: takes the source, whether examples are words with a label each, and what collects
            problems; yields the examples.
        holds: words with labels; raw text alone; or, in a table, whatever a task reads. Words can
            always be read as raw text.
        fields: the keys of `Source.fields`; `head` is one for trees alone. Those of a table follow
            from the task.
        columns: whether columns have a name or a number (from 1).
    """

    read: Read
    holds: Literal["words", "raw", "table"] = "words"
    fields: tuple[str, ...] = ()
    columns: Literal["name", "number"] = "name"


Sentences = Callable[[Source, bool, Problems], Iterator[tuple[Example | None, list[Line]]]]


def _examples(sentences: Sentences) -> Read:
    """Make a reader of one that keeps the lines: of each block, only the example."""
    return lambda *arguments: (example for example, _ in sentences(*arguments) if example)


READERS: dict[str, Reader] = {
    "conllu": Reader(_examples(conllu_sentences), fields=("head", "label")),
    "columns": Reader(
        _examples(column_sentences), fields=("word", "head", "label"), columns="number"
    ),
    "tsv": Reader(partial(read_records, table_records), "table"),
    "csv": Reader(partial(read_records, table_records), "table"),
    "jsonl": Reader(partial(read_records, json_records), "table"),
    "text": Reader(read_text, "raw"),
    "hub": Reader(partial(read_records, hub_records), "table"),
}
"""The readers by the name of their format."""

BATCH = 1000
_MOSTLY = 0.9
_QUOTED = re.compile(r'"(?:[^"]|"")*"', re.DOTALL)


def read(source: Source, word_level: bool) -> list[Example]:
    """Read the examples of one source.

    Args:
        source: what to read, and how.
        word_level: whether examples are words with a label each (tagging, spans) or texts.
            Word-level formats can be read as texts too (for masked language modelling).

    Returns:
        The examples in the order of the source, at most ``source.limit`` of them; what comes
        after the limit is not looked at. Spelling is kept as it stands: no normalisation. A
        warning counts the rows that were left out for want of a label; others say that a column
        is almost empty, or that cells seem to be quoted.

    Raises:
        DataError: the source is missing, empty or malformed; every problem is named with file and
            line (the first 20, and the number of the rest).
        UnknownNameError: there is no such format.
        UnreachableError: the source lies on the hub, which cannot be reached.
    """
    return list(chain.from_iterable(read_batches(source, word_level)))


def read_batches(source: Source, word_level: bool) -> Iterator[list[Example]]:
    """Read the examples of one source some at a time, as `read` does, so that few are in memory.

    An error may come after examples that were sound.
    """
    if source.format not in READERS:
        raise unknown("data format", source.format, READERS)
    problems = Problems(str(source))
    examples: list[Example] = []
    count = unlabelled = blank = quoted = 0
    if source.limit is not None and source.limit < 1:
        problems.add(f"the limit is {source.limit}. Leave it out, or write at least 1")
    else:
        for example in READERS[source.format].read(source, word_level, problems):
            if example is None:
                unlabelled += 1
            elif not (example.words or example.text.strip() or example.label):
                blank += 1
            else:
                count += 1
                examples.append(example)
                text = example.text or " ".join(example.words)
                quoted += source.quotes_are_text and _QUOTED.fullmatch(text) is not None
            if count == source.limit:
                break
            if len(examples) == BATCH:
                yield examples
                examples = []
    if not count and not problems:
        rows = counted(unlabelled, "row")
        withheld = f"it holds {rows} and no label. Name a split (or a file) that has labels"
        problems.add(withheld if unlabelled else "it holds no examples")
    problems.raise_if_any(DataError, f"Cannot read {source} as {source.format}:")
    yield examples
    for remark in _remarks(count, unlabelled, blank, quoted):
        warnings.warn(f"{source}: {remark}", stacklevel=2)


def _remarks(count: int, unlabelled: int, blank: int, quoted: int) -> Iterator[str]:
    """Say what was left out, and what is probably not meant to be read in this way."""
    if unlabelled:
        rows, rest = counted(unlabelled, "row"), counted(count, "example")
        yield f"{rows} without a label left out; {rest} read."
    if blank > _MOSTLY * (blank + count):
        rows = f"{blank:,} of {counted(blank + count, 'row')}"
        yield f"{rows} have no text. Is it in another column? (fields)"
    if quoted and 2 * quoted >= count:
        what = f"quotation marks enclose {quoted:,} of {counted(count, 'text')}"
        yield f"{what}, and are read as part of it. If they are not, write quoting: minimal."
