"""The training loop."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from rich.console import Console
from torch import Tensor

from ..data.batching import Batch
from ..errors import Interrupted
from ..evaluation import fill, selection_score, selection_text
from ..grid import Cell
from ..model import HyperX
from ..precision import KeptCasts
from ..recipe import EvaluationSection, TrainingSection
from ..run_folder import load_exactly
from .checkpoint import load_checkpoint, save_checkpoint
from .loader import Loader
from .loss import batch_loss, check_finite, check_gradient, read_once
from .monitor import Monitor
from .optimizer import make_optimizer, set_rates
from .phases import Phase, phase_of, plan
from .processes import average_gradients
from .schedule import seed_everything
from .state import State, basis, require_same
from .stop import StopRequest

SAVE_EVERY = 500
"""Steps between checkpoints where the recipe names none: what a power cut may cost."""


@dataclass
class Trainer:
    """Trains one model on the rows of many cells.

    Every step's randomness (batch, masks, dropout) is a function of the seed and the step's
    number, so a resumed run draws what an uninterrupted one would have. A method may train in
    several phases (see `phases.plan`), with different cells and parameters in each.

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
        evaluation: how development rows are scored.
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
    evaluation: EvaluationSection = field(default_factory=EvaluationSection)
    state: State = field(default_factory=State)

    def __post_init__(self) -> None:
        settings = self.settings
        self.model.to(self.accelerator.device)
        own = self.model.own_parameters().items()
        self.parameters = {name: value for name, value in own if value.requires_grad}
        self.optimizer = make_optimizer(self.parameters, settings, self.accelerator.device.type)
        self.rate = 0.0
        self.examples = sum(len(rows) for rows in self.rows.values())
        self.best_weights: dict[str, Tensor] | None = None
        self.stop = StopRequest()
        lowered = self.accelerator.mixed_precision != "no" and not settings.compile  # graphs can't
        self.casts = KeptCasts() if lowered else nullcontext()
        self.phases = plan(self.model, self.rows, settings, self.shares)
        self._enter(self.phases[0])

    @cached_property
    def basis(self) -> dict[str, str]:
        """What the run rests on; see `state.basis`."""
        return basis(self.model, self.rows, self.dev)

    def resume(self) -> None:
        """Go back to the state of the run folder's checkpoint.

        Raises:
            RunError: there is none, or encoder or data are not what they were.
        """
        data, self.best_weights = load_checkpoint(self.run, self.parameters, self.optimizer)
        require_same(data.pop("basis"), self.basis)
        sampler = data.pop("sampler")
        self.state = State(**data)
        self._follow_phase()
        self.loader.load_state_dict(sampler)

    def _follow_phase(self) -> None:
        """Go over to the phase of the next step if it is another."""
        phase = phase_of(self.phases, self.state.step)
        if phase is not self.phase:
            self.loader.close()
            self._enter(phase)

    def _enter(self, phase: Phase) -> None:
        self.phase = phase
        phase.free(self.parameters)
        self.loader = Loader(self.model, phase.rows, self.settings, phase.shares, self.accelerator)

    def train(self) -> State:
        """Train until the last step or early stopping; the model then holds its best weights.

        Raises:
            Interrupted: SIGINT or SIGTERM came; the checkpoint was saved.
        """
        if self.settings.checkpoint_activations:
            self.model.checkpoint_activations()
        monitor = Monitor(
            self.run if self.accelerator.is_main_process else None,
            self.settings.steps,
            self.state.step,
            self.console,
            losses=self.state.losses,
        )
        if self.settings.compile:
            self.model.backbone.compile_encoder(monitor.say)
        self.model.train()
        if not self.settings.backbone_dropout:
            self.model.backbone.eval()
        with ExitStack() as stack, monitor, self.stop:
            stack.callback(lambda: self.loader.close())  # that of the last phase reached
            while self.state.step < self.settings.steps and not self.state.finished:
                began = time.monotonic()
                self._step(monitor)
                self._follow_phase()
                self.state.seconds += time.monotonic() - began
                self._between_steps(monitor)
        self.state.finished = True
        for parameter in self.parameters.values():  # the last phase may have frozen some
            parameter.requires_grad_()
        if self.best_weights is not None:
            load_exactly(self.parameters, self.best_weights)
        self.save()
        return self.state

    def save(self) -> None:
        """Write a checkpoint."""
        if self.accelerator.is_main_process:
            data = {**vars(self.state), "basis": self.basis, "sampler": self.loader.state_dict()}
            save_checkpoint(self.run, self.parameters, self.best_weights, self.optimizer, data)
        self.accelerator.wait_for_everyone()

    def _step(self, monitor: Monitor) -> None:
        """One optimiser step: one or several batches, each cell's weights generated once."""
        settings, step = self.settings, self.state.step
        self.rate = set_rates(self.optimizer, settings, self.phase.rate(step, settings))
        batches = self.loader.next(step)
        seed_everything(settings.seed, "step", step, self.accelerator.process_index)
        cells = [cell for batch in batches for cell in batch.cells]
        with self.model.generated_once(cells) if len(batches) > 1 else nullcontext():
            losses = [self._learn(batch) for batch in batches]
        average_gradients(list(self.parameters.values()), self.accelerator)
        limit = settings.clip or math.inf
        norm = self.accelerator.clip_grad_norm_(list(self.parameters.values()), limit)
        found, size = read_once(losses, norm)
        for batch, by_task in zip(batches, found, strict=True):
            check_finite(by_task, batch, step + 1)
            tokens = batch.tokens * self.accelerator.num_processes
            monitor.step(by_task, tokens, last=batch is batches[-1])
        check_gradient(size, step + 1)  # or else all weights are lost, and saved
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.state.step += 1

    def _learn(self, batch: Batch) -> dict[str, Tensor]:
        """Add the gradients of one batch; return the loss of each task."""
        with self.accelerator.autocast(), self.casts:
            loss = batch_loss(self.model, batch)
            total = loss.total * batch.weight
            if self.model.latents is not None:  # a row's part of what all rows together cost
                total = total + self.model.latents.divergence() / self.examples
        self.accelerator.backward(total / self.settings.accumulate)
        return loss.by_task

    def _between_steps(self, monitor: Monitor) -> None:
        """Log, evaluate, save, stop: whatever is due after a step."""
        settings, step = self.settings, self.state.step
        last = step == settings.steps
        if step % settings.log_every == 0 or last:
            monitor.log(step, self.rate)
        due = last or (settings.evaluate_every and step % settings.evaluate_every == 0)
        if self.dev and due and step > self.phases[-1].start:  # before, tasks are not trained
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
        how = self.evaluation
        results = fill(self.model, self.dev, how.tokens_per_batch, how.precision)
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
        scored = {Cell(r.task, r.language): r.score for r in results if r.score is not None}
        scores = {str(cell): round(score, 3) for cell, score in scored.items()}
        step = self.state.step
        monitor.write(
            {"event": "dev", "step": step, "scores": scores, "selection": selection, "best": best}
        )
        monitor.scalars(step, {f"dev/{cell}": value for cell, value in scores.items()})
        if selection is not None:
            mark = " (best so far)" if best else ""
            monitor.say(f"step {step}: dev {selection_text(selection)}{mark}")
        patience = self.settings.patience
        if patience and self.state.waited >= patience:
            self.state.finished = True
            monitor.say(f"step {step}: no better for {patience} evaluations, stopping early")
