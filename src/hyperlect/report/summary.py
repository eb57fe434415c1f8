"""The summary of a setting: every system's mean by task and kind, with the spread over seeds."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from ..evaluation.results import CellKey, is_perplexity
from ..grid import Cell, Kind
from .bootstrap import Difference, Sample, difference
from .systems import Setting, System

ALL = "all"
"""What stands for the mean over tasks."""


@dataclass(frozen=True)
class Row:
    """One system's score in the cells of one task and kind.

    Attributes:
        setting, method, task, kind: of what; the task may be `ALL`.
        metric: of the task; empty for `ALL`.
        mean: over seeds of the mean over cells; None where the method applies to none of them.
        std: the sample standard deviation over seeds; None with a single seed.
        seeds: how many.
        cells: over how many cells.
        left_out: cells that others have and the method does not apply to.
        best: whether it is the best of those that have the most cells.
        against: how it differs from the baseline, where that can be told.
        by_seed: the mean over cells with each seed.
        test_examples: how many the cells have together.
    """

    setting: str
    method: str
    task: str
    kind: Kind
    metric: str
    mean: float | None
    std: float | None
    seeds: int
    cells: int
    left_out: int = 0
    best: bool = False
    against: Difference | None = None
    by_seed: tuple[float, ...] = ()
    test_examples: int = 0

    def data(self) -> dict[str, object]:
        """Return plain data for JSON."""
        difference = self.against and {
            "mean": round(self.against.mean, 3),
            "low": round(self.against.low, 3),
            "high": round(self.against.high, 3),
            "p": self.against.p,
        }
        return {
            "setting": self.setting,
            "method": self.method,
            "task": self.task,
            "kind": str(self.kind),
            "metric": self.metric,
            "mean": None if self.mean is None else round(self.mean, 3),
            "std": None if self.std is None else round(self.std, 3),
            "seeds": self.seeds,
            "cells": self.cells,
            "test_examples": self.test_examples,
            "not_applicable": self.left_out,
            "against_baseline": difference,
        }


AnyRow = TypeVar("AnyRow", bound=Row)


def summarise(setting: Setting, baseline: str | None) -> list[Row]:
    """Summarise a setting, by kind, task and system; last the mean over tasks of each kind.

    Args:
        setting: what was scored.
        baseline: the method that the others are tested against, if it is there.
    """
    groups = {(task, kind): keys for task, kind, keys in setting.groups()}
    base = next((system for system in setting.systems if system.method == baseline), None)
    rows: list[Row] = []
    for kind in Kind:
        tasks = {task: keys for (task, k), keys in groups.items() if k is kind}
        for task, keys in tasks.items():
            rows += mark_best([_row(setting, s, {task: keys}, kind, base) for s in setting.systems])
        percent = {task: keys for task, keys in tasks.items() if not is_perplexity(keys[0].metric)}
        if len(percent) > 1:
            rows += mark_best([_row(setting, s, percent, kind, base) for s in setting.systems])
    return rows


def _row(
    setting: Setting,
    system: System,
    tasks: Mapping[str, Sequence[CellKey]],
    kind: Kind,
    base: System | None,
) -> Row:
    own = {task: [k for k in keys if not system.cannot(k)] for task, keys in tasks.items()}
    whole = len(tasks) > 1
    metric = "" if whole else next(iter(tasks.values()))[0].metric
    every, have = sum(map(len, tasks.values())), sum(map(len, own.values()))
    name = ALL if whole else next(iter(tasks))
    left = every - have
    if not all(own.values()):  # a mean over fewer tasks would be of something else
        return Row(setting.name, system.method, name, kind, metric, None, None, 0, 0, every)
    by_seed = tuple(
        statistics.mean(statistics.mean(cells[k].value for k in keys) for keys in own.values())
        for cells in system.complete.values()
    )
    return Row(
        setting.name,
        system.method,
        name,
        kind,
        metric,
        statistics.mean(by_seed),
        statistics.stdev(by_seed) if len(by_seed) > 1 else None,
        len(by_seed),
        have,
        left,
        against=_against(system, base, own) if base and base is not system else None,
        by_seed=by_seed,
        test_examples=sum(key.examples for keys in own.values() for key in keys),
    )


def _against(
    system: System, base: System, tasks: Mapping[str, Sequence[CellKey]]
) -> Difference | None:
    """Test two systems on the cells and seeds that both have; None without their examples."""
    seeds = [seed for seed in system.complete if seed in base.complete]
    samples: list[Sample] = []
    for keys in tasks.values():
        cells = [Cell(key.task, key.language) for key in keys if not base.cannot(key)]
        both = [
            [[s.counts[seed].get(cell) for seed in seeds] for cell in cells] for s in (system, base)
        ]
        if not (seeds and cells) or any(c is None for s in both for cell in s for c in cell):
            return None
        found = tuple([[c for c in cell if c is not None] for cell in s] for s in both)
        samples.append((found[0], found[1]))
    return difference(samples)


def mark_best(rows: list[AnyRow]) -> list[AnyRow]:
    """Mark the best of the rows that have the most cells, as it is printed."""
    least = min((row.left_out for row in rows if row.mean is not None), default=0)
    whole = [round(r.mean, 1) for r in rows if r.mean is not None and r.left_out == least]
    if len(rows) < 2 or not whole:
        return rows
    top = min(whole) if is_perplexity(rows[0].metric) else max(whole)
    return [
        replace(row, best=True)
        if row.mean is not None and row.left_out == least and round(row.mean, 1) == top
        else row
        for row in rows
    ]
