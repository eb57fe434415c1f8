"""The training loop."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from rich.console import Console
from torch import Tensor
from torch.distributed.tensor import DTensor

from ..data.batching import Batch, Drawn, collate, load_rows, mask_rows
from ..errors import HyperlectError, Interrupted, counted, listed
from ..evaluation import constant_score, fill, selection_score, selection_text, subsample
from ..evaluation.results import CellResult
from ..grid import Cell
from ..hardware import Precision, deterministic, versions
from ..hypernet import Hypernet
from ..model import HyperX
from ..recipe import Recipe, TrainingSection
from ..run_folder import checkpoints, load_exactly, tensors_digest
from ..tasks import TaskType
from .checkpoint import State, fingerprint, load_checkpoint, renewed, require_same, save_checkpoint
from .monitor import Monitor
from .processes import (
    Shards,
    StopRequest,
    any_process,
    clip_gradients,
    gather,
    sum_gradients,
    summed,
    whole,
)
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

    Attributes:
        drawn: by cell, how many rows all processes together drew for the last step.
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
        self._ahead: tuple[dict[str, Any], Counter[str], Future[list[Batch]]] | None = None
        self.drawn: Counter[str] = Counter()

    def next(self, step: int) -> list[Batch]:
        """Return this process's batches of a step, on the device, and begin the next step's.

        There may be fewer than `training.accumulate`, since more processes than rows are possible.
        """
        if self._ahead is None:
            self._ahead = self._begin(step)
        self._state, self.drawn, future = self._ahead
        batches = future.result()
        self._ahead = self._begin(step + 1)
        return [batch.to(self.accelerator.device) for batch in batches]

    def close(self) -> None:
        """Let the thread end."""
        self._worker.shutdown(cancel_futures=True)

    def _begin(self, step: int) -> tuple[dict[str, Any], Counter[str], Future[list[Batch]]]:
        drawn = [self.sampler.next() for _ in range(self.settings.accumulate)]
        counts = Counter(str(cell) for batch in drawn for cell, _ in batch)
        return self.sampler.state_dict(), counts, self._worker.submit(self._make, step, drawn)

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
TRACED = 20
"""The first steps, whose numbers are kept, so that `training.rerun` can compare."""
REMEDY = (
    "Lower training.learning_rate, lengthen training.warmup, set training.precision to fp32, or "
    "set training.not_finite to skip."
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
        self.shards: Shards | None = None
        several = self.accelerator.num_processes > 1
        if self.settings.shard and several and isinstance(self.model.adapters, Hypernet):
            if self.model.adapters.source.base is not None:
                raise HyperlectError("training.shard does not go with hypernet.language_base.")
            self.shards = Shards(self.model, self.accelerator)
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
        """Digests of what the run depends on."""
        return fingerprint(self.model, self.rows, self.dev)

    @cached_property
    def versions(self) -> dict[str, str]:
        """Libraries, hardware, precision."""
        processes = self.accelerator.num_processes
        return versions(self.accelerator.device.type, self.precision, processes)

    def resume(self) -> list[str]:
        """Go back to the state of the run folder's last good checkpoint.

        Returns:
            What is wrong with later ones.

        Raises:
            RunError: there is none, or encoder or data have changed.
        """
        saved = self.model.own_parameters()
        data, self.best_weights, damaged = load_checkpoint(self.run, saved, self.optimizer)
        before = data.pop("fingerprint", None) or data.pop("basis")
        require_same(renewed(before, self.model.backbone), self.fingerprint)
        sampler = data.pop("sampler")
        self.state = State(**{"examples": None, **data})
        self._follow_phase()
        self.loader.load_state_dict(sampler)
        for path in damaged:
            if path.is_file() and self.accelerator.is_main_process:
                path.unlink()  # or else it would count as one that is kept
        return [f"{what} Resuming from step {self.state.step}." for what in damaged.values()]

    def _follow_phase(self) -> None:
        """Enter the phase of the next step if it is another."""
        step = self.state.step
        phase = next((phase for phase in self.phases if step < phase.end), self.phases[-1])
        if phase is not self.phase:
            self.loader.close()
            self._enter(phase)

    def _enter(self, phase: Phase) -> None:
        self.phase = phase
        for name, parameter in self.parameters.items():
            parameter.requires_grad_(not name.startswith(phase.frozen))
        self.loader = Loader(self.model, phase.rows, self.settings, phase.shares, self.accelerator)

    def train(self) -> State:
        """Train until the last step or early stopping; the model then holds its best weights.

        Raises:
            Interrupted: SIGINT or SIGTERM came; the checkpoint was saved.
            HyperlectError: a loss or gradient is not finite, or something cannot be written; says
                which checkpoint is the last.
        """
        run, steps = self.run if self.accelerator.is_main_process else None, self.settings.steps
        monitor = Monitor(run, steps, self.state.step, self.console, self.state.losses)
        try:
            with monitor, self.stop, self._computing(monitor.say):
                if not self.state.finished:
                    trace = self._trace()  # of the shares of all processes
                    if monitor.run is not None:
                        monitor.write(trace | self._start())
                while self.state.step < self.settings.steps and not self.state.finished:
                    start = time.monotonic()
                    trace = self._step(monitor)
                    if self.state.step <= TRACED:
                        monitor.write(self._trace() | trace)
                    self._follow_phase()
                    self.state.seconds += time.monotonic() - start
                    self._between_steps(monitor)
            self.state.finished = True
            for parameter in self.parameters.values():  # the last phase may have frozen some
                parameter.requires_grad_()
            if self.best_weights is not None:
                load_exactly(self.parameters, self.best_weights)
            self.save(monitor)
            if self.shards:
                self.shards.join()
        except Interrupted:
            raise
        except HyperlectError as error:
            error.args = (f"{error} {self._way_back()}",)
            raise
        except Exception as error:
            with suppress(HyperlectError):  # the disk may be full
                monitor.say(f"step {self.state.step + 1}: {error!r}. {self._way_back()}")
            raise
        return self.state

    def replay(self, steps: int) -> Iterator[dict[str, Any]]:
        """Train without writing anything; yield what the log has of the start and of each step."""
        monitor = Monitor(None, steps, 0, self.console)
        with monitor, self._computing(monitor.say):
            yield self._trace() | self._start()
            for _ in range(steps):
                trace = self._step(monitor)
                yield self._trace() | trace
                self._follow_phase()

    @contextmanager
    def _computing(self, say: Callable[[str], None]) -> Iterator[None]:
        """Prepare the model for the steps in the block; end the thread that makes batches."""
        if self.settings.checkpoint_activations:
            self.model.checkpoint_activations()
        if self.settings.compile:
            self.model.backbone.compile_encoder(say)
        self.model.train()
        if not self.settings.backbone_dropout:
            self.model.backbone.eval()
        try:
            with deterministic(self.settings.deterministic):
                yield
        finally:
            self.loader.close()

    def _start(self) -> dict[str, Any]:
        return {"event": "start", "versions": self.versions, "fingerprint": self.fingerprint}

    def _trace(self) -> dict[str, Any]:
        weights = tensors_digest(gather(self.parameters, self.accelerator.is_main_process))
        return {"event": "trace", "step": self.state.step, "weights": weights}

    def _way_back(self) -> str:
        """Say where the training can continue."""
        if files := checkpoints(self.run):
            command = f"hyperlect train --resume {self.run}"
            return f"The last good checkpoint is {files[0]}. Continue from it: {command}"
        return "There is no checkpoint yet."

    def save(self, monitor: Monitor) -> None:
        """Write a checkpoint, after the log up to it."""
        main = self.accelerator.is_main_process
        if main or self.shards:
            start = time.monotonic()
            monitor.flush()
            data = {**vars(self.state), "sampler": self.loader.state_dict()}
            data["fingerprint"] = self.fingerprint if main else None
            saved = self.model.own_parameters()  # features of languages too, which are frozen
            keep, run = self.settings.keep_checkpoints, self.run if main else None
            save_checkpoint(run, saved, self.best_weights, self.optimizer, data, keep)
            self.state.saving += time.monotonic() - start
        self.accelerator.wait_for_everyone()

    def warnings(self) -> list[str]:
        """Return warnings about the finished training. Call it in all processes."""
        lines = []
        if self.state.examples is not None:
            idle = [name for name in map(str, self.rows) if name not in self.state.examples]
            if idle:
                lines.append(f"never trained, as no step drew from them: {listed(idle)}")
        if still := [name for name in self.parameters if not self._has_learnt(name)]:
            lines.append(f"without any gradient: {listed(still, 10)}")
        for task, value in self.state.constant.items():
            lines.append(f"{task}: the dev score, {value:.2f}, is that of a constant answer")
        if self.state.skipped:
            steps = counted(self.state.skipped, "step")
            lines.append(f"{steps} skipped, since the loss or gradient was not finite")
        return lines

    def _has_learnt(self, name: str) -> bool:
        """Whether a parameter had a gradient; those of the encoder may have none."""
        moments = self.optimizer.state.get(self.parameters[name])
        if name.startswith("backbone."):
            return True
        return moments is not None and bool(whole(moments["exp_avg_sq"].any()))

    def _step(self, monitor: Monitor) -> dict[str, Any]:
        """One optimiser step: one or several batches, each cell's weights generated once.

        Returns:
            The losses of its batches by task, and the norm of its gradient.
        """
        step = self.state.step
        self.rate = self.phase.set_rates(self.optimizer, step, self.settings)
        batches = self.loader.next(step)
        seed_everything(self.settings.seed, "step", step, self.accelerator.process_index)
        weights = task_weights(batches, list(self.model.tasks), self.accelerator)
        cells = [cell for batch in batches for cell in batch.cells]
        shared: AbstractContextManager[None] = nullcontext()
        if self.shards:  # all processes at once, with or without rows
            shared = self.model.shared_weights(cells or list(self.rows)[:1], always=True)
        elif len(batches) > 1:
            shared = self.model.shared_weights(cells)
        with self.model.backbone.arithmetic(self.precision), shared:
            losses = [self._learn(batch, weights, n == 0) for n, batch in enumerate(batches)]
        parameters = list(self.parameters.values())
        sum_gradients(parameters, self.accelerator)
        norm = clip_gradients(parameters, self.settings.clip)
        means, tokens, length, faults = read_losses(
            batches, losses, norm, weights, self.accelerator
        )
        skips = self.settings.not_finite == "skip"
        what = "; ".join(map(self._name_examples, faults.items()))
        if faults and not skips:
            raise HyperlectError(f"Training diverged at step {step + 1}: {what}. {REMEDY}")
        if skips and any_process(bool(faults), self.accelerator):
            self.state.skipped += 1
            monitor.say(f"step {step + 1} skipped: {what or 'in another process'}")
            monitor.step({}, tokens)
        else:
            monitor.step(means, tokens)
            self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.state.step += 1
        if self.state.examples is not None:
            self.state.examples = dict(self.loader.drawn + Counter(self.state.examples))
        return {"losses": means, "norm": length}

    def _name_examples(self, fault: tuple[str, list[tuple[Cell, int]]]) -> str:
        """Say what is not finite, and which examples were in the batch."""
        what, rows = fault
        by_cell: dict[Cell, set[int]] = {}
        for cell, index in rows:
            by_cell.setdefault(cell, set()).add(self.loader.rows[cell][index]["example"] + 1)
        named = [
            f"{cell} {listed([str(number) for number in sorted(numbers)], 10)}"
            for cell, numbers in sorted(by_cell.items())
        ]
        return f"{what} (its batch: examples {', '.join(named)})"

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
                self.save(monitor)
        if any_process(self.stop.asked, self.accelerator):
            self.save(monitor)
            raise Interrupted(
                f"Stopped at step {step} of {settings.steps}; everything is saved. "
                f"Resume it: hyperlect train --resume {self.run}"
            )

    def _evaluate(self, monitor: Monitor) -> None:
        """Score the development cells; keep the weights if they are the best so far."""
        settings = self.recipe.evaluation
        tokens, precision = settings.tokens_per_batch, settings.precision
        results = fill(self.model, self.dev_sample, tokens, precision)
        if self.shards:
            self.shards.divide()
        selected = self.recipe.selection_cells(self.model.grid)
        chosen = [r for r in results if r.cell in selected]
        # GPUs may differ in the last digit, so one process decides what is best.
        (selection,) = broadcast_object_list([selection_score(chosen)])
        best = selection is not None and (self.state.best is None or selection > self.state.best)
        if best:
            self.state.best, self.state.waited = selection, 0
            self.state.constant = self._constant(results)
            self.best_weights = {
                name: (p if isinstance(p, DTensor) else p.cpu()).detach().clone()
                for name, p in self.parameters.items()
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

    def _constant(self, results: Sequence[CellResult]) -> dict[str, float]:
        """Return the mean dev score of each task that does no better than a constant answer."""
        means = {}
        for name, task in self.model.tasks.items():
            scores = [(r.value, r.cell) for r in results if r.cell.task == name and r.scored]
            if scores and task.labels and task.type is not TaskType.PARSING:
                rows = [self.dev_sample[cell] for _, cell in scores]
                mean = sum(value for value, _ in scores) / len(scores)
                if mean <= sum(constant_score(task, r) for r in rows) / len(rows):
                    means[name] = mean
        return means


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
    counts = torch.zeros(len(tasks), 2)
    for batch in batches:
        for name, rows in batch.tasks.items():
            counts[tasks.index(name)] += torch.tensor([rows.examples, rows.units])
    counts = summed(counts, accelerator).cpu()
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


def read_losses(
    batches: Sequence[Batch],
    losses: Sequence[Mapping[str, Tensor]],
    norm: Tensor,
    weights: Mapping[str, tuple[float, float]],
    accelerator: Accelerator | None = None,
) -> tuple[dict[str, float], int, float, dict[str, list[Drawn]]]:
    """Read a step's losses and the norm of its gradient from the device, all at once.

    Args:
        batches: this process's.
        losses: the mean losses of each of them by task; see `batch_losses`.
        norm: of the gradient.
        weights: of the tasks in the step; see `task_weights`.
        accelerator: the processes; one if None.

    Returns:
        The loss of each task in the step, the mean over its scored units, and the number of
        sub-words, of all processes; the norm; and what is not finite in this one, with its rows.
    """
    pairs = zip(batches, losses, strict=True)
    read = [(batch, task, loss) for batch, by_task in pairs for task, loss in by_task.items()]
    sums = dict.fromkeys(weights, norm.new_zeros(()))
    for batch, task, loss in read:
        sums[task] = sums[task] + loss * batch.tasks[task].units
    tokens = norm.new_tensor(float(sum(batch.tokens for batch in batches)))
    totals = summed(torch.stack([*sums.values(), tokens]), accelerator)
    # A GPU waits at each reading.
    length, *values = torch.stack([norm, *totals, *(loss for *_, loss in read)]).tolist()
    faults: dict[str, list[Drawn]] = {}
    for (batch, task, _), loss in zip(read, values[len(totals) :], strict=True):
        if not math.isfinite(loss):
            rows = [row for row in _rows(batch) if row[0].task == task]
            cells = ", ".join(sorted({str(cell) for cell, _ in rows}))
            faults[f"the loss of {cells} is {loss}"] = rows
    if not math.isfinite(length) and not faults:
        faults["the gradient is not finite"] = [row for batch in batches for row in _rows(batch)]
    scored = zip(weights.items(), values, strict=False)  # the sub-words come last
    means = {task: total / units for (task, (_, units)), total in scored if units}
    return means, int(values[len(weights)]), length, faults


def _rows(batch: Batch) -> list[Drawn]:
    return list(zip(batch.cells, batch.indices, strict=True))
