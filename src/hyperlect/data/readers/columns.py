"""Column files: one word a line, an empty line after each sentence (IOB2, CoNLL-2003 and kin)."""

from __future__ import annotations

import re
from collections.abc import Iterator

from ..examples import Example, Source
from .faults import Faults, counted, lines

DEFAULT_FIELDS = {"word": 1, "label": 2}
DOCUMENT_START = "-DOCSTART-"

_SPACES = re.compile(" +")


def read_columns(source: Source, word_level: bool, faults: Faults) -> Iterator[Example]:
    """Read a column file.

    A line is split at tabs if it has any and else at runs of spaces (at no other white space: a
    no-break space belongs to the word). Every line must have as many columns as the first, since
    a word with a space in it would otherwise pass its second half off as the label. Lines that
    begin with ``source.comment`` and ``-DOCSTART-`` lines are passed over; a ``-DOCSTART-`` line
    ends a sentence.

    Args:
        source: ``fields`` is ``{"word": 1, "label": 2}`` where it says nothing else.
        word_level: if not, the words of a sentence are joined by spaces and labels left alone.
        faults: takes what is wrong.
    """
    numbers = _column_numbers(source, word_level, faults)
    if not numbers:
        return
    word_column, *label_column = numbers
    words: list[str] = []
    labels: list[str] = []
    begin = width = 0

    def sentence() -> Example:
        if not word_level:
            return Example(text=" ".join(words), line=begin)
        return Example(words=tuple(words), labels=tuple(labels), line=begin)

    for number, line in lines(faults):
        if source.comment and line.startswith(source.comment):
            continue
        if not line.strip() or line.startswith(DOCUMENT_START):
            if words:
                yield sentence()
            words, labels = [], []
            continue
        cells = line.split("\t") if "\t" in line else _SPACES.split(line.strip(" "))
        if not width and len(cells) >= max(numbers):
            width = len(cells)
        if fault := _fault(cells, width, numbers):
            faults.at(number, fault)
            continue
        begin = begin if words else number
        words.append(cells[word_column - 1])
        labels.extend(cells[column - 1].strip(" ") for column in label_column)
    if words:
        yield sentence()


def _fault(cells: list[str], width: int, numbers: list[int]) -> str:
    """Say what is wrong with a line; an empty string where nothing is."""
    count = counted(len(cells), "column")
    if len(cells) < max(numbers):
        return f"{count}, and column {max(numbers)} is asked for"
    if len(cells) != width:
        return f"{count}, where the lines before have {width}"
    if not cells[numbers[0] - 1].strip():
        return f"the word (column {numbers[0]}) is empty"
    if any(not cells[number - 1].strip() for number in numbers[1:]):
        return f"the label (column {numbers[1]}) is empty"
    return ""


def _column_numbers(source: Source, word_level: bool, faults: Faults) -> list[int]:
    """Return the columns of word and (for word-level tasks) label; none if they are wrong."""
    for role in source.fields:
        if role not in DEFAULT_FIELDS:
            faults.whole(f'fields: "{role}" is none of the columns there are: word, label')
    fields = DEFAULT_FIELDS | dict(source.fields)
    numbers = []
    for role in DEFAULT_FIELDS:
        value = fields[role]
        if isinstance(value, int) and value >= 1:
            numbers.append(value)
        else:
            faults.whole(f'fields: {role} is "{value}"; write the column\'s number, from 1')
    if faults:
        return []
    return numbers if word_level else numbers[:1]
