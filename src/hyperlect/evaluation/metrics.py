"""Scores as the field means them, as percentages; perplexity as it is.

Tagging: accuracy over words. Spans: F1 over exact spans, read from IOB2 strictly (a span begins
with ``B-``), as seqeval's strict mode does. Trees: LAS, with UAS beside it, as the CoNLL 2018
shared task scores parses of given words: over all words, punctuation too, and without subtypes.
Sentences: accuracy, with macro-F1 beside it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from ..heads import iob2_spans
from ..tasks import Task, universal

Labels = Sequence[str]
Tree = tuple[Sequence[int], Labels]
"""The head and the relation of each word of a sentence."""
UAS = "UAS"


@dataclass(frozen=True)
class Score:
    """The score of one cell.

    Attributes:
        value: the task type's metric (`TaskType.metric`).
        units: the number of scored words, spans, texts or masked sub-words.
        unit: which of these.
        details: other scores worth knowing.
        examples: numerator and denominator of each example; the value is 100 times the sum of the
            numerators over the sum of the denominators. Empty for perplexity.
    """

    value: float
    units: int
    unit: str
    details: dict[str, float] = field(default_factory=dict)
    examples: Sequence[tuple[int, int]] = ()


def score(task: Task, gold: Sequence[Labels], predicted: Sequence[Labels]) -> Score:
    """Score the labels of one cell.

    Args:
        task: its type decides the metric.
        gold, predicted: the labels of each example: one for each word, or a single one.

    Raises:
        ValueError: the two do not have the same number of examples and labels.
    """
    if [len(labels) for labels in gold] != [len(labels) for labels in predicted]:
        raise ValueError("Gold and predicted labels differ in number.")
    return METRICS[task.type.metric](task, gold, predicted)


def _accuracy(task: Task, gold: Sequence[Labels], predicted: Sequence[Labels]) -> Score:
    unit = "words" if task.type.reads_words else "texts"
    details = {"macro F1": macro_f1(_flat(gold), _flat(predicted))}
    examples = [
        (sum(a == b for a, b in zip(*example, strict=True)), len(example[0]))
        for example in zip(gold, predicted, strict=True)
    ]
    return Score(_percent(examples), len(_flat(gold)), unit, details, examples)


def score_trees(gold: Sequence[Tree], predicted: Sequence[Tree]) -> Score:
    """Score the trees of one cell: LAS, and UAS among the details.

    UAS is the share of words with the right head, LAS of those with the right head and relation;
    of relations, only the text before the colon counts.

    Raises:
        ValueError: the two do not have the same number of sentences and words.
    """
    if [len(heads) for heads, _ in gold] != [len(heads) for heads, _ in predicted]:
        raise ValueError("Gold and predicted trees differ in number or size.")
    attached, labelled = [], []
    for (heads, relations), (other_heads, other_relations) in zip(gold, predicted, strict=True):
        right = [a == b for a, b in zip(heads, other_heads, strict=True)]
        same = [
            universal(a) == universal(b) for a, b in zip(relations, other_relations, strict=True)
        ]
        attached.append((sum(right), len(heads)))
        labelled.append((sum(a and b for a, b in zip(right, same, strict=True)), len(heads)))
    words = sum(count for _, count in labelled)
    return Score(_percent(labelled), words, "words", {UAS: _percent(attached)}, labelled)


def _percent(examples: Sequence[tuple[int, int]]) -> float:
    """100 times the numerators over the denominators; 0 for none."""
    right, total = (sum(column) for column in zip(*examples, strict=True)) if examples else (0, 0)
    return 100 * right / total if total else 0.0


def _flat(labels: Iterable[Labels]) -> list[str]:
    return [label for of_example in labels for label in of_example]


def macro_f1(gold: Labels, predicted: Labels) -> float:
    """Unweighted mean of F1 over every label in gold or predicted, in percent."""
    true, guessed = Counter(gold), Counter(predicted)
    both = Counter(a for a, b in zip(gold, predicted, strict=True) if a == b)
    labels = true.keys() | guessed.keys()
    scores = [2 * both[label] / (true[label] + guessed[label]) for label in labels]
    return 100 * sum(scores) / len(scores) if scores else 0.0


def precision_recall_f1(right: int, predicted: int, gold: int) -> tuple[float, float, float]:
    """Precision, recall and F1 in percent; 0 where the denominator is 0."""
    precision = right / predicted if predicted else 0.0
    recall = right / gold if gold else 0.0
    f1 = 2 * right / (predicted + gold) if predicted + gold else 0.0
    return 100 * precision, 100 * recall, 100 * f1


def _span_score(task: Task, gold: Sequence[Labels], predicted: Sequence[Labels]) -> Score:
    true, guessed = (
        {(number, *span) for number, labels in enumerate(side) for span in iob2_spans(labels)}
        for side in (gold, predicted)
    )
    right = true & guessed
    precision, recall, f1 = precision_recall_f1(len(right), len(guessed), len(true))
    details = {"precision": precision, "recall": recall}
    by_type = [Counter(span[1] for span in spans) for spans in (right, guessed, true)]
    for entity in sorted(by_type[1] | by_type[2]):
        details[f"F1 {entity}"] = precision_recall_f1(*(count[entity] for count in by_type))[2]
    both = Counter(span[0] for span in right)
    either = Counter(span[0] for spans in (true, guessed) for span in spans)
    examples = [(2 * both[number], either[number]) for number in range(len(gold))]
    return Score(f1, len(true), "spans", details, examples)


METRICS: dict[str, Callable[[Task, Sequence[Labels], Sequence[Labels]], Score]] = {
    "accuracy": _accuracy,
    "span F1": _span_score,
}
"""How labels are scored, by `TaskType.metric`. Trees and perplexity are not scores of labels."""
