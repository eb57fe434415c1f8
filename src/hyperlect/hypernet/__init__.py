"""The heart: source embedding, generator, adapter. Pure PyTorch; imports nothing of the rest."""

from .adapter import AdapterWeights, adapt
from .config import HypernetConfig
from .grouped import Grouping, adapt_grouped
from .hypernet import Hypernet, OrdinaryAdapters
from .source import UNTRAINED
from .stacked import StackedAdapters

__all__ = [
    "UNTRAINED",
    "AdapterWeights",
    "Grouping",
    "Hypernet",
    "HypernetConfig",
    "OrdinaryAdapters",
    "StackedAdapters",
    "adapt",
    "adapt_grouped",
]
