"""Readers: one file a format, all giving the same examples and the same sort of error.

A reader is a generator of :class:`~hyperlect.data.examples.Example`; what is wrong with its input
it notes in a :class:`~hyperlect.data.readers.faults.Faults` and goes on, so that a person sees
every fault of a file at once.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from itertools import islice

from ...errors import DataError, unknown
from ..examples import Example, Source
from .columns import read_columns
from .conllu import read_conllu
from .faults import Faults, counted
from .hub import read_hub
from .table import read_csv, read_jsonl, read_tsv
from .text import read_text

Reader = Callable[[Source, bool, Faults], Iterator[Example]]

READERS: Mapping[str, Reader] = {
    "conllu": read_conllu,
    "columns": read_columns,
    "tsv": read_tsv,
    "csv": read_csv,
    "jsonl": read_jsonl,
    "text": read_text,
    "hub": read_hub,
}

__all__ = ["READERS", "Faults", "Reader", "read"]


def read(source: Source, word_level: bool) -> list[Example]:
    """Read the examples of one source.

    Args:
        source: what to read, and how.
        word_level: whether examples are words with a label each (tagging, spans) or texts.
            Word-level formats can be read as texts too (for masked language modelling).

    Returns:
        The examples in the order of the source, at most ``source.limit`` of them; what comes
        after the limit is not looked at. Spelling is kept as it stands: no normalisation. A
        warning counts the rows of a data set on the hub that were left out for want of a label.

    Raises:
        DataError: the source is missing, empty or malformed; every fault is named with file and
            line (the first 20, and the number of the rest).
        UnknownNameError: there is no such format.
        UnreachableError: the source lies on the hub, and there is no way to it.
    """
    if source.format not in READERS:
        raise unknown("data format", source.format, READERS)
    faults = Faults(source)
    if source.limit is not None and source.limit < 1:
        faults.whole(f"the limit is {source.limit}; leave it out, or let it be at least 1")
    examples: list[Example] = []
    if not faults:
        examples = list(islice(READERS[source.format](source, word_level, faults), source.limit))
    unlabelled = counted(faults.unlabelled, "row") if faults.unlabelled else ""
    if not examples and not faults:
        withheld = f"it holds {unlabelled} and no label; name a split that has labels"
        faults.whole(withheld if unlabelled else "it holds no examples")
    faults.raise_if_any(DataError, f"Cannot read {source} as {source.format}:")
    if unlabelled:
        read_of_it = counted(len(examples), "example")
        warnings.warn(
            f"{source}: {unlabelled} without a label left out; {read_of_it} read.", stacklevel=2
        )
    return examples
