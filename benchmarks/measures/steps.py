"""What generating the weights adds to a training step, and what mixing cells does."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from hyperlect.grid import Cell
from hyperlect.hypernet import HypernetConfig

from .bench import BASE, DEFAULT, SMALL, TASKS, Bench, Step, like_length, random_cells
from .rows import Row, timed_row

CELLS = [Cell("pos", language) for language in ("eng", "fin", "rus", "tur")]
ORDINARY = "ordinary adapters of the same shape, same batches"


def sizes(hypernet: HypernetConfig) -> str:
    name = "the default, " if hypernet == DEFAULT else ""
    return f"{name}b = {hypernet.bottleneck}, p = {hypernet.projection}"


def against_ordinary(
    bench: Bench, hypernet: HypernetConfig, goal: str | None, sentences: int | None = None
) -> Row:
    """Time whole steps on the same batches, one cell each: forward, backward, clipping, AdamW."""
    batches = bench.batches(CELLS, sentences)
    runs = {
        "hypernetwork": Step(bench, bench.model("hyperx", hypernet), batches),
        "ordinary adapters": Step(bench, bench.model("adapters", hypernet), batches),
    }
    times = bench.times(runs)
    size = sentences or bench.sentences
    return timed_row(
        f"training step, {sizes(hypernet)}" + (f", {size} sentences" if sentences else ""),
        ORDINARY,
        goal,
        times,
        ("hypernetwork", "ordinary adapters"),
        extra=goal is None,
        adapter_parameters={
            name: sum(p.numel() for p in step.model.adapters.parameters())
            for name, step in runs.items()
        },
        **shape(batches),
        one_run=f"{len(batches)} steps of one cell each",
    )


def shape(batches: list[Any]) -> dict[str, Any]:
    """Describe batches by their size and their real tokens."""
    real = sum(int(batch.attention_mask.sum()) for batch in batches)
    places = sum(batch.attention_mask.numel() for batch in batches)
    return {
        "batch": f"{len(batches[0].cells)} sentences",
        "real_tokens": real,
        "padding": 1 - real / places,
    }


def mixed_step(bench: Bench) -> Row:
    """Time a step on many cells against one on a single cell, the sentences being the same."""
    (rows,) = like_length(bench.sample, bench.sentences, 1)
    one = [bench.batch(rows, [CELLS[0]] * len(rows))]
    cells = list(random_cells(bench.languages, bench.sentences))
    mixed = [bench.batch(rows, cells)]
    runs = {
        "distinct cells": Step(
            bench, bench.model(languages=bench.languages, tasks=list(TASKS)), mixed
        ),
        "one cell": Step(bench, bench.model(languages=bench.languages, tasks=list(TASKS)), one),
    }
    return timed_row(
        f"training step on {len(cells)} sentences of {len(cells)} cells",
        "the same sentences as one cell",
        None,
        bench.times(runs),
        ("distinct cells", "one cell"),
        extra=True,
        **shape(mixed),
    )


def accumulated(bench: Bench, hypernet: HypernetConfig, micro: int = 4) -> Row:
    """Time a step of several micro-batches of one cell, with its weights generated once or each."""
    batches = bench.batches([CELLS[0]] * micro, max(1, bench.sentences // micro))
    once = Step(bench, bench.model("hyperx", hypernet), batches)
    each = Step(bench, bench.model("hyperx", hypernet), batches)

    def run_once() -> None:
        with once.model.shared_weights([CELLS[0]]):
            for batch in batches:
                once.backward(batch)
        once.finish()

    def run_each() -> None:
        for batch in batches:
            each.backward(batch)
        each.finish()

    return timed_row(
        f"step of {micro} micro-batches, weights generated once, {sizes(hypernet)}",
        "the same, generated for every micro-batch",
        None,
        bench.times({"once": run_once, "each": run_each}),
        ("once", "each"),
        extra=True,
        **shape(batches),
    )


def measure(bench: Bench) -> Iterator[Row]:
    """Measure every row of this module."""
    yield against_ordinary(bench, SMALL, "≤ 1.05")
    yield against_ordinary(bench, BASE, "≤ 1.30")
    yield against_ordinary(bench, DEFAULT, None)
    yield against_ordinary(bench, SMALL, None, sentences=8)
    yield against_ordinary(bench, BASE, None, sentences=8)
    yield against_ordinary(bench, DEFAULT, None, sentences=8)
    yield mixed_step(bench)
    yield accumulated(bench, BASE)
