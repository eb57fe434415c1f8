"""The adapter of one cell, and those of many cells in one batch."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from hyperlect.hypernet import (
    AdapterWeights,
    LayerStacks,
    RowGroups,
    adapt,
    adapt_rows,
    low_rank,
    low_rank_rows,
)
from hyperlect.hypernet.adapter import ACTIVATIONS

from . import twin

HIDDEN, BOTTLENECK, EPS = 5, 3, 1e-5
CLOSE = {"rtol": 1e-10, "atol": 1e-10}
SHAPES: dict[str, tuple[int, ...]] = {
    "down_weight": (BOTTLENECK, HIDDEN), "down_bias": (BOTTLENECK,),
    "up_weight": (HIDDEN, BOTTLENECK), "up_bias": (HIDDEN,),
}  # fmt: skip
NORMS: dict[str, tuple[str, ...]] = {
    "none": (), "after": twin.NORMS[:2], "before": twin.NORMS[2:], "both": twin.NORMS,
}  # fmt: skip
# The cell of every row.
BATCHES = {
    "one of each": [0, 1, 2],
    "in order, equally many of each": [0, 0, 1, 1, 2, 2],
    "equally many of each": [0, 1, 0, 1],
    "uneven": [2, 0, 0, 1, 0, 2, 0],
    "in order and uneven": [0, 0, 0, 1],
    "reversed": [2, 1, 0],
    "one cell": [0, 0, 0],
    "one row": [0],
    "one large cell": [0, 0, 1, 0, 0, 0, 2, 0, 0, 3, 0, 0],
}


def random_weights(norms: str = "after", leading: tuple[int, ...] = ()) -> AdapterWeights:
    torch.manual_seed(1)
    shapes = SHAPES | dict.fromkeys(NORMS[norms], (HIDDEN,))
    tensors = {name: torch.randn(*leading, *shape).double() for name, shape in shapes.items()}
    return AdapterWeights(**{name: tensor.requires_grad_() for name, tensor in tensors.items()})


def activations(rows: int, length: int = 4) -> Tensor:
    torch.manual_seed(2)
    return torch.randn(rows, length, HIDDEN, dtype=torch.float64).requires_grad_()


@pytest.mark.parametrize("norms", NORMS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_the_adapter_is_its_formula(norms: str, activation: str):
    z, weights = activations(2), random_weights(norms)
    expected = twin.adapter(z, dict(weights.items()), activation, EPS)
    torch.testing.assert_close(adapt(z, weights, activation, EPS), expected, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("norms", NORMS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_weights_and_activations_may_differ_in_precision(norms: str, dtype: torch.dtype):
    """A LayerNorm, which autocast leaves in fp32, may come before weights in bf16."""
    z = torch.randn(2, 4, HIDDEN)
    weights = random_weights(norms).apply(lambda tensor: tensor.detach().float())
    expected = adapt(z, weights, "relu", EPS)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = adapt(z.to(dtype), weights.apply(torch.Tensor.bfloat16), "relu", EPS)
    torch.testing.assert_close(rounded.float(), expected, rtol=0.1, atol=0.2)


def test_a_scale_and_shift_of_zero_leave_the_activations_unchanged():
    z, tensors = activations(1), dict(random_weights().items())
    tensors |= {name: torch.zeros(HIDDEN).double() for name in NORMS["after"]}
    assert torch.equal(adapt(z, AdapterWeights(**tensors), "relu", EPS), z)


def test_the_generated_scale_is_not_an_offset_from_one():
    """With γ = 1 and β = 0 the residual is the output of a plain LayerNorm, not twice that."""
    z, tensors = activations(1), dict(random_weights().items())
    tensors |= {"after_weight": torch.ones(HIDDEN).double(), "after_bias": z.new_zeros(HIDDEN)}
    added = adapt(z, AdapterWeights(**tensors), "relu", EPS) - z
    assert added.mean(-1).abs().max() < 1e-9
    assert torch.allclose(added.var(-1, unbiased=False), z.new_ones(1, 4), atol=1e-3)


def test_weights_are_indexed_and_split_together():
    weights = random_weights("both", leading=(2, 3))
    assert [name for name, _ in weights.items()] == [*twin.WEIGHTS, *twin.NORMS]
    for index in (1, -1, slice(0, 1), torch.tensor([1, 0, 1])):
        for name, tensor in weights[index].items():
            assert torch.equal(tensor, getattr(weights, name)[index])
    layers = weights[1].unbind()
    assert len(layers) == 3
    cells = weights.unbind(1)
    for layer in range(3):
        for name, tensor in layers[layer].items():
            assert torch.equal(tensor, getattr(weights, name)[1, layer])
            assert torch.equal(getattr(cells[layer], name), getattr(weights, name)[:, layer])


def test_absent_layer_norms_stay_absent():
    weights = random_weights("none", leading=(2,))
    assert [name for name, _ in weights.items()] == list(twin.WEIGHTS)
    for cell in (weights[0], weights.unbind()[0], AdapterWeights.stack([weights, weights])):
        assert cell.after_weight is None
        assert cell.before_bias is None


def one_by_one(z: Tensor, weights: AdapterWeights, cells: list[int], activation: str) -> Tensor:
    rows = [adapt(z[row], weights[cell], activation, EPS) for row, cell in enumerate(cells)]
    return torch.stack(rows)


def assert_equals_one_by_one(
    cells: list[int], norms: str, activation: str, z: Tensor | None = None
) -> None:
    """Outputs and all gradients agree with those of `adapt` on each row."""
    z = activations(len(cells)) if z is None else z
    weights = random_weights(norms, leading=(max(cells) + 1,))
    inputs = [z, *(tensor for _, tensor in weights.items())]
    batched = adapt_rows(z, weights, RowGroups.of(cells), activation, EPS)
    expected = one_by_one(z, weights, cells, activation)
    torch.testing.assert_close(batched, expected, **CLOSE)
    direction = torch.randn_like(expected)
    for mine, plain in zip(
        torch.autograd.grad((batched * direction).sum(), inputs),
        torch.autograd.grad((expected * direction).sum(), inputs),
        strict=True,
    ):
        torch.testing.assert_close(mine, plain, **CLOSE)


@pytest.mark.parametrize("norms", NORMS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_a_batch_of_many_cells_equals_each_row_alone(norms: str, activation: str):
    assert_equals_one_by_one(BATCHES["uneven"], norms, activation)


@pytest.mark.parametrize("batch", BATCHES)
def test_any_division_of_rows_among_cells_works(batch: str):
    assert_equals_one_by_one(BATCHES[batch], "both", "gelu")


@pytest.mark.parametrize("norms", ["after", "both"])
def test_one_cell_of_many_rows_beside_many_cells_of_one(norms: str):
    order = torch.randperm(400, generator=torch.Generator().manual_seed(3)).tolist()
    cells = [[0] * 300 + list(range(1, 101)), list(range(1, 101)) + [0] * 300]
    cells.append([cells[0][place] for place in order])
    for division in cells:
        assert_equals_one_by_one(division, norms, "relu", activations(400, length=2))


@pytest.mark.parametrize("length", [2, 200])
def test_short_and_long_rows_are_adapted_alike(length: int):
    assert_equals_one_by_one(BATCHES["one large cell"], "after", "relu", activations(12, length))


def test_groups_hold_each_row_once_and_put_it_back():
    uneven = RowGroups.of([1, 0, 0, 1, 0])
    assert uneven.rows.tolist() == [[1, 2, 4], [0, 3, 0]]  # padded with row 0
    assert uneven.owners is None
    assert uneven.back is not None
    assert uneven.back.tolist() == [3, 0, 1, 4, 2]
    skewed = RowGroups.of([0, 0, 0, 0, 0, 1, 2])
    assert skewed.rows.tolist() == [[0, 1, 2], [3, 4, 0], [5, 0, 0], [6, 0, 0]]
    assert skewed.owners is not None
    assert skewed.owners.tolist() == [0, 0, 1, 2]
    for cells in BATCHES.values():
        groups = RowGroups.of(cells)
        if groups.back is not None:
            assert groups.rows.flatten()[groups.back].tolist() == list(range(len(cells)))


def test_rows_in_order_are_not_moved():
    in_order = [name for name, cells in BATCHES.items() if RowGroups.of(cells).back is None]
    assert in_order == ["one of each", "in order, equally many of each", "one cell", "one row"]


@pytest.mark.parametrize("large", [1, 50, 300])
def test_padding_is_at_most_the_size_of_the_batch(large: int):
    cells = [0] * large + list(range(1, 101))
    groups = RowGroups.of(cells)
    assert groups.rows.numel() <= 2 * len(cells) + max(cells)


def test_padding_of_a_group_neither_changes_nor_is_changed():
    """Row 0 stands in for missing rows, and must not affect the rows beside it."""
    cells, weights = BATCHES["uneven"], random_weights(leading=(3,))
    z = activations(len(cells))
    with torch.no_grad():
        z[0] = float("inf")
    adapted = adapt_rows(z, weights, RowGroups.of(cells), "relu", EPS)
    assert adapted[1:].isfinite().all()


@pytest.mark.parametrize("batched", [False, True])
def test_gradients_are_numerically_right(batched: bool):
    cells = [1, 0, 1]
    weights, z = random_weights("both", leading=(2,) if batched else ()), activations(3)
    names = [name for name, _ in weights.items()]

    def run(z: Tensor, *tensors: Any) -> Tensor:
        varied = AdapterWeights(**dict(zip(names, tensors, strict=True)))
        if batched:
            return adapt_rows(z, varied, RowGroups.of(cells), "tanh", EPS)
        return adapt(z, varied, "gelu", EPS)

    assert torch.autograd.gradcheck(run, (z, *(tensor for _, tensor in weights.items())))


def test_layer_stacks_are_the_weights_of_the_cells_layer_by_layer():
    weights = random_weights(leading=(3, 2))
    layers = LayerStacks(weights.unbind())
    for layer in (0, 1, -1):
        for name, tensor in layers[layer].items():
            assert torch.equal(tensor, getattr(weights, name)[:, layer])


def test_layer_stacks_write_the_cells_that_are_not_there():
    weights = random_weights(leading=(3, 2))
    first, *others = weights.unbind()
    written = weights[torch.tensor([0, 2])].unbind(1)
    for layers in (
        LayerStacks([None, others[0], None], written.__getitem__),
        LayerStacks([None] * 3, weights.unbind(1).__getitem__),
        LayerStacks([first, *others]),
    ):
        for layer in (0, 1, 1):
            for name, tensor in layers[layer].items():
                assert torch.equal(tensor, getattr(weights, name)[:, layer])


# --- LoRA


def random_factors(leading: tuple[int, ...] = ()) -> AdapterWeights:
    torch.manual_seed(3)
    shapes = {"query_a": (2, HIDDEN), "query_b": (7, 2), "up_a": (2, 3), "up_b": (4, 2)}
    tensors = {name: torch.randn(*leading, *shape).double() for name, shape in shapes.items()}
    return AdapterWeights(**{name: tensor.requires_grad_() for name, tensor in tensors.items()})


def written_out(x: Tensor, weights: AdapterWeights, cells: list[int]) -> Tensor:
    """The twin: s B A x of each sub-word, those of stacked adapters summed."""
    rows = []
    for row, cell in zip(x, cells, strict=True):
        a, b = weights.query_a[cell], weights.query_b[cell]
        pairs = zip(a, b, strict=True) if a.dim() == 3 else [(a, b)]
        rows.append(sum(3.0 * (row @ (b @ a).T) for a, b in pairs))
    return torch.stack(rows)


@pytest.mark.parametrize("stacked", [(), (2,)])
@pytest.mark.parametrize("batch", BATCHES)
def test_low_rank_of_many_cells_is_the_formula(batch: str, stacked: tuple[int, ...]):
    cells = BATCHES[batch]
    x, weights = activations(len(cells)), random_factors((max(cells) + 1, *stacked))
    expected = written_out(x, weights, cells)
    rows = low_rank_rows(x, weights, "query", RowGroups.of(cells), 3.0)
    torch.testing.assert_close(rows, expected, **CLOSE)
    for row, cell in enumerate(cells):
        alone = low_rank(x[row], weights[cell], "query", 3.0)
        torch.testing.assert_close(alone, expected[row], **CLOSE)


@pytest.mark.parametrize("length", [2, 200])
def test_low_rank_of_one_large_cell_beside_many_small_ones(length: int):
    cells = [0] * 300 + list(range(1, 101))
    x, weights = activations(400, length), random_factors((101,))
    rows = low_rank_rows(x, weights, "query", RowGroups.of(cells), 3.0)
    torch.testing.assert_close(rows, written_out(x, weights, cells), **CLOSE)


def test_gradients_of_low_rank_are_numerically_right():
    weights, x = random_factors((2,)), activations(3)

    def run(x: Tensor, a: Tensor, b: Tensor) -> Tensor:
        varied = AdapterWeights(query_a=a, query_b=b)
        return low_rank_rows(x, varied, "query", RowGroups.of([1, 0, 1]), 0.5)

    assert torch.autograd.gradcheck(run, (x, weights.query_a, weights.query_b))
