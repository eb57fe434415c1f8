"""How a model scales in languages: ten, a thousand, seven thousand."""

from __future__ import annotations

import functools
import itertools
import string
from collections.abc import Iterator

import torch

from hyperlect.errors import UnknownNameError
from hyperlect.languages import resolve

from .bench import SMALL, Bench, Step
from .memory import MIB, moments, peak, size
from .rows import Row, timed_row
from .steps import CELLS, shape

COUNTS = (10, 1000, 7000)
GENERATIONS = 50
"""Cells generated one after the other in one run."""


@functools.cache
def codes(count: int) -> list[str]:
    """Return this many ISO 639-3 codes, those that the benchmarks' cells name first."""
    listed = [cell.language for cell in CELLS]
    for letters in itertools.product(string.ascii_lowercase, repeat=3):
        if len(listed) == count:
            break
        code = "".join(letters)
        try:
            known = resolve(code) == code and code not in listed[: len(CELLS)]
        except UnknownNameError:
            continue
        if known:
            listed.append(code)
    return listed


class Generate:
    """Generates the weights of one cell several times, without gradients."""

    def __init__(self, bench: Bench, step: Step) -> None:
        self.bench, self.model = bench, step.model

    def __call__(self) -> None:
        with torch.no_grad():
            for _ in range(GENERATIONS):
                self.model.generate(CELLS[:1])


def measure(bench: Bench) -> Iterator[Row]:
    """Measure every row of this module."""
    batches = bench.batches(CELLS[:1])
    steps = {n: Step(bench, bench.model("hyperx", SMALL, codes(n)), batches) for n in COUNTS}
    names = {n: f"{n:,} languages" for n in COUNTS}
    fewest, *more = COUNTS
    times = bench.times({names[n]: step for n, step in steps.items()}, 2 * bench.repetitions)
    for n in more:
        pair = (names[n], names[fewest])
        text = f"training step, {names[n]}"
        yield timed_row(text, names[fewest], "≤ 1.03", times, pair, extra=True, **shape(batches))
    runs = {names[n]: Generate(bench, step) for n, step in steps.items()}
    times = bench.times(runs, 2 * bench.repetitions)
    for n in more:
        pair = (names[n], names[fewest])
        text = f"generating the weights of a cell, {names[n]}"
        one_run = f"{GENERATIONS} times"
        yield timed_row(text, names[fewest], "≤ 1.03", times, pair, extra=True, one_run=one_run)
    yield memory(bench, steps[fewest], steps[more[-1]])


def memory(bench: Bench, few: Step, many: Step) -> Row:
    """Compare the growth of a step's peak memory with that of the language table.

    The table is there four times in a training step: its values, gradients and two moments.
    """
    table = {step: step.model.adapters.source.embeddings["language"] for step in (few, many)}
    grown = sum(sign * (2 * size([t]) + moments(s, [t])) for (s, t), sign in
                zip(table.items(), (-1, 1), strict=True))  # fmt: skip
    peaks = {step: peak(bench, step) for step in (few, many)}
    return Row(
        f"growth of a step's peak memory, {COUNTS[0]} to {COUNTS[-1]:,} languages",
        "growth of the language table with its gradient and moments",
        (peaks[many] - peaks[few]) / grown,
        "≤ 1.03",
        1,
        True,
        {
            "mebibytes": {
                f"peak, {COUNTS[0]} languages": peaks[few] / MIB,
                f"peak, {COUNTS[-1]:,} languages": peaks[many] / MIB,
                "growth of the table": grown / MIB,
            }
        },
    )
