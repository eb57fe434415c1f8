"""Whether a run folder was made by the recipe at hand, wherever the data lay then."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..errors import RecipeError
from ..recipe import load_recipe
from ..recipe.document import read_document
from ..recipe.faults import Faults
from .plan import Run

# What says nothing of how the numbers come about.
IGNORED = frozenset({"name", "description", "training.log_every", "training.save_every"})
SHOWN = 5

_VARIABLE = re.compile(r"\$\{([A-Za-z_]\w*)(?::-([^}]*))?\}")


def differences(run: Run) -> list[str]:
    """Compare a run's recipe with the one that its folder keeps.

    File names are compared as they are written in the recipe or the experiment's file: what a
    variable (``${HYPERLECT_DATA}``) or the recipe's own folder stands for may differ between
    machines.

    Returns:
        What differs, one key a line; empty where nothing does.
    """
    kept = run.folder / "recipe.yaml"
    if not kept.is_file():
        return ["it holds no recipe.yaml that would say what it is of"]
    now = run.recipe.dump()
    text = kept.read_text(encoding="utf-8")
    if text == now and run.after is None:
        return []
    try:
        then = load_recipe(kept, check_files=False).dump()  # with the defaults of this version
    except RecipeError as error:
        return [str(error)]
    old, new = dict(_flat(_read(then))), dict(_flat(_read(now)))
    if run.after is not None:
        new["start_from"] = str(run.after)
    roots, base = _roots(run), run.file.parent
    keys = [key for key in {**new, **old} if key not in IGNORED]
    return [
        f"{key}: {_shown(old.get(key))} there, {_shown(new.get(key))} now"
        for key in keys
        if not _same(old.get(key), new.get(key), roots, base)
    ]


def told(run: Run, found: list[str]) -> str:
    """Return what to say of a run folder that is not of the recipe at hand."""
    more = f"; and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    return f"{run.folder} is not of this recipe: {'; '.join(found[:SHOWN])}{more}"


def _read(text: str) -> Any:
    return read_document(text, Faults())


def _flat(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Go through the leaves of plain data with their dotted keys."""
    if isinstance(value, dict) and value:
        items: Any = value.items()
    elif isinstance(value, list) and value:
        items = enumerate(value)
    else:
        yield key, value or None if isinstance(value, dict | list) else value
        return
    for inner, item in items:
        yield from _flat(item, f"{key}.{inner}" if key else str(inner))


def _roots(run: Run) -> list[str]:
    """Return the folders that are this machine's own, longest first: variables' and the runs'."""
    files = [run.file] if run.design is None else [run.file, run.design]
    texts = [file.read_text(encoding="utf-8-sig") for file in files]
    written = [found for text in texts for found in _VARIABLE.findall(text)]
    values = [os.environ.get(name) or default for name, default in written]
    experiment = run.folder.parents[run.name.count("/")]
    roots = [value for value in values if Path(value).is_absolute()]
    roots.append(str(experiment))
    return sorted(map(os.path.normpath, roots), key=len, reverse=True)


def _same(old: Any, new: Any, roots: list[str], base: Path) -> bool:
    if old == new or not (isinstance(old, str) and isinstance(new, str)):
        return bool(old == new)
    if not Path(new).is_absolute():
        return False
    # A path that is all variable may be any path elsewhere.
    tail = _tail(new, roots, base)
    return f"/{old}".endswith(f"/{tail}") if tail else Path(old).is_absolute()


def _tail(path: str, roots: list[str], base: Path) -> str:
    """Return what is left of a path without the machine's own folder."""
    inside = [root for root in roots if Path(path).is_relative_to(root)]
    # What lies in none of them starts from the recipe's folder: ../data/x
    relative = os.path.relpath(path, inside[0] if inside else base)
    return "/".join(part for part in Path(relative).parts if part != "..")


def _shown(value: Any) -> str:
    return "nothing" if value is None else str(value)
