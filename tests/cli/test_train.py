from __future__ import annotations

import errno
import json
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hyperlect.training.monitor import Monitor

from .conftest import Call

HOLD = """
import sys
from pathlib import Path
from hyperlect.run_folder import locked

with locked(Path(sys.argv[1])):
    print("locked", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def interrupted(call: Call, project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run that Ctrl-C stopped after its first step."""
    run, step = tmp_path / "run", Monitor.step

    def interrupt(self: Monitor, *arguments: Any) -> None:
        step(self, *arguments)
        signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(Monitor, "step", interrupt)
        code, _, err = call("train", project / "tiny.yaml", "--out", run)
    assert code == 130
    assert f"hyperlect train --resume {run}" in err
    return run


def test_train_makes_the_folder_and_says_what_is_next(
    call: Call, project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = call("train", project / "tiny.yaml", "--set", "training.steps=2")
    assert code == 0, err
    assert json.loads((tmp_path / "runs/tiny/training.json").read_text())["steps"] == 2
    assert "runs/tiny holds" in out
    assert "hyperlect evaluate runs/tiny" in out
    assert "hyperlect predict runs/tiny --task dep --language isl" in out


def test_a_folder_in_use_is_left_alone(call: Call, project: Path, trained: Path) -> None:
    before = (trained / "model.safetensors").read_bytes()
    code, _, err = call("train", project / "tiny.yaml", "--out", trained)
    assert code == 2
    assert str(trained) in err
    assert "--out" in err
    assert (trained / "model.safetensors").read_bytes() == before


def test_interrupted_training_continues_with_resume(call: Call, interrupted: Path) -> None:
    refused = call("predict", interrupted, "--task", "ner", "--language", "fao", stdin="Anna\n")
    assert refused.code == 2
    assert f"--resume {interrupted}" in refused.err

    code, out, err = call("train", "--resume", interrupted)
    assert code == 0, err
    assert f"{interrupted} holds" in out
    assert json.loads((interrupted / "training.json").read_text())["steps"] == 3


def test_a_run_that_is_in_use_is_not_resumed_a_second_time(call: Call, interrupted: Path) -> None:
    before = {path: path.read_bytes() for path in interrupted.rglob("*.json*")}
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, interrupted], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout
        other.stdout.readline()
        code, _, err = call("train", "--resume", interrupted)
        other.communicate()
    assert code == 2
    assert str(interrupted) in err
    assert {path: path.read_bytes() for path in interrupted.rglob("*.json*")} == before
    assert call("train", "--resume", interrupted).code == 0


def test_a_finished_run_says_so_and_is_not_touched(call: Call, trained: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in trained.rglob("*")}
    code, out, err = call("train", "--resume", trained)
    assert code == 0
    assert f"{trained} is finished" in err
    assert "seconds" not in out + err
    assert {path: path.stat().st_mtime_ns for path in trained.rglob("*")} == before


@pytest.mark.parametrize("name", ["save_file", "write_text", "append"])
def test_a_full_disk_names_the_path(
    call: Call, project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    run = tmp_path / "run"

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    if name == "save_file":
        monkeypatch.setattr("safetensors.torch.save_file", full)
    elif name == "write_text":
        monkeypatch.setattr(Path, "write_text", full)
    else:
        monkeypatch.setattr("torch.utils.tensorboard.SummaryWriter.add_scalar", full)
    code, _, err = call("train", project / "tiny.yaml", "--out", run)
    assert code == 2
    assert str(run) in err
    assert os.strerror(errno.ENOSPC) in err
    assert "Traceback" not in err


def test_the_recipe_of_a_run_holds_no_path_of_the_machine(
    call: Call, project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLACE", str(project))
    text = (project / "tiny.yaml").read_text()
    for name in ("a.tsv", "c.tsv"):
        text = text.replace(f" {name}", f' "${{PLACE}}/{name}"')
    (project / "variables.yaml").write_text(text)
    run = project / "runs" / "variables"
    code, _, err = call("train", project / "variables.yaml", "--out", run)
    assert code == 0, err
    assert "${PLACE}/a.tsv" in (run / "recipe.yaml").read_text()
    assert "b.tsv" in (run / "recipe.yaml").read_text()
    for path in run.rglob("*"):
        if path.suffix in (".json", ".yaml", ".jsonl", ".txt"):
            assert str(project) not in path.read_text()


@pytest.mark.skipif(os.name == "nt", reason="there are no such modes")
@pytest.mark.parametrize("umask", [0o022, 0o027])
def test_the_weights_have_the_mode_that_files_have(
    call: Call, project: Path, tmp_path: Path, umask: int
) -> None:
    before = os.umask(umask)
    try:
        command = ("train", project / "tiny.yaml", "--set", "training.steps=1")
        assert call(*command, "--out", tmp_path / "run").code == 0
    finally:
        os.umask(before)
    for path in (tmp_path / "run").rglob("*"):
        if path.is_file():
            assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~umask


def test_an_encoder_on_a_hub_that_cannot_be_reached_is_told(
    call: Call, project: Path, tmp_path: Path
) -> None:
    command = ("train", project / "tiny.yaml", "--set", "backbone=acme/no-such-encoder")
    code, _, err = call(*command, "--out", tmp_path / "run")
    assert code == 2
    assert '"acme/no-such-encoder"' in err
    assert "hub cannot be reached" in err


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["{project}/tiny.yml"], '"tiny.yaml"'),
        (["{project}"], "{project}"),
        (["{project}/runs/shared"], "hyperlect train --resume {project}/runs/shared"),
        ([], "hyperlect train --resume runs/mine-2"),
        (["{project}/tiny.yaml", "--resume", "{project}/runs/shared"], "--resume RUN"),
        (["--resume", "{project}/runs/shared", "--out", "x"], "--out"),
        (["--resume", "{project}/runs/shred"], '"{project}/runs/shared"'),
        (["--resume", "{project}"], "{project}"),
        (["{project}/tiny.yaml", "--set", "training.stps=3"], '"steps"'),
        (["{project}/tiny.yaml", "--set", "training.steps"], "--set training.steps"),
        (["{project}/tiny.yaml", "--device", "cudo"], "'cudo'"),
        (["{project}/tiny.yaml", "--out", "{project}/a.tsv"], "{project}/a.tsv"),
    ],
)
def test_wrong_arguments(
    call: Call, project: Path, trained: Path, arguments: list[str], named: str
) -> None:
    code, out, err = call("train", *(text.format(project=project) for text in arguments))
    assert code == 2
    assert named.format(project=project) in err + out
    assert "Traceback" not in err
