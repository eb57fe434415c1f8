"""Runs whose language vectors are made from features: training, resuming, continuing, scoring."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from hyperlect import HyperX
from hyperlect.cli.check import check_run
from hyperlect.errors import DataError, Interrupted, RunError
from hyperlect.evaluation import evaluate_run
from hyperlect.recipe import load_recipe
from hyperlect.run_folder import checkpoints, load_tensors

from ..project import HYPERNET, go_on, train, write_data, write_project
from .conftest import Watched
from .runs import same, weights

TABLE = "code,a,b,c\neng,1,0,3\nisl,1,1,2\nfao,0,0,3\ndan,1,0.5,0\n"
BASE = {"base_components": 2, "base_hidden": 4, "language_dropout": 0.3}
FEATURES = "adapters.source.base.features"


def project(folder: Path, base: str = "features", table: str = TABLE, **keys: Any) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "languages.csv").write_text(table, encoding="utf-8")
    keys.setdefault("language_features", {"typology": "languages.csv", "text": 10, "layer": 1})
    hypernet = {**HYPERNET, **BASE, "language_base": base}
    return write_project(folder, hypernet=hypernet, **keys)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("project")
    return train(project(folder), folder / "run")


def test_a_run_is_whole_and_scores_every_unseen_language(run: Path) -> None:
    check_run(run)
    results = {str(cell.cell): cell for cell in evaluate_run(run).cells}
    assert results["pos:dan"].language_source == "typology and text"
    assert results["pos:isl"].language_source == "own vector"
    assert results["pos:dan"].kind.name == "UNTOUCHED"


def test_features_are_read_and_do_not_change_in_training(run: Path) -> None:
    features = load_tensors(run / "model.safetensors")[FEATURES]
    assert features.shape == (3, 2)
    assert torch.allclose(features.mean(dim=0), torch.zeros(2), atol=1e-5)
    assert features.square().mean() == pytest.approx(1, rel=1e-4)
    checkpoint = load_tensors(checkpoints(run)[0])
    assert torch.equal(checkpoint[f"weights/{FEATURES}"], features)
    assert "languages.csv" in (run / "log.txt").read_text(encoding="utf-8")


def test_predictions_use_the_features_of_a_new_language(run: Path) -> None:
    model = HyperX.from_pretrained(run)
    texts = ["the old cat", "Anna sees Oslo"]
    first = model.predict(texts, task="pos", language="da")
    assert {p.language_source for p in first} == {"typology and text"}
    assert model.predict(texts, task="pos", language="da") == first
    assert model.languages == ["eng", "fao", "isl"]
    (unknown,) = model.predict(texts[:1], task="pos", language="fra")
    assert unknown.language_source == "text"


@pytest.mark.parametrize("base", ["features", "neighbours"])
def test_an_interrupted_run_is_resumed(tmp_path: Path, base: str, watched: Watched) -> None:
    recipe = project(tmp_path / "project", base)
    straight = train(recipe, tmp_path / "straight")
    watched.signals = {5: [signal.SIGINT]}
    with pytest.raises(Interrupted):
        train(recipe, tmp_path / "run")
    go_on(tmp_path / "run")
    assert same(weights(tmp_path / "run"), weights(straight))
    check_run(tmp_path / "run")


def test_a_continued_run_keeps_components_and_describes_a_new_language(
    run: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "later"
    later = project(folder, start_from=str(run), backbone=str(run.parent / "backbone"))
    write_data(folder, "pos", "dan", "train")
    (folder / "languages.csv").unlink()
    table = str(run.parent / "languages.csv")
    settings = (
        "data.0.cells.dan.train=pos.dan.train",
        f"language_features.typology={table}",
    )
    again = train(later, folder / "run", *settings)
    before, after = (load_tensors(path / "model.safetensors") for path in (run, again))
    assert torch.equal(before["features.map"], after["features.map"])
    old, new = HyperX.from_pretrained(run), HyperX.from_pretrained(again)
    for code in old.languages:
        rows = [model.config.language_index(code) for model in (old, new)]
        assert torch.equal(before[FEATURES][rows[0]], after[FEATURES][rows[1]])
    danish = after[FEATURES][new.config.language_index("dan")]
    assert danish.abs().sum() > 0
    with pytest.raises(RunError, match="language_features"):
        train(later, folder / "other", *settings, "language_features.text=null")


def test_a_faulty_table_is_named_before_anything_is_written(tmp_path: Path) -> None:
    recipe = project(tmp_path / "project", table=TABLE + "nor,x,1,1\n")
    with pytest.raises(DataError) as error:
        train(recipe, tmp_path / "run")
    assert [(p.line, p.key) for p in error.value.problems] == [(6, "a")]
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("method", ["adapters", "task-hypernet", "language-hypernet"])
def test_the_same_recipe_serves_other_methods(tmp_path: Path, method: str) -> None:
    recipe = project(tmp_path / "project")
    again = train(recipe, tmp_path / "run", f"method={method}")
    has_base = method == "language-hypernet"
    assert (FEATURES in load_tensors(again / "model.safetensors")) == has_base
    assert load_recipe(again / "recipe.yaml").language_features is not None
