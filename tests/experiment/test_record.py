from __future__ import annotations

import json
from pathlib import Path

import pytest

from hyperlect.errors import RunError
from hyperlect.experiment import Point, RecordedRun, State, check_owner, read_experiment
from hyperlect.experiment.board import Board
from hyperlect.experiment.record import write_experiment

from .made import finish, planned


def record(folder: Path, **keys: object) -> Path:
    experiment = planned(folder, **keys)
    write_experiment(experiment, Board(experiment, experiment.runs).states())
    return experiment.folder


def test_it_is_read_as_it_was_written(tmp_path: Path) -> None:
    settings = {"a": {"recipe": "recipe.yaml", "parts": {"x": {}}}}
    out = record(tmp_path, settings=settings, description="what for", methods=["head"], seeds=[3])
    found = read_experiment(out)
    assert (found.name, found.description) == ("tried", "what for")
    place = out / "a/x/head/seed-3"
    assert found.runs == (RecordedRun("a", "x", "head", 3, place, State.MISSING),)
    assert json.loads((out / "experiment.json").read_text())["runs"][0]["folder"] == (
        "a/x/head/seed-3"
    )
    assert [path.name for path in out.iterdir()] == ["experiment.json"]


def test_what_is_recorded_of_curves(tmp_path: Path) -> None:
    few = {
        "recipe": "recipe.yaml", "after": "a", "curve": {"examples": [5], "draws": [2]},
        "set": {"few_shot.cells": ["pos:is"]},
    }  # fmt: skip
    settings = {"a": {"recipe": "recipe.yaml"}, "few": few}
    out = record(tmp_path, settings=settings, methods=["head"], seeds=[3])
    plain, on_curve = read_experiment(out).runs
    assert (plain.after, plain.point, plain.cells) == ("", None, ())
    assert (on_curve.after, on_curve.point, on_curve.cells) == ("a", Point(5, 2), ("pos:isl",))
    assert on_curve.folder == out / "few/head/examples-5/draw-2/seed-3"
    entries = json.loads((out / "experiment.json").read_text())["runs"]
    assert entries[0].keys() == {"setting", "part", "method", "seed", "folder", "state"}
    assert (entries[1]["examples"], entries[1]["draw"]) == (5, 2)


def test_records_from_before_there_were_curves_are_read(tmp_path: Path) -> None:
    run = {"setting": "a", "part": "", "method": "head", "seed": 1, "folder": "a/head/seed-1"}
    data = {"format_version": 1, "name": "old", "runs": [{**run, "state": "done"}]}
    (tmp_path / "experiment.json").write_text(json.dumps(data))
    (found,) = read_experiment(tmp_path).runs
    assert (found.after, found.point, found.cells) == ("", None, ())


def test_the_kept_results_are_read() -> None:
    kept = Path(__file__).parents[2] / "benchmarks" / "results" / "small-settings"
    assert {run.setting for run in read_experiment(kept).runs} >= {"mixed"}


def test_the_folder_may_be_put_elsewhere_and_states_are_those_of_now(tmp_path: Path) -> None:
    out = record(tmp_path, methods=["head"], seeds=[1])
    elsewhere = out.rename(tmp_path / "kept")
    finish(elsewhere / "mixed/head/seed-1", "")
    (run,) = read_experiment(elsewhere).runs
    assert run.folder == elsewhere / "mixed/head/seed-1"
    assert run.state is State.DONE


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "is not an experiment's record"),
        ("[]", "is not an experiment's record"),
        ('{"format_version": 2}', "format_version 2"),
        ('{"format_version": 1, "name": "x", "runs": [{}]}', "KeyError"),
    ],
)
def test_what_cannot_be_read(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(RunError, match=r"holds no experiment\.json"):
        read_experiment(tmp_path)
    (tmp_path / "experiment.json").write_text(text)
    with pytest.raises(RunError, match=said):
        read_experiment(tmp_path)


def test_two_experiments_do_not_share_a_folder(tmp_path: Path) -> None:
    record(tmp_path)
    check_owner(planned(tmp_path))
    with pytest.raises(RunError, match="holds the experiment tried, not other"):
        check_owner(planned(tmp_path, name="other"))


def test_a_run_folder_takes_no_experiment(tmp_path: Path) -> None:
    experiment = planned(tmp_path)
    experiment.folder.mkdir()
    for name in ("recipe.yaml", "versions.json"):
        check_owner(experiment)
        (experiment.folder / name).touch()
    with pytest.raises(RunError, match=r"is a run folder.*--out"):
        check_owner(experiment)
