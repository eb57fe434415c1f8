from __future__ import annotations

from typing import Any

import pytest
from huggingface_hub import ModelCard

from hyperlect.evaluation import CellResult, Results
from hyperlect.evaluation.results import Expected
from hyperlect.export.card import model_card
from hyperlect.grid import STRATA_MEANING, Cell, Kind
from hyperlect.model import HyperXConfig
from hyperlect.model.config import EncoderReference
from tests.model.models import MLM, NER, POS

ENCODER = EncoderReference("builtin:e5-small")
CONFIG = HyperXConfig(
    tasks=(POS, NER, MLM),
    languages=("eng", "isl", "qaf", "arb"),
    trained=(Cell("pos", "isl"), Cell("ner", "eng"), Cell("mlm", "arb")),
    max_length=128,
    added={"gla": "mean of isl, fitted to 20 sentences"},
)


def result(task: str, language: str, score: float | None, metric: str, **more: Any) -> CellResult:
    kind = CONFIG.grid.kind(Cell(task, language))
    values = {"task": task, "language": language, "kind": kind, "metric": metric, **more}
    return CellResult(score=score, examples=12, **values)


CELLS = (
    result("pos", "isl", 91.234, "accuracy"),
    result("ner", "isl", 61.0, "span F1", expected=Expected(score=60, low=50, high=70)),
    result("ner", "eng", 71.0, "span F1"),
    result("ner", "arb", 11.0, "span F1", expected=Expected(score=60, low=50, high=70)),
    result("ner", "dan", None, "span F1", note="its data holds no span"),
    result("mlm", "dan", 7.5, "perplexity"),
)
RESULTS = Results(name="tiny", method="hyperx", backbone="builtin:e5-small", cells=CELLS)
RECIPE: dict[str, Any] = {
    "description": "Tags.",
    "training": {"batch_size": 8, "seed": 3},
    "data": [
        {"task": "pos", "format": "conllu", "root": "${UD}", "cells": {"isl": {"train": ["a"]}}},
        {"task": "ner", "format": "hub", "dataset": "x/y", "cells": {"eng": {"test": ["test"]}}},
    ],
}


def card(**options: Any) -> ModelCard:
    return ModelCard(model_card("acme/tiny", ENCODER, CONFIG, **options))


def test_the_metadata_is_what_the_hub_reads() -> None:
    data = card(results=RESULTS, recipe=RECIPE, licence="apache-2.0").data
    assert data.language == ["ar", "en", "is"]
    assert data.base_model == "intfloat/multilingual-e5-small"
    assert (data.library_name, data.license, data.datasets) == ("hyperlect", "apache-2.0", ["x/y"])
    assert data.pipeline_tag == "token-classification"
    assert data.model_name == "tiny"


def test_every_score_is_in_the_index_with_its_kind_and_examples() -> None:
    results = card(results=RESULTS).data.eval_results
    assert results is not None
    values = {r.dataset_config: (r.metric_type, r.metric_value, r.task_type) for r in results}
    assert values == {
        "pos:isl": ("accuracy", 91.23, "token-classification"),
        "ner:isl": ("f1", 61.0, "token-classification"),
        "ner:eng": ("f1", 71.0, "token-classification"),
        "ner:arb": ("f1", 11.0, "token-classification"),
        "mlm:dan": ("perplexity", 7.5, "fill-mask"),
    }
    for one in results:
        task, _, language = str(one.dataset_config).partition(":")
        kind = CONFIG.grid.kind(Cell(task, language))
        assert str(kind) in str(one.metric_name)
        assert "12 examples" in str(one.metric_name)


def test_the_text_has_each_kind_with_its_cells() -> None:
    text = card(results=RESULTS, recipe=RECIPE).text
    sections = {kind: text.partition(f"{kind.mark} {kind}**")[2].split("\n**")[0] for kind in Kind}
    assert "| Icelandic | `isl` | 91.2 (12) |" in sections[Kind.SUPERVISED]
    assert "61.0 (12)" in sections[Kind.UNSEEN_COMBINATION]
    assert "11.0 (12)" in sections[Kind.TEXT_ONLY]
    assert "7.5 (12)" in sections[Kind.UNTOUCHED]
    assert "1 of 2 cells" in text
    assert "fitted to 20 sentences" in text
    assert 'task="ner", language="isl"' in text  # a cell that was not trained
    assert "| ner | `x/y` | hub | none | 1 |" in text


def test_a_card_without_results_says_so() -> None:
    bare = card()
    assert bare.data.eval_results is None
    assert "no test scores" in bare.text
    assert "| task |" not in bare.text
    assert "without its recipe" in bare.text


@pytest.mark.parametrize("seconds", [90, 5400])
def test_time_and_hardware_are_stated(seconds: float) -> None:
    text = card(
        recipe=RECIPE,
        training={"steps": 1000, "seconds": seconds, "trained_parameters": 2000},
        versions={"device": "cuda: H100", "processes": "2", "precision": "bf16", "torch": "2.9"}
        | {"hyperlect": "0.1.0", "transformers": "5.0"},
    ).text
    assert f"1,000 steps of 8 rows in {seconds / 60:.1f} minutes, seed 3" in text
    assert "cuda: H100; 2 processes, precision bf16" in text


def test_an_encoder_that_was_trained_is_not_called_an_adapter() -> None:
    config = HyperXConfig(tasks=(POS,), languages=("eng",), method="finetune")
    data = ModelCard(model_card("acme/x", EncoderReference("acme/bert"), config)).data
    assert data["base_model_relation"] == "finetune"
    assert data.base_model == "acme/bert"


def test_the_means_of_a_kind_are_followed_by_their_strata() -> None:
    cells = [cell.model_copy(update={"known_to_encoder": True}) for cell in CELLS]
    cells[3] = cells[3].model_copy(update={"known_to_encoder": False})
    results = RESULTS.model_copy(update={"cells": tuple(cells)})
    lines = model_card("mine/tiny", ENCODER, CONFIG, results=results).splitlines()
    kind = Kind.TEXT_ONLY
    place = lines.index(f"| ner | {kind} | span F1 | 11.0 | 1 |")
    assert lines[place + 1] == f"| ner | {kind}: new to the encoder | span F1 | 11.0 | 1 |"
    assert STRATA_MEANING.partition(":")[0] in " ".join(lines)
