"""The source embedding: what the generator reads, made from task, language and layer."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .config import HypernetConfig

UNTRAINED = -1
"""The index of a language that has no vector of its own."""


class SourceEmbedding(nn.Module):
    """s = W2 ReLU(W1 [e_t ; e_l ; e_i] + c1) + c2 (Üstün et al. 2022, equation 3), or s / |s|.

    Embeddings start from N(0, 1), linear maps from N(0, 0.02²) with zero biases; both standard
    deviations are fields of the configuration.

    Args:
        config: sizes and variants.
        tasks, languages, layers: how many there are of each.
    """

    def __init__(self, config: HypernetConfig, tasks: int, languages: int, layers: int) -> None:
        super().__init__()
        self.sources = config.sources
        self.language_dropout = config.language_dropout
        self.unit = config.unit_source
        self.layers = layers
        counts = {"task": tasks, "language": languages, "layer": layers}
        self.embeddings = nn.ParameterDict(
            {
                source: torch.empty(counts[source], config.size_of(source))
                for source in config.sources
            }
        )
        self.project: nn.Sequential | None = None
        if config.projection is not None:
            inner = config.source_hidden or config.concatenated
            self.project = nn.Sequential(
                nn.Linear(config.concatenated, inner),
                nn.ReLU(),
                nn.Linear(inner, config.projection),
            )

    def language_vectors(self, indices: Tensor) -> Tensor:
        """Look language vectors up, and drop some of them in training.

        `UNTRAINED` gives the mean of all of them, or zero where training has dropped vectors and
        so has learned what zero stands for.

        Args:
            indices: (C,), integers.

        Returns:
            (C, e).
        """
        table: Tensor = self.embeddings["language"]
        rows = table[indices.clamp(min=0)]
        untrained = indices == UNTRAINED
        if self.language_dropout == 0:
            if bool(untrained.any()):
                rows = torch.where(untrained[:, None], table.mean(dim=0), rows)
            return rows
        dropped = untrained
        if self.training:
            dropped = dropped | (
                torch.rand(indices.shape, device=rows.device) < self.language_dropout
            )
        return rows.masked_fill(dropped[:, None], 0.0)

    def forward(self, tasks: Tensor, languages: Tensor) -> Tensor:
        """Make the source embeddings of some cells for all layers at once.

        Args:
            tasks, languages: (C,), the indices of each cell's task and language.

        Returns:
            (C, L, p). Where the layer is no source, all layers of a cell share one vector.
        """
        cells = len(tasks)
        parts = []
        for source in self.sources:
            if source == "task":
                part = self.embeddings["task"][tasks][:, None]
            elif source == "language":
                part = self.language_vectors(languages)[:, None]
            else:
                part = self.embeddings["layer"][None]
            parts.append(part.expand(cells, self.layers, -1))
        joined = torch.cat(parts, dim=-1)
        made: Tensor = joined if self.project is None else self.project(joined)
        return F.normalize(made, dim=-1) if self.unit else made
