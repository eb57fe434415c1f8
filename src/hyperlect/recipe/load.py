"""Loading a recipe: text → data → sections → names and paths resolved → checked, or one error."""

from __future__ import annotations

import copy
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ..errors import RecipeError, nearest
from ..run_folder import is_hub_id
from .checks import check
from .choice import EMPTY_BLOCK, leave_out, resolve_few_shot, resolve_selection
from .document import read_document
from .faults import Faults, Loc, section_of, translate
from .keys import NESTED, described
from .outside import apply_override, expand
from .placed import place
from .recipe import FORMAT_VERSION, Recipe

_KEYS = {place: tuple(described(section)) for place, section in ({(): Recipe} | NESTED).items()}


def load_recipe(
    path: str | Path, overrides: Sequence[str] = (), *, check_files: bool = True
) -> Recipe:
    """Load and validate a recipe whole.

    Args:
        path: the YAML file. Relative file names in it start from its folder.
        overrides: ``key.path=value`` texts that replace what the file says (``--set``); the value
            is read as YAML, and items of lists are counted from 0.
        check_files: whether the data files must exist. A run folder's recipe is read without,
            where only the model is wanted.

    Returns:
        The recipe with languages as ISO 639-3 codes, file names absolute, variables expanded.

    Raises:
        RecipeError: with every fault of the recipe, each with its line and key.
    """
    path = Path(path)
    faults = Faults()
    data = read_document(_read(path), faults)
    if data is None and not faults.found:
        faults.add((), "it is empty; write format_version, name, tasks and data")
    elif data is not None and not isinstance(data, dict):
        faults.add((), "a recipe is a block of keys: value lines")
    if not isinstance(data, dict):
        faults.raise_if_any(f"The recipe {path}")
    for override in overrides:
        apply_override(data, override, faults)
    left_out = leave_out(data, faults)
    recipe, dropped = _validate(expand(data, os.environ, faults), faults)
    folder = path.absolute().parent
    blocks = [
        place(block, index, folder, faults)
        for index, block in enumerate(recipe.data)
        if ("data", index) not in dropped | left_out.blocks
    ]
    resolved = {
        "backbone": _backbone(recipe.backbone, folder),
        "start_from": _start(recipe.start_from, folder, faults if check_files else None),
        "data": tuple(block.section for block in blocks),
        "few_shot": resolve_few_shot(recipe.few_shot, left_out, faults),
        "training": resolve_selection(recipe.training, left_out, faults),
    }
    recipe = recipe.model_copy(update=resolved)
    check(recipe, blocks, faults, check_files)
    faults.raise_if_any(f"The recipe {path}")
    return recipe


def _read(path: Path) -> str:
    if path.is_dir():
        raise RecipeError(f"{path} is a folder. Name a recipe's YAML file.")
    if not path.is_file():
        beside = [p.name for p in path.parent.glob("*.y*ml")] if path.parent.is_dir() else []
        raise RecipeError(f"There is no recipe {path}.{nearest(path.name, beside)}")
    try:
        return path.read_text(encoding="utf-8-sig")
    except (UnicodeDecodeError, OSError) as error:
        raise RecipeError(f"The recipe {path} cannot be read as UTF-8 text: {error}") from error


def _validate(data: dict[str, Any], faults: Faults) -> tuple[Recipe, set[Loc]]:
    """Make the sections. What is faulty is noted and taken out, so that the rest is checked too.

    Returns:
        A recipe, of which only the faultless parts mean anything, and the sections taken out whole.
    """
    data = copy.deepcopy(data)
    dropped: set[Loc] = set()
    while True:
        try:
            return Recipe.model_validate(data), dropped
        except ValidationError as error:
            for loc, kind in translate(error, data, _KEYS, faults):
                section = section_of(loc)
                while isinstance(loc[-1], int) and loc != section:
                    loc = loc[:-1]  # a list with a faulty item goes as a whole
                if kind == "missing" or loc == section:
                    loc = section
                    dropped.add(section)
                _take_out(data, loc)
                faults.removed.add(loc)


def _take_out(data: dict[str, Any], loc: Loc) -> None:
    """Remove the value at a path, and put a stand-in where something is needed."""
    parent: Any = data
    for part in loc[:-1]:
        parent = parent.get(part, {}) if isinstance(parent, dict) else parent[part]
    if isinstance(parent, list):
        parent[int(loc[-1])] = dict(EMPTY_BLOCK)
    else:
        parent.pop(loc[-1], None)
    needed = {"format_version": FORMAT_VERSION, "name": "recipe", "tasks": {}, "data": []}
    if len(loc) == 1 and loc[0] in needed:
        data[str(loc[0])] = needed[str(loc[0])]


def _backbone(reference: str, folder: Path) -> str:
    """Make a backbone's folder absolute; ids and ``builtin:`` names stay as they are."""
    local = folder / Path(reference).expanduser()
    return os.path.normpath(local) if local.is_dir() else reference


def _start(reference: str | None, folder: Path, faults: Faults | None) -> str | None:
    """Make the folder of a run absolute, and note where there is none and it is no hub id.

    One that was given on the command line may be meant from the current folder.
    """
    if reference is None or ("start_from",) in (faults.unset if faults else ()):
        return reference
    written = Path(reference).expanduser()
    for local in (folder / written, Path.cwd() / written):
        if local.is_dir():
            return os.path.normpath(local)
    if faults is not None and not is_hub_id(reference):
        place = Path(os.path.normpath(folder / written))
        beside = [p.name for p in place.parent.iterdir()] if place.parent.is_dir() else []
        faults.add(("start_from",), f"there is no run {place}.{nearest(place.name, beside)}")
    return reference
