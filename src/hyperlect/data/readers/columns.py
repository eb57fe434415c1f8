"""Column files: one word a line, a blank line after each sentence (IOB2, CoNLL-2003 and kin)."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping

from ...errors import Problems, counted
from ..examples import NO_LABEL, Example, Line, Source, blocks, check_fields, read_heads

DEFAULT_FIELDS = {"word": 1, "label": 2}
ROLES = (*DEFAULT_FIELDS, "head")
DOCUMENT_START = "-DOCSTART-"

_PREFIX = re.compile(r"([a-z]{2,8}(?:-[a-z]+)*:).")
_SPACES = re.compile(" +")
_SHOWN = 3
"""How many lines with the same problem are named; a wrong form may be that of all lines."""


def column_sentences(
    source: Source, word_level: bool, problems: Problems
) -> Iterator[tuple[Example | None, list[Line]]]:
    """Read a column file, and keep the lines, to write them again.

    A line is split at tabs if it has any and else at runs of spaces (at no other white space: a
    no-break space belongs to the word), unless ``source.separator`` names one of them. Every line
    must have as many columns as the first, since a word with a space in it would otherwise pass
    its second half off as the label. Lines that begin with ``source.comment`` and ``-DOCSTART-``
    lines are left out; a ``-DOCSTART-`` line ends a sentence.

    Args:
        source: ``fields`` is ``{"word": 1, "label": 2}`` by default. With ``head`` heads are read
            as well (words counted from 1, 0 for the root), and every sentence must be a tree.
            Where words may be unlabelled, the column of labels may be missing altogether.
        word_level: if not, the words of a sentence are joined by spaces and labels are not read.
        problems: takes what is wrong.

    Yields:
        Every block between blank lines, and every ``-DOCSTART-`` line: its example (None without
        words), and its lines as they stand, with comments and the blank line after it.
    """
    check_fields(source, ROLES, problems)
    columns: dict[str, int] = {}
    for role, value in (DEFAULT_FIELDS | dict(source.fields)).items():
        if isinstance(value, int) and value >= 1:
            columns |= {role: value} if word_level or role == "word" else {}
        else:
            problems.add(f'write the number of a column, not "{value}"', key=f"fields.{role}")
    if problems:
        return
    ignore = source.unlabelled == "ignore"
    needed = {role: column for role, column in columns.items() if role != "label" or not ignore}
    least = max(needed.values())
    wrong: Counter[str] = Counter()  # what is wrong with the form of lines → how often
    width, prefix, first_line = 0, "", ""
    for block in blocks(source, problems, (DOCUMENT_START,)):
        read: dict[str, list[str]] = {role: [] for role in columns}
        numbers: list[int] = []  # the line of each word
        heading = block[0][1].startswith(DOCUMENT_START)
        for number, line in block if not heading else ():
            first_line = first_line or line.strip()
            comment = source.comment and line.startswith(source.comment)
            if comment or not line.strip():
                continue
            tabs = source.separator == "\t" or (not source.separator and "\t" in line)
            cells = line.split("\t") if tabs else _SPACES.split(line.strip(" "))
            if not width and len(cells) >= least:
                width = len(cells)
                start = _PREFIX.match(cells[columns["word"] - 1])
                prefix = start[1] if start and source.strip_prefix else ""
            if len(cells) != width or not all(cells[c - 1].strip() for c in needed.values()):
                problem = _problem(cells, width, needed)
                wrong[problem] += 1
                if wrong[problem] <= _SHOWN:
                    problems.add(problem, number)
                continue
            numbers.append(number)
            for role, column in columns.items():
                cell = cells[column - 1] if column <= width else ""
                cell = (cell.removeprefix(prefix) or cell) if role == "word" else cell.strip(" ")
                read[role].append("" if ignore and role == "label" and cell == "_" else cell)
        example = None
        if numbers and not word_level:
            example = Example(text=" ".join(read["word"]), line=numbers[0])
        elif numbers:
            heads, faulty = read_heads(read.get("head", []), read["word"])
            for word, message in faulty:
                problems.add(message, numbers[word - 1])
            example = Example(tuple(read["word"]), tuple(read["label"]), heads, line=numbers[0])
        yield example, block
    for problem, times in wrong.items():
        if times > _SHOWN:
            problems.add(f"{problem}: also in {counted(times - _SHOWN, 'more line')}")
    if wrong and first_line.startswith("#") and not source.comment:
        problems.add('line 1 begins with #. If such lines are comments, write comment: "# "')
    if source.strip_prefix and width and not prefix:
        problems.add("the first word has no prefix such as en:", key="strip_prefix")


def _problem(cells: list[str], width: int, needed: Mapping[str, int]) -> str:
    """Say what is wrong with the form of a line."""
    count = counted(len(cells), "column")
    if len(cells) < max(needed.values()):
        return f"{count}, and column {max(needed.values())} is asked for"
    if len(cells) != width:
        return f"{count}, where the lines before have {width}"
    role, column = next((r, c) for r, c in needed.items() if not cells[c - 1].strip())
    return f"the {role} (column {column}) is empty{NO_LABEL if role == 'label' else ''}"
