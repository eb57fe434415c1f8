"""The phases of a training: one, or several in which different parts learn from different cells."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import nn

from ..grid import Cell
from ..model import HyperX
from ..recipe import TrainingSection
from .loader import make_sampler
from .schedule import learning_rate


@dataclass(frozen=True)
class Phase:
    """A stretch of a training.

    Attributes:
        name: what is trained.
        start, end: its first step, counted from 0, and the one after its last.
        rows: encoded training rows of the cells that are drawn.
        shares: fixed shares of its steps by task.
        frozen: the parameters whose names begin with one of these stay as they are.
    """

    name: str
    start: int
    end: int
    rows: Mapping[Cell, Any]
    shares: Mapping[str, float]
    frozen: tuple[str, ...] = ()

    def free(self, parameters: Mapping[str, nn.Parameter]) -> None:
        """Let those parameters have gradients, of the given ones, that are trained here."""
        for name, parameter in parameters.items():
            parameter.requires_grad_(not name.startswith(self.frozen))

    def rate(self, step: int, settings: TrainingSection) -> Callable[[float], float]:
        """Return the rate of a step as a function of the peak.

        Each phase rises, for its part of the warm-up, and falls.
        """
        steps = self.end - self.start
        return partial(
            learning_rate,
            step - self.start,
            warmup=round(settings.warmup * steps / settings.steps),
            steps=steps,
            decay=settings.decay,
        )


def plan(
    model: HyperX,
    rows: Mapping[Cell, Any],
    settings: TrainingSection,
    shares: Mapping[str, float],
) -> list[Phase]:
    """Return the phases in which a model's method trains it.

    All but mad-x have one. mad-x has two that together take the steps of one, and draw each cell as
    often: the language adapters learn on raw text, for that part of the steps which raw text has in
    other methods; then they are frozen, and the tasks' adapters and heads learn on labelled data.
    Where the encoder's LayerNorms are trained, they learn in the first alone: the language adapters
    fit the encoder as it is then, and most languages do not occur in the second.

    Args:
        model: what is trained.
        rows: encoded training rows by cell.
        settings: the recipe's training section.
        shares: fixed shares of the steps by task.
    """
    if model.config.method != "mad-x":
        return [Phase("everything", 0, settings.steps, rows, shares)]
    chances = make_sampler(rows, settings, shares).probabilities
    text_tasks = model.grid.text_tasks
    text = sum(chance for cell, chance in chances.items() if cell.task in text_tasks)
    turn = min(max(round(text * settings.steps), 1), settings.steps - 1)
    reading = [task for task in model.tasks if task in text_tasks]
    labelling = [task for task in model.tasks if task not in text_tasks]
    first = _part(rows, chances, shares, reading)
    second = _part(rows, chances, shares, labelling)
    below = _names("languages", reading)
    return [
        Phase("language adapters", 0, turn, *first, _names("tasks", labelling)),
        Phase("task adapters", turn, settings.steps, *second, ("backbone.", *below)),
    ]


def _names(adapters: str, tasks: Sequence[str]) -> tuple[str, ...]:
    """Return how the names of these adapters' and heads' parameters begin."""
    return f"adapters.{adapters}.", *(f"heads.{task}." for task in tasks)


def phase_of(phases: Sequence[Phase], step: int) -> Phase:
    """Return the phase of a step, counted from 0; after the end, the last."""
    return next((phase for phase in phases if step < phase.end), phases[-1])


def _part(
    rows: Mapping[Cell, Any],
    chances: Mapping[Cell, float],
    shares: Mapping[str, float],
    tasks: Sequence[str],
) -> tuple[dict[Cell, Any], dict[str, float]]:
    """Return the rows of some tasks, and their shares of what these tasks have together."""
    own = {cell: encoded for cell, encoded in rows.items() if cell.task in tasks}
    fixed = {task: share for task, share in shares.items() if task in tasks}
    total = sum(fixed.values()) + sum(chances[cell] for cell in own if cell.task not in fixed)
    return own, {task: share / total for task, share in fixed.items()}
