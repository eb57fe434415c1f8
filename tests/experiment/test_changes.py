from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from hyperlect.experiment.changes import differences, told
from hyperlect.experiment.plan import Run, plan

from .made import finish, planned, write_grid


def first(folder: Path, **keys: object) -> Run:
    return planned(folder, **keys).runs[0]


def test_the_same_recipe(tmp_path: Path) -> None:
    run = first(tmp_path)
    finish(run.folder, run.recipe.dump())
    assert differences(run) == []


def test_each_key_that_differs_is_named(tmp_path: Path) -> None:
    run = first(tmp_path)
    finish(run.folder, run.recipe.dump())
    other = first(tmp_path, set={"training.steps": 7, "hypernet.bottleneck": 6})
    found = differences(other)
    assert found == ["hypernet.bottleneck: 4 there, 6 now", "training.steps: 12 there, 7 now"]
    assert told(other, found).startswith(f"{run.folder} is not of this recipe: hypernet.")


def test_what_does_not_touch_the_numbers_may_change(tmp_path: Path) -> None:
    run = first(tmp_path)
    finish(run.folder, run.recipe.dump())
    assert differences(first(tmp_path, set={"description": "x", "training.save_every": 9})) == []


def test_a_default_that_the_kept_recipe_does_not_spell_out(tmp_path: Path) -> None:
    run = first(tmp_path)
    lines = [line for line in run.recipe.dump().splitlines() if not line.startswith("parser:")]
    finish(run.folder, "\n".join(lines))
    assert differences(run) == []
    assert differences(first(tmp_path, set={"parser": "direct"})) == [
        "parser: mlp there, direct now"
    ]


def test_a_folder_without_its_recipe(tmp_path: Path) -> None:
    run = first(tmp_path)
    finish(run.folder, "")
    (run.folder / "recipe.yaml").unlink()
    assert differences(run) == ["it holds no recipe.yaml that would say what it is of"]
    finish(run.folder, "format_version: 99")
    assert "format_version" in differences(run)[0]


def test_data_and_backbone_may_lie_elsewhere(tmp_path: Path) -> None:
    there, here = tmp_path / "there" / "deep", tmp_path / "here"
    run = first(there)
    finish(here / "out" / run.name, run.recipe.dump())
    assert differences(first(here)) == []


def test_a_variable_may_stand_for_another_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    grid = write_grid(tmp_path / "project")
    recipe = tmp_path / "project" / "recipe.yaml"
    recipe.write_text(recipe.read_text().replace(": pos.", ": ${CORPORA}/v1/pos."))
    for name in ("one", "two"):
        shutil.copytree(tmp_path / "project", tmp_path / name / "v1")
        shutil.copytree(tmp_path / "project", tmp_path / name / "v2")
    monkeypatch.setenv("CORPORA", str(tmp_path / "one"))
    run = plan(grid, tmp_path / "out").runs[0]
    finish(run.folder, run.recipe.dump())
    monkeypatch.setenv("CORPORA", str(tmp_path / "two"))
    assert differences(plan(grid, tmp_path / "out").runs[0]) == []

    recipe.write_text(recipe.read_text().replace("/v1/", "/v2/"))
    found = differences(plan(grid, tmp_path / "out").runs[0])
    assert len(found) == 7
    assert all("/v1/pos" in line and "/v2/pos" in line for line in found)


@pytest.mark.parametrize("where", ["recipe", "experiment"])
def test_a_path_may_be_all_variable(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And stand in the recipe or in the experiment's own file."""
    given = {"backbone": "${MODEL}"} if where == "experiment" else {}
    grid = write_grid(tmp_path / "project", set=given)
    recipe = tmp_path / "project" / "recipe.yaml"
    (line,) = [x for x in recipe.read_text().splitlines() if x.startswith("backbone:")]
    models = [tmp_path / "one" / "encoder", tmp_path / "other" / "bert"]
    for model in models:
        shutil.copytree(recipe.parent / line.partition(": ")[2], model)
    if where == "recipe":
        recipe.write_text(recipe.read_text().replace(line, "backbone: ${MODEL}"))
    monkeypatch.setenv("MODEL", str(models[0]))
    run = plan(grid, tmp_path / "out").runs[0]
    assert run.recipe.backbone == str(models[0])
    finish(run.folder, run.recipe.dump())
    monkeypatch.setenv("MODEL", str(models[1]))
    assert differences(plan(grid, tmp_path / "out").runs[0]) == []
    finish(run.folder, run.recipe.dump().replace(str(models[0]), "bert-base-cased"))
    assert differences(plan(grid, tmp_path / "out").runs[0]) == [
        f"backbone: bert-base-cased there, {models[1]} now"
    ]


def test_paths_that_a_repository_keeps_without_their_folder(tmp_path: Path) -> None:
    run = first(tmp_path)
    finish(run.folder, run.recipe.dump().replace(str(tmp_path), "…"))
    assert differences(run) == []
