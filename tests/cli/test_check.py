from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from safetensors.torch import load_file, save_file

from hyperlect.cli.check import check_table
from hyperlect.evaluation.results import Expected
from hyperlect.grid import Cell
from hyperlect.recipe import Recipe, load_recipe
from hyperlect.training.monitor import Monitor

from .conftest import Call, write_project


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    return write_project(tmp_path)


def test_a_recipe_is_shown_with_its_grid(call: Call, project: Path) -> None:
    code, out, err = call("check", project / "tiny.yaml")
    assert code == 0, err
    assert "2/1/2" in out
    assert "unseen combination" in out
    assert "ner: spans, 2 labels: LOC, PER" in out
    assert "nli: pairs, 2 labels: no, yes" in out
    assert not (project / "runs" / "tiny").exists()


def test_one_label_is_counted_as_one(call: Call, recipe: Path) -> None:
    text = recipe.read_text()
    recipe.write_text(text.replace("labels: [LOC, PER]", "labels: [LOC], label_map: {PER: O}"))
    code, out, err = call("check", recipe)
    assert code == 0, err
    assert "1 label: LOC" in out


def test_encoding_on_request(call: Call, project: Path) -> None:
    code, out, err = call("check", project / "tiny.yaml", "--encode")
    assert code == 0, err
    assert "at most 64" in out


def test_a_writing_that_the_encoder_does_not_know_is_a_warning(call: Call, recipe: Path) -> None:
    assert "Warning: fao" not in call("check", recipe, "--encode").out
    (recipe.parent / "c.tsv").write_text("ߒߞߏ\tPROPN\tO\tname\n" * 3, encoding="utf-8")
    code, out, err = call("check", recipe, "--encode")
    assert code == 0, err
    assert "Warning: fao" in out
    assert "%" in out


def test_faults_of_the_data_are_told_at_once(call: Call, recipe: Path) -> None:
    (recipe.parent / "c.tsv").write_text("Anna\tPROPM\tB-PER\tx\nand\tCCONJ\tB-TIME\tx\n")
    code, _, err = call("check", recipe)
    assert code == 2
    file = recipe.parent / "c.tsv"
    assert f"{file}:1" in err
    assert '"PROPN"' in err
    assert '"B-TIME"' in err


def test_partial_overlap_warns_and_whole_overlap_is_refused(call: Call, recipe: Path) -> None:
    folder = recipe.parent
    train = (folder / "a.tsv").read_text()
    (folder / "c.tsv").write_text(train.replace("Oslo", "not"))
    code, out, _ = call("check", recipe)
    assert code == 0
    assert "Warning: pos:eng test: 1 of 2 examples" in out
    (folder / "c.tsv").write_text(train)
    code, _, err = call("check", recipe)
    assert code == 2
    assert f"{folder}/c.tsv" in err
    assert f"{folder}/a.tsv" in err


def long_sentence(folder: Path) -> None:
    (folder / "a.tsv").write_text("the\tDET\tO\tword\nAnna\tPROPN\tO\tname\n" * 600)


def alike(folder: Path) -> None:
    (folder / "topic.tsv").write_text("text\tlabel\nthe river\tSports\nOslo\tsports\nA\tsports \n")


def prefixed(folder: Path) -> None:
    lines = (folder / "a.tsv").read_text().splitlines()
    (folder / "a.tsv").write_text(
        "".join(f"en:{line}\n" if "\t" in line else f"{line}\n" for line in lines)
    )


def underscores(folder: Path) -> None:
    text = (folder / "trees.conllu").read_text()
    lines = [line.split("\t") for line in text.split("\n")]
    for cells in lines:
        cells[1:2] = ["_"] if len(cells) > 1 else []
    (folder / "trees.conllu").write_text("\n".join("\t".join(cells) for cells in lines))


def invisible(folder: Path) -> None:
    (folder / "topic.tsv").write_text("text\tlabel\nthe river\ta\u200b\nOslo\ta\n")


@pytest.mark.parametrize(
    ("spoil", "named"),
    [
        (long_sentence, ["a.tsv:1", "1,200"]),
        (alike, ["tasks.topic", '"Sports"', '"sports"']),
        (prefixed, ["pos:eng train", "strip_prefix"]),
        (underscores, ["dep:eng train", "_"]),
        (invisible, ["topic:eng train", "u200b"]),
    ],
)
def test_what_can_hardly_be_meant_is_a_warning(
    call: Call, recipe: Path, spoil: Callable[[Path], None], named: list[str]
) -> None:
    spoil(recipe.parent)
    code, out, err = call("check", recipe)
    assert code == 0, err
    warnings = [line for line in out.splitlines() if line.startswith("Warning: ")]
    assert any(all(text in line for text in named) for line in warnings), out


def test_what_the_encoder_cannot_do_is_refused_or_a_warning(call: Call, project: Path) -> None:
    command = ("check", project / "tiny.yaml", "--set")
    code, _, err = call(*command, "hypernet.top_layers=3")
    assert code == 2
    assert f"{project / 'tiny.yaml'}" in err
    assert "hypernet.top_layers" in err
    code, out, err = call(*command, "max_length=500")
    assert code == 0, err
    assert "Warning: max_length" in out
    assert "64" in out


def test_an_encoder_on_a_hub_that_cannot_be_reached_is_a_warning(call: Call, project: Path) -> None:
    code, out, err = call("check", project / "tiny.yaml", "--set", "backbone=acme/no-such-encoder")
    assert code == 0, err
    assert "Warning: backbone" in out
    assert '"acme/no-such-encoder"' in out


# Runs


def test_a_whole_run(call: Call, run: Path) -> None:
    code, out, err = call("check", run)
    assert code == 0, err
    assert "of step 3" in out
    assert "faulty" not in out


def test_faults_of_a_run_are_told_at_once(call: Call, run: Path) -> None:
    tensors = load_file(run / "model.safetensors")
    name = next(iter(tensors))
    tensors[name] = tensors[name].flatten()[:1]
    save_file(tensors, run / "model.safetensors")
    (run / "embeddings.json").write_text("{}")
    recipe = (run / "recipe.yaml").read_text()
    (run / "recipe.yaml").write_text(recipe.replace("isl:", "deu:"))
    code, out, err = call("check", run)
    assert code == 2
    assert out.count("faulty") == 4  # the checkpoint is compared with the model
    assert f"{name} has the shape" in err
    assert "ner:deu" in err
    assert "embeddings.json" in err


def another_version(run: Path) -> None:
    model = json.loads((run / "model.json").read_text())
    (run / "model.json").write_text(json.dumps({**model, "format_version": 99}))


def tampered(key: str) -> Callable[[Path], None]:
    def turn_round(run: Path) -> None:
        model = json.loads((run / "model.json").read_text())
        if key == "languages":
            model["languages"].reverse()
        else:
            task: dict[str, Any] = next(t for t in model["tasks"] if t["name"] == "topic")
            task["labels"].reverse()
        (run / "model.json").write_text(json.dumps(model))

    return turn_round


def damaged(name: str) -> Callable[[Path], None]:
    def cut(run: Path) -> None:
        (run / name).write_bytes((run / name).read_bytes()[:-10])

    return cut


def missing(name: str) -> Callable[[Path], None]:
    return lambda run: (run / name).unlink()


@pytest.mark.parametrize(
    ("spoil", "file"),
    [
        (another_version, "model.json"),
        (tampered("languages"), "model.json"),
        (tampered("labels"), "model.json"),
        (damaged("model.json"), "model.json"),
        (damaged("model.safetensors"), "model.safetensors"),
        (missing("model.safetensors"), "model.safetensors"),
        (missing("model.json"), "model.json"),
    ],
)
def test_a_model_that_is_not_what_was_trained_is_refused(
    call: Call, run: Path, spoil: Callable[[Path], None], file: str
) -> None:
    spoil(run)
    for command in (("check", run), ("predict", run, "--task=pos", "--language=eng")):
        code, _, err = call(*command, stdin="Anna\n")
        assert code == 2
        assert file in err or "not finished" in err
        assert "Traceback" not in err


@pytest.mark.parametrize(
    "name",
    ["embeddings.json", "metrics.jsonl", "training.json", "versions.json", "recipe.yaml",
     "checkpoint/000000003.safetensors"],
)  # fmt: skip
def test_a_damaged_file_is_named(call: Call, run: Path, name: str) -> None:
    (run / name).write_bytes(b"{\xff")
    code, out, err = call("check", run)
    assert code == 2
    assert "faulty" in out
    assert name.split("/")[0] in err
    assert "Traceback" not in err


def test_an_interrupted_run_is_no_mistake(
    call: Call, project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = Monitor.step

    def interrupt(self: Monitor, *arguments: Any) -> None:
        step(self, *arguments)
        signal.raise_signal(signal.SIGINT)

    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(Monitor, "step", interrupt)
        assert call("train", project / "tiny.yaml", "--out", run).code == 130
    code, out, err = call("check", run)
    assert code == 0, err
    assert "faulty" not in out
    assert f"hyperlect train --resume {run}" in out
    damaged("checkpoint/000000001.safetensors")(run)
    assert call("check", run).code == 2


@pytest.mark.parametrize("arguments", [["--encode"], ["--set", "name=x"]])
def test_options_of_recipes_are_refused_for_runs(
    call: Call, trained: Path, arguments: list[str]
) -> None:
    code, _, err = call("check", trained, *arguments)
    assert code == 2
    assert arguments[0] in err


def test_a_run_to_start_from(call: Call, project: Path, trained: Path) -> None:
    code, out, err = call("check", project / "tiny.yaml", "--set", f"start_from={trained}")
    assert code == 0, err
    few = ("--set", "only_tasks=[ner]", "--set", f"start_from={trained}")
    out = call("check", project / "tiny.yaml", *few).out
    assert any("fao" in row and "○" in row for row in out.splitlines())
    assert "pos, topic, nli, dep, sort" in out
    sizes = ("--set", "hypernet.bottleneck=8", "--set", f"start_from={trained}")
    code, _, err = call("check", project / "tiny.yaml", *sizes)
    assert code == 2
    assert "hypernet.bottleneck" in err
    code, _, err = call("check", project / "tiny.yaml", "--set", "start_from=./runs/none")
    assert code == 2
    assert f"{project}/runs/none" in err


def printed(recipe: Recipe, counts: dict[tuple[str, Cell], int]) -> list[str]:
    console = Console(width=80, record=True, color_system=None)
    console.print(check_table(recipe, counts, recipe.grid()))  # type: ignore[arg-type]
    return console.export_text().splitlines()


def test_the_table_shows_counts_and_kinds(tmp_path: Path) -> None:
    path = tmp_path / "toy.yaml"
    path.write_text(
        """format_version: 1
name: toy
tasks: {pos: {type: tagging}, topic: {type: classification}, mlm: {type: mlm}}
data:
  - task: pos
    format: conllu
    cells: {en: {train: a, dev: b}, fo: {test: c}}
  - {task: topic, format: tsv, fields: {text: a, label: b}, cells: {eng: {train: d}}}
  - {task: mlm, format: text, cells: {isl: {train: e}}}
""",
        encoding="utf-8",
    )
    english, faroese = Cell("pos", "eng"), Cell("pos", "fao")
    counts = {("train", english): 120, ("dev", english): 30, ("test", faroese): 12_345}
    counts |= {("train", Cell("topic", "eng")): 7, ("train", Cell("mlm", "isl")): 9}
    recipe = load_recipe(path, check_files=False)
    rows = {line.split()[0]: line.split() for line in printed(recipe, counts) if line.strip()}
    assert rows["eng"] == ["eng", "English", "●", "120/30/–", "●", "7/–/–"]
    assert rows["fao"] == ["fao", "Faroese", "○", "12k"]
    assert rows["isl"] == ["isl", "Icelandic", "●", "9/–/–"]


def test_the_table_of_languages_is_read(call: Call, recipe: Path) -> None:
    settings = (
        "--set", "hypernet.language_base=features",
        "--set", "language_features={typology: languages.csv}",
    )  # fmt: skip
    table = recipe.parent / "languages.csv"
    table.write_text("code,a\neng,1\nisl,0\n", encoding="utf-8")
    code, out, err = call("check", recipe, *settings)
    assert code == 0, err
    assert "languages.csv lacks" in out
    assert "fao" in out
    assert "has no use" in call("check", recipe, *settings, "--set", "method=adapters").out
    table.write_text("code,a\neng,one\n", encoding="utf-8")
    code, _, err = call("check", recipe, *settings)
    assert code != 0
    assert "languages.csv:2, a" in "".join(err.split("\n"))


# The score to expect


def test_expectations_are_shown_of_cells_without_test_data(
    call: Call, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, out, err = call("check", run, "--expect")
    assert code == 0, err
    assert "No mistakes found" in out
    assert "no cell without test data" in out  # the tiny corpora have too few sentences
    expected = {Cell("topic", "isl"): Expected(score=70, low=60, high=75)}
    monkeypatch.setattr("hyperlect.evaluation.expect_untested", lambda *_: expected)
    code, out, err = call("check", run, "--expect")
    assert code == 0, err
    assert "70 (60–75)" in out
    assert "Icelandic" in out


def test_expect_is_for_runs(call: Call, project: Path, run: Path) -> None:
    code, _, err = call("check", project / "tiny.yaml", "--expect")
    assert code == 2
    assert "--expect" in err
    code, _, err = call("check", run, "--set", "training.steps=1")
    assert code == 2
    assert "--set" in err


def test_the_first_steps_are_trained_again(call: Call, trained: Path) -> None:
    code, out, err = call("check", trained, "--rerun", "2")
    assert code == 0, err
    assert "2 steps trained again" in out


def test_a_rerun_that_differs_is_an_error(call: Call, run: Path) -> None:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    (traced,) = (line for line in lines if line["event"] == "trace" and line["step"] == 2)
    traced["norm"] += 1
    (run / "metrics.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    code, _, err = call("check", run, "--rerun", "3")
    assert code == 2
    assert "step 2" in err
    assert "step 1:" not in err


def test_a_rerun_is_of_a_run(call: Call, project: Path) -> None:
    code, _, err = call("check", project / "tiny.yaml", "--rerun", "2")
    assert code == 2
    assert "--rerun" in err


def test_warnings_of_training_are_shown(call: Call, run: Path) -> None:
    training = json.loads((run / "training.json").read_text())
    (run / "training.json").write_text(json.dumps({**training, "warnings": ["ner:eng idle"]}))
    code, out, err = call("check", run)
    assert code == 0, err
    assert "ner:eng idle" in out
