"""The optimiser: AdamW, with a peak learning rate for each part of the model."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import nn

from ..recipe import TrainingSection
from ..recipe.sections import Part

# How the names of parameters begin; the first that fits says which parts one belongs to, the
# narrowest first.
_PARTS: dict[str, tuple[Part, ...]] = {
    "adapters.source.embeddings.language": ("languages", "source"),
    "adapters.source.": ("source",),
    "adapters.generator.": ("generator",),
    "adapters.": ("adapters",),
    "latents.": ("latents", "heads"),
    "heads.": ("heads",),
    "backbone.": ("backbone",),
}


def parts_of(name: str) -> tuple[Part, ...]:
    """Return the parts of the model that a parameter belongs to, as recipes name them."""
    return next(parts for beginning, parts in _PARTS.items() if name.startswith(beginning))


def peak_rate(name: str, settings: TrainingSection) -> float:
    """Return a parameter's peak rate: that of the narrowest of its parts that has one."""
    rates = settings.learning_rates
    own = (rates[part] for part in parts_of(name) if part in rates)
    return next(own, settings.learning_rate)


def make_optimizer(
    parameters: Mapping[str, nn.Parameter], settings: TrainingSection, device: str
) -> torch.optim.AdamW:
    """Make AdamW over some parameters, one group a peak rate.

    Args:
        parameters: by their names in the model.
        settings: with the peak rates.
        device: the type of device they lie on.
    """
    groups: dict[float, list[nn.Parameter]] = {}
    for name, parameter in parameters.items():
        groups.setdefault(peak_rate(name, settings), []).append(parameter)
    return torch.optim.AdamW(
        [{"params": own, "peak": peak} for peak, own in groups.items()],
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
