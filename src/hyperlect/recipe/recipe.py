"""The recipe: an experiment as typed, validated data."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, PrivateAttr

from ..data.readers import SPLITS, Source, Split
from ..data.typology import URIEL
from ..errors import HyperlectError, counted, listed, unknown
from ..grid import Cell, Grid, Kind
from ..hypernet.config import HypernetConfig
from ..languages import resolve
from ..methods import METHODS, as_method, not_applicable, own_languages
from ..run_folder import expanded, relative
from ..tasks import ParserForm, Task, TaskType, label_set
from . import schema
from .document import Loc, dump_document, fill_in, map_texts, matches

FORMAT_VERSION = 2

RECOMMENDED: dict[str, dict[str, Any]] = {
    "hypernet": {
        "bottleneck": 64,
        "projection": 16,
        "sources": ["language", "layer"],
        "unit_source": True,
        "source_length": 0.25,
        "task_base": True,
        "language_std": 0,
        "language_dropout": 0.2,
    },
    "training": {
        "steps": 2000,
        "batching": "mixed",
        "batch_size": 8,
        "learning_rate": 1e-3,
        "learning_rates": {"heads": 1e-2},
        "warmup": 100,
    },
}
"""The defaults of version 2, which learn well in a few thousand steps on any data. Where nothing
stands here they are those of version 1: the published ones."""

PLACES = (
    *(("folder",), ("backbone",), ("start_from",), ("data", "*", "root"), ("data", "*", "dataset")),
    ("language_features", "typology"),
    *(("data", "*", "cells", "*", split) for split in SPLITS),
    *(("data", "*", "cells", "*", split, "*") for split in SPLITS),
)
"""Where a recipe names files and folders. Their variables stay unexpanded in it and in its run."""

# Where a treebank has the trees; all that a parsing task need not say of CoNLL-U.
_TREE_COLUMNS = {"head": "head", "label": "deprel"}

_LISTED = 12  # cells that a note names

_KINDS = {
    "supervised": (Kind.SUPERVISED,),
    "unseen combination": (Kind.UNSEEN_COMBINATION,),
    "unseen language": (Kind.TEXT_ONLY, Kind.UNTOUCHED),
    "all": tuple(Kind),
}


class Recipe(schema.Section):
    """What `load_recipe` gives.

    `folder` is absolute, and so are `backbone` and `start_from` where they are folders; `_written`
    has those as they were written, for `dump`. Data blocks name files and languages as they were
    written; `cells` resolves them at each call.
    """

    format_version: Literal[1, 2]
    """The version of the recipe's form; write 2. It decides on the defaults: those of version 1 are
    the published ones, except for steps, warmup and train_layer_norms."""
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    """The experiment's name, and its run folder's where no other is given."""
    description: str = ""
    """What the experiment is for, in a sentence."""
    folder: schema.Text = "."
    """The folder that relative names of files and folders start from; it starts from that of the
    recipe itself. A run keeps it, so that the names in its recipe stay as they were written."""
    backbone: schema.Text = "builtin:e5-small"
    """The frozen encoder: builtin:e5-small, a hub id, or a folder."""
    revision: schema.Text | None = None
    """The backbone's branch, tag or commit on the hub."""
    method: schema.MethodName = "hyperx"
    """hyperx, or a baseline: task-hypernet, language-hypernet, adapters, mad-x, finetune,
    factorised or head. [What each one trains](differences.md#the-methods). finetune and factorised
    train the encoder: give it a rate of its own, training.learning_rates.backbone."""
    start_from: schema.Text | None = None
    """A finished run whose trained weights training begins with, in place of random ones: a folder,
    from the recipe's own or else the current one, or a hub id. Encoder, method, sizes and the
    labels of a task must be the same (where none are listed, the run's are taken); the run's
    languages are kept, and a new one starts at the mean of them, or at zero where the run had
    hypernet.language_dropout. Tasks of the run that are not named here are left behind, with their
    heads."""
    max_length: Annotated[int, Field(ge=8)] = 256
    """The longest input in sub-words; longer sentences are split into windows."""
    parser: ParserForm = "mlp"
    """How tasks of type parsing score words: mlp (perceptrons, then biaffine attention: Dozat and
    Manning 2017), or direct (biaffine attention alone, as in the authors' released code)."""
    hypernet: HypernetConfig = HypernetConfig()
    """Sizes and variants of the hypernetwork."""
    language_features: schema.LanguageFeaturesSection | None = None
    """Features of languages, for hypernet.language_base; null for none."""
    tasks: dict[str, schema.TaskSection]
    """Task → its type and labels."""
    data: tuple[schema.DataBlock, ...]
    """Where the data of each task and language lies."""
    only_tasks: Annotated[schema.Names, Field(min_length=1)] | None = None
    """The tasks to train; the others, and their data, are left out as if they were not written, so
    that one file serves single tasks and several."""
    few_shot: schema.FewShotSection | None = None
    """Little training data for some cells; null for all there is."""
    training: schema.TrainingSection = schema.TrainingSection()
    """How the model is trained."""
    evaluation: schema.EvaluationSection = schema.EvaluationSection()
    """How the grid is scored."""

    _written: dict[str, str] = PrivateAttr(default_factory=dict)

    def cells(self, split: Split) -> dict[Cell, list[Source]]:
        """Return the sources of one part of every cell that uses any, in the recipe's order.

        What several blocks give for a cell is joined. Of training data, `few_shot` may leave out
        that of some cells, or use some examples only. Variables have their present values; one
        without a value stays in the name of the file.
        """
        cells: dict[Cell, list[Source]] = {}
        few = self.few_shot if split == "train" else None
        for _, _, cell, source in self.files([split]):
            if few is None or few.count(cell) != 0:
                cells.setdefault(cell, []).append(source)
        return cells

    def files(self, splits: Sequence[Split] = SPLITS) -> Iterator[tuple[Loc, Split, Cell, Source]]:
        """Go through every file, or split on the hub, with its path in the recipe."""
        for index, block in enumerate(self.data):
            for language, files in block.cells.items():
                cell = Cell(block.task, resolve(language))
                for split in splits:
                    for number, name in enumerate(getattr(files, split)):
                        loc = ("data", index, "cells", language, split, number)
                        yield loc, split, cell, self._source(block, language, split, name)

    def like_file(self, task: str, path: Path) -> tuple[schema.DataBlock, Source]:
        """Return the data block whose format fits another file of a task, and the file as a source.

        Where the task's data has several formats, it is that of files with the same ending.

        Raises:
            HyperlectError: the recipe reads no files for the task.
        """
        of_task = (f for f in self.files() if f[2].task == task and f[3].format != "hub")
        files = [(self.data[int(loc[1])], source) for loc, _, _, source in of_task]
        if not files:
            raise HyperlectError(
                f"The recipe reads no files for the task {task}, so the format of {path} is not "
                "known. Add the file to the run's recipe.yaml."
            )
        block, source = min(files, key=lambda pair: Path(pair[1].location).suffix != path.suffix)
        return block, replace(source, location=str(path), limit=None)

    def _source(self, block: schema.DataBlock, language: str, split: Split, name: str) -> Source:
        hub, task = block.format == "hub", self.tasks.get(block.task)
        trees = task is not None and task.type is TaskType.PARSING and block.format == "conllu"
        config = (block.config or "").replace("{language}", language)
        return Source(
            format=block.format,
            location=self.local(str(block.dataset)) if hub else self.path(block.root or "", name),
            fields={**(_TREE_COLUMNS if trees else {}), **block.fields},
            comment=block.comment,
            config=block.cells[language].config or config or None,
            revision=block.revision,
            split=fill_in(name, os.environ) if hub else None,
            limit=getattr(block.limit, split),
            quoting=block.quoting,
            strip_prefix=block.strip_prefix,
            unlabelled=task.unlabelled if task else "error",
        )

    def path(self, *names: str) -> str:
        """Return the absolute path of a file or folder that the recipe names."""
        parts = (expanded(fill_in(name, os.environ)) for name in names)
        return os.path.normpath(Path(self.folder, *parts))

    def as_written(self, reference: str) -> str:
        """Return the backbone, or the run to start from, as the recipe has it."""
        return self._written.get(reference, reference)

    def local(self, reference: str) -> str:
        """Return the absolute path of a reference to a folder; an id on the hub stays as it is."""
        path = self.path(reference)
        return path if Path(path).is_dir() else fill_in(reference, os.environ)

    @property
    def text_tasks(self) -> list[str]:
        """The tasks of raw text."""
        return [name for name, task in self.tasks.items() if task.type is TaskType.MLM]

    def grid(self) -> Grid:
        """Return which cells are trained, and so of what kind any cell is."""
        return Grid(self.cells("train"), self.text_tasks)

    def task(self, name: str, labels: Iterable[str] = ()) -> Task:
        """Make a task with its label set.

        Args:
            name: the task's name.
            labels: the (mapped) labels of its training data, used where the recipe names none.

        Raises:
            UnknownNameError: the recipe has no such task.
        """
        if name not in self.tasks:
            raise unknown("task", name, self.tasks)
        section = self.tasks[name]
        labels = section.labels or label_set(section.type, labels)
        if section.labels and section.type is TaskType.SPANS:
            labels = label_set(section.type, (f"B-{entity}" for entity in section.labels))
        return self.as_marked(Task(name, section.type, labels))

    def as_marked(self, task: Task) -> Task:
        """Return a task of a model, read as the recipe says that its data is marked.

        It may differ from what the model was trained on.
        """
        section = self.tasks[task.name]
        marks = {key: getattr(section, key) for key in ("label_map", "scheme", "unlabelled")}
        return replace(task, **marks)

    def hypernet_config(self) -> HypernetConfig:
        """Return the hypernetwork's configuration as the method has it.

        Raises:
            ValueError: without the language, nothing is left that tells cells apart.
        """
        return as_method(self.method, self.hypernet)

    @property
    def has_base(self) -> bool:
        """Whether the method's language vectors have a base, made from features of the languages.

        The settings of a base may stand in the recipe of any method, as the others of hypernet.
        """
        return METHODS[self.method].chosen_by is None and self.hypernet_config().has_base

    def typology(self) -> str | None:
        """Return where features from typology come from: "uriel" or the path of a CSV file."""
        section = self.language_features
        source = section.typology if section else None
        return source if source in (None, URIEL) else self.path(str(source))

    def not_applicable(self, split: Split) -> dict[Cell, str]:
        """Return the cells of one part that the method cannot have a score for, and why."""
        grid = self.grid()
        languages = own_languages(self.method, grid)
        reasons = {c: not_applicable(self.method, languages, grid, c) for c in self.cells(split)}
        return {cell: reason for cell, reason in reasons.items() if reason}

    def selection_cells(self, grid: Grid | None = None) -> list[Cell]:
        """Return the cells whose dev scores pick the checkpoint that is kept, as they are listed.

        Raw-text tasks have a say only where they are listed by name, or where there are no others.

        Args:
            grid: decides of what kind cells are; the recipe's own by default. Where training
                starts from another run it has that run's cells too.
        """
        chosen = self.training.select_by
        if not isinstance(chosen, str):
            return [Cell.parse(cell) for cell in chosen]
        grid = grid or self.grid()
        left_out = frozenset() if len(self.text_tasks) == len(self.tasks) else grid.text_tasks
        cells = [cell for cell in self.cells("dev") if cell.task not in left_out]
        return [cell for cell in cells if grid.kind(cell) in _KINDS[chosen]]

    def notes(self, longest: int | None = None) -> list[str]:
        """Return remarks on what is not a fault but may not be what was meant.

        Args:
            longest: how many sub-words the encoder takes at most, where that is known.
        """
        notes = []
        if longest and self.max_length > longest:
            takes = counted(longest, "sub-word")
            notes.append(f"max_length: the encoder takes {takes}, so longer inputs are split.")
        method, version = METHODS[self.method], self.format_version
        unread = HypernetConfig(**(RECOMMENDED["hypernet"] if version == FORMAT_VERSION else {}))
        if method.trains_encoder:
            unread = replace(unread, top_layers=self.hypernet.top_layers)
            if version == FORMAT_VERSION and "backbone" not in self.training.learning_rates:
                rate = f"training.learning_rates: {self.method} trains the encoder at the rate of"
                notes.append(f"{rate} adapters. Give backbone a rate of its own, such as 1e-4.")
        if method.adapters is None and self.hypernet != unread:
            which = f"these settings{' except top_layers' if method.trains_encoder else ''}"
            notes.append(f"hypernet: {self.method} has no adapters, so {which} do nothing.")
        elif self.hypernet.language_base != "none" and not self.has_base:
            notes.append(f"language_features: {self.method} has no use for these.")
        if self.method == "mad-x":
            grid = self.grid()
            if bare := sorted(grid.labelled_languages - grid.text_languages):
                what = f"there is no raw text in {', '.join(bare)}, so mad-x trains on their"
                notes.append(f"method: {what} labelled data without a language adapter.")
            if without := self.not_applicable("test"):
                what = f"mad-x does not apply to {listed(without, _LISTED)}"
                notes.append(f"method: {what}, since there is no raw text in their languages.")
        if not self.cells("dev"):
            notes.append("data: there are no dev files, so the last checkpoint is the one kept.")
        scored = {*self.text_tasks, *(cell.task for cell in self.cells("test"))}
        if untested := [name for name in self.tasks if name not in scored]:
            notes.append(f"data: no test files for {', '.join(untested)}; nothing will be scored.")
        return notes

    def dump(self, folder: Path | None = None) -> str:
        """Write the recipe out as YAML, defaults and all; loading it gives an equal recipe.

        Names of files and folders are written as they were in the recipe, variables unexpanded.

        Args:
            folder: where the YAML will lie. The key ``folder`` is written relative to it, so that
                the YAML holds no path of this machine and moves together with the data. By
                default it is absolute.
        """
        data = self.model_dump(mode="json")
        for key in ("backbone", "start_from"):
            data[key] = self.as_written(data[key])
        if folder is not None:
            data["folder"] = Path(relative(self.folder, folder)).as_posix()
        data["data"] = [block.model_dump(mode="json", exclude_none=True) for block in self.data]
        for block in data["data"]:
            for language, files in block["cells"].items():
                block["cells"][language] = {key: value for key, value in files.items() if value}

        def escaped(text: str, loc: Loc) -> str:
            # What came out of an environment variable must not be expanded again.
            return text if matches(loc, *PLACES) else text.replace("${", "$${")

        return dump_document(map_texts(data, escaped))
