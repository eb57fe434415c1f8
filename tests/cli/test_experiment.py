"""The command with real, tiny trainings."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from hyperlect.experiment.manifest import is_locked
from hyperlect.recipe import load_recipe
from hyperlect.run_folder import checkpoints

from .. import commands
from ..commands import until
from ..experiment.grids import write_grid
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
    assert "0 of 3 runs done, 3 missing" in listed.out
    assert "good" in listed.out
    assert not out.exists()

    code, printed, err = call(*command)
    assert code == 1, err
    assert "2 of 3 runs done, 1 failed" in printed
    assert f"bad/head/seed-1: failed; see {out}/bad/head/seed-1/error.txt" in err
    assert "--retry" in err
    assert 'Did you mean "PROPN"' in (out / "bad/head/seed-1/error.txt").read_text()
    states = {run["folder"]: run["state"] for run in read(out)["runs"]}
    assert states == {
        "good/head/seed-1": "done", "good/head/seed-2": "done", "bad/head/seed-1": "failed",
    }  # fmt: skip

    before = {path: path.stat().st_mtime_ns for path in (out / "good").rglob("*.*")}
    (grid.parent / "bad.tsv").write_text("Oslo\tPROPN\tB-LOC\n")
    code, printed, err = call(*command, "--retry")
    assert code == 0, err
    assert "3 of 3 runs done" in printed
    assert err.count("started") == 1
    assert {path: path.stat().st_mtime_ns for path in (out / "good").rglob("*.*")} == before

    grid.write_text(GRID.replace("steps: 2", "steps: 3"))
    code, _, err = call(*command, "--only", "good")
    assert code == 1
    assert "good/head/seed-1" in err
    assert "training.steps: 2 → 3" in err
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
    assert "0 of 6 runs done" in out
    assert "tiny" in out
    assert call("experiment", grid.parent, "--seeds", "one").code == 2


@pytest.mark.parametrize(
    ("change", "options", "said"),
    [
        (("seeds:", "seed:"), [], 'Did you mean "seeds"?'),
        (("training.warmup", "training.warmop"), [], 'Did you mean "warmup"?'),
        (("seeds: [1, 2]", "seeds: [1, 1]"), [], "seeds"),
        (("", ""), ["--time-limit", "soon"], "10m"),
        (("", ""), ["--gpus-per-run", "0.5"], "--ray"),
        (("", ""), ["--ray", "local", "--processes", "2"], "--ray"),
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
    kept = load_recipe(out / "bad/head/seed-1/recipe.yaml", check_files=False)
    assert kept.start_from == str(out / "good/head/seed-1")
    listed = call(*command, "--list", "--only", "*/seed-1")
    assert listed.code == 0, listed.err

    for seed in (1, 2):  # as of results that were copied without weights
        shutil.rmtree(out / f"bad/head/seed-{seed}", ignore_errors=True)
    (out / "good/head/seed-1/model.safetensors").unlink()
    listed = call(*command, "--list", "--only", "*/seed-1")
    why = "good/head/seed-1 has results but no weights"
    assert f"bad/head/seed-1: blocked; {why}" in listed.err


def test_the_old_name_of_the_time_limit_is_accepted_with_a_warning(call: Call, grid: Path) -> None:
    code, _, err = call("experiment", grid, "--out", grid.parent / "out", "--slice", "1h", "--list")
    assert code == 3
    assert "Warning" in err
    assert "--time-limit" in err


def start(grid: Path, *options: str) -> subprocess.Popen[str]:
    """Start the command in a process of its own."""
    places = ["--out", grid.parent / "out", "--device", "cpu"]
    return commands.start("experiment", grid, *places, "--only", "good", *options)


@pytest.fixture
def long(tmp_path: Path) -> Path:
    """An experiment of two runs that last some seconds."""
    training = {"training.steps": 200, "training.save_every": 20}
    return write_grid(
        tmp_path, settings={"good": {"recipe": "recipe.yaml"}}, methods=["head"], set=training
    )


@pytest.mark.slow
def test_a_command_that_was_killed_is_continued_by_the_next(call: Call, long: Path) -> None:
    """The process at work notices, saves and ends."""
    run = long.parent / "out/good/head/seed-1"
    command = start(long, "--processes", "1")
    until(lambda: checkpoints(run), command)
    assert is_locked(run)
    command.kill()
    until(lambda: not is_locked(run))
    assert 0 < int(checkpoints(run)[0].stem) < 200

    command = start(long)
    assert command.wait() == 0
    assert json.loads((run / "training.json").read_text())["steps"] == 200


@pytest.mark.slow
def test_ctrl_c_leaves_with_its_code_and_the_same_command_continues(long: Path) -> None:
    run = long.parent / "out/good/head/seed-1"
    command = start(long)
    until(lambda: checkpoints(run), command)
    command.send_signal(signal.SIGINT)
    output, _ = command.communicate()
    assert command.returncode == 130, output
    assert int(checkpoints(run)[0].stem) < 200
    command = start(long)
    output, _ = command.communicate()
    assert command.returncode == 0, output


@pytest.mark.slow
def test_two_commands_at_once_do_each_run_once(long: Path) -> None:
    commands = [start(long), start(long)]
    outputs = [command.communicate()[0] for command in commands]
    assert min(command.returncode for command in commands) == 0 or all(
        command.returncode == 3 for command in commands
    )
    assert "".join(outputs).count("done in") == 2
    for seed in (1, 2):
        run = long.parent / f"out/good/head/seed-{seed}"
        assert (run / "results.json").is_file()
        steps = [
            json.loads(line)["step"] for line in (run / "metrics.jsonl").open() if "train" in line
        ]
        assert steps == sorted(set(steps))  # trained once


def read(out: Path) -> dict[str, list[dict[str, str]]]:
    data: dict[str, list[dict[str, str]]] = json.loads((out / "experiment.json").read_text())
    return data
