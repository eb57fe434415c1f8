"""What every head has: a way to read a batch, a loss, and a way to decode."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from ..backbone import Backbone
from ..data.batching import TaskRows
from ..tasks import ParserForm, Task


@dataclass(frozen=True)
class HeadOptions:
    """What heads are made with.

    Attributes:
        dropout: rate on the states that a head reads, in training; not for `mlm`.
        parser: the form of parsing heads; see `ParserHead`.
        tied_decoder: whether `mlm` decodes with the backbone's word embeddings.
    """

    dropout: float = 0.1
    parser: ParserForm = "mlp"
    tied_decoder: bool = True


@dataclass(frozen=True)
class Encoded:
    """A batch as the encoder returns it, with everything else that heads read.

    Attributes:
        hidden: (B, T, h), the last hidden states.
        attention_mask: (B, T), 1 where there is a sub-word.
        vocabulary: (V, h), the encoder's word embeddings, with which `mlm` decodes.
        latents: for factorised heads: (C, …) of the distinct cells, and (B,), the cell of each row.
    """

    hidden: Tensor
    attention_mask: Tensor
    vocabulary: Tensor
    latents: tuple[Tensor, Tensor] | None = None

    def states(self, rows: TaskRows) -> Tensor:
        """Return the states at the positions of a task, (N, h), or of its whole rows, (R, T, h)."""
        if rows.positions is not None:
            # A mask as index would make a GPU wait, and its backward pass is slower on a CPU.
            return self.hidden.flatten(0, 1).index_select(0, rows.positions)
        return select(self.hidden, rows.rows)


def select(tensor: Tensor, rows: Tensor) -> Tensor:
    """Select rows of a batch; all of them in order are not copied."""
    return tensor if rows.shape[0] == tensor.shape[0] else tensor.index_select(0, rows)


@dataclass(frozen=True)
class Answer:
    """What a head says about one example.

    Attributes:
        labels: the index of a label for each word, or for the text.
        confidences: the probability of each of these labels; for parsing, of head and relation.
        probabilities: of every label, for a text.
        heads: for parsing, the head of each word, counted from 1; 0 is the root.
        spans: for spans, what their probabilities let expect: how many predicted spans are right,
            and the sum of predicted and right ones, which is the denominator of F1.
    """

    labels: list[int]
    confidences: list[float]
    probabilities: list[float] | None = None
    heads: list[int] | None = None
    spans: tuple[float, float] | None = None

    @property
    def promised(self) -> tuple[float, float]:
        """The expected numerator and denominator of the example's score (`metrics.Score`)."""
        if self.spans is not None:
            return 2 * self.spans[0], self.spans[1]
        return sum(self.confidences), float(len(self.confidences))


class Head(nn.Module):
    """The trained layer of one task, which all of its languages share."""

    @classmethod
    @abstractmethod
    def start(cls, task: Task, backbone: Backbone, options: HeadOptions) -> Head:
        """Make the head that training starts from."""

    @abstractmethod
    def read(self, encoded: Encoded, rows: TaskRows) -> Any:
        """Score the rows of the task in a batch."""

    @abstractmethod
    def loss(self, scores: Any, rows: TaskRows) -> Tensor:
        """Return the mean loss of the scored units, of which there are `TaskRows.units`."""

    @abstractmethod
    def split(self, scores: Any, rows: TaskRows) -> list[Any]:
        """Split scores by row; for parsing, by sentence."""

    @abstractmethod
    def decode(self, scores: Sequence[Any], task: Task) -> Answer:
        """Decode one example from the scores of its windows."""
