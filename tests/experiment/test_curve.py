"""Curves of an experiment's file: their faults, and the runs that they become."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hyperlect.errors import RecipeError
from hyperlect.experiment.board import Board, choose
from hyperlect.experiment.curve import Point
from hyperlect.experiment.design import load_design
from hyperlect.experiment.plan import Experiment, plan
from hyperlect.experiment.state import State
from hyperlect.recipe import load_recipe

from ..project import write_project
from .made import FAILS, WEIGHTS, finish, planned, runner, write_grid

TEXT = """\
format_version: 1
name: small
set: {training.steps: 6}
method_set: {adapters: {training.steps: 5}}
settings:
  english: {recipe: recipe.yaml}
  few:
    recipe: recipe.yaml
    after: english
    set: {few_shot: {cells: [pos:isl], alone: true}}
    curve: {examples: [5, 10], draws: [1, 2]}
    parts: {one: {max_length: 8}}
"""

FEW: dict[str, Any] = {
    "recipe": "recipe.yaml",
    "after": "english",
    "curve": {"examples": [5, 10], "draws": [1, 3]},
    "parts": {
        "eng": {"few_shot.cells": ["pos:eng"], "few_shot.alone": True},
        "isl": {"few_shot": {"cells": ["pos:isl"]}},
    },
}
SETTINGS = {"english": {"recipe": "recipe.yaml"}, "few": FEW}


def few_shot(folder: Path, **keys: Any) -> Experiment:
    return planned(folder, **{"settings": SETTINGS, "methods": ["hyperx"], "seeds": [1], **keys})


def told(tmp_path: Path, text: str) -> str:
    (tmp_path / "recipe.yaml").touch()
    (tmp_path / "grid.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(RecipeError) as error:
        load_design(tmp_path / "grid.yaml")
    return str(error.value)


DECIDED = "the curve of few decides this for each run; remove it"


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("{examples:", "{exampels:", 'curve.exampels: there is no such key. Did you mean "examp'),
        ("examples: [5, 10], ", "", "settings.few.curve.examples: is missing, and needed"),
        ("[5, 10]", "[5, 0]", "line 11, settings.few.curve.examples.1: must be at least 1, not 0"),
        ("[5, 10]", "[5, 10, 5]", "line 11, settings.few.curve.examples: has 5 more than once"),
        ("[1, 2]", "[2, 2]", "line 11, settings.few.curve.draws: has 2 more than once"),
        ("[1, 2]", "[]", "line 11, settings.few.curve.draws: "),
        (
            "max_length",
            "few_shot.draw",
            f"line 12, settings.few.parts.one.few_shot.draw: {DECIDED}",
        ),
        ("alone: true", "examples: 3", f"line 10, settings.few.set.few_shot: {DECIDED}"),
        ("steps: 6", "steps: 6, few_shot.draw: 6", f"line 3, set.few_shot.draw: {DECIDED}"),
        (
            "{training.steps: 5",
            "{few_shot.draw: 5",
            f"line 4, method_set.adapters.few_shot.draw: {DECIDED}",
        ),
        (
            "recipe.yaml}",
            "recipe.yaml, curve: {examples: [2]}}",
            "line 9, settings.few.after: english has a curve",
        ),
    ],
)
def test_faults(tmp_path: Path, old: str, new: str, said: str) -> None:
    assert old in TEXT
    assert said in told(tmp_path, TEXT.replace(old, new))


def test_all_faults_of_curves_at_once(tmp_path: Path) -> None:
    assert "has 2 faults" in told(tmp_path, TEXT.replace("[5, 10]", "[5, 5]").replace("[1,", "[0,"))
    both = TEXT.replace("max_length", "few_shot.draw").replace(
        "training.steps", "few_shot.examples"
    )
    assert "has 3 faults" in told(tmp_path, both)


def test_a_run_for_each_number_and_draw(tmp_path: Path) -> None:
    experiment = few_shot(tmp_path, seeds=[1, 2])
    runs = [run for run in experiment.runs if run.setting == "few"]
    assert [run.name for run in runs if run.part == "isl" and run.seed == 1] == [
        f"few/isl/hyperx/examples-{examples}/draw-{draw}/seed-1"
        for examples in (5, 10)
        for draw in (1, 3)
    ]
    assert len(runs) == 2 * 2 * 2 * 2
    for run in runs:
        assert run.folder == experiment.folder / run.name
        assert run.after == experiment.folder / f"english/hyperx/seed-{run.seed}"
        few = run.recipe.few_shot
        assert few is not None
        assert run.point == Point(few.examples, few.draw)
        assert few.cells == (f"pos:{run.part}",)
        assert few.alone is (run.part == "eng")
    names = {run.recipe.name for run in runs}
    assert {"few-isl-5-1", "few-eng-10-3"} <= names
    assert len(names) == 8  # seeds share a name, as everywhere


def test_what_the_process_is_told_gives_the_recipe_that_was_checked(tmp_path: Path) -> None:
    for run in few_shot(tmp_path).runs:
        assert load_recipe(run.file, run.changes) == run.recipe


def test_one_draw_by_default(tmp_path: Path) -> None:
    settings = {**SETTINGS, "few": {**FEW, "curve": {"examples": [7]}}}
    runs = few_shot(tmp_path, settings=settings).runs
    assert [run.point for run in runs] == [None, Point(7, 1), Point(7, 1)]


def test_a_curve_needs_cells(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"few_shot\.cells: is missing") as error:
        few_shot(tmp_path, settings={**SETTINGS, "few": {**FEW, "parts": {}}})
    assert str(error.value).count("is missing") == 1  # not once for each point


def test_a_curve_needs_cells_of_the_tasks_that_are_run(tmp_path: Path) -> None:
    few = {"few_shot.cells": ["topic:eng"], "only_tasks": ["pos"]}
    write_grid(tmp_path, settings={"few": {**FEW, "after": None, "parts": {"pos": few}}})
    write_project(tmp_path, ("pos", "topic"))
    with pytest.raises(RecipeError, match=r"few_shot\.cells names no cell of its tasks"):
        plan(tmp_path / "grid.yaml", tmp_path / "out")


def test_the_runs_of_a_curve_are_chosen_wait_and_block_as_others(tmp_path: Path) -> None:
    experiment = few_shot(tmp_path)
    names = [run.name for run in choose(experiment, ["few/isl/hyperx/examples-5"])]
    assert names == [
        "english/hyperx/seed-1",
        "few/isl/hyperx/examples-5/draw-1/seed-1",
        "few/isl/hyperx/examples-5/draw-3/seed-1",
    ]
    states = runner(experiment, {names[0]: FAILS}).run()
    assert {states[name] for name in names[1:]} == {State.BLOCKED}


def test_one_run_of_a_curve_fails_and_the_others_go_on(tmp_path: Path) -> None:
    experiment = few_shot(tmp_path)
    english, *_, last = [run.name for run in experiment.runs]
    done = "open(run + '/results.json', 'w').write('{\"cells\": []}')"
    scripts = {english: f"{WEIGHTS}\n{done}", last: FAILS}
    states = runner(experiment, scripts, processes=2).run()
    assert states.pop(last) is State.FAILED
    assert set(states.values()) == {State.DONE}


def test_what_another_draw_made_is_told(tmp_path: Path) -> None:
    experiment = few_shot(tmp_path)
    run = experiment.runs[1]
    finish(run.folder, run.recipe.dump().replace("draw: 1", "draw: 9"))
    board = Board(experiment, experiment.runs)
    assert any(line.startswith("few_shot.draw: 9 there, 1 now") for line in board.changed[run.name])
