from __future__ import annotations

import json
from dataclasses import fields

import pytest

from hyperlect.hypernet import HypernetConfig


def test_defaults_are_the_published_base_model():
    config = HypernetConfig()
    assert config.to_dict() == {
        "bottleneck": 256,
        "projection": 192,
        "embedding": 64,
        "task_embedding": None,
        "language_embedding": None,
        "layer_embedding": None,
        "source_hidden": None,
        "sources": ["task", "language", "layer"],
        "unit_source": False,
        "norm_before": "none",
        "norm_after": "generated",
        "insertion": "feed_forward",
        "activation": "relu",
        "initial_std": 0.02,
        "embedding_std": 1.0,
        "language_std": None,
        "language_dropout": 0.0,
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


def test_survives_json():
    config = HypernetConfig(
        sources=("task",), projection=None, norm_before="ordinary", top_layers=3
    )
    assert HypernetConfig(**json.loads(json.dumps(config.to_dict()))) == config
    assert HypernetConfig.names() == [field.name for field in fields(HypernetConfig)]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"bottleneck": 0}, "bottleneck must be at least 1, not 0"),
        ({"projection": -3}, "projection must be at least 1, not -3"),
        ({"sources": ("task", "task")}, "sources must be distinct names among task, language"),
        ({"sources": ("task", "script")}, "sources must be distinct names"),
        ({"sources": ("layer",)}, "sources must hold task or language"),
        ({"activation": "swish"}, "activation must be one of relu, gelu"),
        ({"norm_before": "learnt"}, "norm_before must be none, ordinary or generated"),
        ({"norm_after": True}, "norm_after must be none, ordinary or generated"),
        ({"start": "zero"}, "start must be published or adapter"),
        ({"language_dropout": 1.0}, "language_dropout must be at least 0 and below 1"),
        ({"language_dropout": -0.1}, "language_dropout must be at least 0 and below 1"),
        ({"initial_std": -1}, "initial_std must be at least 0, not -1"),
        ({"embedding_std": -0.5}, "embedding_std must be at least 0, not -0.5"),
        ({"language_std": -1.0}, "language_std must be at least 0, not -1.0"),
        ({"norm_eps": -1e-5}, "norm_eps must be at least 0, not -1e-05"),
        ({"top_layers": 0}, "top_layers must be at least 1, not 0"),
        ({"top_layers": 1, "skip_last_layer": True}, "skip_last_layer leaves no layer"),
        ({"insertion": "attention"}, "insertion must be feed_forward or layer"),
    ],
)
def test_what_cannot_be_is_refused(changes: dict, said: str):
    with pytest.raises(ValueError, match=said):
        HypernetConfig(**changes)


def test_what_need_not_be_whole_may_be_zero():
    config = HypernetConfig(initial_std=0, embedding_std=0, language_std=0, language_dropout=0)
    assert config.language_std == 0


def test_all_faults_are_told_at_once():
    with pytest.raises(ValueError, match="bottleneck") as error:
        HypernetConfig(bottleneck=0, embedding=0, activation="sine")
    assert "embedding must be" in str(error.value)
    assert "activation must be" in str(error.value)
