from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from hyperlect.training.monitor import Monitor

from .conftest import Call


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
    assert f"{trained} holds a finished run" in err
    assert (trained / "model.safetensors").read_bytes() == before


def test_interrupted_training_goes_on_with_resume(
    call: Call, project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, step = tmp_path / "run", Monitor.step

    def interrupt(self: Monitor, losses: dict[str, float], tokens: int, last: bool) -> None:
        step(self, losses, tokens, last)
        signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(Monitor, "step", interrupt)
        code, _, err = call("train", project / "tiny.yaml", "--out", run)
    assert code == 130
    assert f"hyperlect train --resume {run}" in err
    refused = call("predict", run, "--task", "ner", "--language", "fao")
    assert refused.code == 2
    assert f"--resume {run}" in refused.err

    code, out, err = call("train", "--resume", run)
    assert code == 0, err
    assert f"{run} holds" in out
    assert json.loads((run / "training.json").read_text())["steps"] == 3


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["{project}/tiny.yml"], 'Did you mean "tiny.yaml"?'),
        (["{project}"], "is a folder"),
        (["{project}/runs/shared"], "hyperlect train --resume"),
        ([], "hyperlect train --resume runs/mine-2"),
        (
            ["{project}/tiny.yaml", "--resume", "{project}/runs/shared"],
            "Name a recipe to train, or",
        ),
        (["--resume", "{project}/runs/shared", "--set", "name=x"], "keeps its recipe"),
        (["--resume", "{project}/runs/shred"], 'Did you mean "{project}/runs/shared"?'),
        (["{project}/tiny.yaml", "--set", "training.stps=3"], 'steps"?'),
        (["{project}/tiny.yaml", "--set", "training.steps"], "key.path=value"),
        (["{project}/tiny.yaml", "--device", "cudo"], "'cudo' is not one of"),
    ],
)
def test_wrong_arguments(
    call: Call, project: Path, trained: Path, arguments: list[str], said: str
) -> None:
    code, out, err = call("train", *(text.format(project=project) for text in arguments))
    assert code == 2
    assert said.format(project=project) in err + out
    assert "Traceback" not in err
