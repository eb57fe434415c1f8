"""Loading a recipe: what is resolved, and what faults are told."""

# ruff: noqa: E501 (a case a line)

from __future__ import annotations

from pathlib import Path

import pytest

from hyperlect.errors import RecipeError
from hyperlect.grid import Cell
from hyperlect.recipe import load_recipe

from .conftest import GOOD, Faulty, Load


def test_languages_and_paths_are_resolved(load: Load, folder: Path) -> None:
    recipe = load()
    assert list(recipe.data[0].cells) == ["eng", "fao"]
    assert recipe.data[0].cells["fao"].test == (str(folder / "files" / "c.conllu"),)
    assert recipe.training.learning_rate == 0.001


def test_norwegian_needs_no_quotes(load: Load) -> None:
    assert "nor" in load(text=GOOD.replace("fo:", "no:")).data[0].cells


def test_variables_in_paths(
    load: Load, folder: Path, monkeypatch: pytest.MonkeyPatch, faults: Faulty
) -> None:
    text = GOOD.replace("root: files", "root: ${CORPORA}/files")
    monkeypatch.setenv("CORPORA", str(folder))
    assert load(text=text) == load()
    monkeypatch.delenv("CORPORA")
    [fault] = faults(text=text)
    assert fault.startswith("line 10, data.0.root: the environment variable CORPORA is not set")


def test_overrides_are_read_as_yaml(load: Load) -> None:
    recipe = load(
        "training.steps=50",
        "training.patience=null",
        "hypernet.sources=[task, layer]",
        "data.0.limit.train=5",
        "name=other",
    )
    assert (recipe.training.steps, recipe.name) == (50, "other")
    assert recipe.hypernet.sources == ("task", "layer")
    assert recipe.cells("train")[Cell("pos", "eng")][0].limit == 5


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("training.stesp=3", '--set training.stesp: there is no such key. Did you mean "steps"?'),
        ("seed=3", '--set seed: there is no such key. Did you mean "training.seed"?'),
        ("training.steps", "write key.path=value"),
        ("data.7.task=x", 'data is a list of 3, counted from 0; it has no item "7"'),
        ("name.x=1", "name is no block of keys"),
        ("training.steps=many", '--set training.steps: must be a whole number, not "many"'),
        ("training.steps=true", "--set training.steps: is true"),
        ("training.learning_rate=.inf", "must be a finite number"),
        ("training.clip=[", "not valid YAML"),
    ],
)
def test_faulty_overrides(faults: Faulty, override: str, words: str) -> None:
    [fault] = faults(override)
    assert words in fault


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("steps: 100", "learningrate: 1", 'training.learningrate: there is no such key. Did you mean "learning_rate"?'),
        ("type: tagging", "type: taging", 'line 4, tasks.pos.type: "taging" is none of'),
        ("format: conllu", "format: conll", 'Did you mean "conllu"?'),
        ("format_version: 1", "format_version: 2", "line 1, format_version: must be 1, not 2"),
        ("name: toy", "name: to/y", "must be made of letters"),
        ("name: toy", "hypernet: {bottlenek: 3}\nname: toy", 'hypernet.bottlenek: there is no such key. Did you mean "bottleneck"?'),
        ("name: toy", "hypernet: {activation: rele}\nname: toy", "hypernet: activation must be one of"),
        ("name: toy", "revision: 1e5\nname: toy", 'line 2, revision: 100000.0 is read as a number'),
        ("fo: {test", "fo: {tets", 'data.0.cells.fo.tets: there is no such key. Did you mean "test"?'),
        ("fo:", "xqx:", 'Unknown language "xqx"'),
        ("fo:", "eng:", '"en" is the same language (eng)'),
        ("c.conllu", "${DATA}/c.conllu", 'inside of {} put values with ${…} in quotes'),
        ("type: tagging", "type: pos", 'Did you mean "tagging"?'),
        ("format: conllu", "format: iob2", 'Did you mean "columns"?'),
        ("c.conllu", "cc.conllu", 'cc.conllu. Did you mean "c.conllu"?'),
        ("root: files", "root: fils", "data.0.root: there is no folder"),
        ("share: 0.2", "share: 1", "tasks.mlm.share: must be less than 1, not 1"),
        ("[sport, travel]", "sport", 'tasks.topic.labels: must be a list of labels, upos or deprel, not "sport"'),
        ("[sport, travel]", "[sport, 2]", 'tasks.topic.labels.1: 2 is read as a number; for a text write "2" in quotes'),
    ],
)  # fmt: skip
def test_one_fault(faults: Faulty, old: str, new: str, expected: str) -> None:
    assert old in GOOD
    [fault] = faults(text=GOOD.replace(old, new, 1))
    assert expected in fault


def test_all_faults_at_once_and_none_that_merely_follows(faults: Faulty) -> None:
    text = (
        GOOD.replace("type: tagging", "type: taging")
        .replace("name: toy", "nmae: toy")
        .replace("a.conllu", "none.conllu")
        .replace("[sport, travel]", "[sport, sport]")
        .replace("fo:", "xqx:")
        .replace("steps: 100", "steps: 5, steps: 0")
        .replace("files/e.txt", "files/d.tsv/e.txt")
    )
    places = [fault.partition(": ")[0] for fault in faults(text=text)]
    assert places == [
        "name",
        "line 2, nmae",
        "line 4, tasks.pos.type",
        "line 5, tasks.topic.labels",
        "line 12, data.0.cells.en.train.0",
        "line 13, data.0.cells.xqx",
        "line 21, data.2.cells.isl.train.0",
        "line 22, training.steps",
        "line 22, training.steps",
    ]


PATHS = ["name", "tasks", "tasks.pos", "tasks.pos.labels", "data", "data.0", "data.0.cells"]
PATHS += ["data.0.cells.en", "data.0.cells.en.train", "data.0.fields", "data.0.limit", "training"]
PATHS += ["training.select_by", "hypernet", "hypernet.sources", "evaluation"]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("value", ["x", "7.5", "[7]", "{x: 7}", "null"])
def test_a_wrong_value_is_told_with_its_key(faults: Faulty, path: str, value: str) -> None:
    if (path, value) in {("name", "x"), ("tasks.pos.labels", "null")}:
        pytest.skip("a good value")
    found = faults(f"{path}={value}")
    assert all(path.split(".")[0] in fault for fault in found)
    assert "pydantic" not in "".join(found)


def test_files_need_not_exist_where_only_the_model_is_wanted(load: Load) -> None:
    text = GOOD.replace("root: files", "root: nowhere")
    assert load(text=text, check_files=False).cells("train")


def test_a_missing_recipe_suggests_its_neighbour(load: Load, folder: Path) -> None:
    load()
    with pytest.raises(RecipeError, match=r'Did you mean "toy\.yaml"'):
        load_recipe(folder / "toys.yaml")
    with pytest.raises(RecipeError, match="is a folder"):
        load_recipe(folder)


@pytest.mark.parametrize("text", ["", "[1]", "just words", "a: b: c"])
def test_what_is_no_recipe(faults: Faulty, text: str) -> None:
    assert len(faults(text=text)) == 1


def test_the_run_to_start_from(
    load: Load, faults: Faulty, folder: Path, tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    (folder / "runs" / "base").mkdir(parents=True)
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "runs" / "mine").mkdir(parents=True)
    monkeypatch.chdir(elsewhere)
    base = str(folder / "runs" / "base")
    assert load().start_from is None
    assert load("start_from=runs/base").start_from == base
    assert load(f"start_from={base}").start_from == base
    assert load("start_from=runs/mine").start_from == str(elsewhere / "runs" / "mine")
    assert load("start_from=owner/model").start_from == "owner/model"  # on the hub
    assert load("start_from=./runs/bas", check_files=False).start_from == "./runs/bas"
    [fault] = faults("start_from=./runs/bas")
    assert fault == f'--set start_from: there is no run {base[:-1]}. Did you mean "base"?'
