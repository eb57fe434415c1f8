"""Inference: the weights of one cell kept, and many cells in one batch."""

from __future__ import annotations

from collections.abc import Iterator

from hyperlect.data.batching import Batch
from hyperlect.hypernet import HypernetConfig
from hyperlect.model import HyperX

from .bench import BASE, SMALL, TASKS, Bench, forward, like_length, random_cells
from .rows import Row, timed_row
from .steps import CELLS, shape, sizes


def cached(bench: Bench, sentences: int | None, hypernet: HypernetConfig, extra: bool) -> Row:
    """Time forward passes of one cell, its weights generated before."""
    batches = bench.batches([CELLS[0]] * 4, sentences)
    models = {
        "hypernetwork, cached": bench.model("hyperx", hypernet).eval(),
        "ordinary adapters": bench.model("adapters", hypernet).eval(),
    }

    def through(model: HyperX) -> None:
        for batch in batches:
            forward(bench, model, batch)

    runs = {name: lambda model=model: through(model) for name, model in models.items()}
    with models["hypernetwork, cached"].cached_weights():
        times = bench.times(runs, 2 * bench.repetitions)
    name = "inference of one cell, cached"
    count = len(batches[0].cells)
    size = f", {sizes(hypernet)}, {count} sentence{'s' * (count > 1)}" if extra else ""
    return timed_row(
        name + size,
        "ordinary adapters",
        None if extra else "≤ 1.02",
        times,
        ("hypernetwork, cached", "ordinary adapters"),
        extra=extra,
        **shape(batches),
        one_run=f"{len(batches)} forward passes",
    )


def many_cells(bench: Bench, hypernet: HypernetConfig, extra: bool) -> Iterator[Row]:
    """Time one batch of as many cells as sentences, on weights that were generated before."""
    model = bench.model("hyperx", hypernet, bench.languages, list(TASKS)).eval()
    (rows,) = like_length(bench.sample, bench.sentences, 1)
    cells = list(random_cells(bench.languages, len(rows)))
    mixed = bench.batch(rows, cells)
    one = bench.batch(rows, [CELLS[0]] * len(rows))
    singles = [bench.batch([row], [cell]) for row, cell in zip(rows, cells, strict=True)]

    def each(batches: list[Batch]) -> None:
        for batch in batches:
            forward(bench, model, batch)

    runs = {
        "distinct cells": lambda: each([mixed]),
        "one cell": lambda: each([one]),
        "single forwards": lambda: each(singles),
    }
    with model.cached_weights():
        times = bench.times(runs)
    count = len(cells)
    name = f"a batch of {count} sentences from {count} distinct cells"
    name += f", {sizes(hypernet)}" if extra else ""
    goals = (None, None) if extra else ("≤ 1.25", "≤ 0.1" if bench.cuda else "≤ 0.5")
    against = {
        "one cell": f"{count} sentences of one cell",
        "single forwards": f"{count} single-cell forwards",
    }
    for (short, long), goal in zip(against.items(), goals, strict=True):
        pair = ("distinct cells", short)
        yield timed_row(name, long, goal, times, pair, extra=extra, **shape([mixed]))


def first_use(bench: Bench, hypernet: HypernetConfig) -> Row:
    """Time a forward pass that must generate its cell's weights, against one that finds them."""
    (batch,) = bench.batches([CELLS[0]])
    models = {name: bench.model("hyperx", hypernet).eval() for name in ("generated", "cached")}
    runs = {
        name: lambda model=model: forward(bench, model, batch) for name, model in models.items()
    }
    with models["cached"].cached_weights():
        times = bench.times(runs)
    return timed_row(
        f"inference of a cell that is not cached yet, {sizes(hypernet)}",
        "the same, cached",
        None,
        times,
        ("generated", "cached"),
        extra=True,
        **shape([batch]),
    )


def measure(bench: Bench) -> Iterator[Row]:
    """Measure every row of this module."""
    yield cached(bench, None, SMALL, extra=False)
    yield from many_cells(bench, SMALL, extra=False)
    yield cached(bench, 1, SMALL, extra=True)
    yield cached(bench, None, BASE, extra=True)
    yield from many_cells(bench, BASE, extra=True)
    yield first_use(bench, BASE)
