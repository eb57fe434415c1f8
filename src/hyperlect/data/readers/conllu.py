"""CoNLL-U: treebanks of Universal Dependencies. Format: universaldependencies.org/format.html.

The reader is strict where the ``conllu`` library is not (that one splits at double spaces, which
words may contain, and does not know line numbers); the tests compare the two.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from ..examples import Example, Source
from .faults import Faults, counted, lines
from .trees import read_heads

COLUMNS = ("id", "form", "lemma", "upos", "xpos", "feats", "head", "deprel", "deps", "misc")

# "_" is a value here (no features; a form or lemma that is a low line), and a gap elsewhere.
_UNDERSCORE_IS_A_VALUE = ("id", "form", "lemma", "feats")
_ID = re.compile(r"(?P<word>[1-9]\d*)|(?P<range>[1-9]\d*-[1-9]\d*)|(?P<empty>\d+\.[1-9]\d*)")
_TEXT = re.compile(r"#\s*text\s*=\s*(.*)")
_PLUS = re.compile(r"#\s*global\.columns\s*=\s*(.*)")


@dataclass
class _Sentence:
    """What is known of a sentence so far."""

    text: str = ""
    words: list[str] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    heads: list[str] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)  # line of each word
    surface: list[str] = field(default_factory=list)  # tokens of the text, with their spaces
    last: int = 0  # ID of the last word
    covered: int = 0  # last word that a multiword range covers
    range_line: int = 0  # line of that range

    def example(self, heads: tuple[int, ...]) -> Example:
        text = self.text or "".join(self.surface).strip()
        return Example(tuple(self.words), tuple(self.labels), heads, text, line=self.lines[0])


@dataclass(frozen=True)
class _Wanted:
    """The columns that are read beside the form, each with a key in it (empty for the whole)."""

    label: tuple[str, str] | None = None
    head: tuple[str, str] | None = None


def read_conllu(source: Source, word_level: bool, faults: Faults) -> Iterator[Example]:
    """Read a CoNLL-U file.

    Words are the syntactic words: the lines of multiword ranges (``4-5``) and empty nodes
    (``5.1``) are passed over, and a word whose form is ``_`` is a word like any other. IDs must
    count up from 1. A sentence of comments alone is passed over.

    An example holds both the words and the text, at either level, since where there are multiword
    ranges neither can be told from the other: the text is the sentence's ``# text`` comment, or,
    where that is missing, its surface tokens put together again.

    Args:
        source: ``fields`` is ``{"label": "upos"}`` where it says nothing else; the label may be
            any column, or one entry of a column of entries, as in ``misc:NER`` or ``feats:Case``
            (``_`` for words without that feature). With ``head`` (``{"label": "deprel", "head":
            "head"}``) heads are read as well, and every sentence must be a tree.
        word_level: if not, labels and heads are left alone.
        faults: takes what is wrong.
    """
    wanted = _columns(source, faults)
    if faults:
        return
    if not word_level:
        wanted = _Wanted()
    sentence = _Sentence()
    for number, line in lines(faults):
        if not line.strip():
            yield from _finish(sentence, faults)
            sentence = _Sentence()
        elif line.startswith("#"):
            if comment := _TEXT.fullmatch(line):
                sentence.text = comment[1].strip()
            elif (plus := _PLUS.fullmatch(line)) and plus[1].lower().split() != list(COLUMNS):
                faults.at(
                    number,
                    f"this is CoNLL-U Plus with the columns {plus[1].strip()}; read it with "
                    'format: columns, comment: "# ", and the columns\' numbers as fields',
                )
                return
        else:
            _take(line, number, sentence, wanted, faults)
    yield from _finish(sentence, faults)


def _finish(sentence: _Sentence, faults: Faults) -> Iterator[Example]:
    if sentence.covered > sentence.last:
        faults.at(
            sentence.range_line,
            f"this range reaches to word {sentence.covered}, and the sentence ends with word "
            f"{sentence.last}",
        )
    heads: tuple[int, ...] = ()
    # Where words are missing, nothing can be said about heads.
    if sentence.heads and len(sentence.words) == sentence.last:
        heads, wrong = read_heads(sentence.heads, sentence.words)
        for word, message in wrong:
            faults.at(sentence.lines[word - 1], message)
    if sentence.words:
        yield sentence.example(heads)


def _take(line: str, number: int, sentence: _Sentence, wanted: _Wanted, faults: Faults) -> None:
    """Add one word line to the sentence, or note what is wrong with it."""
    cells = line.split("\t")
    match = _ID.fullmatch(cells[0].split(" ")[0])
    if len(cells) != len(COLUMNS):
        hint = "" if len(cells) > 1 else "; columns are parted by tabs"
        faults.at(number, f"{counted(len(cells), 'column')} instead of {len(COLUMNS)}{hint}")
        if match and match["word"]:  # one fault a line is enough: count on from here
            sentence.last = int(match["word"])
    elif not match or match[0] != cells[0]:
        faults.at(number, f'"{cells[0]}" is no ID (write 4, 4-5 or 4.1)')
    elif match["empty"]:
        if int(cells[0].split(".")[0]) != sentence.last:
            faults.at(number, f"empty node {cells[0]} after word {sentence.last}")
    elif match["range"]:
        first, last = (int(part) for part in cells[0].split("-"))
        if first != sentence.last + 1 or last < first or first <= sentence.covered:
            faults.at(number, f"multiword range {cells[0]} after word {sentence.last}")
            return
        sentence.covered, sentence.range_line = last, number
        sentence.surface.append(_surface(cells))
    else:
        _take_word(cells, number, sentence, wanted, faults)


def _take_word(
    cells: list[str], number: int, sentence: _Sentence, wanted: _Wanted, faults: Faults
) -> None:
    identifier, form = cells[0], cells[1]
    if int(identifier) != sentence.last + 1:
        faults.at(number, f"ID {identifier} where {sentence.last + 1} should follow")
    if not form.strip():
        faults.at(number, f"word {identifier} has no form")
    if wanted.label:
        value = _label(cells, *wanted.label)
        sentence.labels.append(value)
        if not value:
            place = ":".join(filter(None, wanted.label))
            faults.at(number, f'word {identifier} ("{form}") has no {place}')
    if wanted.head:
        sentence.heads.append(_label(cells, *wanted.head))
    sentence.last = int(identifier)
    sentence.lines.append(number)
    sentence.words.append(form)
    if sentence.last > sentence.covered:
        sentence.surface.append(_surface(cells))


def _surface(cells: list[str]) -> str:
    """A token as it stands in the text, with the space behind it if there is one."""
    return cells[1] + ("" if "SpaceAfter=No" in cells[9].split("|") else " ")


def _label(cells: list[str], column: str, key: str) -> str:
    """The label in a word's line; an empty string where there is none."""
    value = cells[COLUMNS.index(column)].strip()
    if key:
        entries = dict(entry.partition("=")[::2] for entry in value.split("|"))
        return entries.get(key, "_" if column == "feats" else "").strip()
    return "" if value == "_" and column not in _UNDERSCORE_IS_A_VALUE else value


def _columns(source: Source, faults: Faults) -> _Wanted:
    """The columns that hold the label and, where they are asked for, the heads."""
    for role in source.fields:
        if role not in ("label", "head"):
            faults.whole(f'fields: "{role}" cannot be chosen in CoNLL-U, only label (and head) can')
    head = source.fields.get("head")
    return _Wanted(
        _column("label", str(source.fields.get("label", "upos")), faults),
        None if head is None else _column("head", str(head), faults),
    )


def _column(role: str, written: str, faults: Faults) -> tuple[str, str]:
    column, colon, key = written.partition(":")
    column = column.lower()
    if column not in COLUMNS:
        faults.whole(f'fields: there is no column "{column}"; the columns are {", ".join(COLUMNS)}')
    elif colon and not (key and column in ("feats", "misc")):
        faults.whole(f'fields: write the {role} as a column, "misc:KEY" or "feats:KEY"')
    return column, key
