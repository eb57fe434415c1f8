from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from hyperlect.errors import RecipeError, RunError, UnknownNameError
from hyperlect.experiment.design import is_design, load_design
from hyperlect.experiment.plan import plan
from hyperlect.methods import METHODS
from hyperlect.recipe import load_recipe

from ..project import touch_files, write_project
from .made import planned, write_grid

ROOT = Path(__file__).parents[2]


def test_settings_by_parts_by_methods_by_seeds(tmp_path: Path) -> None:
    split = {
        "recipe": "recipe.yaml", "methods": ["head"], "seeds": [7],
        "parts": {"short": {"training.steps": 5}, "long": {}},
    }  # fmt: skip
    experiment = planned(
        tmp_path, set={"training.steps": 9}, settings={"a": {"recipe": "recipe.yaml"}, "b": split}
    )
    assert [run.name for run in experiment.runs] == [
        "a/hyperx/seed-1", "a/hyperx/seed-2", "a/adapters/seed-1", "a/adapters/seed-2",
        "b/short/head/seed-7", "b/long/head/seed-7",
    ]  # fmt: skip
    assert {run.folder for run in experiment.runs} == {
        tmp_path / "out" / run.name for run in experiment.runs
    }
    made = {run.name: run.recipe for run in experiment.runs}
    assert made["a/adapters/seed-2"].method == "adapters"
    assert made["a/adapters/seed-2"].training.seed == 2
    assert made["a/adapters/seed-2"].name == "a"
    assert made["b/short/head/seed-7"].name == "b-short"
    assert [made[f"b/{part}/head/seed-7"].training.steps for part in ("short", "long")] == [5, 9]


def test_what_the_process_is_told_gives_the_recipe_that_was_checked(tmp_path: Path) -> None:
    for run in planned(tmp_path, set={"training.learning_rate": 5e-5, "description": "é: [1"}).runs:
        assert load_recipe(run.file, run.overrides) == run.recipe
        assert run.recipe.training.learning_rate == 5e-5
        assert run.recipe.description == "é: [1"


def test_without_methods_and_seeds_those_of_the_recipe(tmp_path: Path) -> None:
    path = write_grid(tmp_path, settings={"a": {"recipe": "recipe.yaml"}})
    text = path.read_text()
    path.write_text(re.sub(r"(?m)^(methods|seeds):\n(- .*\n)+", "", text))
    assert [run.name for run in plan(path).runs] == ["a/hyperx/seed-1"]


def test_what_is_set_for_a_method_holds_for_the_recipes_own(tmp_path: Path) -> None:
    given = {"hyperx": {"training.steps": 5}, "adapters": {"training.steps": 6}}
    path = write_grid(tmp_path, settings={"a": {"recipe": "recipe.yaml", "method_set": given}})
    path.write_text(re.sub(r"(?m)^methods:\n(- .*\n)+", "", path.read_text()))
    runs = plan(path).runs
    assert {(run.method, run.recipe.training.steps) for run in runs} == {("hyperx", 5)}
    assert load_recipe(runs[0].file, runs[0].overrides) == runs[0].recipe


def test_runs_go_into_runs_by_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert plan(write_grid(tmp_path)).folder == tmp_path / "runs" / "tried"


def test_what_goes_on_from_another_run(tmp_path: Path) -> None:
    first = {"recipe": "recipe.yaml"}
    whole = {**first, "after": "a", "parts": {"x": {}, "y": {}}}
    experiment = planned(
        tmp_path, settings={"a": first, "b": whole, "c": {**first, "parts": {"x": {}}},
                            "d": {**first, "after": "c", "parts": {"x": {}}}},
    )  # fmt: skip
    after = {run.name: run.after for run in experiment.runs}
    assert after["a/hyperx/seed-2"] is None
    assert after["b/x/hyperx/seed-2"] == tmp_path / "out/a/hyperx/seed-2"
    assert after["d/x/adapters/seed-1"] == tmp_path / "out/c/x/adapters/seed-1"
    run = next(run for run in experiment.runs if run.name == "b/x/hyperx/seed-2")
    assert run.overrides[-1] == f"start_from={tmp_path / 'out/a/hyperx/seed-2'}"


def test_the_faults_of_all_recipes_at_once(tmp_path: Path) -> None:
    settings = {
        "a": {"recipe": "recipe.yaml", "set": {"training.stepz": 3}},
        "b": {"recipe": "recipe.yaml", "set": {"max_length": 0}},
    }
    with pytest.raises(RecipeError) as error:
        planned(tmp_path, settings=settings)
    told = str(error.value)
    assert "a/hyperx, a/adapters: The recipe" in told
    assert 'Did you mean "steps"?' in told
    assert "b/hyperx, b/adapters: The recipe" in told
    assert told.count("stepz") == 1  # once, though two methods have it


def test_a_folder_of_recipes_or_with_an_experiment(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    recipe = write_project(folder, ("pos",))
    recipe.rename(folder / "one.yaml")
    shutil.copy(folder / "one.yaml", folder / "two.yaml")
    runs = plan(folder, methods=["head", "adapters"], seeds=[3]).runs
    assert [run.name for run in runs] == [
        "one/head/seed-3", "one/adapters/seed-3", "two/head/seed-3", "two/adapters/seed-3",
    ]  # fmt: skip
    with pytest.raises(UnknownNameError, match='Did you mean "head"'):
        plan(folder, methods=["heads"])

    write_grid(folder)
    assert plan(folder).name == "tried"
    with pytest.raises(RecipeError, match="--only"):
        plan(folder, seeds=[3])
    shutil.copy(folder / "grid.yaml", folder / "other.yaml")
    with pytest.raises(RecipeError, match=r"grid\.yaml, other\.yaml"):
        plan(folder)


def test_what_is_no_experiment(tmp_path: Path) -> None:
    recipe = write_project(tmp_path, ("pos",))
    with pytest.raises(RecipeError, match="hyperlect train"):
        plan(recipe)
    with pytest.raises(RecipeError, match="There is no"):
        plan(tmp_path / "none")
    (tmp_path / "versions.json").touch()
    with pytest.raises(RunError, match="is a run folder"):
        plan(tmp_path)


SHIPPED = [path for path in sorted((ROOT / "recipes").rglob("*.yaml")) if is_design(path)]


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.parent.name)
def test_shipped_experiments_are_good(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HYPERLECT_DATA", str(path.parent))
    assert load_design(path).settings


@pytest.mark.parametrize(("name", "runs"), [("small", 450), ("large", 35)])
def test_shipped_experiments_on_corpora_are_planned_whole(
    name: str, runs: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HYPERLECT_DATA", str(tmp_path))
    folder = ROOT / "recipes" / name
    for path in folder.glob("[!g]*.yaml"):
        touch_files(load_recipe(path, check_files=False), tmp_path)
    experiment = plan(folder / "grid.yaml", tmp_path / "out")
    assert len(experiment.runs) == runs
    assert {run.method for run in experiment.runs} == set(METHODS) - {"head"}
