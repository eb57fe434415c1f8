"""What is trained when, and how fast: phases, learning rates, the optimiser, and seeds.

All of it follows from the number of the step, so a resumed run needs no history.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.distributed.tensor import DTensor

from ..data.corpus import list_lengths
from ..data.sampling import CellSampler, MixedSampler, Sampler
from ..grid import Cell
from ..model import HyperX
from ..recipe import TrainingSection
from ..recipe.schema import Part

# The start of parameters' names; the first match says which parts one belongs to, the narrowest
# first.
_PARTS: dict[str, tuple[Part, ...]] = {
    "adapters.source.embeddings.language": ("languages", "source"),
    "adapters.source.base.": ("base", "source"),
    "adapters.source.": ("source",),
    "adapters.generator.": ("generator",),
    "adapters.": ("adapters",),
    "changes.": ("adapters",),
    "latents.": ("latents", "heads"),
    "heads.": ("heads",),
    "backbone.": ("backbone",),
}


def setting_of(name: str, settings: Mapping[Part, float], default: float) -> float:
    """Return a parameter's peak rate or weight decay: that of the narrowest of its parts with one.

    Args:
        name: of the parameter in the model.
        settings: by part.
        default: of parameters whose parts have none.
    """
    parts = next(parts for prefix, parts in _PARTS.items() if name.startswith(prefix))
    return next((settings[part] for part in parts if part in settings), default)


def make_optimizer(
    parameters: Mapping[str, nn.Parameter], settings: TrainingSection, device: str
) -> torch.optim.AdamW:
    """Make AdamW over parameters by name, with a group for each peak rate and weight decay.

    Shares of divided parameters have groups of their own: one operation cannot take both kinds.

    Args:
        parameters: by their names in the model.
        settings: with the peak rates and the weight decays.
        device: the type of their device.
    """
    groups: dict[tuple[float, float, bool], list[nn.Parameter]] = {}
    for name, parameter in parameters.items():
        peak = setting_of(name, settings.learning_rates, settings.learning_rate)
        decay = setting_of(name, settings.weight_decays, settings.weight_decay)
        groups.setdefault((peak, decay, isinstance(parameter, DTensor)), []).append(parameter)
    options = [
        {"params": group, "peak": peak, "weight_decay": decay}
        for (peak, decay, _), group in groups.items()
    ]
    fused = device in ("cpu", "cuda")
    return torch.optim.AdamW(options, lr=settings.learning_rate, fused=fused)


def learning_rate(step: int, peak: float, *, warmup: int, steps: int, decay: str) -> float:
    """Return the rate of one step, counted from 0.

    It rises linearly over `warmup` steps to `peak`, then falls linearly to zero at `steps`
    ("linear", which the released code calls polynomial), or stays ("constant").
    """
    if step < warmup:
        return peak * (step + 1) / warmup
    if decay == "constant":
        return peak
    return peak * max(steps - step, 0) / max(steps - warmup, 1)


def derived_seed(*names: int | str) -> int:
    """Hash a run's seed and its purpose into a seed of 63 bits, the same on every machine."""
    text = "/".join(str(name) for name in names)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1


def seed_everything(*names: int | str) -> None:
    """Seed torch (every device), NumPy and Python from `derived_seed` of the names."""
    seed = derived_seed(*names)
    torch.manual_seed(seed)
    np.random.seed(seed % 2**32)
    random.seed(seed)


def make_sampler(
    rows: Mapping[Cell, Any], settings: TrainingSection, shares: Mapping[str, float]
) -> Sampler:
    """Make the sampler that a recipe's training section asks for."""
    kind = MixedSampler if settings.batching == "mixed" else CellSampler
    return kind(
        {cell: list_lengths(encoded, "input_ids") for cell, encoded in rows.items()},
        batch_size=settings.batch_size,
        temperature=settings.temperature,
        shares=shares,
        seed=derived_seed(settings.seed, "cells"),
        tokens=settings.tokens,
    )


@dataclass(frozen=True)
class Phase:
    """A stretch of a training.

    Attributes:
        name: what is trained.
        start, end: its first step, counted from 0, and the one after its last.
        rows: encoded training rows of the cells that are drawn.
        shares: fixed shares of its steps by task.
        frozen: parameters whose names start with one of these do not change.
    """

    name: str
    start: int
    end: int
    rows: Mapping[Cell, Any]
    shares: Mapping[str, float]
    frozen: tuple[str, ...] = ()

    def set_rates(
        self, optimizer: torch.optim.Optimizer, step: int, settings: TrainingSection
    ) -> float:
        """Set the learning rate of every group for a step. Each phase rises and falls.

        Returns:
            The rate of parameters without a peak rate of their own.
        """
        steps = self.end - self.start
        warmup = round(settings.warmup * steps / settings.steps)
        rate = partial(
            learning_rate, step - self.start, warmup=warmup, steps=steps, decay=settings.decay
        )
        for group in optimizer.param_groups:
            group["lr"] = rate(group["peak"])
        return rate(settings.learning_rate)


def plan_phases(
    model: HyperX, rows: Mapping[Cell, Any], settings: TrainingSection, shares: Mapping[str, float]
) -> list[Phase]:
    """Return the phases in which a model's method trains it.

    All but mad-x have one. mad-x has two, which together take the steps of one and draw each cell
    as often. First the language adapters learn on raw text, for the share of the steps that raw
    text has in other methods. Then they are frozen, and the tasks' adapters and heads learn on
    labelled data. If the encoder's LayerNorms are trained, they learn in the first phase only: the
    language adapters fit the encoder as it is then, and most languages do not occur in the second.

    Args:
        model: what is trained.
        rows: encoded training rows by cell.
        settings: the recipe's training section.
        shares: fixed shares of the steps by task.
    """
    if model.config.method != "mad-x":
        return [Phase("everything", 0, settings.steps, rows, shares)]
    probabilities = make_sampler(rows, settings, shares).probabilities

    def phase(
        name: str, start: int, end: int, tasks: Sequence[str], frozen: Sequence[str]
    ) -> Phase:
        of_tasks = {cell: encoded for cell, encoded in rows.items() if cell.task in tasks}
        fixed = {task: share for task, share in shares.items() if task in tasks}
        free = (probabilities[cell] for cell in of_tasks if cell.task not in fixed)
        total = sum(fixed.values()) + sum(free)
        scaled = {task: share / total for task, share in fixed.items()}
        return Phase(name, start, end, of_tasks, scaled, tuple(frozen))

    text_tasks = model.grid.text_tasks
    reading = [task for task in model.tasks if task in text_tasks]
    labelling = [task for task in model.tasks if task not in text_tasks]
    text = sum(chance for cell, chance in probabilities.items() if cell.task in text_tasks)
    turn = min(max(round(text * settings.steps), 1), settings.steps - 1)
    later = ["adapters.tasks.", *(f"heads.{task}." for task in labelling)]
    earlier = ["backbone.", "adapters.languages.", *(f"heads.{task}." for task in reading)]
    return [
        phase("language adapters", 0, turn, reading, later),
        phase("task adapters", turn, settings.steps, labelling, earlier),
    ]
