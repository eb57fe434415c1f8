"""Adapters of many cells in one batch: one product a weight, however many cells there are.

The plain twin is :func:`adapter.adapt` on the rows of each cell alone. A loop over the cells was
measured to be two to six times slower from four cells a batch on, and a copy of the weights for
every row slower still, since the weights are larger than the rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from .adapter import AdapterWeights, activate


@dataclass(frozen=True)
class Grouping:
    """Which rows of a batch are of which cell.

    Attributes:
        slots: (C, n), int64: the rows of each cell, n the most that any cell has. A cell with
            fewer is filled up with row 0; what is computed there is never read.
        places: (B,), int64: where each row stands in `slots`, counted row by row.
        aligned: whether `slots` holds every row once and in order, so that nothing need move.
    """

    slots: Tensor
    places: Tensor
    aligned: bool

    @classmethod
    def of(cls, cells: Sequence[int], device: torch.device | str = "cpu") -> Grouping:
        """Group a batch by the number of each row's cell; all of 0 … C - 1 must occur."""
        rows: list[list[int]] = [[] for _ in range(max(cells) + 1)]
        for row, cell in enumerate(cells):
            rows[cell].append(row)
        most = max(map(len, rows))
        places = [0] * len(cells)
        for cell, own in enumerate(rows):
            for rank, row in enumerate(own):
                places[row] = cell * most + rank
        slots = torch.tensor([own + [0] * (most - len(own)) for own in rows])
        aligned = len(rows) * most == len(cells) and places == list(range(len(cells)))
        return cls(
            slots.to(device, non_blocking=True),
            torch.tensor(places).to(device, non_blocking=True),
            aligned,
        )


def adapt_grouped(
    z: Tensor, weights: AdapterWeights, grouping: Grouping, activation: str, eps: float
) -> Tensor:
    """Apply one layer's adapters of several cells; equal to `adapt` on each row with its cell's.

    Args:
        z: (B, T, h), the activations at the insertion point.
        weights: of one layer, leading dimension (C,), or (C, n) where n adapters are stacked.
        grouping: which row is of which cell.
        activation, eps: as for `adapt`.

    Returns:
        The adapted activations, (B, T, h).
    """
    for single in weights.in_turn(lead=1):
        z = _adapt_grouped(z, single, grouping, activation, eps)
    return z


def _adapt_grouped(
    z: Tensor, weights: AdapterWeights, grouping: Grouping, activation: str, eps: float
) -> Tensor:
    cells, rows = grouping.slots.shape
    moved = z if grouping.aligned else z.index_select(0, grouping.slots.flatten())
    inner = moved.reshape(cells, rows * z.shape[1], z.shape[2])
    if weights.before_weight is not None:
        inner = _norm(inner, weights.before_weight, weights.before_bias, eps)
    inner = _affine(inner, weights.down_weight, weights.down_bias)
    inner = _affine(activate(activation, inner), weights.up_weight, weights.up_bias)
    if weights.after_weight is not None:
        inner = _norm(inner, weights.after_weight, weights.after_bias, eps)
    inner = inner.view(moved.shape)
    return z + (inner if grouping.aligned else inner.index_select(0, grouping.places))


def _affine(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """(C, N, i), (C, o, i), (C, o) → (C, N, o)."""
    return torch.baddbmm(bias[:, None], x, weight.transpose(1, 2))


def _norm(x: Tensor, weight: Tensor, bias: Tensor | None, eps: float) -> Tensor:
    assert bias is not None
    return torch.addcmul(bias[:, None], F.layer_norm(x, x.shape[-1:], eps=eps), weight[:, None])
