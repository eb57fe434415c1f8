"""Examples and where they come from: sources, the lines of a file, dependency trees; plain text."""

from __future__ import annotations

import gzip
import io
import re
import sys
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from ..errors import Problems, counted, listed, nearest
from ..tasks import Unlabelled

Split = Literal["train", "dev", "test"]
SPLITS: tuple[Split, ...] = ("train", "dev", "test")
Quoting = Literal["none", "minimal"]

MAX_TREE_WORDS = 2000
"""The most words of a sentence to parse: the scores of its arcs grow with their square."""


@dataclass(frozen=True)
class Source:
    """One place that examples are read from: a file, or a split of a data set on the hub.

    Attributes:
        format: which reader reads it; a key of `readers.READERS`.
        location: the file's path; ``-`` for stdin; the data set's id on the hub; or an iterator
            over lines that were read already, each with its number. A file that is compressed with
            gzip is read as what it holds.
        fields: which column holds what. ``conllu``: ``{"label": "upos"}`` (any column's name, or
            ``misc:KEY``). ``columns``: ``{"word": 1, "label": 2}``, counted from 1. Tables and
            the hub: ``{"text": name, "pair": name, "label": name}`` or, for words,
            ``{"words": name, "labels": name}``. Heads of words are read where ``head`` (in tables
            and on the hub ``heads``) says from which column.
        comment: lines of a column file that start with this are comments; none where empty.
        config, revision, split: of a hub data set.
        limit: read at most this many examples.
        quoting: of tsv: ``minimal`` where cells may stand in quotation marks, as pandas writes
            them; with ``none`` a quotation mark is text.
        strip_prefix: of columns: whether every word has a prefix such as ``en:`` to strip.
        separator: of columns: what separates them; a tab or, in lines without one, spaces if empty.
        unlabelled: what a word (or text) without a label is. With ``ignore`` the label of such a
            word is an empty text, and ``_`` counts as none too; such a text is left out.
    """

    format: str
    location: Any
    fields: Mapping[str, str | int] = field(default_factory=dict)
    comment: str = ""
    config: str | None = None
    revision: str | None = None
    split: str | None = None
    limit: int | None = None
    quoting: Quoting = "none"
    strip_prefix: bool = False
    separator: str = ""
    unlabelled: Unlabelled = "error"

    @property
    def quotes_are_text(self) -> bool:
        """Whether a quotation mark in a table is a sign like any other."""
        return self.format == "tsv" and self.quoting == "none"

    def __str__(self) -> str:
        if not isinstance(self.location, str):
            return "the lines"
        if self.format == "hub":
            return "/".join(filter(None, (self.location, self.config, self.split)))
        return "stdin" if self.location == "-" else self.location


@dataclass(frozen=True, slots=True)
class Example:
    """One sentence, text or pair of texts as it was read.

    Attributes:
        words: the words, for word-level tasks (original spelling); from CoNLL-U for all tasks.
        labels: one label a word, as it stands in the data; an empty text for a word without one.
        heads: the head of each word, counted from 1, and 0 for the root; a tree. Empty where the
            source does not name a column for them.
        text: the text, for sentence-level and raw-text tasks; from CoNLL-U for all tasks.
        pair: the second text of a pair.
        label: the label of the text or pair.
        line: where the example begins in its file, counted from 1 (row number on the hub).
    """

    words: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    heads: tuple[int, ...] = ()
    text: str = ""
    pair: str | None = None
    label: str | None = None
    line: int = 0


Line = tuple[int, str]
"""The number of a line, counted from 1, and the line without its end."""

NO_LABEL = ". If labels may be missing, write unlabelled: ignore under the task"

_GZIP = b"\x1f\x8b"
_MOST_UNPACKED, _ALWAYS_UNPACKED = 100, 2**26
"""How many times its size a gzip file may hold, and how many bytes in any case."""
_NUMBER = re.compile("[0-9]{1,9}")
# Bytes that are not UTF-8 are decoded to these (PEP 383), so that they show where they are.
_UNDECODED = re.compile("[\udc80-\udcff]")
_UTF16_MARKS = ("\udcff\udcfe", "\udcfe\udcff")


def lines(source: Source, problems: Problems) -> Iterator[Line]:
    """Go through the lines of the source, which is read once.

    Lines end with LF or CR LF, or with CR where the first one does. Nothing else ends them: a line
    separator is part of the text. A byte order mark at the head is dropped. Missing files and lines
    that are not UTF-8 are noted in `problems`; the latter are left out.
    """
    if isinstance(source.location, Iterator):
        yield from source.location
        return
    if source.location == "-" and sys.stdin is None:  # it is closed
        problems.add("standard input is closed. Name a file, or pipe text in")
        return
    try:
        with _opened(source.location) as text:
            for number, line in enumerate(_split(text), start=1):
                if number == 1:
                    line = line.removeprefix("\ufeff")
                if "\0" in line or (number == 1 and line.startswith(_UTF16_MARKS)):
                    what = "this is UTF-16 or not a text at all. Save it as UTF-8 text"
                    problems.add(what, None if number == 1 else number)
                    return
                if not line.isascii() and (wrong := _UNDECODED.search(line)):
                    problems.add(_not_utf8(line, wrong.start()), number)
                else:
                    yield number, line
    except (OSError, EOFError, zlib.error) as error:
        problems.add(_why_unreadable(Path(str(source)), error))


def blocks(
    source: Source, problems: Problems, breaks: tuple[str, ...] = ()
) -> Iterator[list[Line]]:
    """Go through the runs of lines between blank lines, each with the blank line that ends it.

    A line that `breaks` begin is a block of its own, and so is a second blank line.
    """
    block: list[Line] = []
    for number, line in lines(source, problems):
        alone = line.startswith(breaks)
        if block and alone:
            yield block
            block = []
        block.append((number, line))
        if alone or not line.strip():
            yield block
            block = []
    if block:
        yield block


def check_fields(
    source: Source, roles: Sequence[str], problems: Problems, needed: Sequence[str] = ()
) -> None:
    """Note the fields that a format does not have, and those that are missing."""
    for role in source.fields:
        if role not in roles:
            hint = f"{nearest(role, roles)} Fields: {listed(roles)}"
            problems.add(f'{source.format} has no field "{role}" here.{hint}', key="fields")
    for role in needed:
        if role not in source.fields:
            problems.add(f"name the column of the {role}, as in {{{role}: NAME}}", key="fields")


def read_text(source: Source, word_level: bool, problems: Problems) -> Iterator[Example]:
    """Read a file with one text a line; blank lines are left out."""
    check_fields(source, (), problems)
    for number, line in lines(source, problems) if not problems else ():
        if line.strip():
            yield Example(text=line.strip(), line=number)


def read_heads(
    heads: Sequence[str], words: Sequence[str]
) -> tuple[tuple[int, ...], list[tuple[int, str]]]:
    """Read the heads of one sentence, and check that they make a tree.

    Every word has one head: a word of the sentence, counted from 1, or 0. Exactly one word has
    the head 0, the root, and from every word the way up ends there.

    Args:
        heads: one a word, as they stand in the data; or none at all.
        words: the words, to name them.

    Returns:
        The heads as numbers (-1 for what is not a number), and what is wrong, each with the word
        that it is about, counted from 1: numbers that are missing or not of a word, circles,
        several roots, more words than `MAX_TREE_WORDS`.
    """
    size = counted(len(heads), "word")
    if len(heads) > MAX_TREE_WORDS:
        return (), [(1, f"{size} in a sentence to parse; it may have at most {MAX_TREE_WORDS:,}")]
    numbers = tuple(int(head) if _NUMBER.fullmatch(head) else -1 for head in heads)
    wrong: list[tuple[int, str]] = []
    for word, (head, number) in enumerate(zip(heads, numbers, strict=True), start=1):
        name = f'word {word} ("{words[word - 1]}")'
        if head in ("", "_"):
            wrong.append((word, f"{name} has no head"))
        elif number < 0 or number > len(heads):
            wrong.append((word, f'{name} has the head "{head:.40}" in a sentence of {size}'))
    for circle in _circles(numbers):
        wrong.append((circle[0], f"words head each other in a circle: {listed(circle)}"))
    roots = [word for word, number in enumerate(numbers, start=1) if number == 0]
    if len(roots) > 1:  # without a root there is a circle, or a head that is no word
        what = "several words have the head 0, and a tree has one root"
        wrong.append((roots[1], f"{what}: {listed(roots)}"))
    return numbers, wrong


def _circles(heads: Sequence[int]) -> Iterator[list[int]]:
    """Find the words (from 1) that head each other in a circle; numbers of no word end the way."""
    seen: set[int] = set()
    for start in range(1, len(heads) + 1):
        word, way = start, []
        while 0 < word <= len(heads) and word not in seen:
            seen.add(word)
            way.append(word)
            word = heads[word - 1]
        if word in way:
            yield sorted(way[way.index(word) :])


def _split(text: Iterable[str]) -> Iterator[str]:
    """Remove the line ends, and split at those that are CR alone."""
    ends_with_cr = None
    for line in text:
        line = line.rstrip("\r\n")  # CR CR LF too: a line end that was converted twice
        if ends_with_cr is None:
            ends_with_cr = "\r" in line
        yield from line.split("\r") if ends_with_cr else (line,)


class _Unpacked(gzip.GzipFile):
    """What a gzip file holds, unless a little of it stands for gigabytes.

    Args:
        stream: the file.
        size: its bytes, from which follows how many it may unpack to; 0 for any number.
    """

    def __init__(self, stream: Any, size: int) -> None:
        super().__init__(fileobj=stream)
        self.most = max(_ALWAYS_UNPACKED, size * _MOST_UNPACKED) if size else sys.maxsize

    def read1(self, size: int = -1) -> bytes:
        """Read some bytes. Raises `OSError` where there are too many."""
        read = super().read1(size)
        if self.tell() > self.most:
            times = f"{_MOST_UNPACKED} times its size"
            raise OSError(f"it unpacks to more than {times}; if that is right, unpack it yourself")
        return read


@contextmanager
def _opened(location: str) -> Iterator[io.TextIOWrapper]:
    """Open a file as text, unzipped; stdin stays open."""
    with ExitStack() as stack:
        stdin = location == "-"
        stream: Any = sys.stdin.buffer if stdin else stack.enter_context(Path(location).open("rb"))
        if stream.peek(2).startswith(_GZIP):
            size = 0 if stdin else Path(location).stat().st_size
            stream = stack.enter_context(_Unpacked(stream, size))
        text = io.TextIOWrapper(stream, encoding="utf-8", errors="surrogateescape", newline="\n")
        stack.callback(text.detach)
        yield text


def _not_utf8(line: str, at: int) -> str:
    """Say which byte is not UTF-8, and how its word reads in the likeliest other encoding."""
    place = len(line[:at].encode("utf-8", "surrogateescape")) + 1
    word = next(word for word in line.split() if line[at] in word)
    guess = word.encode("utf-8", "surrogateescape").decode("cp1252", "replace")
    byte = f"byte {place} of the line (0x{ord(line[at]) - 0xDC00:02x})"
    return f'{byte} is not UTF-8; in Latin-1 its word is "{guess}". Save the file as UTF-8'


def _why_unreadable(path: Path, error: Exception) -> str:
    if path.is_dir():
        return "this is a folder. Name a file in it"
    if not isinstance(error, FileNotFoundError):
        return f"the file cannot be read ({getattr(error, 'strerror', None) or error})"
    if not path.parent.is_dir():
        return f"there is no such file (nor a folder {path.parent})"
    return f"there is no such file.{nearest(path.name, (p.name for p in path.parent.iterdir()))}"
