"""What a task is: its type, its labels and its metric.

A user may define any number of tasks of a type, each with its own labels and head.
docs/extending.md shows how a task type is added.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal, get_args

from .errors import unknown

Reads = Literal["words", "text", "pair", "raw"]


class TaskType(str):
    """A kind of prediction. It is the text of its name, as in recipes.

    Args:
        name: of the type.
        reads: what an example is: words with a label each, one text, two texts with one label, or
            raw text without labels.
        metric: the name of the score that results are reported and averaged by; a key of
            `evaluation.metrics.METRICS`.
    """

    reads: Reads
    metric: str

    TAGGING: ClassVar[TaskType]
    SPANS: ClassVar[TaskType]
    PARSING: ClassVar[TaskType]
    CLASSIFICATION: ClassVar[TaskType]
    PAIRS: ClassVar[TaskType]
    MLM: ClassVar[TaskType]

    def __new__(cls, name: str, reads: Reads, metric: str) -> TaskType:  # noqa: D102
        task_type = super().__new__(cls, name)
        task_type.reads, task_type.metric = reads, metric
        return task_type

    @property
    def reads_words(self) -> bool:
        """Whether an example is a list of words with a label each."""
        return self.reads == "words"

    def __reduce__(self) -> tuple[object, ...]:
        return task_type, (str(self),)


TaskType.TAGGING = TaskType("tagging", "words", "accuracy")
TaskType.SPANS = TaskType("spans", "words", "span F1")
"""IOB2 tags over words, scored as spans: entities."""
TaskType.PARSING = TaskType("parsing", "words", "LAS")
"""A head and a relation for each word: dependency trees."""
TaskType.CLASSIFICATION = TaskType("classification", "text", "accuracy")
TaskType.PAIRS = TaskType("pairs", "pair", "accuracy")
TaskType.MLM = TaskType("mlm", "raw", "perplexity")
"""Masked language modelling."""

TASK_TYPES: dict[str, TaskType] = {
    str(known): known for known in vars(TaskType).values() if isinstance(known, TaskType)
}
"""The task types by name."""


def task_type(name: str) -> TaskType:
    """Return the task type of a name. Raises `UnknownNameError` with the known ones."""
    if name not in TASK_TYPES:
        raise unknown("task type", str(name), TASK_TYPES)
    return TASK_TYPES[name]


ParserForm = Literal["mlp", "direct"]
"""How parsing scores words: with perceptrons before biaffine attention, or without."""
PARSERS: tuple[ParserForm, ...] = get_args(ParserForm)

OUTSIDE = "O"
OTHERS = "*"
"""In the label map of a span task: every entity type that neither the map nor the labels name."""

Scheme = Literal["iob2", "iob1", "io", "bioes"]
"""How the data marks spans: IOB2 (every span begins with B-), IOB1 (B- only between two spans of
one type), IO (types alone, or all with I-), BIOES (single words S-, last words E-; BILOU too)."""
Unlabelled = Literal["error", "ignore"]
"""What a word without a label is: an error, or a word that is neither trained nor scored."""

_TAG = re.compile(r"([BIMELSU])-(.+)", re.DOTALL)
_BEGINNING = ("B", "S", "U")

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

LABEL_SETS = {"upos": UPOS, "deprel": DEPREL}
"""Label sets that recipes and columns can name."""


@dataclass(frozen=True)
class Task:
    """One task with its label set.

    Attributes:
        name: the name used in recipes, cells and files.
        type: which kind of head predicts it.
        labels: the label set in the order of the head's outputs. For `SPANS` these are IOB2
            tags with ``O`` first; empty for `MLM`, whose labels are the vocabulary.
        label_map: labels in the data → labels of the label set, applied while reading. For
            `SPANS` it speaks of entity types or whole tags; mapping a type to ``O`` drops it, and
            `OTHERS` is the key of all other types. For `PARSING` subtypes are dropped wherever it
            says nothing of the whole relation.
        scheme: for `SPANS`, how the data marks them. The labels of the task are always IOB2.
        unlabelled: what a word without a label is.
    """

    name: str
    type: TaskType
    labels: tuple[str, ...] = ()
    label_map: Mapping[str, str] = field(default_factory=dict)
    scheme: Scheme = "iob2"
    unlabelled: Unlabelled = "error"

    def map_label(self, label: str) -> str:
        """Apply the label map to one label as it stands in the data.

        For spans it maps entity types: ``B-DATE`` with ``{DATE: O}`` becomes ``O``; with
        ``{GPE: LOC}``, ``I-GPE`` becomes ``I-LOC``. A whole tag may be named too: ``{"-": O}``.
        Tags of other schemes become IOB2 as far as one tag alone shows it (``S-X`` → ``B-X``).

        For parsing, a relation loses its subtype, ``nsubj:pass`` → ``nsubj``, for LAS as the
        CoNLL 2018 shared task defined it does not look at subtypes, and most are of a few
        languages alone. A map that names the whole relation comes first, so that
        ``{"nsubj:pass": "nsubj:pass"}`` keeps one; then the universal one is looked up.
        """
        if self.type is TaskType.PARSING and label not in self.label_map:
            label = universal(label)
        tag = self.split_tag(label) if self.type is TaskType.SPANS else None
        if tag is None:
            return self.label_map.get(label, label)
        mapped = self.map_entity(tag[1])
        begin = "B" if tag[0] in _BEGINNING else "I"
        return OUTSIDE if mapped == OUTSIDE else f"{begin}-{mapped}"

    def split_tag(self, label: str) -> tuple[str, str] | None:
        """Take a span label of the data apart, after a label map that names the whole tag.

        Returns:
            The prefix (one of ``BIMELSU``; empty for no entity) and the entity type before the
            label map (``O`` for no entity). None where the label is not a tag of the scheme.
        """
        match = _TAG.fullmatch(label)
        if match or self.scheme != "io":
            label = self.label_map.get(label, label)
            match = _TAG.fullmatch(label)
        if label == OUTSIDE:
            return "", OUTSIDE
        if match:
            prefix, entity = match.groups()
            return (prefix, entity) if prefix in "BI" or self.scheme == "bioes" else None
        # A single sign stands for a prefix without a type, or a zero for the letter O.
        is_type = self.scheme == "io" and (len(label) > 1 or label in self.label_map)
        return ("I", label) if is_type else None

    def map_entity(self, entity: str) -> str:
        """Apply the label map to an entity type; ``O`` for one that is dropped."""
        if entity not in self.label_map and OTHERS in self.label_map:
            kept = {*self.label_map.values(), *(label[2:] for label in self.labels)}
            return entity if entity in kept or entity == OUTSIDE else self.label_map[OTHERS]
        target = self.label_map.get(entity, entity)
        tag = _TAG.fullmatch(target)
        return tag[2] if tag else target

    @property
    def listed_labels(self) -> list[str]:
        """The labels as a recipe lists them: of spans, the entity types."""
        if self.type is TaskType.SPANS:
            return [label[2:] for label in self.labels if label.startswith("B-")]
        return list(self.labels)


def universal(relation: str) -> str:
    """Return a relation without its subtype: ``nsubj`` of ``nsubj:pass``."""
    return relation.partition(":")[0]


def label_set(task_type: TaskType, labels: Iterable[str]) -> tuple[str, ...]:
    """Make the label set from the (mapped) labels of the data.

    Tags, relations and classes are sorted. For spans, every entity type gets both its ``B-`` and
    its ``I-`` tag, whether or not both were seen, after ``O``.
    """
    if task_type is TaskType.MLM:
        return ()
    if task_type is not TaskType.SPANS:
        return tuple(sorted(set(labels)))
    entities = sorted({label[2:] for label in labels if label != OUTSIDE})
    return (OUTSIDE, *(f"{prefix}-{entity}" for entity in entities for prefix in "BI"))
