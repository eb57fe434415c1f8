from __future__ import annotations

import json
from typing import Any

import pytest

from hyperlect.hypernet import RENAMED, HypernetConfig


def test_defaults_are_the_published_base_model():
    config = HypernetConfig()
    assert config.to_dict() == {
        "adapter": "bottleneck",
        "lora_rank": 8,
        "lora_alpha": 16.0,
        "lora_targets": ["query", "value"],
        "bottleneck": 256,
        "projection": 192,
        "embedding": 64,
        "task_embedding": None,
        "language_embedding": None,
        "layer_embedding": None,
        "source_hidden": None,
        "sources": ["task", "language", "layer"],
        "unit_source": False,
        "source_length": 1.0,
        "task_base": False,
        "pre_norm": "none",
        "post_norm": "generated",
        "insertion": "feed_forward",
        "activation": "relu",
        "initial_std": 0.02,
        "embedding_std": 1.0,
        "language_std": None,
        "language_dropout": 0.0,
        "language_base": "none",
        "base_components": 16,
        "base_hidden": 64,
        "base_dropout": 0.1,
        "base_temperature": 0.2,
        "start": "published",
        "top_layers": None,
        "skip_last_layer": False,
        "norm_eps": 1e-5,
    }
    assert config.concatenated == 192
    assert config.source_size == 192


def test_sizes_follow_from_the_sources():
    config = HypernetConfig(projection=None, task_embedding=2, layer_embedding=5)
    assert config.concatenated == config.source_size == 2 + 64 + 5
    pair = HypernetConfig(sources=("task", "layer"), embedding=8, projection=10)
    assert (pair.concatenated, pair.source_size) == (16, 10)


def test_a_configuration_survives_json():
    config = HypernetConfig(sources=("task",), projection=None, pre_norm="ordinary", top_layers=3)
    data = json.loads(json.dumps(config.to_dict()))
    assert HypernetConfig.from_dict(data) == config


def test_lora_may_have_the_sizes_of_bottlenecks_beside_it():
    """So that a recipe becomes one of LoRA by a single key."""
    config = HypernetConfig(adapter="lora", bottleneck=64, lora_targets=["value", "down"])
    assert config.norms == {}
    assert config.lora_scale == 2
    assert HypernetConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_field_names_of_earlier_versions_are_read():
    data = HypernetConfig(pre_norm="ordinary", post_norm="none").to_dict()
    old = {before: data.pop(now) for before, now in RENAMED.items()}
    assert old == {"norm_before": "ordinary", "norm_after": "none"}
    config = HypernetConfig.from_dict(data | old)
    assert (config.pre_norm, config.post_norm) == ("ordinary", "none")


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"bottleneck": 0}, "bottleneck"),
        ({"projection": -3}, "projection"),
        ({"sources": ("task", "task")}, "sources"),
        ({"sources": ("task", "script")}, "sources"),
        ({"sources": ("layer",)}, "sources"),
        ({"activation": "swish"}, "activation"),
        ({"pre_norm": "learnt"}, "pre_norm"),
        ({"post_norm": True}, "post_norm"),
        ({"start": "zero"}, "start"),
        ({"task_base": True, "start": "adapter"}, "task_base"),
        ({"task_base": True, "post_norm": "ordinary"}, "task_base"),
        ({"adapter": "prefix"}, "adapter"),
        ({"lora_rank": 4}, "lora_rank"),  # without adapter: lora
        ({"adapter": "lora", "lora_rank": 0}, "lora_rank"),
        ({"adapter": "lora", "lora_alpha": 0.0}, "lora_alpha"),
        ({"adapter": "lora", "lora_targets": ()}, "lora_targets"),
        ({"adapter": "lora", "lora_targets": ("query", "query")}, "lora_targets"),
        ({"adapter": "lora", "lora_targets": ("keys",)}, "lora_targets"),
        ({"adapter": "lora", "activation": "tanh"}, "activation"),
        ({"adapter": "lora", "post_norm": "none"}, "post_norm"),
        ({"adapter": "lora", "insertion": "layer"}, "insertion"),
        ({"language_dropout": 1.0}, "language_dropout"),
        ({"language_dropout": -0.1}, "language_dropout"),
        ({"initial_std": -1}, "initial_std"),
        ({"embedding_std": -0.5}, "embedding_std"),
        ({"language_std": -1.0}, "language_std"),
        ({"norm_eps": -1e-5}, "norm_eps"),
        ({"top_layers": 0}, "top_layers"),
        ({"top_layers": 1, "skip_last_layer": True}, "skip_last_layer"),
        ({"insertion": "attention"}, "insertion"),
    ],
)
def test_an_impossible_field_is_named(changes: dict[str, Any], field: str):
    with pytest.raises(ValueError, match=f"^{field}"):
        HypernetConfig(**changes)


def test_all_impossible_fields_are_named_at_once():
    with pytest.raises(ValueError, match="bottleneck") as error:
        HypernetConfig(bottleneck=0, embedding=0, activation="sine")
    assert "embedding" in str(error.value)
    assert "activation" in str(error.value)


def test_real_numbers_may_be_zero():
    config = HypernetConfig(initial_std=0, embedding_std=0, language_std=0, language_dropout=0)
    assert config.language_std == 0


@pytest.mark.parametrize(
    ("changes", "adapted"),
    [
        ({}, range(4)),
        ({"top_layers": 1}, range(3, 4)),
        ({"top_layers": 4}, range(4)),
        ({"skip_last_layer": True}, range(3)),
        ({"top_layers": 2, "skip_last_layer": True}, range(2, 3)),
    ],
)
def test_layers_with_adapters_are_counted_from_the_top(changes: dict[str, Any], adapted: range):
    assert HypernetConfig(**changes).layers(4) == adapted


def test_an_encoder_with_too_few_layers_is_refused():
    with pytest.raises(ValueError, match="top_layers must be at most 4"):
        HypernetConfig(top_layers=5).layers(4)
    with pytest.raises(ValueError, match="skip_last_layer"):
        HypernetConfig(skip_last_layer=True).layers(1)
