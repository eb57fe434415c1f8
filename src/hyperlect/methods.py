"""The methods: Hyper-X, and the baselines that are trained in the same harness."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal, get_args

from .hypernet.config import HypernetConfig, Source

Method = Literal["hyperx", "task-hypernet", "language-hypernet", "adapters", "head"]
METHODS: tuple[Method, ...] = get_args(Method)

# What the generator of a baseline does not read.
_UNREAD: dict[str, Source] = {"task-hypernet": "language", "language-hypernet": "task"}


def as_method(method: str, hypernet: HypernetConfig) -> HypernetConfig:
    """Return the configuration of the hypernetwork as a method has it.

    Raises:
        ValueError: without what the method does not read, nothing is left that tells cells apart.
    """
    sources = tuple(source for source in hypernet.sources if source != _UNREAD.get(method))
    return replace(hypernet, sources=sources)


def reads(method: str, hypernet: HypernetConfig, source: Source) -> bool:
    """Say whether a cell's adapter weights depend on its task, or on its language."""
    if method in ("adapters", "head"):
        return method == "adapters" and source == "task"
    return source in as_method(method, hypernet).sources
