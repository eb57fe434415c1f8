"""One cell as a plain transformers folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModel, AutoModelForTokenClassification, AutoTokenizer, pipeline

from hyperlect.errors import HyperlectError, UnknownNameError
from hyperlect.export.merged import export_merged
from hyperlect.grid import Cell
from hyperlect.model import HyperX
from tests.model.models import padded, tiny_model
from tests.tiny import FAMILY_NAMES

from .models import lora_model

CLOSE = {"rtol": 1e-5, "atol": 1e-5}
SENTENCE = "the old cat sees Anna in Oslo"


def exported(model: HyperX, cell: Cell, folder: Path) -> Path:
    before = {name: tensor.clone() for name, tensor in model.backbone.encoder.state_dict().items()}
    (folder / "out").mkdir()
    export_merged(model, cell, folder / "out")
    after = model.backbone.encoder.state_dict()  # the model stays as it is
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())
    return folder / "out"


def loaded(kind: Any, folder: Path) -> Any:
    other, info = kind.from_pretrained(folder, output_loading_info=True)
    assert not info["unexpected_keys"]
    assert not {key for key in info["missing_keys"] if not key.startswith("pooler.")}
    return other.eval()


@torch.no_grad()
def outputs(model: HyperX, other: Any, cell: Cell) -> tuple[Any, Any, torch.Tensor]:
    ids, mask = padded(model.backbone)
    out = model(ids, mask, task=cell.task, language=cell.language)
    return out, other(input_ids=ids, attention_mask=mask), mask.bool()


@pytest.mark.parametrize("norms", [False, True])
@pytest.mark.parametrize("family", [name for name in FAMILY_NAMES if name != "modernbert"])
def test_a_tagger_gives_the_same_logits(tmp_path: Path, family: str, norms: bool):
    model, cell = lora_model(tmp_path, family, train_layer_norms=norms), Cell("ner", "tur")
    other = loaded(AutoModelForTokenClassification, exported(model, cell, tmp_path))
    mine, theirs, real = outputs(model, other, cell)
    torch.testing.assert_close(theirs.logits[real], mine.logits[real], **CLOSE)
    assert other.config.id2label == dict(enumerate(model.task("ner").labels))
    without, _, _ = outputs(model, other, Cell("ner", "eng"))
    assert (without.logits - mine.logits)[real].abs().max() > 1e-3


@pytest.mark.parametrize("family", FAMILY_NAMES)
def test_of_texts_the_head_lies_beside(tmp_path: Path, family: str):
    model, cell = lora_model(tmp_path, family), Cell("topic", "isl")
    folder = exported(model, cell, tmp_path)
    mine, theirs, real = outputs(model, loaded(AutoModel, folder), cell)
    head = load_file(folder / "head.safetensors")
    states = theirs.last_hidden_state
    mean = torch.stack([row[at].mean(dim=0) for row, at in zip(states, real, strict=True)])
    torch.testing.assert_close(mean @ head["weight"].T + head["bias"], mine.logits, **CLOSE)
    assert "mean of all states" in (folder / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "settings",
    [
        {"method": "adapters"},
        {"method": "mad-x"},
        {"method": "head"},
        {"method": "finetune"},
        {"method": "factorised"},
    ],
)
def test_other_methods_are_merged_too(tmp_path: Path, settings: dict[str, Any]):
    model, cell = lora_model(tmp_path, **settings), Cell("pos", "tur")
    other = loaded(AutoModelForTokenClassification, exported(model, cell, tmp_path))
    mine, theirs, real = outputs(model, other, cell)
    torch.testing.assert_close(theirs.logits[real], mine.logits[real], **CLOSE)


@pytest.mark.parametrize("strategy", ["none", "simple", "first"])
@pytest.mark.parametrize("task", ["pos", "ner"])
@pytest.mark.parametrize("family", ["bert", "xlm-roberta", "distilbert"])
def test_pipelines_read_the_folder(tmp_path: Path, family: str, task: str, strategy: str):
    model, cell = lora_model(tmp_path, family), Cell(task, "eng")
    folder = exported(model, cell, tmp_path)
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


def test_the_tokenizer_is_in_the_folder(tmp_path: Path):
    model = lora_model(tmp_path)
    folder = exported(model, Cell("dep", "eng"), tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert tokenizer(SENTENCE)["input_ids"] == model.tokenizer(SENTENCE)["input_ids"]
    assert load_file(folder / "head.safetensors").keys() == model.head("dep").state_dict().keys()


def test_bottlenecks_are_refused(tmp_path: Path):
    with pytest.raises(HyperlectError, match="not linear"):
        export_merged(tiny_model(), Cell("pos", "isl"), tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("cell", [Cell("tagging", "isl"), Cell("pos", "nolanguage")])
def test_unknown_names_are_refused(tmp_path: Path, cell: Cell):
    with pytest.raises(UnknownNameError):
        export_merged(tiny_model(hypernet={"adapter": "lora"}), cell, tmp_path)
    assert not list(tmp_path.iterdir())
