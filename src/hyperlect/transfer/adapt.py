"""Fitting what belongs to one language, its vector or its cells' changes, to its sentences.

All else is frozen, so no other language changes. Labelled sentences teach by the loss of training.
Raw sentences teach by the model's own predictions: see `certainty_loss`. Sentences that are held
out decide how many steps are taken. Where they speak against what was fitted, it is not kept.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Literal, TypeVar

import pandas as pd
import torch
from torch import Tensor, nn

from ..data.batching import Batch, TaskRows, collate
from ..data.encoding import encode_inputs
from ..data.sampling import evenly, length_grouped
from ..errors import counted
from ..evaluation.evaluate import mean_loss
from ..grid import Cell
from ..heads import ParseScores
from ..hypernet import Hypernet
from ..model import HyperX
from ..predict import Row, check_inputs, forward_rows
from ..tasks import OUTSIDE, TaskType
from ..training.trainer import batch_losses, task_weights

Rows = Mapping[str, Sequence[Row]]
"""Encoded rows by task, as `encode` and `encode_inputs` return them."""
Losses = Mapping[str, float]
"""Mean losses by task."""
Probabilities = Mapping[str, Sequence[Tensor]]
"""Label probabilities of each row, by task, as `probabilities` returns them."""
Groups = list[dict[str, Any]]
"""Parameter groups of the optimiser; `row` says which rows of them are trained."""
T = TypeVar("T")
Trained = Literal["vector", "adapter", "source"]
State = list[Tensor]
USED, LOOKED_AT = 250, 60
"""How many raw rows of a task are used (more than the steps take), and how many are looked at."""


@dataclass(frozen=True)
class Settings:
    """How a language is fitted.

    Attributes:
        trained: "adapter", a change of the adapter of each cell that has sentences, see
            `HyperX.change_cell`; with raw sentences alone, one that an offset of the cell's source
            embedding makes, if a hypernetwork reads one. "vector", the language's row alone.
            "source", the row and the projection of all source embeddings, which changes every
            language. None for the adapter where a hypernetwork writes one, else the vector.
        steps: the most steps with labelled sentences. A fold ends before them at the first look
            that is no better than the one before.
        raw_steps: the same with raw sentences alone.
        batch_size: sentences in a step.
        learning_rate: of the language's row, with Adam.
        adapter_rate, offset_rate, source_rate: the same for changes of adapters (and with "vector"
            for the language's adapter of mad-x), for offsets, and for the projection.
        caution: k: the start counts as much as k labelled sentences.
        folds: into how many parts labelled sentences are split, at least two; each is held out
            once.
        look_every: steps between two evaluations on held-out sentences; half as many with raw ones.
        label_rates: how much it costs to change the rate of a label, with raw sentences.
        certain: raw sentences teach a task whose mean confidence is below this.
        most_changed: the largest share of labels that raw sentences may change.
        seconds: stop after this time. Results then depend on the machine's speed. None for never.
        seed: of the order of sentences.
    """

    trained: Trained | None = None
    steps: int = 30
    raw_steps: int = 18
    batch_size: int = 8
    learning_rate: float = 0.02
    adapter_rate: float = 3e-3
    offset_rate: float = 0.01
    source_rate: float = 1e-3
    caution: float = 4.0
    folds: int = 3
    look_every: int = 6
    label_rates: float = 3.0
    certain: float = 0.77
    most_changed: float = 0.3
    seconds: float | None = None
    seed: int = 1


@dataclass(frozen=True)
class Adaptation:
    """What became of a language's vector.

    Attributes:
        steps: how many were taken; 0 if it stays what it was.
        reason: why it stays, or what speaks for the new one.
        before, after: mean loss of the sentences held out, by task: labelled ones by the loss of
            training, raw ones by entropy.
        sentences: how many there were, by task.
        seconds: the time it took.
    """

    steps: int
    reason: str
    before: Mapping[str, float]
    after: Mapping[str, float]
    sentences: Mapping[str, int]
    seconds: float


def unlabelled_rows(
    model: HyperX, sentences: Sequence[Any], tasks: Iterable[str] | None = None
) -> dict[str, list[dict[str, Any]]]:
    """Encode raw sentences for the tasks that they can teach.

    By default that is tagging alone. Of spans, most words are outside of any, and surely so: to be
    more certain is to find fewer. For classification trials found no gain (docs/log.md). These
    tasks change through the language's vector, which tags move.

    Args:
        model: its tokenizer and tasks are used.
        sentences: texts, or lists of words.
        tasks: which tasks; by default all of type tagging.
    """
    if tasks is None:
        tasks = [name for name, task in model.tasks.items() if task.type is TaskType.TAGGING]
    rows = {}
    for task in map(model.task, tasks):
        inputs = check_inputs(sentences, [task] * len(sentences))
        contents = [each.content for each in inputs]
        rows[task.name] = encode_inputs(contents, task, model.tokenizer, model.max_length)
    return rows


@contextmanager
def only_language(
    model: HyperX, language: str, settings: Settings, tasks: Iterable[str], raw: bool
) -> Iterator[Groups]:
    """Let gradients reach one language alone inside the block.

    Its vector is a row of tables whose other rows get a gradient of exactly zero, so that Adam
    leaves them as they are.

    Args:
        model: the model.
        language: it has a vector.
        settings: what is trained, and its rates.
        tasks: those whose cells change, with "adapter".
        raw: whether there are only raw sentences.
    """
    end, whole, rate = ExitStack(), list[nn.Parameter](), settings.adapter_rate
    if settings.trained == "source":
        whole, rate = model.source_projection(), settings.source_rate
    elif settings.trained == "adapter" and raw and isinstance(model.adapters, Hypernet):
        whole = end.enter_context(model.offset_cells(tasks, language))
        rate = settings.offset_rate
    elif settings.trained == "adapter":
        changes = [model.change_cell(task, language).values() for task in tasks]
        whole = [parameter for change in changes for parameter in change]
    required = {parameter: parameter.requires_grad for parameter in model.parameters()}
    model.requires_grad_(False)
    groups: Groups = [{"params": whole, "lr": rate, "row": slice(None)}]
    row = model.config.language_index(language)
    for name, table in model.language_parameters().items():
        if required[table] and settings.trained != "adapter":
            is_adapter = name.startswith("adapters.languages.")
            rate = settings.adapter_rate if is_adapter else settings.learning_rate
            groups.append({"params": [table], "lr": rate, "row": row})
            mask = torch.zeros(len(table), *(1,) * (table.dim() - 1), device=table.device)
            mask[row] = 1.0
            table.requires_grad_(True)
            end.callback(table.register_hook(mask.mul).remove)  # type: ignore[no-untyped-call]
    for parameter in whole:
        parameter.requires_grad_(True)
    try:
        with end:
            yield [group for group in groups if group["params"]]
    finally:
        for parameter, value in required.items():
            parameter.requires_grad_(value)


def distributions(scores: Any, rows: TaskRows) -> Tensor:
    """Return log-probabilities of the labels of each scored unit, (N, labels).

    For parsing they are those of the relation of each word to its likeliest head.
    """
    if isinstance(scores, ParseScores):
        sentences, words = scores.real.nonzero().unbind(1)
        heads = scores.arcs[sentences, words].argmax(dim=-1)
        scores = scores.relations.at(sentences, words, heads)
    return scores.float().log_softmax(dim=-1)  # type: ignore[no-any-return]


def entropy(logs: Tensor) -> Tensor:
    """Return the mean entropy of log-probabilities, (N, labels)."""
    return -(logs.exp() * logs).sum(dim=-1).mean()


@torch.no_grad()
def probabilities(model: HyperX, language: str, rows: Rows) -> dict[str, list[Tensor]]:
    """Return the probabilities of the labels of each row, (units, labels), by task.

    Args:
        model: what predicts.
        language: the language that the rows are taken to be in.
        rows: encoded.
    """
    by_task = {}
    for task, of_task in rows.items():
        cells = [Cell(task, language)] * len(of_task)
        by_row: dict[int, Tensor] = {}
        for batch, output in forward_rows(model, of_task, cells):
            scored = batch.tasks[task]
            logs = distributions(output.scores[task], scored)
            of_rows = torch.split(logs.exp(), list(scored.counts))
            by_row |= zip(dict.fromkeys(batch.indices), of_rows, strict=True)
        by_task[task] = [by_row[index] for index in range(len(of_task))]
    return by_task


def entropies(by_task: Probabilities) -> dict[str, float]:
    """Return the mean entropy of each task's units."""
    joined = {task: torch.cat(list(of_task)) for task, of_task in by_task.items()}
    return {task: entropy(p.clamp_min(1e-9).log()).item() for task, p in joined.items()}


def certainty_loss(logs: Tensor, before: Tensor, label_rates: float) -> Tensor:
    """Return H(p) + λ KL(q̄ ‖ p̄): certain predictions, and each label as often as before.

    Entropy alone has a trivial minimum, one label everywhere. Information maximisation (Krause et
    al. 2010) holds against it with the entropy of p̄, the mean of p; here p̄ is compared with q̄, the
    rates of the labels that the same sentences had before, since labels are not equally frequent.

    Args:
        logs: (N, labels), log-probabilities of the units of some sentences.
        before: (labels), the mean probabilities of the same sentences before adaptation.
        label_rates: λ.
    """
    after = logs.exp().mean(dim=0)
    divergence = before * (before.clamp_min(1e-6) / after.clamp_min(1e-6)).log()
    return entropy(logs) + label_rates * divergence.sum()


class Fitter:
    """Takes the steps, and can go back.

    Args:
        model: in evaluation mode, so that nothing is dropped.
        language: the language that is fitted; it has a vector of its own.
        settings: how.
    """

    def __init__(self, model: HyperX, language: str, settings: Settings) -> None:
        self.model, self.language, self.settings = model, language, settings
        self.started = time.monotonic()

    def seconds(self) -> float:
        """Return the time since the start."""
        return time.monotonic() - self.started

    def late(self) -> bool:
        """Whether the time is over."""
        limit = self.settings.seconds
        return limit is not None and self.seconds() > limit

    def state(self, groups: Groups) -> State:
        """Copy what is fitted: the language's rows, and whole tensors."""
        return [p[group["row"]].detach().clone() for group in groups for p in group["params"]]

    @torch.no_grad()
    def restore(self, groups: Groups, state: State) -> None:
        """Go back to a state."""
        tensors = iter(state)
        for group in groups:
            for parameter in group["params"]:
                parameter[group["row"]] = next(tensors)

    def batches(self, rows: Rows, seed: int) -> Iterator[Batch]:
        """Yield shuffled batches without end, each of one task, the tasks in turn."""
        generator, model = torch.Generator().manual_seed(seed), self.model

        def of_task(task: str) -> Iterator[Batch]:
            lengths = [len(row["input_ids"]) for row in rows[task]]
            while True:
                for indices in length_grouped(lengths, self.settings.batch_size, generator):
                    drawn = [rows[task][index] for index in indices]
                    cells = [Cell(task, self.language)] * len(drawn)
                    batch = collate(drawn, cells, model.tasks, model.tokenizer, indices)
                    yield batch.to(model.device)

        endless = [of_task(task) for task, of in rows.items() if of]
        while True:
            for batches in endless:
                yield next(batches)

    def steps(self, groups: Groups, losses: Iterator[Tensor], settings: Settings) -> Iterator[int]:
        """Minimise losses; yield the number of steps whenever it is time to look."""
        optimizer = torch.optim.Adam([dict(group) for group in groups])
        for step in range(1, settings.steps + 1):
            optimizer.zero_grad()
            loss = next(losses)
            with torch.autocast(self.model.device.type, enabled=False):
                loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            last = step == settings.steps or self.late()
            if last or step % settings.look_every == 0:
                yield step
            if last:
                return

    def labelled_losses(self, rows: Rows, seed: int) -> Iterator[Tensor]:
        """Yield the loss of training of batch after batch."""
        for batch in self.batches(rows, seed):
            weights = task_weights([batch], list(self.model.tasks))
            yield batch_losses(self.model, batch, weights)[1]

    def predicted(self, rows: Rows) -> dict[str, list[Tensor]]:
        """Return `probabilities` of the language as it is now."""
        return probabilities(self.model, self.language, rows)

    def uncertain(self, rows: Rows, before: Probabilities) -> Rows:
        """Return the rows of the tasks that raw sentences can teach (`Settings.certain`)."""
        certain = self.settings.certain
        return {task: of for task, of in rows.items() if _confidence(before[task]) < certain}

    def certainty_losses(self, rows: Rows, before: Probabilities, seed: int) -> Iterator[Tensor]:
        """Yield `certainty_loss` of batch after batch.

        Args:
            rows: encoded.
            before: what `predicted` returned of them at the start; of other tasks too.
            seed: of their order.
        """
        for batch in self.batches(rows, seed):
            ((task, scored),) = batch.tasks.items()
            logs = distributions(self.model.run(batch).scores[task], scored)
            earlier = [before[task][index] for index in dict.fromkeys(batch.indices)]
            rates = torch.cat(earlier).mean(dim=0)
            yield certainty_loss(logs, rates, self.settings.label_rates)

    def held_out(self, rows: Rows) -> dict[str, float]:
        """Return the mean loss of labelled rows by task."""
        losses = {t: mean_loss(self.model, of, Cell(t, self.language)) for t, of in rows.items()}
        return {task: loss for task, (loss, units) in losses.items() if units}

    def fit_to_labels(self, groups: Groups, rows: Rows, raw: Rows) -> Adaptation:
        """Cross-validate the number of steps, then fit to all sentences for as many epochs.

        What n sentences teach is moved towards the start, by k / (n + k): few of them are alike,
        and what is held out of them cannot show what the others would say.
        """
        settings = self.settings
        start = self.state(groups)
        counts = [len({row["example"] for row in of}) for of in rows.values() if of]
        if max(counts, default=0) < 2:
            loss = self.held_out(rows)
            return self._result(0, "one labelled sentence of a task is too few", loss, loss, rows)
        mean = sum(counts) / len(counts)
        weight = mean / (mean + settings.caution)
        raw = {task: _spread(of, USED) for task, of in raw.items()}
        before = self.predicted(raw)
        raw = self.uncertain(raw, before)

        def fit(train: Rows, seed: int, settings: Settings) -> Iterator[int]:
            """Fit; at the start and whenever it is time to look, be where caution allows."""
            self.restore(groups, start)
            yield 0
            losses = self.labelled_losses(train, seed)
            if any(raw.values()):
                losses = map(torch.add, losses, self.certainty_losses(raw, before, seed))
            for step in self.steps(groups, losses, settings):
                fitted = self.state(groups)
                moved = zip(start, fitted, strict=True)
                cautious = [old + weight * (new - old) for old, new in moved]
                self.restore(groups, cautious)
                yield step
                self.restore(groups, fitted)
            self.restore(groups, cautious)

        looks: list[dict[int, dict[str, float]]] = []
        for train, held in _folds(rows, settings):
            if looks and self.late():
                break
            of_fold: dict[int, dict[str, float]] = {}
            gain = 0.0
            for step in fit(train, settings.seed + len(looks) + 1, settings):
                of_fold[step] = self.held_out(held)
                earlier, gain = gain, _gain(of_fold[0], of_fold[step])
                if step and gain <= earlier:
                    break
            looks.append(of_fold)
        # A fold that has ended counts as it was at its end.
        reached = sorted(set().union(*looks))
        for fold in looks:
            for previous, step in pairwise(reached):
                fold.setdefault(step, fold[previous])
        # Folds × steps: how much lower the loss is than before, as a share of it.
        table = torch.tensor([[_gain(fold[0], fold[step]) for step in reached] for fold in looks])
        best = int(table.mean(dim=0).argmax())
        gains = table[:, best]
        error = gains.std().item() / len(gains) ** 0.5 if len(gains) > 1 else 0.0
        kept = best > 0 and gains.mean().item() > error
        steps = 0
        self.restore(groups, start)
        if kept:
            # A fold sees fewer sentences in an epoch.
            steps = round(reached[best] * len(looks) / max(1, len(looks) - 1))
            whole = replace(settings, steps=steps, look_every=steps)
            *_, steps = fit(rows, settings.seed, whole)
        change = f"{100 * gains.mean().item():.0f} % ± {100 * error:.0f}"
        reason = f"the loss of held-out labels falls by {change} in {reached[best]} steps"
        if not kept:
            reason = "no number of steps clearly lowered the loss of held-out labels"
            reason += f" (best: by {change} in {reached[best]} steps)" if best else ""
        compared = (0, reached[best] if kept else 0)
        tables = (pd.DataFrame([fold[step] for fold in looks]) for step in compared)
        first, last = (table.mean().to_dict() for table in tables)
        return self._result(steps, reason, first, last, rows)

    def fit_to_text(self, groups: Groups, rows: Rows) -> Adaptation:
        """Make predictions on raw sentences more certain, and take the mean of the way there.

        The mean over the steps that were looked at moves less than the last of them, which in
        trials kept most of the gains and few of the losses. Nothing is fitted to a task that is
        certain already: there the rest of its errors are not what uncertainty shows.
        """
        settings = self.settings
        start = self.state(groups)
        rows = {task: _spread(of, USED) for task, of in rows.items()}
        everything = self.predicted(rows)
        fitted = self.uncertain(rows, everything)
        if not fitted:
            sure = [f"{task} {100 * _confidence(of):.0f} %" for task, of in everything.items()]
            reason = f"predictions are certain already ({', '.join(sure)})"
            return self._result(0, reason, entropies(everything), entropies(everything), rows)
        states: list[State] = []
        changed, steps = 0.0, 0
        looked_at = {task: _spread(of, LOOKED_AT) for task, of in fitted.items()}
        here = {task: _spread(everything[task], LOOKED_AT) for task in fitted}
        losses = self.certainty_losses(fitted, everything, settings.seed)
        look_every = max(1, settings.look_every // 2)
        gentle = replace(settings, steps=settings.raw_steps, look_every=look_every)
        for step in self.steps(groups, losses, gentle):
            changed = _changed(here, self.predicted(looked_at), self.model)
            if changed > settings.most_changed:
                break
            states.append(self.state(groups))
            steps = step
        means = [torch.stack(tensors).mean(dim=0) for tensors in zip(*states, strict=True)]
        self.restore(groups, means or start)
        after = self.predicted(rows)
        share = _changed(everything, after, self.model)
        reason = f"{100 * share:.0f} % of the labels changed in {counted(steps, 'step')}"
        if changed > settings.most_changed:
            reason += f"; more steps would change {100 * changed:.0f} %"
        return self._result(steps, reason, entropies(everything), entropies(after), rows)

    def _result(
        self, steps: int, reason: str, before: Losses, after: Losses, rows: Rows
    ) -> Adaptation:
        sentences = {task: len({row["example"] for row in of}) for task, of in rows.items()}
        return Adaptation(steps, reason, before, after, sentences, self.seconds())


def _folds(rows: Rows, settings: Settings) -> Iterator[tuple[Rows, Rows]]:
    """Split examples into parts; yield what is trained on and what is held out, part by part."""
    generator = torch.Generator().manual_seed(settings.seed)
    number: dict[tuple[str, int], int] = {}
    for task, of_task in rows.items():
        examples = list(dict.fromkeys(row["example"] for row in of_task))
        for place, index in enumerate(torch.randperm(len(examples), generator=generator).tolist()):
            number[task, examples[index]] = place
    count = min(max(settings.folds, 2), 1 + max(number.values()))

    def rows_of(folds: Collection[int]) -> Rows:
        return {
            task: [row for row in of_task if number[task, row["example"]] % count in folds]
            for task, of_task in rows.items()
        }

    for fold in range(count):
        yield rows_of({*range(count)} - {fold}), rows_of({fold})


def _spread(rows: Sequence[T], count: int) -> Sequence[T]:
    """Take at most `count` rows, evenly spaced."""
    return [rows[index] for index in evenly(len(rows), count)]


def _confidence(probabilities: Sequence[Tensor]) -> float:
    """Return the mean probability of the likeliest labels."""
    return torch.cat(list(probabilities)).amax(dim=-1).mean().item()


def _gain(before: Losses, after: Losses) -> float:
    """Return by what share the loss falls, the mean over tasks."""
    return sum(1 - after[task] / max(loss, 1e-9) for task, loss in before.items()) / len(before)


def _changed(before: Probabilities, after: Probabilities, model: HyperX) -> float:
    """Return the share of labels that changed, the largest of all tasks.

    Of spans, words that are outside of any, before and after, do not count.
    """
    shares = []
    for task, of_task in before.items():
        old, new = (torch.cat(list(p)).argmax(dim=-1) for p in (of_task, after[task]))
        counted_units = torch.ones_like(old, dtype=torch.bool)
        if model.task(task).type is TaskType.SPANS:
            outside = model.task(task).labels.index(OUTSIDE)
            counted_units = (old != outside) | (new != outside)
        if counted_units.any():
            shares.append((old != new)[counted_units].float().mean().item())
    return max(shares, default=0.0)


def adapt(
    model: HyperX, language: str, labelled: Rows, raw: Rows, settings: Settings | None = None
) -> Adaptation:
    """Fit a language that has a vector of its own to its sentences, in place.

    Args:
        model: the model; `HyperX.add_language` gave the language a vector to start from.
        language: its code.
        labelled, raw: encoded rows by task; one of the two may be empty.
        settings: how.

    Returns:
        What became of it. The vector stays what it was where the sentences held out say so.
    """
    settings = settings or Settings()
    by_hypernet = isinstance(model.adapters, Hypernet) and model.can_change_cells
    default: Trained = "adapter" if by_hypernet else "vector"
    settings = replace(settings, trained=settings.trained or default)
    tasks = [task for task, rows in {**raw, **labelled}.items() if rows]
    modes = model.training, model.backbone.training
    changed = model.config.changed
    model.eval()
    fitter = Fitter(model, model.config.language_code(language), settings)
    try:
        frozen = only_language(model, language, settings, tasks, not any(labelled.values()))
        with frozen as groups, model.backbone.arithmetic("auto"):
            if any(labelled.values()):
                adaptation = fitter.fit_to_labels(groups, labelled, raw)
            else:
                adaptation = fitter.fit_to_text(groups, raw)
        if adaptation.steps == 0:
            model.unchange_cells(set(model.config.changed).difference(changed))
        return adaptation
    finally:
        model.train(modes[0])
        model.backbone.train(modes[1])
