"""Training throughput on a recipe's data, against training as it was published; and padding."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from common import quartiles
from published import LENGTH, PublishedModel

from hyperlect.data.batching import Batch, Drawn, collate, load_rows, mask_rows
from hyperlect.data.sampling import Sampler
from hyperlect.grid import Cell
from hyperlect.hardware import arithmetic
from hyperlect.model import HyperX
from hyperlect.recipe.corpora import read_corpora
from hyperlect.training.run import model_config
from hyperlect.training.schedule import make_sampler

from .bench import SMALL, Bench, Step, twin_of
from .rows import Row

STEPS = 20
"""Steps of one run."""
DRAWS = 500
"""Batches that padding is counted over."""
Rows = Mapping[Cell, Any]


class Learning:
    """Some steps on real rows, drawn beforehand; batches are made as they are needed."""

    def __init__(self, bench: Bench, model: HyperX, rows: Rows, drawn: Sequence[Sequence[Drawn]]):
        self.bench, self.rows, self.drawn = bench, rows, drawn
        self.tasks, self.tokenizer = model.tasks, model.tokenizer
        self.step = Step(bench, model, [])

    def __call__(self, steps: int | None = None) -> None:
        for drawn in self.drawn[:steps]:
            generator = torch.Generator().manual_seed(1)
            cells = [cell for cell, _ in drawn]
            rows = load_rows(self.rows, drawn)
            masked = mask_rows(rows, cells, self.tasks, self.tokenizer, generator)
            batch = collate(masked, cells, self.tasks, self.tokenizer)
            self.learn(batch.to(self.bench.device))

    def learn(self, batch: Batch) -> None:
        """Take one step."""
        self.step.backward(batch)
        self.step.finish()


class PublishedLearning(Learning):
    """The same in the published manner."""

    def __init__(self, bench: Bench, model: HyperX, rows: Rows, drawn: Sequence[Sequence[Drawn]]):
        super().__init__(bench, model, rows, drawn)
        self.model = PublishedModel(model, min(LENGTH, model.max_length))
        self.step.optimizer = torch.optim.AdamW(self.step.parameters, lr=1e-3, weight_decay=0)

    def learn(self, batch: Batch) -> None:
        """Take one step."""
        with arithmetic(self.bench.device.type, self.bench.precision):
            loss = self.model.loss(batch)
            loss.backward()
        self.step.finish()


def by_share(sampler: Sampler, steps: int) -> list[list[Drawn]]:
    """Draw batches until each task has its expected number of them.

    Masked language modelling costs the published procedure several times a step of other tasks,
    so chance in how many of its batches are drawn would decide the outcome.
    """
    share: Counter[str] = Counter()
    for cell, probability in sampler.probabilities.items():
        share[cell.task] += probability
    left = {task: max(1, round(steps * fraction)) for task, fraction in share.items()}
    drawn = []
    while any(left.values()):
        rows = sampler.next()
        task = rows[0][0].task
        if left[task]:
            left[task] -= 1
            drawn.append(rows)
    return drawn


class Prepared:
    """The training data of a recipe, and samplers of it."""

    def __init__(self, bench: Bench) -> None:
        self.recipe, self.name = bench.recipe()
        corpora = read_corpora(self.recipe, ["train"])
        # Of the published form, which the other side is written for.
        self.config = replace(model_config(self.recipe, corpora), hypernet=SMALL)
        tokenizer, length = bench.backbone.tokenizer, bench.length(self.recipe)
        encoded = corpora.encode(tokenizer, length)
        self.rows = {cell: rows for (_, cell), rows in encoded.items()}

    def sampler(self, **settings: Any) -> Sampler:
        """Make a sampler by the recipe's training section, with some settings changed."""
        shares = {name: task.share for name, task in self.recipe.tasks.items() if task.share}
        section = self.recipe.training.model_copy(update=settings)
        return make_sampler(self.rows, section, shares)

    def real_tokens(self, drawn: Sequence[Sequence[Drawn]]) -> int:
        """Count the sub-words of drawn rows."""
        return sum(length for rows in drawn for length in self.lengths(rows))

    def lengths(self, drawn: Sequence[Drawn]) -> list[int]:
        """Return the lengths of drawn rows."""
        return [len(self._ids[cell][row]) for cell, row in drawn]

    @functools.cached_property
    def _ids(self) -> dict[Cell, Any]:
        return {cell: rows["input_ids"][:] for cell, rows in self.rows.items()}


def throughput(bench: Bench, prepared: Prepared) -> Iterator[Row]:
    """Compare real tokens a second: with mixed batches, and on the very batches of the twin."""
    single = by_share(prepared.sampler(batching="single", tokens=None), STEPS)
    mixed = prepared.sampler(batching="mixed")
    drawn = {"mixed": [mixed.next() for _ in single], "single": single, "published": single}
    runs: dict[str, Learning] = {}
    for name, batches in drawn.items():
        torch.manual_seed(1)
        model = HyperX(twin_of(bench.backbone), prepared.config).to(bench.device)
        kind = PublishedLearning if name == "published" else Learning
        runs[name] = kind(bench, model, prepared.rows, batches)
        runs[name](1)
    times = bench.times(runs, max(2, bench.repetitions // 10), warmup=0)
    tokens = {name: prepared.real_tokens(rows) for name, rows in drawn.items()}
    speeds = {name: [tokens[name] / t for t in seconds] for name, seconds in times.items()}
    for name in ("mixed", "single"):
        pairs = [a / b for a, b in zip(speeds[name], speeds["published"], strict=True)]
        low, middle, high = quartiles(pairs)
        both = (name, "published")
        yield Row(
            f"training throughput in real tokens per second, {name} batches",
            f"the published procedure, padded to {LENGTH}, with MLM logits at every position",
            middle,
            "≥ 10" if name == "mixed" else None,
            len(pairs),
            name != "mixed",
            {
                "quartiles": [low, high],
                "tokens_per_second": {which: quartiles(speeds[which])[1] for which in both},
                "real_tokens": {which: tokens[which] for which in both},
                "one_run": f"{len(single)} steps",
                "recipe": prepared.name,
            },
        )


def padding(prepared: Prepared, batching: str) -> Row:
    """Count how many positions of the batches that a recipe draws are padding."""
    sampler = prepared.sampler(batching=batching)
    real = places = 0
    for _ in range(DRAWS):
        lengths = prepared.lengths(sampler.next())
        real += sum(lengths)
        places += max(lengths) * len(lengths)
    return Row(
        f"padding, batches {batching}",
        "all positions of the batches",
        1 - real / places,
        "≤ 0.10" if batching == prepared.recipe.training.batching else None,
        1,
        True,
        {"batches": DRAWS, "real_tokens": real, "positions": places, "recipe": prepared.name},
    )


def measure(bench: Bench) -> Iterator[Row]:
    """Measure every row of this module."""
    prepared = Prepared(bench)
    yield from throughput(bench, prepared)
    for batching in ("single", "mixed"):
        yield padding(prepared, batching)
