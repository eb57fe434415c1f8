"""What a forward pass gives."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

from ..errors import HyperlectError
from ..heads import ParseScores


@dataclass(frozen=True)
class HyperXOutput:
    """What a forward pass gives.

    Attributes:
        last_hidden_state: (B, T, h).
        task_logits: the logits of each task of the batch, over its own rows in their order:
            (N, labels) at `positions` or (rows, T, labels) for word-level tasks and `mlm`;
            (rows, labels) for sentence-level ones.
        parses: in place of logits, the scores of each parsing task.
        hidden_states: the embeddings' and every layer's output, (B, T, h) each, on request.
    """

    last_hidden_state: Tensor
    task_logits: dict[str, Tensor]
    parses: dict[str, ParseScores] = field(default_factory=dict)
    hidden_states: tuple[Tensor, ...] | None = None

    @property
    def logits(self) -> Tensor:
        """The logits of a batch of one task.

        Raises:
            HyperlectError: there are several tasks, or the one has trees in place of labels.
        """
        listed = ", ".join([*self.task_logits, *self.parses])
        if len(self.task_logits) + len(self.parses) > 1:
            raise HyperlectError(f"The batch holds several tasks ({listed}): read task_logits.")
        if self.parses:
            raise HyperlectError(f"The task {listed} scores trees: read parses.")
        return next(iter(self.task_logits.values()))
