"""The optimiser: AdamW, with a peak learning rate for each part of the model."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import nn

from ..recipe import TrainingSection

# How the names of parameters begin; the first that fits says which part one belongs to.
_PARTS = {
    "adapters.source.": "source",
    "adapters.generator.": "generator",
    "adapters.": "adapters",
    "latents.": "heads",
    "heads.": "heads",
    "backbone.": "backbone",
}


def part_of(name: str) -> str:
    """Return the part of the model that a parameter belongs to, as recipes name it."""
    return next(part for beginning, part in _PARTS.items() if name.startswith(beginning))


def make_optimizer(
    parameters: Mapping[str, nn.Parameter], settings: TrainingSection, device: str
) -> torch.optim.AdamW:
    """Make AdamW over some parameters, one group a part.

    Args:
        parameters: by their names in the model.
        settings: with the peak rates.
        device: the type of device they lie on.
    """
    groups: dict[str, list[nn.Parameter]] = {}
    for name, parameter in parameters.items():
        groups.setdefault(part_of(name), []).append(parameter)
    rates = settings.learning_rates
    return torch.optim.AdamW(
        [
            {"params": own, "peak": rates.get(part, settings.learning_rate)}  # type: ignore[call-overload]
            for part, own in groups.items()
        ],
        lr=settings.learning_rate,
        weight_decay=settings.weight_decay,
        fused=device in ("cpu", "cuda"),
    )


def set_rates(
    optimizer: torch.optim.Optimizer, settings: TrainingSection, rate: Callable[[float], float]
) -> float:
    """Set the learning rate of every group.

    Args:
        optimizer: as `make_optimizer` makes it.
        settings: with the peak rates.
        rate: the present rate as a function of the peak.

    Returns:
        The rate of parts that have no peak of their own.
    """
    for group in optimizer.param_groups:
        group["lr"] = rate(group["peak"])
    return rate(settings.learning_rate)
