"""Scores as the field means them, as percentages; perplexity as it is.

Tagging: accuracy over words. Spans: F1 over exact spans, read from IOB2 strictly (a span begins
with ``B-``), as seqeval's strict mode does. Trees: LAS, with UAS beside it, as the CoNLL 2018
shared task scores parses of given words: over all words, punctuation too, and without subtypes.
Sentences: accuracy, with macro-F1 beside it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from ..heads import iob2_spans
from ..tasks import Task, TaskType, universal

Labels = Sequence[str]
Tree = tuple[Sequence[int], Labels]
"""The head and the relation of each word of a sentence."""
Parts = Sequence[tuple[int, int]]
UAS = "UAS"


@dataclass(frozen=True)
class Score:
    """The score of one cell.

    Attributes:
        value: the task type's metric (`TaskType.metric`).
        units: over how many words, spans, texts or masked sub-words.
        unit: which of these.
        details: other scores worth knowing.
        parts: numerator and denominator of each example; the value is 100 times the sum of the
            ones over the sum of the others. Empty for perplexity.
    """

    value: float
    units: int
    unit: str
    details: dict[str, float] = field(default_factory=dict)
    parts: Parts = ()


def score(task: Task, gold: Sequence[Labels], predicted: Sequence[Labels]) -> Score:
    """Score the predictions of one cell.

    Args:
        task: whose labels these are; its type decides the metric.
        gold, predicted: the labels of each example: one a word, or a single one.

    Raises:
        ValueError: the two do not have the same number of examples and labels.
    """
    if [len(labels) for labels in gold] != [len(labels) for labels in predicted]:
        raise ValueError("Gold and predicted labels differ in number.")
    if task.type is TaskType.SPANS:
        return _span_score(gold, predicted)
    true = [label for labels in gold for label in labels]
    found = [label for labels in predicted for label in labels]
    unit = "words" if task.type.reads_words else "texts"
    details = {"macro F1": macro_f1(true, found)}
    parts = [
        (sum(a == b for a, b in zip(*example, strict=True)), len(example[0]))
        for example in zip(gold, predicted, strict=True)
    ]
    return Score(accuracy(true, found), len(true), unit, details, parts)


def score_trees(gold: Sequence[Tree], predicted: Sequence[Tree]) -> Score:
    """Score the trees of one cell: LAS, and UAS among the details.

    UAS is the share of words with the right head, LAS of those with the right head and relation;
    of relations, what stands before the colon counts.

    Raises:
        ValueError: the two do not have the same number of sentences and words.
    """
    if [len(heads) for heads, _ in gold] != [len(heads) for heads, _ in predicted]:
        raise ValueError("Gold and predicted trees differ in number or size.")
    true = [word for tree in gold for word in zip(*tree, strict=True)]
    found = [word for tree in predicted for word in zip(*tree, strict=True)]
    attached = [a[0] == b[0] for a, b in zip(true, found, strict=True)]
    right = [
        same and universal(a[1]) == universal(b[1])
        for same, a, b in zip(attached, true, found, strict=True)
    ]
    count = max(len(true), 1)
    details = {UAS: 100 * sum(attached) / count}
    flags = iter(right)
    parts = [(sum(next(flags) for _ in heads), len(heads)) for heads, _ in gold]
    return Score(100 * sum(right) / count, len(true), "words", details, parts)


def accuracy(gold: Labels, predicted: Labels) -> float:
    """Share of labels that agree, in percent; 0 for none."""
    right = sum(a == b for a, b in zip(gold, predicted, strict=True))
    return 100 * right / len(gold) if gold else 0.0


def macro_f1(gold: Labels, predicted: Labels) -> float:
    """Unweighted mean of F1 over every label in gold or predicted, in percent."""
    true, found = Counter(gold), Counter(predicted)
    both = Counter(a for a, b in zip(gold, predicted, strict=True) if a == b)
    labels = true.keys() | found.keys()
    scores = [2 * both[label] / (true[label] + found[label]) for label in labels]
    return 100 * sum(scores) / len(scores) if scores else 0.0


def precision_recall_f1(right: int, found: int, true: int) -> tuple[float, float, float]:
    """Precision, recall and F1 in percent; 0 where there is nothing to divide by."""
    precision = right / found if found else 0.0
    recall = right / true if true else 0.0
    f1 = 2 * right / (found + true) if found + true else 0.0
    return 100 * precision, 100 * recall, 100 * f1


def _span_score(gold: Sequence[Labels], predicted: Sequence[Labels]) -> Score:
    true, found = _keyed(gold), _keyed(predicted)
    precision, recall, f1 = precision_recall_f1(len(true & found), len(found), len(true))
    details = {"precision": precision, "recall": recall}
    for entity in sorted({key[1] for key in true | found}):
        a = {key for key in true if key[1] == entity}
        b = {key for key in found if key[1] == entity}
        details[f"F1 {entity}"] = precision_recall_f1(len(a & b), len(b), len(a))[2]
    both, either = Counter(key[0] for key in true & found), Counter(key[0] for key in true)
    either.update(key[0] for key in found)
    parts = [(2 * both[index], either[index]) for index in range(len(gold))]
    return Score(f1, len(true), "spans", details, parts)


def _keyed(sentences: Iterable[Labels]) -> set[tuple[int, str, int, int]]:
    return {
        (index, span.label, span.start, span.end)
        for index, labels in enumerate(sentences)
        for span in iob2_spans(labels)
    }
