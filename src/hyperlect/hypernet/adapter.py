"""The adapter: a small bottleneck network whose weights are given, not owned.

The weights of many cells and all layers travel together as :class:`AdapterWeights`; one layer of
one cell is applied by :func:`adapt`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class AdapterWeights:
    """Adapter weights with any leading dimensions: (cells, layers, …), (layers, …) or none.

    Where adapters are stacked on each other, one more leading dimension, the last, holds them in
    the order in which they act. With hidden size h and bottleneck b, the trailing shapes are:

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

    def items(self) -> Iterator[tuple[str, Tensor]]:
        """Yield the name and tensor of every weight that is there."""
        for field in fields(self):
            tensor = getattr(self, field.name)
            if tensor is not None:
                yield field.name, tensor

    def __getitem__(self, index: int | slice | Tensor) -> AdapterWeights:
        """Index the first leading dimension of every tensor."""
        return AdapterWeights(**{name: tensor[index] for name, tensor in self.items()})

    def unbind(self, dim: int = 0) -> list[AdapterWeights]:
        """Split along one leading dimension, all layers of a cell in one call a tensor."""
        parts = {name: tensor.unbind(dim) for name, tensor in self.items()}
        count = len(parts["down_weight"])
        return [
            AdapterWeights(**{name: tensors[index] for name, tensors in parts.items()})
            for index in range(count)
        ]

    @classmethod
    def stack(cls, parts: Sequence[AdapterWeights], dim: int = 0) -> AdapterWeights:
        """Put several of the same shapes together, with a new leading dimension at `dim`."""
        names = [name for name, _ in parts[0].items()]
        made = {n: torch.stack([getattr(part, n) for part in parts], dim) for n in names}
        return cls(**made)

    def in_turn(self, lead: int = 0) -> list[AdapterWeights]:
        """Return the adapters that act one after another: mostly one, itself.

        Args:
            lead: how many leading dimensions there are besides that of stacked adapters.
        """
        return self.unbind(lead) if self.down_weight.dim() > lead + 2 else [self]

    def apply(self, function: Callable[[Tensor], Tensor]) -> AdapterWeights:
        """Apply a function to every tensor."""
        return AdapterWeights(**{name: function(tensor) for name, tensor in self.items()})

    def detach(self) -> AdapterWeights:
        """Return the same weights cut off from the graph that made them."""
        return self.apply(Tensor.detach)

    @property
    def nbytes(self) -> int:
        """The memory of all tensors in bytes."""
        return sum(tensor.nbytes for _, tensor in self.items())


def activate(name: str, x: Tensor) -> Tensor:
    """Apply the non-linearity called `name` (one of `config.ACTIVATIONS`)."""
    functions: dict[str, Callable[[Tensor], Tensor]] = {
        "relu": F.relu,
        "gelu": F.gelu,
        "gelu_new": lambda x: F.gelu(x, approximate="tanh"),
        "silu": F.silu,
        "leaky_relu": F.leaky_relu,
        "tanh": torch.tanh,
    }
    return functions[name](x)


def adapt(z: Tensor, weights: AdapterWeights, activation: str, eps: float) -> Tensor:
    """Apply one layer's adapter of one cell.

    A(z) = z + LN_{γ,β}(U f(D LN'(z) + d) + u), the LayerNorms where there are weights for them
    (Üstün et al. 2022, section 2; the released code computes the same).

    Args:
        z: (…, h), the activations at the insertion point.
        weights: of one layer of one cell, without leading dimensions; or of adapters that are
            stacked, each of which takes what the one before gives.
        activation: the non-linearity f.
        eps: epsilon of both LayerNorms.

    Returns:
        The adapted activations, (…, h).
    """
    for single in weights.in_turn():
        z = _adapt(z, single, activation, eps)
    return z


def _adapt(z: Tensor, weights: AdapterWeights, activation: str, eps: float) -> Tensor:
    inner = z
    if weights.before_weight is not None:
        inner = _norm(inner, weights.before_weight, weights.before_bias, eps)
    inner = F.linear(inner, weights.down_weight, weights.down_bias)
    inner = F.linear(activate(activation, inner), weights.up_weight, weights.up_bias)
    if weights.after_weight is not None:
        inner = _norm(inner, weights.after_weight, weights.after_bias, eps)
    return z + inner


def _norm(x: Tensor, weight: Tensor, bias: Tensor | None, eps: float) -> Tensor:
    assert bias is not None
    # On a CPU weights must not be less exact than what is normed; generated ones may be, in bf16.
    dtype = torch.promote_types(x.dtype, weight.dtype)
    return F.layer_norm(x, x.shape[-1:], weight.to(dtype), bias.to(dtype), eps)
