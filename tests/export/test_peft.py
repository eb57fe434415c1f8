"""LoRA of one cell in the unmodified library peft."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModel, AutoModelForTokenClassification

from hyperlect.errors import HyperlectError, UnknownNameError
from hyperlect.export.peft import export_peft
from hyperlect.grid import Cell
from hyperlect.model import HyperX
from tests.model.models import padded, tiny_model
from tests.tiny import FAMILY_NAMES

from .models import lora_model

peft = pytest.importorskip("peft")
CLOSE = {"rtol": 1e-5, "atol": 1e-5}
# Its head for labels has layers that ours lacks.
NO_CLASSIFIER = ("modernbert",)


def exported(model: HyperX, cell: Cell, folder: Path) -> tuple[Path, dict[str, Any]]:
    (folder / "out").mkdir()
    export_peft(model, cell, folder / "out")
    config = json.loads((folder / "out" / "adapter_config.json").read_text(encoding="utf-8"))
    return folder / "out", config


def loaded(model: HyperX, folder: Path, kind: Any, **options: Any) -> Any:
    base = kind.from_pretrained(model.backbone.reference, **options)
    return peft.PeftModel.from_pretrained(base, folder).eval()


@torch.no_grad()
def outputs(model: HyperX, other: Any, cell: Cell) -> tuple[Any, Any, torch.Tensor]:
    ids, mask = padded(model.backbone)
    out = model(ids, mask, task=cell.task, language=cell.language)
    return out, other(input_ids=ids, attention_mask=mask), mask.bool()


@pytest.mark.parametrize("task", ["pos", "ner"])
@pytest.mark.parametrize("family", [name for name in FAMILY_NAMES if name not in NO_CLASSIFIER])
def test_a_tagger_gives_the_same_logits(tmp_path: Path, family: str, task: str):
    model, cell = lora_model(tmp_path, family), Cell(task, "isl")
    folder, config = exported(model, cell, tmp_path)
    assert config["modules_to_save"] == ["classifier"]
    assert config["base_model_name_or_path"] == model.backbone.reference
    assert not (folder / "head.safetensors").exists()
    labels = len(model.task(task).labels)
    other = loaded(model, folder, AutoModelForTokenClassification, num_labels=labels)
    mine, theirs, real = outputs(model, other, cell)
    torch.testing.assert_close(theirs.logits[real], mine.logits[real], **CLOSE)
    plain, _, _ = outputs(model, other, Cell(task, "eng"))
    assert (plain.logits - mine.logits)[real].abs().max() > 1e-3


@pytest.mark.parametrize("family", FAMILY_NAMES)
def test_of_texts_the_head_lies_beside_and_the_states_are_the_same(tmp_path: Path, family: str):
    model, cell = lora_model(tmp_path, family), Cell("topic", "fao")
    folder, _ = exported(model, cell, tmp_path)
    mine, theirs, real = outputs(model, loaded(model, folder, AutoModel), cell)
    states, head = theirs.last_hidden_state, load_file(folder / "head.safetensors")
    torch.testing.assert_close(states[real], mine.last_hidden_state[real], **CLOSE)
    mean = torch.stack([row[at].mean(dim=0) for row, at in zip(states, real, strict=True)])
    logits = mean @ head["weight"].T + head["bias"]
    torch.testing.assert_close(logits, mine.logits, **CLOSE)


@pytest.mark.parametrize(
    ("family", "task"), [("modernbert", "ner"), ("bert", "dep"), ("bert", "mlm")]
)
def test_other_heads_lie_beside_with_all_their_tensors(tmp_path: Path, family: str, task: str):
    model, cell = lora_model(tmp_path, family), Cell(task, "tur")
    folder, config = exported(model, cell, tmp_path)
    assert config["modules_to_save"] is None
    assert "head.safetensors" in (folder / "README.md").read_text(encoding="utf-8")
    head = load_file(folder / "head.safetensors")
    expected = {
        name.removeprefix("linear."): t for name, t in model.head(task).state_dict().items()
    }
    assert head.keys() == expected.keys()
    assert all(torch.equal(head[name], tensor) for name, tensor in expected.items())
    ids, mask = padded(model.backbone)
    with torch.no_grad():
        states = loaded(model, folder, AutoModel)(input_ids=ids, attention_mask=mask)[0]
        topic = model(ids, mask, task="pos", language="tur").last_hidden_state
        with model._adapted([model.config.index(cell)]):
            mine = model.backbone(ids, mask)[0]
    torch.testing.assert_close(states[mask.bool()], mine[mask.bool()], **CLOSE)
    assert (topic - mine)[mask.bool()].abs().max() > 1e-3


@pytest.mark.parametrize("method", ["adapters", "mad-x", "task-hypernet"])
def test_other_methods_with_lora_are_exported_too(tmp_path: Path, method: str):
    model, cell = lora_model(tmp_path, method=method), Cell("pos", "tur")
    folder, config = exported(model, cell, tmp_path)
    assert config["r"] == (6 if method == "mad-x" else 3)  # the two adapters are added
    other = loaded(model, folder, AutoModelForTokenClassification, num_labels=3)
    mine, theirs, real = outputs(model, other, cell)
    torch.testing.assert_close(theirs.logits[real], mine.logits[real], **CLOSE)


@pytest.mark.parametrize("settings", [{"top_layers": 1}, {"skip_last_layer": True}])
def test_layers_without_lora_are_left_alone(tmp_path: Path, settings: dict[str, Any]):
    model, cell = lora_model(tmp_path, hypernet=settings), Cell("pos", "tur")
    folder, _ = exported(model, cell, tmp_path)
    other = loaded(model, folder, AutoModelForTokenClassification, num_labels=3)
    mine, theirs, real = outputs(model, other, cell)
    torch.testing.assert_close(theirs.logits[real], mine.logits[real], **CLOSE)
    names = load_file(folder / "adapter_model.safetensors")
    with_lora = {name.split(".layer.")[1][0] for name in names if "lora_A" in name}
    assert with_lora == ({"1"} if "top_layers" in settings else {"0"})


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"hypernet": {}}, "bottleneck"),
        ({"method": "head"}, "head"),
        ({"train_layer_norms": True, "hypernet": {"adapter": "lora"}}, "LayerNorms"),
    ],
)
def test_what_peft_cannot_hold_is_refused(tmp_path: Path, settings: dict[str, Any], reason: str):
    with pytest.raises(HyperlectError, match=reason):
        export_peft(tiny_model(**settings), Cell("pos", "isl"), tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("cell", [Cell("tagging", "isl"), Cell("pos", "nolanguage")])
def test_unknown_names_are_refused(tmp_path: Path, cell: Cell):
    with pytest.raises(UnknownNameError):
        export_peft(tiny_model(hypernet={"adapter": "lora"}), cell, tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_page_says_where_the_builtin_encoder_comes_from(tmp_path: Path):
    model = lora_model(tmp_path)
    model.backbone.reference = "builtin:e5-small"
    folder, config = exported(model, Cell("pos", "isl"), tmp_path)
    page = (folder / "README.md").read_text(encoding="utf-8")
    assert 'load_backbone("builtin:e5-small")' in page
    assert config["base_model_name_or_path"] is None  # no name that transformers could load
