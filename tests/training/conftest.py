"""A look into training: its trainers, batches and gradients."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch.optim.optimizer import register_optimizer_step_pre_hook

import hyperlect.training.run as run_module
import hyperlect.training.trainer as trainer_module
from hyperlect.data.batching import Batch
from hyperlect.training import Trainer


@dataclass
class Watched:
    """What happened in the trainings of a test, and what is to happen.

    Attributes:
        trainers: every trainer that was made.
        batches: every batch that was learnt from.
        rates: the learning rate of every step.
        norms: the norm of the gradient that each step took.
        gradients: the names of the parameters with a gradient other than zero, for each step.
        signals: step → the signals to raise after it.
        crashes: steps after which the process dies.
    """

    trainers: list[Trainer] = field(default_factory=list)
    batches: list[Batch] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)
    norms: list[float] = field(default_factory=list)
    gradients: list[set[str]] = field(default_factory=list)
    signals: dict[int, list[signal.Signals]] = field(default_factory=dict)
    crashes: set[int] = field(default_factory=set)


class Crash(Exception):
    """Stands for a power cut."""


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> Iterator[Watched]:
    seen = Watched()
    batch_losses = trainer_module.batch_losses

    class Watching(Trainer):
        def __post_init__(self) -> None:
            super().__post_init__()
            seen.trainers.append(self)

        def _between_steps(self, monitor: Any) -> None:
            for number in seen.signals.pop(self.state.step, ()):
                signal.raise_signal(number)
            super()._between_steps(monitor)
            if self.state.step in seen.crashes:
                seen.crashes.remove(self.state.step)
                raise Crash

    def note(model: Any, batch: Batch, weights: Any) -> Any:
        seen.batches.append(batch)
        return batch_losses(model, batch, weights)

    def before_step(optimizer: torch.optim.Optimizer, *_: Any) -> None:
        trainer = seen.trainers[-1]
        gradients = {n: p.grad for n, p in trainer.parameters.items() if p.grad is not None}
        seen.rates.append(optimizer.param_groups[0]["lr"])
        seen.norms.append(torch.stack([g.norm() for g in gradients.values()]).norm().item())
        seen.gradients.append({name for name, g in gradients.items() if g.any()})

    monkeypatch.setattr(run_module, "Trainer", Watching)
    monkeypatch.setattr(trainer_module, "batch_losses", note)
    handle = register_optimizer_step_pre_hook(before_step)
    yield seen
    handle.remove()
