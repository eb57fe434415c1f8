"""Adapters of many cells in one batch: what `adapt` gives for each row alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from hyperlect.hypernet import AdapterWeights, Grouping, adapt, adapt_grouped
from hyperlect.hypernet.config import ACTIVATIONS

from . import twin

HIDDEN, BOTTLENECK, EPS = 5, 3, 1e-5
CLOSE = {"rtol": 1e-10, "atol": 1e-10}
NORMS: dict[str, tuple[str, ...]] = {
    "none": (), "after": twin.NORMS[:2], "before": twin.NORMS[2:], "both": twin.NORMS,
}  # fmt: skip
# The cell of every row.
BATCHES = {
    "one of each": [0, 1, 2],
    "in order, as many of each": [0, 0, 1, 1, 2, 2],
    "as many of each": [0, 1, 0, 1],
    "uneven": [2, 0, 0, 1, 0, 2, 0],
    "in order and uneven": [0, 0, 0, 1],
    "turned": [2, 1, 0],
    "one cell": [0, 0, 0],
    "one row": [0],
}


def weights(cells: int, norms: str = "after") -> AdapterWeights:
    torch.manual_seed(1)
    shapes: dict[str, Any] = {
        "down_weight": (BOTTLENECK, HIDDEN), "down_bias": (BOTTLENECK,),
        "up_weight": (HIDDEN, BOTTLENECK), "up_bias": (HIDDEN,),
    }  # fmt: skip
    shapes |= dict.fromkeys(NORMS[norms], (HIDDEN,))
    made = {n: torch.randn(cells, *shape, dtype=torch.float64) for n, shape in shapes.items()}
    return AdapterWeights(**{name: tensor.requires_grad_() for name, tensor in made.items()})


def activations(rows: int) -> Tensor:
    torch.manual_seed(2)
    return torch.randn(rows, 4, HIDDEN, dtype=torch.float64).requires_grad_()


def one_by_one(z: Tensor, given: AdapterWeights, cells: list[int], activation: str) -> Tensor:
    rows = [adapt(z[row], given[cell], activation, EPS) for row, cell in enumerate(cells)]
    return torch.stack(rows)


def assert_equal(cells: list[int], norms: str, activation: str) -> None:
    """Forward and all gradients agree."""
    z, given = activations(len(cells)), weights(max(cells) + 1, norms)
    inputs = [z, *(tensor for _, tensor in given.items())]
    found = adapt_grouped(z, given, Grouping.of(cells), activation, EPS)
    expected = one_by_one(z, given, cells, activation)
    torch.testing.assert_close(found, expected, **CLOSE)
    direction = torch.randn_like(expected)
    for mine, plain in zip(
        torch.autograd.grad((found * direction).sum(), inputs),
        torch.autograd.grad((expected * direction).sum(), inputs),
        strict=True,
    ):
        torch.testing.assert_close(mine, plain, **CLOSE)


@pytest.mark.parametrize("norms", NORMS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_it_is_adapt_on_each_row(norms: str, activation: str):
    assert_equal(BATCHES["uneven"], norms, activation)


@pytest.mark.parametrize("batch", BATCHES)
def test_whatever_the_rows_of_each_cell(batch: str):
    assert_equal(BATCHES[batch], "both", "gelu")


def test_groupings_say_where_each_row_is():
    uneven = Grouping.of([1, 0, 0, 1, 0])
    assert uneven.slots.tolist() == [[1, 2, 4], [0, 3, 0]]  # filled up with row 0
    assert uneven.places.tolist() == [3, 0, 1, 4, 2]
    for cells in BATCHES.values():
        found = Grouping.of(cells)
        assert found.slots.flatten()[found.places].tolist() == list(range(len(cells)))


def test_rows_that_lie_together_are_not_moved():
    aligned = [name for name, cells in BATCHES.items() if Grouping.of(cells).aligned]
    assert aligned == ["one of each", "in order, as many of each", "one cell", "one row"]


def test_what_fills_a_group_up_changes_nothing():
    """Row 0 stands in for rows that are not there: it must neither see nor feel them."""
    cells, given = BATCHES["uneven"], weights(3)
    z = activations(len(cells))
    with torch.no_grad():
        z[0] = float("inf")
    found = adapt_grouped(z, given, Grouping.of(cells), "relu", EPS)
    assert found[1:].isfinite().all()


def test_gradients_are_numerically_right():
    cells = [1, 0, 1]
    given, z = weights(2, "both"), activations(3)
    names = [name for name, _ in given.items()]

    def run(z: Tensor, *tensors: Tensor) -> Tensor:
        made = AdapterWeights(**dict(zip(names, tensors, strict=True)))
        return adapt_grouped(z, made, Grouping.of(cells), "tanh", EPS)

    assert torch.autograd.gradcheck(run, (z, *(tensor for _, tensor in given.items())))
