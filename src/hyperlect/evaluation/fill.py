"""Filling the grid: a score for every cell that has data."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch.nn import functional as F

from ..errors import DataError
from ..grid import Cell
from ..model import HyperX
from ..precision import Precision, arithmetic
from ..prediction import TOKENS_PER_BATCH, forward_rows, label_rows
from ..tasks import TaskType
from .metrics import Score, score, score_trees
from .results import CellResult

MASK_SEED = 20221207
"""The masks of evaluation follow from it and from `tokens_per_batch`, whatever the model, so that
perplexities compare."""
NOTHING_TO_FIND = "its data holds no span to find"
"""Why there is no score of spans where there are none."""


def fill(
    model: HyperX,
    rows: Mapping[Cell, Any],
    tokens_per_batch: int = TOKENS_PER_BATCH,
    precision: Precision = "fp32",
    done: Callable[[CellResult], None] = lambda result: None,
) -> list[CellResult]:
    """Score every cell.

    A cell to which the model's method does not apply has no score, and says why; nor has a cell of
    spans in whose data there are none.

    Args:
        model: what to score.
        rows: encoded rows (with labels) by cell.
        tokens_per_batch: sub-words a forward pass, padding counted.
        precision: of the arithmetic, but for the parser's scores.
        done: called with each result as it comes.

    Raises:
        DataError: a cell has no rows, so that any score would be made up.
    """
    with arithmetic(model.device.type, precision):  # around all: what it keeps is made once
        return _fill(model, rows, tokens_per_batch, done)


def _fill(
    model: HyperX, rows: Mapping[Cell, Any], tokens: int, done: Callable[[CellResult], None]
) -> list[CellResult]:
    results = []
    for cell, encoded in rows.items():
        loaded = list(encoded)  # once out of Arrow: evaluation reads each row several times
        if not loaded:
            raise DataError(f"There is nothing to score in {cell}: its data has no rows.")
        reason = model.not_applicable(cell)
        scored = None if reason else _score(model, loaded, cell, tokens)
        if scored and not scored.units:  # no span in the gold: any number would be made up
            reason, scored = NOTHING_TO_FIND, None
        result = CellResult(
            task=cell.task,
            language=cell.language,
            kind=model.grid.kind(cell),
            metric=model.task(cell.task).type.metric,
            score=scored.value if scored else None,
            examples=len({row["example"] for row in loaded}),
            units=scored.units if scored else 0,
            unit=scored.unit if scored else "",
            details=dict(scored.details) if scored else {},
            language_source=model.language_source(cell.language),
            note=reason or "",
            parts=scored.parts if scored else (),
        )
        results.append(result)
        done(result)
    return results


def _score(model: HyperX, rows: list[dict[str, Any]], cell: Cell, tokens: int) -> Score:
    match model.task(cell.task).type:
        case TaskType.MLM:
            return _perplexity(model, rows, cell, tokens)
        case TaskType.PARSING:
            return _score_trees(model, rows, cell, tokens)
        case _:
            return _score_labels(model, rows, cell, tokens)


def _score_labels(model: HyperX, rows: list[dict[str, Any]], cell: Cell, tokens: int) -> Score:
    task = model.task(cell.task)
    gold: dict[int, list[str]] = {}
    for row in rows:  # the windows of a sentence follow each other
        gold.setdefault(row["example"], []).extend(task.labels[i] for i in row["labels"])
    found = label_rows(model, rows, [cell] * len(rows), tokens).labels
    predicted = [[task.labels[i] for i in found[example]] for example in gold]
    return score(task, list(gold.values()), predicted)


def _score_trees(model: HyperX, rows: list[dict[str, Any]], cell: Cell, tokens: int) -> Score:
    labels = model.task(cell.task).labels
    found = label_rows(model, rows, [cell] * len(rows), tokens)
    gold = [(row["heads"], [labels[i] for i in row["labels"]]) for row in rows]
    predicted = [
        (found.heads[row["example"]], [labels[i] for i in found.labels[row["example"]]])
        for row in rows
    ]
    return score_trees(gold, predicted)


def _perplexity(model: HyperX, rows: list[dict[str, Any]], cell: Cell, tokens: int) -> Score:
    """exp of the mean negative log-likelihood at masked positions (15 %, the same each time)."""
    generator = torch.Generator().manual_seed(MASK_SEED)
    total, count = 0.0, 0
    for batch, output in forward_rows(model, rows, [cell] * len(rows), tokens, generator):
        labels = batch.labels[cell.task]
        total += F.cross_entropy(output.logits.float(), labels, reduction="sum").item()
        count += len(labels)
    return Score(math.exp(min(total / count, 700)), count, "masked sub-words")
