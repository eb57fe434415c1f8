"""Word-level heads: one label a word, read at its first sub-word."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from ..tasks import OUTSIDE


@dataclass(frozen=True)
class Span:
    """An entity: words `start` up to, not including, `end`."""

    label: str
    start: int
    end: int


def at_positions(values: Tensor, positions: Tensor) -> Tensor:
    """Return (N, …), of (B, T, …) what stands at the N true of (B, T) positions, row by row.

    What a mask as index would, but its backward pass would scatter by a mask too: twice as slow on
    a CPU, and on a GPU a wait for how many there are.
    """
    places = positions.flatten().nonzero().squeeze(1)
    return values.flatten(0, 1).index_select(0, places)


class TokenHead(nn.Module):
    """A linear map from hidden states to labels, for tagging and for IOB2 spans.

    Args:
        hidden: the backbone's hidden size h.
        labels: how many labels.
        dropout: rate on the hidden states while training.
    """

    def __init__(self, hidden: int, labels: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(hidden, labels)
        nn.init.normal_(self.linear.weight, std=0.02)
        nn.init.zeros_(self.linear.bias)

    def forward(self, hidden: Tensor, attention_mask: Tensor, positions: Tensor | None) -> Tensor:
        """Score labels: (N, labels) at the N true `positions`, or (B, T, labels) without them.

        Args:
            hidden: (B, T, h).
            attention_mask: (B, T); not used.
            positions: (B, T), boolean.
        """
        read = hidden if positions is None else at_positions(hidden, positions)
        return self.linear(self.dropout(read))  # type: ignore[no-any-return]


def decode_spans(logits: Tensor, labels: Sequence[str]) -> list[int]:
    """Find the best valid IOB2 sequence: ``I-X`` only after ``B-X`` or ``I-X``.

    The highest sum of log-probabilities among valid sequences (Viterbi 1967, with transitions
    that are either allowed or not); what is unconstrained is the plain best label a word.

    Args:
        logits: (words, labels) of one sentence.
        labels: the inventory, IOB2.

    Returns:
        One label index a word.
    """
    if not len(logits):
        return []
    scores = torch.log_softmax(logits.float(), dim=-1).cpu().numpy()
    allowed = _transitions(tuple(labels))
    start_allowed = np.array([not label.startswith("I-") for label in labels])
    best = np.where(start_allowed, scores[0], -np.inf)
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
def _transitions(labels: tuple[str, ...]) -> np.ndarray:
    """Return (labels, labels), true where the second may follow the first."""
    return np.array(
        [
            [not after.startswith("I-") or (before != OUTSIDE and before[2:] == after[2:])
             for after in labels]
            for before in labels
        ]
    )  # fmt: skip


def iob2_spans(labels: Sequence[str]) -> Iterator[Span]:
    """Read IOB2 labels as spans, strictly: a span begins with ``B-``."""
    start = None
    for index, label in enumerate([*labels, OUTSIDE]):
        inside = start is not None and label == f"I-{labels[start][2:]}"
        if start is not None and not inside:
            yield Span(labels[start][2:], start, index)
            start = None
        if label.startswith("B-"):
            start = index
