"""Language vectors with a base made from features."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from hyperlect.hypernet import UNTRAINED, Hypernet, HypernetConfig

from . import twin

FEATURES = torch.tensor([[1.0, 0.0], [0.9, 0.1], [-1.0, 0.2], [0.0, 1.0]])


def make(base: str, **fields: Any) -> Hypernet:
    settings = {"base_components": 2, "base_hidden": 5, "base_dropout": 0.0, **fields}
    config = twin.small(language_base=base, **settings)
    torch.manual_seed(3)
    hypernet = Hypernet(config, hidden=8, layers=2, tasks=2, languages=4)
    twin.liven(hypernet)
    assert hypernet.source.base is not None
    hypernet.source.base.features.data = FEATURES.clone()
    hypernet.source.base.anchors.data = torch.ones(4)
    return hypernet.eval()


def vectors(hypernet: Hypernet, *indices: int) -> Tensor:
    return hypernet.source.language_vectors(torch.tensor(indices))


def test_without_a_base_nothing_is_new() -> None:
    config = twin.small()
    hypernet = Hypernet(config, hidden=8, layers=2, tasks=2, languages=4)
    assert hypernet.source.base is None
    assert not [name for name in hypernet.state_dict() if "base" in name]


def test_the_task_alone_has_no_base() -> None:
    assert not HypernetConfig(language_base="features", sources=("task", "layer")).has_base


def test_features_are_the_base_of_the_row() -> None:
    hypernet = make("features")
    base, table = hypernet.source.base, hypernet.source.embeddings["language"]
    assert base is not None
    assert base.mlp is not None
    expected = base.mlp(FEATURES) + table
    assert torch.allclose(vectors(hypernet, 0, 1, 2, 3), expected)
    average = base.mlp(torch.zeros(1, 2))
    assert torch.allclose(vectors(hypernet, UNTRAINED), average)
    assert torch.allclose(hypernet.source.all_vectors(), expected)


def test_neighbours_stand_for_a_row_that_is_missing() -> None:
    hypernet = make("neighbours", base_temperature=0.5)
    base, table = hypernet.source.base, hypernet.source.embeddings["language"]
    assert base is not None
    assert torch.equal(vectors(hypernet, 0, 1, 2, 3), table)
    assert torch.allclose(vectors(hypernet, UNTRAINED)[0], table.mean(dim=0))
    alone = base(table, FEATURES, torch.arange(4))
    for row in range(4):
        others = [other for other in range(4) if other != row]
        cosines = torch.cosine_similarity(FEATURES[row][None], FEATURES[others])
        expected = (cosines / 0.5).softmax(dim=0) @ table[others]
        assert torch.allclose(alone[row], expected, atol=1e-6)


@pytest.mark.parametrize("base", ["features", "neighbours"])
def test_dropout_leaves_the_base_alone(base: str) -> None:
    hypernet = make(base, language_dropout=0.5).train()
    source = hypernet.source
    table = source.embeddings["language"]
    assert source.base is not None
    alone = source.base(table, FEATURES[[2]], torch.tensor([2]))[0]
    whole = alone + table[2] if base == "features" else table[2]
    torch.manual_seed(1)
    drawn = vectors(hypernet, *[2] * 200)
    dropped = (drawn - alone).abs().amax(dim=1) < 1e-5
    assert 60 < dropped.sum() < 140
    assert torch.allclose(drawn[~dropped], whole.expand(200, -1)[~dropped], atol=1e-5)


def test_neighbours_do_not_see_themselves() -> None:
    hypernet = make("neighbours", language_dropout=0.999).train()
    table = hypernet.source.embeddings["language"]
    torch.manual_seed(1)
    vectors(hypernet, 1).sum().backward()
    assert table.grad is not None
    assert (table.grad[1] == 0).all()
    assert (table.grad[[0, 2, 3]] != 0).all()


def test_only_anchors_are_neighbours() -> None:
    hypernet = make("neighbours")
    base, table = hypernet.source.base, hypernet.source.embeddings["language"]
    assert base is not None
    base.anchors.data = torch.tensor([0.0, 0.0, 1.0, 0.0])
    alone = base(table, FEATURES, torch.arange(4))
    assert torch.allclose(alone[[0, 1, 3]], table[2].expand(3, -1))
    assert (alone[2] == 0).all()  # it has no neighbour


def test_gradients_reach_offset_and_base_but_not_the_features() -> None:
    hypernet = make("features")
    weights = hypernet(torch.tensor([0, 1]), torch.tensor([0, 3]))
    sum(tensor.square().sum() for _, tensor in weights.items()).backward()
    gradients = {name: p.grad for name, p in hypernet.named_parameters()}
    table = gradients["source.embeddings.language"]
    assert table is not None
    assert (table[[0, 3]] != 0).any(dim=1).all()
    assert (table[[1, 2]] == 0).all()
    assert gradients["source.base.features"] is None
    assert gradients["source.base.anchors"] is None
    assert all(gradients[f"source.base.mlp.{i}.weight"] is not None for i in (0, 3))


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"language_base": "family"}, "language_base"),
        ({"base_dropout": 1.0}, "base_dropout"),
        ({"base_temperature": 0.0}, "base_temperature"),
        ({"base_components": 0}, "base_components"),
    ],
)
def test_impossible_settings(fields: dict[str, Any], name: str) -> None:
    with pytest.raises(ValueError, match=name):
        HypernetConfig(**fields)
