"""Heads that score labels: of words (tagging, spans), texts (classification, pairs) or sub-words.

The labels of masked language modelling are the vocabulary.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.activations import ACT2FN

from ..backbone import Backbone
from ..data.batching import TaskRows
from ..tasks import OUTSIDE, Task
from .base import Answer, Encoded, Head, HeadOptions, select


class LabelHead(Head):
    """A head whose scores are logits of labels, one row for each scored unit."""

    def loss(self, scores: Tensor, rows: TaskRows) -> Tensor:
        """Return the mean cross-entropy."""
        assert rows.labels is not None
        return F.cross_entropy(scores.float(), rows.labels)

    def split(self, scores: Tensor, rows: TaskRows) -> list[Tensor]:
        """Split logits by row."""
        return list(torch.split(scores.float().cpu(), list(rows.counts)))

    def decode(self, scores: Sequence[Tensor], task: Task) -> Answer:
        """Take the best label of each unit."""
        probabilities = torch.cat(list(scores)).softmax(dim=-1)
        confidences, labels = probabilities.max(dim=-1)
        whole = None if task.type.reads_words else probabilities[0].tolist()
        return Answer(labels.tolist(), confidences.tolist(), whole)


class _LinearHead(LabelHead):
    """Dropout, then a linear map to labels with weights from N(0, 0.02²) and zero bias.

    Args:
        hidden: the backbone's hidden size h.
        labels: the number of labels.
        dropout: rate on what the map reads, in training.
    """

    def __init__(self, hidden: int, labels: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(hidden, labels)
        nn.init.normal_(self.linear.weight, std=0.02)
        nn.init.zeros_(self.linear.bias)

    @classmethod
    def start(cls, task: Task, backbone: Backbone, options: HeadOptions) -> _LinearHead:
        return cls(backbone.hidden_size, len(task.labels), options.dropout)


class TaggingHead(_LinearHead):
    """A linear map from the state of each word's first sub-word to labels."""

    def forward(self, states: Tensor) -> Tensor:
        """Score labels: (…, h) → (…, labels)."""
        return self.linear(self.dropout(states))  # type: ignore[no-any-return]

    def read(self, encoded: Encoded, rows: TaskRows) -> Tensor:
        """Score the words of a batch, (N, labels), or every sub-word, (R, T, labels)."""
        return self(encoded.states(rows))  # type: ignore[no-any-return]


class SpanHead(TaggingHead):
    """A tagger whose answer is the best valid sequence: ``I-X`` only after ``B-X`` or ``I-X``.

    A predicted span is expected to be right with the product of the probabilities of its labels,
    and a word to begin a right one with the sum of those of its ``B-`` labels.
    """

    def decode(self: Head, scores: Sequence[Tensor], task: Task) -> Answer:
        """Find the valid sequence with the highest sum of log-probabilities."""
        logs = torch.log_softmax(torch.cat(list(scores)), dim=-1).numpy()
        path = best_sequence(logs, task.labels)
        certain = np.exp(logs[range(len(path)), path])
        predicted = list(iob2_spans([task.labels[label] for label in path]))
        right = sum(float(certain[start:end].prod()) for _, start, end in predicted)
        begins = [number for number, label in enumerate(task.labels) if label.startswith("B-")]
        either = len(predicted) + float(np.exp(logs[:, begins]).sum())
        return Answer(path, certain.tolist(), spans=(right, either))


class ClassificationHead(_LinearHead):
    """A linear map from the mean of a text's hidden states to labels.

    The mean over all sub-words is used rather than the first one, since a frozen encoder's first
    sub-word need not represent the sentence.
    """

    def forward(self, hidden: Tensor, attention_mask: Tensor) -> Tensor:
        """Score labels: (R, T, h) and (R, T) → (R, labels)."""
        return self.linear(self.dropout(mean_state(hidden, attention_mask)))  # type: ignore[no-any-return]

    def read(self, encoded: Encoded, rows: TaskRows) -> Tensor:
        """Score the texts of a batch, (R, labels)."""
        hidden, mask = (select(t, rows.rows) for t in (encoded.hidden, encoded.attention_mask))
        return self(hidden, mask)  # type: ignore[no-any-return]


def mean_state(hidden: Tensor, attention_mask: Tensor) -> Tensor:
    """Average the hidden states of each row, (R, T, h), over its sub-words: (R, h)."""
    mask = attention_mask[..., None].to(hidden.dtype)
    return (hidden * mask).sum(dim=1) / mask.sum(dim=1)


def best_sequence(scores: np.ndarray, labels: Sequence[str]) -> list[int]:
    """Find the best valid IOB2 sequence (Viterbi 1967, with transitions allowed or forbidden).

    Args:
        scores: (words, labels), log-probabilities of one sentence.
        labels: the label set, IOB2.

    Returns:
        One label index for each word.
    """
    if not len(scores):
        return []
    allowed, can_start = _transitions(tuple(labels))
    greedy = scores.argmax(axis=1)
    if can_start[greedy[0]] and allowed[greedy[:-1], greedy[1:]].all():
        return [int(label) for label in greedy]
    best = np.where(can_start, scores[0], -np.inf)
    back = np.zeros(scores.shape, dtype=np.int64)
    for word in range(1, len(scores)):
        reach = np.where(allowed, best[:, None], -np.inf)
        back[word] = reach.argmax(axis=0)
        best = reach.max(axis=0) + scores[word]
    path = [int(best.argmax())]
    for word in range(len(scores) - 1, 0, -1):
        path.append(int(back[word][path[-1]]))
    return path[::-1]


@functools.lru_cache
def _transitions(labels: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Return (labels, labels), true where the second may follow the first; and which may begin."""

    def may_follow(before: str, after: str) -> bool:
        return not after.startswith("I-") or (before != OUTSIDE and before[2:] == after[2:])

    pairs = np.array([[may_follow(before, after) for after in labels] for before in labels])
    return pairs, np.array([not label.startswith("I-") for label in labels])


def iob2_spans(labels: Sequence[str]) -> Iterator[tuple[str, int, int]]:
    """Read IOB2 labels as spans, strictly: a span begins with ``B-``.

    Yields:
        The type of a span, its first word, and the word after its last.
    """
    start = None
    for index, label in enumerate([*labels, OUTSIDE]):
        if start is not None and label != f"I-{labels[start][2:]}":
            yield labels[start][2:], start, index
            start = None
        if label.startswith("B-"):
            start = index


class MlmHead(LabelHead):
    """Dense map, non-linearity, LayerNorm, then the vocabulary.

    If the encoder has a pretrained head, this one starts from it. Otherwise it starts as the
    identity followed by a LayerNorm, without a non-linearity, so that the hidden states are
    compared with the word embeddings directly.

    Args:
        hidden: the backbone's hidden size h.
        vocabulary: size of the vocabulary.
        activation: transformers' name of the non-linearity; "linear" for none.
        eps: epsilon of the LayerNorm.

    The decoder is the encoder's frozen word embeddings, unless the head has one of its own, as
    some models of the released code do (`HeadOptions.tied_decoder`).
    """

    def __init__(
        self, hidden: int, vocabulary: int, activation: str = "linear", eps: float = 1e-12
    ) -> None:
        super().__init__()
        self.activation = activation
        self.activate = ACT2FN[activation]
        self.dense = nn.Linear(hidden, hidden)
        nn.init.eye_(self.dense.weight)
        nn.init.zeros_(self.dense.bias)
        self.norm = nn.LayerNorm(hidden, eps=eps)
        self.bias = nn.Parameter(torch.zeros(vocabulary))
        self.decoder: nn.Parameter | None = None

    @classmethod
    def start(cls, task: Task, backbone: Backbone, options: HeadOptions) -> MlmHead:
        """Make the head that training starts from; an untied decoder copies the embeddings."""
        sizes = (backbone.hidden_size, backbone.vocabulary)
        if pretrained := backbone.mlm_start:
            head = cls(*sizes, pretrained.activation, pretrained.eps)
            head.load_state_dict(pretrained.state)
        else:
            head = cls(*sizes)
        if not options.tied_decoder:
            head.decoder = nn.Parameter(backbone.word_embeddings.detach().clone())
        return head

    def forward(self, states: Tensor, embeddings: Tensor) -> Tensor:
        """Score the vocabulary: (…, h) and (V, h) → (…, V)."""
        decoder = embeddings if self.decoder is None else self.decoder
        return F.linear(self.norm(self.activate(self.dense(states))), decoder, self.bias)

    def read(self, encoded: Encoded, rows: TaskRows) -> Tensor:
        """Score the masked positions of a batch, (N, V), or every sub-word, (R, T, V)."""
        return self(encoded.states(rows), encoded.vocabulary)  # type: ignore[no-any-return]
