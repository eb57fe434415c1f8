"""Language and task adapters that are trained directly and stacked on each other."""

from __future__ import annotations

from torch import Tensor, nn

from .adapter import AdapterWeights
from .config import HypernetConfig
from .hypernet import OrdinaryAdapters
from .source import UNTRAINED


class StackedAdapters(nn.Module):
    """An adapter for each language, and on it one for each task (MAD-X: Pfeiffer et al. 2020).

    A layer computes T(L(z)), each adapter with a residual connection of its own. Where a language
    or a task has none, the other acts alone. There are no invertible adapters at the embeddings.

    Args:
        config: sizes and variants; what concerns the source embedding is not used.
        hidden, layers: as for `Hypernet`.
        tasks, languages: how many adapters there are of each.
    """

    def __init__(
        self, config: HypernetConfig, *, hidden: int, layers: int, tasks: int, languages: int
    ) -> None:
        super().__init__()
        sizes = {"hidden": hidden, "layers": layers}
        self.languages = OrdinaryAdapters(config, **sizes, tasks=languages)
        self.tasks = OrdinaryAdapters(config, **sizes, tasks=tasks)

    def forward(self, tasks: Tensor, languages: Tensor) -> AdapterWeights:
        """Select the weights of C cells.

        Args:
            tasks, languages: (C,), indices; `UNTRAINED` where there is no adapter.

        Returns:
            Adapter weights with leading dimensions (C, L, 2): of the language, then of the task.
        """
        below, above = _select(self.languages, languages), _select(self.tasks, tasks)
        return AdapterWeights.stack([below, above], dim=2)


def _select(adapters: OrdinaryAdapters, index: Tensor) -> AdapterWeights:
    """Select rows, leading dimensions (C, L); `UNTRAINED` gives zeros, which add nothing."""
    rows = adapters(index.clamp(min=0), index)
    absent = index == UNTRAINED
    masks = {name: absent.view(-1, *(1,) * (t.dim() - 1)) for name, t in rows.items()}
    return AdapterWeights(**{name: t.masked_fill(masks[name], 0.0) for name, t in rows.items()})
