"""The file of an experiment: which recipes are run, with which methods and seeds.

    settings × parts × methods × seeds → runs

It is validated as recipes are: unknown keys are refused, and all faults are told at once.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationError

from ..errors import RecipeError, nearest
from ..methods import Method
from ..recipe.document import read_document
from ..recipe.faults import Faults, Loc, translate
from ..recipe.outside import expand
from ..recipe.sections import Section

FORMAT_VERSION = 1
SUFFIXES = (".yaml", ".yml")

# What a run's place in the design decides, so that `set` must not.
OWN_KEYS = ("name", "method", "training.seed", "start_from")


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
    """Another setting: each run goes on from its run of the same method and seed."""


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
        return {
            **self.set,
            **_of_method(self.method_set, method),
            **section.set,
            **_of_method(section.method_set, method),
            **section.parts.get(part, {}),
        }


def _of_method(table: Mapping[Any, Settings], method: str | None) -> Settings:
    return table.get(method, {}) if method else {}


_KEYS = {
    (): tuple(Design.model_fields),
    ("settings", "*"): tuple(SettingSection.model_fields),
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
    _check(design, path.parent, faults)
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


def _check(design: Design, folder: Path, faults: Faults) -> None:
    """Note what no single key shows."""
    if not design.settings:
        faults.add(("settings",), "name at least one setting")
    for loc, settings in _all_settings(design):
        for key in settings:
            if key in OWN_KEYS or key.split(".")[0] in OWN_KEYS:
                faults.add((*loc, key), "the experiment decides this for each run; remove it")
    for name, section in design.settings.items():
        loc = ("settings", name)
        recipe = folder / Path(section.recipe).expanduser()
        if not recipe.is_file() and (*loc, "recipe") not in faults.unset:
            beside = [p.name for p in recipe.parent.glob("*.y*ml")]
            faults.add((*loc, "recipe"), f"there is no {recipe}.{nearest(recipe.name, beside)}")
        if section.after is not None:
            _check_after(design, name, faults)


def _check_after(design: Design, name: str, faults: Faults) -> None:
    loc, section = ("settings", name, "after"), design.settings[name]
    before = design.settings.get(str(section.after))
    if before is None:
        faults.add(
            loc,
            f'there is no setting "{section.after}".{nearest(str(section.after), design.settings)}',
        )
        return
    passed, at = {name}, str(section.after)
    while at in design.settings and (following := design.settings[at].after):
        if at in passed:
            faults.add(loc, "these settings wait for each other")
            return
        passed.add(at)
        at = following
    if at in passed:
        faults.add(loc, "these settings wait for each other")
        return
    for key in ("methods", "seeds"):
        ours = getattr(section, key) or getattr(design, key)
        theirs = getattr(before, key) or getattr(design, key)
        lacking = [str(value) for value in ours or () if theirs and value not in theirs]
        if lacking:
            faults.add(loc, f"{section.after} is not run with the {key} {', '.join(lacking)}")
    if before.parts and not (section.parts and section.parts.keys() <= before.parts.keys()):
        faults.add(
            loc,
            f"{section.after} has the parts {', '.join(before.parts)}; "
            "a setting after it must have parts of the same names",
        )


def _all_settings(design: Design) -> list[tuple[Loc, Settings]]:
    found: list[tuple[Loc, Settings]] = [(("set",), design.set)]
    found += [(("method_set", method), given) for method, given in design.method_set.items()]
    for name, section in design.settings.items():
        loc: Loc = ("settings", name)
        found.append(((*loc, "set"), section.set))
        found += [((*loc, "method_set", m), given) for m, given in section.method_set.items()]
        found += [((*loc, "parts", part), given) for part, given in section.parts.items()]
    return found
