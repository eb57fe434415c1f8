"""The methods: Hyper-X, and the baselines that are trained in the same harness.

docs/extending.md shows how a method is added.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace

from torch import nn

from .grid import Cell, Grid
from .hypernet import Hypernet, OrdinaryAdapters, StackedAdapters
from .hypernet.config import HypernetConfig, Source


@dataclass(frozen=True)
class Method:
    """What a method trains.

    Attributes:
        adapters: makes the module that returns adapter weights, with the arguments of `Hypernet`;
            None for a method without adapters.
        unread: what the source embedding of its hypernetwork leaves out; None for nothing.
        chosen_by: where no hypernetwork writes weights, what a cell's own weights (of its adapter
            or its head) depend on. None with a hypernetwork.
        trains_encoder: whether the encoder itself is trained.
    """

    adapters: Callable[..., nn.Module] | None = None
    unread: Source | None = None
    chosen_by: tuple[Source, ...] | None = None
    trains_encoder: bool = False


METHODS: dict[str, Method] = {
    "hyperx": Method(Hypernet),
    "task-hypernet": Method(Hypernet, unread="language"),
    "language-hypernet": Method(Hypernet, unread="task"),
    "adapters": Method(OrdinaryAdapters, chosen_by=("task",)),
    "mad-x": Method(StackedAdapters, chosen_by=("task", "language")),
    "finetune": Method(chosen_by=(), trains_encoder=True),
    "factorised": Method(chosen_by=("task", "language"), trains_encoder=True),
    "head": Method(chosen_by=()),
}
"""The methods by name."""


def as_method(method: str, hypernet: HypernetConfig) -> HypernetConfig:
    """Return the configuration of the hypernetwork as a method has it.

    Raises:
        ValueError: without what the method does not read, nothing is left that tells cells apart.
    """
    unread = METHODS.get(method, Method()).unread
    sources = tuple(source for source in hypernet.sources if source != unread)
    return replace(hypernet, sources=sources, task_base=hypernet.task_base and unread != "task")


def reads(method: str, hypernet: HypernetConfig, source: Source) -> bool:
    """Say whether a cell's adapter weights depend on its task, or on its language.

    With factorised its head does.
    """
    chosen_by = METHODS.get(method, Method()).chosen_by
    if chosen_by is not None:
        return source in chosen_by
    adapted = as_method(method, hypernet)
    return source in adapted.sources or (source == "task" and adapted.task_base)


def own_languages(method: str, grid: Grid) -> list[str]:
    """Return the languages that get a vector of their own; with mad-x, an adapter.

    A language adapter is trained on raw text, so with mad-x these are the languages that have some.
    """
    return sorted(grid.text_languages) if method == "mad-x" else grid.languages


def not_applicable(
    method: str, with_adapter: Collection[str], grid: Grid, cell: Cell
) -> str | None:
    """Say why a method cannot have a score for a cell; None where it can.

    With mad-x a language needs an adapter. Only what was trained without one, labelled data in a
    language that has no raw text, can also be scored without one: as it was trained.

    Args:
        method: its name.
        with_adapter: the languages with an adapter, as `own_languages` gives them.
        grid: what was trained.
        cell: any cell.
    """
    if method != "mad-x" or cell.language in with_adapter or cell in grid.trained:
        return None
    return "its language has no adapter, since training had no raw text in it"
