"""The generator makes all layers of several cells at once: checked against a loop over both."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from hyperlect.hypernet import UNTRAINED, AdapterWeights, Hypernet, HypernetConfig, adapt

from . import twin

HIDDEN, LAYERS = 5, 3
CELLS = [(0, 1), (1, 3), (1, None), (0, 0)]
TASKS = torch.tensor([task for task, _ in CELLS])
LANGUAGES = torch.tensor([UNTRAINED if row is None else row for _, row in CELLS])
PRODUCTS = ("aten.mm", "aten.addmm", "aten.bmm", "aten.baddbmm", "aten.mv", "aten.addmv")


def net(layers: int = LAYERS, **changes: Any) -> Hypernet:
    torch.manual_seed(3)
    made = Hypernet(twin.small(**changes), hidden=HIDDEN, layers=layers, tasks=2, languages=4)
    return twin.liven(made.double())


class Counted(TorchDispatchMode):
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
def test_all_cells_and_layers_at_once_are_the_loop(variant: str):
    model = net(**twin.VARIANTS[variant])
    made = model(TASKS, LANGUAGES)
    names = {name for name, _ in made.items()}
    for index, (task, language) in enumerate(CELLS):
        expected = twin.cell(model, task, language, HIDDEN)
        for layer in range(LAYERS):
            assert names == expected[layer].keys()
            for name, tensor in expected[layer].items():
                found = getattr(made, name)[index, layer]
                torch.testing.assert_close(found, tensor, rtol=1e-9, atol=1e-10, msg=name)


@pytest.mark.parametrize("variant", twin.VARIANTS)
def test_gradients_are_those_of_the_loop(variant: str):
    model = net(**twin.VARIANTS[variant])
    made = model(TASKS, LANGUAGES)
    torch.manual_seed(4)
    directions = {name: torch.randn_like(tensor) for name, tensor in made.items()}
    sum((directions[name] * tensor).sum() for name, tensor in made.items()).backward()
    found = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    for index, (task, language) in enumerate(CELLS):
        for layer, weights in enumerate(twin.cell(model, task, language, HIDDEN)):
            for name, tensor in weights.items():
                (directions[name][index, layer] * tensor).sum().backward(retain_graph=True)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(found[name], parameter.grad, rtol=1e-9, atol=1e-10, msg=name)


@pytest.mark.parametrize("variant", ["published", "one generator a layer", "no projection"])
def test_one_product_a_weight_however_many_layers_and_cells(variant: str):
    def products(layers: int, cells: int) -> Counter[str]:
        model = net(layers, **twin.VARIANTS[variant])
        with Counted() as counted:
            model(TASKS[:cells], LANGUAGES[:cells])
        return counted.products

    few = products(layers=2, cells=1)
    assert few == products(layers=7, cells=4)
    projections = 0 if variant == "no projection" else 2
    assert few.total() == 6 + projections


def test_shapes():
    made = net(norm_before="ordinary")(TASKS, LANGUAGES)
    shapes = {name: tuple(tensor.shape) for name, tensor in made.items()}
    lead, b = (len(CELLS), LAYERS), 4
    vector = (*lead, HIDDEN)
    assert shapes == {
        "down_weight": (*lead, b, HIDDEN),
        "down_bias": (*lead, b),
        "up_weight": (*lead, HIDDEN, b),
        "up_bias": vector,
        "after_weight": vector,
        "after_bias": vector,
        "before_weight": vector,
        "before_bias": vector,
    }


def test_a_cell_does_not_depend_on_the_others():
    model = net()
    together = model(TASKS, LANGUAGES)
    for index in range(len(CELLS)):
        alone: AdapterWeights = model(TASKS[index : index + 1], LANGUAGES[index : index + 1])
        for name, tensor in alone[0].items():
            torch.testing.assert_close(getattr(together, name)[index], tensor)


def test_without_the_language_it_changes_nothing():
    model = net(sources=("task", "layer"))
    one, other = (model(torch.tensor([1]), torch.tensor([row])) for row in (0, 3))
    for name, tensor in one.items():
        assert torch.equal(tensor, getattr(other, name))


@pytest.mark.parametrize("norm", ["generated", "ordinary"])
def test_started_as_an_adapter_it_is_close_to_the_identity(norm: str):
    """With a scale of 1 after it, what it adds would be as large as what comes in."""
    torch.manual_seed(3)
    config = HypernetConfig(bottleneck=16, projection=32, start="adapter", norm_after=norm)
    made = Hypernet(config, hidden=32, layers=2, tasks=2, languages=4)
    weights = made(torch.tensor([0]), torch.tensor([1]))[0][0]
    z = torch.randn(50, 32)
    added = (adapt(z, weights, "relu", 1e-5) - z).norm() / z.norm()
    assert 0.01 < added < 0.2
