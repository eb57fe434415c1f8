"""Adapter slots: forward hooks at the insertion points of an encoder.

The encoder is neither subclassed nor changed. While no weights are set, the hooks return nothing
and the encoder computes what it always computed, bit for bit.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from ..errors import BackboneError
from ..hypernet import AdapterWeights, Grouping, adapt, adapt_grouped

Filling = tuple[Sequence[AdapterWeights], Grouping | None]

# What the slots hold is each thread's own, so that threads may share a model. It lies here and
# not in the object, since such a store can be neither copied nor pickled.
_own = threading.local()


class AdapterSlots:
    """Hooks one adapter a layer into an encoder, and applies the weights they are filled with.

    Args:
        modules: the insertion point of each layer.
        activation: the adapters' non-linearity.
        eps: epsilon of the adapters' LayerNorms.
    """

    def __init__(self, modules: Sequence[nn.Module], activation: str, eps: float) -> None:
        self.modules = list(modules)
        self.activation = activation
        self.eps = eps
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
        filling = self._filling
        if filling is None:
            return None
        # Some families' layers return a tuple that begins with the hidden states.
        hidden: Tensor = output if isinstance(output, Tensor) else output[0]
        layers, grouping = filling
        if grouping is None:
            hidden = adapt(hidden, layers[layer], self.activation, self.eps)
        else:
            hidden = adapt_grouped(hidden, layers[layer], grouping, self.activation, self.eps)
        return hidden if isinstance(output, Tensor) else (hidden, *output[1:])

    @property
    def _filling(self) -> Filling | None:
        filling: Filling | None = vars(_own).get(str(id(self)))
        return filling

    @contextmanager
    def filled(
        self, layers: Sequence[AdapterWeights] | None, grouping: Grouping | None = None
    ) -> Iterator[None]:
        """Apply weights inside the block, in this thread alone; None for none.

        Args:
            layers: the weights of each layer: of one cell, without leading dimensions, or of
                several cells, leading dimension (C,).
            grouping: which row of the batch is of which of several cells.

        Raises:
            BackboneError: the hooks have been removed, so that nothing would apply the weights.
        """
        if layers is not None and not self._handles:
            raise BackboneError(
                "The adapters were taken out of the encoder (slots.remove()); slots.insert() puts "
                "them in again."
            )
        with self._holding(None if layers is None else (layers, grouping)):
            yield

    @contextmanager
    def _holding(self, filling: Filling | None) -> Iterator[None]:
        name, before = str(id(self)), self._filling
        vars(_own)[name] = filling
        try:
            yield
        finally:
            if before is None:  # or an inner block has removed it
                vars(_own).pop(name, None)
            else:
                vars(_own)[name] = before

    def kept(self) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        """Return contexts for `torch.utils.checkpoint`: its second run sees the first's weights.

        The second run comes in the backward pass, when the slots are empty, or in use otherwise.
        """
        return nullcontext(), self._holding(self._filling)

    def remove(self) -> None:
        """Take the hooks out; the encoder is as it was before."""
        for handle in self._handles:
            handle.remove()
        self._handles = []
