"""Adapter slots: forward hooks at the insertion points of an encoder.

The encoder is neither subclassed nor changed. While no weights are set, the hooks return nothing
and the encoder computes what it always computed, bit for bit.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from ..errors import BackboneError
from ..hypernet import AdapterWeights, adapt


class AdapterSlots:
    """Hooks one adapter a layer into an encoder, and holds the weights they apply.

    Args:
        modules: the insertion point of each layer.
        activation: the adapters' non-linearity.
        eps: epsilon of the adapters' LayerNorms.
    """

    def __init__(self, modules: Sequence[nn.Module], activation: str, eps: float) -> None:
        self.modules = list(modules)
        self.activation = activation
        self.eps = eps
        self._weights: list[AdapterWeights] | None = None
        self._handles: list[RemovableHandle] = []
        self.insert()

    def insert(self) -> None:
        """Put the hooks in, if they are not."""
        if not self._handles:
            # A partial of a method, not a closure: a deep copy of the model then has hooks that
            # read the copy's weights, not the original's.
            self._handles = [
                module.register_forward_hook(functools.partial(self._adapted, layer))
                for layer, module in enumerate(self.modules)
            ]

    def _adapted(self, layer: int, _module: nn.Module, _inputs: Any, output: Any) -> Any:
        """The hook of one layer; None leaves the output as it is."""
        if self._weights is None:
            return None
        weights = self._weights[layer]
        if isinstance(output, Tensor):
            return adapt(output, weights, self.activation, self.eps)
        # Some families' layers return a tuple that begins with the hidden states.
        adapted = adapt(output[0], weights, self.activation, self.eps)
        return (adapted, *output[1:])

    @contextmanager
    def filled(self, weights: AdapterWeights | None) -> Iterator[None]:
        """Apply `weights` of one cell, leading dimension (L,), inside the block; None for none.

        Raises:
            BackboneError: the hooks have been removed, so that nothing would apply the weights.
        """
        if weights is not None and not self._handles:
            raise BackboneError(
                "The adapters were taken out of the encoder (slots.remove()); slots.insert() puts "
                "them in again."
            )
        before = self._weights
        self._weights = None if weights is None else weights.unbind()
        try:
            yield
        finally:
            self._weights = before

    def remove(self) -> None:
        """Take the hooks out; the encoder is as it was before."""
        for handle in self._handles:
            handle.remove()
        self._handles = []
