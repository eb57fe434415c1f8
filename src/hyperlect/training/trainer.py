"""The training loop."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from rich.console import Console
from torch import Tensor

from ..data.batching import Batch, make_batch, row_lengths
from ..data.sampling import CellSampler
from ..errors import HyperlectError
from ..evaluation import fill, selection_score
from ..grid import Cell
from ..model import HyperX
from ..recipe import TrainingSection
from ..weights import load_exactly
from .checkpoint import load_checkpoint, save_checkpoint
from .loss import batch_loss, check_finite
from .monitor import Monitor
from .schedule import derived_seed, learning_rate, seed_everything
from .stop import StopRequest

SAVE_EVERY = 500
"""Steps between checkpoints where the recipe names none: what a power cut may cost."""


class Interrupted(HyperlectError):
    """Training was stopped from outside after its state was saved."""


@dataclass
class State:
    """What changes from step to step besides weights and moments; JSON data.

    Attributes:
        step: optimiser steps done.
        best: the best selection score so far.
        waited: evaluations since then.
        seconds: time spent in training so far.
        finished: whether training came to its end (or stopped early).
        losses: by task, those that no line of the log has told of yet.
    """

    step: int = 0
    best: float | None = None
    waited: int = 0
    seconds: float = 0.0
    finished: bool = False
    losses: dict[str, list[float]] = field(default_factory=dict)


@dataclass
class Trainer:
    """Trains one model on the rows of many cells.

    Every step's randomness (batch, masks, dropout) is a function of the seed and the step's
    number, so a resumed run draws what an uninterrupted one would have.

    Args:
        model: on any device; it is moved.
        rows: encoded training rows by cell.
        dev: encoded development rows by cell; may be empty.
        settings: the recipe's training section.
        selection: the cells whose dev scores choose the checkpoint that is kept.
        shares: fixed shares of the steps by task.
        run: the run folder.
        accelerator: device, precision and processes.
        console: where progress is shown.
        tokens_per_batch: of evaluation.
    """

    model: HyperX
    rows: Mapping[Cell, Any]
    dev: Mapping[Cell, Any]
    settings: TrainingSection
    selection: frozenset[Cell]
    shares: Mapping[str, float]
    run: Path
    accelerator: Accelerator
    console: Console
    tokens_per_batch: int = 4096
    state: State = field(default_factory=State)

    def __post_init__(self) -> None:
        settings = self.settings
        self.sampler = CellSampler(
            {cell: row_lengths(rows) for cell, rows in self.rows.items()},
            batch_size=settings.batch_size,
            temperature=settings.temperature,
            shares=self.shares,
            seed=derived_seed(settings.seed, "cells"),
        )
        self.model.to(self.accelerator.device)
        self.parameters = {
            name: parameter
            for name, parameter in self.model.own_parameters().items()
            if parameter.requires_grad
        }
        self.optimizer = torch.optim.AdamW(
            self.parameters.values(),
            lr=settings.learning_rate,
            weight_decay=settings.weight_decay,
            fused=self.accelerator.device.type in ("cpu", "cuda"),
        )
        self.best_weights: dict[str, Tensor] | None = None
        self.stop = StopRequest()

    def resume(self) -> None:
        """Go back to the state of the run folder's checkpoint."""
        data, self.best_weights = load_checkpoint(self.run, self.parameters, self.optimizer)
        self.sampler.load_state_dict(data.pop("sampler"))
        self.state = State(**data)

    def train(self) -> State:
        """Train until the last step or early stopping; the model then holds its best weights.

        Raises:
            Interrupted: SIGINT or SIGTERM came; the checkpoint was saved.
        """
        main = self.accelerator.is_main_process
        wrapped = self.accelerator.prepare_model(self.model)
        monitor = Monitor(
            self.run if main else None,
            self.settings.steps,
            self.state.step,
            self.console,
            losses=self.state.losses,
        )
        with monitor, self.stop:
            while self.state.step < self.settings.steps and not self.state.finished:
                began = time.monotonic()
                self._step(wrapped, monitor)
                self.state.seconds += time.monotonic() - began
                self._between_steps(monitor)
        self.state.finished = True
        if self.best_weights is not None:
            load_exactly(self.parameters, self.best_weights)
        self.save()
        return self.state

    def save(self) -> None:
        """Write a checkpoint."""
        if self.accelerator.is_main_process:
            data = {**vars(self.state), "sampler": self.sampler.state_dict()}
            save_checkpoint(self.run, self.parameters, self.best_weights, self.optimizer, data)
        self.accelerator.wait_for_everyone()

    def _step(self, wrapped: torch.nn.Module, monitor: Monitor) -> None:
        """One optimiser step: one or several batches, one cell each."""
        settings, step = self.settings, self.state.step
        rate = learning_rate(
            step,
            peak=settings.learning_rate,
            warmup=settings.warmup,
            steps=settings.steps,
            decay=settings.decay,
        )
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.model.train()
        if not settings.backbone_dropout:
            self.model.backbone.eval()
        rank = self.accelerator.process_index
        seed_everything(settings.seed, "step", step, rank)
        generator = torch.Generator().manual_seed(derived_seed(settings.seed, "masks", step, rank))
        for micro in range(settings.accumulate):
            batch = self._batch(generator)
            with self.accelerator.autocast():
                loss = batch_loss(wrapped, batch)
            self.accelerator.backward(loss / settings.accumulate)
            value = loss.item()
            check_finite(value, batch, step + 1)
            tokens = int(batch.attention_mask.sum()) * self.accelerator.num_processes
            monitor.step(batch.task, value, tokens, last=micro == settings.accumulate - 1)
        if settings.clip:
            self.accelerator.clip_grad_norm_(list(self.parameters.values()), settings.clip)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.state.step += 1

    def _batch(self, generator: torch.Generator) -> Batch:
        """Draw a cell and a batch of its rows; each process takes every so-manieth row."""
        cell, indices = self.sampler.next()
        count, rank = self.accelerator.num_processes, self.accelerator.process_index
        own = indices[rank::count] or indices[:1]
        task, tokenizer = self.model.task(cell.task), self.model.tokenizer
        batch = make_batch(self.rows[cell], own, task, tokenizer, cell.language, generator)
        return batch.to(self.accelerator.device)

    def _between_steps(self, monitor: Monitor) -> None:
        """Log, evaluate, save, stop: whatever is due after a step."""
        settings, step = self.settings, self.state.step
        last = step == settings.steps
        if step % settings.log_every == 0 or last:
            monitor.log(step, self.optimizer.param_groups[0]["lr"])
        if self.dev and ((settings.evaluate_every and step % settings.evaluate_every == 0) or last):
            with monitor.paused():
                self._evaluate(monitor)
        every = settings.save_every or settings.evaluate_every or SAVE_EVERY
        if step % every == 0 and not last:
            with monitor.paused():
                self.save()
        if self.stop.agreed(self.accelerator):
            self.save()
            raise Interrupted(
                f"Stopped at step {step} of {settings.steps}; everything is saved. "
                f"Go on with: hyperlect train --resume {self.run}"
            )

    def _evaluate(self, monitor: Monitor) -> None:
        """Score the development cells; keep the weights if they are the best so far."""
        results = fill(self.model, self.dev, self.tokens_per_batch)
        chosen = [r for r in results if Cell(r.task, r.language) in self.selection]
        # GPUs may differ in the last digit; what is best is decided in one place.
        (selection,) = broadcast_object_list([selection_score(chosen)])
        best = selection is not None and (self.state.best is None or selection > self.state.best)
        if best:
            self.state.best, self.state.waited = selection, 0
            self.best_weights = {
                name: parameter.detach().cpu().clone()
                for name, parameter in self.parameters.items()
            }
        else:
            self.state.waited += 1
        scores = {f"{r.task}:{r.language}": round(r.score, 3) for r in results}
        step = self.state.step
        monitor.write(
            {"event": "dev", "step": step, "scores": scores, "selection": selection, "best": best}
        )
        monitor.scalars(step, {f"dev/{cell}": value for cell, value in scores.items()})
        if selection is not None:
            mark = " (best so far)" if best else ""
            monitor.say(f"step {step}: dev average {selection:.2f}{mark}")
        patience = self.settings.patience
        if patience and self.state.waited >= patience:
            self.state.finished = True
            monitor.say(f"step {step}: no better for {patience} evaluations, stopping early")
