"""Adapters that are trained directly: one for each task, or a task's on a language's."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from hyperlect.hypernet import (
    UNTRAINED,
    AdapterWeights,
    HypernetConfig,
    OrdinaryAdapters,
    RowGroups,
    StackedAdapters,
    adapt,
    adapt_rows,
)

from . import twin

HIDDEN, LAYERS, EPS = 6, 3, 1e-5
CELLS = [(0, 1), (2, 0), (UNTRAINED, 1), (1, UNTRAINED), (UNTRAINED, UNTRAINED)]
VARIANTS = ("published", "no LayerNorm", "generated LayerNorm before and after", "gelu")
CLOSE = {"rtol": 1e-10, "atol": 1e-10}


@pytest.mark.parametrize("kind", ["none", "ordinary", "generated"])
def test_each_task_has_one_adapter_that_starts_near_the_identity(kind: str):
    torch.manual_seed(7)
    config = HypernetConfig(bottleneck=4, pre_norm=kind)
    adapters = OrdinaryAdapters(config, hidden=HIDDEN, layers=LAYERS, tasks=2)
    selected = adapters(torch.tensor([1, 0, 1]), torch.tensor([5, 6, -1]))
    shapes = {name: tuple(tensor.shape) for name, tensor in selected.items()}
    norms = ("after", "before") if kind != "none" else ("after",)
    vectors = {f"{norm}_{end}": (3, 3, 6) for norm in norms for end in ("weight", "bias")}
    assert shapes == {
        "down_weight": (3, 3, 4, 6),
        "down_bias": (3, 3, 4),
        "up_weight": (3, 3, 6, 4),
        "up_bias": (3, 3, 6),
        **vectors,
    }
    for _, tensor in selected.items():
        assert torch.equal(tensor[0], tensor[2])  # one set for a task, whatever the language
    assert not torch.equal(selected.down_weight[0], selected.down_weight[1])
    assert not torch.equal(selected.down_weight[0, 0], selected.down_weight[0, 1])
    per_layer = 2 * 4 * 6 + 4 + 6 + 2 * 6 * len(norms)
    assert sum(parameter.numel() for parameter in adapters.parameters()) == 2 * 3 * per_layer
    z = torch.randn(5, 6)
    change = twin.adapter(z, dict(selected[0][0].items()), "relu", EPS) - z
    assert 0 < change.abs().max() < 0.3
    selected.up_bias.sum().backward()
    assert adapters.weights["up_bias"].grad[0].eq(1).all()  # selected once
    assert adapters.weights["up_bias"].grad[1].eq(2).all()  # selected twice


def stacked(variant: str = "published") -> StackedAdapters:
    torch.manual_seed(5)
    config = HypernetConfig(bottleneck=4, **twin.VARIANTS[variant])
    adapters = StackedAdapters(config, hidden=HIDDEN, layers=LAYERS, tasks=3, languages=2)
    twin.liven(adapters)
    return adapters.double()


def weights_of(adapters: StackedAdapters, cells: list[tuple[int, int]]) -> AdapterWeights:
    tasks, languages = zip(*cells, strict=True)
    return adapters(torch.tensor(tasks), torch.tensor(languages))


def in_turn(adapters: StackedAdapters, z: Tensor, cell: tuple[int, int], layer: int) -> Tensor:
    """Apply the language's adapter if there is one, then the task's if there is one."""
    for table, row in ((adapters.languages, cell[1]), (adapters.tasks, cell[0])):
        if row != UNTRAINED:
            single = {name: weight[row, layer] for name, weight in table.weights.items()}
            z = twin.adapter(z, single, table.config.activation, EPS)
    return z


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_task_adapter_reads_the_output_of_the_language_adapter(variant: str):
    adapters, z = stacked(variant), torch.randn(4, HIDDEN).double()
    weights, activation = weights_of(adapters, CELLS), adapters.tasks.config.activation
    for number, cell in enumerate(CELLS):
        for layer in range(LAYERS):
            adapted = adapt(z, weights[number][layer], activation, EPS)
            torch.testing.assert_close(adapted, in_turn(adapters, z, cell, layer), **CLOSE)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_batch_of_many_cells_equals_each_row_alone(variant: str):
    adapters = stacked(variant)
    rows = [3, 0, 1, 0, 2, 4, 0, 0, 0, 0]
    z = torch.randn(len(rows), 2, HIDDEN).double().requires_grad_()
    weights, activation = weights_of(adapters, CELLS), adapters.tasks.config.activation
    batched = adapt_rows(z, weights.unbind(1)[1], RowGroups.of(rows), activation, EPS)
    expected = torch.stack([in_turn(adapters, z[i], CELLS[c], 1) for i, c in enumerate(rows)])
    torch.testing.assert_close(batched, expected, **CLOSE)
    inputs, direction = [z, *adapters.parameters()], torch.randn_like(expected)
    for mine, plain in zip(
        torch.autograd.grad((batched * direction).sum(), inputs),
        torch.autograd.grad((expected * direction).sum(), inputs),
        strict=True,
    ):
        torch.testing.assert_close(mine, plain, **CLOSE)


@pytest.mark.parametrize("variant", VARIANTS)
def test_without_any_adapter_nothing_changes(variant: str):
    adapters, z = stacked(variant), torch.randn(4, HIDDEN).double()
    (weights,) = weights_of(adapters, CELLS[-1:]).unbind()
    assert all(not tensor.any() for _, tensor in weights.items())
    assert torch.equal(adapt(z, weights[0], adapters.tasks.config.activation, EPS), z)


def test_the_language_comes_first_and_only_selected_rows_get_gradients():
    adapters = stacked()
    weights = weights_of(adapters, CELLS[:2])
    assert weights.down_weight.shape == (2, LAYERS, 2, 4, HIDDEN)
    assert torch.equal(weights.up_weight[0, :, 0], adapters.languages.weights["up_weight"][1])
    assert torch.equal(weights.up_weight[0, :, 1], adapters.tasks.weights["up_weight"][0])
    weights_of(adapters, CELLS[2:4]).up_bias.sum().backward()
    gradients = [
        table.weights["up_bias"].grad[:, 0, 0].tolist()
        for table in (adapters.languages, adapters.tasks)
    ]
    assert gradients == [[0, 1], [0, 1, 0]]
