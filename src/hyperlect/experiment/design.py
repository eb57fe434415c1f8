"""The file of an experiment: which recipes are run, with which methods and seeds.

    settings × parts × methods × points of a curve × seeds → runs

It is validated as recipes are: unknown keys are refused, and all faults are told at once.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationError

from ..errors import RecipeError
from ..methods import Method
from ..recipe.document import read_document
from ..recipe.faults import Faults, translate
from ..recipe.outside import expand
from ..recipe.sections import Section
from .checks import check
from .curve import CurveSection, Point

FORMAT_VERSION = 1
SUFFIXES = (".yaml", ".yml")


def _once(values: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(dict.fromkeys(values))


Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
Settings = dict[str, Any]
Methods = Annotated[tuple[Method, ...], Field(min_length=1), AfterValidator(_once)]
Seeds = Annotated[
    tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1), AfterValidator(_once)
]


class SettingSection(Section):
    """One setting: a recipe, and what is changed in it."""

    recipe: Annotated[str, Field(min_length=1)]
    """The recipe's file; a relative name starts from the folder of the experiment's file."""
    set: Settings = Field(default_factory=dict)
    """Keys of the recipe → values in their place, as ``--set`` takes them."""
    method_set: dict[Method, Settings] = Field(default_factory=dict)
    """Method → what is set for its runs alone."""
    methods: Methods | None = None
    """In place of the experiment's."""
    seeds: Seeds | None = None
    """In place of the experiment's."""
    parts: dict[Name, Settings] = Field(default_factory=dict)
    """Several runs whose cells together make the setting: name → what is set for it."""
    after: str | None = None
    """Another setting (not a curve): each run goes on from its run of the same method and seed."""
    curve: CurveSection | None = None
    """Each run with several numbers of labelled examples, each drawn several times."""

    @property
    def points(self) -> tuple[Point | None, ...]:
        """The places of its runs on its curve; None, once, where it has no curve."""
        return (None,) if self.curve is None else tuple(self.curve.points())


class Design(Section):
    """What an experiment's file says."""

    format_version: Literal[1]
    """The version of the file's form; write 1."""
    name: Name
    """The experiment's name, and its folder's in runs/ where no other is given."""
    description: str = ""
    """What it is for, in a sentence."""
    set: Settings = Field(default_factory=dict)
    """Keys of the recipes → values in their place, in every run."""
    methods: Methods | None = None
    """The methods to compare; without them, the one that each recipe names."""
    seeds: Seeds | None = None
    """The seeds to repeat each with; without them, the one that each recipe names."""
    method_set: dict[Method, Settings] = Field(default_factory=dict)
    """Method → what is set for its runs alone."""
    settings: dict[Name, SettingSection]
    """The settings: name → recipe and what is changed in it."""

    def changes(self, setting: str, part: str, method: str | None) -> Settings:
        """Return what is set for a run. What is more particular has the last word.

        That is: the experiment's ``set``, its ``method_set``, then the setting's, then its part's.
        """
        section = self.settings[setting]
        given: Settings = {}
        for settings in (
            self.set,
            _of_method(self.method_set, method),
            section.set,
            _of_method(section.method_set, method),
            section.parts.get(part, {}),
        ):
            for key, value in settings.items():
                given.pop(key, None)  # they are applied in order, and a block may hold other keys
                given[key] = value
        return given


def _of_method(table: Mapping[Any, Settings], method: str | None) -> Settings:
    return table.get(method, {}) if method else {}


_KEYS = {
    (): tuple(Design.model_fields),
    ("settings", "*"): tuple(SettingSection.model_fields),
    ("settings", "*", "curve"): tuple(CurveSection.model_fields),
}


def load_design(path: Path) -> Design:
    """Read an experiment's file.

    Raises:
        RecipeError: with every fault of the file, each with its line and key.
    """
    faults = Faults()
    what = f"The experiment {path}"
    data = read_document(path.read_text(encoding="utf-8-sig"), faults)
    if not isinstance(data, dict):
        if not faults.found:
            faults.add((), "an experiment is a block of keys: format_version, name and settings")
        faults.raise_if_any(what)
    data = expand(data, os.environ, faults)
    try:
        design = Design.model_validate(data)
    except ValidationError as error:
        translate(error, data, _KEYS, faults)
        faults.raise_if_any(what)
    check(design, path.parent, faults)
    faults.raise_if_any(what)
    return design


def is_design(path: Path) -> bool:
    """Whether a file is an experiment's, not a recipe: recipes have no ``settings``."""
    if path.suffix not in SUFFIXES or not path.is_file():
        return False
    try:
        data = read_document(path.read_text(encoding="utf-8-sig"), Faults())
    except UnicodeDecodeError:
        return False
    return isinstance(data, dict) and "settings" in data


def design_of_folder(
    folder: Path, methods: tuple[Method, ...] | None = None, seeds: tuple[int, ...] | None = None
) -> Design:
    """Make a design of all recipes of a folder, each a setting named as its file.

    Args:
        folder: its ``*.yaml`` files are the recipes.
        methods, seeds: with which to run each; without them, those that the recipe names.

    Raises:
        RecipeError: the folder has no recipes, or what it is named cannot be an experiment's name.
    """
    recipes = sorted(path for path in folder.iterdir() if path.suffix in SUFFIXES)
    if not recipes:
        raise RecipeError(f"{folder} holds no recipes (*.yaml).")
    try:
        return Design(
            format_version=1,
            name=folder.resolve().name,
            methods=methods,
            seeds=seeds,
            settings={path.stem: SettingSection(recipe=path.name) for path in recipes},
        )
    except ValidationError as error:
        faults = Faults()
        translate(error, {}, _KEYS, faults)
        faults.raise_if_any(f"The experiment of the folder {folder}")
        raise
