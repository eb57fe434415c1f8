"""Big jobs: files with any number of rows, predicted shard by shard, here or on a Ray cluster.

A job cuts its input files into shards, each a range of rows. `tag` predicts one shard and writes
one file, whole or not at all, and then a record that says the shard is done. A job that was
stopped does the shards without a record, so that every row comes out once.
"""

from __future__ import annotations

import functools
import glob
import gzip
import hashlib
import json
import logging
import math
import os
import time
import warnings
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import accumulate, islice, pairwise
from pathlib import Path
from typing import IO, Any, NamedTuple

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from .data.corpus import file_digest
from .data.readers import Source, conllu_sentences
from .errors import DataError, HyperlectError, Interrupted, Problems, RunError, listed, unknown
from .experiment.engines import start_ray
from .grid import Cell
from .hardware import Arithmetic, choose_device
from .model import HyperX
from .model.config import HyperXConfig, read_config
from .predict import Prediction, joined
from .run_folder import LOCK, MODEL, WEIGHTS, expanded, locked, read_json, replacing, write_json
from .tasks import Task, TaskType

FORMAT_VERSION = 1
SHARD_ROWS = 2000
ABOUT, JOB = "_job", "job.json"
"""The folder in the output with the job and its records; readers of Parquet folders skip it."""
FORMATS = {
    ".parquet": "parquet",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".txt": "text",
    ".conllu": "conllu",
}
ROLES = {"words": ("words", "text"), "text": ("text",), "pair": ("text", "pair")}
"""Which fields hold what a task reads; words stand in one of two."""
ADDED = ("input_file", "input_row", "prediction", "error")
"""The columns that are added to those of the input."""
RETRIES = 3
"""How many times Ray restarts a worker that died and tries its shard again."""
KERNEL_CACHES = ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY")
KERNELS = "64"
"""In bf16 on a CPU, torch keeps a kernel for each shape of a batch: by default 1,024 of them, which
take gigabytes after some ten thousand sentences."""
_EXAMPLES = 5
_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class Settings:
    """What decides the output of a job besides the run and the files; the same in every restart.

    Attributes:
        tasks: what to predict; all read the same inputs.
        language: of all rows; or empty.
        language_column: the column with the language of each row; or empty.
        fields: which column holds the words, the text and the pair, in tables; by default the
            columns of these names.
        shard_rows: how many rows a shard has.
        precision: of the arithmetic, as for `HyperX.predict`.
    """

    tasks: tuple[str, ...]
    language: str = ""
    language_column: str = ""
    fields: Mapping[str, str] = field(default_factory=dict)
    shard_rows: int = SHARD_ROWS
    precision: Arithmetic = "auto"


@dataclass(frozen=True)
class Shard:
    """A range of rows of a file.

    Attributes:
        number: of the shard in the job, from 0.
        path: the file.
        start: the first row, from 0.
        rows: how many.
        offset: the byte where the first row begins, in the unpacked file; 0 for Parquet.
    """

    number: int
    path: str
    start: int
    rows: int
    offset: int

    @property
    def file(self) -> str:
        """The name of the output: Parquet for Parquet, and JSON lines for all else."""
        is_parquet = format_of(self.path) == "parquet"
        return f"{self.number:06d}.{'parquet' if is_parquet else 'jsonl'}"

    @property
    def record(self) -> str:
        """The name of the record in `ABOUT`."""
        return f"{self.number:06d}.json"


class Summary(NamedTuple):
    """What a job did, all restarts together.

    Attributes:
        rows: how many rows were written.
        errors: how many of them have an error instead of predictions.
        examples: the first errors, each with file and row.
        cells: how many rows each cell has, with its kind and the source of its language vector.
        warnings: those of the first shards.
    """

    rows: int
    errors: int
    examples: list[str]
    cells: dict[tuple[str, str, str, str], int]
    warnings: list[str]


def predict_files(
    run: Path,
    inputs: Sequence[str],
    output: Path,
    settings: Settings,
    *,
    device: str = "auto",
    ray: str | None = None,
    workers: int | None = None,
    console: Console | None = None,
) -> Summary:
    """Predict for every row of files, or for those that an earlier, stopped call did not reach.

    Each shard becomes a file in the output folder, with all columns of the input, and `ADDED`.
    A row that cannot be predicted for has an ``error``; it does not end the job.

    Args:
        run: a folder with a trained model.
        inputs: paths or patterns (``data/*.parquet``) of Parquet, JSON lines, text (a row a line)
            and CoNLL-U (a row a sentence); all but Parquet perhaps packed with gzip.
        output: the folder of the job, new or that of a stopped one.
        settings: what to predict, and how.
        device: where to compute.
        ray: the address of a Ray cluster, or "local" to start one here; None for this process.
        workers: how many processes on Ray; by default one a GPU, else one a machine.
        console: where progress is shown.

    Raises:
        DataError: inputs are missing, cannot be cut, or lack columns.
        RunError: the folder holds another job, or something else; names what differs.
        HyperlectError: tasks or languages do not fit the run; or there is no such cluster.
        Interrupted: it was stopped by Ctrl-C; the same call continues.
    """
    console = console or Console(quiet=True)
    _, config = read_config(run / MODEL)
    _check(settings, config)
    paths = _paths(inputs, output)
    with locked(output):
        with console.status("Reading the inputs …"):
            shards = _open_job(run, paths, output, settings, config)
        for partial in output.rglob("*.partial"):  # of a process that was killed
            partial.unlink()
        about = output / ABOUT
        done = {s for s in shards if (about / s.record).is_file() and (output / s.file).is_file()}
        missing = [shard for shard in shards if shard not in done]
        work = (str(run.absolute()), str(output.absolute()), settings, device)
        if ray is None:
            results: Iterator[int] = map(_Worker(*work).tag, missing)
        else:
            results = _on_ray(work, missing, ray, workers)
        total = sum(shard.rows for shard in shards)
        _follow(results if missing else iter(()), sum(s.rows for s in done), total, console)
        return _summary(output, shards)


def format_of(path: str | Path) -> str:
    """Return the format of a file by its name; an empty text for an unknown one."""
    return FORMATS.get(Path(str(path).lower().removesuffix(".gz")).suffix, "")


def _check(settings: Settings, config: HyperXConfig) -> None:
    """Raise `HyperlectError` where settings do not fit a model."""
    if bool(settings.language) == bool(settings.language_column):
        raise HyperlectError("Name one of --language and --language-column.")
    tasks = [config.task(name) for name in settings.tasks]
    reads = {task.type.reads for task in tasks}
    if len(reads) > 1 or not reads <= ROLES.keys():
        raise HyperlectError(f"The tasks {listed(settings.tasks)} do not read the same inputs.")
    if settings.language:
        code = config.language_code(settings.language)
        config.require_applicable(Cell(task.name, code) for task in tasks)
    roles = ROLES[tasks[0].type.reads]
    for role in settings.fields:
        if role not in roles:
            raise unknown("role of --field", role, roles)


def _paths(inputs: Sequence[str], output: Path) -> list[Path]:
    """Return the files that patterns mean, each once, in the order of their names."""
    problems, paths = Problems(), set()
    for pattern in inputs:
        whole = str(expanded(pattern))
        matches = [whole] if Path(whole).is_file() else sorted(glob.glob(whole, recursive=True))  # noqa: PTH207
        if not matches:
            problems.add("there is no such file", file=pattern)
        for path in map(Path, matches):
            if path.is_dir():
                problems.add(f"this is a folder; name its files: {path}/*.parquet", file=str(path))
            elif not format_of(path):
                endings = listed(list(FORMATS))
                problems.add(f"its name must end with one of {endings}", file=str(path))
            elif output.absolute() in path.absolute().parents:
                problems.add("it lies in the folder of the output", file=str(path))
            paths.add(path.absolute())
    problems.raise_if_any(DataError, "The inputs cannot be read:")
    return sorted(paths)


def _open_job(
    run: Path, paths: Sequence[Path], output: Path, settings: Settings, config: HyperXConfig
) -> list[Shard]:
    """Cut the files into shards, and write down the job or compare it with what was written."""
    problems, files = Problems(), {}
    shards: list[Shard] = []
    for path in paths:
        try:
            rows, offsets = _cut(path, settings, config, problems)
            digest = file_digest(path)
        except (OSError, EOFError, zlib.error) as error:
            problems.add(f"it cannot be read ({error})", file=str(path))
            continue
        files[str(path)] = {"rows": rows, "sha256": digest}
        for number, offset in enumerate(offsets):
            start = number * settings.shard_rows
            size = min(settings.shard_rows, rows - start)
            shards.append(Shard(len(shards), str(path), start, size, offset))
    problems.raise_if_any(DataError, "The inputs cannot be read:")
    model = hashlib.sha256()
    for name in (MODEL, WEIGHTS):
        model.update((run / name).read_bytes())
    job = {"run": model.hexdigest(), **asdict(settings), "files": files}
    job = json.loads(json.dumps(job))  # tuples become lists, as in the file
    path = output / ABOUT / JOB
    if path.is_file():
        _compare(read_json(path, version=FORMAT_VERSION), job, output)
    elif any(entry.name != LOCK for entry in output.iterdir()):
        raise RunError(f"{output} is not empty and holds no job. Name a new folder (--output).")
    else:
        write_json(path, {"format_version": FORMAT_VERSION, **job})
    return shards


def _compare(before: Mapping[str, Any], now: Mapping[str, Any], output: Path) -> None:
    """Raise `RunError` with everything in which a restart differs from its job."""
    problems = Problems()
    old, new = before["files"], now["files"]
    for path in sorted(old.keys() | new.keys()):
        if old.get(path) != new.get(path):
            change = "has changed" if path in old else "is new"
            problems.add(f"this input {change if path in new else 'is missing now'}", file=path)
    if before["run"] != now["run"]:
        problems.add("the model is another one, or was trained further", key="RUN")
    for key in now.keys() - {"files", "run"}:
        if before.get(key) != now[key]:
            option = {"fields": "field", "tasks": "task"}.get(key, key).replace("_", "-")
            problems.add(f"it was {before.get(key)!r}, and is {now[key]!r}", key=f"--{option}")
    hint = "Restart with what it began with, or name a new folder (--output)"
    problems.raise_if_any(RunError, f"{output} holds a job that differs. {hint}:")


def _cut(
    path: Path, settings: Settings, config: HyperXConfig, problems: Problems
) -> tuple[int, list[int]]:
    """Return how many rows a file has, and the offset of each of its shards."""
    rows, offsets = 0, []
    if format_of(path) == "parquet":
        import pyarrow
        import pyarrow.parquet as pq

        try:
            names, rows = pq.read_schema(path).names, pq.read_metadata(path).num_rows
        except pyarrow.ArrowInvalid as error:
            problems.add(f"it is not Parquet ({error})", file=str(path))
            return 0, []
        needed = [settings.language_column] if settings.language_column else []
        needed += _columns(settings, config.task(settings.tasks[0]), names).values()
        for name in needed:
            if name not in names:
                problems.add(str(unknown("column", name, names)), file=str(path))
        for name in set(ADDED) & set(names):
            problems.add(f'the output has a column "{name}" too; rename it', file=str(path))
        return rows, [0] * math.ceil(rows / settings.shard_rows)
    if settings.language_column and format_of(path) != "jsonl":
        problems.add("it has no columns; use --language", file=str(path))
    with _opened(path) as stream:
        for offset, _ in _pieces(stream, format_of(path)):
            if rows % settings.shard_rows == 0:
                offsets.append(offset)
            rows += 1
    return rows, offsets


def _columns(settings: Settings, task: Task, names: Iterable[str]) -> dict[str, str]:
    """Return which column holds the words, the text and the pair of a table."""
    roles = ROLES[task.type.reads]
    if task.type.reads_words:
        roles = ("words",) if "words" in settings.fields or "words" in names else ("text",)
        roles = ("text",) if "text" in settings.fields else roles
    return {role: settings.fields.get(role, role) for role in roles}


def _opened(path: str | Path) -> IO[bytes]:
    stream = Path(path).open("rb")  # noqa: SIM115
    packed = stream.peek(2).startswith(b"\x1f\x8b")
    return gzip.GzipFile(fileobj=stream) if packed else stream  # type: ignore[return-value]


def _pieces(stream: IO[bytes], form: str) -> Iterator[tuple[int, bytes]]:
    """Yield each row with its offset: a line or, of CoNLL-U, the lines up to a blank one."""
    offset, begin, block = stream.tell(), 0, b""
    for line in stream:
        if form != "conllu":
            yield offset, line
        elif line.strip():
            begin = begin if block else offset
            block += line
        elif block:
            yield begin, block
            block = b""
        offset += len(line)
    if block:
        yield begin, block


def _read(shard: Shard) -> tuple[Any, list[dict[str, Any] | str]]:
    """Read the rows of a shard.

    Returns:
        What of each goes out again, a table of Arrow or dicts; and each row by column, or what is
        wrong with it.
    """
    form = format_of(shard.path)
    if form == "parquet":
        table = _parquet_rows(shard)
        return table, table.to_pylist()
    kept: list[dict[str, Any]] = []
    records: list[dict[str, Any] | str] = []
    with _opened(shard.path) as stream:
        stream.seek(shard.offset)
        for offset, line in islice(_pieces(stream, form), shard.rows):
            try:
                text = line.removeprefix(b"" if offset else _BOM).decode().rstrip("\r\n")
                row = json.loads(text) if form == "jsonl" else {form: text}
                if not isinstance(row, dict):
                    raise ValueError("this is not a JSON object")
                if taken := set(ADDED) & row.keys():
                    raise ValueError(f'the output has a field "{min(taken)}" too; rename it')
                kept.append(row)
                records.append(row if form != "conllu" else _sentence(text))
            except (ValueError, RecursionError) as error:  # of decoding and of JSON too
                kept.append({"input": line.decode(errors="backslashreplace").rstrip("\r\n")})
                records.append(str(error) if line.strip() else "the line is empty")
    return kept, records


def _sentence(block: str) -> dict[str, Any] | str:
    """Read a sentence of CoNLL-U; return its words and text, or what is wrong."""
    problems = Problems()
    lines = enumerate(block.replace("\r\n", "\n").split("\n"), start=1)  # at no other line end
    for example, _ in conllu_sentences(Source("conllu", lines), False, problems):
        if example and not problems:
            return {"words": list(example.words), "text": example.text}
    return "; ".join(map(str, problems.items)) or "there is no word"


def _parquet_rows(shard: Shard) -> Any:
    """Read a range of rows as a table, out of the row groups that hold it."""
    import pyarrow
    import pyarrow.parquet as pq

    end = shard.start + shard.rows
    with pq.ParquetFile(shard.path) as file:
        sizes = (file.metadata.row_group(group).num_rows for group in range(file.num_row_groups))
        bounds = list(accumulate(sizes, initial=0))
        groups = [g for g, (a, b) in enumerate(pairwise(bounds)) if a < end and b > shard.start]
        batches, at = [], bounds[groups[0]]
        for batch in file.iter_batches(shard.rows, groups):
            low, high = max(0, shard.start - at), min(len(batch), end - at)
            if low < high:
                batches.append(batch.slice(low, high - low))
            at += len(batch)
            if at >= end:
                break
        # Metadata of pandas and datasets would describe the columns without the predictions.
        return pyarrow.Table.from_batches(batches, file.schema_arrow).replace_schema_metadata(None)


def tag(model: HyperX, shard: Shard, output: Path, settings: Settings) -> dict[str, Any]:
    """Predict the rows of a shard; write its file, and then the record that it is done.

    Returns:
        The record: rows, errors, examples of them, cells with their kinds, and warnings.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        kept, records = _read(shard)
        predictions, errors = _predict(model, records, format_of(shard.path), settings)
    package = Path(__file__).parent  # libraries warn of their code, not of the rows
    messages = [str(w.message) for w in caught if Path(w.filename).is_relative_to(package)]
    tasks = [model.task(name) for name in settings.tasks]
    rows = [_plain(predictions[row]) if row in predictions else None for row in range(shard.rows)]
    numbers = range(shard.start + 1, shard.start + shard.rows + 1)
    added = (shard.path, numbers, rows, [errors.get(row) for row in range(shard.rows)])
    with replacing(output / shard.file) as partial, partial.open("wb") as stream:
        _write(stream, kept, added, tasks)
    of_rows = (prediction for of_row in predictions.values() for prediction in of_row)
    cells = Counter((p.task, p.language, str(p.kind), p.language_source) for p in of_rows)
    examples = [f"{shard.path}:{numbers[row]}: {errors[row]}" for row in sorted(errors)]
    record = {
        "rows": shard.rows,
        "errors": len(errors),
        "examples": examples[:_EXAMPLES],
        "cells": [[*cell, rows] for cell, rows in cells.items()],
        "warnings": list(dict.fromkeys(messages))[:_EXAMPLES],
    }
    write_json(output / ABOUT / shard.record, record, indent=None)
    return record


def _predict(
    model: HyperX, records: Sequence[dict[str, Any] | str], form: str, settings: Settings
) -> tuple[dict[int, list[Prediction]], dict[int, str]]:
    """Predict the rows that can be; return the predictions of each, a task each, and the errors."""
    names = settings.tasks

    @functools.cache
    def usable(written: str) -> tuple[str, str]:
        """The code of a language, or what is wrong with it."""
        try:
            code = model.config.language_code(written)
            model.config.require_applicable(Cell(name, code) for name in names)
        except HyperlectError as error:
            return "", str(error)
        return code, ""

    errors: dict[int, str] = {}
    values: dict[int, tuple[Any, str]] = {}
    for row, record in enumerate(records):
        try:
            if isinstance(record, str):
                raise ValueError(record)
            language = settings.language or record.get(settings.language_column)
            if not isinstance(language, str):
                raise ValueError(f"the language must be a text, not {language!r:.40}")
            code, error = usable(language)
            if error:
                raise ValueError(error)
            values[row] = _value(record, form, settings, model.task(names[0])), code
        except ValueError as error_of_row:
            errors[row] = str(error_of_row)
    while rows := list(values):
        flat = [(value, name, code) for value, code in values.values() for name in names]
        contents, of_tasks, codes = map(list, zip(*flat, strict=True))
        try:
            predictions = model.predict(contents, of_tasks, codes, precision=settings.precision)
        except DataError as error:  # it names every input that is wrong
            for problem in error.problems:
                row = rows[int(problem.key.removeprefix("input ")) // len(names)]
                errors[row] = problem.message
                values.pop(row, None)
            if not error.problems:
                raise
            continue
        of_rows = zip(*[iter(predictions)] * len(names), strict=True)
        return {row: list(of_row) for row, of_row in zip(rows, of_rows, strict=True)}, errors
    return {}, errors


def _value(record: Mapping[str, Any], form: str, settings: Settings, task: Task) -> Any:
    """Return what is predicted for; raise `ValueError` where a row lacks it."""
    columns = {"text": "text"}
    if form in ("parquet", "jsonl"):
        columns = _columns(settings, task, record)
    elif form == "conllu" and task.type.reads_words:
        columns = {"words": "words"}
    values: dict[str, Any] = {}
    for role, column in columns.items():
        value = record.get(column)
        if value is None:
            raise ValueError(f'"{column}" is {"null" if column in record else "missing"}')
        if isinstance(value, str) and not value.strip():
            raise ValueError(f'"{column}" is empty')
        if role == "words":
            value = value.split() if isinstance(value, str) else value
            if isinstance(value, list) and any(word is None or word == "" for word in value):
                raise ValueError(f'a word of "{column}" is empty')
        values[role] = value
    content: Any = values["words"] if "words" in values else values["text"]
    if form == "text" and task.type.reads == "pair":
        return tuple(content.split("\t"))
    return (content, values["pair"]) if "pair" in values else content


def _plain(predictions: Sequence[Prediction]) -> dict[str, Any]:
    """Return the predictions of a row as plain data; its text stands in the row."""
    data = joined(predictions)
    del data["text"]
    for of_task in data["tasks"].values():
        del of_task["task"]
    return data


def _arrow_type(tasks: Sequence[Task]) -> Any:
    """Return the type of the column of predictions, which is the same in all shards."""
    import pyarrow as pa

    text, number, share = pa.string(), pa.int32(), pa.float32()
    of_tasks = []
    for task in tasks:
        scores = pa.struct([(label, share) for label in task.labels])
        columns = {"kind": text, "label": text, "scores": scores}
        if task.type.reads_words:
            columns = {"kind": text, "labels": pa.list_(text), "confidences": pa.list_(share)}
        if task.type is TaskType.PARSING:
            columns["heads"] = pa.list_(number)
        if task.type is TaskType.SPANS:
            span = {"label": text, "start": number, "end": number, "text": text}
            span |= {"start_char": number, "end_char": number, "confidence": share}
            columns["spans"] = pa.list_(pa.struct(list(span.items())))
        of_tasks.append((task.name, pa.struct(list(columns.items()))))
    shared = {"language": text, "language_source": text}
    if tasks[0].type.reads_words:
        shared |= {"words": pa.list_(text), "offsets": pa.list_(pa.list_(number))}
    return pa.struct([*shared.items(), ("tasks", pa.struct(of_tasks))])


def _write(stream: IO[bytes], kept: Any, added: tuple[Any, ...], tasks: Sequence[Task]) -> None:
    """Write the rows of a shard with the columns that are added."""
    path, numbers, predictions, errors = added
    if isinstance(kept, list):
        for row, *values in zip(kept, numbers, predictions, errors, strict=True):
            record = row | dict(zip(ADDED, (path, *values), strict=True))
            line = json.dumps(record, ensure_ascii=False)
            # Half of a surrogate pair, in the input, is written out as JSON does it.
            stream.write(line.encode(errors="backslashreplace") + b"\n")
        return
    import pyarrow as pa
    import pyarrow.parquet as pq

    types = (pa.string(), pa.int64(), _arrow_type(tasks), pa.string())
    columns = ([path] * len(kept), numbers, predictions, errors)
    for name, column, kind in zip(ADDED, columns, types, strict=True):
        kept = kept.append_column(name, pa.array(column, kind))
    pq.write_table(kept, stream)


def _summary(output: Path, shards: Sequence[Shard]) -> Summary:
    """Add up the records of all shards."""
    records = [read_json(output / ABOUT / shard.record) for shard in shards]
    cells: Counter[tuple[str, str, str, str]] = Counter()
    warned = dict.fromkeys(text for record in records for text in record["warnings"])
    for record in records:
        cells.update({tuple(cell): rows for *cell, rows in record["cells"]})
    return Summary(
        rows=sum(record["rows"] for record in records),
        errors=sum(record["errors"] for record in records),
        examples=[text for record in records for text in record["examples"]][:_EXAMPLES],
        cells=dict(sorted(cells.items())),
        warnings=list(warned)[:_EXAMPLES],
    )


class _Worker:
    """What tags shards one by one with a model that it loads for the first; on Ray, an actor."""

    def __init__(self, run: str, output: str, settings: Settings, device: str) -> None:
        self.run, self.output, self.settings, self.device = run, Path(output), settings, device
        self.model: HyperX | None = None

    def tag(self, shard: Shard) -> int:
        """Tag a shard; return its number of rows."""
        if self.model is None:
            for name in KERNEL_CACHES:  # torch reads them when it first computes in bf16
                os.environ.setdefault(name, KERNELS)
            self.model = HyperX.from_pretrained(self.run, device=choose_device(self.device))
        return int(tag(self.model, shard, self.output, self.settings)["rows"])

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, list[Any]]:
        """Tag a shard as Ray Data wants it: a column of one row, returned with one of errors."""
        (text,) = batch["shard"]
        try:
            return {"rows": [self.tag(Shard(**json.loads(str(text))))], "error": [""]}
        except Exception as error:  # Ray would bury it in its own tracebacks
            name = "" if isinstance(error, HyperlectError) else f"{type(error).__name__}: "
            return {"rows": [0], "error": [f"{name}{error}"]}


def _on_ray(
    work: tuple[str, str, Settings, str], shards: list[Shard], address: str, workers: int | None
) -> Iterator[int]:
    """Tag shards on a Ray cluster; yield the number of rows of each when it is done.

    Ray Data moves descriptions of shards. Workers read and write the files themselves, so Ray may
    try a shard again whose worker died.
    """
    ray, gpus = start_ray(address, None, work[-1], {})
    try:
        from ray import data

        machines = [n["Resources"] for n in ray.nodes() if n["Alive"] and n["Resources"].get("CPU")]
        available = {key: sum(m.get(key, 0) for m in machines) for key in ("CPU", "GPU")}
        workers = workers or (int(available["GPU"]) if gpus else len(machines))
        workers = min(workers, len(shards))
        if workers > available["CPU"]:
            few = f"{available['CPU']:g} CPUs, too few for {workers} workers"
            raise HyperlectError(f"The Ray cluster has {few}.")
        least = min(machine["CPU"] for machine in machines)
        cpus = max(1, int(min(least, available["CPU"] // workers)))
        if gpus:
            gpus = 1 / math.ceil(workers / available["GPU"])
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        data.DataContext.get_current().enable_progress_bars = False
        items = [{"shard": json.dumps(asdict(shard))} for shard in shards]
        rows = data.from_items(items, override_num_blocks=len(items)).map_batches(
            _Worker,
            fn_constructor_args=work,
            batch_size=1,
            compute=data.ActorPoolStrategy(size=workers),
            num_cpus=cpus,
            num_gpus=gpus,
            ray_remote_args_fn=lambda: {"max_restarts": RETRIES, "max_task_retries": RETRIES},
        )
        for row in rows.iter_rows():
            if row["error"]:
                raise HyperlectError(f"A worker on Ray failed: {row['error']}")
            yield int(row["rows"])
    except ray.exceptions.RayError as error:
        what = f"A worker died after {RETRIES} restarts, and Ray gave up ({type(error).__name__})."
        hint = "Is there enough memory? Run the same command to continue."
        raise HyperlectError(f"{what} {hint}") from error
    finally:
        ray.shutdown()


def _follow(results: Iterator[int], done: int, total: int, console: Console) -> None:
    """Show the progress of a job until its end; `done` rows were done before."""
    speeds = TextColumn("rows, {task.fields[speed]} a second,")
    columns = (BarColumn(), MofNCompleteColumn(), speeds, TimeRemainingColumn(), TextColumn("left"))
    began = time.monotonic()
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("", total=total, completed=done, speed="?")
        try:
            for rows in accumulate(results):
                speed = f"{rows / (time.monotonic() - began):,.0f}"
                bar.update(task, completed=done + rows, speed=speed)
        except KeyboardInterrupt:
            raise Interrupted("Stopped. The same command continues.") from None
