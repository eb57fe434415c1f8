"""Language vectors that do not come from training alone: a base from features of the language.

Features are numbers that are known of any language, as from typology or from text, standardised
over the languages that were trained. Two bases are made from them:

features: v_l = MLP(f_l) + o_l. The MLP is trained with the rest, and o_l is the language's row of
    the table. `language_dropout` drops o_l, so the MLP alone stands for a language without a row.
neighbours: v_l is the language's row of the table. `language_dropout` puts in its place, as for a
    language without a row, the mean of the others' rows, weighted by how similar their features
    are: the softmax of cos(f_l, f_m) / τ over m ≠ l.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .config import HypernetConfig

UNTRAINED = -1
"""The index of a language without a vector of its own."""


class LanguageBase(nn.Module):
    """Makes a vector of any language from its features.

    Args:
        config: sizes and variants.
        languages: how many there are.

    Attributes:
        features: (languages, k), frozen: zeros until they are set. Zero is the mean over the
            languages that were trained, so it stands for what is not known of a language.
        anchors: (languages,), frozen: 1 for those that may stand for their neighbours, 0 for
            those that were added after training.
        mlp: from k to e; None for "neighbours".
    """

    def __init__(self, config: HypernetConfig, languages: int) -> None:
        super().__init__()
        size, inner = config.base_components, config.base_hidden
        self.temperature = config.base_temperature
        self.features = nn.Parameter(torch.zeros(languages, size), requires_grad=False)
        self.anchors = nn.Parameter(torch.ones(languages), requires_grad=False)
        self.mlp: nn.Sequential | None = None
        if config.language_base == "features":
            self.mlp = nn.Sequential(
                nn.Linear(size, inner),
                nn.ReLU(),
                nn.Dropout(config.base_dropout),
                nn.Linear(inner, config.size_of("language")),
            )

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Switch dropout off inside the block."""
        mode = self.training
        self.eval()
        try:
            yield
        finally:
            self.train(mode)

    def forward(self, table: Tensor, features: Tensor, indices: Tensor) -> Tensor:
        """Make the bases of some languages.

        Args:
            table: (languages, e), the rows of all languages.
            features: (C, k), those of the languages meant.
            indices: (C,), their rows, which are not their own neighbours; `UNTRAINED` for none.

        Returns:
            (C, e).
        """
        if self.mlp is not None:
            return self.mlp(features)  # type: ignore[no-any-return]
        # Another thread may add rows for a moment, to one tensor after the other.
        of_rows: Tensor = self.features
        anchors: Tensor = self.anchors
        count = min(map(len, (table, of_rows, anchors)))
        table, of_rows, anchors = table[:count], of_rows[:count], anchors[:count]
        similarity = F.normalize(features, dim=-1) @ F.normalize(of_rows, dim=-1).T
        rows = torch.arange(count, device=indices.device)
        excluded = (rows == indices[:, None]) | (anchors == 0)
        scores = (similarity / self.temperature).masked_fill(excluded, -torch.inf)
        # A language without any neighbour has zero, and not a softmax over nothing.
        weights: Tensor = torch.nan_to_num(scores.softmax(dim=-1))
        return weights @ table

    def vectors(self, table: Tensor, indices: Tensor, dropped: Tensor) -> Tensor:
        """Make the vectors of some languages.

        Args:
            table: (languages, e), the rows of all languages.
            indices: (C,); `UNTRAINED` for languages of which nothing is known.
            dropped: (C,), boolean: those that the base alone stands for.

        Returns:
            (C, e).
        """
        place = indices.clamp(min=0)
        unknown = (indices == UNTRAINED)[:, None]
        rows = table[place]
        base: Tensor = self(table, self.features[place].masked_fill(unknown, 0.0), indices)
        if self.mlp is None:
            return torch.where(dropped[:, None], base, rows)
        return base + rows.masked_fill(dropped[:, None], 0.0)
