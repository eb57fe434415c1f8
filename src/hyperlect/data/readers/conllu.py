"""CoNLL-U: treebanks of Universal Dependencies. Format: universaldependencies.org/format.html.

The reader is strict where the ``conllu`` library is not (that one splits at double spaces, which
words may contain, and does not know line numbers); the tests compare the two.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from ...errors import Problems, counted
from ..examples import NO_LABEL, Example, Line, Source, blocks, check_fields, read_heads

COLUMNS = ("id", "form", "lemma", "upos", "xpos", "feats", "head", "deprel", "deps", "misc")

# "_" is a value here (no features; a form or lemma that is an underscore), and a gap elsewhere.
_UNDERSCORE_IS_A_VALUE = ("id", "form", "lemma", "feats")
_ID = re.compile(r"([1-9]\d{0,8})(?:-([1-9]\d{0,8}))?|(\d{1,9})\.[1-9]\d{0,8}", re.ASCII)
_TEXT = re.compile(r"#\s*text\s*=\s*(.*)")
_PLUS = re.compile(r"#\s*global\.columns\s*=\s*(.*)")


def conllu_sentences(
    source: Source, word_level: bool, problems: Problems
) -> Iterator[tuple[Example | None, list[Line]]]:
    """Read a CoNLL-U file, and keep the lines, to write them again.

    Words are the syntactic words: the lines of multiword ranges (``4-5``) and empty nodes
    (``5.1``) are left out, and a word whose form is ``_`` is a word like any other. IDs must
    count up from 1. A sentence of comments alone is left out.

    An example holds both the words and the text, at either level, since where there are multiword
    ranges neither can be told from the other: the text is the sentence's ``# text`` comment, or,
    where that is missing, its surface tokens put together again.

    Args:
        source: ``fields`` is ``{"label": "upos"}`` by default; the label may be any column, or
            one entry of a column of entries, as in ``misc:NER`` or ``feats:Case`` (``_`` for
            words without that feature). With ``head`` (``{"label": "deprel", "head": "head"}``)
            heads are read as well, and every sentence must be a tree.
        word_level: if not, labels and heads are not read.
        problems: takes what is wrong.

    Yields:
        Every block between blank lines: its example (None for comments alone), and its lines as
        they stand with their numbers, comments, ranges, empty nodes and the blank line after it
        among them.
    """
    check_fields(source, ("label", "head"), problems)
    columns = {}
    for role, written in {"label": "upos", **source.fields}.items():
        name, colon, key = str(written).partition(":")
        columns[role] = (name.lower(), key)
        if name.lower() not in COLUMNS or (colon and (name not in ("feats", "misc") or not key)):
            known = f'Write one of {", ".join(COLUMNS)}, "misc:KEY" or "feats:KEY"'
            problems.add(f'there is no column "{written}". {known}', key=f"fields.{role}")
    for block in blocks(source, problems) if not problems else ():
        plus = _PLUS.fullmatch(block[0][1])
        if plus and plus[1].lower().split() != list(COLUMNS):
            hint = 'format: columns, comment: "# ", and the numbers of the columns as fields'
            problems.add(f"this is CoNLL-U Plus. Read it with {hint}", block[0][0])
            return
        yield _read_sentence(block, columns if word_level else {}, source, problems), block


def _read_sentence(
    block: Sequence[Line],
    columns: Mapping[str, tuple[str, str]],
    source: Source,
    problems: Problems,
) -> Example | None:
    """Read the lines of a sentence, and note what is wrong with each; None without words."""
    words: list[str] = []
    values: dict[str, list[str]] = {role: [] for role in columns}
    numbers: list[int] = []  # the line of each word
    text, surface = "", ""
    last = covered = range_line = 0  # IDs of the last word, and of the last that a range covers
    for number, line in block:
        if comment := _TEXT.fullmatch(line):
            text = comment[1].strip()
        if line.startswith("#") or not line.strip():
            continue
        cells = line.split("\t")
        match = _ID.fullmatch(cells[0])
        if len(cells) != len(COLUMNS):
            hint = "" if cells[1:] else "; separate the columns by tabs"
            problems.add(f"{counted(len(cells), 'column')} instead of {len(COLUMNS)}{hint}", number)
            # One problem a line is enough: count on from here.
            last = int(match[1]) if match and match[1] and not match[2] else last
            continue
        if not match:
            problems.add(f'"{cells[0]:.40}" is not an ID (write 4, 4-5 or 4.1)', number)
            continue
        first, end, before = match.groups()
        fits = int(before) == last if before else int(first) == last + 1
        if end:  # a range, which goes forward, from where the one before has ended
            fits = fits and covered <= last < int(end)
        if not fits:
            hint = ". Is the blank line before this sentence missing?" if first == "1" else ""
            problems.add(f"ID {cells[0]} cannot follow word {last}{hint}", number)
        if before or (end and not fits):
            continue
        if end or int(first) > covered:
            surface += cells[1] if "SpaceAfter=No" in cells[9].split("|") else f"{cells[1]} "
        if end:
            covered, range_line = int(end), number
            continue
        last = int(first)
        numbers.append(number)
        words.append(cells[1])
        if not cells[1].strip():
            problems.add(f"word {last} has no form", number)
        for role, (name, key) in columns.items():
            value = _value(cells[COLUMNS.index(name)].strip(), name, key)
            values[role].append(value)
            if not value and role == "label" and source.unlabelled == "error":
                column = ":".join(filter(None, (name, key)))
                problems.add(f'word {last} ("{cells[1]}") has no {column}{NO_LABEL}', number)
    if covered > last:
        problems.add(f"this range covers word {covered}, and the last word is {last}", range_line)
    # Where words are missing, nothing can be said about heads.
    heads, wrong = read_heads(values.get("head", []) if len(words) == last else [], words)
    for word, message in wrong:
        problems.add(message, numbers[word - 1])
    if not words:
        return None
    labels = tuple(values.get("label", ()))
    return Example(tuple(words), labels, heads, text or surface.strip(), line=numbers[0])


def _value(cell: str, name: str, key: str) -> str:
    """The value of a column, or of one entry of it; an empty text where there is none."""
    if key:
        entries = dict(entry.partition("=")[::2] for entry in cell.split("|"))
        return entries.get(key, "_" if name == "feats" else "").strip()
    return "" if cell == "_" and name not in _UNDERSCORE_IS_A_VALUE else cell
