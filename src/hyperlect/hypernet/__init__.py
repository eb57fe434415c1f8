"""The heart: source embedding, generator, adapter. Pure PyTorch; imports nothing of the rest."""

from .adapter import (
    AdapterWeights,
    LayerStacks,
    RowGroups,
    adapt,
    adapt_rows,
    low_rank,
    low_rank_rows,
)
from .config import RENAMED, HypernetConfig
from .generator import UNTRAINED, Hypernet, OrdinaryAdapters, StackedAdapters
