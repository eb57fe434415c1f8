"""Cells, and the kinds by which every result is reported.

A cell is one (task, language) pair; the grid is the table of all of them. What a cell's score
means depends on what was trained, so no score travels without its :class:`Kind`. Cells of a kind
still differ by what their languages build on, so no mean of a kind travels without its strata.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from itertools import product
from typing import NamedTuple

from .errors import HyperlectError


class Cell(NamedTuple):
    """One (task, language) pair; the language is an ISO 639-3 code."""

    task: str
    language: str

    def __str__(self) -> str:
        return f"{self.task}:{self.language}"

    @classmethod
    def parse(cls, text: str) -> Cell:
        """Read ``task:language``. Raises `HyperlectError` when it has another form."""
        task, colon, language = text.partition(":")
        if not (task and colon and language) or ":" in language:
            raise HyperlectError(f'"{text}" is not a cell. Write task:language, as in ner:fao.')
        return cls(task, language)


class Kind(StrEnum):
    """How a cell relates to the training data."""

    SUPERVISED = "supervised"
    UNSEEN_COMBINATION = "unseen combination"
    TEXT_ONLY = "unseen language, text only"
    UNTOUCHED = "unseen language, untouched"

    @property
    def meaning(self) -> str:
        """One line that explains the kind to a reader of a report."""
        return _MEANINGS[self]

    @property
    def mark(self) -> str:
        """The sign of the kind wherever scores are shown: a disc as full as training was."""
        return _MARKS[self]


_MARKS = {
    Kind.SUPERVISED: "●",
    Kind.UNSEEN_COMBINATION: "◐",
    Kind.TEXT_ONLY: "◔",
    Kind.UNTOUCHED: "○",
}

_MEANINGS = {
    Kind.SUPERVISED: "this task was trained on labelled data in this language",
    Kind.UNSEEN_COMBINATION: "the task and the language were both trained, not together",
    Kind.TEXT_ONLY: "the language had raw text in training and no labels for any task",
    Kind.UNTOUCHED: "the language had no training data of any sort",
}


class Stratum(NamedTuple):
    """What a language has to build on in one run. Cells of a kind differ by it.

    Attributes:
        known_to_encoder: whether the encoder was pretrained on the language; None where that is
            not known.
        related: whether another language of its family has labels in training; None where its
            family is not known.
    """

    known_to_encoder: bool | None = None
    related: bool | None = None

    def __str__(self) -> str:
        known = {True: "known to the encoder", False: "new to the encoder", None: ""}
        related = {True: "related", False: "unrelated", None: ""}
        texts = (known[self.known_to_encoder], related[self.related])
        return ", ".join(filter(None, texts)) or "not known"


STRATA = tuple(Stratum(*pair) for pair in product((True, False, None), repeat=2))
"""All strata, from the languages that are best provided for; last the one of which nothing is
known."""
STRATA_MEANING = (
    "known to the encoder: it was pretrained on the language; related: another language of the "
    "same family has labels in training; neither word: its family is not known"
)
"""What explains the strata to a reader of a report."""


class Grid:
    """Which cells were trained, and so of what kind any cell is.

    Args:
        trained: every cell that has training data, raw-text cells included.
        text_tasks: the tasks that are trained on raw text (masked language modelling); their
            cells do not make a language a labelled one.
    """

    def __init__(self, trained: Iterable[Cell], text_tasks: Iterable[str] = ()) -> None:
        self.trained = frozenset(Cell(*cell) for cell in trained)
        self.text_tasks = frozenset(text_tasks)
        of_text = {cell for cell in self.trained if cell.task in self.text_tasks}
        self.text_languages = frozenset(cell.language for cell in of_text)
        self.labelled_languages = frozenset(cell.language for cell in self.trained - of_text)

    @property
    def languages(self) -> list[str]:
        """Every language with training data of any sort, sorted."""
        return sorted(self.labelled_languages | self.text_languages)

    def kind(self, cell: Cell) -> Kind:
        """Classify any cell, trained or not."""
        if cell in self.trained:
            return Kind.SUPERVISED
        if cell.language in self.labelled_languages:
            return Kind.UNSEEN_COMBINATION
        if cell.language in self.text_languages:
            return Kind.TEXT_ONLY
        return Kind.UNTOUCHED
