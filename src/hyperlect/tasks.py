"""What a task is: its type, its labels and its metric.

Task types are a small closed set; tasks are open: a user may define any number of tasks of a
type, each with its own labels and head.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal, get_args

from .errors import unknown


class TaskType(StrEnum):
    """The closed set of things a head can predict."""

    TAGGING = "tagging"  # one label a word, as UPOS
    SPANS = "spans"  # IOB2 tags over words, scored as spans, as entities
    PARSING = "parsing"  # a head and a relation a word, as dependency trees
    CLASSIFICATION = "classification"  # one label a text, as topics
    PAIRS = "pairs"  # one label for two texts, as NLI
    MLM = "mlm"  # masked language modelling on raw text

    @property
    def reads_words(self) -> bool:
        """Whether an example is a list of words with a label each."""
        return self in (TaskType.TAGGING, TaskType.SPANS, TaskType.PARSING)

    @property
    def metric(self) -> str:
        """The name of the score that results are reported and averaged by."""
        return _METRICS[self]


_METRICS = {
    TaskType.TAGGING: "accuracy",
    TaskType.SPANS: "span F1",
    TaskType.PARSING: "LAS",
    TaskType.CLASSIFICATION: "accuracy",
    TaskType.PAIRS: "accuracy",
    TaskType.MLM: "perplexity",
}

ParserForm = Literal["mlp", "direct"]
"""How parsing scores words: with perceptrons before biaffine attention, or without."""
PARSERS: tuple[ParserForm, ...] = get_args(ParserForm)

OUTSIDE = "O"

UPOS = (
    *("ADJ", "ADP", "ADV", "AUX", "CCONJ", "DET", "INTJ", "NOUN", "NUM"),
    *("PART", "PRON", "PROPN", "PUNCT", "SCONJ", "SYM", "VERB", "X"),
)
"""The universal parts of speech (Universal Dependencies, version 2)."""

ROOT = "root"

DEPREL = (
    *("acl", "advcl", "advmod", "amod", "appos", "aux", "case", "cc", "ccomp", "clf", "compound"),
    *("conj", "cop", "csubj", "dep", "det", "discourse", "dislocated", "expl", "fixed", "flat"),
    *("goeswith", "iobj", "list", "mark", "nmod", "nsubj", "nummod", "obj", "obl", "orphan"),
    *("parataxis", "punct", "reparandum", ROOT, "vocative", "xcomp"),
)
"""The universal relations (Universal Dependencies, version 2), without subtypes."""

INVENTORIES = {"upos": UPOS, "deprel": DEPREL}
"""Inventories that have a name, in recipes and columns alike."""


@dataclass(frozen=True)
class Task:
    """One task with its label inventory.

    Attributes:
        name: the name used in recipes, cells and files.
        type: which kind of head predicts it.
        labels: the inventory in the order of the head's outputs. For `SPANS` these are IOB2
            tags with ``O`` first; empty for `MLM`, whose labels are the vocabulary.
        label_map: labels in the data → labels of the inventory, applied while reading. For
            `SPANS` it speaks of entity types, and mapping one to ``O`` drops it. For `PARSING`
            subtypes are dropped wherever it says nothing of the whole relation.
    """

    name: str
    type: TaskType
    labels: tuple[str, ...] = ()
    label_map: Mapping[str, str] = field(default_factory=dict)

    def map_label(self, label: str) -> str:
        """Apply the label map to one label as it stands in the data.

        For spans it maps entity types: ``B-DATE`` with ``{DATE: O}`` becomes ``O``; with
        ``{GPE: LOC}``, ``I-GPE`` becomes ``I-LOC``. A whole tag may be named too: ``{"-": O}``.

        For parsing, a relation loses its subtype, ``nsubj:pass`` → ``nsubj``, for LAS as the
        CoNLL 2018 shared task defined it does not look at subtypes, and most are of a few
        languages alone. A map that names the whole relation comes first, so that
        ``{"nsubj:pass": "nsubj:pass"}`` keeps one; then the universal one is looked up.
        """
        if self.type is TaskType.PARSING and label not in self.label_map:
            label = universal(label)
        if self.type is not TaskType.SPANS or label in self.label_map:
            return self.label_map.get(label, label)
        prefix, dash, entity = label.partition("-")
        if not dash or entity not in self.label_map:
            return label
        target = self.label_map[entity]
        return OUTSIDE if target == OUTSIDE else f"{prefix}-{target}"

    def label_id(self, label: str) -> int:
        """Return the index of a (mapped) label. Raises `UnknownNameError` with the known ones."""
        try:
            return self.labels.index(label)
        except ValueError:
            raise unknown(f"label of task {self.name}", label, self.labels) from None


def universal(relation: str) -> str:
    """Return a relation without its subtype: ``nsubj`` of ``nsubj:pass``."""
    return relation.partition(":")[0]


def inventory(task_type: TaskType, found: Iterable[str]) -> tuple[str, ...]:
    """Make the label inventory from the (mapped) labels found in the data.

    Tags, relations and classes are sorted. For spans, every entity type gets both its ``B-`` and
    its ``I-`` tag, whether or not both were seen, after ``O``.
    """
    if task_type is TaskType.MLM:
        return ()
    if task_type is not TaskType.SPANS:
        return tuple(sorted(set(found)))
    entities = sorted({label[2:] for label in found if label != OUTSIDE})
    return (OUTSIDE, *(f"{prefix}-{entity}" for entity in entities for prefix in "BI"))
