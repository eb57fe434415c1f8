"""From a recipe to encoded data: reading, label inventories, overlap with test data, encoding."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .data.corpus import read_corpus
from .data.draw import draw
from .data.encoding import encode, inventory_of
from .data.examples import SPLITS, Source, Split
from .data.overlap import Overlap, refuse_overlaps
from .errors import DataError, Problems, UnreachableError
from .grid import Cell
from .tasks import Task

if TYPE_CHECKING:
    from datasets import Dataset

    from .recipe import Recipe

Key = tuple[Split, Cell]


@dataclass
class Corpora:
    """The data of a recipe, read but not yet encoded.

    Attributes:
        tasks: every task of the recipe with its label inventory.
        examples: the rows of each split of each cell.
        overlaps: evaluation files that share some of their texts with the training data.
        unchecked: training data of earlier runs that could not be read, so not compared either.
    """

    tasks: dict[str, Task]
    examples: dict[Key, Dataset]
    overlaps: list[Overlap] = field(default_factory=list)
    unchecked: list[str] = field(default_factory=list)

    def counts(self) -> dict[Key, int]:
        """Return how many examples each split of each cell has."""
        return {key: len(dataset) for key, dataset in self.examples.items()}

    def encode(
        self, tokenizer: Any, max_length: int, splits: Sequence[Split] = SPLITS
    ) -> dict[Key, Dataset]:
        """Encode the given splits with a tokenizer; kept in the cache.

        Raises:
            DataError: labels that their task does not know, with file and line, or data that
                yields no rows, all at once.
        """
        encoded: dict[Key, Dataset] = {}
        problems = Problems()
        for (split, cell), dataset in self.examples.items():
            if split in splits:
                task = self.tasks[cell.task]
                try:
                    rows = encoded[split, cell] = encode(dataset, task, tokenizer, max_length)
                except DataError as error:
                    problems.add(str(error))
                    continue
                if not len(rows):
                    problems.add(f"{cell} {split}: the tokenizer knows nothing of this text")
        problems.raise_if_any(DataError, "The data cannot be used as it stands:")
        return encoded


def read_corpora(
    recipe: Recipe,
    splits: Sequence[Split] = SPLITS,
    tasks: Mapping[str, Task] | None = None,
    cells: Collection[Cell] | None = None,
    cache: Path | None = None,
    earlier: Sequence[Recipe] = (),
) -> Corpora:
    """Read the data of a recipe.

    Args:
        recipe: what to read.
        splits: which splits.
        tasks: those whose inventories are known already, as for a trained run.
        cells: only these; all by default.
        cache: the cache folder; the user's own by default.
        earlier: recipes of the runs that training goes on from. What they were trained on must not
            hold evaluation data either.

    Raises:
        DataError: files are missing or malformed, or hold fewer examples than `few_shot` asks for
            (all faults at once); or training data contains evaluation data; or labels of training
            data are of no inventory (those of all tasks at once).
        UnreachableError: data lies on the hub, and there is no way to it.
    """
    examples: dict[Key, Dataset] = {}
    problems = Problems()
    for split in splits:
        for cell, sources in recipe.cells(split).items():
            if cells is not None and cell not in cells:
                continue
            try:
                examples[split, cell] = _read(recipe, split, cell, sources, cache)
            except DataError as error:
                problems.add(str(error))
    problems.raise_if_any(DataError, "The data cannot be read:")
    before, unchecked = _trained_before(earlier, cache)
    overlaps = _check_overlap(examples, before)
    return Corpora(_inventories(recipe, examples, tasks or {}), examples, overlaps, unchecked)


def _read(
    recipe: Recipe, split: Split, cell: Cell, sources: Sequence[Source], cache: Path | None
) -> Dataset:
    """Read a part of a cell; of training data, as many examples as `few_shot` says."""
    examples = read_corpus(sources, recipe.tasks[cell.task].type.reads_words, cache)
    few = recipe.few_shot if split == "train" else None
    count = few.count(cell) if few else None
    if few is None or count is None:
        return examples
    if count > len(examples):
        raise DataError(
            f"{cell} train: there are {len(examples)} examples, and few_shot asks for {count}"
        )
    return draw(examples, count, f"{few.draw} of {cell}")


def _trained_before(
    earlier: Sequence[Recipe], cache: Path | None
) -> tuple[dict[str, Dataset], list[str]]:
    """Read what earlier runs were trained on, and name what cannot be read any more."""
    found: dict[str, Dataset] = {}
    unread = []
    for number, recipe in enumerate(earlier):
        for cell, sources in recipe.cells("train").items():
            try:
                found[f"{number} {cell}"] = _read(recipe, "train", cell, sources, cache)
            except (DataError, UnreachableError):
                unread.append(f"{cell} of {recipe.name}")
    return found, unread


def _check_overlap(examples: Mapping[Key, Dataset], before: Mapping[str, Dataset]) -> list[Overlap]:
    def named(wanted: Sequence[Split]) -> dict[str, Dataset]:
        return {f"{c} {split}": data for (split, c), data in examples.items() if split in wanted}

    train = {**named(["train"]), **before}
    return refuse_overlaps(train, named(["dev", "test"])) if train else []


def _inventories(
    recipe: Recipe, examples: Mapping[Key, Dataset], known: Mapping[str, Task]
) -> dict[str, Task]:
    """Take each task's labels from what is known, the recipe, or else its training data."""
    tasks = {}
    problems = Problems()
    for name, section in recipe.tasks.items():
        if name in known:
            tasks[name] = known[name]
            continue
        found: tuple[str, ...] = ()
        if section.inventory() is None:
            corpora = [
                data
                for (split, cell), data in examples.items()
                if split == "train" and cell.task == name
            ]
            try:
                found = inventory_of(corpora, section.type, section.label_map)
            except DataError as error:
                problems.add(f"task {name}: {error}")
        tasks[name] = recipe.task(name, found)
    problems.raise_if_any(DataError, "The data cannot be used as it stands:")
    return tasks
