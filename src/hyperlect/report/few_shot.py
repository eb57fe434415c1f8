"""Few-shot curves: what an experiment's runs score with more and more labelled examples."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..evaluation.results import CellKey, CellResult
from ..experiment import Point, RecordedRun, State, read_experiment
from ..grid import Cell, Kind
from .data import read_run
from .summary import Row, mark_best
from .systems import Setting

Scores = dict[CellKey, CellResult]
Repeats = dict[tuple[int, int], Scores]
"""(draw, seed) → the scores of the few-shot cells."""


@dataclass
class Curve:
    """The runs of a setting with a curve.

    Attributes:
        name: the setting's.
        before: the setting that its runs go on from; None where there is none, or no results.
        cells: method, point and seed → every cell that was scored; those of all parts together.
        own: method → number of examples → the few-shot cells that have a score.
        missing: method → how many runs have no results yet.
    """

    name: str
    before: Setting | None = None
    cells: dict[tuple[str, Point, int], list[CellResult]] = field(default_factory=dict)
    own: dict[str, dict[int, Repeats]] = field(default_factory=dict)
    missing: dict[str, int] = field(default_factory=dict)

    def add(self, run: RecordedRun, point: Point) -> None:
        """Add a run at its place on the curve."""
        if run.state is not State.DONE:
            self.missing[run.method] = self.missing.get(run.method, 0) + 1
            return
        cells = read_run(run.folder).results.cells
        self.cells.setdefault((run.method, point, run.seed), []).extend(cells)
        numbers = self.own.setdefault(run.method, {})
        repeat = numbers.setdefault(point.examples, {}).setdefault((point.draw, run.seed), {})
        repeat |= {
            _key(cell): cell
            for cell in cells
            if cell.scored and str(Cell(cell.task, cell.language)) in run.cells
        }

    @property
    def tasks(self) -> list[str]:
        """The tasks of the few-shot cells."""
        return list(dict.fromkeys(key.task for repeats in self._numbers("") for key in repeats))

    def shared(self, task: str) -> list[CellKey]:
        """Return the cells of a task in which the whole curve is compared.

        Those that every method scored with each number of examples that it scored any with: so a
        line is of the same cells from end to end, and the lines of all methods are.
        """
        every = self._numbers(task)
        return [
            key
            for key in dict.fromkeys(k for keys in every for k in keys)
            if all(key in keys for keys in every)
        ]

    def left_out(self, task: str) -> list[str]:
        """Return the cells of a task that some method or number of examples lacks."""
        kept = {key.language for key in self.shared(task)}
        found = dict.fromkeys(key.language for keys in self._numbers(task) for key in keys)
        return [str(Cell(task, language)) for language in found if language not in kept]

    def _numbers(self, task: str) -> list[list[CellKey]]:
        """Return the cells of a task (all without) that each method has with each number."""
        found = [
            [key for scores in repeats.values() for key in scores if task in ("", key.task)]
            for numbers in self.own.values()
            for repeats in numbers.values()
        ]
        return [keys for keys in found if keys]


@dataclass(frozen=True)
class PointRow(Row):
    """One method's score in the cells of one task with one number of labelled examples.

    The spread and `by_seed` are over every draw with every seed.

    Attributes:
        examples: how many labelled examples a cell has; 0 for the run that the others go on from.
        draws: how many draws; 0 where there was nothing to draw.
        kinds: those of the cells, of which there may be several before they had examples.
    """

    examples: int = 0
    draws: int = 0
    kinds: tuple[Kind, ...] = ()

    def data(self) -> dict[str, object]:
        """Return plain data for JSON."""
        kinds = "; ".join(map(str, self.kinds))
        return {**super().data(), "kind": kinds, "examples": self.examples, "draws": self.draws}


def read_curves(folder: Path, settings: Sequence[Setting]) -> list[Curve]:
    """Read the finished runs of the curves in an experiment's folder.

    Args:
        folder: the experiment's.
        settings: those without curves, which the runs may go on from.

    Raises:
        RunError: the folder holds no experiment, or a file of a run is malformed.
    """
    known = {setting.name: setting for setting in settings}
    curves: dict[str, Curve] = {}
    for run in read_experiment(folder).runs:
        if run.point is not None:
            curve = curves.setdefault(run.setting, Curve(run.setting, known.get(run.after)))
            curve.add(run, run.point)
    return [curve for curve in curves.values() if curve.cells]


def summarise_curve(curve: Curve) -> list[PointRow]:
    """Summarise a curve, by task, number of examples (0 first) and method."""
    rows: list[PointRow] = []
    for task in curve.tasks:
        keys = curve.shared(task)
        if not keys:
            continue
        drawn: list[PointRow] = []
        for examples in sorted({number for numbers in curve.own.values() for number in numbers}):
            found = []
            for method, numbers in curve.own.items():
                repeats = _whole(numbers.get(examples, {}), keys)
                if repeats:
                    found.append(_row(curve, method, examples, repeats, keys))
            drawn += mark_best(found)
        if drawn:
            before = [row for method in curve.own if (row := _before(curve, method, keys))]
            rows += [*mark_best(before), *drawn]
    return rows


def _before(curve: Curve, method: str, keys: Sequence[CellKey]) -> PointRow | None:
    """Return the row of what the runs of a method go on from, where every seed has all cells."""
    systems = curve.before.systems if curve.before else []
    cells = next((system.seeds for system in systems if system.method == method), {})
    seeds = {seed for repeats in curve.own[method].values() for _, seed in repeats}
    # draws count from 1, so 0 is none
    scores = {(0, s): {_key(c): c for c in cells.get(s, {}).values() if c.scored} for s in seeds}
    whole = _whole(scores, keys)
    return _row(curve, method, 0, whole, keys) if whole.keys() == scores.keys() else None


def _whole(repeats: Repeats, keys: Sequence[CellKey]) -> Repeats:
    """Return the repeats that have all cells; the others are not done yet."""
    return {
        of: {key: scores[key] for key in keys}
        for of, scores in repeats.items()
        if all(key in scores for key in keys)
    }


def _row(
    curve: Curve, method: str, examples: int, repeats: Repeats, keys: Sequence[CellKey]
) -> PointRow:
    means = tuple(statistics.mean(c.value for c in scores.values()) for scores in repeats.values())
    found = {cell.kind for scores in repeats.values() for cell in scores.values()}
    kinds = tuple(kind for kind in Kind if kind in found)
    return PointRow(
        setting=curve.name,
        method=method,
        task=keys[0].task,
        kind=kinds[0],
        metric=keys[0].metric,
        mean=statistics.mean(means),
        std=statistics.stdev(means) if len(means) > 1 else None,
        seeds=len({seed for _, seed in repeats}),
        cells=len(keys),
        by_seed=means,
        test_examples=sum(key.examples for key in keys),
        examples=examples,
        draws=len({draw for draw, _ in repeats} - {0}),
        kinds=kinds,
    )


def _key(cell: CellResult) -> CellKey:
    """Return what a cell is compared as along a curve, on which its kind changes."""
    return cell.key._replace(kind=None)
