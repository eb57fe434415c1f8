"""The adapter: a small network that is handed its weights. It is a bottleneck, or LoRA.

The weights of many cells and all layers travel together as :class:`AdapterWeights`. :func:`adapt`
applies one layer of one cell. :func:`adapt_rows` does the same for a batch whose rows belong to
many cells, with one matrix product for each weight. For LoRA these are :func:`low_rank` and
:func:`low_rank_rows`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F


class AdapterWeights:
    """Adapter weights with any leading dimensions: (cells, layers, …), (layers, …) or none.

    Where adapters are stacked on each other, one more leading dimension, the last, holds them in
    the order in which they act. LoRA has for each target, say "query", `query_a` (r, in) and
    `query_b` (out, r), and nothing else. Bottleneck adapters have, with hidden size h and
    bottleneck b:

    Args:
        tensors: every weight by its name; None for one that the adapter lacks.

    Attributes:
        down_weight: (b, h). down_bias: (b).
        up_weight: (h, b). up_bias: (h).
        after_weight, after_bias: (h), scale γ and shift β of the LayerNorm after the
            up-projection; None where there is none.
        before_weight, before_bias: (h), the same for a LayerNorm before the adapter.
    """

    down_weight: Tensor
    down_bias: Tensor
    up_weight: Tensor
    up_bias: Tensor
    after_weight: Tensor | None = None
    after_bias: Tensor | None = None
    before_weight: Tensor | None = None
    before_bias: Tensor | None = None

    def __init__(self, **tensors: Tensor | None) -> None:
        vars(self).update({name: tensor for name, tensor in tensors.items() if tensor is not None})

    def items(self) -> Iterator[tuple[str, Tensor]]:
        """Yield the name and tensor of every weight that the adapter has."""
        yield from vars(self).items()

    def apply(self, function: Callable[[Tensor], Tensor]) -> AdapterWeights:
        """Apply a function to every tensor."""
        return AdapterWeights(**{name: function(tensor) for name, tensor in self.items()})

    def __getitem__(self, index: int | slice | Tensor) -> AdapterWeights:
        """Index the first leading dimension of every tensor."""
        return self.apply(lambda tensor: tensor[index])

    def unbind(self, dim: int = 0) -> list[AdapterWeights]:
        """Split along one leading dimension."""
        columns = {name: tensor.unbind(dim) for name, tensor in self.items()}
        return [
            AdapterWeights(**dict(zip(columns, tensors, strict=True)))
            for tensors in zip(*columns.values(), strict=True)
        ]

    @classmethod
    def stack(cls, several: Sequence[AdapterWeights], dim: int = 0) -> AdapterWeights:
        """Join several of the same shapes along a new leading dimension at `dim`."""
        names = [name for name, _ in several[0].items()]
        return cls(**{n: torch.stack([getattr(one, n) for one in several], dim) for n in names})

    def in_sequence(self, leading: int = 0) -> list[AdapterWeights]:
        """Return the adapters that act one after another; usually one, itself.

        Args:
            leading: the number of leading dimensions besides that of stacked adapters.
        """
        is_stacked = max(tensor.dim() for _, tensor in self.items()) > leading + 2
        return self.unbind(leading) if is_stacked else [self]

    @property
    def nbytes(self) -> int:
        """The memory of all tensors in bytes."""
        return sum(tensor.nbytes for _, tensor in self.items())


class LayerStacks:
    """The weights of several cells layer by layer, (C, …) each, put together when they are read.

    All layers together would take the memory of the weights once more.

    Args:
        cells: the weights of each cell, leading dimension (layers,); None for one that `write`
            writes.
        write: writes the weights of these cells for one layer, (their number, …).
    """

    def __init__(
        self,
        cells: Sequence[AdapterWeights | None],
        write: Callable[[int], AdapterWeights] | None = None,
    ) -> None:
        self._cells = [None if weights is None else weights.unbind() for weights in cells]
        self._write = write
        self._last: tuple[int, AdapterWeights] | None = None  # each target of LoRA reads it

    def __getitem__(self, layer: int) -> AdapterWeights:
        if self._last is None or self._last[0] != layer:
            self._last = layer, self._of_layer(layer)
        return self._last[1]

    def _of_layer(self, layer: int) -> AdapterWeights:
        written = self._write(layer) if self._write else None
        if written and not any(self._cells):
            return written
        rest = iter(written.unbind() if written else ())
        return AdapterWeights.stack(
            [layers[layer] if layers else next(rest) for layers in self._cells]
        )


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "gelu": F.gelu,
    "gelu_new": lambda x: F.gelu(x, approximate="tanh"),
    "silu": F.silu,
    "leaky_relu": F.leaky_relu,
    "tanh": torch.tanh,
}


def adapt(z: Tensor, weights: AdapterWeights, activation: str, eps: float) -> Tensor:
    """Apply one layer's adapter of one cell.

    A(z) = z + LN_{γ,β}(U f(D LN'(z) + d) + u), the LayerNorms where there are weights for them
    (Üstün et al. 2022, section 2; the released code computes the same).

    Args:
        z: (…, h), the activations at the insertion point.
        weights: of one layer of one cell, without leading dimensions; or of stacked adapters,
            each of which reads the output of the one before.
        activation: the non-linearity f, one of `ACTIVATIONS`.
        eps: epsilon of both LayerNorms.

    Returns:
        The adapted activations, (…, h).
    """
    for single in weights.in_sequence():
        inner = _norm(z, single.before_weight, single.before_bias, eps)
        inner = F.linear(inner, single.down_weight, single.down_bias)
        inner = F.linear(ACTIVATIONS[activation](inner), single.up_weight, single.up_bias)
        z = z + _norm(inner, single.after_weight, single.after_bias, eps)
    return z


def _norm(x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float) -> Tensor:
    if weight is None or bias is None:
        return x
    # On a CPU the weights must be at least as precise as the input.
    dtype = torch.promote_types(x.dtype, weight.dtype)
    return F.layer_norm(x, x.shape[-1:], weight.to(dtype), bias.to(dtype), eps)


@dataclass(frozen=True)
class RowGroups:
    """The rows of a batch in groups of one size, each of a single cell.

    A cell with more rows than the average has several groups, so that one large cell beside many
    small ones causes no padding to its size. Padding is at most as large as the batch.

    Attributes:
        rows: (G, n), int64, the gather index of each group's rows; a group with fewer is padded
            with row 0, whose result there is not used.
        owners: (G,), int64, the cell of each group; None where group i is cell i.
        back: (B,), int64, the gather index that undoes `rows`; None where `rows` holds every row
            once and in order, so that nothing need move.
    """

    rows: Tensor
    owners: Tensor | None
    back: Tensor | None

    @classmethod
    def of(cls, cells: Sequence[int], device: torch.device | str = "cpu") -> RowGroups:
        """Group a batch by cell.

        Args:
            cells: (B,), the cell of each row, numbered 0 … C - 1; every cell has a row.
            device: where the gather indices go.
        """
        by_cell: list[list[int]] = [[] for _ in range(max(cells) + 1)]
        for row, cell in enumerate(cells):
            by_cell[cell].append(row)
        size = -(-len(cells) // len(by_cell))
        groups = [
            (cell, rows[start : start + size])
            for cell, rows in enumerate(by_cell)
            for start in range(0, len(rows), size)
        ]
        gather = torch.tensor([rows + [0] * (size - len(rows)) for _, rows in groups])
        owners = [cell for cell, _ in groups]
        back = [0] * len(cells)
        for number, (_, rows) in enumerate(groups):
            for place, row in enumerate(rows):
                back[row] = number * size + place
        one_each = owners == list(range(len(by_cell)))
        in_order = gather.numel() == len(cells) and back == list(range(len(cells)))
        return cls(
            gather.to(device, non_blocking=True),
            None if one_each else torch.tensor(owners).to(device, non_blocking=True),
            None if in_order else torch.tensor(back).to(device, non_blocking=True),
        )

    def weights(self, of_cells: AdapterWeights) -> AdapterWeights:
        """Select the weights of each group: leading dimension (C,) → (G,)."""
        owners = self.owners
        if owners is None:
            return of_cells
        return of_cells.apply(lambda tensor: tensor.index_select(0, owners))

    def gather(self, x: Tensor) -> Tensor:
        """Gather the rows of each group: (B, T, i) → (G, n T, i)."""
        moved = x if self.back is None else x.index_select(0, self.rows.flatten())
        return moved.reshape(self.rows.shape[0], -1, x.shape[2])

    def put_back(self, x: Tensor, length: int) -> Tensor:
        """Undo `gather`: (G, n T, o) → (B, T, o), T being `length`."""
        moved = x.view(-1, length, x.shape[2])
        return moved if self.back is None else moved.index_select(0, self.back)


def adapt_rows(
    z: Tensor, weights: AdapterWeights, groups: RowGroups, activation: str, eps: float
) -> Tensor:
    """Apply one layer's adapters of several cells; equal to `adapt` on each row with its cell's.

    A loop over the cells was measured to be two to six times slower from four cells a batch on. A
    copy of the weights for every row is slower still, since the weights are larger than the rows.

    Args:
        z: (B, T, h), the activations at the insertion point.
        weights: of one layer, leading dimension (C,), or (C, n) where n adapters are stacked.
        groups: which rows belong to which cell.
        activation, eps: as for `adapt`.

    Returns:
        The adapted activations, (B, T, h).
    """
    for single in groups.weights(weights).in_sequence(leading=1):
        inner = _group_norm(groups.gather(z), single.before_weight, single.before_bias, eps)
        inner = _affine(inner, single.down_weight, single.down_bias)
        inner = _affine(ACTIVATIONS[activation](inner), single.up_weight, single.up_bias)
        inner = _group_norm(inner, single.after_weight, single.after_bias, eps)
        z = z + groups.put_back(inner, z.shape[1])
    return z


def _affine(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """(G, N, i), (G, o, i), (G, o) → (G, N, o)."""
    return torch.baddbmm(bias[:, None], x, weight.transpose(1, 2))


def _group_norm(x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float) -> Tensor:
    if weight is None or bias is None:
        return x
    return torch.addcmul(bias[:, None], F.layer_norm(x, x.shape[-1:], eps=eps), weight[:, None])


def low_rank(
    x: Tensor, weights: AdapterWeights, target: str, scale: float, leading: int = 0
) -> Tensor:
    """Return what LoRA adds to a projection of x: s B A x (Hu et al. 2022, section 4.1).

    Args:
        x: (…, in), what the projection reads.
        weights: of one layer of one cell; of stacked adapters, each adds its own.
        target: the projection.
        scale: s.
        leading: the number of leading dimensions of the weights, which x has too.

    Returns:
        (…, out).
    """
    added: list[Tensor] = []
    for single in weights.in_sequence(leading):
        a, b = getattr(single, f"{target}_a"), getattr(single, f"{target}_b")
        added.append(scale * (x @ a.mT) @ b.mT)
    return torch.stack(added).sum(dim=0) if len(added) > 1 else added[0]


def low_rank_rows(
    x: Tensor, weights: AdapterWeights, target: str, groups: RowGroups, scale: float
) -> Tensor:
    """Return what LoRA of several cells adds; equal to `low_rank` on each row with its cell's.

    Args:
        x: (B, T, in), what the projection reads.
        weights: of one layer, leading dimension (C,), or (C, n) where n adapters are stacked.
        groups: which rows belong to which cell.
        target, scale: as for `low_rank`.

    Returns:
        (B, T, out).
    """
    names = (f"{target}_a", f"{target}_b")
    factors = groups.weights(AdapterWeights(**{name: getattr(weights, name) for name in names}))
    return groups.put_back(low_rank(groups.gather(x), factors, target, scale, 1), x.shape[1])
