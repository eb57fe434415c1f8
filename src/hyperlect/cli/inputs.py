"""What `predict` reads: sentences, word files, CoNLL-U, texts and pairs, chunk by chunk."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from itertools import chain, islice
from pathlib import Path
from typing import BinaryIO

from ..errors import DataError, nearest
from ..tasks import Task, TaskType

CHUNK = 1000
PEEKED = 100
COMMENT = "# "
_CONLLU_LINE = re.compile(r"\d+(?:[-.]\d+)?\t(?:[^\t]*\t){8}[^\t]*")
_CONLLU_WORD = re.compile(r"\d+\t")
_TAGGED = re.compile(r"\S+(?: \S+)* (?:O|[BI]-\S+)")
_SENTENCE_IN_ONE = re.compile(r".+[。！？।॥…]")  # of scripts that write no spaces


class Reading(StrEnum):
    """How the input is laid out."""

    AUTO = "auto"
    RAW = "raw"
    WORDS = "words"
    CONLLU = "conllu"


@dataclass(frozen=True)
class Given:
    """One input.

    Attributes:
        value: words, a text, or two texts: what `HyperX.predict` takes.
        text: the line as it stood; empty where words were given.
        lines: of a sentence in CoNLL-U, as they stood.
    """

    value: list[str] | str | tuple[str, ...]
    text: str = ""
    lines: tuple[str, ...] = ()


@dataclass(frozen=True)
class Inputs:
    """Everything to predict for.

    Attributes:
        name: the file's name, for messages.
        given: the inputs, read as they are asked for.
        remark: how the input was understood, where that was not plain.
        chunk: how many are predicted at a time.
    """

    name: str
    given: Iterator[Given]
    remark: str = ""
    chunk: int = CHUNK

    def chunks(self) -> Iterator[list[Given]]:
        """Go through the inputs, some at a time."""
        while some := list(islice(self.given, self.chunk)):
            yield some


def check_file(file: str) -> None:
    """Raise `DataError` where there is no such file; ``-`` is stdin."""
    path = Path(file)
    if file == "-" or path.is_file() or path.is_fifo() or path.is_char_device():
        return
    if path.is_dir():
        raise DataError(f"{file} is a folder. Name a file in it.")
    beside = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
    hint = nearest(path.name, beside)
    sentence = "" if hint else f' To label a sentence: echo "{file}" | hyperlect predict …'
    raise DataError(f"There is no file {file}.{hint}{sentence}")


def open_inputs(file: str, task: Task, reading: Reading) -> Inputs:
    """Open what is to be predicted for.

    Args:
        file: a path, or ``-`` for stdin.
        task: what is predicted; it decides what one input is.
        reading: how word-level input is laid out. `AUTO` looks at the name and the first 100
            lines: CoNLL-U by its name or its ten columns; else words where each line is one word,
            or columns, and empty lines or columns show that it is no list of sentences; else raw.

    Raises:
        DataError: a wrong way of reading for this task; later, a line that cannot be read.
    """
    name = "stdin" if file == "-" else file
    if not task.type.reads_words:
        if reading not in (Reading.AUTO, Reading.RAW):
            raise DataError(f'The task "{task.name}" reads texts, one a line: use --input raw.')
        split = _pair if task.type is TaskType.PAIRS else _text
        return Inputs(name, split(_lines(file, name), name), chunk=_chunk(file))
    lines = _lines(file, name)
    remark = ""
    if reading is Reading.AUTO:
        reading, lines = _recognise(file, lines)
        remark = _TYPING if _typed(file) else _REMARKS[reading]
    if reading is Reading.CONLLU:
        if file == "-":
            raise DataError(
                "CoNLL-U is read from a file, not from stdin. From stdin give words: "
                "cut -f 2 FILE | hyperlect predict … --input words"
            )
        return Inputs(name, _conllu(file), remark)
    read = _words if reading is Reading.WORDS else _raw
    return Inputs(name, read(lines), remark, _chunk(file))


_REMARKS = {
    Reading.RAW: "Reading a sentence a line (--input words: a word a line).",
    Reading.WORDS: "Reading a word a line (--input raw: a sentence a line).",
    Reading.CONLLU: "Reading the words of a CoNLL-U file.",
}
_TYPING = "Type a sentence a line; Ctrl-D ends."


def _chunk(file: str) -> int:
    """Answer at once where someone types."""
    return 1 if _typed(file) else CHUNK


def _typed(file: str) -> bool:
    return file == "-" and sys.stdin.isatty()


def _recognise(file: str, lines: Iterator[str]) -> tuple[Reading, Iterator[str]]:
    """Tell how word-level input is laid out; the lines looked at are put back."""
    if file.endswith(".conllu"):
        return Reading.CONLLU, lines
    if _typed(file):
        return Reading.RAW, lines
    head = list(islice(lines, PEEKED))
    lines = chain(head, lines)
    written = [line for line in head if line.strip() and not line.startswith(COMMENT)]
    if written and all(_CONLLU_LINE.fullmatch(line) for line in written):
        return Reading.CONLLU, lines
    columns = [bool("\t" in line or _TAGGED.fullmatch(line.rstrip())) for line in written]
    single = [_is_one_word(line) for line in written]
    gaps = any(not line.strip() for line in head[:-1])
    laid_out = all(c or s for c, s in zip(columns, single, strict=True))
    return (Reading.WORDS if laid_out and (gaps or any(columns)) else Reading.RAW), lines


def _is_one_word(line: str) -> bool:
    return len(line.split()) == 1 and not _SENTENCE_IN_ONE.fullmatch(line.strip())


def _raw(lines: Iterable[str]) -> Iterator[Given]:
    from ..data.words import split_words

    for line in lines:
        if words := split_words(line):
            yield Given(words, line)


def _words(lines: Iterable[str]) -> Iterator[Given]:
    sentence: list[str] = []
    for line in lines:
        if not line.strip():
            if sentence:
                yield Given(sentence)
            sentence = []
        elif not line.startswith(COMMENT):
            sentence.append(line.split("\t")[0] if "\t" in line else line.split()[0])
    if sentence:
        yield Given(sentence)


def _conllu(file: str) -> Iterator[Given]:
    from ..data.examples import Source
    from ..data.readers import READERS, Faults

    # Labels need not be there: the forms stand in for them.
    source = Source("conllu", file, fields={"label": "form"})
    faults = Faults(source)
    examples = READERS["conllu"](source, True, faults)
    sentences = _sentence_lines(_lines(file, file))
    while some := list(islice(examples, CHUNK)):
        faults.raise_if_any(DataError, f"Cannot read {file} as CoNLL-U:")
        for example in some:
            yield Given(list(example.words), lines=next(sentences))
    faults.raise_if_any(DataError, f"Cannot read {file} as CoNLL-U:")


def _sentence_lines(lines: Iterable[str]) -> Iterator[tuple[str, ...]]:
    """Go through the sentences that have words, each as its lines."""
    sentence: list[str] = []
    for line in chain(lines, [""]):
        if line.strip():
            sentence.append(line)
            continue
        if any(_CONLLU_WORD.match(line) for line in sentence):
            yield tuple(sentence)
        sentence = []


def _text(lines: Iterable[str], name: str) -> Iterator[Given]:
    return (Given(line, line) for line in lines if line.strip())


def _pair(lines: Iterable[str], name: str) -> Iterator[Given]:
    for number, line in enumerate(lines, start=1):
        texts = tuple(line.split("\t"))
        if not line.strip():
            continue
        if len(texts) != 2 or not all(text.strip() for text in texts):
            raise DataError(f"{name}:{number}: write two texts with one tab between them.")
        yield Given(texts, line)


def _lines(file: str, name: str) -> Iterator[str]:
    """Go through the lines of a file or stdin, without their ends."""
    if file == "-":
        yield from _decoded(sys.stdin.buffer, name)
        return
    with Path(file).open("rb") as stream:
        yield from _decoded(stream, name)


def _decoded(stream: BinaryIO, name: str) -> Iterator[str]:
    for number, line in enumerate(stream, start=1):
        try:
            text = line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            raise DataError(
                f"{name}:{number}: this line is not UTF-8 ({error.reason}). Save the text as UTF-8."
            ) from None
        yield text.rstrip("\r\n")
