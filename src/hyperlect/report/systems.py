"""Systems: what is compared, each a method in a setting, trained with several seeds."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..evaluation.examples import read_examples
from ..evaluation.results import CellKey, CellResult
from ..experiment import State, read_experiment
from ..grid import Cell, Kind
from .comparison import labels
from .data import Run, read_run

Counts = NDArray[np.int64]


@dataclass
class System:
    """One method in one setting.

    Attributes:
        method: what it is called: its method, or more where several have the same.
        seeds: seed → cell → its result; the cells of all parts together.
        counts: seed → cell → what each example adds, (2, examples), where that was kept.
        runs: seed → part → the run; the part is empty where there are none.
    """

    method: str
    seeds: dict[int, dict[CellKey, CellResult]] = field(default_factory=dict)
    counts: dict[int, dict[Cell, Counts]] = field(default_factory=dict)
    runs: dict[int, dict[str, Run]] = field(default_factory=dict)

    def add(self, seed: int, run: Run, part: str = "") -> None:
        """Add one run: all of a seed, or a part of it."""
        cells = self.seeds.setdefault(seed, {})
        cells |= {cell.key: cell for cell in run.results.cells}
        self.counts.setdefault(seed, {}).update(read_examples(run.folder))
        self.runs.setdefault(seed, {})[part] = run

    @property
    def complete(self) -> dict[int, dict[CellKey, CellResult]]:
        """The seeds that have every part that any seed has."""
        parts = {part for runs in self.runs.values() for part in runs}
        return {
            seed: cells for seed, cells in self.seeds.items() if self.runs[seed].keys() == parts
        }

    def called(self, name: str) -> bool:
        """Whether a name is this system's, or its method's."""
        return name in (self.method, self.first[0].results.method)

    def scored(self, key: CellKey) -> bool:
        """Whether every seed has a score for a cell."""
        return all(key in cells and cells[key].scored for cells in self.complete.values())

    def cannot(self, key: CellKey) -> bool:
        """Whether the method does not apply to a cell."""
        without = key._replace(units=None)
        return any(
            without in cells and not cells[without].applicable for cells in self.seeds.values()
        )

    @property
    def parameters(self) -> int | None:
        """Trained parameters of a seed, of all parts together; None where they were not kept."""
        counts = [run.results.trained_parameters for run in self.first]
        return sum(c for c in counts if c is not None) if None not in counts else None

    @property
    def seconds(self) -> float | None:
        """Seconds of training, of all parts together, the mean over seeds."""
        found = [
            [run.results.seconds for run in self.runs[seed].values()] for seed in self.complete
        ]
        if any(seconds is None for parts in found for seconds in parts):
            return None
        return sum(s for parts in found for s in parts if s is not None) / len(found)

    @property
    def first(self) -> list[Run]:
        """The runs of the first complete seed, one a part."""
        return list(self.runs[next(iter(self.complete))].values())


@dataclass
class Setting:
    """What the systems of one setting scored.

    Attributes:
        name: the setting's.
        systems: in the order in which they are shown.
        missing: runs that have no results yet, as "method, seed 1".
    """

    name: str
    systems: list[System] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)

    def system(self, method: str) -> System:
        """Return the system of a method, made if need be."""
        for system in self.systems:
            if system.method == method:
                return system
        self.systems.append(System(method))
        return self.systems[-1]

    def groups(self) -> Iterator[tuple[str, Kind, list[CellKey]]]:
        """Yield task, kind and the cells in which systems are compared.

        Those that each system either scored with every seed or cannot have.
        """
        keys = list(
            dict.fromkeys(k for s in self.systems for cells in s.seeds.values() for k in cells)
        )
        shared = [k for k in keys if all(s.scored(k) or s.cannot(k) for s in self.systems)]
        for task in dict.fromkeys(key.task for key in keys):
            for kind in Kind:
                if found := [key for key in shared if (key.task, key.kind) == (task, kind)]:
                    yield task, kind, found


def read_settings(folder: Path) -> list[Setting]:
    """Read the finished runs of an experiment's folder, those of curves excepted.

    Raises:
        RunError: the folder holds no experiment, or a file of a run is malformed.
    """
    settings: dict[str, Setting] = {}
    for run in read_experiment(folder).runs:
        if run.point is not None:
            continue
        setting = settings.setdefault(run.setting, Setting(run.setting))
        if run.state is State.DONE:
            setting.system(run.method).add(run.seed, read_run(run.folder), run.part)
        else:
            part = f" {run.part}" if run.part else ""
            setting.missing.append(f"{run.method}{part}, seed {run.seed}")
    for setting in settings.values():
        setting.systems = [system for system in setting.systems if system.complete]
    return [setting for setting in settings.values() if setting.systems]


def of_runs(runs: Sequence[Run]) -> Setting:
    """Put single runs together: those that differ in the seed alone are one system."""
    systems: dict[tuple[object, ...], System] = {}
    for number, run in enumerate(runs, start=1):
        results, again = run.results, 0
        about = (results.name, results.method, _without_seed(run.recipe))
        seed = -number if results.seed is None else results.seed
        while (*about, again) in systems and seed in systems[*about, again].seeds:
            again += 1  # the same seed once more is another system
        systems.setdefault((*about, again), System(results.method)).add(seed, run)
    for system, name in zip(systems.values(), _names(list(systems.values())), strict=True):
        system.method = name
    return Setting("runs", list(systems.values()))


def _names(systems: Sequence[System]) -> list[str]:
    """Name systems by their methods; by recipes or folders where those do not tell them apart."""
    firsts = [system.first[0] for system in systems]
    methods = [system.method for system in systems]
    recipes = [f"{run.results.name} ({run.results.method})" for run in firsts]
    found = (methods, recipes, labels(firsts))
    return next((names for names in found if len(set(names)) == len(names)), found[-1])


def _without_seed(recipe: str | None) -> str | None:
    """Return a recipe as text without its seed, which its runs may differ in."""
    return recipe and re.sub(r"^(\s+)seed:.*$", "", recipe, flags=re.MULTILINE)
