"""The runs of an experiment, and what differs from the recipe that a run folder was made with.

An experiment's file, or a folder of recipes, becomes a list of runs. Every recipe is resolved and
checked here, before anything runs.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from fnmatch import fnmatchcase
from itertools import product
from pathlib import Path
from typing import Any

from ..data.readers import SPLITS
from ..errors import HyperlectError, Problem, Problems, RecipeError, RunError, listed, nearest
from ..recipe import Recipe, load_recipe
from ..run_folder import (
    ERROR,
    RECIPE,
    RunState,
    is_beginning,
    is_run,
    is_trained,
    relative,
    run_state,
)
from .config import ExperimentConfig, Point, config_of_folder, is_experiment, load_config

IGNORED = frozenset(
    {
        "name",
        "description",
        "training.log_every",
        "training.save_every",
        "training.keep_checkpoints",
    }
)
"""Keys of a recipe that change no number."""
_VARIABLE = re.compile(r"\$\{([A-Za-z_]\w*)(?::-([^}]*))?\}")


@dataclass(frozen=True, eq=False)
class Run:
    """One run of an experiment.

    Attributes:
        name: says which it is, and where it lies in the experiment: ``mixed/hyperx/seed-1``.
        setting, part, method, seed: its place in the config; `part` is empty where there are none.
        point: its point on a curve; None where the setting has none.
        folder: the run folder.
        file: the file of its recipe.
        changes: what is set in the recipe, as ``--set`` takes it.
        recipe: the recipe that results, but for the run that it starts from.
        after: that run; None for none.
    """

    name: str
    setting: str
    part: str
    method: str
    seed: int
    point: Point | None
    folder: Path
    file: Path
    changes: tuple[str, ...]
    recipe: Recipe
    after: Run | None

    @property
    def overrides(self) -> tuple[str, ...]:
        """All that is set in the recipe, the run to start from included."""
        if self.after is None:
            return self.changes
        return (*self.changes, f"start_from={relative(self.after.folder, self.recipe.folder)}")

    def before(self) -> Iterator[Run]:
        """Yield the run that it starts from, the one that that starts from, and so on."""
        if self.after is not None:
            yield self.after
            yield from self.after.before()

    @property
    def can_start(self) -> bool:
        """Whether the run that it starts from is trained, if there is one."""
        return self.after is None or is_trained(self.after.folder)


@dataclass(frozen=True)
class Experiment:
    """An experiment.

    Attributes:
        name, description: as its file says.
        folder: where its runs lie.
        runs: in the order of the config.
        variables: the environment variables that its files name → their values, or defaults.
    """

    name: str
    description: str
    folder: Path
    runs: tuple[Run, ...]
    variables: Mapping[str, str]


def plan(
    source: Path, out: Path | None = None, methods: Sequence[str] = (), seeds: Sequence[int] = ()
) -> Experiment:
    """Work out the runs of an experiment, and check the recipe of each.

    Args:
        source: an experiment's file; or a folder, which holds one or else recipes.
        out: the folder for the runs; by default runs/ and the experiment's name.
        methods, seeds: those to run the recipes of a folder with.

    Raises:
        RecipeError: with the faults of the file, or of all recipes.
        RunError: `source` is a run folder.
    """
    file = _experiment_file(source)
    if file is None:
        config, base = config_of_folder(source, methods, seeds), source
    elif methods or seeds:
        hint = "To run some, use --only. --methods and --seeds go with a folder of recipes."
        raise RecipeError(f"{file} says which methods and seeds there are. {hint}")
    else:
        config, base = load_config(file), file.parent
    # Absolute, because it stands in recipes (start_from) that lie elsewhere.
    out = (out or Path("runs") / config.name).absolute()
    runs = _Planner(config, base, out).runs()
    files = {run.file for run in runs} | ({file} if file else set())
    texts = "".join(path.read_text(encoding="utf-8-sig") for path in files)
    named = {name: os.environ.get(name) or default for name, default in _VARIABLE.findall(texts)}
    return Experiment(config.name, config.description, out, runs, named)


def _experiment_file(source: Path) -> Path | None:
    """Return the experiment's file that a path names or holds; None for a folder of recipes."""
    if is_run(source):
        raise RunError(f"{source} is a run folder. Name an experiment's file, or its folder.")
    if source.is_dir():
        files = sorted(path for path in source.iterdir() if is_experiment(path))
        if len(files) > 1:
            names = listed([path.name for path in files])
            raise RecipeError(f"{source} holds several experiments. Name one of them: {names}.")
        return files[0] if files else None
    if not source.is_file():
        raise RecipeError(f"There is no {source}. Name an experiment's file or a folder.")
    if not is_experiment(source):
        what = f"{source} has no settings, so it is not an experiment's file"
        hint = f"For all recipes of a folder use hyperlect experiment {source.parent}"
        raise RecipeError(f"{what}. For one recipe use hyperlect train {source}. {hint}")
    return source


def choose(experiment: Experiment, patterns: Sequence[str]) -> tuple[Run, ...]:
    """Return the runs whose names fit a pattern, and those that they start from.

    Args:
        experiment: whose runs; all of them without patterns.
        patterns: a beginning of the name up to a slash, with ``*`` for anything: ``mixed``,
            ``mixed/hyperx``, ``*/seed-1``.

    Raises:
        HyperlectError: a pattern fits no run.
    """
    wanted = set() if patterns else set(experiment.runs)
    for pattern in patterns:
        stem = pattern.rstrip("/")
        fitting = [run for run in experiment.runs if fnmatchcase(f"{run.name}/", f"{stem}/*")]
        if not fitting:
            paths = [Path(run.name) for run in experiment.runs]
            known = {place.as_posix() for path in paths for place in (path, *path.parents)}
            hint = nearest(stem, sorted(known)) or f" One of them is {experiment.runs[0].name}."
            raise HyperlectError(f'No run fits "{pattern}".{hint}')
        for run in fitting:
            wanted |= {run, *run.before()}
    return tuple(run for run in experiment.runs if run in wanted)


@dataclass
class _Planner:
    """Makes the runs of a config, whose files start from a folder, in another folder."""

    config: ExperimentConfig
    base: Path
    out: Path
    by_name: dict[str, Run] = field(default_factory=dict)

    def runs(self) -> tuple[Run, ...]:
        faults: dict[Problem, list[str]] = {}  # what several recipes share is reported once
        for setting in self.config.in_order():
            section = self.config.settings[setting]
            methods = section.methods or self.config.methods or [""]
            for part, method in product(section.parts or [""], methods):
                try:
                    recipe = self.recipe(setting, part, method)
                    seeds = section.seeds or self.config.seeds or [recipe.training.seed]
                    for point, seed in product(section.points, seeds):
                        self.add(setting, part, recipe, point, seed)
                except RecipeError as error:
                    for problem in error.problems or [Problem(str(error))]:
                        faults.setdefault(problem, []).append(_path(setting, part, method))
        problems = Problems()
        for problem, names in faults.items():
            message = f"{problem.message} (in {listed(names, 4)})"
            problems.add(message, problem.line, problem.key, problem.file)
        for run in self.by_name.values():
            start = self.config.settings[run.setting].after
            if start and run.after is None and not faults:
                what = "of the same method and seed, and of the same part if it has parts"
                message = f"{run.name} cannot start: {start} has no run {what}"
                problems.add(message, key=f"settings.{run.setting}.after")
        problems.raise_if_any(RecipeError, "The experiment cannot be run as it is:")
        order = list(self.config.settings)
        return tuple(sorted(self.by_name.values(), key=lambda run: order.index(run.setting)))

    def recipe(self, setting: str, part: str, method: str) -> Recipe:
        """Load and check the recipe of a setting, part and method, at its first point."""
        section, file = self.config.settings[setting], self.config.file(setting, self.base)
        recipe = load_recipe(file, self.changes(setting, part, method, section.points[0]))
        if not method and recipe.method in self.config.method_set | section.method_set:
            return self.recipe(setting, part, recipe.method)
        if section.curve and recipe.few_shot is None:
            raise RecipeError(f"{file}: few_shot.cells names no cell of its tasks for the curve")
        return recipe

    def add(self, setting: str, part: str, recipe: Recipe, point: Point | None, seed: int) -> None:
        """Add one run. Its recipe differs from the checked one in name, seed and point alone."""
        method, start = recipe.method, self.config.settings[setting].after
        on_curve = f"examples-{point.examples}/draw-{point.draw}" if point else ""
        name, after = _path(setting, part, method, on_curve, f"seed-{seed}"), None
        if start is not None:
            part_before = part if self.config.settings[start].parts else ""
            after = self.by_name.get(_path(start, part_before, method, f"seed-{seed}"))
        changes = (*self.changes(setting, part, method, point), f"training.seed={seed}")
        update: dict[str, Any] = {"name": _recipe_name(setting, part, point)}
        update["training"] = recipe.training.model_copy(update={"seed": seed})
        if point and recipe.few_shot:
            update["few_shot"] = recipe.few_shot.model_copy(update=asdict(point))
        place = (name, setting, part, method, seed, point, self.out / name)
        file = self.config.file(setting, self.base)
        self.by_name[name] = Run(*place, file, changes, recipe.model_copy(update=update), after)

    def changes(self, setting: str, part: str, method: str, point: Point | None) -> tuple[str, ...]:
        """Return what is set in a recipe, as ``--set`` takes it."""
        changes = self.config.changes(setting, part, method)
        for key, value in asdict(point).items() if point else ():
            changes[f"few_shot.{key}"] = value
        changes |= {"method": method} if method else {}
        changes["name"] = _recipe_name(setting, part, point)
        return tuple(f"{key}={json.dumps(changes[key], ensure_ascii=False)}" for key in changes)


def _path(*names: str | None) -> str:
    return "/".join(filter(None, names))


def _recipe_name(setting: str, part: str, point: Point | None) -> str:
    on_curve = f"{point.examples}-{point.draw}" if point else ""
    return "-".join(filter(None, (setting, part, on_curve)))


def differences(run: Run, experiment: Experiment) -> list[str]:
    """Compare a run's recipe with the one that its folder keeps.

    What a variable (``${HYPERLECT_DATA}``) or the recipe's own folder stands for may differ between
    machines, so files are compared by the rest of their names.

    Returns:
        What differs, one key a line; nothing where the folder is of this recipe, or holds nothing
        that could be continued.
    """
    if names := foreign(run.folder):
        return [f"it holds {names}, but no {RECIPE}"]
    kept = run.folder / RECIPE
    if not kept.is_file() or run_state(run.folder) is RunState.MISSING:
        return []
    try:
        then = load_recipe(kept, check_files=False)  # with the defaults of this version
    except RecipeError as error:
        return [str(error)]
    start = str(run.after.folder) if run.after else None
    now = run.recipe.model_copy(update={"start_from": start})
    old, new = (dict(_leaves(_content(recipe))) for recipe in (then, now))
    folders = [*experiment.variables.values(), str(experiment.folder), now.folder]
    roots = sorted((f for f in folders if Path(f).is_absolute()), key=len, reverse=True)
    keys = [key for key in {**new, **old} if key not in IGNORED]
    changed = [key for key in keys if not _same(old.get(key), new.get(key), roots)]
    return [f"{k}: {old.get(k, 'nothing')} → {new.get(k, 'nothing')}" for k in changed]


def foreign(folder: Path) -> str:
    """List what lies in a folder that is not a run's; empty if it is one, or can become one."""
    names = {path.name for path in folder.glob("*") if not is_beginning(path)} - {ERROR}
    return "" if not names or RECIPE in names else listed(sorted(names), 5)


def _content(recipe: Recipe) -> dict[str, Any]:
    """Return a recipe as plain data, with the files of each cell in place of the blocks."""
    cells = {
        f"{split} {cell}": [asdict(source) for source in sources]
        for split in SPLITS
        for cell, sources in recipe.cells(split).items()
    }
    return recipe.model_dump(mode="json", exclude={"data", "folder"}) | cells


def _leaves(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Go through the values of plain data with their dotted keys."""
    if isinstance(value, dict | list):
        for name, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _leaves(item, f"{key}.{name}" if key else str(name))
    elif value is not None:
        yield key, value


def _same(old: Any, new: Any, roots: list[str]) -> bool:
    if old == new or not (isinstance(old, str) and isinstance(new, str)):
        return bool(old == new)
    for root in roots:
        if Path(new).is_relative_to(root):
            tail = Path(new).relative_to(root).as_posix()
            # A path that is all variable may be any path elsewhere.
            return Path(old).is_absolute() if tail == "." else f"/{old}".endswith(f"/{tail}")
    return False
