"""Finding evaluation data among the training data. Test data is never trained on."""

from __future__ import annotations

import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import DataError, Problems
from .arrow import arrow_column

if TYPE_CHECKING:
    from datasets import Dataset

_BATCH = 1000


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
        """Whether training must not go on: the training data contains the whole file."""
        return self.same_file or self.shared == self.examples

    def __str__(self) -> str:
        start = f"{self.name}: {self.shared} of {self.examples} examples of {self.file} are in"
        if self.same_file:
            return f"{start} the training data, since that file is trained on"
        files = ", ".join(f"{file} ({count})" for file, count in self.train_files.items())
        return f"{start} the training data: {files}"


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
    files = [
        (name, file, rows)
        for name, dataset in evaluation.items()
        for file, rows in _by_file(dataset).items()
    ]
    evaluated = {digest for _, _, rows in files for row in rows for digest in row}
    # Only what is evaluated is kept of the training data, which may be far larger.
    holders: dict[bytes, set[str]] = defaultdict(set)
    trained = set()
    for dataset in train.values():
        for file, row in _digests(dataset):
            trained.add(file)
            for digest in row & evaluated:
                holders[digest].add(file)
    places = {_place(file) for file in trained}

    found = []
    for name, file, rows in files:
        held_by = [{holder for digest in row for holder in holders.get(digest, ())} for row in rows]
        shared = sum(map(bool, held_by))
        same_file = _place(file) in places
        if shared or same_file:
            counts = Counter(holder for own in held_by for holder in own)
            train_files = dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))
            found.append(Overlap(name, file, len(rows), shared, train_files, same_file))
    return found


def refuse_overlaps(
    train: Mapping[str, Dataset], evaluation: Mapping[str, Dataset]
) -> list[Overlap]:
    """Raise an error if the training data contains a whole evaluation file.

    Returns:
        The overlaps that are only partial, to be reported.

    Raises:
        DataError: names every evaluation file that is contained, and the training files that
            contain it.
    """
    found = overlaps(train, evaluation)
    problems = Problems()
    for overlap in found:
        if overlap.refused:
            problems.add(str(overlap))
    problems.raise_if_any(
        DataError,
        "Evaluation data is among the training data; take it out of one of them:",
    )
    return found


def _by_file(dataset: Dataset) -> dict[str, list[set[bytes]]]:
    by_file: dict[str, list[set[bytes]]] = defaultdict(list)
    for file, row in _digests(dataset):
        by_file[file].append(row)
    return by_file


def _digests(dataset: Dataset) -> Iterator[tuple[str, set[bytes]]]:
    """The file of each row, and digests of its words and of its text: mostly one and the same."""
    columns = [arrow_column(dataset, name) for name in ("file", "words", "text", "pair")]
    for start in range(0, len(dataset), _BATCH):
        parts = (column.slice(start, _BATCH).to_pylist() for column in columns)
        for file, words, text, pair in zip(*parts, strict=True):
            readings = {"".join(words), text} - {""} or {""}
            yield file, {_digest(reading, pair) for reading in readings}


def _digest(text: str, pair: str | None) -> bytes:
    bare = ("".join(part.split()) for part in (text, pair or ""))
    plain = "\n".join(unicodedata.normalize("NFC", part) for part in bare)
    return blake2b(plain.encode(), digest_size=16).digest()


def _place(file: str) -> str:
    """The same for all ways of writing one path."""
    return str(Path(file).resolve()) if Path(file).exists() else file
