"""The methods: Hyper-X, and the baselines that are trained in the same harness."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import Literal, get_args

from .grid import Cell, Grid
from .hypernet.config import HypernetConfig, Source

Method = Literal[
    "hyperx", "task-hypernet", "language-hypernet", "adapters", "mad-x", "finetune", "factorised",
    "head",
]  # fmt: skip
METHODS: tuple[Method, ...] = get_args(Method)

# What the generator of a baseline does not read.
_UNREAD: dict[str, Source] = {"task-hypernet": "language", "language-hypernet": "task"}

# Those that train the encoder itself, and have no adapters.
TUNING: tuple[Method, ...] = ("finetune", "factorised")

# Where no network writes adapters: what a cell's own weights, in adapters or heads, depend on.
_CHOSEN_BY: dict[str, tuple[Source, ...]] = {
    "adapters": ("task",),
    "mad-x": ("task", "language"),
    "finetune": (),
    "factorised": ("task", "language"),
    "head": (),
}


def as_method(method: str, hypernet: HypernetConfig) -> HypernetConfig:
    """Return the configuration of the hypernetwork as a method has it.

    Raises:
        ValueError: without what the method does not read, nothing is left that tells cells apart.
    """
    sources = tuple(source for source in hypernet.sources if source != _UNREAD.get(method))
    return replace(hypernet, sources=sources)


def reads(method: str, hypernet: HypernetConfig, source: Source) -> bool:
    """Say whether a cell's adapter weights depend on its task, or on its language.

    With factorised it is its head that does.
    """
    if method in _CHOSEN_BY:
        return source in _CHOSEN_BY[method]
    return source in as_method(method, hypernet).sources


def own_languages(method: str, grid: Grid) -> list[str]:
    """Return the languages that get a vector of their own; with mad-x, an adapter.

    A language adapter is trained on raw text, so with mad-x these are the languages that have some.
    """
    return sorted(grid.text_languages) if method == "mad-x" else grid.languages


def not_applicable(method: str, own: Collection[str], grid: Grid, cell: Cell) -> str | None:
    """Say why a method cannot have a score for a cell; None where it can.

    With mad-x a language needs an adapter. Only what was trained without one, labelled data in a
    language that has no raw text, can also be scored without one: as it was trained.

    Args:
        method: its name.
        own: the languages with an adapter, as `own_languages` gives them.
        grid: what was trained.
        cell: any cell.
    """
    if method != "mad-x" or cell.language in own or cell in grid.trained:
        return None
    return "its language has no adapter, since training had no raw text in it"
