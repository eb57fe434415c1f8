"""The hypernetwork: source embeddings, the generator, its sizes and starting values.

All layers of several cells are generated at once, which is checked against a loop over both.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from hyperlect.hypernet import (
    UNTRAINED,
    AdapterWeights,
    Hypernet,
    HypernetConfig,
    OrdinaryAdapters,
    adapt,
)
from hyperlect.hypernet.generator import SourceEmbedding

from . import twin

HIDDEN, LAYERS = 5, 3
CELLS = [(0, 1), (1, 3), (1, None), (0, 0)]
TASKS = torch.tensor([task for task, _ in CELLS])
LANGUAGES = torch.tensor([UNTRAINED if row is None else row for _, row in CELLS])
PRODUCTS = ("aten.mm", "aten.addmm", "aten.bmm", "aten.baddbmm", "aten.mv", "aten.addmv")


def random_net(layers: int = LAYERS, **changes: Any) -> Hypernet:
    """A small hypernetwork, all of whose parameters are off their starting values."""
    torch.manual_seed(3)
    net = Hypernet(twin.small(**changes), hidden=HIDDEN, layers=layers, tasks=2, languages=6)
    return twin.liven(net.double())


# --- source embeddings


@pytest.mark.parametrize("variant", twin.VARIANTS)
def test_source_embeddings_are_the_formula(variant: str):
    net = random_net(**twin.VARIANTS[variant])
    sources = net.source(TASKS, LANGUAGES)
    assert sources.shape == (len(CELLS), LAYERS, net.config.source_size)
    for index, (task, language) in enumerate(CELLS):
        for layer in range(LAYERS):
            expected = twin.source(net, task, language, layer)
            torch.testing.assert_close(sources[index, layer], expected, rtol=1e-9, atol=1e-10)


def test_the_order_is_task_language_layer():
    net = random_net(projection=None)
    tables = net.source.embeddings
    source = net.source(torch.tensor([1]), torch.tensor([4]))[0, 2]
    expected = torch.cat([tables["task"][1], tables["language"][4], tables["layer"][2]])
    assert torch.equal(source, expected)


def test_an_untrained_language_has_the_mean_vector_and_never_a_random_one():
    net = random_net(projection=None)
    table = net.source.embeddings["language"]
    rows = net.source.language_vectors(torch.tensor([UNTRAINED, 2, UNTRAINED]))
    assert torch.equal(rows[0], table.mean(0))
    assert torch.equal(rows[0], rows[2])
    assert torch.equal(rows[1], table[2])


def test_an_untrained_language_moves_every_vector_equally():
    net = random_net()
    net.source(torch.tensor([0]), torch.tensor([UNTRAINED])).square().sum().backward()
    gradient = net.source.embeddings["language"].grad
    assert gradient.abs().min() > 0
    assert torch.allclose(gradient, gradient[:1].expand_as(gradient))


def test_language_dropout_has_its_rate_in_training():
    net = random_net(projection=None, language_dropout=0.3).train()
    table = net.source.embeddings["language"]
    indices = torch.arange(4000) % len(table)
    torch.manual_seed(3)
    rows = net.source.language_vectors(indices)
    dropped = (rows == 0).all(1)
    assert abs(dropped.double().mean() - 0.3) < 0.03
    assert torch.equal(rows[~dropped], table[indices][~dropped])
    for language in range(len(table)):
        assert 0.2 < dropped[indices == language].double().mean() < 0.4
    torch.manual_seed(3)
    assert torch.equal(net.source.language_vectors(indices), rows)
    assert not torch.equal(net.source.language_vectors(indices), rows)


def test_language_dropout_is_off_in_evaluation():
    net = random_net(language_dropout=0.9).eval()
    indices = torch.arange(6)
    assert torch.equal(net.source.language_vectors(indices), net.source.embeddings["language"])


@pytest.mark.parametrize("training", [False, True])
def test_with_language_dropout_an_untrained_language_is_zero(training: bool):
    """Training has seen zero in place of a language, so the mean would be new to the model."""
    net = random_net(projection=None, language_dropout=0.1).train(training)
    rows = net.source.language_vectors(torch.tensor([UNTRAINED, 2, UNTRAINED]))
    assert not rows[[0, 2]].any()
    source = net.source(torch.tensor([1]), torch.tensor([UNTRAINED]))[0, 2]
    tables = net.source.embeddings
    zeros = torch.zeros_like(tables["language"][0])
    assert torch.equal(source, torch.cat([tables["task"][1], zeros, tables["layer"][2]]))


def test_a_dropped_language_gets_no_gradient():
    net = random_net(language_dropout=0.5).train()
    languages = torch.arange(6)
    torch.manual_seed(1)
    dropped = (net.source.language_vectors(languages) == 0).all(1)
    assert dropped.any()
    assert not dropped.all()
    torch.manual_seed(1)
    net.source(torch.zeros_like(languages), languages).square().sum().backward()
    gradient = net.source.embeddings["language"].grad
    assert torch.equal((gradient == 0).all(1), dropped)


def test_only_the_rows_of_a_cell_get_a_gradient():
    net = random_net()
    net.source(torch.tensor([1]), torch.tensor([4])).square().sum().backward()
    tables = net.source.embeddings
    assert tables["task"].grad.abs().sum(1).nonzero().flatten().tolist() == [1]
    assert tables["language"].grad.abs().sum(1).nonzero().flatten().tolist() == [4]
    assert tables["layer"].grad.abs().sum(1).nonzero().flatten().tolist() == [0, 1, 2]


def test_without_the_layer_as_source_all_layers_share_one_vector():
    sources = random_net(sources=("task", "language")).source(torch.tensor([0]), torch.tensor([1]))
    assert torch.equal(sources, sources[:, :1].expand_as(sources))


def test_a_source_that_is_left_out_has_no_table():
    source = SourceEmbedding(twin.small(sources=("task",), projection=None), 2, 3, 4)
    assert {name: tuple(p.shape) for name, p in source.named_parameters()} == {
        "embeddings.task": (2, 3)
    }


# --- the generator


class CountProducts(TorchDispatchMode):
    """Counts the matrix products that run inside it."""

    def __init__(self) -> None:
        super().__init__()
        self.products: Counter[str] = Counter()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None):
        name = str(function).rpartition(".")[0]
        if name in PRODUCTS:
            self.products[name] += 1
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("variant", twin.VARIANTS)
def test_all_cells_and_layers_at_once_equal_the_loop(variant: str):
    """In outputs and in gradients."""
    net = random_net(**twin.VARIANTS[variant])
    weights = net(TASKS, LANGUAGES)
    torch.manual_seed(4)
    directions = {name: torch.randn_like(tensor) for name, tensor in weights.items()}
    sum((directions[name] * tensor).sum() for name, tensor in weights.items()).backward()
    gradients = {name: p.grad.clone() for name, p in net.named_parameters()}
    net.zero_grad()
    for index, (task, language) in enumerate(CELLS):
        for layer, expected in enumerate(twin.cell(net, task, language, HIDDEN)):
            assert directions.keys() == expected.keys()
            for name, tensor in expected.items():
                batched = getattr(weights, name)[index, layer]
                torch.testing.assert_close(batched, tensor, rtol=1e-9, atol=1e-10, msg=name)
                (directions[name][index, layer] * tensor).sum().backward(retain_graph=True)
    for name, parameter in net.named_parameters():
        torch.testing.assert_close(gradients[name], parameter.grad, rtol=1e-9, atol=1e-10, msg=name)


@pytest.mark.parametrize("variant", ["published", "one generator a layer", "no projection"])
def test_the_number_of_products_does_not_depend_on_layers_and_cells(variant: str):
    def products(layers: int, cells: int) -> Counter[str]:
        net = random_net(layers, **twin.VARIANTS[variant])
        with CountProducts() as counted:
            net(TASKS[:cells], LANGUAGES[:cells])
        return counted.products

    few = products(layers=2, cells=1)
    assert few == products(layers=7, cells=4)
    projections = 0 if variant == "no projection" else 2
    assert few.total() == 6 + projections


def test_shapes_of_generated_weights():
    weights = random_net(pre_norm="ordinary")(TASKS, LANGUAGES)
    shapes = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    leading, b = (len(CELLS), LAYERS), 4
    vector = (*leading, HIDDEN)
    assert shapes == {
        "down_weight": (*leading, b, HIDDEN),
        "down_bias": (*leading, b),
        "up_weight": (*leading, HIDDEN, b),
        "up_bias": vector,
        "after_weight": vector,
        "after_bias": vector,
        "before_weight": vector,
        "before_bias": vector,
    }


def test_a_cell_does_not_depend_on_the_others():
    net = random_net()
    together = net(TASKS, LANGUAGES)
    for index in range(len(CELLS)):
        alone: AdapterWeights = net(TASKS[index : index + 1], LANGUAGES[index : index + 1])
        for name, tensor in alone[0].items():
            torch.testing.assert_close(getattr(together, name)[index], tensor)


def test_without_the_language_as_source_it_changes_nothing():
    net = random_net(sources=("task", "layer"))
    one, other = (net(torch.tensor([1]), torch.tensor([row])) for row in (0, 3))
    for name, tensor in one.items():
        assert torch.equal(tensor, getattr(other, name))


# --- sizes


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
    kinds = (config.pre_norm, config.post_norm)
    adapter = 2 * config.bottleneck * h + config.bottleneck + h + 2 * h * kinds.count("generated")
    generators = 1 if "layer" in config.sources else layers
    bases = tasks * layers * adapter if config.task_base else 0
    return total + bases + generators * ((p + 1) * adapter + 2 * h * kinds.count("ordinary"))


def test_the_published_sizes():
    assert count(full_size()) == 76_460_288
    assert count(full_size(projection=32)) == 13_105_248


def test_a_task_and_a_language_cost_one_vector_each():
    assert count(full_size(tasks=3)) - count(full_size()) == 64
    assert count(full_size(languages=9)) - count(full_size()) == 64


@pytest.mark.parametrize("variant", twin.VARIANTS)
def test_the_sizes_of_every_variant(variant: str):
    changes = {key: value for key, value in twin.VARIANTS[variant].items() if key != "insertion"}
    for sizes in ({}, {"bottleneck": 64, "projection": 32, "embedding": 50}):
        config = HypernetConfig(**{**sizes, **changes})
        expected = formula(config, 768, 12, 2, 8)
        assert count(full_size(**{**sizes, **changes})) == expected


def test_one_generator_for_each_layer_is_twelve_generators():
    shared = full_size(sources=("task", "layer"))
    separate = full_size(sources=("task", "language"))  # as wide a source embedding
    assert count(separate.generator) == 12 * count(shared.generator)


# --- starting values


def test_starting_values():
    torch.manual_seed(5)
    config = HypernetConfig(bottleneck=32, pre_norm="ordinary")
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
    def tables(**changes: Any) -> dict[str, Tensor]:
        torch.manual_seed(5)
        config = HypernetConfig(bottleneck=8, **changes)
        net = Hypernet(config, hidden=16, layers=12, tasks=40, languages=100)
        return dict(net.source.embeddings.items())

    close = tables(language_std=0.1)
    assert abs(close["language"].std() - 0.1) < 0.01
    assert abs(close["task"].std() - 1) < 0.1
    assert not tables(language_std=0.0)["language"].any()
    # Without it, the deviation is that of all embeddings, and the same values are drawn.
    plain, same = tables(embedding_std=0.5), tables(embedding_std=0.5, language_std=0.5)
    assert all(torch.equal(plain[name], same[name]) for name in plain)


def test_the_start_follows_from_the_seed():
    def state(seed: int) -> dict[str, Tensor]:
        torch.manual_seed(seed)
        return Hypernet(twin.small(), hidden=4, layers=2, tasks=2, languages=3).state_dict()

    first, again, other = state(1), state(1), state(2)
    assert all(torch.equal(first[name], again[name]) for name in first)
    weight = "generator.maps.up_weight.weight"
    assert not torch.equal(first[weight], other[weight])


def started(start: str, **changes: Any) -> Hypernet:
    torch.manual_seed(6)
    config = HypernetConfig(bottleneck=16, start=start, **changes)
    return Hypernet(config, hidden=48, layers=2, tasks=2, languages=3)


def first_change(net: Hypernet) -> tuple[Tensor, Tensor]:
    """What the adapter of one layer adds to random activations, and the activations."""
    z = torch.randn(50, 48, generator=torch.Generator().manual_seed(1))
    weights = net(torch.tensor([0]), torch.tensor([1]))[0][1]
    return adapt(z, weights, "relu", 1e-5) - z, z


def test_published_adapters_start_near_the_identity():
    change, _ = first_change(started("published"))
    assert 0 < change.abs().max() < 0.2


@pytest.mark.parametrize("norm", ["generated", "ordinary"])
def test_a_start_as_an_adapter_is_close_to_the_identity(norm: str):
    """With a first scale of 1 it would add as much as comes in."""
    change, z = first_change(started("adapter", post_norm=norm))
    assert 0.01 < change.norm() / z.norm() < 0.2


def test_a_start_as_an_adapter_sets_the_biases():
    published, net = started("published"), started("adapter", pre_norm="generated")
    for name in ("down_weight", "up_weight"):
        bias = net.generator.maps[name].bias
        assert abs(bias.std() - 0.02) < 0.002, name
        assert not published.generator.maps[name].bias.any()
    assert net.generator.maps["after_weight"].bias.eq(0.1).all()
    assert net.generator.maps["before_weight"].bias.eq(1).all()
    for name in ("down_bias", "up_bias", "after_bias", "before_bias"):
        assert not net.generator.maps[name].bias.any(), name
    for affine in net.generator.maps.values():
        assert abs(affine.weight.std() - 0.02) < 0.004  # the source modulates as published


def test_a_base_starts_as_an_adapter_and_what_is_generated_near_zero():
    net = started("published", task_base=True)
    plain = OrdinaryAdapters(net.config, hidden=48, layers=2, tasks=2)
    for name, weight in net.base.weights.items():
        assert weight.shape == plain.weights[name].shape
        assert abs(weight.std() - plain.weights[name].std()) < 0.002, name
        assert not net.generator.maps[name].bias.any()
    change, z = first_change(net)
    assert 0.01 < change.norm() / z.norm() < 0.3


def test_a_step_of_one_task_leaves_the_bases_of_others():
    net = started("published", task_base=True)
    first_change(net)[0].square().mean().backward()
    for weight in net.base.weights.values():
        assert weight.grad[0].any()
        assert not weight.grad[1].any()


def test_a_start_as_an_adapter_passes_larger_gradients():
    sizes = {}
    for start in ("published", "adapter"):
        net = started(start)
        first_change(net)[0].square().mean().backward()
        sizes[start] = net.generator.maps["up_weight"].weight.grad.norm().item()
    assert sizes["adapter"] > 3 * sizes["published"]


# --- coordinates


@pytest.mark.parametrize("variant", twin.VARIANTS)
def test_coordinates_have_the_norms_and_distances_of_the_weights(variant: str):
    net = random_net(**twin.VARIANTS[variant])
    points = net.coordinates(TASKS, LANGUAGES)
    weights = torch.cat([tensor.flatten(2) for _, tensor in net(TASKS, LANGUAGES).items()], dim=2)
    assert points.shape[:2] == (len(CELLS), LAYERS)
    assert points.shape[2] <= net.config.source_size + 2 + (3 if net.config.task_base else 0)
    torch.testing.assert_close(points.norm(dim=2), weights.norm(dim=2))
    for other in range(1, len(CELLS)):
        expected = (weights[0] - weights[other]).norm(dim=1)
        torch.testing.assert_close((points[0] - points[other]).norm(dim=1), expected)


@pytest.mark.parametrize("sources", [("task", "language", "layer"), ("task", "language")])
def test_generated_lora_is_its_affine_maps(sources: tuple[str, ...]):
    net = random_net(adapter="lora", lora_rank=2, lora_targets=("query", "up"), sources=sources)
    weights = net(TASKS, LANGUAGES)
    shapes = {name: tuple(tensor.shape[2:]) for name, tensor in weights.items()}
    pairs = {"query_a": (2, HIDDEN), "query_b": (HIDDEN, 2), "up_a": (2, HIDDEN)}
    assert shapes == {**pairs, "up_b": (HIDDEN, 2)}
    points = net.coordinates(TASKS, LANGUAGES)
    flat = torch.cat([tensor.flatten(2) for _, tensor in weights.items()], dim=2)
    torch.testing.assert_close(points.norm(dim=2), flat.norm(dim=2))
    for number, (task, language) in enumerate(CELLS):
        for layer in range(LAYERS):
            s = twin.source(net, task, language, layer)
            affine = net.generator.maps["up_b"]
            index = layer if len(sources) == 2 else ...
            expected = (affine.weight[index] @ s + affine.bias[index]).view(HIDDEN, 2)
            torch.testing.assert_close(weights.up_b[number, layer], expected)


def test_lora_targets_have_sizes_of_their_own():
    config = HypernetConfig(adapter="lora", lora_rank=2, lora_targets=("value", "up"))
    widths = {"up": (5, 11)}
    for kind in (Hypernet, OrdinaryAdapters):
        sizes = {"hidden": 5, "layers": 2, "tasks": 1, "languages": 1, "widths": widths}
        weights = kind(config, **sizes)(torch.tensor([0]), torch.tensor([0]))
        shapes = {name: tuple(tensor.shape[2:]) for name, tensor in weights.items()}
        ends = {"value_a": (2, 5), "value_b": (5, 2), "up_a": (2, 5), "up_b": (11, 2)}
        assert shapes == ends


def test_lora_starts_at_zero_where_it_starts_as_an_adapter():
    torch.manual_seed(0)
    config = HypernetConfig(adapter="lora", start="adapter")
    sizes = {"hidden": 5, "layers": 2, "tasks": 1, "languages": 1}
    for module in (Hypernet(config, **sizes), OrdinaryAdapters(config, **sizes)):
        weights = module(torch.tensor([0]), torch.tensor([0]))
        for name, tensor in weights.items():
            assert tensor.eq(0).all() == name.endswith("_b")
        weights.value_b.sum().backward()
        assert sum(p.grad.abs().sum() for p in module.parameters() if p.grad is not None) > 0
