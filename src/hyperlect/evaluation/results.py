"""Results: a score for each cell, always with its kind, and averages by kind."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from ..errors import RunError
from ..files import write_whole
from ..grid import Kind
from ..tasks import TaskType
from .metrics import Parts

FORMAT_VERSION = 1
FILE = "results.json"


@dataclass(frozen=True)
class CellResult:
    """The result of one cell; `score` is a percentage, or a perplexity.

    Attributes:
        task, language, kind, metric: what was measured, and of what kind the cell is.
        score: None where the method does not apply to the cell.
        examples: sentences or texts.
        units, unit: what the score counts over: words, spans, texts, masked sub-words.
        details: other scores.
        language_source: whose vector stood for the language.
        note: why the method does not apply, where it does not.
        parts: numerator and denominator of each example, as in `metrics.Score`. They are kept in a
            file of their own.
    """

    task: str
    language: str
    kind: str
    metric: str
    score: float | None
    examples: int
    units: int
    unit: str
    details: Mapping[str, float] = field(default_factory=dict)
    language_source: str = ""
    note: str = ""
    parts: Parts = field(default=(), repr=False)


@dataclass(frozen=True)
class Average:
    """The unweighted mean over the cells of one task and kind.

    Attributes:
        task, kind, metric: of the cells.
        mean: over those that have a score; None where none has.
        cells: how many have one.
        not_applicable: how many have none, since the method does not apply to them.
    """

    task: str
    kind: str
    metric: str
    mean: float | None
    cells: int
    not_applicable: int = 0


def averages(cells: Iterable[CellResult]) -> list[Average]:
    """Average scores by task and kind, in the order of tasks, then of `Kind`."""
    groups: dict[tuple[str, str], list[CellResult]] = defaultdict(list)
    for cell in cells:
        groups[cell.task, cell.kind].append(cell)
    tasks = list(dict.fromkeys(task for task, _ in groups))
    found = []
    for task in tasks:
        for kind in Kind:
            if group := groups.get((task, str(kind))):
                scores = [cell.score for cell in group if cell.score is not None]
                mean = sum(scores) / len(scores) if scores else None
                counts = len(scores), len(group) - len(scores)
                found.append(Average(task, str(kind), group[0].metric, mean, *counts))
    return found


def selection_score(cells: Iterable[CellResult]) -> float | None:
    """Return the number by which a checkpoint is chosen: higher is better.

    It is the mean over tasks of the mean over each task's cells. Perplexities do not add up with
    percentages: they count, negated, only where there is nothing else. Cells without a score do
    not count.

    Returns:
        None where there is no score.
    """
    by_task: dict[str, list[float]] = defaultdict(list)
    perplexities: list[float] = []
    for cell in cells:
        if cell.score is None:
            continue
        if cell.metric == TaskType.MLM.metric:
            perplexities.append(-cell.score)
        else:
            by_task[cell.task].append(cell.score)
    groups = list(by_task.values()) or ([perplexities] if perplexities else [])
    means = [sum(scores) / len(scores) for scores in groups]
    return sum(means) / len(means) if means else None


def results_data(about: Mapping[str, Any], cells: Iterable[CellResult]) -> dict[str, Any]:
    """Return results as plain data.

    Args:
        about: what the results are of: name, method, seed, steps, backbone, seconds.
        cells: the results.
    """
    cells = list(cells)
    return {
        "format_version": FORMAT_VERSION,
        **about,
        "cells": [_without_parts(cell) for cell in cells],
        "averages": [asdict(average) for average in averages(cells)],
    }


def _without_parts(cell: CellResult) -> dict[str, Any]:
    return {key: value for key, value in asdict(replace(cell, parts=())).items() if key != "parts"}


def write_results(folder: Path, data: Mapping[str, Any]) -> None:
    """Write what `results_data` gave as results.json into a run folder."""
    text = json.dumps(data, ensure_ascii=False, indent=1)
    write_whole(folder / FILE, text + "\n")  # a run with results is done, so no half of them


def read_results(folder: Path) -> dict[str, Any]:
    """Read a run's results.json. Raises `RunError` where there is none, or of another version."""
    path = folder / FILE
    if not path.is_file():
        raise RunError(f"{folder} has no results yet. Make them: hyperlect evaluate {folder}")
    data: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    if data.get("format_version") != FORMAT_VERSION:
        version = data.get("format_version")
        raise RunError(f"{path} has format_version {version}; this reads {FORMAT_VERSION}.")
    return data


def cell_results(data: Mapping[str, Any]) -> list[CellResult]:
    """Return the cells of what `read_results` read."""
    return [CellResult(**cell) for cell in data["cells"]]
