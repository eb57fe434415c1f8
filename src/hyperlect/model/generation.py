"""Adapter weights of cells, generated when they are needed and kept while they hold."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import overload

import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.optim.optimizer import register_optimizer_step_post_hook

from ..hypernet import AdapterWeights

Index = tuple[int, int]
"""The rows of a cell's task and language."""

CACHE_BYTES = 2**28


class Stacked(Sequence[AdapterWeights]):
    """The weights of several cells layer by layer, (C, …) each, put together when they are read.

    Args:
        cells: the weights of each cell, leading dimension (layers,).
    """

    def __init__(self, cells: Sequence[AdapterWeights]) -> None:
        self._length = len(cells[0].down_weight)
        # By weight and cell, the tensors of all layers.
        self._layers = {
            name: [getattr(weights, name).unbind() for weights in cells]
            for name, _ in cells[0].items()
        }

    def __len__(self) -> int:
        return self._length

    @overload
    def __getitem__(self, index: int) -> AdapterWeights: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[AdapterWeights]: ...
    def __getitem__(self, index: int | slice) -> AdapterWeights | Sequence[AdapterWeights]:
        if isinstance(index, slice):
            return [self[layer] for layer in range(len(self))[index]]
        stacked = {
            name: torch.stack([layers[index] for layers in cells])
            for name, cells in self._layers.items()
        }
        return AdapterWeights(**stacked)


class WeightCache:
    """Generated weights of the cells that were used last, while the parameters stay as they are.

    Threads may share it. A copy of a model starts with an empty one.

    Args:
        limit: how many bytes it may hold. What is larger by itself is not kept.
    """

    def __init__(self, limit: int = CACHE_BYTES) -> None:
        self.limit = limit
        self._lock = threading.Lock()
        self._kept: OrderedDict[Index, AdapterWeights] = OrderedDict()
        self._state: object = None
        self._bytes = 0

    def __reduce__(self) -> tuple[type[WeightCache], tuple[int]]:
        return WeightCache, (self.limit,)

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def nbytes(self) -> int:
        """How many bytes it holds."""
        return self._bytes

    def clear(self) -> None:
        """Forget everything. Needed only where parameters were changed behind torch's back."""
        with self._lock:
            self._empty()

    def get(self, adapters: nn.Module, cells: Sequence[Index]) -> list[AdapterWeights]:
        """Return the weights of each cell, leading dimension (layers,); generate what is missing.

        Args:
            adapters: makes the weights of (C,) tasks and languages, leading dimensions (C, L).
            cells: distinct rows of task and language.
        """
        state = _state(adapters)
        with self._lock:
            if state != self._state:
                self._empty()
                self._state = state
            found = {cell: self._kept[cell] for cell in cells if cell in self._kept}
            for cell in found:
                self._kept.move_to_end(cell)
        missing = [cell for cell in cells if cell not in found]
        if missing:
            made = generate(adapters, missing)
            # Copies: a view would keep the weights of all the others in memory.
            parts = [made[i].apply(Tensor.clone) for i in range(len(missing))]
            found |= dict(zip(missing, parts, strict=True))
            self._keep(state, {cell: found[cell] for cell in missing})
        return [found[cell] for cell in cells]

    def _keep(self, state: object, made: dict[Index, AdapterWeights]) -> None:
        with self._lock:
            if state != self._state:  # another thread saw newer parameters meanwhile
                return
            for cell, weights in made.items():
                if cell not in self._kept and weights.nbytes <= self.limit:
                    self._kept[cell] = weights
                    self._bytes += weights.nbytes
            while self._bytes > self.limit:
                _, dropped = self._kept.popitem(last=False)
                self._bytes -= dropped.nbytes

    def _empty(self) -> None:
        self._kept.clear()
        self._bytes = 0


class _Steps:
    """Counts the steps of all optimisers: fused ones change parameters and do not tell torch."""

    def __init__(self) -> None:
        self.taken = 0
        register_optimizer_step_post_hook(self._count)

    def _count(self, *_: object) -> None:
        self.taken += 1


_steps = _Steps()


def _state(adapters: nn.Module) -> object:
    """Say which parameters these are: torch counts the other changes to a tensor in place."""
    parameters = list(adapters.parameters())
    if any(parameter.is_inference() for parameter in parameters):
        return object()  # it does not count theirs, so nothing holds
    device = parameters[0].device.type
    precision = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None
    # References to the storages, not addresses: what is freed may lie there again as another's.
    storages = [StorageWeakRef(p.untyped_storage()) for p in parameters]  # type: ignore[no-untyped-call]
    changes = [(p.data_ptr(), p._version) for p in parameters]
    return _steps.taken, precision, storages, changes


def generate(adapters: nn.Module, cells: Sequence[Index]) -> AdapterWeights:
    """Generate the weights of some cells in one product, leading dimensions (C, L)."""
    device = next(adapters.parameters()).device
    index = torch.tensor(cells).to(device, non_blocking=True)
    weights: AdapterWeights = adapters(index[:, 0], index[:, 1])
    return weights


class SharedWeights:
    """The weights of some cells for several forward and backward passes, generated once.

    The passes see leaves; their gradients go back through the generator in one pass, in `finish`.

    Args:
        adapters, cells: as for `generate`.
    """

    def __init__(self, adapters: nn.Module, cells: Sequence[Index]) -> None:
        self.made = generate(adapters, cells).unbind() if cells else []
        leaves = [part.apply(lambda tensor: tensor.detach().requires_grad_()) for part in self.made]
        self.leaves = dict(zip(cells, leaves, strict=True))

    def finish(self) -> None:
        """Send what has come together in the leaves through the generator."""
        outputs, gradients = [], []
        for made, leaf in zip(self.made, self.leaves.values(), strict=True):
            for (_, output), (_, tensor) in zip(made.items(), leaf.items(), strict=True):
                if tensor.grad is not None:
                    outputs.append(output)
                    gradients.append(tensor.grad)
        if outputs:
            torch.autograd.backward(outputs, gradients)


class Generation:
    """Where a model's adapter weights come from: generated for one pass, for a step, or kept."""

    def __init__(self) -> None:
        self.cache = WeightCache()
        self._shared: dict[int, SharedWeights] = {}  # by thread

    def layers(
        self, adapters: nn.Module, cells: Sequence[Index], keep: bool
    ) -> Sequence[AdapterWeights]:
        """Return the weights of each layer: of one cell without, of more with dimension (C,).

        Args:
            adapters, cells: as for `generate`.
            keep: whether no gradient is wanted, so that weights may come from the cache.
        """
        shared = self._shared.get(threading.get_ident())
        if shared is None and not keep:
            made = generate(adapters, cells)
            return made[0].unbind() if len(cells) == 1 else made.unbind(1)
        if shared is not None:
            parts = [shared.leaves[cell] for cell in cells]
        else:
            parts = self.cache.get(adapters, cells)
        return parts[0].unbind() if len(parts) == 1 else Stacked(parts)

    @contextmanager
    def once(self, adapters: nn.Module, cells: Sequence[Index]) -> Iterator[None]:
        """Generate the weights of these cells once for all passes of this thread in the block."""
        own = threading.get_ident()
        self._shared[own] = shared = SharedWeights(adapters, cells)
        try:
            yield
        finally:
            del self._shared[own]
        shared.finish()
