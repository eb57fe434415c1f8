from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from hyperlect.experiment import worker
from hyperlect.experiment.state import State, folder_state
from hyperlect.experiment.worker import FAILED, STOPPED, main, stop_with
from hyperlect.training.monitor import Monitor

from ..project import write_project

SHORT = ("training.steps=3", "training.warmup=1")


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_project(tmp_path_factory.mktemp("project"), ("pos",))


def stop_after_a_step(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    step = Monitor.step

    def interrupt(self: Monitor, losses: dict[str, float], tokens: int, last: bool) -> None:
        step(self, losses, tokens, last)
        signal.raise_signal(signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(Monitor, "step", interrupt)
        assert main(arguments) == STOPPED


def test_a_run_is_trained_and_evaluated(recipe: Path, tmp_path: Path) -> None:
    assert main([str(recipe), str(tmp_path / "run"), "cpu", *SHORT, "training.seed=4"]) == 0
    assert folder_state(tmp_path / "run") is State.DONE
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert (results["seed"], results["steps"]) == (4, 3)


def test_what_was_stopped_goes_on_from_where_it_was(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    arguments = [str(recipe), str(run), "cpu", *SHORT]
    stop_after_a_step(arguments, monkeypatch)
    assert folder_state(run) is State.TRAINING
    assert json.loads((run / "checkpoint" / "state.json").read_text())["step"] == 1
    assert main(arguments) == 0
    assert folder_state(run) is State.DONE

    (run / "results.json").unlink()
    weights = (run / "model.safetensors").stat().st_mtime_ns
    assert folder_state(run) is State.TRAINED
    assert main(arguments) == 0  # only evaluated
    assert folder_state(run) is State.DONE
    assert (run / "model.safetensors").stat().st_mtime_ns == weights


def test_what_was_stopped_goes_on_where_the_data_has_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The recipe that the run folder keeps names files that are no longer there."""
    recipe = write_project(tmp_path / "one", ("pos",))
    text = recipe.read_text(encoding="utf-8")
    text = re.sub(r"\bpos\.", "${CORPORA}/pos.", text)
    run = tmp_path / "run"
    recipe.write_text(text, encoding="utf-8")
    monkeypatch.setenv("CORPORA", str(tmp_path / "one"))
    arguments = [str(recipe), str(run), "cpu", *SHORT]
    stop_after_a_step(arguments, monkeypatch)
    (tmp_path / "two").mkdir()
    for path in (tmp_path / "one").glob("pos.*"):
        path.rename(tmp_path / "two" / path.name)
    monkeypatch.setenv("CORPORA", str(tmp_path / "two"))
    assert main(arguments) == 0
    assert folder_state(run) is State.DONE
    assert str(tmp_path / "two") in (run / "recipe.yaml").read_text(encoding="utf-8")


def test_what_is_wrong_is_said(
    recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(recipe), str(tmp_path / "run"), "cpu", "training.stepz=3"]) == FAILED
    said = capsys.readouterr()
    assert "Error: The recipe" in said.err
    assert 'Did you mean "steps"?' in said.err
    assert f"hyperlect train {recipe} --out RUN --set 'training.stepz=3'" in said.out


def test_the_worker_stops_with_the_process_that_started_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    parents = iter([7, 7, 7, 1])
    sent: list[tuple[int, int]] = []
    monkeypatch.setattr(worker.os, "getppid", lambda: next(parents))
    monkeypatch.setattr(worker.os, "kill", lambda pid, number: sent.append((pid, number)))
    stop_with(7, threading.Event(), every=0)
    assert sent == [(os.getpid(), signal.SIGTERM)]
    assert not list(parents)


def test_nothing_is_stopped_once_the_work_is_done(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = threading.Event()
    done.set()
    monkeypatch.setattr(worker.os, "kill", lambda *_: pytest.fail("a signal was sent"))
    stop_with(0, done)  # of another parent
    assert main([str(recipe), str(tmp_path / "run"), "cpu", "training.stepz=3"]) == FAILED
    watching = [thread for thread in threading.enumerate() if "stop_with" in thread.name]
    for thread in watching:
        thread.join(timeout=10)
    assert not any(thread.is_alive() for thread in watching)


def test_it_is_a_program(recipe: Path, tmp_path: Path) -> None:
    command = worker.command(recipe, tmp_path / "run", "cpu", ["max_length=0"])
    assert command[:3] == [sys.executable, "-m", "hyperlect.experiment"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == FAILED
    assert "Traceback" not in done.stderr
    assert "RuntimeWarning" not in done.stderr
    assert "max_length" in done.stderr
