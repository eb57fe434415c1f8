from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hyperlect.errors import RunError
from hyperlect.experiment import (
    Experiment,
    ManifestRun,
    Progress,
    Run,
    check_owner,
    read_manifest,
)
from hyperlect.experiment.manifest import Hold, clear, is_locked
from hyperlect.run_folder import LOCK, RunState, locked

from ..project import held
from .grids import CHAIN, FIRST, finish, planned, progress_of, save, statuses, train

ONE: dict[str, Any] = {"methods": ["hyperx"], "seeds": [1]}


def written(folder: Path, **keys: object) -> Path:
    experiment = planned(folder, **keys)
    progress_of(experiment).write()
    return experiment.folder


def find(experiment: Experiment, name: str) -> Run:
    return next(run for run in experiment.runs if run.name == name)


def test_a_manifest_is_read_as_it_was_written(tmp_path: Path) -> None:
    settings = {"a": {**FIRST, "parts": {"x": {}}}}
    out = written(tmp_path, settings=settings, description="why", methods=["head"], seeds=[3])
    manifest = read_manifest(out)
    assert (manifest.name, manifest.description) == ("tried", "why")
    folder = out / "a/x/head/seed-3"
    (run,) = manifest.runs
    assert run == ManifestRun(setting="a", part="x", method="head", seed=3, folder=folder)
    assert run.state is RunState.MISSING
    (entry,) = json.loads((out / "experiment.json").read_text())["runs"]
    assert (entry["folder"], entry["state"]) == ("a/x/head/seed-3", "missing")
    assert [path.name for path in out.iterdir()] == ["experiment.json"]


def test_what_a_manifest_says_of_curves(tmp_path: Path) -> None:
    few = {
        "recipe": "recipe.yaml", "after": "a", "curve": {"examples": [5], "draws": [2]},
        "set": {"few_shot.cells": ["pos:is"]},
    }  # fmt: skip
    out = written(tmp_path, settings={"a": FIRST, "few": few}, methods=["head"], seeds=[3])
    plain, on_curve = read_manifest(out).runs
    assert (plain.after, plain.examples, plain.draw, plain.cells) == ("", None, None, ())
    assert (on_curve.after, on_curve.examples, on_curve.draw) == ("a", 5, 2)
    assert on_curve.cells == ("pos:isl",)
    assert on_curve.folder == out / "few/head/examples-5/draw-2/seed-3"
    entries = json.loads((out / "experiment.json").read_text())["runs"]
    assert entries[0].keys() == {"setting", "part", "method", "seed", "folder", "state"}
    assert (entries[1]["examples"], entries[1]["draw"]) == (5, 2)


def test_manifests_from_before_there_were_curves_are_read(tmp_path: Path) -> None:
    run = {"setting": "a", "part": "", "method": "head", "seed": 1, "folder": "a/head/seed-1"}
    data = {"format_version": 1, "name": "old", "runs": [{**run, "state": "done"}]}
    (tmp_path / "experiment.json").write_text(json.dumps(data))
    (read,) = read_manifest(tmp_path).runs
    assert (read.after, read.examples, read.cells) == ("", None, ())
    assert read.state is RunState.MISSING  # whatever the file says


def test_the_kept_results_are_read() -> None:
    kept = Path(__file__).parents[2] / "benchmarks" / "results" / "small-settings"
    runs = read_manifest(kept).runs
    assert len(runs) == 450
    assert {run.state for run in runs} == {RunState.DONE}


def test_a_moved_folder_is_read_as_it_is_now(tmp_path: Path) -> None:
    out = written(tmp_path, methods=["head"], seeds=[1])
    elsewhere = out.rename(tmp_path / "kept")
    finish(elsewhere / "mixed/head/seed-1", "")
    (run,) = read_manifest(elsewhere).runs
    assert run.folder == elsewhere / "mixed/head/seed-1"
    assert run.state is RunState.DONE


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        '{"format_version": 2}',
        '{"format_version": 1, "name": "x", "runs": [{}]}',
        '{"format_version": 1, "name": "x", "runs": [{"folder": "a", "seed": "one"}]}',
        '{"format_version": 1, "name": "x", "runs": [{"folder": "a", "examples": 1}]}',
        '{"format_version": 1, "name": "x", "runs": [{"folder": "../a"}]}',
        '{"format_version": 1, "name": "x", "runs": [{"folder": ".."}]}',
        '{"format_version": 1, "name": "x", "runs": [{"folder": "/tmp"}]}',
    ],
)
def test_what_cannot_be_read(tmp_path: Path, text: str) -> None:
    with pytest.raises(RunError, match=str(tmp_path)):
        read_manifest(tmp_path)
    (tmp_path / "experiment.json").write_text(text)
    with pytest.raises(RunError, match=r"experiment\.json"):
        read_manifest(tmp_path)


def test_two_experiments_do_not_share_a_folder(tmp_path: Path) -> None:
    written(tmp_path)
    check_owner(planned(tmp_path))
    with pytest.raises(RunError, match="tried, not other"):
        check_owner(planned(tmp_path, name="other"))


def test_an_experiment_does_not_go_into_a_run_folder(tmp_path: Path) -> None:
    experiment = planned(tmp_path)
    experiment.folder.mkdir()
    for name in ("recipe.yaml", "versions.json"):
        check_owner(experiment)
        (experiment.folder / name).touch()
    with pytest.raises(RunError, match="--out"):
        check_owner(experiment)


# How far runs are


def test_a_run_that_was_killed_before_its_recipe_can_begin_again(tmp_path: Path) -> None:
    experiment = planned(tmp_path, **ONE)
    (run,) = experiment.runs
    run.folder.mkdir(parents=True)
    (run.folder / "versions.json").touch()
    (run.folder / "recipe.yaml.partial").touch()
    assert progress_of(experiment).status(run) is RunState.MISSING
    clear(run.folder)
    assert not any(run.folder.iterdir())


def test_the_status_is_read_off_the_folder_each_time(tmp_path: Path) -> None:
    experiment = planned(tmp_path, **ONE)
    progress, (run,) = progress_of(experiment), experiment.runs
    assert progress.status(run) is RunState.MISSING
    run.folder.mkdir(parents=True)
    save(run.folder)
    assert progress.status(run) is RunState.INTERRUPTED
    train(run.folder)
    assert progress.status(run) is RunState.TRAINED
    (run.folder / "error.txt").touch()
    assert progress.status(run) is RunState.FAILED
    progress.retry()
    assert progress.status(run) is RunState.TRAINED
    finish(run.folder, run.recipe)
    assert progress.status(run) is RunState.DONE


def test_a_run_that_cannot_start_is_blocked(tmp_path: Path) -> None:
    experiment = planned(tmp_path, settings=CHAIN, **ONE)
    later, first = experiment.runs
    progress = progress_of(experiment)
    assert progress.status(later) is RunState.MISSING
    finish(first.folder, first.recipe)
    assert progress.status(later) is Hold.BLOCKED
    assert "no weights" in progress.reason(later)
    (first.folder / "results.json").unlink()
    (first.folder / "error.txt").touch()
    assert progress.status(later) is Hold.BLOCKED
    assert "failed" in progress.reason(later)
    progress.retry()
    assert progress.status(later) is RunState.MISSING


def test_a_failed_evaluation_does_not_block(tmp_path: Path) -> None:
    experiment = planned(tmp_path, settings=CHAIN, **ONE)
    later, first = experiment.runs
    finish(first.folder, first.recipe, weights=True)
    (first.folder / "results.json").unlink()
    (first.folder / "error.txt").touch()
    progress = progress_of(experiment)
    assert statuses(progress) == {first.name: "FAILED", later.name: "MISSING"}


def test_what_another_recipe_made_is_neither_repeated_nor_used(tmp_path: Path) -> None:
    first = find(planned(tmp_path, settings=CHAIN), "a/hyperx/seed-1")
    finish(first.folder, first.recipe, weights=True)
    progress = progress_of(planned(tmp_path, settings=CHAIN, set={"training.steps": 7}))
    assert progress.changed == {first.name: ["training.steps: 12 → 7"]}
    status = statuses(progress)
    assert status[first.name] == "CHANGED"
    assert status["b/hyperx/seed-1"] == "BLOCKED"
    assert progress.reason(find(progress.experiment, first.name)) == progress.changed[first.name][0]


def test_a_folder_of_something_else_is_neither_used_nor_removed(tmp_path: Path) -> None:
    experiment = planned(tmp_path, **ONE)
    (run,) = experiment.runs
    run.folder.mkdir(parents=True)
    (run.folder / "notes.txt").touch()
    progress = progress_of(experiment)
    assert progress.status(run) is Hold.CHANGED
    assert "notes.txt" in progress.reason(run)
    with pytest.raises(RunError, match=r"notes\.txt"):
        progress.redo()
    assert (run.folder / "notes.txt").exists()


LONGER = {**CHAIN, "c": {**FIRST, "after": "b"}}


def changed(folder: Path, *only: str) -> Progress:
    """Return an experiment whose runs were all done before the recipe of `a` was changed."""
    for run in planned(folder, settings=LONGER).runs:
        finish(run.folder, run.recipe, weights=True)
    settings = {**LONGER, "a": {**FIRST, "set": {"training.steps": 7}}}
    return progress_of(planned(folder, settings=settings), *only)


@pytest.mark.parametrize("only", ["c/hyperx/seed-1", "a/hyperx/seed-1"])
def test_redo_takes_with_it_what_started_from_there(tmp_path: Path, only: str) -> None:
    """Chosen or not: its results would be kept as those of weights that are gone."""
    progress = changed(tmp_path, only)
    names = {"a/hyperx/seed-1", "b/hyperx/seed-1", "c/hyperx/seed-1"}
    assert {run.name for run in progress.redo()} == names
    status = statuses(progress)
    assert {name for name in status if status[name] == "MISSING"} == names
    assert status["a/hyperx/seed-2"] == "CHANGED"
    assert find(progress.experiment, "b/hyperx/seed-2").folder.joinpath("results.json").is_file()


def test_redo_removes_nothing_while_another_process_works_there(tmp_path: Path) -> None:
    progress = changed(tmp_path, "a/hyperx/seed-1")
    first, later = (find(progress.experiment, f"{s}/hyperx/seed-1") for s in "ab")
    with held(first.folder), pytest.raises(RunError, match=str(first.folder)):
        progress.redo()
    assert statuses(progress)[first.name] == "CHANGED"
    assert (later.folder / "results.json").is_file()


def test_whether_a_process_works_on_a_run(tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert not is_locked(run)
    assert not run.exists()
    run.mkdir()
    with held(run):
        assert is_locked(run)
    (run / LOCK).touch()  # of a process that was killed
    assert not is_locked(run)


def test_only_runs_are_cleared(tmp_path: Path) -> None:
    finish(tmp_path / "run", "")
    save(tmp_path / "run")
    with locked(tmp_path / "run"):
        clear(tmp_path / "run")
        assert [path.name for path in (tmp_path / "run").iterdir()] == [LOCK]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").touch()
    with pytest.raises(RunError, match=r"notes\.txt"):
        clear(tmp_path / "mine")
    assert (tmp_path / "mine" / "notes.txt").is_file()
