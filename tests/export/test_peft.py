"""LoRA of one cell in the unmodified library peft."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from hyperlect.errors import HyperlectError
from hyperlect.export import export
from hyperlect.export.adapters import HEAD
from hyperlect.grid import Cell
from hyperlect.model import HyperX
from tests.model.models import tiny_model
from tests.tiny import FAMILY_NAMES, saved_backbone

from .models import assert_same, expected, lora_model, run_usage

pytest.importorskip("peft")


def check(model: HyperX, cell: Cell, folder: Path, encoder: bool = False) -> dict[str, Any]:
    """Load an export in peft, compare, and return its configuration."""
    variables = run_usage(model, "peft", cell, folder, encoder)
    assert type(variables["model"]).__module__.startswith("peft.")
    assert_same(model, cell, variables)
    config: dict[str, Any] = json.loads((folder / "adapter_config.json").read_text("utf-8"))
    return config


@pytest.mark.parametrize("task", ["ner", "topic"])
@pytest.mark.parametrize("family", FAMILY_NAMES)
def test_the_library_gives_the_same_logits(tmp_path: Path, family: str, task: str):
    model, cell = lora_model(tmp_path, family), Cell(task, "isl")
    config = check(model, cell, tmp_path / "out")
    beside = family == "modernbert"  # its head for labels has layers that ours lacks
    assert config["modules_to_save"] == (None if beside else ["classifier"])
    assert (tmp_path / "out" / HEAD).exists() == beside
    # Another cell has other weights.
    one, other = (expected(model, Cell(task, code))[1] for code in ("isl", "tur"))
    assert (one - other).abs().max() > 1e-3


@pytest.mark.parametrize("task", ["dep", "mlm"])
def test_other_heads_lie_beside_with_all_their_tensors(tmp_path: Path, task: str):
    model = lora_model(tmp_path)
    config = check(model, Cell(task, "tur"), tmp_path / "out")
    assert config["task_type"] == "FEATURE_EXTRACTION"
    head, own_head = load_file(tmp_path / "out" / HEAD), model.head(task).state_dict()
    assert head.keys() == own_head.keys()
    assert all(torch.equal(head[name], tensor) for name, tensor in own_head.items())


@pytest.mark.parametrize("method", ["adapters", "mad-x", "task-hypernet"])
def test_other_methods_with_lora_are_exported_too(tmp_path: Path, method: str):
    model = lora_model(tmp_path, method=method)
    config = check(model, Cell("pos", "tur"), tmp_path / "out")
    assert config["r"] == (6 if method == "mad-x" else 3)  # the two adapters are added


@pytest.mark.parametrize(("setting", "layer"), [("top_layers", "1"), ("skip_last_layer", "0")])
def test_layers_without_lora_are_left_alone(tmp_path: Path, setting: str, layer: str):
    model = lora_model(tmp_path, hypernet={setting: 1 if setting == "top_layers" else True})
    check(model, Cell("pos", "tur"), tmp_path / "out")
    names = load_file(tmp_path / "out" / "adapter_model.safetensors")
    assert {name.split(".layer.")[1][0] for name in names if "lora_A" in name} == {layer}


def test_trained_layer_norms_need_the_encoder(tmp_path: Path):
    model, cell = lora_model(tmp_path, train_layer_norms=True), Cell("pos", "tur")
    with pytest.raises(HyperlectError, match="LayerNorms"):
        export(model, "peft", tmp_path / "out", *cell)
    check(model, cell, tmp_path / "out", encoder=True)


def test_the_encoder_is_named_if_it_is_on_the_hub(tmp_path: Path):
    model = lora_model(tmp_path)
    for number, name in enumerate((model.backbone.reference, "builtin:e5-small", "acme/tiny")):
        model.backbone.reference = name
        export(model, "peft", tmp_path / str(number), "pos", "isl")
        config = json.loads((tmp_path / str(number) / "adapter_config.json").read_text("utf-8"))
        assert config["base_model_name_or_path"] == (name if name == "acme/tiny" else None)


@pytest.mark.parametrize(
    ("settings", "reason"),
    [({}, "bottleneck"), ({"method": "head"}, "head"), ({"method": "finetune"}, "finetune")],
)
def test_what_is_no_lora_is_refused(tmp_path: Path, settings: dict[str, Any], reason: str):
    model = tiny_model(saved_backbone(tmp_path / "backbone"), **settings)
    with pytest.raises(HyperlectError, match=reason):
        export(model, "peft", tmp_path / "out", "pos", "isl")
    assert not (tmp_path / "out").exists()
