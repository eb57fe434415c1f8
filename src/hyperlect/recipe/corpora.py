"""The data of a recipe: reading it, label sets, overlap with test data, and a look over it all."""

from __future__ import annotations

import unicodedata
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.compute as pc

from ..data.corpus import arrow_column, draw, places, read_corpus
from ..data.encoding import encode, tokenizer_digest
from ..data.labels import label_set_of
from ..data.readers import SPLITS, Source, Split
from ..errors import DataError, Problems, RecipeError, UnreachableError, counted, listed
from ..grid import Cell
from ..run_folder import MOVED
from ..tasks import Task, TaskType
from .load import earlier_recipes

if TYPE_CHECKING:
    from datasets import Dataset

    from . import Recipe

Key = tuple[Split, Cell]

LONG_SENTENCE = 1000
"""A sentence of more words is probably several."""
_ODD = (
    ("words", r"^_$", 0.9, "almost all words are _. Add their forms."),
    ("words", r"^[a-z]{2,8}(-[a-z]+)*:.", 0.9, "almost all words have a prefix such as en:. Strip "
     "it with strip_prefix: true."),
    ("text", r"^\s*$", 0.9, "almost all texts are empty. Is the text in another column?"),
    ("text", r'(?s)^".*"".*"$', 0.0, "some texts stand in quotation marks, and those inside are "
     "doubled. If a tsv file is quoted, write quoting: minimal."),
)  # fmt: skip
"""What words or texts look like that cannot be meant so: a pattern, and more than which share."""
_ROWS = 1000
"""How many rows are turned into Python objects at a time."""


@dataclass(frozen=True)
class Overlap:
    """What one evaluation file has in common with the training data.

    Attributes:
        name: under which name the file was given (as ``ner:fao test``).
        file: the evaluation file.
        examples: how many examples it has.
        shared: how many of them are in the training data.
        train_files: training files that hold any of them → how many, most first.
        same_file: whether the file itself is trained on (perhaps up to a limit).
    """

    name: str
    file: str
    examples: int
    shared: int
    train_files: Mapping[str, int]
    same_file: bool = False

    @property
    def refused(self) -> bool:
        """Whether it must not be trained: the training data contains the whole file."""
        return self.same_file or self.shared == self.examples

    def __str__(self) -> str:
        files = ", ".join(f"{file} ({count:,})" for file, count in self.train_files.items())
        shared = f"{self.shared:,} of {counted(self.examples, 'example')} of {self.file}"
        why = ", since that file is trained on" if self.same_file else f": {files}"
        return f"{self.name}: {shared} are in the training data{why}"


@dataclass
class Corpora:
    """The data of a recipe, read but not yet encoded.

    Attributes:
        tasks: every task of the recipe with its label set.
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

    def encode(self, tokenizer: Any, max_length: int) -> dict[Key, Dataset]:
        """Encode everything with a tokenizer; kept in the cache.

        Raises:
            DataError: labels that their task does not know, with file and line, or data that
                yields no rows, all at once.
        """
        encoded: dict[Key, Dataset] = {}
        problems = Problems()
        digest = tokenizer_digest(tokenizer)
        for (split, cell), dataset in self.examples.items():
            task = self.tasks[cell.task]
            with problems.collecting():
                rows = encode(dataset, task, tokenizer, max_length, fingerprint=digest)
                encoded[split, cell] = rows
                if not len(rows):
                    left = "nothing is left after encoding: no known sub-word, or no label"
                    problems.add(f"{cell} {split}: {left}")
        problems.raise_if_any(DataError, "The data cannot be used as it stands:")
        return encoded


def read_corpora(
    recipe: Recipe,
    splits: Sequence[Split] = SPLITS,
    tasks: Mapping[str, Task] | None = None,
    cells: Collection[Cell] | None = None,
    earlier: Sequence[Recipe] = (),
) -> Corpora:
    """Read the data of a recipe.

    Args:
        recipe: what to read.
        splits: which splits.
        tasks: those whose label sets are known already, as for a trained run.
        cells: only these; all by default.
        earlier: recipes of the runs that training starts from. What they were trained on must not
            hold evaluation data either.

    Raises:
        DataError: files are missing or malformed, or hold fewer examples than `few_shot` asks for
            (all problems at once); or training data contains evaluation data; or labels of
            training data make no label set (those of all tasks at once).
        UnreachableError: data lies on the hub, which cannot be reached.
    """
    examples: dict[Key, Dataset] = {}
    problems = Problems()
    for split in splits:
        for cell, sources in recipe.cells(split).items():
            if cells is None or cell in cells:
                with problems.collecting():
                    examples[split, cell] = _read(recipe, split, cell, sources)
    missing = any(problem.file and not Path(problem.file).exists() for problem in problems.items)
    hint = f"{MOVED}\n" if missing else ""
    problems.raise_if_any(DataError, f"{hint}The data cannot be read:")
    train = {f"{cell} train": data for (split, cell), data in examples.items() if split == "train"}
    of_earlier, unchecked = _training_data(earlier)
    evaluation = {f"{c} {split}": data for (split, c), data in examples.items() if split != "train"}
    shared = overlaps(train | of_earlier, evaluation)
    for overlap in shared:
        if overlap.refused:
            problems.add(str(overlap))
    problems.raise_if_any(
        DataError, "Evaluation data is among the training data. Take it out of one of them:"
    )
    return Corpora(_tasks(recipe, examples, tasks or {}), examples, shared, unchecked)


def _training_data(runs: Sequence[Recipe]) -> tuple[dict[str, Dataset], list[str]]:
    """Read what runs were trained on, by names of their own; and list what cannot be read."""
    data, unread = {}, []
    for number, run in enumerate(runs):
        for cell, sources in run.cells("train").items():
            try:
                data[f"{number} {cell}"] = _read(run, "train", cell, sources)
            except (DataError, UnreachableError):
                unread.append(f"{cell} of {run.name}")
    return data, unread


def _read(recipe: Recipe, split: Split, cell: Cell, sources: Sequence[Source]) -> Dataset:
    """Read a split of a cell; of training data, as many examples as `few_shot` says."""
    task = recipe.task(cell.task)
    examples = read_corpus(sources, task.type.reads_words)
    few = recipe.few_shot if split == "train" else None
    if few is None or (count := few.count(cell)) is None:
        return examples
    if count > len(examples):
        available = counted(len(examples), "example")
        raise DataError(f"{cell} train: few_shot asks for {count:,} of {available}")
    return draw(examples, count, f"{few.draw} of {cell}")


def _tasks(
    recipe: Recipe, examples: Mapping[Key, Dataset], known: Mapping[str, Task]
) -> dict[str, Task]:
    """Take each task's labels from what is known, the recipe, or else its training data."""
    tasks = {}
    problems = Problems()
    for name, section in recipe.tasks.items():
        tasks[name] = task = recipe.task(name)
        if name in known:
            tasks[name] = recipe.as_marked(known[name])
            continue
        trained = [data for (s, c), data in examples.items() if s == "train" and c.task == name]
        if section.labels is None and trained:
            with problems.collecting():
                tasks[name] = recipe.task(name, label_set_of(trained, task))
    problems.raise_if_any(DataError, "The data cannot be used as it stands:")
    return tasks


def overlaps(train: Mapping[str, Dataset], evaluation: Mapping[str, Dataset]) -> list[Overlap]:
    """Compare evaluation data with training data, text by text.

    Texts are compared in NFC and without white space, so that a sentence is found in whatever
    format, tokenised or not; the two texts of a pair count together; labels do not count. Where a
    treebank has other words than its text ("zu dem" for "zum"), a sentence is shared if either
    its words or its text are.

    Args:
        train: names → rows as :func:`~hyperlect.data.corpus.read_corpus` gives them.
        evaluation: the same, of what scores are measured on.

    Returns:
        One entry for each evaluation file that shares anything with the training data, in the
        order of `evaluation`.
    """
    files: dict[tuple[str, str], list[set[bytes]]] = defaultdict(list)
    for name, dataset in evaluation.items() if train else ():
        for file, row in _digests(dataset):
            files[name, file].append(row)
    evaluated = set(chain.from_iterable(chain.from_iterable(files.values())))
    # Only what is evaluated is kept of the training data, which may be far larger.
    holders: dict[bytes, set[str]] = defaultdict(set)
    trained: set[str] = set()
    for dataset in train.values():
        for file, row in _digests(dataset):
            trained.add(file)
            for digest in row & evaluated:
                holders[digest].add(file)
    paths = {Path(file).resolve() for file in trained}
    shared = []
    for (name, file), rows in files.items():
        holding = [set().union(*(holders.get(digest, ()) for digest in row)) for row in rows]
        counts = Counter(chain.from_iterable(holding))
        ranked = dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))
        count, same_file = sum(map(bool, holding)), Path(file).resolve() in paths
        if count or same_file:
            shared.append(Overlap(name, file, len(rows), count, ranked, same_file))
    return shared


def compare_files(
    recipe: Recipe,
    split: Split,
    files: Mapping[str, Dataset],
    tasks: Mapping[str, Task],
    cells: Collection[Cell] | None = None,
) -> tuple[list[Overlap], str]:
    """Compare other files with the data of a recipe.

    Args:
        recipe: whose data.
        split: which split of it: with "train", the files are evaluation data, else training data.
        files: names → rows, as for `overlaps`.
        tasks, cells: as for `read_corpora`.

    Returns:
        What they share; and why not all was compared, if some data cannot be read. With "train",
        the training data of earlier runs (start_from) counts too.
    """
    try:
        examples = read_corpora(recipe, [split], tasks, cells).examples
    except (DataError, UnreachableError) as error:
        return [], str(error)
    data = {f"{cell} {split}": dataset for (_, cell), dataset in examples.items()}
    if split != "train":
        return overlaps(files, data), ""
    try:
        earlier, source = earlier_recipes(recipe)
    except RecipeError as error:
        return overlaps(data, files), str(error)
    of_earlier, unread = _training_data(earlier)
    unread += [f"everything that {source} was trained on"] if source else []
    reason = f"Not read: {listed(unread, shown=3)}." if unread else ""
    return overlaps(data | of_earlier, files), reason


def _digests(dataset: Dataset) -> Iterator[tuple[str, set[bytes]]]:
    """The file of each row, and digests of its words and of its text: mostly one and the same."""
    columns = [arrow_column(dataset, name) for name in ("file", "words", "text", "pair")]
    for start in range(0, len(dataset), _ROWS):
        rows = zip(*(column.slice(start, _ROWS).to_pylist() for column in columns), strict=True)
        for file, words, text, pair in rows:
            readings = {"".join(words), text} - {""} or {""}
            yield file, {_digest(reading, pair) for reading in readings}


def _digest(text: str, pair: str | None) -> bytes:
    texts = ("".join(text.split()) for text in (text, pair or ""))
    plain = "\n".join(unicodedata.normalize("NFC", text) for text in texts)
    return blake2b(plain.encode(), digest_size=16).digest()


def remarks(corpora: Corpora) -> list[str]:
    """Look over the data as a whole, and return what is no error but can hardly be meant."""
    cells: dict[str, list[str]] = defaultdict(list)
    for (split, cell), examples in corpora.examples.items():
        for note in _remarks_on(examples, corpora.tasks[cell.task].type.reads_words):
            cells[note].append(f"{cell} {split}")
    notes = [f"{listed(names, shown=3)}: {note}" for note, names in cells.items()]
    for task in corpora.tasks.values():
        labels = {label[2:] if task.type is TaskType.SPANS else label for label in task.labels}
        alike: dict[str, list[str]] = defaultdict(list)
        for label in sorted(labels):
            alike[" ".join(label.casefold().split())].append(f'"{label}"')
        for same in alike.values():
            if same[1:]:
                which = f"the labels {' and '.join(same)} differ by case or spaces alone"
                notes.append(f"tasks.{task.name}: {which}. If they are one, map them (label_map).")
    return notes


def _remarks_on(examples: Dataset, reads_words: bool) -> Iterator[str]:
    sentences = arrow_column(examples, "words")
    words = pc.list_flatten(sentences)
    texts = arrow_column(examples, "text")[: 0 if reads_words else None]
    for column, pattern, least, note in _ODD:
        matches = pc.match_substring_regex(words if column == "words" else texts, pattern)
        if (pc.sum(matches).as_py() or 0) > least * len(matches):
            yield note
    lengths = pc.list_value_length(sentences).to_numpy()
    long = np.flatnonzero(lengths > (LONG_SENTENCE if len(lengths) > 1 else LONG_SENTENCE // 10))
    if len(long):
        (file, line), *_ = places(examples, long[:1])
        what = f"{counted(len(long), 'sentence')} of very many words"
        first = f"the first at {file}:{line} with {lengths[long[0]]:,}"
        yield f"{what}, {first}. Are blank lines between sentences missing?"
    labels = arrow_column(examples, "labels" if reads_words else "label")
    for label in pc.unique(pc.list_flatten(labels) if reads_words else labels).to_pylist():
        if label and not label.isprintable():
            yield f"the label {label!r} contains invisible characters."
