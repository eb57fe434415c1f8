"""The experiment config: which recipes are run, with which methods and seeds.

    settings × parts × methods × points of a curve × seeds → runs

It is validated as recipes are: unknown keys are refused, and all faults are reported at once.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Annotated, Any, Literal, cast

from pydantic import Field

from ..errors import RecipeError, listed, nearest
from ..recipe.document import Document, Loc, fill_in
from ..recipe.schema import Distinct, Positive, Section, Text, Whole
from ..recipe.schema import MethodName as Method
from ..run_folder import expanded, is_yaml

DECIDED = frozenset({"name", "method", "training.seed", "start_from"})
"""Keys of a recipe that the experiment decides for each run."""
ON_CURVE = frozenset({"few_shot.examples", "few_shot.draw"})
"""Keys of a recipe that a curve decides for each run."""
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
Settings = dict[str, Any]
"""Keys of a recipe → values that replace its own, as ``--set`` takes them."""


@dataclass(frozen=True)
class Point:
    """A run's point on a few-shot curve.

    Attributes:
        examples: how many labelled examples each few-shot cell has.
        draw: which draw of them.
    """

    examples: int
    draw: int


class CurveSection(Section):
    """The points of a curve: each number of examples, drawn several times."""

    examples: Distinct[Positive]
    """How many labelled examples each cell of ``few_shot.cells`` gets, one number a point."""
    draws: Distinct[Positive] = (1,)
    """The draws to repeat each with; the spread of a curve is over them."""


class Common(Section):
    """What an experiment says of all its settings, and a setting of itself."""

    set: Settings = Field(default_factory=dict)
    """Keys of the recipe → values that replace its own, as ``--set`` takes them."""
    method_set: dict[Method, Settings] = Field(default_factory=dict)
    """Method → what is set for its runs alone."""
    methods: Distinct[Method] | None = None
    """The methods to compare: the setting's, else the experiment's, else the one of the recipe."""
    seeds: Distinct[Whole] | None = None
    """The seeds to repeat each with, chosen in the same way."""


class SettingSection(Common):
    """One setting: a recipe, and what is changed in it."""

    recipe: Text
    """The recipe's file; a relative name starts from the folder of the experiment's file."""
    parts: dict[Name, Settings] = Field(default_factory=dict)
    """Several runs whose cells together make the setting: name → what is set for it."""
    after: str | None = None
    """Another setting without a curve: each run starts from its run of the same method and seed."""
    curve: CurveSection | None = None
    """Each run with several numbers of labelled examples, each drawn several times."""

    @property
    def points(self) -> tuple[Point | None, ...]:
        """The points of its curve; None, once, where it has no curve."""
        if self.curve is None:
            return (None,)
        return tuple(Point(n, draw) for n in self.curve.examples for draw in self.curve.draws)


class ExperimentConfig(Common):
    """What an experiment's file says."""

    format_version: Literal[1]
    """The version of the file's form; write 1."""
    name: Name
    """The experiment's name, and its folder's in runs/ where no other is named."""
    description: str = ""
    """What it is for, in a sentence."""
    settings: dict[Name, SettingSection]
    """The settings: name → recipe and what is changed in it."""

    def file(self, setting: str, folder: Path) -> Path:
        """Return the recipe's file of a setting, where the experiment's file is in a folder."""
        written = fill_in(self.settings[setting].recipe, os.environ)
        return Path(os.path.normpath(folder.absolute() / expanded(written)))

    def in_order(self) -> list[str]:
        """Return the names of the settings, each after the one that it starts from."""
        starts = {name: [s.after] if s.after else [] for name, s in self.settings.items()}
        return list(TopologicalSorter(starts).static_order())

    def changes(self, setting: str, part: str, method: str) -> Settings:
        """Return what is set for a run. The more particular wins.

        That is: the experiment's ``set``, its ``method_set``, then the setting's, then its part's.
        """
        section = self.settings[setting]
        blocks = [self.set, self.method_set.get(method), section.set]
        blocks += [section.method_set.get(method), section.parts.get(part)]
        changes: Settings = {}
        for key, value in (item for block in blocks if block for item in block.items()):
            changes.pop(key, None)  # they are applied in order, and a block may hold other keys
            changes[key] = value
        return changes

    def blocks(self) -> Iterator[tuple[Loc, Settings]]:
        """Yield every block of changes with its path."""
        yield ("set",), self.set
        for method, block in self.method_set.items():
            yield ("method_set", method), block
        for name, section in self.settings.items():
            yield ("settings", name, "set"), section.set
            for key in ("method_set", "parts"):
                for inner, block in getattr(section, key).items():
                    yield ("settings", name, key, inner), block


def is_experiment(path: Path) -> bool:
    """Whether a file is an experiment's and not a recipe: recipes have no ``settings``."""
    try:
        return is_yaml(path) and "settings" in Document.read(path).data
    except RecipeError:
        return False


def load_config(path: Path) -> ExperimentConfig:
    """Read an experiment's file.

    Raises:
        RecipeError: with every fault of the file, each with its line and key.
    """
    return _validated(Document.read(path, "The experiment"), path.parent)


def config_of_folder(
    folder: Path, methods: Sequence[str] = (), seeds: Sequence[int] = ()
) -> ExperimentConfig:
    """Make a config of all recipes of a folder, each a setting named like its file.

    Args:
        folder: its ``*.yaml`` files are the recipes.
        methods, seeds: with which to run each; without them, those that the recipe names.

    Raises:
        RecipeError: the folder has no recipes, or names of files, methods or seeds cannot be used.
    """
    recipes = sorted(path.name for path in folder.iterdir() if is_yaml(path))
    if not recipes:
        raise RecipeError(f"{folder} holds no recipes (*.yaml).")
    settings = {Path(name).stem: {"recipe": name} for name in recipes}
    if len(settings) < len(recipes):
        raise RecipeError(f"Two recipes in {folder} differ in their endings alone. Rename one.")
    data = {"format_version": 1, "name": folder.resolve().name, "settings": settings}
    data |= {"methods": list(methods) or None, "seeds": list(seeds) or None}
    return _validated(Document(data, what=f"The experiment of the folder {folder}"), folder)


def _validated(document: Document, folder: Path) -> ExperimentConfig:
    config = document.validate(ExperimentConfig)
    if config is not None and not document.broken:  # or else what follows from faults looks faulty
        _check(config, document, folder)
    document.raise_if_any()
    return cast(ExperimentConfig, config)


def _check(config: ExperimentConfig, document: Document, folder: Path) -> None:
    """Note what no single key shows to be wrong."""
    if not config.settings:
        document.add(("settings",), "name at least one setting")
    for loc, block in config.blocks():
        names = [str(loc[1])] if loc[0] == "settings" else list(config.settings)
        curves = [name for name in names if config.settings[name].curve]
        for key, value in block.items():
            inside = value if isinstance(value, dict) else ()
            keys = {key, *(f"{key}.{inner}" for inner in inside)}
            if keys & DECIDED or key.split(".")[0] in DECIDED:
                document.add((*loc, key), "the experiment decides this for each run; remove it")
            if keys & ON_CURVE and curves:
                document.add((*loc, key), f"the curve of {curves[0]} decides this; remove it")
    for name, section in config.settings.items():
        file = config.file(name, folder)
        if not file.is_file():
            hint = nearest(file.name, [path.name for path in file.parent.glob("*.y*ml")])
            hint = " Its variable is not set." if "${" in str(file) else hint
            document.add(("settings", name, "recipe"), f"there is no {file}.{hint}")
        before = config.settings.get(section.after or "")
        if section.after and before is None:
            hint = nearest(section.after, config.settings)
            message = f'there is no setting "{section.after}".{hint}'
            document.add(("settings", name, "after"), message)
        if before and before.curve:
            message = f"{section.after} has a curve, so it is not clear which of its runs is meant"
            document.add(("settings", name, "after"), message)
    try:
        config.in_order()
    except CycleError as error:
        names = error.args[1][::-1]
        message = f"these settings wait for each other: {listed(names)}"
        document.add(("settings", names[0], "after"), message)
