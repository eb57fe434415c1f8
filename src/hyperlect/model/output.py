"""What a forward pass gives."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ..errors import HyperlectError


@dataclass(frozen=True)
class HyperXOutput:
    """What a forward pass gives.

    Attributes:
        last_hidden_state: (B, T, h).
        task_logits: the logits of each task of the batch, over its own rows in their order:
            (N, labels) at `positions` or (rows, T, labels) for word-level tasks and `mlm`;
            (rows, labels) for sentence-level ones.
        hidden_states: the embeddings' and every layer's output, (B, T, h) each, on request.
    """

    last_hidden_state: Tensor
    task_logits: dict[str, Tensor]
    hidden_states: tuple[Tensor, ...] | None = None

    @property
    def logits(self) -> Tensor:
        """The logits of a batch of one task. Raises `HyperlectError` where there are several."""
        if len(self.task_logits) > 1:
            listed = ", ".join(self.task_logits)
            raise HyperlectError(f"The batch holds several tasks ({listed}): read task_logits.")
        return next(iter(self.task_logits.values()))
