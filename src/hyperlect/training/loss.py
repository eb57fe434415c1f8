"""The loss of a batch."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from ..data.batching import Batch
from ..errors import HyperlectError


def batch_loss(model: torch.nn.Module, batch: Batch) -> Tensor:
    """Mean cross-entropy of a batch's task over its words, texts or masked sub-words."""
    output = model(
        batch.input_ids,
        batch.attention_mask,
        token_type_ids=batch.token_type_ids,
        task=batch.task,
        language=batch.language,
        positions=batch.positions,
    )
    assert batch.labels is not None
    return F.cross_entropy(output.logits.float(), batch.labels)


def check_finite(loss: float, batch: Batch, step: int) -> None:
    """Raise `HyperlectError` where training has diverged: no later step would mend it.

    Args:
        loss: of the batch.
        batch: whose cell is named.
        step: counted from 1.
    """
    if not math.isfinite(loss):
        raise HyperlectError(
            f"The loss of {batch.task}:{batch.language} is {loss} at step {step}: training has "
            "diverged. Lower training.learning_rate, lengthen training.warmup, or set "
            "training.precision to fp32."
        )
