"""Sizes and starting values of the hypernetwork, and the ordinary adapters beside it."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from hyperlect.hypernet import Hypernet, HypernetConfig, OrdinaryAdapters

from . import twin


def count(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def full_size(tasks: int = 2, languages: int = 8, **changes: Any) -> Hypernet:
    with torch.device("meta"):  # shapes only
        return Hypernet(
            HypernetConfig(**changes), hidden=768, layers=12, tasks=tasks, languages=languages
        )


def formula(config: HypernetConfig, h: int, layers: int, tasks: int, languages: int) -> int:
    """The number of parameters, from the sizes of the tables, of W1 and W2, and of the maps."""
    tables = {"task": tasks, "language": languages, "layer": layers}
    total = sum(tables[source] * config.size_of(source) for source in config.sources)
    e = sum(config.size_of(source) for source in config.sources)
    if config.projection is None:
        p = e
    else:
        p, inner = config.projection, config.source_hidden or e
        total += (e + 1) * inner + (inner + 1) * p
    places = (config.norm_before, config.norm_after)
    made = 2 * config.bottleneck * h + config.bottleneck + h + 2 * h * places.count("generated")
    generators = 1 if "layer" in config.sources else layers
    return total + generators * ((p + 1) * made + 2 * h * places.count("ordinary"))


def test_published_sizes():
    assert count(full_size()) == 76_460_288
    assert count(full_size(projection=32)) == 13_105_248


def test_a_task_and_a_language_cost_one_vector_each():
    assert count(full_size(tasks=3)) - count(full_size()) == 64
    assert count(full_size(languages=9)) - count(full_size()) == 64


@pytest.mark.parametrize("variant", twin.VARIANTS)
def test_sizes_of_the_variants(variant: str):
    changes = {key: value for key, value in twin.VARIANTS[variant].items() if key != "insertion"}
    for sizes in ({}, {"bottleneck": 64, "projection": 32, "embedding": 50}):
        config = HypernetConfig(**{**sizes, **changes})
        expected = formula(config, 768, 12, 2, 8)
        assert count(full_size(**{**sizes, **changes})) == expected


def test_one_generator_a_layer_is_twelve_times_the_generator():
    shared = full_size(sources=("task", "layer"))
    own = full_size(sources=("task", "language"))  # as wide a source embedding
    assert count(own.generator) == 12 * count(shared.generator)


def test_starting_values():
    torch.manual_seed(5)
    config = HypernetConfig(bottleneck=32, norm_before="ordinary")
    net = Hypernet(config, hidden=96, layers=12, tasks=20, languages=100)
    checked = 0
    for name, parameter in net.named_parameters():
        if name.startswith("source.embeddings"):
            assert abs(parameter.std() - 1) < 0.1, name
        elif name == "generator.norms.before_weight":
            assert torch.equal(parameter, torch.ones(1, 96))
        elif name.endswith("bias"):
            assert not parameter.any(), name
        else:
            assert abs(parameter.std() - 0.02) < 0.002, name
            assert abs(parameter.mean()) < 0.002, name
            checked += 1
    assert checked == 6 + 2


def test_standard_deviations_are_fields():
    torch.manual_seed(5)
    config = HypernetConfig(bottleneck=32, initial_std=0.5, embedding_std=3.0)
    net = Hypernet(config, hidden=96, layers=12, tasks=20, languages=100)
    assert abs(net.generator.maps["up_weight"].weight.std() - 0.5) < 0.05
    assert abs(net.source.embeddings["language"].std() - 3) < 0.3


def test_languages_may_start_closer_to_each_other_than_the_rest():
    def tables(**changes: Any) -> dict[str, torch.Tensor]:
        torch.manual_seed(5)
        config = HypernetConfig(bottleneck=8, **changes)
        net = Hypernet(config, hidden=16, layers=12, tasks=40, languages=100)
        return dict(net.source.embeddings.items())

    close = tables(language_std=0.1)
    assert abs(close["language"].std() - 0.1) < 0.01
    assert abs(close["task"].std() - 1) < 0.1
    assert not tables(language_std=0.0)["language"].any()
    # Unset, it is that of all embeddings; and nothing else is drawn otherwise.
    plain, same = tables(embedding_std=0.5), tables(embedding_std=0.5, language_std=0.5)
    assert all(torch.equal(plain[name], same[name]) for name in plain)


def test_the_start_follows_from_the_seed():
    def made(seed: int) -> dict[str, torch.Tensor]:
        torch.manual_seed(seed)
        return Hypernet(twin.small(), hidden=4, layers=2, tasks=2, languages=3).state_dict()

    first, again, other = made(1), made(1), made(2)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(
        first["generator.maps.up_weight.weight"], other["generator.maps.up_weight.weight"]
    )


def test_adapters_start_near_the_identity():
    torch.manual_seed(6)
    net = Hypernet(HypernetConfig(bottleneck=16), hidden=48, layers=2, tasks=2, languages=3)
    weights = dict(net(torch.tensor([0]), torch.tensor([1]))[0][1].items())
    z = torch.randn(50, 48)
    change = twin.adapter(z, weights, "relu", 1e-5) - z
    assert 0 < change.abs().max() < 0.2


def started(start: str, **changes: Any) -> Hypernet:
    torch.manual_seed(6)
    config = HypernetConfig(bottleneck=16, start=start, **changes)
    return Hypernet(config, hidden=48, layers=2, tasks=2, languages=3)


def test_a_start_as_an_ordinary_adapter():
    published, net = started("published"), started("adapter", norm_before="generated")
    for name in ("down_weight", "up_weight"):
        bias = net.generator.maps[name].bias
        assert abs(bias.std() - 0.02) < 0.002, name
        assert not published.generator.maps[name].bias.any()
    assert net.generator.maps["after_weight"].bias.eq(0.1).all()
    assert net.generator.maps["before_weight"].bias.eq(1).all()
    for name in ("down_bias", "up_bias", "after_bias", "before_bias"):
        assert not net.generator.maps[name].bias.any(), name
    for affine in net.generator.maps.values():
        assert abs(affine.weight.std() - 0.02) < 0.004  # the source modulates as ever


def test_an_ordinary_adapter_lets_gradients_through_from_the_start():
    """Its change is small, and what reaches the generator is much more than as published."""
    z = torch.randn(50, 48, generator=torch.Generator().manual_seed(1))
    sizes = {}
    for start in ("published", "adapter"):
        net = started(start)
        weights = dict(net(torch.tensor([0]), torch.tensor([1]))[0][1].items())
        change = twin.adapter(z, weights, "relu", 1e-5) - z
        assert 0 < change.abs().max() < 0.6
        change.square().mean().backward()
        sizes[start] = net.generator.maps["up_weight"].weight.grad.norm().item()
    assert sizes["adapter"] > 3 * sizes["published"]


@pytest.mark.parametrize("place", ["none", "ordinary", "generated"])
def test_ordinary_adapters(place: str):
    torch.manual_seed(7)
    config = HypernetConfig(bottleneck=4, norm_before=place)
    adapters = OrdinaryAdapters(config, hidden=6, layers=3, tasks=2)
    made = adapters(torch.tensor([1, 0, 1]), torch.tensor([5, 6, -1]))
    shapes = {name: tuple(tensor.shape) for name, tensor in made.items()}
    norms = ("after", "before") if place != "none" else ("after",)
    vectors = {f"{norm}_{part}": (3, 3, 6) for norm in norms for part in ("weight", "bias")}
    assert shapes == {
        "down_weight": (3, 3, 4, 6),
        "down_bias": (3, 3, 4),
        "up_weight": (3, 3, 6, 4),
        "up_bias": (3, 3, 6),
        **vectors,
    }
    for _, tensor in made.items():
        assert torch.equal(tensor[0], tensor[2])  # one set a task, whatever the language
    assert not torch.equal(made.down_weight[0], made.down_weight[1])
    assert not torch.equal(made.down_weight[0, 0], made.down_weight[0, 1])
    per_layer = 2 * 4 * 6 + 4 + 6 + 2 * 6 * len(norms)
    assert count(adapters) == 2 * 3 * per_layer
    z = torch.randn(5, 6)
    change = twin.adapter(z, dict(made[0][0].items()), "relu", 1e-5) - z
    assert 0 < change.abs().max() < 0.3  # it begins close to the identity
    made.up_bias.sum().backward()
    assert adapters.weights["up_bias"].grad[0].eq(1).all()  # asked for once
    assert adapters.weights["up_bias"].grad[1].eq(2).all()  # asked for twice
