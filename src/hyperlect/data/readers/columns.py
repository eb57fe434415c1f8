"""Column files: one word a line, an empty line after each sentence (IOB2, CoNLL-2003 and kin)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from ..examples import Example, Source
from .faults import Faults, counted, lines
from .trees import read_heads

DEFAULT_FIELDS = {"word": 1, "label": 2}
ROLES = (*DEFAULT_FIELDS, "head")
DOCUMENT_START = "-DOCSTART-"

_SPACES = re.compile(" +")
_SHOWN = 3
"""How many lines with the same fault are named; a wrong form may be that of all lines."""
_COMMENTS = (
    'the first line begins with #; if such lines are comments, write comment: "# " in the block '
    "of this data"
)


def read_columns(source: Source, word_level: bool, faults: Faults) -> Iterator[Example]:
    """Read a column file.

    A line is split at tabs if it has any and else at runs of spaces (at no other white space: a
    no-break space belongs to the word). Every line must have as many columns as the first, since
    a word with a space in it would otherwise pass its second half off as the label. Lines that
    begin with ``source.comment`` and ``-DOCSTART-`` lines are passed over; a ``-DOCSTART-`` line
    ends a sentence.

    Args:
        source: ``fields`` is ``{"word": 1, "label": 2}`` where it says nothing else. With ``head``
            heads are read as well (words counted from 1, 0 for the root), and every sentence must
            be a tree.
        word_level: if not, the words of a sentence are joined by spaces and labels left alone.
        faults: takes what is wrong.
    """
    columns = _column_numbers(source, word_level, faults)
    if not columns:
        return
    read: dict[str, list[str]] = {role: [] for role in columns}
    places: list[int] = []  # the line of each word
    wrong: dict[str, list[int]] = {}  # what is wrong with the form of lines → which
    width = 0

    def sentence() -> Example:
        if not word_level:
            return Example(text=" ".join(read["word"]), line=places[0])
        heads, wrong = read_heads(read.get("head", []), read["word"])
        for word, message in wrong:
            faults.at(places[word - 1], message)
        return Example(tuple(read["word"]), tuple(read["label"]), heads, line=places[0])

    first = ""
    for number, line in lines(faults):
        first = first or line
        if source.comment and line.startswith(source.comment):
            continue
        if not line.strip() or line.startswith(DOCUMENT_START):
            if places:
                yield sentence()
            read, places = {role: [] for role in columns}, []
            continue
        cells = line.split("\t") if "\t" in line else _SPACES.split(line.strip(" "))
        if not width and len(cells) >= max(columns.values()):
            width = len(cells)
        if fault := _fault(cells, width, columns):
            wrong.setdefault(fault, []).append(number)
            continue
        places.append(number)
        for role, column in columns.items():
            cell = cells[column - 1]
            read[role].append(cell if role == "word" else cell.strip(" "))
    if places:
        yield sentence()
    _note(wrong, faults)
    if wrong and first.startswith("#") and not source.comment:
        faults.whole(_COMMENTS)


def _note(wrong: Mapping[str, list[int]], faults: Faults) -> None:
    """Name the first lines of each fault, in order, and count the others."""
    named = [(number, fault) for fault, where in wrong.items() for number in where[:_SHOWN]]
    for number, fault in sorted(named):
        faults.at(number, fault)
    for fault, where in wrong.items():
        if len(where) > _SHOWN:
            faults.whole(f"{fault}: so in {len(where) - _SHOWN:,} more lines")


def _fault(cells: list[str], width: int, columns: Mapping[str, int]) -> str:
    """Say what is wrong with a line; an empty string where nothing is."""
    count = counted(len(cells), "column")
    if len(cells) < max(columns.values()):
        return f"{count}, and column {max(columns.values())} is asked for"
    if len(cells) != width:
        return f"{count}, where the lines before have {width}"
    for role, column in columns.items():
        if not cells[column - 1].strip():
            return f"the {role} (column {column}) is empty"
    return ""


def _column_numbers(source: Source, word_level: bool, faults: Faults) -> dict[str, int]:
    """Return the columns of the roles that are read; none if they are wrong."""
    for role in source.fields:
        if role not in ROLES:
            faults.whole(f'fields: "{role}" is none of the columns there are: {", ".join(ROLES)}')
    fields = DEFAULT_FIELDS | dict(source.fields)
    columns = {}
    for role in (role for role in ROLES if role in fields):
        value = fields[role]
        if isinstance(value, int) and value >= 1:
            columns[role] = value
        else:
            faults.whole(f'fields: {role} is "{value}"; write the column\'s number, from 1')
    if faults:
        return {}
    return columns if word_level else {"word": columns["word"]}
