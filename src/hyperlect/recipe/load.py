"""Loading a recipe: YAML → sections → languages and folders resolved → checked, or one error.

The checks come last: what must hold between the keys of a recipe, and between it and its files.
"""

from __future__ import annotations

import json
import os
import re
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from .. import hypernet
from ..backbone.builtin import BUILTINS
from ..backbone.loading import BUILTIN
from ..data.readers import READERS, SPLITS
from ..data.typology import URIEL
from ..errors import nearest, unknown
from ..grid import Cell
from ..languages import resolve
from ..run_folder import MOVED, RECIPE, RESULTS, VERSIONS, expanded, is_hub_id, relative
from ..tasks import OUTSIDE, TaskType
from .document import Document, Loc, fill_in
from .recipe import FORMAT_VERSION, PLACES, RECOMMENDED, Recipe
from .schema import DataBlock, TaskSection

RENAMED = {("hypernet", old): new for old, new in hypernet.RENAMED.items()}
"""The path of each key under its old name → its new name. The old one is accepted for one version,
with a warning."""

EMPTY_BLOCK = {"task": "-", "format": "text", "cells": {}}
"""Takes the place of a data block that was taken out, so that the others keep their numbers."""

_FOLDER = re.compile(r"folder|data\.\d+\.root")
_STAND_INS = {
    ("format_version",): FORMAT_VERSION,
    ("name",): "recipe",
    ("tasks",): {},
    ("data",): [],
    ("data", "*"): EMPTY_BLOCK,
}


def load_recipe(
    path: str | Path, overrides: Sequence[str] = (), *, check_files: bool = True
) -> Recipe:
    """Load and validate a recipe whole.

    Args:
        path: the YAML file. Relative file names in it start from its folder.
        overrides: ``key.path=value`` texts that replace what the file says (``--set``); the value
            is read as YAML, and items of lists are counted from 0. For the recipe of a run,
            ``folder=…`` or ``data.0.root=…`` say where the data lies now; these start from the
            current folder.
        check_files: whether the data files must exist, and the variables in their names have
            values. A run's recipe is read without, where only the model is wanted.

    Raises:
        RecipeError: with every fault of the recipe, each with its line and key.
    """
    path = Path(path)
    of_run = any((path.parent / name).is_file() for name in (VERSIONS, RESULTS))
    document = Document.read(path, renamed=RENAMED, warn=not of_run)
    for override in overrides:
        key, _, value = override.partition("=")
        if _FOLDER.fullmatch(key) and Path(value).is_dir():
            override = f"{key}={json.dumps(str(Path(value).absolute()))}"
        document.override(override)
    if document.data.get("format_version") == FORMAT_VERSION:
        document.fill(_recommended(document.data))
    left_out = _leave_out(document)
    document.expand(os.environ, later=PLACES, strict=check_files)
    recipe = document.validate(Recipe, _STAND_INS)
    assert recipe is not None  # all that is required has a stand-in
    folder = path.absolute().parent / expanded(fill_in(recipe.folder, os.environ))
    recipe = recipe.model_copy(update={"folder": os.path.normpath(folder)})
    recipe = _with_references(_of_tasks(recipe, left_out))
    between = list(faults(recipe, document, check_files))
    for loc, message in between:
        document.add(loc, message)
    moved = of_run and check_files and any(loc[0] in ("folder", "data") for loc, _ in between)
    document.raise_if_any(MOVED if moved else "")
    blocks = tuple(block for block in recipe.data if block.task != EMPTY_BLOCK["task"])
    return recipe.model_copy(update={"data": blocks})


def earlier_recipes(recipe: Recipe) -> tuple[list[Recipe], str | None]:
    """Return the recipes of the runs that a recipe starts from, one behind the other.

    Returns:
        They, and the model without a recipe that the last of them starts from; None for none.
    """
    earlier: list[Recipe] = []
    source = recipe.start_from
    while source and (path := Path(source) / RECIPE).is_file():
        earlier.append(load_recipe(path, check_files=False))
        source = earlier[-1].start_from
    return earlier, source


def _recommended(data: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the defaults of version 2; the warm-up is at most a tenth of the steps."""
    training = data.get("training")
    steps = training.get("steps") if isinstance(training, dict) else None
    if not isinstance(steps, int):
        return RECOMMENDED
    warmup = min(RECOMMENDED["training"]["warmup"], max(steps, 0) // 10)
    return RECOMMENDED | {"training": RECOMMENDED["training"] | {"warmup": warmup}}


def _leave_out(document: Document) -> frozenset[str]:
    """Take the tasks that ``only_tasks`` does not name out of a recipe's data; return their names.

    What is written under them is not looked at: its files need not exist, nor its variables have
    values. Where a name is unknown nothing is taken out, and the recipe is checked whole.
    """
    wanted, tasks, blocks = map(document.data.get, ("only_tasks", "tasks", "data"))
    wanted = [wanted] if isinstance(wanted, str) else wanted
    if not (isinstance(wanted, list) and wanted and isinstance(tasks, dict)):
        return frozenset()  # any other form is a fault that validation finds
    names = list(map(str, wanted))
    for number, name in enumerate(names):
        if name not in tasks:
            document.add(("only_tasks", number), str(unknown("task", name, tasks)))
    others = frozenset(tasks).difference(names) if tasks.keys() >= set(names) else frozenset()
    for name in others:
        del tasks[name]
    if isinstance(blocks, list):
        gone = [isinstance(block, dict) and str(block.get("task")) in others for block in blocks]
        document.data["data"] = [EMPTY_BLOCK if g else b for b, g in zip(blocks, gone, strict=True)]
    return others


def _of_tasks(recipe: Recipe, left_out: Collection[str]) -> Recipe:
    """Remove the cells of tasks that were left out from ``select_by`` and ``few_shot``."""

    def remaining(cells: Sequence[str]) -> tuple[str, ...]:
        return tuple(cell for cell in cells if Cell.parse(cell).task not in left_out)

    few_shot, training = recipe.few_shot, recipe.training
    if few_shot is not None:
        cells = remaining(few_shot.cells)  # without any it does not concern the other tasks
        few_shot = few_shot.model_copy(update={"cells": cells}) if cells or few_shot.alone else None
    if not isinstance(training.select_by, str):
        training = training.model_copy(update={"select_by": remaining(training.select_by)})
    return recipe.model_copy(update={"few_shot": few_shot, "training": training})


def _with_references(recipe: Recipe) -> Recipe:
    """Make the folders of the backbone and of the run to start from absolute.

    A run that was given on the command line may be meant from the current folder.
    """
    backbone, start = recipe.local(recipe.backbone), recipe.start_from
    written = {backbone: recipe.backbone}
    if start is not None:
        path, here = recipe.local(start), expanded(start).absolute()
        if here.is_dir() and not Path(path).is_absolute():
            path = os.path.normpath(here)
            start = relative(path, recipe.folder)
        written[path], start = start, path
    recipe = recipe.model_copy(update={"backbone": backbone, "start_from": start})
    recipe._written = written
    return recipe


Fault = tuple[Loc, str]


_TABLE_FIELDS = {
    "words": ("words", "labels"),
    "text": ("text", "label"),
    "pair": ("text", "pair", "label"),
    "raw": ("text",),
}
# Keys of a data block that go with one format.
_OF_FORMAT = dict.fromkeys(("dataset", "config", "revision"), "hub")
_OF_FORMAT |= {"comment": "columns", "strip_prefix": "columns", "quoting": "tsv"}


def faults(recipe: Recipe, document: Document, check_files: bool) -> Iterator[Fault]:
    """Find every fault that shows only between keys, as a path and a message.

    Args:
        recipe: with languages and folders resolved; only its sound parts.
        document: says which sections are broken. What merely follows from that is left out.
        check_files: whether files must exist.
    """

    def sound(*sections: str) -> bool:
        return not any(map(document.is_broken, sections))

    builtin = recipe.backbone.removeprefix(BUILTIN)
    if builtin != recipe.backbone and builtin not in BUILTINS:
        yield ("backbone",), str(unknown("built-in backbone", builtin, BUILTINS))
    for name, task in recipe.tasks.items():
        yield from _task(("tasks", name), task)
    if sound("tasks"):
        yield from _shares(recipe)
    for index, block in enumerate(recipe.data):
        if block.task != EMPTY_BLOCK["task"]:
            yield from _block(("data", index), block, recipe, document)
    if check_files:
        yield from _files(recipe, document)
    yield from _parts(recipe)
    if sound("data", "tasks", "few_shot"):
        few_shot = list(_few_shot(recipe))
        yield from few_shot or _coverage(recipe)
        if few_shot:
            document.broken.add(("few_shot",))
        elif recipe.method == "mad-x" and sound("method"):
            yield from _madx(recipe, sound("training"))
    if sound("training"):
        yield from _training(recipe, sound("data", "tasks", "few_shot"))
    if sound("hypernet", "language_features"):
        yield from _features(recipe, check_files)
    if sound("hypernet", "method"):
        try:
            recipe.hypernet_config()
        except ValueError as error:
            yield ("hypernet",), f"with method {recipe.method}, {error}"


def _task(loc: Loc, task: TaskSection) -> Iterator[Fault]:
    name, labels = str(loc[-1]), task.labels
    if not name.replace("-", "").replace("_", "").isalnum():
        yield loc, "a task's name must be made of letters, digits, - and _"
    elif hasattr(nn.ModuleDict(), name):  # where the heads are kept under their tasks' names
        yield loc, "PyTorch keeps this name for itself; choose another"
    if task.scheme != "iob2" and task.type is not TaskType.SPANS:
        yield (*loc, "scheme"), f"goes with type spans, not {task.type}; remove it"
    if task.unlabelled != "error" and task.type is TaskType.PARSING:
        yield (*loc, "unlabelled"), "does not go with type parsing: every word of a tree has a head"
    for key in ("labels", "label_map") if task.type is TaskType.MLM else ():
        if getattr(task, key):
            yield (*loc, key), "a task of type mlm has no labels; remove them"
    if labels is None or task.type is TaskType.MLM:
        return
    targets = list(labels)
    if task.type is TaskType.SPANS:
        targets += [OUTSIDE, *(f"{prefix}-{label}" for label in labels for prefix in "BI")]
        if OUTSIDE in labels:
            yield (*loc, "labels"), "O means no entity and is always there; remove it"
        for tag in [label for label in labels if label.startswith(("B-", "I-"))]:
            yield (*loc, "labels"), f'list entity types, not tags: "{tag[2:]}", not "{tag}"'
    for label, target in task.label_map.items():
        if target not in targets:
            hint = nearest(target, targets)
            yield (*loc, "label_map", label), f'"{target}" is not a label of this task.{hint}'


def _shares(recipe: Recipe) -> Iterator[Fault]:
    shares = {name: task.share for name, task in recipe.tasks.items() if task.share is not None}
    total = sum(shares.values())
    loc = ("tasks", next(iter(shares), ""), "share")
    if total >= 1:
        yield loc, f"the shares of {', '.join(shares)} sum to {total:g}; they must stay below 1"
    elif shares and len(shares) == len(recipe.tasks):
        yield loc, f"every task has a share, and {1 - total:g} of the steps are left; remove one"


def _block(loc: Loc, block: DataBlock, recipe: Recipe, document: Document) -> Iterator[Fault]:
    sound = not document.is_broken(*loc)
    hub = block.format == "hub"
    if hub and not block.dataset:
        yield (*loc, "dataset"), "is required: name the data set's id on the hub"
    for key, owner in _OF_FORMAT.items():
        if block.format != owner and getattr(block, key) != DataBlock.model_fields[key].default:
            yield (*loc, key), f"goes with format {owner}, not {block.format}; remove it"
    if not block.cells and sound:
        yield (*loc, "cells"), "is empty; write language: {train: …, dev: …, test: …}"
    written: dict[str, str] = {}
    for key, files in block.cells.items():
        cell, first = (*loc, "cells", key), written.setdefault(resolve(key), key)
        if first != key:
            yield cell, f'"{first}" is the same language ({resolve(key)}); join the two'
        if not any(getattr(files, split) for split in SPLITS) and sound:
            yield cell, "has neither train nor dev nor test files"
        if files.config and not hub:
            yield (*cell, "config"), f"goes with format hub, not {block.format}; remove it"
    if block.task in recipe.tasks:
        yield from _format(loc, block, recipe.tasks[block.task].type, sound)
    elif not document.is_broken("tasks"):
        yield (*loc, "task"), str(unknown("task", block.task, recipe.tasks))


def _format(loc: Loc, block: DataBlock, task_type: TaskType, sound: bool) -> Iterator[Fault]:
    """Find a format that cannot hold the task, and fields that it does not have or lacks."""
    form, reader = block.format, READERS[block.format]
    holding = ("table", "words", "raw") if task_type.reads == "raw" else ("table", task_type.reads)
    fitting = [name for name, known in READERS.items() if known.holds in holding]
    if form not in fitting:
        what = f"cannot hold a task of type {task_type}"
        yield (*loc, "format"), f"{form} {what}; use one of {', '.join(fitting)}"
        return
    parsing = task_type is TaskType.PARSING
    known = tuple(field for field in reader.fields if parsing or field != "head")
    if reader.holds == "table":
        known = ("words", "heads", "labels") if parsing else _TABLE_FIELDS[task_type.reads]
    for field, column in block.fields.items():
        if field not in known:
            hint = f"{nearest(field, known)} Known: {', '.join(known) or 'none'}."
            yield (*loc, "fields", field), f"{form} has no such field for {task_type}.{hint}"
        elif isinstance(column, int) != (reader.columns == "number"):
            what = "number, counted from 1" if reader.columns == "number" else "name"
            yield (*loc, "fields", field), f"must be the column's {what}, not {column}"
    missing = [field for field in known if field not in block.fields]
    required = reader.holds == "table" or (reader.columns == "number" and "head" in missing)
    if sound and missing and required:
        what = f"do not say which column holds the {' and the '.join(missing)}"
        form_of_all = ", ".join(f"{field}: …" for field in known)
        yield (*loc, "fields"), f"{what}; write fields: {{{form_of_all}}}"


def _files(recipe: Recipe, document: Document) -> Iterator[Fault]:
    start = recipe.start_from if ("start_from",) not in document.unset else None
    if start and not (Path(start).is_dir() or is_hub_id(start)):
        yield ("start_from",), _missing("run", Path(recipe.path(start)))
    if not Path(recipe.folder).is_dir():
        yield ("folder",), f"there is no folder {recipe.folder}"
        return
    skipped = {loc[:2] for loc in document.unset}  # their names are not complete
    for index, block in enumerate(recipe.data):
        root = Path(recipe.path(block.root or ""))
        if block.format != "hub" and ("data", index) not in skipped and not root.is_dir():
            skipped.add(("data", index))
            yield ("data", index, "root"), _missing("folder", root)
    for loc, _, _, source in recipe.files():
        path = Path(source.location)
        if source.format != "hub" and loc[:2] not in skipped and not path.is_file():
            folder = f"{path} is a folder; name a file in it"
            yield loc, folder if path.is_dir() else _missing("file", path)


def _missing(what: str, path: Path) -> str:
    names = [near.name for near in path.parent.iterdir()] if path.parent.is_dir() else []
    return f"there is no {what} {path}.{nearest(path.name, names)}"


def _features(recipe: Recipe, check_files: bool) -> Iterator[Fault]:
    """Find a base without features, and features without a base to read them."""
    section, base = recipe.language_features, recipe.hypernet.language_base
    if section is None:
        if base != "none":
            what = f"{base} needs features of the languages"
            yield ("hypernet", "language_base"), f"{what}; write language_features: {{text: 200}}"
        return
    if base == "none":
        what = "nothing reads these; set hypernet.language_base to features or neighbours"
        yield ("language_features",), what
    if section.typology is None and section.text is None:
        yield ("language_features",), "is empty; write typology: uriel, text: 200, or both"
    source = recipe.typology()
    if check_files and source not in (None, URIEL) and not Path(str(source)).is_file():
        yield ("language_features", "typology"), _missing("file", Path(str(source)))


def _parts(recipe: Recipe) -> Iterator[Fault]:
    """Keep train, dev and test apart, over all tasks and languages."""
    uses: dict[Any, list[tuple[str, Any]]] = defaultdict(list)
    for loc, split, cell, source in recipe.files():
        hub = source.format == "hub"
        place = source.location if hub else Path(source.location).resolve()
        here = uses[place, source.config, source.revision, source.split]
        elsewhere = [f"{other} data of {owner}" for other, owner in here if other != split]
        if elsewhere:
            why = "what is evaluated on must not be trained or selected on"
            yield loc, f"{source} is {split} data here and {elsewhere[0]}; {why}"
        elif (split, cell) in here:
            yield loc, f"{source} is already among the {split} data of {cell}"
        here.append((split, cell))


def _few_shot(recipe: Recipe) -> Iterator[Fault]:
    """Find the cells of ``few_shot`` for which there is nothing to draw from."""
    loc, cells = ("few_shot", "cells"), recipe.few_shot.cells if recipe.few_shot else None
    trained = [str(cell) for _, _, cell, _ in recipe.files(["train"])]
    if cells == ():
        yield loc, "names no cell of the tasks in only_tasks"
    for number, cell in enumerate(cells or ()):
        if cell not in trained:
            what = f"{cell} has no train file under data, to draw examples from"
            yield (*loc, number), f"{what}.{nearest(cell, trained)}"


def _coverage(recipe: Recipe) -> Iterator[Fault]:
    trained = {cell.task for cell in recipe.cells("train")}
    if not recipe.tasks:
        yield ("tasks",), "is empty; write a task, as in pos: {type: tagging}"
    elif not trained:
        yield ("data",), "there is nothing to train on; give some cell a train file"
    else:
        remedy = "add some under data, or leave the task out (only_tasks)"
        for name in recipe.tasks.keys() - trained:
            yield ("tasks", name), f"has no training data in any language; {remedy}"


def _madx(recipe: Recipe, training_is_sound: bool) -> Iterator[Fault]:
    grid = recipe.grid()
    if grid.trained and not (grid.text_languages and grid.labelled_languages):
        what = "mad-x trains language adapters on raw text and task adapters on labels"
        yield ("method",), f"{what}; give it data of both (raw text under a task of type mlm)"
    if training_is_sound and recipe.training.steps < 2:
        yield ("training", "steps"), "must be at least 2 with mad-x, which has two phases"
    chosen = recipe.selection_cells() if training_is_sound else []
    if chosen and set(chosen) <= recipe.not_applicable("dev").keys():
        what = "mad-x applies to none of the cells to select by"
        yield ("training", "select_by"), f"{what}: there is no raw text in their languages"


def _training(recipe: Recipe, cells_are_sound: bool) -> Iterator[Fault]:
    training, loc = recipe.training, ("training", "select_by")
    if training.warmup >= training.steps:
        what = f"must be less than training.steps ({training.steps}), not {training.warmup}"
        yield ("training", "warmup"), what
    if training.patience is not None and training.evaluate_every is None:
        yield ("training", "patience"), "counts evaluations; set training.evaluate_every as well"
    if not cells_are_sound:
        return
    dev, chosen = set(recipe.cells("dev")), recipe.selection_cells()
    if not training.select_by:
        yield loc, "names no cell of the tasks in only_tasks"
    elif not isinstance(training.select_by, str):
        for number, cell in enumerate(chosen):
            if cell not in dev:
                hint = nearest(str(cell), sorted(map(str, dev)))
                yield (*loc, number), f"{cell} has no dev files.{hint}"
        text_tasks = recipe.grid().text_tasks
        if len({cell.task in text_tasks for cell in chosen if cell in dev}) > 1:
            yield loc, "perplexities (mlm) and other scores cannot be averaged; choose one kind"
    elif recipe.start_from is None and not chosen and (dev or training.patience):
        # with a run to start from, the kinds of cells are known once that run is read
        yield loc, f'no cell of kind "{training.select_by}" has dev files to select by'
