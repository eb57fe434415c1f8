"""Devices, precision and versions."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

import hyperlect
from hyperlect.errors import HyperlectError
from hyperlect.files import write_json
from hyperlect.recipe import load_recipe
from hyperlect.training import make_accelerator, start

from ..project import go_on, silent, train, write_project
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


def test_going_on_elsewhere_is_told(run: Path, tmp_path: Path) -> None:
    moved = tmp_path / "run"
    shutil.copytree(run, moved)
    there = read(moved / "versions.json")
    write_json(moved / "versions.json", {**there, "device": "cuda: Some GPU", "precision": "bf16"})
    go_on(moved)
    said = (moved / "log.txt").read_text(encoding="utf-8")
    told = f"Goes on with device {there['device']} (was cuda: Some GPU), precision no (was bf16)"
    assert said.count(told) == 1
    go_on(moved)
    assert (moved / "log.txt").read_text(encoding="utf-8").count("Goes on with") == 1
    assert read(moved / "versions.json") == there


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
