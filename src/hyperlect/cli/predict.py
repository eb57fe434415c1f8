"""hyperlect predict."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

import typer
from rich.console import Console
from rich.text import Text

from ..data.examples import MAX_TREE_WORDS
from ..data.readers import READERS, Line, Source, column_sentences, conllu_sentences, lines
from ..data.readers.conllu import COLUMNS
from ..errors import DataError, HyperlectError, Problems, RunError, counted, listed
from ..grid import Kind
from ..hardware import Arithmetic
from ..languages import name, resolve
from ..run_folder import ONNX, local_run, require_run, writing
from ..tasks import UPOS, Task, TaskType
from . import Device, DeviceOption, err, libraries, out, remark, warn, weights

if TYPE_CHECKING:
    from ..bulk import Summary
    from ..model import HyperX
    from ..predict import Prediction

CHUNK = 1000
ADAPT_SECONDS = 60
EXPECTED = 100
"""Of how many sentences the score before adaptation is estimated."""
PEEKED = 100
COLOURS = ("green", "cyan", "magenta", "yellow", "blue", "red")
_CONLLU_LINE = re.compile(r"\d+(?:[-.]\d+)?\t(?:[^\t]*\t){8}[^\t]*")
_IN_COLUMNS = re.compile(r".*\t.*|\S+(?: \S+)* (?:O|[BIESLU]-\S+)")
_FEATURES = re.compile(r"_|\w+(\[\w+\])?=.+")
_ONE_WORD = re.compile(r"\S|\S*[^\s。！？।॥…]")  # and no sentence of a script without spaces

Layout = Literal["auto", "raw", "words", "columns", "conllu", "tsv", "csv", "jsonl"]
Form = Literal["text", "conll", "conllu", "jsonl"]
TABLES: tuple[Layout, ...] = ("tsv", "csv", "jsonl")
WORD_FILES = ("words", "columns", "conllu")
WORD_FORMS = ("conll", "conllu")
_OPTIONS = {
    "--word": ("columns",),
    "--comment": ("words", "columns"),
    "--strip-prefix": ("words", "columns"),
    "--field": TABLES,
    "--quoted": ("tsv",),
}
"""Which layouts an option is for."""
_READS = {
    "words": "a word a line",
    "columns": "a word a line, from column {columns} (--word)",
    "conllu": "CoNLL-U",
    **{layout: f"{layout}, from column {{columns}} (--field)" for layout in TABLES},
}
_INPUTS = {"words": "words", "text": "texts", "pair": "pairs of texts", "raw": "raw text"}
_READS_RAW = {"words": "a sentence a line", "pair": "two texts a line, with a tab between"}


def predict(
    run: Annotated[str, typer.Argument(metavar="RUN")],
    task: Annotated[str, typer.Option(metavar="TASK[,TASK…]")],
    file: Annotated[str, typer.Argument(metavar="FILE")] = "-",
    language: Annotated[str, typer.Option(metavar="LANGUAGE")] = "",
    target: Annotated[Path | None, typer.Option("--out", metavar="FILE")] = None,
    form: Annotated[Form | None, typer.Option("--format")] = None,
    inputs: Annotated[list[str], typer.Option("--input", metavar="LAYOUT|FILES")] = [],  # noqa: B006
    word: Annotated[int | None, typer.Option(metavar="N", min=1)] = None,
    comment: Annotated[str, typer.Option(metavar="TEXT")] = "",
    strip_prefix: bool = False,
    fields: Annotated[list[str], typer.Option("--field", metavar="ROLE=COLUMN")] = [],  # noqa: B006
    quoted: bool = False,
    like: Annotated[str, typer.Option(metavar="LANGUAGES")] = "",
    adapt: bool = False,
    device: DeviceOption = "auto",
    precision: Annotated[Arithmetic, typer.Option()] = "auto",
    output: Annotated[Path | None, typer.Option(metavar="DIR")] = None,
    language_column: Annotated[str, typer.Option(metavar="COLUMN")] = "",
    shard_rows: Annotated[int | None, typer.Option(metavar="N", min=1)] = None,
    ray: Annotated[str | None, typer.Option(metavar="ADDRESS|local|auto")] = None,
    workers: Annotated[int | None, typer.Option(metavar="N", min=1)] = None,
) -> None:
    """Label sentences with one task, or several, in one language.

    Files are read as training reads them. Raw sentences are split into words and
    signs. Tasks over whole texts read a text a line; tasks over pairs two texts a
    line, with a tab between. Blank lines and comments keep their place.

    \b
    Examples:
      hyperlect predict runs/mine --task ner --language fao text.txt
      hyperlect predict runs/mine --task ner --language Faroese   (type, or pipe)
      hyperlect predict runs/mine --task pos --language fo words.tsv --word 2
      hyperlect predict runs/a --task pos --language fo b.conllu --format conllu
      hyperlect predict runs/a --task pos,ner,dep --language fo text.txt
      hyperlect predict runs/a --task pos --language fo --input 'a/*' --output b

    Args:
        run: The folder that training made, a model's id on the hub, or an export to ONNX.
        task: A task of the run, such as ner; or several with commas, as pos,ner,dep. They share
            what they can, so that one call is faster than several.
        language: Any language, trained or not: fao, fo or Faroese.
        file: What to read. Default: stdin.
        target: Where to write. Default: stdout.
        form: text is for reading. conll has a word and its label on a line. conllu fills in the
            predicted columns and keeps the rest. jsonl has one object a sentence. Several tasks
            go into conllu (the default for words) or jsonl. Default: text.
        inputs: How FILE is laid out. raw: a sentence a line. words: a word a line, a blank line
            after each sentence. columns: the same with columns. conllu, tsv, csv, jsonl. auto, the
            default, looks at the file's name and its first lines, and says what it took. With
            --output, the files to read, as 'data/*.parquet'; repeatable.
        word: columns: the number of the one with the words, as 2.
        comment: words, columns: how comments begin, as "# ".
        strip_prefix: columns: strip en: and the like from words.
        fields: tsv, csv, jsonl: the column of the words, text or pair; repeatable.
        quoted: tsv: cells may stand in quotation marks.
        like: A language without a vector gets the mean of these, as isl,dan or isl=2,dan=1; auto
            weighs the nearest ones.
        adapt: First fit the language's vector to the sentences themselves, for at most a minute.
        precision: The arithmetic. auto is bf16 on processors that are fast in it, which moves
            scores a little, else fp32, in which runs are evaluated.
        output: A new folder for the output of many files (Parquet, jsonl, txt, conllu), in
            shards. The same command continues a job that was stopped.
        language_column: With --output, the column with each row's language.
        shard_rows: With --output, how many rows are done at a time. Default: 2000.
        ray: With --output, the Ray cluster to run on; local starts one here.
        workers: With --ray, how many processes. Default: one a GPU, else one a machine.
    """
    columns: dict[str, Any] = dict(field.partition("=")[::2] for field in fields)
    if output is not None:
        plain = (file != "-", target, form, word, comment, strip_prefix, quoted, like, adapt)
        if any(plain) or not inputs:
            others = "--language, --field, --device and --precision"
            hint = f"Of the options for one file, {others} go with it"
            raise HyperlectError(f"--output takes its files from --input. {hint}.")
        if workers and not ray:
            raise HyperlectError("--workers needs --ray.")
        folder = require_run(Path(run), finished=True, recipe=False)
        with libraries():
            from ..bulk import SHARD_ROWS, Settings, predict_files
        code = language and resolve(language)
        rows = shard_rows or SHARD_ROWS
        settings = Settings(_names(task), code, language_column, columns, rows, precision)
        options: Any = {"device": device, "ray": ray, "workers": workers, "console": err()}
        _describe(predict_files(folder, inputs, output, settings, **options), output)
        return
    if language_column or shard_rows or ray or workers:
        options = "--language-column, --shard-rows, --ray and --workers"
        raise HyperlectError(f"{options} need --output.")
    layout: Any = inputs[-1] if inputs else "auto"
    if layout not in get_args(Layout):
        hint = "To read several files, name a folder for the output with --output"
        raise HyperlectError(f"--input must be one of {listed(get_args(Layout))}. {hint}.")
    if not language:
        raise HyperlectError("Name the language: --language fao")
    resolve(language)  # a misspelt one is an error before the model is loaded
    if " " in file and not Path(file).exists():
        hint = f'To label a sentence: echo "{file}" | hyperlect predict …'
        raise DataError(f'There is no file "{file}". {hint}')
    typed = file == "-" and sys.stdin is not None and sys.stdin.isatty()
    problems = Problems("stdin" if file == "-" else file)
    numbered = lines(Source("text", file), problems)
    head = [] if typed else list(islice(numbered, PEEKED))
    problems.raise_if_any(DataError, "The input cannot be read:")
    run = str(local_run(Path(run)))
    model = load(run, device, onnx=True)
    exported = (Path(run) / ONNX).is_file()
    if exported and (like or adapt or precision != "auto"):
        what = "--like, --adapt and --precision need the run itself, not an ONNX export"
        raise HyperlectError(f"{what}. `hyperlect add-language` changes it; then export it again.")
    tasks = choose(model, task)
    chosen = tasks[0]
    first = [line for _, line in head]
    guessed = layout == "auto"
    if guessed:
        layout = "columns" if word else recognise(file, first, chosen, comment)
    if not chosen.type.reads_words and (layout in WORD_FILES or form in WORD_FORMS):
        forms = "--input raw, tsv, csv or jsonl, and --format text or jsonl"
        raise HyperlectError(f'The task "{chosen.name}" labels texts, not words: use {forms}.')
    values = (word, comment, strip_prefix, fields, quoted)
    for value, (option, layouts) in zip(values, _OPTIONS.items(), strict=True):
        if value and layout not in layouts:
            raise HyperlectError(f"{option} is for --input {' or '.join(layouts)}, not {layout}.")
    if layout in ("words", "columns"):
        columns = {"word": word or 1}
    elif layout in TABLES:
        columns = columns or {role: role for role in _roles(chosen, first)}
    if guessed:
        reads = _READS.get(layout) or _READS_RAW.get(chosen.type.reads, "a text a line")
        reads = reads.format(columns=", ".join(map(str, columns.values())))
        remark(f"Type {reads}; Ctrl-D ends." if typed else f"Reading {reads}; see --input.")
    source = Source(
        "columns" if layout == "words" else layout,
        chain(head, numbered),
        columns,
        comment,
        quoting="minimal" if quoted else "none",
        strip_prefix=strip_prefix,
        separator="\t" if layout == "words" else "",
        unlabelled="ignore",
    )
    blocks = read(source, layout, chosen, problems, guessed=not word)
    if adapt and chosen.type.reads == "pair":
        raise HyperlectError(f"--adapt reads single sentences; the task {chosen.name} has pairs.")
    if like or adapt:
        names = [task.name for task in tasks]
        blocks = prepare(model, blocks, problems, Path(run), names, language, weights(like), adapt)
    # Adaptation raises the confidence itself, so it no longer says what score to expect.
    fitted = exported and "fitted" in model.language_source(language)
    trusted = None if adapt or fitted else Path(run)
    writer = Writer(form, layout, tasks, comment=comment)
    with _written(target, file) as writer.console:
        chunk = 1 if typed else CHUNK
        options = {} if exported else {"precision": precision}
        label(model, blocks, problems, writer, language, chunk, trusted, **options)


def _describe(summary: Summary, output: Path) -> None:
    """Say what a job on many files did."""
    for (task, code, kind, source), rows in summary.cells.items():
        meaning = f"{kind} ({Kind(kind).meaning}); language vector: {source}"
        remark(f"{task} in {name(code)} ({code}): {counted(rows, 'row')}; {meaning}.")
    for message in summary.warnings:
        warn(message)
    if summary.errors:
        first = "".join(f"\n  - {example}" for example in summary.examples)
        warn(f"{counted(summary.errors, 'row')} could not be predicted, among them:{first}")
    remark(f"{counted(summary.rows, 'row')} in {output}.")


def _names(tasks: str) -> tuple[str, ...]:
    """Return the names in ``--task``, each once."""
    return tuple(dict.fromkeys(name.strip() for name in tasks.split(",")))


def choose(model: HyperX, names: str) -> list[Task]:
    """Return the tasks of ``--task``.

    Raises:
        UnknownNameError: the model lacks one.
        HyperlectError: they read different inputs.
    """
    tasks = [model.task(name) for name in _names(names)]
    reads = {task.type.reads: task.name for task in tasks}
    if len(reads) > 1:
        which = ", ".join(f"{name} reads {_INPUTS[kind]}" for kind, name in reads.items())
        raise HyperlectError(f"--task must name tasks that read the same input: {which}.")
    return tasks


def prepare(
    model: HyperX,
    blocks: Iterator[Block],
    problems: Problems,
    run: Path,
    names: list[str],
    language: str,
    like: dict[str, float] | str | None,
    adapt: bool,
) -> Iterator[Block]:
    """Give a language a vector for what is to be predicted; in memory alone.

    Raises:
        HyperlectError: `like` is for a language without a vector; or nothing can be fitted.
        DataError: lines cannot be read.
    """
    with libraries():
        from ..transfer import Settings, give_vector, unlabelled_rows
        from ..transfer import adapt as fit
    some = list(islice(blocks, CHUNK))
    problems.raise_if_any(DataError, "The input cannot be read:")
    values = [block.value for block in some if block.value is not None]
    code = resolve(language)
    known = code in model.languages
    if known and like:
        raise HyperlectError(f"--like is for languages without a vector, and {code} has one.")
    raw = unlabelled_rows(model, values) if values else {}
    if not known:
        give_vector(model, code, like, raw)
    if adapt:
        if not raw:
            lacking = "no sentence" if not values else "no task of type tagging in the run"
            raise HyperlectError(f"--adapt learns from tags, and there is {lacking}.")
        predictions = model.predict(values[:EXPECTED], names, code)
        for task in names:
            if note := expectation(model, [of_input[task] for of_input in predictions], run):
                remark(f"Before adaptation: {note}")
        with err().status(f"Fitting {name(code)} …"):
            result = fit(model, code, {}, raw, Settings(seconds=ADAPT_SECONDS))
        remark(f"{name(code)} fitted to {counted(len(values), 'sentence')}: {result.reason}.")
        if result.steps:
            source = f"{model.language_source(code)}, fitted to these sentences"
            model.describe_vector(code, source)
    return chain(some, blocks)


def load(run: str, device: Device, onnx: bool = False) -> Any:
    """Load a model from a run folder or the hub; with `onnx` an ONNX export too, an `OnnxModel`.

    Raises:
        RunError: it is no such folder.
        HyperlectError: the device is not one that an export runs on.
    """
    if (Path(run) / ONNX).is_file():
        if not onnx:
            raise RunError(f"{run} is an ONNX export. Name the run that it was made from.")
        if device not in ("auto", "cpu"):
            raise HyperlectError(f"ONNX exports run on the CPU, not on {device}.")
        with libraries():
            from ..export.onnx import OnnxModel
        return OnnxModel(run)
    run = str(require_run(Path(run), finished=True, recipe=False))
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
    if suffix in TABLES and (suffix == "jsonl" or _has_column(head, _roles(task, head)[0])):
        return suffix
    if not task.type.reads_words:
        return "raw"
    # The word "#" and a comment look alike, so neither has a say.
    marks = ("#", comment or "#")
    rows = [line.strip(" ") for line in head if line.strip() and not line.startswith(marks)]

    def share(pattern: re.Pattern[str]) -> float:
        return sum(pattern.fullmatch(row) is not None for row in rows) / max(1, len(rows))

    if suffix == "conllu" or share(_CONLLU_LINE) > 0.5:
        return "conllu"
    if share(_IN_COLUMNS) > 0.5:
        return "columns"
    gaps = any(not line.strip() for line in head[:-1])
    return "words" if gaps and share(_ONE_WORD) > 0.8 else "raw"


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
                if task.type.reads_words and not (row.words or split_words(row.text)):
                    problems.add("there is no word", row.line)
                yield Block([], list(row.words) or text, row.line)
    elif layout in WORD_FILES:
        sentences = conllu_sentences if layout == "conllu" else column_sentences
        for example, block in sentences(source, True, problems):
            words = list(example.words) if example else None
            counted = words and words[1:] and words == list(map(str, range(1, len(words) + 1)))
            if counted and guessed and layout == "columns":
                problems.add("this column counts the words. Name another: --word 2", block[0][0])
            yield Block(block, words, block[0][0])
    else:
        for number, line in lines(source, problems):
            value: Any = line
            if not (split_words(line) if task.type.reads_words else line.strip()):
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
    run: Path | None = None,
    **options: Any,
) -> None:
    """Predict chunk by chunk, so that files of any size pass through.

    Of a cell without training data, the score to expect by the first chunk is printed; the run
    holds what that rests on. Options are those of `HyperX.predict`.

    Raises:
        DataError: lines cannot be read; names all of a chunk. Or there are none.
    """
    from ..predict import is_too_long_to_parse

    first = True
    names = [task.name for task in writer.tasks]
    parses = any(task.type is TaskType.PARSING for task in writer.tasks)
    while some := list(islice(blocks, chunk)):
        for block in some if parses else ():
            if block.value is not None and is_too_long_to_parse(block.value):
                most = f"{MAX_TREE_WORDS:,}"
                problems.add(f"this has too many words to parse; the most are {most}", block.line)
        problems.raise_if_any(DataError, "The input cannot be read:")
        values = [block.value for block in some if block.value is not None]
        predictions = model.predict(values, names, language, **options)
        for task in names if first and predictions else ():
            remark(explained(predictions[0][task]))
            if note := expectation(model, [of_input[task] for of_input in predictions], run):
                remark(note)
        first = first and not predictions
        following = iter(predictions)
        for block in some:
            writer.write(block, {} if block.value is None else next(following))
        writer.console.file.flush()
    problems.raise_if_any(DataError, "The input cannot be read:")
    if first:
        raise DataError(f"{problems.file} holds nothing to predict for.")


def expectation(model: HyperX, predictions: Sequence[Prediction], run: Path | None) -> str | None:
    """Say what score to expect of predictions in a cell without training data."""
    if run is None or predictions[0].kind == Kind.SUPERVISED:
        return None
    from ..evaluation import Trust, evidence

    task = model.task(predictions[0].task)
    return Trust.read(run).sentence(task, evidence(model, predictions))


def explained(prediction: Prediction) -> str:
    """Say what kind of cell predictions come from, and whose vector represents the language."""
    language = f"{name(prediction.language)} ({prediction.language})"
    meaning = Kind(prediction.kind).meaning
    vector = f"language vector: {prediction.language_source}"
    return f"{prediction.task} in {language}: {prediction.kind} ({meaning}); {vector}."


class Writer:
    """Writes predictions in one form; in colour on a terminal.

    Where words go into a word file and lines into lines, blank lines and comments are written too,
    so that the output aligns with the input.

    Raises:
        HyperlectError: the form has no place for several tasks.
    """

    def __init__(
        self,
        form: Form | None,
        layout: Layout,
        tasks: Sequence[Task],
        console: Console | None = None,
        comment: str = "",
    ) -> None:
        words = tasks[0].type.reads_words
        if len(tasks) > 1 and form in ("text", "conll"):
            others = "conllu or jsonl" if words else "jsonl"
            raise HyperlectError(f"--format {form} shows one task. Use {others} for several.")
        if len(tasks) > 1:
            form = form or ("conllu" if words else "jsonl")
        elif tasks[0].type is TaskType.PARSING and form != "jsonl":
            form = "conllu"
        self.form = form or "text"
        self.layout, self.tasks, self.comment = layout, tasks, comment
        self.console = console or out()
        columns: dict[str, str] = {}
        for task in tasks if self.form == "conllu" else ():
            other = columns.setdefault(_column(task), task.name)
            if other != task.name:
                same = f"{other} and {task.name} fill the same column, {_column(task).upper()}"
                raise HyperlectError(f"In CoNLL-U {same}. Use --format jsonl.")

    def write(self, block: Block, predictions: Mapping[str, Prediction]) -> None:
        """Write one block of the input, with its predictions by task if it has any."""
        lines: Iterable[str] = [line for _, line in block.lines]
        if self.form in WORD_FORMS:
            lines = self._word_lines(block, predictions)
        elif not predictions:
            lines = lines if self.form == "text" and self.layout == "raw" else []
        elif self.form == "jsonl":
            from ..predict import joined

            (first, *others) = predictions.values()
            record = joined([first, *others]) if others else first.to_dict()
            lines = [json.dumps({"line": block.line, **record}, ensure_ascii=False)]
        else:
            (task,) = self.tasks
            text = readable(predictions[task.name], task)
            if self.console.is_terminal:
                self.console.print(text)
                return
            lines = [re.sub(r"[\r\n]+", " ", text.plain)]
        # rich would widen tabs and drop control characters
        self.console.file.write("".join(f"{line}\n" for line in lines))

    def _metadata(self, block: Block, prediction: Prediction) -> Iterator[str]:
        """Yield the comments that CoNLL-U must have, unless they stand in a word file already."""
        values = {"sent_id": str(block.line), "text": " ".join(prediction.text.split())}
        comments = [line for _, line in block.lines] if self.layout in WORD_FILES else []
        for key, value in values.items():
            if not any(re.match(rf"#\s*{key}\s*=", comment) for comment in comments):
                yield f"# {key} = {value}"

    def _word_lines(self, block: Block, predictions: Mapping[str, Prediction]) -> Iterator[str]:
        """Yield each word with its prediction; of a word file, its other lines as they stand."""
        conllu, number = self.layout == "conllu", 0
        lines = [line for _, line in block.lines]
        if self.layout not in WORD_FILES:
            lines = [*predictions[self.tasks[0].name].words, ""] if predictions else []
        for line in lines:
            begin = line.partition("\t")[0]
            comment = self.comment and line.startswith(self.comment)
            if predictions and (begin.isdigit() if conllu else line.strip() and not comment):
                if self.form == "conllu" and not (conllu or number):
                    yield from self._metadata(block, predictions[self.tasks[0].name])
                yield self._word_line(predictions, number, line)
                number += 1
            elif conllu and self.form == "conll" and begin[:1].isdigit():
                continue  # a range or an empty node
            elif self.form == "conllu" and line.strip() and not (conllu or line[0] == "#"):
                yield f"# {line}"
            else:
                yield line
        if self.form == "conllu" and predictions and line.strip():
            yield ""  # at the end of a file, where it was missing

    def _word_line(self, predictions: Mapping[str, Prediction], number: int, line: str) -> str:
        prediction = predictions[self.tasks[0].name]
        word = re.sub(r"[\t\r\n]", " ", prediction.words[number])
        if self.form == "conll":
            return f"{word}\t{prediction.labels[number]}"
        cells = line.split("\t")
        if self.layout != "conllu":
            end = prediction.offsets[number][1]
            glued = prediction.text[end : end + 1].strip()
            cells = [str(number + 1), word, *"_" * 7, "SpaceAfter=No" if glued else "_"]
        for task in self.tasks:
            label, column = predictions[task.name].labels[number], _column(task)
            if column == "head":
                cells[6:8] = str(predictions[task.name].heads[number]), label
            elif column in COLUMNS:
                cells[COLUMNS.index(column)] = label
            else:
                key = column.removeprefix("misc ")
                others = [e for e in cells[9].split("|") if e != "_" and e.partition("=")[0] != key]
                cells[9] = "|".join([*others, f"{key}={label}"])
        return "\t".join(cells)


def _column(task: Task) -> str:
    """Return the column of CoNLL-U that a task fills, or ``misc`` and the key there."""
    if task.type is TaskType.PARSING:
        return "head"
    if set(task.labels) <= set(UPOS):
        return "upos"
    if all(_FEATURES.fullmatch(label) for label in task.labels):
        return "feats"
    return f"misc {'NER' if task.type is TaskType.SPANS else task.name}"


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
