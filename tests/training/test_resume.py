"""A run that was interrupted or killed ends as if it had never stopped."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import hyperlect.training.trainer as trainer_module
from hyperlect.backbone import load_backbone
from hyperlect.errors import Interrupted, RunError
from hyperlect.evaluation import evaluate_run
from hyperlect.methods import METHODS
from hyperlect.run_folder import checkpoints

from ..project import go_on, held, train, write_project
from .conftest import Crash, Watched
from .runs import events, same, state, weights

# Log lines of several steps, two batches in a step, masks, dropout everywhere, best weights.
SETTINGS = {
    "steps": 14, "log_every": 4, "accumulate": 2, "evaluate_every": 5, "patience": 4,
    "backbone_dropout": True, "train_layer_norms": True,
}  # fmt: skip
TASKS = ("pos", "ner", "dep", "topic", "nli", "mlm")


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_project(tmp_path_factory.mktemp("project"), TASKS, SETTINGS)


@pytest.fixture(scope="module")
def straight(recipe: Path) -> Path:
    return train(recipe, recipe.parent / "straight")


def assert_alike(run: Path, straight: Path) -> None:
    """Weights, metrics and state are the same."""
    assert same(weights(run), weights(straight))
    assert events(run, clocks=False) == events(straight, clocks=False)
    assert state(run, clocks=False) == state(straight, clocks=False)


@pytest.mark.parametrize("steps", [[1], [14], [2, 5, 6, 13]], ids=str)
def test_an_interrupted_run_is_resumed(
    recipe: Path, straight: Path, tmp_path: Path, watched: Watched, steps: list[int]
) -> None:
    run = tmp_path / "run"
    watched.signals = {step: [signal.SIGINT] for step in steps}
    with pytest.raises(Interrupted, match=f"Stopped at step {steps[0]} of 14") as stop:
        train(recipe, run)
    assert f"hyperlect train --resume {run}" in str(stop.value)
    assert state(run)["step"] == steps[0]
    assert not (run / "model.safetensors").exists()
    for step in steps[1:]:
        with pytest.raises(Interrupted, match=f"Stopped at step {step} of 14"):
            go_on(run)
    go_on(run)
    assert_alike(run, straight)
    if len(steps) > 1:
        results, expected = evaluate_run(run), evaluate_run(straight)
        assert results.cells == expected.cells
        assert results.averages == expected.averages


@pytest.mark.parametrize("tokens", ["null", "80"])
def test_an_interrupted_run_of_mixed_batches_is_resumed(
    recipe: Path, tmp_path: Path, watched: Watched, tokens: str
) -> None:
    mixed = (
        "training.batching=mixed",
        f"training.tokens={tokens}",
        "hypernet.language_dropout=0.2",
    )
    straight, run = train(recipe, tmp_path / "straight", *mixed), tmp_path / "run"
    watched.signals, watched.crashes = {2: [signal.SIGINT], 6: [signal.SIGINT]}, {12}
    with pytest.raises(Interrupted):
        train(recipe, run, *mixed)
    with pytest.raises(Interrupted):
        go_on(run)
    with pytest.raises(Crash):
        go_on(run)
    assert state(run)["step"] == 10
    go_on(run)
    assert_alike(run, straight)


def test_a_run_is_not_resumed_with_another_batching(
    recipe: Path, tmp_path: Path, watched: Watched
) -> None:
    watched.signals = {3: [signal.SIGINT]}
    with pytest.raises(Interrupted):
        train(recipe, tmp_path / "run")
    kept = tmp_path / "run" / "recipe.yaml"
    kept.write_text(kept.read_text().replace("batching: single", "batching: mixed"))
    assert "batching: mixed" in kept.read_text()
    with pytest.raises(RunError, match="another batching"):
        go_on(tmp_path / "run")


@pytest.mark.parametrize("step", [6, 13])
def test_a_killed_run_is_resumed_from_its_last_checkpoint(
    recipe: Path, straight: Path, tmp_path: Path, watched: Watched, step: int
) -> None:
    """Steps after the checkpoint are done again, and logged once."""
    run = tmp_path / "run"
    watched.crashes = {step}
    with pytest.raises(Crash):
        train(recipe, run)
    assert state(run)["step"] == step - step % 5
    go_on(run)
    assert_alike(run, straight)


def test_a_run_that_is_killed_at_the_very_end_is_resumed(
    recipe: Path, straight: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr("hyperlect.training.run._finish", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            train(recipe, run)
    go_on(run)
    assert_alike(run, straight)


def test_a_run_that_is_killed_before_its_first_checkpoint_starts_over(
    recipe: Path, straight: Path, tmp_path: Path, watched: Watched
) -> None:
    run = tmp_path / "run"
    watched.crashes = {3}
    with pytest.raises(Crash):
        train(recipe, run)
    assert not checkpoints(run)
    (run / "metrics.jsonl.0123.partial").touch()
    with pytest.raises(RunError, match="--resume"):
        train(recipe, run)
    go_on(run)
    assert_alike(run, straight)
    assert not list(run.rglob("*.partial"))
    assert "starts over" in (run / "log.txt").read_text()


def test_a_folder_is_used_in_which_a_process_was_killed_at_once(
    recipe: Path, straight: Path, tmp_path: Path
) -> None:
    for name in (".lock", "versions.json", "recipe.yaml.0123.partial"):
        (tmp_path / name).touch()
    assert_alike(train(recipe, tmp_path), straight)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_is_resumed_to_the_same_bits(
    recipe: Path, tmp_path: Path, watched: Watched, method: str
) -> None:
    changes = (f"method={method}", "only_tasks=[pos, ner, mlm]", "training.save_every=4")
    straight, run = train(recipe, tmp_path / "straight", *changes), tmp_path / "run"
    watched.crashes = {3, 7, 13}
    with pytest.raises(Crash):
        train(recipe, run, *changes)
    for _ in range(2):
        with pytest.raises(Crash):
            go_on(run)
    go_on(run)
    assert_alike(run, straight)


def test_a_torn_checkpoint_costs_the_steps_since_the_one_before(
    recipe: Path, straight: Path, tmp_path: Path, watched: Watched
) -> None:
    run = tmp_path / "run"
    watched.crashes = {11}
    with pytest.raises(Crash):
        train(recipe, run)
    newest, older = checkpoints(run)
    newest.write_bytes(newest.read_bytes()[:-1])
    go_on(run)
    assert_alike(run, straight)
    (line,) = (line for line in (run / "log.txt").read_text().splitlines() if "damaged" in line)
    assert str(newest) in line
    assert f"step {int(older.stem)}" in line


def test_a_full_disk_ends_training_with_the_way_back(
    recipe: Path, straight: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    usage, asked = shutil.disk_usage, []

    def full(path: Path) -> Any:
        asked.append(path)
        return usage(path) if len(asked) == 1 else SimpleNamespace(free=0)

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", full)
        with pytest.raises(RunError) as error:
            train(recipe, run)
    assert "000000010.safetensors cannot be written" in str(error.value)
    assert f"The last good checkpoint is {run / 'checkpoint' / '000000005'}" in str(error.value)
    go_on(run)
    assert_alike(run, straight)


def test_an_error_in_the_thread_that_makes_batches_leaves_a_note_of_the_way_back(
    recipe: Path, straight: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    collate, calls = trainer_module.collate, []

    def fail(*arguments: Any) -> Any:
        calls.append(arguments)
        if len(calls) == 15:
            raise MemoryError("in a thread")
        return collate(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(trainer_module, "collate", fail)
        with pytest.raises(MemoryError):
            train(recipe, run)
    (line,) = (line for line in (run / "log.txt").read_text().splitlines() if "MemoryError" in line)
    assert "step 8" in line
    assert f"hyperlect train --resume {run}" in line
    go_on(run)
    assert_alike(run, straight)


def test_a_finished_run_may_be_resumed_and_does_not_change(straight: Path) -> None:
    run = straight.parent / "copy"  # beside it: its recipe has relative paths
    shutil.copytree(straight, run)
    go_on(run)
    assert_alike(run, straight)


def test_the_recipe_decides_how_often_checkpoints_are_saved(
    recipe: Path, tmp_path: Path, watched: Watched
) -> None:
    watched.crashes = {9}
    with pytest.raises(Crash):
        train(recipe, tmp_path / "run", "training.save_every=4")
    assert state(tmp_path / "run")["step"] == 8


def test_a_used_folder_is_refused(recipe: Path, straight: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="straight exists already"):
        train(recipe, straight)
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(RunError, match="--out"):
        train(recipe, tmp_path)
    with pytest.raises(RunError, match="--out"):
        train(recipe, tmp_path / "notes.txt")
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_an_empty_folder_is_used(recipe: Path, tmp_path: Path) -> None:
    train(recipe, tmp_path, "training.steps=3")
    assert (tmp_path / "model.safetensors").is_file()


def test_a_folder_that_cannot_be_resumed_is_refused_with_the_reason(
    recipe: Path, straight: Path, tmp_path: Path
) -> None:
    with pytest.raises(RunError, match=str(tmp_path)):
        go_on(tmp_path)
    (tmp_path / "recipe.yaml").write_text(recipe.read_text())
    with pytest.raises(RunError, match=r"no checkpoint.*hyperlect train"):
        go_on(tmp_path)
    finished = straight.parent / "without checkpoints"
    shutil.copytree(straight, finished, ignore=shutil.ignore_patterns("checkpoint"))
    with pytest.raises(RunError, match="no checkpoint"):
        go_on(finished)


def test_a_run_whose_data_has_changed_is_not_resumed(
    recipe: Path, tmp_path: Path, watched: Watched
) -> None:
    project = write_project(tmp_path / "project", TASKS, SETTINGS)
    watched.signals = {3: [signal.SIGTERM]}
    with pytest.raises(Interrupted):
        train(project, tmp_path / "run")
    path = project.parent / "pos.eng.train"
    path.write_text(path.read_text() + "\nthe\tDET\n")
    with pytest.raises(RunError) as error:
        go_on(tmp_path / "run")
    (problem,) = error.value.problems
    assert "training data" in problem.message


def test_a_run_whose_encoder_has_changed_is_not_resumed(tmp_path: Path, watched: Watched) -> None:
    """The new encoder has the same shapes, so nothing else would tell."""
    project = write_project(tmp_path / "project", ("pos",), {"steps": 6})
    watched.signals = {3: [signal.SIGTERM]}
    with pytest.raises(Interrupted):
        train(project, tmp_path / "run")
    encoder = load_backbone(str(project.parent / "backbone")).encoder
    next(iter(encoder.parameters())).data += 0.01
    encoder.save_pretrained(project.parent / "backbone")
    with pytest.raises(RunError) as error:
        go_on(tmp_path / "run")
    (problem,) = error.value.problems
    assert "encoder" in problem.message
    assert not (tmp_path / "run" / "model.json").exists()


def test_a_run_is_resumed_by_one_process_at_a_time(
    recipe: Path, straight: Path, tmp_path: Path, watched: Watched
) -> None:
    run = tmp_path / "run"
    watched.signals = {3: [signal.SIGTERM]}
    with pytest.raises(Interrupted):
        train(recipe, run)
    before = state(run)
    with held(run), pytest.raises(RunError, match=str(run)):
        go_on(run)
    assert state(run) == before
    go_on(run)
    assert_alike(run, straight)


@pytest.mark.slow
def test_ctrl_c_in_a_terminal(recipe: Path, tmp_path: Path) -> None:
    """The command is interrupted, names the command that resumes it, and is resumed."""
    run = tmp_path / "run"
    command = [sys.executable, "-m", "hyperlect.cli", "train"]
    environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    settings = ["--set", "training.steps=150", "--set", "training.evaluate_every=null"]
    settings += ["--set", "training.patience=null"]
    process = subprocess.Popen(
        [*command, str(recipe), "--out", str(run), "--device", "cpu", *settings],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    deadline = time.monotonic() + 120
    while not (run / "metrics.jsonl").exists() and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    assert f"hyperlect train --resume {run}" in " ".join(err.split())
    assert "Traceback" not in err
    done = state(run)["step"]
    assert 0 < done < 150

    again = subprocess.run(
        [*command, "--resume", str(run), "--device", "cpu"],
        env=environment, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert again.returncode == 0, again.stderr
    changes = [text for text in settings if text != "--set"]
    expected = train(recipe, tmp_path / "straight", *changes)
    assert same(weights(run), weights(expected))
    assert events(run, clocks=False) == events(expected, clocks=False)
