"""Checkpoints: exact, whole, and never lost."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from torch import nn

import hyperlect.training.checkpoint as checkpoint_module
from hyperlect.errors import RunError
from hyperlect.run_folder import load_tensors, save_tensors
from hyperlect.training.checkpoint import has_checkpoint, load_checkpoint, save_checkpoint

Parts = tuple[dict[str, nn.Parameter], torch.optim.AdamW]


def parts(seed: int = 0) -> Parts:
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


def saved(run: Path, number: int) -> Parts:
    """Save a checkpoint of as many steps."""
    parameters, optimizer = parts()
    for seed in range(number):
        step(parameters, optimizer, seed)
    save_checkpoint(run, parameters, None, optimizer, {"step": number})
    return parameters, optimizer


def steps_of(run: Path) -> int:
    state, _ = load_checkpoint(run, *parts(1))
    return int(state["step"])


def test_what_goes_on_from_a_checkpoint_goes_on_as_if_it_had_not_stopped(tmp_path: Path) -> None:
    first, first_optimizer = saved(tmp_path, 3)
    second, second_optimizer = parts(1)
    load_checkpoint(tmp_path, second, second_optimizer)
    step(first, first_optimizer, 10)
    step(second, second_optimizer, 10)
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_state_and_best_weights_come_back(tmp_path: Path) -> None:
    parameters, optimizer = parts()
    best = {name: torch.full_like(p, 0.5) for name, p in parameters.items()}
    state = {"step": 2, "best": 71.25, "losses": {"pos": [0.1, 1 / 3]}}
    save_checkpoint(tmp_path, parameters, best, optimizer, state)
    found, weights = load_checkpoint(tmp_path, *parts(1))
    assert found == state
    assert weights is not None
    assert all(torch.equal(weights[name], best[name]) for name in best)


def test_a_crash_at_any_point_of_saving_leaves_a_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every write, rename and removal of the second save is cut off in turn."""

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
    found = set()
    for crash_at in range(1, 30):
        run = tmp_path / str(crash_at)
        calls = -100  # the first save is whole
        saved(run, 1)
        calls = 0
        try:
            saved(run, 2)
        except Crash:
            assert has_checkpoint(run)
            found.add(steps_of(run))
            calls = -100
            saved(run, 3)  # and saving goes on
            assert steps_of(run) == 3
            assert [path.name for path in run.iterdir()] == ["checkpoint"]
        else:
            break
    else:
        pytest.fail("every save crashed")
    assert found == {1, 2}


def test_a_folder_without_checkpoint_says_so(tmp_path: Path) -> None:
    assert not has_checkpoint(tmp_path)
    with pytest.raises(RunError, match="no checkpoint"):
        load_checkpoint(tmp_path, *parts())


def test_another_version_is_refused(tmp_path: Path) -> None:
    saved(tmp_path, 1)
    path = tmp_path / "checkpoint" / "state.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "format_version": 99}))
    with pytest.raises(RunError, match="format_version 99"):
        load_checkpoint(tmp_path, *parts())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"a/exp_avg": None}, "a/exp_avg is missing"),
        ({"c/exp_avg": torch.zeros(2)}, "c/exp_avg is unexpected"),
        ({"a/exp_avg_sq": torch.zeros(3, 2)}, r"a/exp_avg_sq has the shape \(3, 2\), not \(2, 3\)"),
    ],
)
def test_moments_that_do_not_fit_are_named(
    tmp_path: Path, change: dict[str, torch.Tensor | None], said: str
) -> None:
    saved(tmp_path, 1)
    path = tmp_path / "checkpoint" / "optimizer.safetensors"
    tensors = {**load_tensors(path), **change}
    save_tensors({name: t for name, t in tensors.items() if t is not None}, path)
    with pytest.raises(RunError, match=said):
        load_checkpoint(tmp_path, *parts())


def test_weights_that_do_not_fit_are_named(tmp_path: Path) -> None:
    saved(tmp_path, 1)
    parameters, optimizer = parts()
    del parameters["a"]
    parameters["new"] = nn.Parameter(torch.zeros(1))
    with pytest.raises(RunError, match=r"(?s)new is missing.*a is unexpected"):
        load_checkpoint(tmp_path, parameters, optimizer)


def test_nothing_is_pickled(tmp_path: Path) -> None:
    saved(tmp_path, 1)
    assert {path.suffix for path in (tmp_path / "checkpoint").iterdir()} == {
        ".safetensors",
        ".json",
    }
