from __future__ import annotations

from pathlib import Path

import pytest

from hyperlect.errors import RunError
from hyperlect.experiment.state import State, clear, folder_state, is_trained


def write(folder: Path, *names: str, text: str = "{}") -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def test_how_far_a_folder_is(tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert folder_state(run) is State.MISSING
    write(run, "recipe.yaml", "versions.json", "metrics.jsonl")
    assert folder_state(run) is State.MISSING  # nothing to go on with
    write(run, "checkpoint/state.json")
    assert folder_state(run) is State.TRAINING
    write(run, "model.json", "model.safetensors")
    assert folder_state(run) is State.TRAINING  # the weights may be half written
    write(run, "training.json")
    assert folder_state(run) is State.TRAINED
    assert is_trained(run)
    write(run, "error.txt")
    assert folder_state(run) is State.FAILED
    write(run, "results.json", text='{"cells": [')
    assert folder_state(run) is State.FAILED  # the results are cut off
    write(run, "results.json", text='{"cells": []}')
    assert folder_state(run) is State.DONE


def test_results_alone_are_done_but_nothing_to_go_on_from(tmp_path: Path) -> None:
    write(tmp_path, "results.json", text='{"cells": []}')
    assert folder_state(tmp_path) is State.DONE
    assert not is_trained(tmp_path)


def test_only_runs_are_removed(tmp_path: Path) -> None:
    clear(tmp_path / "none")
    write(tmp_path / "run", "recipe.yaml", "metrics.jsonl")
    write(tmp_path / "failed", "error.txt")
    for name in ("run", "failed"):
        clear(tmp_path / name)
        assert not (tmp_path / name).exists()
    write(tmp_path / "mine", "notes.txt")
    with pytest.raises(RunError, match=r"notes\.txt"):
        clear(tmp_path / "mine")
    assert (tmp_path / "mine" / "notes.txt").is_file()
