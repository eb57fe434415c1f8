"""Skewed batches: most rows of one cell, beside many cells with few."""

from __future__ import annotations

from collections.abc import Iterator

from hyperlect.data.batching import Batch
from hyperlect.grid import Cell
from hyperlect.model import HyperX

from .bench import SMALL, Bench, Step, forward, like_length
from .languages import codes
from .rows import Row, timed_row
from .steps import shape

LANGUAGES = 60
LARGE, OTHERS = 300, 100
"""The rows of one language, and of all others together."""
TEXTS = 400
"""What is predicted: one text in each language, and all the rest in one."""


def model(bench: Bench) -> HyperX:
    return bench.model("hyperx", SMALL, codes(LANGUAGES))


def batches(bench: Bench) -> dict[str, Batch]:
    """Make two batches of the same rows, skewed and spread evenly over the same cells."""
    cells = [Cell("pos", code) for code in codes(LANGUAGES)]
    (rows,) = like_length(bench.sample, LARGE + OTHERS, 1)
    others = [cells[1 + index % (LANGUAGES - 1)] for index in range(OTHERS)]
    even = [cells[index % LANGUAGES] for index in range(len(rows))]
    return {
        "skewed": bench.batch(rows, [cells[0]] * LARGE + others),
        "even": bench.batch(rows, even),
    }


def against_even(bench: Bench, training: bool) -> Row:
    """Time a pass over a skewed batch, and one over the same rows spread evenly."""
    pair = batches(bench)
    shared = model(bench)
    if training:
        steps = {name: Step(bench, shared, [batch]) for name, batch in pair.items()}
        times = bench.times(steps, max(1, bench.repetitions // 3), warmup=1)
    else:
        shared.eval()
        with shared.cached_weights():
            times = bench.times(
                {
                    name: lambda batch=batch: forward(bench, shared, batch)
                    for name, batch in pair.items()
                }
            )
    return timed_row(
        f"{'training step' if training else 'inference'}, {LARGE} sentences of one cell and "
        f"{OTHERS} of {LANGUAGES - 1} others",
        "the same sentences, as many of each cell",
        "≤ 1.25",
        times,
        ("skewed", "even"),
        extra=True,
        **shape([pair["skewed"]]),
    )


def prediction(bench: Bench) -> Row:
    """Time `predict` over many languages, and the same texts language by language."""
    predictor = model(bench).eval()
    first, *others = codes(LANGUAGES)
    largest = TEXTS - len(others)
    languages = [first] * largest + others
    texts = bench.texts[:TEXTS]

    def apart() -> None:
        for code in codes(LANGUAGES):
            of_language = [t for t, other in zip(texts, languages, strict=True) if other == code]
            predictor.predict(of_language, "pos", code)

    runs = {
        "together": lambda: predictor.predict(texts, "pos", languages),
        "language by language": apart,
    }
    return timed_row(
        f"predicting {TEXTS} sentences in {LANGUAGES} languages, {largest} of them in one",
        "the same, language by language",
        "≤ 1",
        bench.times(runs, max(1, bench.repetitions // 3), warmup=1),
        ("together", "language by language"),
        extra=True,
    )


def measure(bench: Bench) -> Iterator[Row]:
    """Measure every row of this module."""
    yield against_even(bench, training=False)
    yield against_even(bench, training=True)
    yield prediction(bench)
