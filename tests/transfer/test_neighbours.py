"""Which languages a new one is like."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from hyperlect.errors import HyperlectError
from hyperlect.transfer.adapt import unlabelled_rows
from hyperlect.transfer.neighbours import weigh_neighbours
from tests.model.models import tiny_model

SENTENCES = [["a", "b", "c"], ["b", "c", "a", "d"], ["d", "a"]]


@pytest.fixture
def table(tmp_path: Path) -> str:
    """German is like English, and unlike Turkish; Icelandic is between them."""
    file = tmp_path / "typology.csv"
    file.write_text("code,a,b\neng,1,0\nisl,1,1\ntur,-1,1\ndeu,1,0.1\nfra,0,-1\n")
    return str(file)


def test_typology_ranks_languages(table: str) -> None:
    weights = weigh_neighbours(tiny_model(), "German", typology=table)
    assert sum(weights.values()) == pytest.approx(1)
    assert weights["eng"] > weights["isl"] > weights["tur"]


def test_certain_predictions_weigh_more() -> None:
    model = tiny_model()
    raw = unlabelled_rows(model, SENTENCES, ["pos"])
    weights = weigh_neighbours(model, "deu", raw, typology=None)
    assert sum(weights.values()) == pytest.approx(1)

    def mean_entropy(language: str) -> float:
        predictions = model.predict(SENTENCES, "pos", language)
        return -sum(sum(torch.tensor(p.confidences).log().tolist()) for p in predictions)

    assert len(set(weights.values())) == len(weights)
    assert mean_entropy(max(weights, key=lambda code: weights[code])) <= mean_entropy(
        min(weights, key=lambda code: weights[code])
    )


def test_both_are_multiplied(table: str) -> None:
    model = tiny_model()
    raw = unlabelled_rows(model, SENTENCES, ["pos"])
    first = weigh_neighbours(model, "deu", typology=table)
    second = weigh_neighbours(model, "deu", raw, typology=None)
    both = weigh_neighbours(model, "deu", raw, typology=table)
    products = {code: first[code] * second[code] for code in both}
    total = sum(products.values())
    assert both == pytest.approx({code: value / total for code, value in products.items()})


def test_without_typology_and_sentences_there_are_none(tmp_path: Path) -> None:
    with pytest.raises(HyperlectError, match="deu"):
        weigh_neighbours(tiny_model(), "deu", typology=str(tmp_path / "none.csv"))


def test_a_language_is_not_its_own_neighbour(table: str) -> None:
    assert "eng" not in weigh_neighbours(tiny_model(), "eng", typology=table)
