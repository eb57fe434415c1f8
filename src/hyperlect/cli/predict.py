"""hyperlect predict."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from ..data.readers import READERS, Line, Source, column_sentences, conllu_sentences, lines
from ..errors import DataError, HyperlectError, Problems
from ..grid import Kind
from ..languages import name, resolve
from ..run_folder import is_hub_id, require_run, writing
from ..tasks import UPOS, Task, TaskType
from . import Device, DeviceOption, libraries, out, remark

if TYPE_CHECKING:
    from ..model import HyperX
    from ..predict import Prediction

CHUNK = 1000
PEEKED = 100
COLOURS = ("green", "cyan", "magenta", "yellow", "blue", "red")
_CONLLU_LINE = re.compile(r"\d+(?:[-.]\d+)?\t(?:[^\t]*\t){8}[^\t]*")
_IN_COLUMNS = re.compile(r".*\t.*|\S+(?: \S+)* (?:O|[BIESLU]-\S+)")
_ONE_WORD = re.compile(r"\S|\S*[^\s。！？।॥…]")  # and no sentence of a script without spaces


class Layout(StrEnum):
    """How the input is laid out."""

    AUTO = "auto"
    RAW = "raw"
    WORDS = "words"
    COLUMNS = "columns"
    CONLLU = "conllu"
    TSV = "tsv"
    CSV = "csv"
    JSONL = "jsonl"


class Form(StrEnum):
    """How predictions are written."""

    TEXT = "text"
    CONLL = "conll"
    CONLLU = "conllu"
    JSONL = "jsonl"


TABLES = (Layout.TSV, Layout.CSV, Layout.JSONL)
WORD_FILES = (Layout.WORDS, Layout.COLUMNS, Layout.CONLLU)
_READS = {
    Layout.WORDS: "a word a line",
    Layout.COLUMNS: "a word a line, from column {word} (--word)",
    Layout.CONLLU: "CoNLL-U",
    **{layout: f"{layout}, from column {{columns}} (--field)" for layout in TABLES},
}
_READS_RAW = {"words": "a sentence a line", "pair": "two texts a line, with a tab between"}


def predict(
    run: Annotated[
        str,
        typer.Argument(
            metavar="RUN", help="The folder that training made, or a model's id on the hub."
        ),
    ],
    task: Annotated[str, typer.Option(help="A task of the run, such as ner.")],
    language: Annotated[
        str, typer.Option(help="Any language, trained or not: fao, fo or Faroese.")
    ],
    file: Annotated[
        str, typer.Argument(metavar="FILE", help="What to read. [dim]default: stdin[/]")
    ] = "-",
    target: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", help="Where to write. [dim]default: stdout[/]"),
    ] = None,
    form: Annotated[
        str,
        typer.Option(
            "--format",
            metavar="text|conll|conllu|jsonl",
            help="text is for reading. conll has a word and its label on a line. conllu fills in "
            "the predicted column and keeps the rest. jsonl has one object a sentence.",
        ),
    ] = Form.TEXT.value,
    layout: Annotated[
        Layout,
        typer.Option(
            "--input",
            help="raw: a sentence a line. words: a word a line, a blank line after each "
            "sentence. columns: the same with columns. auto looks at the file's name and its "
            "first lines, and says what it took.",
        ),
    ] = Layout.AUTO,
    word: Annotated[
        int | None, typer.Option(min=1, help="columns: the number of the one with the words, as 2.")
    ] = None,
    comment: Annotated[
        str, typer.Option(metavar="TEXT", help='words, columns: how comments begin, as "# ".')
    ] = "",
    strip_prefix: Annotated[
        bool, typer.Option("--strip-prefix", help="columns: strip en: and the like from words.")
    ] = False,
    fields: Annotated[
        list[str],
        typer.Option(
            "--field",
            metavar="ROLE=COLUMN",
            help="tsv, csv, jsonl: the column of the words, text or pair; repeatable.",
        ),
    ] = [],  # noqa: B006
    quoted: Annotated[
        bool, typer.Option("--quoted", help="tsv: cells may stand in quotation marks.")
    ] = False,
    device: DeviceOption = Device.AUTO,
) -> None:
    """Label sentences with one task in one language.

    Files are read as training reads them. Raw sentences are split into words and
    signs. Tasks over whole texts read a text a line; tasks over pairs two texts a
    line, with a tab between. Blank lines and comments keep their place.

    \b
    Examples:
      hyperlect predict runs/mine --task ner --language fao text.txt
      hyperlect predict runs/mine --task ner --language Faroese   (type, or pipe)
      hyperlect predict runs/mine --task pos --language fo words.tsv --word 2
      hyperlect predict runs/a --task pos --language fo b.conllu --format conllu
    """
    if form in (Layout.COLUMNS, Layout.TSV, Layout.CSV):  # formats of files, as in a recipe
        form, layout = Form.CONLL if form == Layout.COLUMNS else Form.TEXT, Layout(form)
    if form not in list(Form):
        raise HyperlectError(f'--format must be one of {", ".join(Form)}, not "{form}".')
    resolve(language)  # a misspelt one is an error before the model is loaded
    if " " in file and not Path(file).exists():
        hint = f'To label a sentence: echo "{file}" | hyperlect predict …'
        raise DataError(f'There is no file "{file}". {hint}')
    typed = file == "-" and sys.stdin is not None and sys.stdin.isatty()
    problems = Problems("stdin" if file == "-" else file)
    numbered = lines(Source("text", file), problems)
    head = [] if typed else list(islice(numbered, PEEKED))
    problems.raise_if_any(DataError, "The input cannot be read:")
    model = load(run, device)
    chosen = model.task(task)
    if not chosen.type.reads_words and form in (Form.CONLL, Form.CONLLU):
        raise HyperlectError(
            f'--format {form} is for labels on words; "{task}" labels texts. Use text or jsonl.'
        )
    first = [line for _, line in head]
    guessed = layout is Layout.AUTO
    if guessed:
        layout = Layout.COLUMNS if word else recognise(file, first, chosen, comment)
    if not chosen.type.reads_words and layout in WORD_FILES:
        raise DataError(f'The task "{task}" reads texts: use --input raw, tsv, csv or jsonl.')
    for option, value, layouts in (
        ("--word", word, (Layout.COLUMNS,)),
        ("--comment", comment, (Layout.WORDS, Layout.COLUMNS)),
        ("--strip-prefix", strip_prefix, (Layout.WORDS, Layout.COLUMNS)),
        ("--field", fields, TABLES),
        ("--quoted", quoted, (Layout.TSV,)),
    ):
        if value and layout not in layouts:
            raise HyperlectError(f"{option} is for --input {' or '.join(layouts)}, not {layout}.")
    columns: dict[str, str | int] = {}
    if layout is Layout.CONLLU:
        columns = {"label": "form"}  # labels need not be there
    elif layout in WORD_FILES:
        columns = {"word": word or 1, "label": word or 1}
    elif layout in TABLES:
        columns |= [field.partition("=")[::2] for field in fields]
        columns = columns or {role: role for role in _roles(chosen, first)}
    if guessed:
        reads = _READS.get(layout) or _READS_RAW.get(chosen.type.reads, "a text a line")
        reads = reads.format(word=word or 1, columns=", ".join(map(str, columns.values())))
        remark(f"Type {reads}; Ctrl-D ends." if typed else f"Reading {reads}; see --input.")
    formats: Any = {Layout.WORDS: "columns", Layout.RAW: "text"}
    source = Source(
        formats.get(layout, layout.value),
        chain(head, numbered),
        columns,
        comment,
        quoting="minimal" if quoted else "none",
        strip_prefix=strip_prefix,
        separator="\t" if layout is Layout.WORDS else "",
    )
    blocks = read(source, layout, chosen, problems, guessed=not word)
    with _written(target, file) as console:
        writer = Writer(Form(form), layout, chosen, console, comment)
        label(model, blocks, problems, writer, language, 1 if typed else CHUNK)


def load(run: str, device: Device) -> HyperX:
    """Load a model from a run folder or the hub."""
    if Path(run).parent.is_dir() or not is_hub_id(run):
        require_run(Path(run), finished=True, recipe=False)
    with libraries():
        from ..hardware import choose_device
        from ..model import HyperX
    return HyperX.from_pretrained(run, device=choose_device(device))


@contextmanager
def _written(target: Path | None, file: str) -> Iterator[Console]:
    """Open the output. Raises `HyperlectError` where it is the file that is read."""
    if target is None:
        yield out()
        return
    read = os.fstat(sys.stdin.fileno()) if file == "-" else Path(file).stat()
    if target.is_file() and os.path.samestat(target.stat(), read):
        raise HyperlectError(f"--out {target} is the file that is read. Name another one.")
    with writing(target), target.open("w", encoding="utf-8") as stream:
        yield Console(file=stream, highlight=False, soft_wrap=True)


def recognise(file: str, head: Sequence[str], task: Task, comment: str = "") -> Layout:
    """Tell how the input is laid out, by the file's name and by most of its first lines."""
    suffix = Path(file.removesuffix(".gz")).suffix.removeprefix(".")
    if suffix in TABLES and (suffix == Layout.JSONL or _has_column(head, _roles(task, head)[0])):
        return Layout(suffix)
    if not task.type.reads_words or suffix == Layout.CONLLU:
        return Layout.CONLLU if task.type.reads_words else Layout.RAW
    # The word "#" and a comment look alike, so neither has a say.
    rows = [line.strip(" ") for line in head if not line.startswith(("#", comment or "#"))]
    rows = [row for row in rows if row.strip()]

    def share(pattern: re.Pattern[str]) -> float:
        return sum(pattern.fullmatch(row) is not None for row in rows) / max(1, len(rows))

    if share(_CONLLU_LINE) > 0.5:
        return Layout.CONLLU
    if share(_IN_COLUMNS) > 0.5:
        return Layout.COLUMNS
    gaps = any(not line.strip() for line in head[:-1])
    return Layout.WORDS if gaps and share(_ONE_WORD) > 0.8 else Layout.RAW


def _roles(task: Task, head: Sequence[str]) -> tuple[str, ...]:
    """The columns that a table has where no others are named; words may stand as a text."""
    if task.type.reads_words:
        return ("words",) if _has_column(head, "words") else ("text",)
    return ("text", "pair") if task.type.reads == "pair" else ("text",)


def _has_column(head: Sequence[str], column: str) -> bool:
    """Whether the first line of a table names a column."""
    first = next(filter(str.strip, head), "")
    return re.search(rf'(?:^|[\t,"]){column}(?:$|[\t,"])', first) is not None


@dataclass(frozen=True)
class Block:
    """Some lines of the input, and what is to be predicted for.

    Attributes:
        lines: as they stand; none for rows of a table.
        value: words, a text or two texts: what `HyperX.predict` takes. None for lines without
            words, as comments and blank lines.
        line: where it begins.
    """

    lines: Sequence[Line]
    value: Any
    line: int


def read(
    source: Source, layout: Layout, task: Task, problems: Problems, guessed: bool = False
) -> Iterator[Block]:
    """Read the input block by block; lines that cannot be read are noted in `problems`.

    Args:
        source, layout, task: what to read, and how.
        problems: takes what is wrong.
        guessed: whether nobody said which column holds the words.
    """
    from ..predict import split_words

    if layout in TABLES:
        as_words = task.type.reads_words and "text" not in source.fields
        for row in READERS[source.format].read(source, as_words, problems):
            if row is not None:
                text = row.text if row.pair is None else (row.text, row.pair)
                yield Block([], list(row.words) or text, row.line)
    elif layout in WORD_FILES:
        sentences = conllu_sentences if layout is Layout.CONLLU else column_sentences
        for example, block in sentences(source, True, problems):
            words = list(example.words) if example else None
            counted = words and words[1:] and words == list(map(str, range(1, len(words) + 1)))
            if counted and guessed and layout is Layout.COLUMNS:
                problems.add("this column counts the words. Name another: --word 2", block[0][0])
            yield Block(block, words, block[0][0])
    else:
        for number, line in lines(source, problems):
            value: Any = line
            if not line.strip() or (task.type.reads_words and not split_words(line)):
                value = None
            elif task.type.reads == "pair":
                value = tuple(line.split("\t"))
                if len(value) != 2 or not all(map(str.strip, value)):
                    problems.add("write two texts with one tab between them", number)
            yield Block([(number, line)], value, number)


def label(
    model: HyperX,
    blocks: Iterator[Block],
    problems: Problems,
    writer: Writer,
    language: str,
    chunk: int = CHUNK,
) -> None:
    """Predict chunk by chunk, so that files of any size pass through.

    Raises:
        DataError: lines cannot be read; names all of a chunk. Or there are none.
    """
    first = True
    while some := list(islice(blocks, chunk)):
        problems.raise_if_any(DataError, "The input cannot be read:")
        values = [block.value for block in some if block.value is not None]
        predictions = iter(model.predict(values, writer.task.name, language))
        for block in some:
            prediction = None if block.value is None else next(predictions)
            if first and prediction is not None:
                remark(explained(prediction))
                first = False
            writer.write(block, prediction)
        writer.console.file.flush()
    problems.raise_if_any(DataError, "The input cannot be read:")
    if first:
        raise DataError(f"{problems.file} holds nothing to predict for.")


def explained(prediction: Prediction) -> str:
    """Say what kind of cell predictions come from, and whose vector represents the language."""
    language = f"{name(prediction.language)} ({prediction.language})"
    meaning = Kind(prediction.kind).meaning
    vector = f"language vector: {prediction.language_source}"
    return f"{prediction.task} in {language}: {prediction.kind} ({meaning}); {vector}."


class Writer:
    """Writes predictions of one task in one form; in colour on a terminal.

    Where words go into a word file and lines into lines, blank lines and comments are written too,
    so that the output aligns with the input.
    """

    def __init__(
        self, form: Form, layout: Layout, task: Task, console: Console, comment: str = ""
    ) -> None:
        trees = task.type is TaskType.PARSING and form in (Form.TEXT, Form.CONLL)
        self.form = Form.CONLLU if trees else form
        self.layout, self.task, self.console, self.comment = layout, task, console, comment
        self.columns = self.form in (Form.CONLL, Form.CONLLU)
        self.aligned = layout in (WORD_FILES if self.columns else (Layout.RAW,))

    def write(self, block: Block, prediction: Prediction | None) -> None:
        """Write one block of the input, with its prediction if it has one."""
        if self.columns:
            self._plain(*self._column_lines(block, prediction))
        elif self.form is Form.JSONL and prediction:
            record = {"line": block.line, **prediction.to_dict()}
            self._plain(json.dumps(record, ensure_ascii=False))
        elif prediction and self.console.is_terminal:
            self.console.print(readable(prediction, self.task))
        elif prediction:
            self._plain(re.sub(r"[\r\n]+", " ", readable(prediction, self.task).plain))
        elif self.aligned and self.form is Form.TEXT:
            self._plain(*(line for _, line in block.lines))

    def _plain(self, *lines: str) -> None:
        # rich would widen tabs and drop control characters
        self.console.file.write("".join(f"{line}\n" for line in lines))

    def _column_lines(self, block: Block, prediction: Prediction | None) -> Iterator[str]:
        """Yield the lines of a block as they stand, each word with its prediction.

        The words of other inputs become such lines.
        """
        lines, comment = [line for _, line in block.lines], self.comment
        conllu = self.layout is Layout.CONLLU
        if not self.aligned and prediction:
            if self.form is Form.CONLLU:
                yield f"# text = {' '.join(prediction.text.split())}"
            lines, comment = [*prediction.words, ""], ""
        number = 0
        for line in lines if self.aligned or prediction else ():
            begin = line.partition("\t")[0]
            is_word = line.strip() and not (comment and line.startswith(comment))
            if prediction and (begin.isdigit() if conllu else is_word):
                yield self._word_line(prediction, number, line)
                number += 1
            elif conllu and self.form is Form.CONLL and begin[:1].isdigit():
                continue  # a range or an empty node
            elif self.form is Form.CONLLU and line.strip() and not (conllu or line[0] == "#"):
                yield f"# {line}"
            else:
                yield line
        if self.form is Form.CONLLU and prediction and lines[-1].strip():
            yield ""  # at the end of a file, where it was missing

    def _word_line(self, prediction: Prediction, number: int, line: str) -> str:
        word = re.sub(r"[\t\r\n]", " ", prediction.words[number])
        label = prediction.labels[number]
        if self.form is Form.CONLL:
            return f"{word}\t{label}"
        cells = line.split("\t")
        if self.layout is not Layout.CONLLU:
            cells = [str(number + 1), word, *"_" * 8]
            end = prediction.offsets[number][1]
            if prediction.text[end : end + 1].strip():
                cells[9] = "SpaceAfter=No"
        if prediction.heads:
            cells[6:8] = str(prediction.heads[number]), label
        elif set(self.task.labels) <= set(UPOS):
            cells[3] = label
        elif all(re.fullmatch(r"_|\w+(\[\w+\])?=.+", known) for known in self.task.labels):
            cells[5] = label
        else:
            key = "NER" if self.task.type is TaskType.SPANS else self.task.name
            others = [e for e in cells[9].split("|") if e != "_" and not e.startswith(f"{key}=")]
            cells[9] = "|".join([*others, f"{key}={label}"])
        return "\t".join(cells)


def readable(prediction: Prediction, task: Task) -> Text:
    """Return a prediction for reading.

    Entities are marked in the sentence, ``[Jógvan PER] býr í [Tórshavn LOC].``; a tag stands after
    its word, ``Jógvan/PROPN býr/VERB``; the label of a text before it.
    """
    shown = Text()
    if prediction.label is not None:
        chance = f"{prediction.label} {prediction.confidences[0]:.2f}"
        return Text.assemble((chance, "bold green"), "  ", prediction.text)
    if task.type is TaskType.SPANS:
        end = 0
        kinds = sorted({span.label for span in prediction.spans})
        for span in prediction.spans:
            style = f"bold {COLOURS[kinds.index(span.label) % len(COLOURS)]}"
            shown.append(prediction.text[end : span.start_char])
            shown.append(f"[{span.text} {span.label}]", style)
            end = span.end_char
        return shown.append(prediction.text[end:])
    for word, label in zip(prediction.words, prediction.labels, strict=True):
        colour = COLOURS[task.labels.index(label) % len(COLOURS)]
        shown.append(" " if shown else "").append(word).append(f"/{label}", colour)
    return shown
