"""Checkpoints: exact, complete, never lost, and refused if what they depend on has changed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

import hyperlect.training.checkpoint as checkpoint_module
from hyperlect.data.encoding import encode
from hyperlect.errors import RunError
from hyperlect.grid import Cell
from hyperlect.run_folder import checkpoint_folder, load_tensors, save_tensors
from hyperlect.tasks import Task, TaskType
from hyperlect.training.checkpoint import (
    drop_checkpoint,
    fingerprint,
    load_checkpoint,
    require_same,
    save_checkpoint,
)

from ..data.made import tagged
from ..tiny import wordpiece_tokenizer

Trained = tuple[dict[str, nn.Parameter], torch.optim.AdamW]


def new(seed: int = 0) -> Trained:
    torch.manual_seed(seed)
    parameters = {
        "a": nn.Parameter(torch.randn(2, 3)),
        "heads.b": nn.Parameter(torch.randn(4)),
        "untouched": nn.Parameter(torch.randn(2)),
    }
    return parameters, torch.optim.AdamW(parameters.values(), lr=0.1)


def step(parameters: dict[str, nn.Parameter], optimizer: torch.optim.AdamW, seed: int) -> None:
    torch.manual_seed(seed)
    for name in ("a", "heads.b"):
        parameters[name].grad = torch.randn_like(parameters[name])
    optimizer.step()
    optimizer.zero_grad()


def saved(run: Path, number: int) -> Trained:
    """Train for a number of steps and save a checkpoint."""
    parameters, optimizer = new()
    for seed in range(number):
        step(parameters, optimizer, seed)
    save_checkpoint(run, parameters, None, optimizer, {"step": number})
    return parameters, optimizer


def steps_of(run: Path) -> int:
    state, _ = load_checkpoint(run, *new(1))
    return int(state["step"])


def test_training_continues_from_a_checkpoint_as_if_it_had_not_stopped(tmp_path: Path) -> None:
    first, first_optimizer = saved(tmp_path, 3)
    second, second_optimizer = new(1)
    load_checkpoint(tmp_path, second, second_optimizer)
    step(first, first_optimizer, 10)
    step(second, second_optimizer, 10)
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_state_and_best_weights_come_back(tmp_path: Path) -> None:
    parameters, optimizer = new()
    best = {name: torch.full_like(p, 0.5) for name, p in parameters.items()}
    state = {"step": 2, "best": 71.25, "losses": {"pos": [0.1, 1 / 3]}}
    save_checkpoint(tmp_path, parameters, best, optimizer, state)
    loaded, weights = load_checkpoint(tmp_path, *new(1))
    assert loaded == state
    assert weights is not None
    assert all(torch.equal(weights[name], best[name]) for name in best)


def test_a_crash_at_any_point_of_saving_leaves_a_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each write, rename and removal of the second save crashes in turn."""

    class Crash(Exception):
        pass

    plain_replace, plain_remove, plain_save = Path.replace, shutil.rmtree, save_tensors
    crash_at, calls = 0, 0

    def tick() -> None:
        nonlocal calls
        calls += 1
        if calls == crash_at:
            raise Crash

    def replace(self: Path, target: Path) -> Path:
        tick()
        return plain_replace(self, target)

    def remove(path: Path, ignore_errors: bool = False) -> None:
        tick()
        plain_remove(path, ignore_errors=ignore_errors)

    def save(tensors: dict[str, torch.Tensor], path: Path) -> None:
        tick()
        plain_save(tensors, path)

    monkeypatch.setattr(Path, "replace", replace)
    monkeypatch.setattr(checkpoint_module.shutil, "rmtree", remove)
    monkeypatch.setattr(checkpoint_module, "save_tensors", save)
    steps = set()
    for crash_at in range(1, 30):
        run = tmp_path / str(crash_at)
        calls = -100  # the first save is complete
        saved(run, 1)
        calls = 0
        try:
            saved(run, 2)
        except Crash:
            assert checkpoint_folder(run)
            steps.add(steps_of(run))
            calls = -100
            saved(run, 3)  # later saves work
            assert steps_of(run) == 3
            assert [path.name for path in run.iterdir()] == ["checkpoint"]
        else:
            break
    else:
        pytest.fail("every save crashed")
    assert steps == {1, 2}


def test_a_folder_without_a_checkpoint_is_refused(tmp_path: Path) -> None:
    assert checkpoint_folder(tmp_path) is None
    with pytest.raises(RunError, match=str(tmp_path)):
        load_checkpoint(tmp_path, *new())


def test_another_version_is_refused(tmp_path: Path) -> None:
    saved(tmp_path, 1)
    path = tmp_path / "checkpoint" / "state.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "format_version": 99}))
    with pytest.raises(RunError, match="format_version 99"):
        load_checkpoint(tmp_path, *new())


@pytest.mark.parametrize(
    ("change", "messages"),
    [
        ({"a/exp_avg": None}, ["a/exp_avg is missing"]),
        (
            {f"c/{name}": torch.zeros(2) for name in ("exp_avg", "exp_avg_sq", "step")},
            [f"c/{name} is unexpected" for name in ("exp_avg", "exp_avg_sq", "step")],
        ),
        (
            {"a/exp_avg_sq": torch.zeros(3, 2), "heads.b/step": None},
            ["a/exp_avg_sq has the shape (3, 2), not (2, 3)", "heads.b/step is missing"],
        ),
    ],
    ids=["missing", "unexpected", "two"],
)
def test_all_moments_that_do_not_fit_are_named(
    tmp_path: Path, change: dict[str, torch.Tensor | None], messages: list[str]
) -> None:
    saved(tmp_path, 1)
    path = tmp_path / "checkpoint" / "optimizer.safetensors"
    tensors = {**load_tensors(path), **change}
    save_tensors({name: t for name, t in tensors.items() if t is not None}, path)
    with pytest.raises(RunError) as error:
        load_checkpoint(tmp_path, *new())
    assert sorted(problem.message for problem in error.value.problems) == messages


def test_weights_that_do_not_fit_are_named(tmp_path: Path) -> None:
    saved(tmp_path, 1)
    parameters, optimizer = new()
    del parameters["a"]
    parameters["new"] = nn.Parameter(torch.zeros(1))
    with pytest.raises(RunError) as error:
        load_checkpoint(tmp_path, parameters, optimizer)
    assert [problem.message for problem in error.value.problems] == [
        "new is missing",
        "a is unexpected",
    ]


def test_nothing_is_pickled(tmp_path: Path) -> None:
    saved(tmp_path, 1)
    assert {path.suffix for path in (tmp_path / "checkpoint").iterdir()} == {
        ".safetensors",
        ".json",
    }


def test_a_checkpoint_is_dropped_with_its_remains(tmp_path: Path) -> None:
    saved(tmp_path, 1)
    for end in ("old", "partial"):
        shutil.copytree(tmp_path / "checkpoint", tmp_path / f"checkpoint.{end}")
    drop_checkpoint(tmp_path)
    assert not list(tmp_path.iterdir())
    drop_checkpoint(tmp_path)


ENG, ISL = Cell("pos", "eng"), Cell("pos", "isl")
POS = Task("pos", TaskType.TAGGING, ("DET", "NOUN"))
Rows = dict[Cell, Any]


@pytest.fixture(scope="module")
def rows() -> Rows:
    corpora = {ENG: tagged("the/DET cat/NOUN"), ISL: tagged("a/DET dog/NOUN")}
    tokenizer = wordpiece_tokenizer()
    return {cell: encode(data, POS, tokenizer, 64) for cell, data in corpora.items()}


def print_of(rows: Rows, dev: Rows, encoder: str = "e5") -> dict[str, str]:
    model: Any = SimpleNamespace(backbone=SimpleNamespace(digest=encoder))
    return fingerprint(model, rows, dev)


def test_the_order_of_cells_does_not_change_a_fingerprint(rows: Rows) -> None:
    again = print_of(dict(reversed(rows.items())), rows)
    assert again == print_of(rows, rows)
    require_same(print_of(rows, rows), again)


def test_a_fingerprint_does_not_count_fields_that_are_new(rows: Rows) -> None:
    """So runs of earlier versions can be resumed."""
    without = {cell: encoded.remove_columns("truncated") for cell, encoded in rows.items()}
    assert print_of(without, without) == print_of(rows, rows)


def test_all_changes_since_a_checkpoint_are_named(rows: Rows) -> None:
    """Rows with other labels would be drawn in the same order."""
    before = print_of(rows, rows)
    other = encode(tagged("the/NOUN cat/DET"), POS, wordpiece_tokenizer(), 64)
    with pytest.raises(RunError) as error:
        require_same(before, print_of({**rows, ENG: other}, rows))
    (problem,) = error.value.problems
    assert "training data" in problem.message
    with pytest.raises(RunError) as error:
        require_same(before, print_of(rows, {ENG: rows[ISL], ISL: rows[ENG]}, encoder="e6"))
    first, second = error.value.problems
    assert "encoder" in first.message
    assert "development data" in second.message
