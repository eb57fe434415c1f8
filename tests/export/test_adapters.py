"""Folders for the library adapters: what is in them, and what is refused.

tests/peers loads such folders in the library itself.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from hyperlect.errors import HyperlectError
from hyperlect.export import export
from hyperlect.export.adapters import FAMILIES, HEAD
from hyperlect.model import HyperX
from hyperlect.tasks import Task, TaskType
from tests.model.models import MLM, NER, POS, TOPIC, tiny_model
from tests.tiny import FAMILY_NAMES, HIDDEN, LAYERS, tiny_backbone

TASKS = (POS, NER, TOPIC, Task("dep", TaskType.PARSING, ("nsubj", "root")), MLM)
ADAPTER = {"README.md", "adapter_config.json", "adapter.safetensors", "pytorch_adapter.bin"}
LIBRARY_HEAD = {"head_config.json", "model_head.safetensors", "pytorch_model_head.bin"}


def exported(folder: Path, model: HyperX, task: str = "ner", language: str = "isl") -> Any:
    """Export, and return the adapter's configuration and tensors."""
    export(model, "adapters", folder, task, language)
    config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    return config, load_file(folder / "adapter.safetensors")


def refused(model: HyperX, folder: Path) -> list[str]:
    """Return the reasons why a model is refused, and check that nothing is written."""
    with pytest.raises(HyperlectError) as error:
        export(model, "adapters", folder / "out", "ner", "isl")
    assert list(folder.iterdir()) == []
    return [problem.message for problem in error.value.problems]


@pytest.mark.parametrize(
    ("family", "path"),
    [
        ("bert", "bert.encoder.layer.{i}.output.adapters.ner-isl"),
        ("xlm-roberta", "roberta.encoder.layer.{i}.output.adapters.ner-isl"),
        ("roberta", "roberta.encoder.layer.{i}.output.adapters.ner-isl"),
        ("deberta-v2", "deberta.encoder.layer.{i}.output.adapters.ner-isl"),
        ("distilbert", "distilbert.transformer.layer.{i}.output_adapters.adapters.ner-isl"),
        ("modernbert", "model.layers.{i}.output_adapters.adapters.ner-isl"),
    ],
)
def test_tensors_have_the_names_of_the_library(tmp_path: Path, family: str, path: str) -> None:
    model = tiny_model(family)
    config, tensors = exported(tmp_path / "out", model)
    weights = model.adapter_weights("ner", "isl")
    biases = {f"model.layers.{i}.attn.Wqkv.bias" for i in range(LAYERS)}
    for layer in range(LAYERS):
        of_layer = weights[layer]
        for name, tensor in (
            ("adapter_down.0.weight", of_layer.down_weight),
            ("adapter_down.0.bias", of_layer.down_bias),
            ("adapter_up.weight", of_layer.up_weight),
            ("adapter_up.bias", of_layer.up_bias),
            ("adapter_norm_after.weight", of_layer.after_weight),
            ("adapter_norm_after.bias", of_layer.after_bias),
        ):
            assert torch.equal(tensors.pop(f"{path.format(i=layer)}.{name}"), tensor)
    assert tensors.keys() == (biases if family == "modernbert" else set())
    assert not any(tensor.any() for tensor in tensors.values())
    assert config["name"] == "ner-isl"
    assert config["model_type"] == family
    assert config["hidden_size"] == HIDDEN
    assert {"model_class", "model_name", "version"} <= config.keys()


def test_every_family_is_carried_or_refused(tmp_path: Path) -> None:
    assert set(FAMILY_NAMES) >= FAMILIES.keys()
    backbone = tiny_backbone("bert")
    object.__setattr__(backbone, "family", type(backbone.family)(**{
        **vars(backbone.family), "model_type": "another", "title": "Another",
    }))  # fmt: skip
    (reason,) = refused(tiny_model(backbone), tmp_path)
    assert "Another" in reason


def test_the_torch_file_holds_the_same_and_no_more(tmp_path: Path) -> None:
    _, tensors = exported(tmp_path, tiny_model())
    for name in ("pytorch_adapter.bin", "pytorch_model_head.bin"):
        assert (tmp_path / name).stat().st_size < 30_000
    plain = torch.load(tmp_path / "pytorch_adapter.bin", weights_only=True)
    assert plain.keys() == tensors.keys()
    assert all(torch.equal(plain[name], tensor) for name, tensor in tensors.items())


@pytest.mark.parametrize("bottleneck", [1, 3, 5, 7, 11, 13, 24, 29, 31, 32, 48])
def test_the_bottleneck_comes_out_of_the_reduction_factor(tmp_path: Path, bottleneck: int) -> None:
    config, tensors = exported(tmp_path, tiny_model(hypernet={"bottleneck": bottleneck}))
    assert int(HIDDEN // config["config"]["reduction_factor"]) == bottleneck
    shapes = {tensor.shape for name, tensor in tensors.items() if "down.0.weight" in name}
    assert shapes == {(bottleneck, HIDDEN)}


@pytest.mark.parametrize(
    ("changes", "fields"),
    [
        ({}, {"ln_before": False, "ln_after": True, "leave_out": [], "original_ln_after": True}),
        ({"post_norm": "none"}, {"ln_after": False}),
        ({"pre_norm": "generated"}, {"ln_before": True, "ln_after": True}),
        ({"top_layers": 1}, {"leave_out": [0]}),
        ({"skip_last_layer": True}, {"leave_out": [1]}),
        ({"insertion": "layer"}, {"original_ln_before": True, "original_ln_after": False}),
        ({"activation": "gelu_new"}, {"non_linearity": "gelu_new"}),
        ({"activation": "leaky_relu"}, {"non_linearity": "leakyrelu"}),
        ({"norm_eps": 0.5, "post_norm": "none"}, {"ln_after": False}),
    ],
)
def test_variants_are_fields_of_the_configuration(
    tmp_path: Path, changes: dict[str, Any], fields: dict[str, Any]
) -> None:
    config, tensors = exported(tmp_path, tiny_model(hypernet=changes))
    assert {name: config["config"][name] for name in fields} == fields
    layers = {name.split(".")[3] for name in tensors}
    assert layers == {"0", "1"} - set(map(str, config["config"]["leave_out"]))


def test_a_norm_before_the_adapter_has_both_of_its_names(tmp_path: Path) -> None:
    _, tensors = exported(tmp_path, tiny_model(hypernet={"pre_norm": "ordinary"}))
    path = "bert.encoder.layer.0.output.adapters.ner-isl"
    for kind in ("weight", "bias"):
        norm = tensors[f"{path}.adapter_norm_before.{kind}"]
        assert torch.equal(tensors[f"{path}.adapter_down.0.{kind}"], norm)
    assert tensors[f"{path}.adapter_down.1.weight"].shape == (4, HIDDEN)


@pytest.mark.parametrize(("task", "labels"), [("ner", NER.labels), ("topic", TOPIC.labels)])
def test_a_linear_head_is_a_tagging_head(
    tmp_path: Path, task: str, labels: tuple[str, ...]
) -> None:
    model = tiny_model(head_dropout=0.25)
    export(model, "adapters", tmp_path, task, "isl")
    assert {path.name for path in tmp_path.iterdir()} == ADAPTER | LIBRARY_HEAD
    config = json.loads((tmp_path / "head_config.json").read_text(encoding="utf-8"))
    assert config["model_class"] == "BertAdapterModel"
    assert config["name"] == f"{task}-isl"
    assert config["config"] == {
        "head_type": "tagging",
        "layers": 1,
        "activation_function": None,
        "dropout_prob": 0.25,
        "num_labels": len(labels),
        "label2id": {label: number for number, label in enumerate(labels)},
    }
    head = load_file(tmp_path / "model_head.safetensors")
    state = model.head(task).state_dict()
    assert head.keys() == {f"heads.{task}-isl.1.{kind}" for kind in ("weight", "bias")}
    assert torch.equal(head[f"heads.{task}-isl.1.weight"], state["linear.weight"])


def test_a_parser_without_perceptrons_is_a_parsing_head(tmp_path: Path) -> None:
    model = tiny_model(tasks=TASKS, parser="direct")
    export(model, "adapters", tmp_path, "dep", "isl")
    config = json.loads((tmp_path / "head_config.json").read_text(encoding="utf-8"))
    assert config["config"]["head_type"] == "dependency_parsing"
    head, state = load_file(tmp_path / "model_head.safetensors"), model.head("dep").state_dict()
    assert torch.equal(head["heads.dep-isl.biaffine_arcs.weight"], state["arcs.weight"])
    assert torch.equal(head["heads.dep-isl.biaffine_rels.weight"], state["relations.weight"])


@pytest.mark.parametrize(
    ("family", "task", "parser"),
    [
        ("bert", "dep", "mlp"),
        ("bert", "mlm", "mlp"),
        ("deberta-v2", "dep", "direct"),
        ("xlm-roberta", "dep", "direct"),  # its padding id, 1, is where the first word starts
        ("modernbert", "ner", "mlp"),
    ],
)
def test_a_head_without_an_equal_lies_beside_the_adapter(
    tmp_path: Path, family: str, task: str, parser: str
) -> None:
    model = tiny_model(family, tasks=TASKS, parser=parser)
    exported = export(model, "adapters", tmp_path, task, "isl")
    assert {path.name for path in tmp_path.iterdir()} == ADAPTER | {HEAD}
    assert HEAD in exported.usage
    state, head = model.head(task).state_dict(), load_file(tmp_path / HEAD)
    assert head.keys() == state.keys()
    assert all(torch.equal(head[name], state[name]) for name in state)


def test_mad_x_is_two_adapters(tmp_path: Path) -> None:
    model = tiny_model(method="mad-x")
    exported = export(model, "adapters", tmp_path, "ner", "tur")
    assert {path.name for path in tmp_path.iterdir()} == {"README.md", "language", "task"}
    assert "Stack" in exported.usage
    stages = model.adapter_weights("ner", "tur").in_sequence(leading=1)
    for folder, name, weights in zip(("language", "task"), ("tur", "ner"), stages, strict=True):
        tensors = load_file(tmp_path / folder / "adapter.safetensors")
        path = f"bert.encoder.layer.1.output.adapters.{name}.adapter_up.weight"
        assert torch.equal(tensors[path], weights[1].up_weight)
    assert (tmp_path / "task" / "head_config.json").is_file()
    assert not (tmp_path / "language" / "head_config.json").exists()


@pytest.mark.parametrize(
    ("family", "settings", "reasons"),
    [
        ("bert", {"method": "finetune"}, ["finetune"]),
        ("bert", {"method": "factorised"}, ["factorised"]),
        ("bert", {"method": "head"}, ["no adapters"]),
        ("bert", {"hypernet": {"adapter": "lora"}}, ["LoRA"]),
        ("bert", {"hypernet": {"norm_eps": 0.5}}, ["epsilon"]),
        ("modernbert", {"hypernet": {"insertion": "layer"}}, ["ModernBERT"]),
        (
            "modernbert",
            {"hypernet": {"insertion": "layer", "norm_eps": 0.5}},
            ["epsilon", "ModernBERT"],
        ),
    ],
)
def test_what_the_library_cannot_compute_is_refused_with_every_reason(
    tmp_path: Path, family: str, settings: dict[str, Any], reasons: list[str]
) -> None:
    messages = refused(tiny_model(family, **settings), tmp_path)
    assert len(messages) == len(reasons)
    assert all(reason in message for reason, message in zip(reasons, messages, strict=True))
