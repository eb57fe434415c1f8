"""The training loop."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from rich.console import Console
from torch import Tensor, nn

from ..data.batching import Batch, Drawn, collate, load_rows, mask_rows
from ..errors import HyperlectError, Interrupted
from ..evaluation import fill, selection_score, selection_text, subsample
from ..grid import Cell
from ..hardware import Precision
from ..model import HyperX
from ..recipe import Recipe, TrainingSection
from ..run_folder import load_exactly
from .checkpoint import State, fingerprint, load_checkpoint, require_same, save_checkpoint
from .monitor import Monitor
from .processes import StopRequest, sum_gradients
from .schedule import (
    Phase,
    derived_seed,
    make_optimizer,
    make_sampler,
    plan_phases,
    seed_everything,
)


class Loader:
    """Makes the batches of each step in a thread of its own while the step before is computed.

    A step's rows and masks follow from the seed and its number alone. Of several processes, each
    takes every n-th row of what is drawn, so together they train on the rows of one process.

    Args:
        model: its tasks and tokenizer are used.
        rows: encoded training rows by cell.
        settings: the recipe's training section.
        shares: fixed shares of the rows by task.
        accelerator: device and processes.
    """

    def __init__(
        self,
        model: HyperX,
        rows: Mapping[Cell, Any],
        settings: TrainingSection,
        shares: Mapping[str, float],
        accelerator: Accelerator,
    ) -> None:
        self.tasks, self.tokenizer = model.tasks, model.tokenizer
        self.rows = rows
        self.settings = settings
        self.accelerator = accelerator
        self.sampler = make_sampler(rows, settings, shares)
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="batches")
        self._state = self.sampler.state_dict()
        self._ahead: tuple[dict[str, Any], Future[list[Batch]]] | None = None

    def next(self, step: int) -> list[Batch]:
        """Return this process's batches of a step, on the device, and begin the next step's.

        There may be fewer than `training.accumulate`, since more processes than rows are possible.
        """
        if self._ahead is None:
            self._ahead = self._begin(step)
        self._state, future = self._ahead
        batches = future.result()
        self._ahead = self._begin(step + 1)
        return [batch.to(self.accelerator.device) for batch in batches]

    def close(self) -> None:
        """Let the thread end."""
        self._worker.shutdown(cancel_futures=True)

    def _begin(self, step: int) -> tuple[dict[str, Any], Future[list[Batch]]]:
        drawn = [self.sampler.next() for _ in range(self.settings.accumulate)]
        return self.sampler.state_dict(), self._worker.submit(self._make, step, drawn)

    def _make(self, step: int, drawn: list[list[Drawn]]) -> list[Batch]:
        count, rank = self.accelerator.num_processes, self.accelerator.process_index
        generator = torch.Generator()
        generator.manual_seed(derived_seed(self.settings.seed, "masks", step, 0))
        batches = []
        for batch in drawn:
            cells = [cell for cell, _ in batch]
            rows = load_rows(self.rows, batch)
            # All rows, so that masks do not depend on the number of processes.
            masked = mask_rows(rows, cells, self.tasks, self.tokenizer, generator)[rank::count]
            if masked:
                indices = [index for _, index in batch[rank::count]]
                cells = cells[rank::count]
                batches.append(collate(masked, cells, self.tasks, self.tokenizer, indices))
        return [b.pin() for b in batches] if self.accelerator.device.type == "cuda" else batches

    def state_dict(self) -> dict[str, Any]:
        """Return the state after the step that was last returned, whatever lies ready."""
        return self._state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a state; see `Sampler.load_state_dict`."""
        self.sampler.load_state_dict(state)
        self._state, self._ahead = self.sampler.state_dict(), None


SAVE_EVERY = 500
"""Steps between checkpoints if the recipe names none: the most that a power cut may cost."""
REMEDY = (
    "Lower training.learning_rate, lengthen training.warmup, or set training.precision to fp32."
)


@dataclass
class Trainer:
    """Trains one model on the rows of many cells.

    The loss of a step is the mean over its scored units (words, sentences, masked positions) of
    each task, weighted by the task's share of the step's examples. It is the same whatever the
    number of micro-batches and processes: counts are summed first, the division comes once.

    The random numbers of a step (batch, masks, dropout) follow from the seed and the step's number,
    so a resumed run draws what an uninterrupted one would have drawn. A method may train in several
    phases (see `schedule.plan_phases`), with different cells and parameters in each.

    Args:
        model: on any device; it is moved.
        rows: encoded training rows by cell.
        dev: encoded development rows by cell; may be empty.
        recipe: with its settings of training and of evaluation on development rows.
        run: the run folder.
        accelerator: device and processes.
        console: where progress is shown.
        precision: of the arithmetic.
    """

    model: HyperX
    rows: Mapping[Cell, Any]
    dev: Mapping[Cell, Any]
    recipe: Recipe
    run: Path
    accelerator: Accelerator
    console: Console
    precision: Precision
    state: State = field(default_factory=State)

    def __post_init__(self) -> None:
        self.settings, evaluation = self.recipe.training, self.recipe.evaluation
        self.model.to(self.accelerator.device)
        named = self.model.own_parameters().items()
        self.parameters = {name: value for name, value in named if value.requires_grad}
        device = self.accelerator.device.type
        self.optimizer = make_optimizer(self.parameters, self.settings, device)
        self.rate = 0.0
        self.examples = sum(len(rows) for rows in self.rows.values())
        self.dev_sample = {c: subsample(rows, evaluation.examples) for c, rows in self.dev.items()}
        self.best_weights: dict[str, Tensor] | None = None
        self.stop = StopRequest()
        shares = {name: task.share for name, task in self.recipe.tasks.items() if task.share}
        self.phases = plan_phases(self.model, self.rows, self.settings, shares)
        self._enter(self.phases[0])

    @cached_property
    def fingerprint(self) -> dict[str, str]:
        """Digests of what the run depends on, which only a checkpoint needs."""
        return fingerprint(self.model, self.rows, self.dev)

    def resume(self) -> None:
        """Go back to the state of the run folder's checkpoint.

        Raises:
            RunError: there is none, or encoder or data have changed.
        """
        saved = self.model.own_parameters()
        data, self.best_weights = load_checkpoint(self.run, saved, self.optimizer)
        require_same(data.pop("fingerprint", None) or data.pop("basis"), self.fingerprint)
        sampler = data.pop("sampler")
        self.state = State(**data)
        self._follow_phase()
        self.loader.load_state_dict(sampler)

    def _follow_phase(self) -> None:
        """Enter the phase of the next step if it is another."""
        step = self.state.step
        phase = next((phase for phase in self.phases if step < phase.end), self.phases[-1])
        if phase is not self.phase:
            self.loader.close()
            self._enter(phase)

    def _enter(self, phase: Phase) -> None:
        self.phase = phase
        phase.unfreeze(self.parameters)
        self.loader = Loader(self.model, phase.rows, self.settings, phase.shares, self.accelerator)

    def train(self) -> State:
        """Train until the last step or early stopping; the model then holds its best weights.

        Raises:
            Interrupted: SIGINT or SIGTERM came; the checkpoint was saved.
            HyperlectError: a loss or gradient is not finite; the last good checkpoint is kept.
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
        with monitor, self.stop:
            try:
                while self.state.step < self.settings.steps and not self.state.finished:
                    start = time.monotonic()
                    self._step(monitor)
                    self._follow_phase()
                    self.state.seconds += time.monotonic() - start
                    self._between_steps(monitor)
            finally:
                self.loader.close()
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
            data = {
                **vars(self.state),
                "fingerprint": self.fingerprint,
                "sampler": self.loader.state_dict(),
            }
            saved = self.model.own_parameters()  # features of languages too, which are frozen
            save_checkpoint(self.run, saved, self.best_weights, self.optimizer, data)
        self.accelerator.wait_for_everyone()

    def _step(self, monitor: Monitor) -> None:
        """One optimiser step: one or several batches, each cell's weights generated once."""
        step = self.state.step
        self.rate = self.phase.set_rates(self.optimizer, step, self.settings)
        batches = self.loader.next(step)
        seed_everything(self.settings.seed, "step", step, self.accelerator.process_index)
        weights = task_weights(batches, list(self.model.tasks), self.accelerator)
        cells = [cell for batch in batches for cell in batch.cells]
        shared = self.model.shared_weights(cells) if len(batches) > 1 else nullcontext()
        with self.model.backbone.arithmetic(self.precision), shared:
            losses = [self._learn(batch, weights, n == 0) for n, batch in enumerate(batches)]
        parameters = list(self.parameters.values())
        sum_gradients(parameters, self.accelerator)
        norm = nn.utils.clip_grad_norm_(parameters, self.settings.clip or math.inf)
        means, tokens = _read_and_check(batches, losses, norm, step + 1, weights, self.accelerator)
        monitor.step(means, tokens)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.state.step += 1

    def _learn(
        self, batch: Batch, weights: Mapping[str, tuple[float, float]], first: bool
    ) -> dict[str, Tensor]:
        """Add the gradients of one batch; return the mean loss of each task."""
        losses, total = batch_losses(self.model, batch, weights)
        if first and self.model.latents is not None and self.accelerator.is_main_process:
            # Once a step: one row's share of what all rows together pay.
            total = total + self.model.latents.divergence() / self.examples
        # Autocast would round what was computed in fp32, as the adapter weights are.
        with torch.autocast(self.accelerator.device.type, enabled=False):
            if total.requires_grad:  # of rows that are all unknown sub-words, nothing is scored
                total.backward()  # type: ignore[no-untyped-call]
        return losses

    def _between_steps(self, monitor: Monitor) -> None:
        """Log, evaluate, save, stop: whatever is due after a step."""
        settings, step = self.settings, self.state.step
        last = step == settings.steps
        if step % settings.log_every == 0 or last:
            monitor.log(step, self.rate)
        due = last or (settings.evaluate_every and step % settings.evaluate_every == 0)
        every = settings.save_every or settings.evaluate_every or SAVE_EVERY
        with monitor.paused():
            if self.dev and due and step > self.phases[-1].start:  # before, tasks are not trained
                self._evaluate(monitor)
            if step % every == 0 and not last:
                self.save()
        if self.stop.agreed(self.accelerator):
            self.save()
            raise Interrupted(
                f"Stopped at step {step} of {settings.steps}; everything is saved. "
                f"Resume it: hyperlect train --resume {self.run}"
            )

    def _evaluate(self, monitor: Monitor) -> None:
        """Score the development cells; keep the weights if they are the best so far."""
        settings = self.recipe.evaluation
        tokens, precision = settings.tokens_per_batch, settings.precision
        results = fill(self.model, self.dev_sample, tokens, precision)
        selected = self.recipe.selection_cells(self.model.grid)
        chosen = [r for r in results if r.cell in selected]
        # GPUs may differ in the last digit, so one process decides what is best.
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
        scores = {str(r.cell): round(r.score, 3) for r in results if r.score is not None}
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


def task_weights(
    batches: Sequence[Batch], tasks: Sequence[str], accelerator: Accelerator | None = None
) -> dict[str, tuple[float, float]]:
    """Return each task's weight in the loss of a step, and the number of its scored units.

    The weight is the task's share of the step's rows. Counts are of all micro-batches and
    processes.

    Args:
        batches: this process's.
        tasks: all tasks, in the same order in every process.
        accelerator: the processes; one if None.
    """
    counts: Any = torch.zeros(len(tasks), 2)
    for batch in batches:
        for name, rows in batch.tasks.items():
            counts[tasks.index(name)] += torch.tensor([rows.examples, rows.units])
    if accelerator is not None and accelerator.num_processes > 1:
        counts = accelerator.reduce(counts.to(accelerator.device), "sum").cpu()
    total = float(counts[:, 0].sum())
    pairs = zip(tasks, counts.tolist(), strict=True)
    return {task: (examples / total, units) for task, (examples, units) in pairs}


def batch_losses(
    model: HyperX, batch: Batch, weights: Mapping[str, tuple[float, float]]
) -> tuple[dict[str, Tensor], Tensor]:
    """Run a labelled batch through the model, and score every task of it.

    Args:
        model: what is trained.
        batch: collated.
        weights: of the tasks in the step; see `task_weights`.

    Returns:
        The mean loss of each task over its scored units (for parsing, that of heads plus that of
        relations), without gradient; and the batch's summand of the loss of the step.
    """
    output = model.run(batch)
    means, summands = {}, []
    for name, rows in batch.tasks.items():
        if rows.units:
            loss, (weight, units) = model.head(name).loss(output.scores[name], rows), weights[name]
            means[name] = loss.detach()
            summands.append(loss * (weight * (rows.units / units)))
    return means, torch.stack([torch.zeros((), device=batch.input_ids.device), *summands]).sum()


def _read_and_check(
    batches: Sequence[Batch],
    losses: Sequence[Mapping[str, Tensor]],
    norm: Tensor,
    step: int,
    weights: Mapping[str, tuple[float, float]],
    accelerator: Accelerator | None = None,
) -> tuple[dict[str, float], int]:
    """Read a step's losses and the norm of its gradient from the device, all at once.

    Args:
        batches: this process's.
        losses: the mean losses of each of them by task; see `batch_losses`.
        norm: of the gradient.
        step: its number, for errors.
        weights: of the tasks in the step; see `task_weights`.
        accelerator: the processes; one if None.

    Returns:
        The loss of each task in the step, the mean over its scored units, and the number of
        sub-words; of all processes.

    Raises:
        HyperlectError: one is not finite. It is raised before the gradient reaches the weights.
    """
    pairs = zip(batches, losses, strict=True)
    read = [(batch, task, loss) for batch, by_task in pairs for task, loss in by_task.items()]
    sums = dict.fromkeys(weights, norm.new_zeros(()))
    for batch, task, loss in read:
        sums[task] = sums[task] + loss * batch.tasks[task].units
    tokens = norm.new_tensor(float(sum(batch.tokens for batch in batches)))
    totals: Any = torch.stack([*sums.values(), tokens])
    if accelerator is not None and accelerator.num_processes > 1:
        totals = accelerator.reduce(totals, "sum")
    # A GPU waits at each reading.
    length, *values = torch.stack([norm, *totals, *(loss for *_, loss in read)]).tolist()
    for (batch, task, _), loss in zip(read, values[len(totals) :], strict=True):
        if not math.isfinite(loss):
            cells = ", ".join(sorted({str(cell) for cell in batch.cells if cell.task == task}))
            raise HyperlectError(
                f"The loss of {cells} is {loss} at step {step}: training diverged. {REMEDY}"
            )
    if not math.isfinite(length):
        raise HyperlectError(
            f"The gradient at step {step} is not finite: training diverged. {REMEDY}"
        )
    scored = zip(weights.items(), values, strict=False)  # the sub-words come last
    means = {task: total / units for (task, (_, units)), total in scored if units}
    return means, int(values[len(weights)])
