"""The paper's experiment: its settings, and that every run of it is a good recipe."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

from hyperlect.experiment import Experiment, Point, Run, plan
from hyperlect.grid import Cell
from hyperlect.recipe import load_recipe
from hyperlect.training import start
from tests.project import silent
from tests.recipe.stand_in import use_hub, write_hub

GRID = Path(__file__).parents[2] / "recipes" / "paper" / "grid.yaml"
SIZES = (5, 10, 20, 50, 100, 500)
DRAWS = (1, 2, 3)
TINY = ("training.steps=2", "training.warmup=0", "training.batch_size=2", "hypernet.bottleneck=4")


@pytest.fixture(scope="module")
def experiment() -> Experiment:
    return plan(GRID)  # which checks the recipe of every run


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_hub(tmp_path_factory.mktemp("stand-in"))


def runs_of(experiment: Experiment, setting: str) -> list[Run]:
    return [run for run in experiment.runs if run.setting == setting]


@pytest.mark.parametrize("backbone", ["", "xlmr-"])
@pytest.mark.parametrize("text", ["", "-mlm"])
@pytest.mark.parametrize("name", ["english-single", "english-multi", "mixed"])
def test_the_settings_of_the_paper(
    name: str, text: str, backbone: str, experiment: Experiment
) -> None:
    runs = runs_of(experiment, f"{backbone}{name}{text}")
    encoder = "xlm-roberta-base" if backbone else "bert-base-multilingual-cased"
    assert {run.recipe.backbone for run in runs} == {encoder}
    assert {run.seed for run in runs} == {1, 2, 3}
    assert ("mad-x" in {run.method for run in runs}) is bool(text)
    parts = {"ner", "pos"} if name == "english-single" else {""}
    assert {run.part for run in runs} == parts
    for run in runs:
        labelled = {run.part} if run.part else {"ner", "pos"}
        assert run.recipe.tasks.keys() - {"mlm"} == labelled
        assert ("mlm" in run.recipe.tasks) is bool(text)


def test_few_shot_curves_train_one_cell_after_the_english_run(experiment: Experiment) -> None:
    curves = runs_of(experiment, "few-shot")
    sizes = Counter()
    for run in curves:
        few = run.recipe.few_shot
        assert few is not None
        assert run.point == Point(few.examples, few.draw)
        cells = [Cell.parse(cell) for cell in few.cells]
        assert list(run.recipe.cells("train")) == cells
        assert set(cells) <= run.recipe.cells("test").keys()
        assert run.after is not None
        assert run.after.name == f"english-multi-mlm/{run.method}/seed-1"
        sizes[few.examples, few.draw] += 1
    assert sizes.keys() == {(size, draw) for size in SIZES for draw in DRAWS}
    assert len(set(sizes.values())) == 1
    assert {run.method for run in curves} == {"hyperx", "adapters", "finetune"}


def test_the_header_counts_the_runs(experiment: Experiment) -> None:
    header = GRID.read_text(encoding="utf-8").split("\n\n")[0]
    numbers = re.search(r"(\d+) runs of 100,000 steps, and (\d+) of 200", header)
    assert numbers is not None
    steps = Counter(run.recipe.training.steps for run in experiment.runs)
    assert steps == {100_000: int(numbers[1]), 200: int(numbers[2])}


@pytest.mark.parametrize("method", ["hyperx", "adapters", "finetune"])
def test_a_few_shot_run_goes_on_from_the_english_one(
    method: str, experiment: Experiment, hub: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_hub(hub, tmp_path, monkeypatch)
    few = next(
        run
        for run in runs_of(experiment, "few-shot")
        if (run.method, run.part, run.point) == (method, "pos-mt", Point(10, 2))
    )
    english = few.after
    assert english is not None
    first = load_recipe(english.file, (*english.changes, *TINY))
    trained = start(first, tmp_path / "first", device="cpu", console=silent())
    # two sentences of the three that the stand-in has
    changes = (*few.changes, *TINY, "few_shot.examples=2", f"start_from={trained}")
    second = load_recipe(few.file, changes)
    run = start(second, tmp_path / "second", device="cpu", console=silent())
    assert (run / "recipe.yaml").is_file()
