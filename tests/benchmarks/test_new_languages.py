"""new_languages.py: gains over no training, and a model that is as it was after each trial."""

import json

import new_languages
import pytest
import torch

from hyperlect.transfer import Settings, adapt
from tests.model.models import tiny_model
from tests.transfer.test_adapt import labelled


def line(run, language, variant, score, fitted="", task="pos"):
    return {
        "run": run, "method": "hyperx", "seed": 1, "language": language, "variant": variant,
        "fitted": fitted, "task": task, "score": score, "seconds": 2.0,
    }  # fmt: skip


@pytest.fixture
def lines():
    return [
        line("a", "bam", "none", 50.0), line("a", "bam", "20", 60.0, "pos"),
        line("b", "bam", "none", 52.0), line("b", "bam", "20", 58.0, "pos"),
        line("a", "heb", "none", 70.0), line("a", "heb", "20", 69.0, "pos"),
        line("b", "heb", "20", 75.0, "pos"),  # nothing to compare it with
        line("a", "heb", "raw", None),
    ]  # fmt: skip


def test_gains_are_over_the_same_run(lines) -> None:
    assert new_languages.gains(lines) == {("hyperx", "20", "pos"): {"bam": [10, 6], "heb": [-1]}}


def test_the_page_keeps_the_strata_apart(lines, tmp_path) -> None:
    text = "".join(json.dumps(row) + "\n" for row in lines)
    (tmp_path / "scores.jsonl").write_text(text, encoding="utf-8")
    new_languages.page(tmp_path)
    rows = json.loads((tmp_path / "summary.json").read_text(encoding="utf-8"))["gains"]
    gains = {row["stratum"]: (row["gain"], row["languages"]) for row in rows}
    assert gains["encoder does not"] == (8, 1)
    assert gains["encoder knows it"] == (-1, 1)
    page = (tmp_path / "summary.md").read_text(encoding="utf-8")
    assert "bam" in page
    assert "heb -1.0" in page


def test_a_model_is_as_it_was_after_a_trial() -> None:
    model = tiny_model(hypernet={"language_dropout": 0.1})
    before = {name: p.detach().clone() for name, p in model.own_parameters().items()}
    config = model.config
    with new_languages.untouched(model):
        model.add_language("deu", {}, "a trial")
        adapt(model, "deu", labelled(model, 1), {}, Settings(steps=2, folds=2))
        assert model.own_parameters().keys() != before.keys()
    assert model.config == config
    assert model.own_parameters().keys() == before.keys()
    for name, parameter in model.own_parameters().items():
        assert torch.equal(parameter, before[name]), name
