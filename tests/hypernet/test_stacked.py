"""An adapter of a task on one of a language: the one formula after the other."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from hyperlect.hypernet import (
    UNTRAINED,
    AdapterWeights,
    Grouping,
    HypernetConfig,
    StackedAdapters,
    adapt,
    adapt_grouped,
)

from . import twin

HIDDEN, LAYERS, EPS = 6, 3, 1e-5
CELLS = [(0, 1), (2, 0), (UNTRAINED, 1), (1, UNTRAINED), (UNTRAINED, UNTRAINED)]
VARIANTS = ("published", "no LayerNorm", "generated LayerNorm before and after", "gelu")
CLOSE = {"rtol": 1e-10, "atol": 1e-10}


def stacked(variant: str = "published") -> StackedAdapters:
    torch.manual_seed(5)
    config = HypernetConfig(bottleneck=4, **twin.VARIANTS[variant])
    made = StackedAdapters(config, hidden=HIDDEN, layers=LAYERS, tasks=3, languages=2)
    twin.liven(made)
    return made.double()


def weights(adapters: StackedAdapters, cells: list[tuple[int, int]]) -> AdapterWeights:
    tasks, languages = zip(*cells, strict=True)
    return adapters(torch.tensor(tasks), torch.tensor(languages))


def plainly(adapters: StackedAdapters, z: Tensor, cell: tuple[int, int], layer: int) -> Tensor:
    """The language's adapter if there is one, then the task's if there is one."""
    for table, row in ((adapters.languages, cell[1]), (adapters.tasks, cell[0])):
        if row != UNTRAINED:
            own = {name: weight[row, layer] for name, weight in table.weights.items()}
            z = twin.adapter(z, own, table.config.activation, EPS)
    return z


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_task_adapter_acts_on_what_the_language_adapter_gives(variant: str):
    adapters, z = stacked(variant), torch.randn(4, HIDDEN).double()
    made, activation = weights(adapters, CELLS), adapters.tasks.config.activation
    for number, cell in enumerate(CELLS):
        for layer in range(LAYERS):
            found = adapt(z, made[number][layer], activation, EPS)
            torch.testing.assert_close(found, plainly(adapters, z, cell, layer), **CLOSE)


@pytest.mark.parametrize("variant", VARIANTS)
def test_in_one_batch_as_one_by_one_forward_and_backward(variant: str):
    adapters = stacked(variant)
    rows = [3, 0, 1, 0, 2, 4]
    z = torch.randn(len(rows), 2, HIDDEN).double().requires_grad_()
    made, activation = weights(adapters, CELLS), adapters.tasks.config.activation
    found = adapt_grouped(z, made.unbind(1)[1], Grouping.of(rows), activation, EPS)
    expected = torch.stack([plainly(adapters, z[i], CELLS[c], 1) for i, c in enumerate(rows)])
    torch.testing.assert_close(found, expected, **CLOSE)
    inputs, direction = [z, *adapters.parameters()], torch.randn_like(expected)
    for mine, plain in zip(
        torch.autograd.grad((found * direction).sum(), inputs),
        torch.autograd.grad((expected * direction).sum(), inputs),
        strict=True,
    ):
        torch.testing.assert_close(mine, plain, **CLOSE)


@pytest.mark.parametrize("variant", VARIANTS)
def test_where_there_is_no_adapter_nothing_changes(variant: str):
    adapters, z = stacked(variant), torch.randn(4, HIDDEN).double()
    (made,) = weights(adapters, CELLS[-1:]).unbind()
    assert all(not tensor.any() for _, tensor in made.items())
    assert torch.equal(adapt(z, made[0], adapters.tasks.config.activation, EPS), z)


def test_weights_lie_language_first_and_gradients_reach_only_what_was_asked_for():
    adapters = stacked()
    made = weights(adapters, CELLS[:2])
    assert made.down_weight.shape == (2, LAYERS, 2, 4, HIDDEN)
    assert torch.equal(made.up_weight[0, :, 0], adapters.languages.weights["up_weight"][1])
    assert torch.equal(made.up_weight[0, :, 1], adapters.tasks.weights["up_weight"][0])
    weights(adapters, CELLS[2:4]).up_bias.sum().backward()
    found = [
        t.weights["up_bias"].grad[:, 0, 0].tolist() for t in (adapters.languages, adapters.tasks)
    ]
    assert found == [[0, 1], [0, 1, 0]]
