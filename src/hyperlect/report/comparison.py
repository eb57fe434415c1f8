"""Several runs side by side, on the cells that can be compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..evaluation.results import CellResult
from ..grid import Kind
from .data import Run


@dataclass(frozen=True)
class Group:
    """The cells of one task and kind that every run scored on the same data.

    `cells` has one list a run, all in the same order of languages.
    """

    task: str
    metric: str
    kind: Kind
    cells: list[list[CellResult]]

    @property
    def means(self) -> list[float]:
        """The mean score of each run."""
        return [sum(cell.value for cell in cells) / len(cells) for cells in self.cells]


def comparable(runs: Sequence[Run]) -> tuple[list[Group], int]:
    """Group the cells that all `runs` scored, and count the others.

    Two cells are the same when task, language, kind and metric agree, and so do the numbers of
    examples and units, without which they were not scored on the same data. Returns the groups in
    the first run's order, and how many cells (task and language) of any run are left out.
    """
    scored = [{cell.key: cell for cell in run.results.cells if cell.scored} for run in runs]
    shared = [key for key in scored[0] if all(key in cells for cells in scored)]
    everything = {(cell.task, cell.language) for run in runs for cell in run.results.cells}
    groups = []
    for task, metric in runs[0].results.tasks.items():
        for kind in Kind:
            keys = [key for key in shared if (key.task, key.kind) == (task, kind)]
            if keys:
                cells = [[cells_of[key] for key in keys] for cells_of in scored]
                groups.append(Group(task, metric, kind, cells))
    return groups, len(everything) - len(shared)


def labels(runs: Sequence[Run]) -> list[str]:
    """Name each run: by its name, and where names repeat by its folder too."""
    names = [run.results.name for run in runs]
    if len(set(names)) == len(names):
        return names
    folders = [run.folder.resolve().name for run in runs]
    if len(set(zip(names, folders, strict=True))) < len(names):
        folders = [str(run.folder) for run in runs]
    return [
        f"{name} ({folder})" if names.count(name) > 1 else name
        for name, folder in zip(names, folders, strict=True)
    ]
