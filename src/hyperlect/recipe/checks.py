"""What must hold between the parts of a recipe."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from torch import nn

from ..backbone.builtin import BUILTINS
from ..backbone.loading import BUILTIN
from ..data.examples import SPLITS, Split
from ..errors import nearest, unknown
from ..grid import Cell
from ..tasks import OUTSIDE, TaskType
from .choice import check_few_shot
from .faults import Faults
from .formats import check_format
from .placed import PlacedBlock
from .recipe import Recipe
from .sections import TaskSection


def check(recipe: Recipe, blocks: Sequence[PlacedBlock], faults: Faults, check_files: bool) -> None:
    """Note every fault that shows only between parts.

    Args:
        recipe: with languages and file names resolved.
        blocks: its data blocks, as they were written.
        faults: takes what is wrong; what would merely follow from its broken sections is left out.
        check_files: whether files must exist.
    """
    builtin = recipe.backbone.removeprefix(BUILTIN)
    if builtin != recipe.backbone and builtin not in BUILTINS:
        faults.add(("backbone",), str(unknown("built-in backbone", builtin, BUILTINS)))
    for name, task in recipe.tasks.items():
        _check_task(name, task, faults)
    _check_shares(recipe, faults)
    for block in blocks:
        _check_block(block, recipe, faults)
        if check_files and block.section.format != "hub":
            _check_files(block, faults)
    _check_parts(blocks, faults)
    if not faults.is_broken("data") and not faults.is_broken("tasks"):
        check_few_shot(recipe, faults)
        if not faults.is_broken("few_shot"):
            _check_coverage(recipe, faults)
            if not faults.is_broken("method") and recipe.method == "mad-x":
                _check_madx(recipe, faults)
    if not faults.is_broken("training"):
        _check_training(recipe, faults)
    if not (faults.is_broken("hypernet") or faults.is_broken("method")):
        try:
            recipe.hypernet_config()
        except ValueError as error:
            faults.add(("hypernet",), f"with method {recipe.method}, {error}")


def _check_task(name: str, task: TaskSection, faults: Faults) -> None:
    loc = ("tasks", name)
    if not name.replace("-", "").replace("_", "").isalnum():
        faults.add(loc, "a task's name is made of letters, digits, - and _")
    elif hasattr(nn.ModuleDict, name):  # where the heads are kept under their tasks' names
        faults.add(loc, "PyTorch keeps this name for itself; choose another")
    if task.type is TaskType.MLM:
        for key in ("labels", "label_map"):
            if getattr(task, key):
                faults.add((*loc, key), "a task of type mlm has no labels; remove them")
        return
    if task.labels is None:
        return
    if not task.labels:
        faults.add((*loc, "labels"), "is empty; list the labels, or leave the key out")
    for twice in sorted({label for label in task.labels if task.labels.count(label) > 1}):
        faults.add((*loc, "labels"), f'"{twice}" is listed twice')
    allowed = [*task.labels]
    if task.type is TaskType.SPANS:
        allowed.append(OUTSIDE)
        for label in task.labels:
            if label == OUTSIDE:
                faults.add(
                    (*loc, "labels"), "O stands for no entity and is always there; remove it"
                )
            elif label.startswith(("B-", "I-")):
                faults.add(
                    (*loc, "labels"), f'list entity types, not tags: "{label[2:]}", not "{label}"'
                )
        allowed += [f"{prefix}-{label}" for label in task.labels for prefix in "BI"]
    for source, target in task.label_map.items():
        if target not in allowed:
            hint = nearest(target, allowed)
            faults.add((*loc, "label_map", source), f'"{target}" is no label of this task.{hint}')


def _check_shares(recipe: Recipe, faults: Faults) -> None:
    shares = {name: task.share for name, task in recipe.tasks.items() if task.share is not None}
    if not shares or faults.is_broken("tasks"):
        return
    total = sum(shares.values())
    if total >= 1:
        names = ", ".join(shares)
        faults.add(
            ("tasks", next(iter(shares)), "share"),
            f"the shares of {names} sum to {total:g}; they must stay below 1",
        )
    elif len(shares) == len(recipe.tasks):
        faults.add(
            ("tasks", next(iter(shares)), "share"),
            f"every task has a share, and {1 - total:g} of the steps are left; leave out one",
        )


def _check_block(block: PlacedBlock, recipe: Recipe, faults: Faults) -> None:
    section, loc = block.section, block.loc
    hub = section.format == "hub"
    if hub and not section.dataset:
        faults.add((*loc, "dataset"), "is missing: name the data set's id on the hub")
    for owner, keys in {"hub": ("dataset", "config", "revision"), "columns": ("comment",)}.items():
        for key in keys if section.format != owner else ():
            if getattr(section, key):
                said = f"goes with format {owner}, not {section.format}; remove it"
                faults.add((*loc, key), said)
    if not section.cells and not faults.is_broken(*loc):
        faults.add((*loc, "cells"), "is empty; write language: {train: …, dev: …, test: …}")
    for language, files in section.cells.items():
        cell_loc = (*loc, "cells", block.keys[language])
        if not any(getattr(files, split) for split in SPLITS) and not faults.is_broken(*loc):
            faults.add(cell_loc, "has neither train nor dev nor test files")
        if files.config and not hub:
            faults.add((*cell_loc, "config"), f"goes with format hub, not {section.format}")
    task = recipe.tasks.get(section.task)
    if task is not None:
        check_format(block, task.type, faults)
    elif not faults.is_broken("tasks"):
        known = ", ".join(recipe.tasks) or "none"
        hint = nearest(section.task, recipe.tasks)
        faults.add(
            (*loc, "task"), f'there is no task "{section.task}" under tasks.{hint} Known: {known}.'
        )


def _check_files(block: PlacedBlock, faults: Faults) -> None:
    if any(loc[:2] == block.loc for loc in faults.unset):
        return  # the names are not complete
    if block.root is not None and not block.root.is_dir():
        faults.add((*block.loc, "root"), f"there is no folder {block.root}")
        return
    for loc, _, _, source in block.files():
        path = Path(source.location)
        if path.is_dir():
            faults.add(loc, f"{path} is a folder; name a file in it")
        elif not path.is_file():
            beside = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
            faults.add(loc, f"there is no file {path}.{nearest(path.name, beside)}")


def _check_parts(blocks: Sequence[PlacedBlock], faults: Faults) -> None:
    """Keep train, dev and test apart, over all tasks and languages."""
    uses: dict[tuple[str | None, ...], list[tuple[Split, Cell]]] = {}
    for block in blocks:
        for loc, split, cell, source in block.files():
            hub = source.format == "hub"
            place = source.location if hub else str(Path(source.location).resolve())
            identity = (place, source.config, source.revision, source.split)
            for other, owner in uses.get(identity, ()):
                if other != split:
                    faults.add(
                        loc,
                        f"{source} is {split} data here and {other} data of {owner}; "
                        "what is evaluated on must not be trained or selected on",
                    )
                    break
                if owner == cell:
                    faults.add(loc, f"{source} is already among the {split} data of {cell}")
                    break
            uses.setdefault(identity, []).append((split, cell))


def _check_coverage(recipe: Recipe, faults: Faults) -> None:
    trained = {cell.task for cell in recipe.cells("train")}
    if not recipe.tasks:
        faults.add(("tasks",), "is empty; write a task, as in pos: {type: tagging}")
    elif not trained:
        faults.add(("data",), "there is nothing to train on; give some cell a train file")
    else:
        for name in recipe.tasks:
            if name not in trained:
                faults.add(
                    ("tasks", name),
                    "has no training data in any language; add some under data, or leave the task "
                    "out (only_tasks)",
                )


def _check_madx(recipe: Recipe, faults: Faults) -> None:
    grid = recipe.grid()
    if grid.trained and not grid.text_languages:
        said = (
            "mad-x trains language adapters on raw text; give a task of type mlm some to train on"
        )
        faults.add(("method",), said)
    if grid.trained and not grid.labelled_languages:
        faults.add(("method",), "mad-x trains task adapters on labelled data; add some")
    if faults.is_broken("training"):
        return
    if recipe.training.steps < 2:
        faults.add(("training", "steps"), "must be at least 2 with mad-x, which has two phases")
    chosen = recipe.selection_cells()
    if chosen and set(chosen) <= recipe.not_applicable("dev").keys():
        said = "mad-x applies to none of the cells to select by: no raw text in their languages"
        faults.add(("training", "select_by"), said)


def _check_training(recipe: Recipe, faults: Faults) -> None:
    training = recipe.training
    if training.warmup >= training.steps:
        faults.add(
            ("training", "warmup"),
            f"must be less than training.steps ({training.steps}), not {training.warmup}",
        )
    if training.patience is not None and training.evaluate_every is None:
        faults.add(
            ("training", "patience"), "counts evaluations; set training.evaluate_every as well"
        )
    if any(faults.is_broken(section) for section in ("data", "tasks", "few_shot")):
        return
    dev = set(recipe.cells("dev"))
    loc = ("training", "select_by")
    if not isinstance(training.select_by, str):
        chosen = recipe.selection_cells()
        for number, cell in enumerate(chosen):
            if cell not in dev:
                known = sorted(map(str, dev))
                hint = nearest(str(cell), known)
                faults.add((*loc, number), f"{cell} has no dev files.{hint}")
        kinds = {
            recipe.tasks[c.task].type is TaskType.MLM for c in chosen if c.task in recipe.tasks
        }
        if len(kinds) > 1:
            faults.add(loc, "perplexities (mlm) and other scores cannot be averaged; choose")
    elif recipe.start_from is not None:
        return  # the kinds of cells are known once the run is read that it starts from
    elif not recipe.selection_cells() and (dev or training.patience):
        faults.add(loc, f'no cell of kind "{training.select_by}" has dev files to select by')
