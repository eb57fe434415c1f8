"""Devices, precision and versions."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
import torch

import hyperlect
from hyperlect.errors import HyperlectError, RunError
from hyperlect.recipe import load_recipe
from hyperlect.run_folder import write_json
from hyperlect.training import Interrupted, make_accelerator, start
from hyperlect.training.hardware import processor

from ..project import go_on, silent, train, write_project
from .conftest import Watched
from .runs import read, weights


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("project")
    return train(write_project(folder), folder / "run", "training.steps=4", "training.warmup=0")


def test_versions_tell_what_a_result_depends_on(run: Path) -> None:
    versions = read(run / "versions.json")
    assert versions["hyperlect"] == hyperlect.__version__
    assert versions["torch"] == torch.__version__
    assert {"transformers", "accelerate", "tokenizers", "python", "device"} <= versions.keys()
    assert (versions["processes"], versions["precision"]) == ("1", "no")
    if not torch.cuda.is_available():
        capability = torch.backends.cpu.get_cpu_capability()
        assert versions["device"] == f"cpu: {processor()}, {capability}"
        assert processor()


def test_going_on_elsewhere_is_told(run: Path, tmp_path: Path, watched: Watched) -> None:
    moved = tmp_path / "run"
    watched.signals = {step: [signal.SIGINT] for step in (1, 2, 3)}
    with pytest.raises(Interrupted):
        train(run.parent / "recipe.yaml", moved, "training.steps=4")
    kept, log = moved / "versions.json", moved / "log.txt"
    here = read(kept)
    write_json(
        kept, {**here, "device": "cuda: Some GPU", "precision": "bf16", "platform": "another"}
    )
    with pytest.raises(Interrupted):
        go_on(moved)
    told = (
        f"resumed with other hardware or libraries than before: device {here['device']} (before: "
        "cuda: Some GPU), precision fp32 (before: bf16). Scores may differ slightly"
    )
    assert log.read_text(encoding="utf-8").count(told) == 1
    assert read(kept) == here
    kept.write_text("{", encoding="utf-8")  # a damaged one keeps nobody from going on
    with pytest.raises(Interrupted):
        go_on(moved)
    assert read(kept) == here
    go_on(moved)
    write_json(kept, {**here, "device": "cuda: Some GPU"})
    go_on(moved)  # it is finished: nothing is computed here
    assert read(kept)["device"] == "cuda: Some GPU"
    assert log.read_text(encoding="utf-8").count("resumed with") == 1


def test_a_run_that_is_not_resumed_keeps_what_it_was_made_with(
    tmp_path: Path, watched: Watched
) -> None:
    recipe = write_project(tmp_path)
    watched.signals = {2: [signal.SIGINT]}
    with pytest.raises(Interrupted):
        train(recipe, tmp_path / "run")
    kept = tmp_path / "run" / "versions.json"
    write_json(kept, {"device": "cuda: Some GPU"})
    data = recipe.parent / "pos.eng.train"
    data.write_text(data.read_text(encoding="utf-8") + "\nthe\tDET\n", encoding="utf-8")
    with pytest.raises(RunError, match="cannot be resumed"):
        go_on(tmp_path / "run")
    assert read(kept) == {"device": "cuda: Some GPU"}


def test_unknown_and_absent_devices_are_refused(run: Path, tmp_path: Path) -> None:
    recipe = load_recipe(run / "recipe.yaml")
    with pytest.raises(
        HyperlectError, match=r'Unknown device "tpu"\..*Known: auto, cpu, cuda, mps'
    ):
        start(recipe, tmp_path / "run", "tpu", silent())
    for device, there in (("cuda", torch.cuda.is_available()),
                          ("mps", torch.backends.mps.is_available())):  # fmt: skip
        if not there:
            with pytest.raises(HyperlectError, match=f'no device "{device}".* Usable: '):
                start(recipe, tmp_path / "run", device, silent())
    assert not (tmp_path / "run").exists()


def test_precision_may_change_from_one_run_to_the_next(run: Path, tmp_path: Path) -> None:
    """accelerate alone would refuse it, or go on with the first precision."""
    assert make_accelerator("cpu", "fp32").mixed_precision == "no"
    recipe = run.parent / "recipe.yaml"
    other = train(recipe, tmp_path / "run", "training.precision=bf16", "training.steps=4")
    assert read(other / "versions.json")["precision"] == "bf16"
    assert {tensor.dtype for tensor in weights(other).values()} == {torch.float32}
    assert make_accelerator("cpu", "auto").mixed_precision == "no"
