"""The recipe: an experiment as typed, validated data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal

from pydantic import Field

from ..data.examples import SPLITS, Source, Split
from ..errors import listed, unknown
from ..grid import Cell, Grid, Kind
from ..hypernet.config import HypernetConfig
from ..methods import TUNING, Method, as_method, not_applicable, own_languages
from ..tasks import ParserForm, Task, TaskType, inventory
from .document import dump_document
from .few_shot import FewShotSection
from .sections import (
    DataBlock,
    EvaluationSection,
    Hypernet,
    Names,
    Section,
    TaskSection,
    Text,
    TrainingSection,
)
from .sources import make_source

FORMAT_VERSION = 1

# Where a treebank has the trees; all that a parsing task need not say of CoNLL-U.
_TREE_COLUMNS = {"head": "head", "label": "deprel"}

_LISTED = 12  # cells that a note names

_KINDS = {
    "supervised": (Kind.SUPERVISED,),
    "unseen combination": (Kind.UNSEEN_COMBINATION,),
    "unseen language": (Kind.TEXT_ONLY, Kind.UNTOUCHED),
    "all": tuple(Kind),
}


class Recipe(Section):
    """What `load_recipe` gives: languages are ISO 639-3 codes, and file names absolute."""

    format_version: Literal[1]
    """The version of the recipe's form; write 1."""
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    """The experiment's name, and its run folder's where no other is given."""
    description: str = ""
    """What the experiment is for, in a sentence."""
    backbone: Text = "builtin:e5-small"
    """The frozen encoder: builtin:e5-small, a hub id, or a folder."""
    revision: Text | None = None
    """The backbone's branch, tag or commit on the hub."""
    method: Method = "hyperx"
    """hyperx, or a baseline: task-hypernet (adapters made from task and layer alone),
    language-hypernet (from language and layer alone), adapters
    (one trained adapter a task), mad-x (Pfeiffer et al. 2020: an adapter a language, trained on raw
    text for the part of the steps that raw text has in other methods, then frozen, and an adapter a
    task stacked on it; cells in languages without raw text are not applicable, except those with
    labelled data of their own, which are trained without a language adapter), finetune (the encoder
    itself is trained, all of it, or with hypernet.top_layers so many layers; it wants a rate of its
    own, training.learning_rates.backbone), factorised (the same, with heads made from a latent
    vector of the task and one of the language: Ponti et al. 2021; the heads of parsing and mlm are
    ordinary), head (no adapters at all)."""
    start_from: Text | None = None
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
    hypernet: Hypernet = HypernetConfig()
    """Sizes and variants of the hypernetwork."""
    tasks: dict[str, TaskSection]
    """Task → its type and labels."""
    data: tuple[DataBlock, ...]
    """Where the data of each task and language lies."""
    only_tasks: Names | None = None
    """The tasks to train; the others, and their data, are left out as if they were not written.
    One file so serves single tasks and several."""
    few_shot: FewShotSection | None = None
    """Little training data for some cells; null for all there is."""
    training: TrainingSection = TrainingSection()
    """How the model is trained."""
    evaluation: EvaluationSection = EvaluationSection()
    """How the grid is scored."""

    def cells(self, split: Split) -> dict[Cell, list[Source]]:
        """Return the sources of one part of every cell that uses any, in the recipe's order.

        What several blocks give for a cell is joined. Of training data, `few_shot` may leave out
        that of some cells, or use some examples only.
        """
        written = self.written_cells(split)
        if split != "train" or self.few_shot is None:
            return written
        return {cell: found for cell, found in written.items() if self.few_shot.count(cell) != 0}

    def written_cells(self, split: Split) -> dict[Cell, list[Source]]:
        """Return the same without regard to `few_shot`."""
        found: dict[Cell, list[Source]] = {}
        for block in self.data:
            for language, files in block.cells.items():
                for name in getattr(files, split):
                    source = make_source(block, files, split, name, self._default_fields(block))
                    found.setdefault(Cell(block.task, language), []).append(source)
        return found

    def _default_fields(self, block: DataBlock) -> Mapping[str, str | int]:
        task = self.tasks.get(block.task)
        trees = task is not None and task.type is TaskType.PARSING
        return _TREE_COLUMNS if trees and block.format == "conllu" else {}

    def grid(self) -> Grid:
        """Return which cells are trained, and so of what kind any cell is."""
        text_tasks = [name for name, task in self.tasks.items() if task.type is TaskType.MLM]
        return Grid(self.cells("train"), text_tasks)

    def task_types(self) -> dict[str, TaskType]:
        """Return the type of every task, in the order of the heads."""
        return {name: task.type for name, task in self.tasks.items()}

    def task(self, name: str, found: Iterable[str] = ()) -> Task:
        """Make a task with its label inventory.

        Args:
            name: the task's name.
            found: the (mapped) labels of its training data, used where the recipe names none.

        Raises:
            UnknownNameError: the recipe has no such task.
        """
        if name not in self.tasks:
            raise unknown("task", name, self.tasks)
        section = self.tasks[name]
        labels = section.inventory()
        if labels is None:
            labels = inventory(section.type, found)
        return Task(name, section.type, labels, section.label_map)

    def hypernet_config(self) -> HypernetConfig:
        """Return the hypernetwork's configuration as the method has it.

        Raises:
            ValueError: without the language, nothing is left that tells cells apart.
        """
        return as_method(self.method, self.hypernet)

    def not_applicable(self, split: Split) -> dict[Cell, str]:
        """Return the cells of one part that the method cannot have a score for, and why."""
        grid = self.grid()
        own = own_languages(self.method, grid)
        reasons = {c: not_applicable(self.method, own, grid, c) for c in self.cells(split)}
        return {cell: reason for cell, reason in reasons.items() if reason}

    def selection_cells(self, grid: Grid | None = None) -> list[Cell]:
        """Return the cells whose dev scores pick the checkpoint that is kept, as they are listed.

        Raw-text tasks have a say only where they are listed by name, or where there are no others.

        Args:
            grid: decides of what kind cells are; the recipe's own by default. Where training goes
                on from another run it has that run's cells too.
        """
        chosen = self.training.select_by
        if not isinstance(chosen, str):
            return [Cell.parse(cell) for cell in chosen]
        grid = grid or self.grid()
        only_text = all(task.type is TaskType.MLM for task in self.tasks.values())
        return [
            cell
            for cell in self.cells("dev")
            if grid.kind(cell) in _KINDS[chosen] and (only_text or cell.task not in grid.text_tasks)
        ]

    def notes(self) -> list[str]:
        """Return remarks on what is no fault but may not be what was meant."""
        notes = []
        read = HypernetConfig(
            top_layers=self.hypernet.top_layers if self.method in TUNING else None
        )
        if self.method in (*TUNING, "head") and self.hypernet != read:
            but = " but top_layers" if self.method in TUNING else ""
            notes.append(
                f"hypernet: the method {self.method} has no adapters, so these settings{but} do "
                "nothing."
            )
        if self.method == "mad-x":
            notes += self._madx_notes()
        if not any(self.cells("dev").values()):
            notes.append("data: there are no dev files, so the last checkpoint is the one kept.")
        untested = [name for name in self.tasks if name not in {c.task for c in self.cells("test")}]
        labelled = [name for name in untested if self.tasks[name].type is not TaskType.MLM]
        if labelled:
            notes.append(f"data: no test files for {', '.join(labelled)}; nothing will be scored.")
        return notes

    def _madx_notes(self) -> list[str]:
        grid, notes = self.grid(), []
        if bare := sorted(grid.labelled_languages - grid.text_languages):
            notes.append(
                f"method: there is no raw text in {', '.join(bare)}, so mad-x trains on their "
                "labelled data without a language adapter."
            )
        if without := [str(cell) for cell in self.not_applicable("test")]:
            notes.append(
                f"method: mad-x does not apply to {listed(without, _LISTED)}, since there is no "
                "raw text in their languages."
            )
        return notes

    def dump(self) -> str:
        """Write the recipe out as YAML, defaults and all; loading it gives an equal recipe."""
        data = self.model_dump(mode="json")
        data["data"] = [_plain_block(block) for block in self.data]
        return dump_document(_escape(data))


def _plain_block(block: DataBlock) -> dict[str, Any]:
    plain = block.model_dump(mode="json", exclude_none=True)
    for files in plain["cells"].values():
        for split in SPLITS:
            if not files[split]:
                del files[split]
    return plain


def _escape(value: Any) -> Any:
    """Keep a ``${`` that came out of an environment variable from being expanded again."""
    if isinstance(value, dict):
        return {key: _escape(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_escape(item) for item in value]
    return value.replace("${", "$${") if isinstance(value, str) else value
