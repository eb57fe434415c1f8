"""What of a recipe is used: some of its tasks alone, and of some cells a few examples."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from ..errors import UnknownNameError, nearest
from ..grid import Cell
from ..languages import resolve
from .faults import Faults, Loc
from .few_shot import FewShotSection
from .recipe import Recipe
from .sections import TrainingSection

EMPTY_BLOCK = MappingProxyType({"task": "-", "format": "text", "cells": {}})
"""Stands where a data block was taken out, so that the others keep their numbers."""


@dataclass(frozen=True)
class LeftOut:
    """The tasks that ``only_tasks`` does not name, and the paths of their data blocks."""

    tasks: frozenset[str] = frozenset()
    blocks: frozenset[Loc] = frozenset()


def leave_out(data: dict[str, Any], faults: Faults) -> LeftOut:
    """Take the tasks that ``only_tasks`` does not name out of a recipe's data, in place.

    What stands under them is not looked at again: its files need not exist, nor its variables be
    set. Where a name is unknown nothing is taken out, and the recipe is checked whole.
    """
    wanted, tasks, blocks = (data.get(key) for key in ("only_tasks", "tasks", "data"))
    wanted = [wanted] if isinstance(wanted, str) else wanted
    if wanted == []:
        faults.add(("only_tasks",), "is empty; name some tasks, or leave the key out")
    if not (isinstance(wanted, list) and wanted and isinstance(tasks, dict)):
        return LeftOut()  # any other form is told of when the recipe is validated
    unknown = [(n, name) for n, name in enumerate(wanted) if str(name) not in tasks]
    for number, name in unknown:
        known = ", ".join(tasks) or "none"
        faults.add(
            ("only_tasks", number),
            f'there is no task "{name}" under tasks.{nearest(str(name), tasks)} Known: {known}.',
        )
    if unknown:
        return LeftOut()
    others = frozenset(tasks) - set(wanted)
    for name in others:
        del tasks[name]
    places = set()
    blocks = blocks if isinstance(blocks, list) else []
    for index, block in enumerate(blocks):
        if isinstance(block, dict) and str(block.get("task")) in others:
            blocks[index] = dict(EMPTY_BLOCK)
            places.add(("data", index))
    return LeftOut(others, frozenset(places))


def resolve_selection(
    training: TrainingSection, left_out: LeftOut, faults: Faults
) -> TrainingSection:
    """Write the languages of ``select_by`` as ISO 639-3, without the cells of tasks left out."""
    if isinstance(training.select_by, str):
        return training
    loc = ("training", "select_by")
    cells = _resolve_cells(training.select_by, loc, left_out.tasks, faults)
    if not cells and not faults.is_broken("training"):
        faults.add(loc, "names no cell of the tasks in only_tasks")
        faults.broken.add(("training",))
    return training.model_copy(update={"select_by": cells})


def resolve_few_shot(
    few_shot: FewShotSection | None, left_out: LeftOut, faults: Faults
) -> FewShotSection | None:
    """Do the same to the cells of ``few_shot``; where none remains, it does not concern the rest.

    With ``alone`` it does: then there is nothing to train on.
    """
    if few_shot is None:
        return None
    cells = _resolve_cells(few_shot.cells, ("few_shot", "cells"), left_out.tasks, faults)
    if not cells and not faults.is_broken("few_shot"):
        if not few_shot.alone:
            return None
        faults.add(("few_shot", "cells"), "name no cell of the tasks in only_tasks")
        faults.broken.add(("few_shot",))
    return few_shot.model_copy(update={"cells": cells})


def _resolve_cells(
    texts: Iterable[str], loc: Loc, without: Collection[str], faults: Faults
) -> tuple[str, ...]:
    cells = []
    for number, text in enumerate(texts):
        cell = Cell.parse(text)
        if cell.task in without:
            continue
        try:
            cells.append(str(cell._replace(language=resolve(cell.language))))
        except UnknownNameError as error:
            faults.add((*loc, number), str(error))
            faults.broken.add(loc[:1])
    return tuple(cells)


def check_few_shot(recipe: Recipe, faults: Faults) -> None:
    """Note every cell of ``few_shot`` that there is nothing to draw from for."""
    if recipe.few_shot is None or faults.is_broken("few_shot"):
        return
    written = [str(cell) for cell in recipe.written_cells("train")]
    for number, cell in enumerate(recipe.few_shot.cells):
        loc = ("few_shot", "cells", number)
        if cell in recipe.few_shot.cells[:number]:
            faults.add(loc, f"{cell} is listed twice")
        elif cell not in written:
            faults.add(
                loc,
                f"{cell} has no train file under data, to draw examples from."
                f"{nearest(cell, written)}",
            )
            faults.broken.add(("few_shot",))
