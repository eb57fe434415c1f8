"""One cell as a plain transformers folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoTokenizer, pipeline

from hyperlect.errors import HyperlectError
from hyperlect.export import export
from hyperlect.export.adapters import HEAD
from hyperlect.grid import Cell
from hyperlect.model import HyperX
from tests.model.models import tiny_model
from tests.tiny import FAMILY_NAMES, saved_backbone

from .models import assert_same, expected, lora_model, run_usage

SENTENCE = "the old cat sees Anna in Oslo"


def check(model: HyperX, cell: Cell, folder: Path) -> Any:
    """Load an export in transformers, compare, and return the loaded model."""
    before = {name: tensor.clone() for name, tensor in model.backbone.encoder.state_dict().items()}
    variables = run_usage(model, "merged", cell, folder, encoder=False)
    after = model.backbone.encoder.state_dict()  # the model stays as it is
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())
    assert_same(model, cell, variables)
    return variables["model"]


@pytest.mark.parametrize("task", ["ner", "topic"])
@pytest.mark.parametrize("norms", [False, True])
@pytest.mark.parametrize("family", FAMILY_NAMES)
def test_it_gives_the_same_logits(tmp_path: Path, family: str, norms: bool, task: str):
    model, cell = lora_model(tmp_path, family, train_layer_norms=norms), Cell(task, "tur")
    loaded = check(model, cell, tmp_path / "out")
    beside = family == "modernbert"  # its head for labels has layers that ours lacks
    assert (tmp_path / "out" / HEAD).exists() == beside
    if not beside:
        assert loaded.config.id2label == dict(enumerate(model.task(task).labels))
    one, other = (expected(model, Cell(task, code))[1] for code in ("tur", "eng"))
    assert (one - other).abs().max() > 1e-3


@pytest.mark.parametrize("task", ["pos", "topic"])
@pytest.mark.parametrize("method", ["adapters", "mad-x", "head", "finetune", "factorised"])
def test_other_methods_are_merged_too(tmp_path: Path, method: str, task: str):
    model = lora_model(tmp_path, method=method)
    assert check(model, Cell(task, "tur"), tmp_path / "out").config.num_labels > 1


@pytest.mark.parametrize("strategy", ["none", "simple", "first"])
@pytest.mark.parametrize("task", ["pos", "ner"])
@pytest.mark.parametrize("family", ["bert", "xlm-roberta", "distilbert"])
def test_pipelines_read_the_folder(tmp_path: Path, family: str, task: str, strategy: str):
    model, cell = lora_model(tmp_path, family), Cell(task, "eng")
    folder = tmp_path / "out"
    export(model, "merged", folder, *cell)
    tagger = pipeline("token-classification", model=str(folder), aggregation_strategy=strategy)
    answers = tagger(SENTENCE, ignore_labels=[])
    labels = model.task(task).labels
    with torch.no_grad():
        rows = model.tokenizer(SENTENCE, return_tensors="pt")
        ids, mask = rows["input_ids"], rows["attention_mask"]
        scores = model(ids, mask, task=task, language="eng").logits[0].softmax(dim=-1)
    if strategy == "none":
        best = [labels[label] for label in scores.argmax(dim=-1)[1:-1]]
        assert [answer["entity"] for answer in answers] == best
        expected = scores.max(dim=-1).values[1:-1].tolist()
        assert [answer["score"] for answer in answers] == pytest.approx(expected, abs=1e-5)
    else:
        assert {answer["entity_group"] for answer in answers} <= {
            label.removeprefix("B-").removeprefix("I-") for label in labels
        }
        spans = [SENTENCE[answer["start"] : answer["end"]].split() for answer in answers]
        assert [word for span in spans for word in span] == SENTENCE.split()


@pytest.mark.parametrize("task", ["dep", "mlm"])
def test_other_heads_lie_beside(tmp_path: Path, task: str):
    model = lora_model(tmp_path)
    check(model, Cell(task, "eng"), tmp_path / "out")
    assert load_file(tmp_path / "out" / HEAD).keys() == model.head(task).state_dict().keys()


def test_the_tokenizer_is_in_the_folder(tmp_path: Path):
    model = lora_model(tmp_path)
    export(model, "merged", tmp_path / "out", "ner", "eng")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert tokenizer(SENTENCE)["input_ids"] == model.tokenizer(SENTENCE)["input_ids"]


def test_bottlenecks_are_refused(tmp_path: Path):
    model = tiny_model(saved_backbone(tmp_path / "backbone"))
    with pytest.raises(HyperlectError, match="not linear"):
        export(model, "merged", tmp_path / "out", "pos", "isl")
    assert not (tmp_path / "out").exists()
