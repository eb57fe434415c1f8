from __future__ import annotations

import gzip
import json
import time
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from hyperlect import bulk
from hyperlect.bulk import ABOUT, RETRIES, Settings, predict_files
from hyperlect.cli.__main__ import main
from hyperlect.data.examples import MAX_TREE_WORDS
from hyperlect.errors import DataError, HyperlectError, Interrupted, RunError
from hyperlect.model import HyperX
from hyperlect.tasks import Task, TaskType

from .commands import children, finish, start, until
from .model.models import NER, POS, TOPIC, tiny_model
from .tiny import WORDS, saved_backbone

NLI = Task("nli", TaskType.PAIRS, ("no", "yes"))
DEP = Task("dep", TaskType.PARSING, ("nsubj", "obj", "root"))
LANGUAGES = ("eng", "isl", "dan")
TEXTS = [" ".join(WORDS[n % 7 : n % 7 + 1 + n % 5]) for n in range(23)]
SETTINGS = Settings(("pos", "ner", "dep"), "isl", shard_rows=5, precision="fp32")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bulk")
    backbone = saved_backbone(folder / "encoder")
    model = tiny_model(backbone, tasks=(POS, NER, TOPIC, NLI, DEP), trained=[("pos", "eng")])
    model.save_pretrained(folder / "run")
    return folder / "run"


@pytest.fixture(scope="module")
def model(run: Path) -> HyperX:
    return HyperX.from_pretrained(run, device="cpu")


def write(path: Path, texts: Sequence[Any] = TEXTS, **columns: Sequence[Any]) -> Path:
    """Write texts in the format of the path, with further columns where it has any."""
    if path.suffix == ".parquet":
        pq.write_table(pa.table({"text": texts, **columns}), path, row_group_size=7)
        return path
    if path.suffix == ".jsonl":
        rows = [
            dict(zip(("text", *columns), row, strict=True))
            for row in zip(texts, *columns.values(), strict=True)
        ]
        lines = [json.dumps(row) for row in rows]
    elif path.suffix == ".conllu":
        blocks = [enumerate(text.split(), start=1) for text in texts]
        rest = "\t_" * 8
        lines = ["".join(f"{n}\t{word}{rest}\n" for n, word in block) for block in blocks]
    else:
        lines = list(texts)
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def rows_of(output: Path) -> list[dict[str, Any]]:
    rows = []
    for file in sorted(output.glob("0*")):
        if file.suffix == ".parquet":
            rows += pq.read_table(file).to_pylist()
        else:
            rows += [json.loads(line) for line in file.read_text().splitlines()]
    return rows


def places(output: Path) -> list[tuple[str, int]]:
    return [(Path(row["input_file"]).name, row["input_row"]) for row in rows_of(output)]


def assert_is_single_prediction(
    row: dict[str, Any], model: HyperX, value: Any, language: str
) -> None:
    assert row["error"] is None
    assert row["prediction"]["language"] == language
    for task, predicted in row["prediction"]["tasks"].items():
        (single,) = model.predict([value], task, language, precision="fp32")
        expected = single.to_dict()
        assert predicted["kind"] == expected["kind"]
        for key in {"labels", "label", "heads"} & expected.keys():
            assert predicted[key] == expected[key]
        for key in {"confidences", "scores"} & expected.keys():
            assert predicted[key] == pytest.approx(expected[key], abs=2e-4)
        if task == "ner":
            assert [list(span.values())[:6] for span in predicted["spans"]] == [
                list(span.values())[:6] for span in expected["spans"]
            ]


@pytest.mark.parametrize("name", ["a.parquet", "a.jsonl", "a.txt", "a.conllu", "a.txt.gz"])
def test_every_row_of_each_format_comes_out_once(
    name: str, run: Path, model: HyperX, tmp_path: Path
) -> None:
    path = write(tmp_path / name.removesuffix(".gz"))
    if name.endswith(".gz"):
        path = tmp_path / name
        path.write_bytes(gzip.compress((tmp_path / "a.txt").read_bytes()))
    summary = predict_files(run, [str(path)], tmp_path / "out", SETTINGS)
    assert (summary.rows, summary.errors) == (23, 0)
    assert places(tmp_path / "out") == [(name, number) for number in range(1, 24)]
    for row, text in list(zip(rows_of(tmp_path / "out"), TEXTS, strict=True))[::4]:
        assert list(row["prediction"]["tasks"]) == ["pos", "ner", "dep"]
        assert_is_single_prediction(row, model, text.split(), "isl")
    assert {key[:3]: rows for key, rows in summary.cells.items()} == {
        (task, "isl", model.predict(["a"], task, "isl")[0].kind): 23
        for task in ("pos", "ner", "dep")
    }


@pytest.mark.parametrize("suffix", ["parquet", "jsonl"])
@pytest.mark.parametrize("task", ["pos", "topic", "nli"])
def test_languages_are_mixed_and_columns_kept(
    suffix: str, task: str, run: Path, model: HyperX, tmp_path: Path
) -> None:
    codes = [("en", "Icelandic", "dan", "fro")[n % 4] for n in range(23)]
    other = list(reversed(TEXTS))
    words = [text.split() for text in TEXTS]
    path = write(
        tmp_path / f"a.{suffix}", lang=codes, words=words, second=other, id=list(range(23))
    )
    fields = {"pair": "second"} if task == "nli" else {}
    settings = Settings(
        (task,), language_column="lang", fields=fields, shard_rows=8, precision="fp32"
    )
    summary = predict_files(run, [str(path)], tmp_path / "out", settings)
    resolved = {"en": "eng", "Icelandic": "isl", "dan": "dan", "fro": "fro"}
    rows = rows_of(tmp_path / "out")
    assert [row["id"] for row in rows] == list(range(23))
    for row in rows:
        value = row["words"] if task == "pos" else row["text"]
        value = (value, row["second"]) if task == "nli" else value
        assert_is_single_prediction(row, model, value, resolved[row["lang"]])
    assert sum(summary.cells.values()) == 23
    if suffix == "parquet":
        assert len(pd.read_parquet(tmp_path / "out")) == 23  # as one table, whatever lies beside


def test_a_stopped_job_continues_where_it_stopped(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs = [str(write(tmp_path / name)) for name in ("a.txt", "b.jsonl")]
    whole = predict_files(run, inputs, tmp_path / "whole", SETTINGS)
    tagged = []
    for stops_after in (3, 2, None):
        tag, before = bulk.tag, len(tagged)

        def some(
            model: Any,
            shard: Any,
            *rest: Any,
            tag: Any = tag,
            limit: Any = stops_after,
            before: int = before,
        ) -> Any:
            if len(tagged) - before == limit:
                raise KeyboardInterrupt
            tagged.append(shard.number)
            return tag(model, shard, *rest)

        with monkeypatch.context() as patch:
            patch.setattr(bulk, "tag", some)
            if stops_after:
                with pytest.raises(Interrupted):
                    predict_files(run, inputs, tmp_path / "out", SETTINGS)
            else:
                summary = predict_files(run, inputs, tmp_path / "out", SETTINGS)
    assert tagged == list(range(10))
    assert summary == whole
    assert rows_of(tmp_path / "out") == rows_of(tmp_path / "whole")
    monkeypatch.setattr(bulk, "HyperX", None)  # nothing is left to do
    assert predict_files(run, inputs, tmp_path / "out", SETTINGS) == whole


@pytest.mark.slow
def test_a_killed_job_leaves_nothing_twice_and_nothing_out(run: Path, tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", TEXTS * 40)
    out = tmp_path / "out"
    options = ["--task", "pos,ner", "--language", "eng", "--shard-rows", 20, "--output", out]
    command = ["predict", run, "--input", path, *options]
    for done in (2, 6):
        job = start(*command)
        until(lambda done=done: len(list((out / ABOUT).glob("0*.json"))) >= done, job)  # type: ignore[misc]
        job.kill()
        finish(job)
    assert len(list((out / ABOUT).glob("0*.json"))) < 46
    (out / "000009.parquet.0.partial").touch()
    code, output = finish(start(*command))
    assert code == 0, output
    assert places(out) == [("a.parquet", number) for number in range(1, 921)]
    assert not list(out.glob("*.partial"))


def test_a_restart_with_anything_else_is_refused(run: Path, tmp_path: Path) -> None:
    path, out = write(tmp_path / "a.txt"), tmp_path / "out"
    predict_files(run, [str(path)], out, SETTINGS)
    other = write(tmp_path / "b.txt")
    with pytest.raises(RunError) as error:
        predict_files(
            run, [str(tmp_path / "*.txt")], out, replace(SETTINGS, tasks=("pos",), shard_rows=4)
        )
    keys = {(Path(problem.file).name, problem.key) for problem in error.value.problems}
    assert keys == {("b.txt", ""), ("", "--task"), ("", "--shard-rows")}
    other.unlink()
    path.write_text(path.read_text().replace("dog", "cat"))
    with pytest.raises(RunError) as error:
        predict_files(run, [str(path)], out, SETTINGS)
    assert [problem.file for problem in error.value.problems] == [str(path)]
    with pytest.raises(RunError):
        predict_files(run, [str(path)], run, SETTINGS)  # which holds other things


BAD_LINES = [
    '{"text": "the cat", "lang": "eng"}',
    "",
    '{"text": "", "lang": "eng"}',
    '{"text": null, "lang": "eng"}',
    '{"text": 7, "lang": "eng"}',
    '{"text": "the cat", "lang": "klingonish"}',
    '{"text": "the cat"}',
    '{"words": ["the", ""], "lang": "eng"}',
    '{"words": [], "lang": "eng"}',
    '{"words": ["the", 3], "lang": "eng"}',
    '{"text": "the \\ud800 cat", "lang": "eng"}',
    '{"lang": "eng"}',
    "not json",
    "[1]",
    '{"text": "the cat", "lang": "eng", "error": "mine"}',
    '{"text": "a dog", "lang": "isl"}',
]


def test_faulty_rows_do_not_end_the_job(run: Path, model: HyperX, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes("\n".join(BAD_LINES).encode() + b'\n{"text": "\xff", "lang": "eng"}\n')
    with path.open("a") as stream:
        stream.write(f"{'[' * 100_000}\n")  # deeper than Python reads
    settings = Settings(("pos", "ner"), language_column="lang", shard_rows=6, precision="fp32")
    summary = predict_files(run, [str(path)], tmp_path / "out", settings)
    rows = rows_of(tmp_path / "out")
    assert [row["input_row"] for row in rows if row["error"] is None] == [1, 16]
    assert [row["input_row"] for row in rows] == list(range(1, 19))
    assert all((row["error"] is None) != (row["prediction"] is None) for row in rows)
    assert rows[12]["input"] == "not json"
    assert json.loads(rows[14]["input"])["error"] == "mine"
    assert (summary.rows, summary.errors, len(summary.examples)) == (18, 16, 5)
    assert summary.examples[0].startswith(f"{path}:2: ")
    assert_is_single_prediction(rows[15], model, "a dog", "isl")


def test_faulty_rows_of_the_other_formats(run: Path, tmp_path: Path) -> None:
    table = pa.table({"text": ["the cat", None, " ", "a dog"], "lang": ["eng", "eng", "eng", None]})
    pq.write_table(table, tmp_path / "a.parquet")
    predict_files(
        run,
        [str(tmp_path / "a.parquet")],
        tmp_path / "1",
        Settings(("topic",), language_column="lang"),
    )
    assert [row["error"] is None for row in rows_of(tmp_path / "1")] == [True, False, False, False]
    (tmp_path / "b.txt").write_text("the cat\ta dog\nthe cat\n\na\tb\n")
    predict_files(run, [str(tmp_path / "b.txt")], tmp_path / "2", Settings(("nli",), "eng"))
    assert [row["error"] is None for row in rows_of(tmp_path / "2")] == [True, False, False, True]
    good = "# text = the\n1\tthe" + "\t_" * 8
    (tmp_path / "c.conllu").write_text(f"{good}\n\n# alone\n\n\n1 the\n\n{good}\n\n3{good[14:]}\n")
    predict_files(run, [str(tmp_path / "c.conllu")], tmp_path / "3", Settings(("pos",), "eng"))
    rows = rows_of(tmp_path / "3")
    assert [row["error"] is None for row in rows] == [True, False, False, True, False]
    assert rows[0]["conllu"] == good


def test_more_words_than_can_be_parsed_are_an_error_of_their_row(run: Path, tmp_path: Path) -> None:
    path = tmp_path / "a [2024].txt"  # the name of a file, not a pattern
    path.write_text(f"the cat\n{'the ' * (MAX_TREE_WORDS + 1)}\n")
    predict_files(run, [str(path)], tmp_path / "out", Settings(("dep",), "eng"))
    assert [row["error"] is None for row in rows_of(tmp_path / "out")] == [True, False]


def test_each_warning_of_hyperlect_is_told_once(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = bulk._read

    def warned(shard: bulk.Shard) -> Any:
        warnings.warn("of hyperlect", stacklevel=2)
        warnings.warn_explicit("of a library", UserWarning, torch.__file__, 1)
        return read(shard)

    monkeypatch.setattr(bulk, "_read", warned)
    settings = Settings(("pos",), "eng", shard_rows=5)
    summary = predict_files(run, [str(write(tmp_path / "a.txt"))], tmp_path / "out", settings)
    assert list(summary.warnings) == ["of hyperlect"]


def test_what_can_be_seen_at_once_is_refused_at_once(run: Path, tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", error=TEXTS)
    write(tmp_path / "b.txt")
    (tmp_path / "c.parquet").write_text("text")
    (tmp_path / "d.doc").write_text("text")
    (tmp_path / "out").mkdir()
    settings = Settings(("pos",), language_column="lang")
    for names, files in {
        ("?.parquet", "b.txt"): ["a.parquet", "a.parquet", "b.txt", "c.parquet"],
        ("d.doc", "no.txt", "out"): ["d.doc", "no.txt", "out"],
    }.items():
        with pytest.raises(DataError) as error:
            predict_files(run, [str(tmp_path / name) for name in names], tmp_path / "out", settings)
        assert sorted(Path(problem.file).name for problem in error.value.problems) == files
    for wrong in (
        Settings(("pos",)),
        Settings(("pos",), "eng", "lang"),
        Settings(("pos", "topic"), "eng"),
        Settings(("pos",), "eng", fields={"pair": "text"}),
        Settings(("none",), "eng"),
        Settings(("pos",), "klingonish"),
    ):
        with pytest.raises(HyperlectError):
            predict_files(run, [str(tmp_path / "b.txt")], tmp_path / "out", wrong)
    assert list((tmp_path / "out").iterdir()) == []


def test_the_command_says_each_cell_once(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path / "a.txt", [*TEXTS, ""])
    command = ["predict", str(run), "--task", "pos,ner", "--input", str(path)]
    options = ["--language", "fo", "--shard-rows", "5", "--output", str(tmp_path / "out")]
    with pytest.raises(SystemExit) as leaving:
        main([*command, *options])
    message = capsys.readouterr().err
    assert leaving.value.code == 0, message
    assert message.count("in Faroese (fao): 23 rows") == 2
    assert f"{path}:24: " in " ".join(message.split())
    assert [row["error"] is None for row in rows_of(tmp_path / "out")] == [True] * 23 + [False]


@pytest.mark.parametrize(
    "options",
    [
        ["--output", "out", "--adapt"],
        ["--output", "out"],
        ["--output", "out", "--input", "a.txt", "--workers", "2"],
        ["--ray", "local"],
        ["--shard-rows", "5"],
        ["--input", "a.txt"],
    ],
)
def test_options_of_the_other_form_are_refused(
    options: list[str], run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as leaving:
        main(["predict", str(run), "--task", "pos", "--language", "eng", *options])
    assert leaving.value.code == 2
    message = capsys.readouterr().err
    assert "--input" in message or "--ray" in message


@pytest.mark.slow
def test_two_ray_workers_do_every_row_once_and_one_may_die(run: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray")
    path = write(tmp_path / "a.parquet", TEXTS * 40)
    settings, there = replace(SETTINGS, shard_rows=20), tmp_path / "there"
    here = predict_files(run, [str(path)], tmp_path / "here", settings)
    options = ["--task", "pos,ner,dep", "--language", "isl", "--shard-rows", 20]
    options += ["--output", there, "--precision", "fp32", "--ray", "local", "--workers", 2]
    job = start("predict", run, "--input", path, *options)
    until(lambda: list((there / ABOUT).glob("0*.json")), job)
    children(job, "MapWorker")[0].kill()
    code, output = finish(job)
    assert code == 0, output
    assert rows_of(there) == rows_of(tmp_path / "here")
    assert predict_files(run, [str(path)], there, settings) == here  # nothing is left to do
    assert places(there) == [("a.parquet", number) for number in range(1, 921)]


@pytest.mark.slow
def test_what_a_ray_worker_cannot_do_is_said(run: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray")
    options = ["--task", "pos", "--language", "isl", "--device", "mps", "--ray", "local"]
    path = write(tmp_path / "a.txt")
    job = start("predict", run, "--input", path, "--output", tmp_path / "out", *options)
    code, output = finish(job)
    assert code == 2, output
    assert "no device" in output


@pytest.mark.slow
def test_a_job_ends_whose_ray_workers_always_die(run: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray")
    path, out = write(tmp_path / "a.txt"), tmp_path / "out"
    command = ["predict", run, "--input", path, "--task", "pos", "--language", "isl"]
    job = start(*command, "--output", out, "--ray", "local", "--workers", 1)
    deaths = 0
    while job.poll() is None:
        for worker in children(job, "MapWorker"):
            worker.kill()
            deaths += 1
        time.sleep(0.1)
    code, output = finish(job)
    assert code == 2, output
    assert deaths > RETRIES
    assert not list(out.glob("0*"))
