"""The runs of an experiment: an experiment's file, or a folder of recipes → a list of runs.

Every recipe is resolved and checked here, before anything runs.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

from ..errors import Problems, RecipeError, RunError, listed, unknown
from ..methods import METHODS, Method
from ..recipe import Recipe, load_recipe
from .curve import Point
from .design import Design, design_of_folder, is_design, load_design

SHOWN = 4
Key = tuple[str, str, str, int, Point | None]
"""A run's place in the design: setting, part, method, seed, and place on a curve."""


@dataclass(frozen=True)
class Run:
    """One run of an experiment.

    Attributes:
        setting, part, method, seed: its place in the design; `part` is empty where there are none.
        folder: the run folder.
        file: its recipe's file.
        changes: what is set in the recipe, as ``--set`` takes it.
        recipe: the recipe that results (without where it starts from).
        design: the experiment's file; None for a folder of recipes.
        after: the folder of the run whose weights it goes on from.
        point: its place on a curve; None where the setting has none.
    """

    setting: str
    part: str
    method: Method
    seed: int
    folder: Path
    file: Path
    changes: tuple[str, ...]
    recipe: Recipe
    design: Path | None = None
    after: Path | None = None
    point: Point | None = None

    @property
    def name(self) -> str:
        """The run's name, which is also its folder's place: ``mixed/hyperx/seed-1``."""
        return place(self.key)

    @property
    def key(self) -> Key:
        """The run's place in the design."""
        return self.setting, self.part, self.method, self.seed, self.point

    @property
    def overrides(self) -> tuple[str, ...]:
        """All that is set in the recipe, the run to start from included."""
        return self.changes if self.after is None else (*self.changes, f"start_from={self.after}")


@dataclass(frozen=True)
class Experiment:
    """An experiment: its name, the folder of its runs, and the runs in the order of the design."""

    name: str
    description: str
    folder: Path
    runs: tuple[Run, ...]


def place(key: Key) -> str:
    """Return where a run lies in the experiment's folder."""
    setting, part, method, seed, point = key
    on_curve = point.place if point else ""
    return "/".join(filter(None, (setting, part, method, on_curve, f"seed-{seed}")))


def plan(
    source: Path,
    out: Path | None = None,
    methods: Sequence[str] = (),
    seeds: Sequence[int] = (),
) -> Experiment:
    """Work out the runs of an experiment, and check the recipe of each.

    Args:
        source: an experiment's file; or a folder, which holds one or else recipes.
        out: the folder for the runs; runs/ and the experiment's name by default.
        methods, seeds: those to run the recipes of a folder with.

    Raises:
        RecipeError: with the faults of the file, or of all recipes.
        UnknownNameError: there is no such method.
    """
    chosen = _methods(methods)
    file = find_design(source)
    if file is None:
        design, folder = design_of_folder(source, chosen, tuple(seeds) or None), source
    elif methods or seeds:
        raise RecipeError(
            f"{file} says which methods and seeds there are. To run some of them, use --only; "
            "--methods and --seeds go with a folder of recipes."
        )
    else:
        design, folder = load_design(file), file.parent
    # Absolute, because it stands in recipes (start_from) that lie elsewhere.
    out = (out or Path("runs") / design.name).absolute()
    runs = tuple(replace(run, design=file) for run in _runs(design, folder.absolute(), out))
    return Experiment(design.name, design.description, out, runs)


def is_run_folder(folder: Path) -> bool:
    """Whether a folder is that of a single run."""
    return all((folder / name).is_file() for name in ("recipe.yaml", "versions.json"))


def find_design(source: Path) -> Path | None:
    """Return the experiment's file that a path names or holds; None for a folder of recipes.

    Raises:
        RecipeError: it is no such file, or a folder with several.
    """
    if source.is_file():
        if is_design(source):
            return source
        raise RecipeError(
            f"{source} has no settings, so it is not an experiment's file. One recipe alone: "
            f"hyperlect train {source}. All recipes of its folder: hyperlect experiment "
            f"{source.parent}"
        )
    if not source.is_dir():
        raise RecipeError(
            f"There is no {source}. Name an experiment's file or a folder of recipes."
        )
    if is_run_folder(source):
        raise RunError(f"{source} is a run folder. Name an experiment's file or one of recipes.")
    found = sorted(path for path in source.iterdir() if is_design(path))
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise RecipeError(f"{source} holds several experiments; name one of them: {names}.")
    return found[0] if found else None


def _methods(names: Sequence[str]) -> tuple[Method, ...] | None:
    for name in names:
        if name not in METHODS:
            raise unknown("method", name, METHODS)
    return tuple(m for name in names for m in get_args(Method) if m == name) or None


def _runs(design: Design, folder: Path, out: Path) -> tuple[Run, ...]:
    runs: dict[Key, Run] = {}
    faults: dict[str, list[str]] = {}
    for setting, section in design.settings.items():
        file = Path(os.path.normpath(folder / Path(section.recipe).expanduser()))
        methods: tuple[Method | None, ...] = section.methods or design.methods or (None,)
        for part in section.parts or ("",):
            for method in methods:
                try:
                    recipe = _recipe(file, design, (setting, part, method))
                except RecipeError as error:
                    name = "/".join(filter(None, (setting, part, method)))
                    faults.setdefault(str(error), []).append(name)
                    continue
                for point in section.points:
                    changes = _changes(design, setting, part, recipe.method, point)
                    for seed in section.seeds or design.seeds or (recipe.training.seed,):
                        key = (setting, part, recipe.method, seed, point)
                        runs[key] = _run(recipe, file, changes, out, key)
    _raise(faults)
    return tuple(_linked(run, design, runs) for run in runs.values())


def _recipe(file: Path, design: Design, of: tuple[str, str, Method | None]) -> Recipe:
    """Load and check the recipe of a setting, part and method: that of the first point."""
    section = design.settings[of[0]]
    recipe = load_recipe(file, _changes(design, *of, section.points[0]))
    if of[2] is None and (design.method_set.keys() | section.method_set.keys()) >= {recipe.method}:
        return _recipe(file, design, (*of[:2], recipe.method))
    if section.curve is not None and recipe.few_shot is None:
        raise RecipeError(
            f"The recipe {file} has a curve, but few_shot.cells names no cell of its tasks."
        )
    return recipe


def _run(recipe: Recipe, file: Path, changes: tuple[str, ...], out: Path, key: Key) -> Run:
    """Make one run; its recipe, which is checked already, differs in its place alone."""
    setting, part, _, seed, point = key
    update: dict[str, Any] = {"name": _name(setting, part, point)}
    update["training"] = recipe.training.model_copy(update={"seed": seed})
    if point is not None and recipe.few_shot is not None:
        update["few_shot"] = recipe.few_shot.model_copy(update=vars(point))
    return Run(
        setting=setting,
        part=part,
        method=recipe.method,
        seed=seed,
        folder=out / place(key),
        file=file,
        changes=(*changes, f"training.seed={seed}"),
        recipe=recipe.model_copy(update=update),
        point=point,
    )


def _changes(
    design: Design, setting: str, part: str, method: str | None, point: Point | None
) -> tuple[str, ...]:
    given: dict[str, Any] = design.changes(setting, part, method)
    if point:
        given |= point.settings
    if method:
        given["method"] = method
    given["name"] = _name(setting, part, point)
    return tuple(f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in given.items())


def _name(setting: str, part: str, point: Point | None) -> str:
    on_curve = f"{point.examples}-{point.draw}" if point else ""
    return "-".join(filter(None, (setting, part, on_curve)))


def _linked(run: Run, design: Design, runs: dict[Key, Run]) -> Run:
    """Give a run the one that it goes on from: that of the same part, where there are parts."""
    before = design.settings[run.setting].after
    if before is None:
        return run
    part = run.part if design.settings[before].parts else ""
    key = (before, part, run.method, run.seed, None)
    if key not in runs:
        raise RecipeError(f"{run.name} goes on from {place(key)}, which is not among the runs.")
    return replace(run, after=runs[key].folder)


def _raise(faults: dict[str, list[str]]) -> None:
    """Raise one error for all recipes; what several runs share is told once."""
    problems = Problems()
    for message, names in faults.items():
        problems.add(f"{listed(names, SHOWN)}: {message}")
    problems.raise_if_any(RecipeError, "The experiment cannot be run as it stands:")
