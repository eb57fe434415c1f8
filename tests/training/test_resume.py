"""A run that was interrupted, killed or both ends as if it had never stopped."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from hyperlect.backbone import load_backbone
from hyperlect.errors import RunError
from hyperlect.evaluation import evaluate_run
from hyperlect.training import Interrupted

from ..project import go_on, train, write_project
from .conftest import Crash, Watched
from .runs import events, same, state, weights

# Losses of several steps to a line, two batches a step, masks, dropout everywhere, best weights.
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
    """The whole outcome is the same: weights, log, state."""
    assert same(weights(run), weights(straight))
    assert events(run, clocks=False) == events(straight, clocks=False)
    ours, theirs = state(run), state(straight)
    assert {**ours, "seconds": 0} == {**theirs, "seconds": 0}


@pytest.mark.parametrize("steps", [[1], [7], [10], [14], [2, 5, 6, 13]], ids=str)
def test_interrupted_and_resumed(
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
        found, expected = evaluate_run(run), evaluate_run(straight)
        assert found.cells == expected.cells
        assert found.averages == expected.averages


@pytest.mark.parametrize("tokens", ["null", "80"])
def test_mixed_batches_too(recipe: Path, tmp_path: Path, watched: Watched, tokens: str) -> None:
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
def test_killed_and_resumed_from_the_last_checkpoint(
    recipe: Path, straight: Path, tmp_path: Path, watched: Watched, step: int
) -> None:
    """What came after the checkpoint is done again, and told of once."""
    run = tmp_path / "run"
    watched.crashes = {step}
    with pytest.raises(Crash):
        train(recipe, run)
    assert state(run)["step"] == step - step % 5
    go_on(run)
    assert_alike(run, straight)


def test_killed_at_the_very_end(
    recipe: Path, straight: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr("hyperlect.training.run._finish", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            train(recipe, run)
    go_on(run)
    assert_alike(run, straight)


def test_a_finished_run_may_be_resumed_and_stays_the_same(straight: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(straight, run)
    go_on(run)
    assert_alike(run, straight)


def test_checkpoints_come_as_often_as_asked_for(
    recipe: Path, tmp_path: Path, watched: Watched
) -> None:
    watched.crashes = {9}
    with pytest.raises(Crash):
        train(recipe, tmp_path / "run", "training.save_every=4")
    assert state(tmp_path / "run")["step"] == 8


def test_a_used_folder_is_refused(recipe: Path, straight: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="straight holds a finished run: remove it"):
        train(recipe, straight)
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(RunError, match="is not empty: remove it, or name another with --out"):
        train(recipe, tmp_path)
    with pytest.raises(RunError, match="is a file"):
        train(recipe, tmp_path / "notes.txt")
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_an_empty_folder_is_taken(recipe: Path, tmp_path: Path) -> None:
    train(recipe, tmp_path, "training.steps=3")
    assert (tmp_path / "model.safetensors").is_file()


def test_what_cannot_be_resumed_says_why(recipe: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"not a run folder: it holds no recipe\.yaml"):
        go_on(tmp_path)
    (tmp_path / "recipe.yaml").write_text(recipe.read_text())
    with pytest.raises(RunError, match=r"no checkpoint\. Start anew: hyperlect train"):
        go_on(tmp_path)


def test_a_run_whose_data_has_changed_is_not_resumed(
    recipe: Path, tmp_path: Path, watched: Watched
) -> None:
    own = write_project(tmp_path / "project", TASKS, SETTINGS)
    watched.signals = {3: [signal.SIGTERM]}
    with pytest.raises(Interrupted):
        train(own, tmp_path / "run")
    path = own.parent / "pos.eng.train"
    path.write_text(path.read_text() + "\nthe\tDET\n")
    with pytest.raises(RunError, match=r"the training data \(texts or labels\)"):
        go_on(tmp_path / "run")


def test_a_run_whose_encoder_has_changed_is_not_resumed(tmp_path: Path, watched: Watched) -> None:
    """Of the same shapes, it would be trained on, and its name be that of the whole run's."""
    own = write_project(tmp_path / "project", ("pos",), {"steps": 6})
    watched.signals = {3: [signal.SIGTERM]}
    with pytest.raises(Interrupted):
        train(own, tmp_path / "run")
    encoder = load_backbone(str(own.parent / "backbone")).encoder
    next(iter(encoder.parameters())).data += 0.01
    encoder.save_pretrained(own.parent / "backbone")
    with pytest.raises(RunError, match=r"the encoder \(its weights\)"):
        go_on(tmp_path / "run")
    assert not (tmp_path / "run" / "model.json").exists()


@pytest.mark.slow
def test_ctrl_c_in_a_terminal(recipe: Path, tmp_path: Path) -> None:
    """The command is interrupted as a terminal does it, says how to go on, and goes on."""
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
    told = " ".join(err.split())
    assert f"everything is saved. Go on with: hyperlect train --resume {run}" in told
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
