"""The command with real, tiny trainings."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hyperlect.experiment.claim import claim_path, is_claimed

from .conftest import Call, write_project

GRID = """\
format_version: 1
name: tried
set: {training.steps: 2, training.warmup: 0}
methods: [head]
seeds: [1, 2]
settings:
  good: {recipe: tiny.yaml}
  bad: {recipe: bad.yaml, seeds: [1]}
"""


@pytest.fixture
def grid(tmp_path: Path) -> Path:
    """An experiment of three runs, one of which has a fault in its data."""
    recipe = write_project(tmp_path)
    (tmp_path / "bad.tsv").write_text("Oslo\tPROPM\tB-LOC\n")
    (tmp_path / "bad.yaml").write_text(recipe.read_text().replace("dev: b.tsv", "dev: bad.tsv"))
    (tmp_path / "grid.yaml").write_text(GRID)
    return tmp_path / "grid.yaml"


def test_from_the_first_look_to_the_last_run(call: Call, grid: Path) -> None:
    out = grid.parent / "out"
    command = ("experiment", grid, "--out", out, "--device", "cpu")
    listed = call(*command, "--list")
    assert listed.code == 3
    assert "0 of 3 runs are done, 3 missing" in listed.out
    assert "good" in listed.out
    assert not out.exists()

    code, told, err = call(*command, "--processes", 2)
    assert code == 1, err
    assert "2 of 3 runs are done, 1 failed" in told
    assert f"bad/head/seed-1 failed; see {out}/bad/head/seed-1/error.txt" in err
    assert "--retry" in err
    assert 'Did you mean "PROPN"' in (out / "bad/head/seed-1/error.txt").read_text()
    states = {run["folder"]: run["state"] for run in read(out)["runs"]}
    assert states == {
        "good/head/seed-1": "done", "good/head/seed-2": "done", "bad/head/seed-1": "failed",
    }  # fmt: skip

    before = {path: path.stat().st_mtime_ns for path in (out / "good").rglob("*.*")}
    (grid.parent / "bad.tsv").write_text("Oslo\tPROPN\tB-LOC\n")
    code, told, err = call(*command, "--retry")
    assert code == 0, err
    assert "3 of 3 runs are done" in told
    assert err.count("started") == 1
    assert {path: path.stat().st_mtime_ns for path in (out / "good").rglob("*.*")} == before

    grid.write_text(GRID.replace("steps: 2", "steps: 3"))
    code, _, err = call(*command, "--only", "good")
    assert code == 1
    assert "good/head/seed-1 is not of this recipe: training.steps: 2 there, 3 now" in err
    code, _, err = call(*command, "--only", "good/*/seed-2", "--redo")
    assert code == 0, err
    assert json.loads((out / "good/head/seed-2/results.json").read_text())["steps"] == 3
    assert json.loads((out / "good/head/seed-1/results.json").read_text())["steps"] == 2


def test_recipes_of_a_folder(call: Call, grid: Path) -> None:
    grid.unlink()
    (grid.parent / "bad.yaml").unlink()
    options = ("--list", "--methods", "head,adapters", "--seeds", "1,2,3")
    code, out, err = call("experiment", grid.parent, *options)
    assert code == 3, err
    assert "0 of 6 runs are done" in out
    assert "tiny" in out
    assert call("experiment", grid.parent, "--seeds", "one").code == 2


@pytest.mark.parametrize(
    ("change", "options", "said"),
    [
        (("seeds:", "seed:"), [], 'Did you mean "seeds"?'),
        (("training.warmup", "training.warmop"), [], 'Did you mean "warmup"?'),
        (("", ""), ["--slice", "soon"], "write 10m"),
        (("", ""), ["--only", "goad"], 'Did you mean "good"?'),
        (("", ""), ["--seeds", "3"], "--only"),
    ],
)
def test_faults(
    call: Call, grid: Path, change: tuple[str, str], options: list[str], said: str
) -> None:
    grid.write_text(GRID.replace(*change))
    code, _, err = call("experiment", grid, "--out", grid.parent / "out", *options)
    assert code == 2
    assert said in err
    assert not (grid.parent / "out").exists()


def test_check_says_where_an_experiment_is_checked(call: Call, grid: Path) -> None:
    code, _, err = call("check", grid)
    assert code == 2
    assert f"hyperlect experiment {grid} --list" in err


def test_a_folder_of_another_experiment_is_left_alone(call: Call, grid: Path) -> None:
    out = grid.parent / "out"
    out.mkdir()
    (out / "experiment.json").write_text('{"format_version": 1, "name": "other", "runs": []}')
    code, _, err = call("experiment", grid, "--out", out)
    assert code == 2
    assert "holds the experiment other" in err


def test_runs_that_go_on_from_others(call: Call, grid: Path) -> None:
    later = "  bad: {recipe: tiny.yaml, after: good}"
    grid.write_text("\n".join([*GRID.splitlines()[:-1], later, ""]))
    out = grid.parent / "out"
    command = ("experiment", grid, "--out", out, "--device", "cpu")
    assert call(*command, "--only", "*/seed-1").code == 0
    kept = (out / "bad/head/seed-1/recipe.yaml").read_text()
    assert f"start_from: {out}/good/head/seed-1" in kept
    listed = call(*command, "--list", "--only", "*/seed-1")
    assert listed.code == 0, listed.err

    for seed in (1, 2):  # as of results that were copied without weights
        shutil.rmtree(out / f"bad/head/seed-{seed}", ignore_errors=True)
    (out / "good/head/seed-1/model.safetensors").unlink()
    listed = call(*command, "--list", "--only", "*/seed-1")
    why = "good/head/seed-1 has results but no weights"
    assert f"bad/head/seed-1 is blocked: {why}" in listed.err
    assert "where weights are gone, remove the folder" in listed.err


@pytest.mark.slow
def test_killed_stopped_by_a_slice_and_gone_on_with(call: Call, grid: Path) -> None:
    """The runner is killed in the middle: its worker saves and stops, and the next goes on."""
    text = GRID.replace("steps: 2,", "steps: 400, training.save_every: 20,")
    grid.write_text(text.replace("seeds: [1, 2]", "seeds: [1]"))
    out = grid.parent / "out"
    run = out / "good/head/seed-1"
    command = ["experiment", str(grid), "--out", str(out), "--device", "cpu", "--only", "good"]
    runner = subprocess.Popen(
        [sys.executable, "-m", "hyperlect.cli", *command],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    until((run / "metrics.jsonl").is_file)
    assert is_claimed(run)
    os.kill(runner.pid, signal.SIGKILL)
    runner.wait()
    until(lambda: not is_claimed(run))  # the worker notices, and stops too
    assert claim_path(run).exists()  # stale
    done = json.loads((run / "checkpoint/state.json").read_text())["step"]
    assert 0 < done < 400

    code, _, err = call(*command)
    assert code == 0, err
    assert "goes on training" in err
    assert json.loads((run / "training.json").read_text())["steps"] == 400
    assert not claim_path(run).exists()


def until(condition: object, seconds: float = 120) -> None:
    assert callable(condition)
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def read(out: Path) -> dict[str, list[dict[str, str]]]:
    data: dict[str, list[dict[str, str]]] = json.loads((out / "experiment.json").read_text())
    return data
