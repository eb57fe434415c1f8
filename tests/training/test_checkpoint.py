"""Checkpoints: exact, complete, never lost, and refused if what they depend on has changed."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import nn

import hyperlect.run_folder as run_folder
import hyperlect.training.checkpoint as checkpoint_module
from hyperlect.data.encoding import encode
from hyperlect.errors import RunError
from hyperlect.grid import Cell
from hyperlect.run_folder import (
    checkpoints,
    load_tensors_and_metadata,
    save_tensors,
)
from hyperlect.tasks import Task, TaskType
from hyperlect.training.checkpoint import (
    drop_checkpoints,
    fingerprint,
    load_checkpoint,
    read_checkpoint,
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


def saved(run: Path, number: int, keep: int = 1) -> Trained:
    """Train for a number of steps and save a checkpoint."""
    parameters, optimizer = new()
    for seed in range(number):
        step(parameters, optimizer, seed)
    save_checkpoint(run, parameters, None, optimizer, {"step": number}, keep)
    return parameters, optimizer


def steps_of(run: Path) -> int:
    """Return the step of the checkpoint that a run would resume from."""
    state, _, _ = load_checkpoint(run, *new(1))
    return int(state["step"])


def kept_steps(run: Path) -> list[int]:
    return [int(path.stem) for path in checkpoints(run)]


def change(run: Path, tensors: dict[str, torch.Tensor | None], version: str = "3") -> None:
    """Change tensors of the last checkpoint; its checksums fit."""
    (path,) = checkpoints(run)
    before, about = load_tensors_and_metadata(path)
    after = {name: t for name, t in {**before, **tensors}.items() if t is not None}
    save_tensors(after, path, {**about, "format_version": version})


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
    loaded, weights, damaged = load_checkpoint(tmp_path, *new(1))
    assert loaded == state
    assert damaged == {}
    assert weights is not None
    assert all(torch.equal(weights[name], best[name]) for name in best)


@pytest.mark.parametrize("keep", [1, 2])
def test_a_crash_at_any_point_of_saving_leaves_a_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keep: int
) -> None:
    """Each write, flush, rename and removal of the second save is killed in turn."""

    class Kill(BaseException):
        pass

    plain = {name: getattr(Path, name) for name in ("replace", "unlink", "mkdir")}
    crash_at, calls = 0, 0

    def tick() -> None:
        nonlocal calls
        calls += 1
        if calls >= crash_at > 0:  # what is killed does not clean up behind itself
            raise Kill

    def ticking(plain_call: Any) -> Any:
        def call(*args: Any, **options: Any) -> Any:
            tick()
            result = plain_call(*args, **options)
            tick()
            return result

        return call

    for name, method in plain.items():
        monkeypatch.setattr(Path, name, ticking(method))
    monkeypatch.setattr(os, "fsync", ticking(os.fsync))
    monkeypatch.setattr(safetensors.torch, "save_file", ticking(safetensors.torch.save_file))
    steps = set()
    for number in range(1, 40):
        run = tmp_path / str(number)
        crash_at = 0
        saved(run, 1, keep)
        crash_at, calls = number, 0
        try:
            saved(run, 2, keep)
        except Kill:
            crash_at = 0
            steps.add(steps_of(run))
            saved(run, 3, keep)  # later saves work
            assert steps_of(run) == 3
            assert kept_steps(run)[keep:] == []
            assert [path.name for path in run.iterdir()] == ["checkpoint"]
            assert not list(run.rglob("*.partial"))
        else:
            break
    else:
        pytest.fail("every save was killed")
    assert steps == {1, 2}


def test_a_checkpoint_is_on_the_disk_before_it_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """First the file is flushed, then renamed, then its folder is flushed, then others go."""
    saved(tmp_path, 1)
    order: list[str] = []
    plain_sync, plain_replace, plain_unlink = run_folder.sync, Path.replace, Path.unlink

    def sync(path: Path) -> None:
        order.append("sync folder" if path.is_dir() else "sync file")
        plain_sync(path)

    def replace(self: Path, target: Path) -> Path:
        order.append("rename")
        return plain_replace(self, target)

    def unlink(self: Path, missing_ok: bool = False) -> None:
        if self.exists():
            order.append("remove")
        plain_unlink(self, missing_ok)

    monkeypatch.setattr(run_folder, "sync", sync)
    monkeypatch.setattr(Path, "replace", replace)
    monkeypatch.setattr(Path, "unlink", unlink)
    saved(tmp_path, 2)
    assert order == ["sync file", "rename", "sync folder", "remove"]


def test_the_last_checkpoints_are_kept(tmp_path: Path) -> None:
    for number in (1, 2, 3, 4):
        saved(tmp_path, number, keep=3)
    assert kept_steps(tmp_path) == [4, 3, 2]
    saved(tmp_path, 4, keep=2)  # the same step once more
    assert kept_steps(tmp_path) == [4, 3]


def torn(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-20] ^= 1
    path.write_bytes(content)


def flipped_state(path: Path) -> None:
    content = path.read_bytes()
    assert content.count(rb"{\"step\": 2}") == 1
    path.write_bytes(content.replace(rb"{\"step\": 2}", rb"{\"step\": 7}"))


@pytest.mark.parametrize("damage", [torn, empty, flipped, flipped_state])
def test_the_last_good_checkpoint_serves_if_the_newest_is_damaged(
    tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    first, _ = saved(tmp_path, 1, keep=2)
    saved(tmp_path, 2, keep=2)
    newest, older = checkpoints(tmp_path)
    damage(newest)
    parameters, optimizer = new(1)
    state, _, damaged = load_checkpoint(tmp_path, parameters, optimizer)
    assert state["step"] == 1
    assert all(torch.equal(first[name], parameters[name]) for name in first)
    assert damaged.keys() == {newest}
    assert older.is_file()


def test_a_damaged_checkpoint_does_not_displace_a_good_one(tmp_path: Path) -> None:
    saved(tmp_path, 1)
    flipped(saved_file(tmp_path, 9))
    saved(tmp_path, 2)
    assert kept_steps(tmp_path) == [2]


def saved_file(run: Path, number: int) -> Path:
    saved(run, number, keep=2)
    return checkpoints(run)[0]


def test_a_checkpoint_without_checksums_is_refused(tmp_path: Path) -> None:
    path = saved_file(tmp_path, 1)
    tensors, about = load_tensors_and_metadata(path)
    safetensors.torch.save_file(tensors, path, about)
    with pytest.raises(RunError, match="checksum"):
        load_checkpoint(tmp_path, *new())


def test_if_all_checkpoints_are_damaged_each_is_named(tmp_path: Path) -> None:
    saved(tmp_path, 1, keep=2)
    saved(tmp_path, 2, keep=2)
    paths = checkpoints(tmp_path)
    for path in paths:
        flipped(path)
    with pytest.raises(RunError) as error:
        load_checkpoint(tmp_path, *new())
    for path, problem in zip(paths, error.value.problems, strict=True):
        assert str(path) in problem.message


def test_a_full_disk_leaves_the_checkpoint_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved(tmp_path, 1)

    def no_space(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", no_space)
        with pytest.raises(RunError, match="No space left on device"):
            saved(tmp_path, 2)
    assert kept_steps(tmp_path) == [1]
    assert not list(tmp_path.rglob("*.partial"))
    assert steps_of(tmp_path) == 1


def test_space_is_checked_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved(tmp_path, 1)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=100))
    monkeypatch.setattr(checkpoint_module, "save_tensors", lambda *_: pytest.fail("written"))
    with pytest.raises(RunError, match="0 MB"):
        saved(tmp_path, 2)
    assert steps_of(tmp_path) == 1


def test_a_folder_without_a_checkpoint_is_refused(tmp_path: Path) -> None:
    assert checkpoints(tmp_path) == []
    with pytest.raises(RunError, match=str(tmp_path)):
        load_checkpoint(tmp_path, *new())


def test_another_version_is_refused(tmp_path: Path) -> None:
    saved(tmp_path, 1)
    change(tmp_path, {}, version="99")
    with pytest.raises(RunError, match="format_version 99"):
        load_checkpoint(tmp_path, *new())


@pytest.mark.parametrize(
    ("changes", "messages"),
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
    tmp_path: Path, changes: dict[str, torch.Tensor | None], messages: list[str]
) -> None:
    saved(tmp_path, 1)
    change(tmp_path, {f"optimizer/{name}": tensor for name, tensor in changes.items()})
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
    state, kinds = read_checkpoint(checkpoints(tmp_path)[0])
    assert state == {"step": 1}
    assert kinds.keys() == {"weights", "optimizer", "best"}
    assert {path.suffix for path in (tmp_path / "checkpoint").iterdir()} == {".safetensors"}


def test_checkpoints_are_dropped_with_the_remains_of_earlier_versions(tmp_path: Path) -> None:
    saved(tmp_path, 1)
    for end in ("old", "partial"):
        shutil.copytree(tmp_path / "checkpoint", tmp_path / f"checkpoint.{end}")
    drop_checkpoints(tmp_path)
    assert not list(tmp_path.iterdir())
    drop_checkpoints(tmp_path)


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
