from __future__ import annotations

from pathlib import Path

import pytest

from hyperlect.errors import HyperlectError, RunError
from hyperlect.experiment.board import Board, choose
from hyperlect.experiment.claim import claim
from hyperlect.experiment.plan import Experiment, Run
from hyperlect.experiment.state import State

from .made import finish, planned

FIRST = {"recipe": "recipe.yaml"}
TWO = {"a": FIRST, "b": {**FIRST, "after": "a"}}


def board_of(experiment: Experiment, *only: str) -> Board:
    return Board(experiment, choose(experiment, only))


def names(runs: object) -> list[str]:
    assert isinstance(runs, list | tuple)
    return [run.name for run in runs]


def find(experiment: Experiment, name: str) -> Run:
    return next(run for run in experiment.runs if run.name == name)


def train(run: Run, weights: bool = True) -> None:
    finish(run.folder, run.recipe.dump())
    if weights:
        for name in ("model.safetensors", "training.json"):
            (run.folder / name).touch()


@pytest.mark.parametrize(
    ("pattern", "chosen"),
    [
        ("mixed", 4),
        ("mixed/hyperx", 2),
        ("mixed/hyperx/", 2),
        ("*/seed-2", 2),
        ("*/adapters", 2),
        ("mixed/hyperx/seed-1", 1),
    ],
)
def test_patterns(tmp_path: Path, pattern: str, chosen: int) -> None:
    assert len(choose(planned(tmp_path), [pattern])) == chosen


def test_a_pattern_that_fits_nothing_suggests_one(tmp_path: Path) -> None:
    with pytest.raises(HyperlectError, match='Did you mean "mixed/hyperx"'):
        choose(planned(tmp_path), ["mixed/hyprx"])
    with pytest.raises(HyperlectError, match="There is mixed/hyperx/seed-1"):
        choose(planned(tmp_path), ["zzz"])


def test_what_is_chosen_brings_what_it_goes_on_from(tmp_path: Path) -> None:
    experiment = planned(tmp_path, settings=TWO)
    chosen = choose(experiment, ["b/hyperx/seed-2"])
    assert names(chosen) == ["a/hyperx/seed-2", "b/hyperx/seed-2"]


def test_begun_runs_come_first_and_done_ones_not_at_all(tmp_path: Path) -> None:
    experiment = planned(tmp_path)
    train(experiment.runs[0], weights=False)
    (experiment.runs[3].folder / "checkpoint").mkdir(parents=True)
    (experiment.runs[3].folder / "checkpoint" / "state.json").touch()
    assert names(board_of(experiment).ready()) == [
        "mixed/adapters/seed-2", "mixed/hyperx/seed-2", "mixed/adapters/seed-1",
    ]  # fmt: skip


def test_what_goes_on_from_another_waits_for_its_weights(tmp_path: Path) -> None:
    experiment = planned(tmp_path, settings=TWO, methods=["hyperx"], seeds=[1])
    board = board_of(experiment)
    assert names(board.ready()) == ["a/hyperx/seed-1"]
    train(find(experiment, "a/hyperx/seed-1"))
    assert names(board.ready()) == ["b/hyperx/seed-1"]


def test_what_can_never_come_blocks(tmp_path: Path) -> None:
    experiment = planned(tmp_path, settings=TWO, methods=["hyperx"], seeds=[1])
    first, second = experiment.runs
    board = board_of(experiment)
    train(first, weights=False)
    assert board.state(second) is State.BLOCKED
    assert board.obstacle(second) == "a/hyperx/seed-1 has results but no weights"
    (first.folder / "results.json").unlink()
    (first.folder / "error.txt").touch()
    assert board.obstacle(second) == "a/hyperx/seed-1 is failed"
    assert board.ready() == []
    board.retry()
    assert names(board.ready()) == ["a/hyperx/seed-1"]


def test_what_another_recipe_made_is_neither_repeated_nor_mixed(tmp_path: Path) -> None:
    train(planned(tmp_path, settings=TWO).runs[0])
    experiment = planned(tmp_path, settings=TWO, set={"training.steps": 7})
    board = board_of(experiment)
    assert board.changed == {"a/hyperx/seed-1": ["training.steps: 12 there, 7 now"]}
    states = board.states()
    assert states["a/hyperx/seed-1"] is State.CHANGED
    assert states["b/hyperx/seed-1"] is State.BLOCKED
    assert names(board.ready()) == [
        "a/hyperx/seed-2", "a/adapters/seed-1", "a/adapters/seed-2",
    ]  # fmt: skip


def test_redo_takes_with_it_what_went_on_from_there(tmp_path: Path) -> None:
    chain = {**TWO, "c": {**FIRST, "after": "b"}}
    old = planned(tmp_path, settings=chain)
    for run in old.runs:
        train(run)
    new = planned(tmp_path, settings={**chain, "a": {**FIRST, "set": {"training.steps": 7}}})
    held = claim(find(new, "a/hyperx/seed-1").folder)
    assert held is not None
    with pytest.raises(RunError, match="at work on a/hyperx/seed-1"):
        board_of(new, "c/hyperx/seed-1").redo()
    held.release()
    board = board_of(new, "c/hyperx/seed-1")
    assert names(board.redo()) == ["a/hyperx/seed-1", "b/hyperx/seed-1", "c/hyperx/seed-1"]
    assert names(board.ready()) == ["a/hyperx/seed-1"]
    assert find(new, "c/hyperx/seed-2").folder.is_dir()  # not chosen, so not touched


def test_redo_takes_what_went_on_from_there_though_it_was_not_chosen(tmp_path: Path) -> None:
    """Its results would else be kept as those of weights that are gone."""
    for run in planned(tmp_path, settings=TWO).runs:
        train(run)
    new = planned(tmp_path, settings={**TWO, "a": {**FIRST, "set": {"training.steps": 7}}})
    board = board_of(new, "a/hyperx/seed-1")
    assert names(board.redo()) == ["a/hyperx/seed-1", "b/hyperx/seed-1"]
    assert names(board.ready()) == ["a/hyperx/seed-1"]
    assert find(new, "b/hyperx/seed-2").folder.is_dir()
