"""The loss of a batch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from ..data.batching import Batch
from ..errors import HyperlectError

REMEDY = (
    "Lower training.learning_rate, lengthen training.warmup, or set training.precision to fp32."
)


class BatchLoss(NamedTuple):
    """What a batch costs.

    Attributes:
        total: what is learnt from: the mean of the tasks' losses, each weighted by its share of
            what was drawn, so that a row weighs the same whatever it stands beside.
        by_task: the mean cross-entropy of each task over its words, texts or masked sub-words; for
            parsing, that of heads plus that of relations.
    """

    total: Tensor
    by_task: dict[str, Tensor]


def batch_loss(model: torch.nn.Module, batch: Batch) -> BatchLoss:
    """Run a labelled batch through the model, and score every task of it."""
    output = model(
        batch.input_ids,
        batch.attention_mask,
        token_type_ids=batch.token_type_ids,
        task=batch.tasks,
        language=batch.languages,
        positions=batch.positions,
        words=batch.words,
    )
    by_task = {
        task: F.cross_entropy(logits.float(), batch.labels[task])
        for task, logits in output.task_logits.items()
    }
    by_task |= {
        task: scores.loss(batch.heads[task], batch.labels[task])
        for task, scores in output.parses.items()
    }
    drawn = sum(batch.drawn.values())
    weighted = [loss * (batch.drawn[task] / drawn) for task, loss in by_task.items()]
    total = torch.stack(weighted).sum()
    return BatchLoss(total, {task: loss.detach() for task, loss in by_task.items()})


def read_once(
    losses: Sequence[Mapping[str, Tensor]], norm: Tensor
) -> tuple[list[dict[str, float]], float]:
    """Fetch the losses of a step's batches and the norm of its gradient from the device together.

    A GPU is waited for at each reading, so there is one a step.

    Args:
        losses: of each batch by task.
        norm: of the gradient.
    """
    every = [loss for by_task in losses for loss in by_task.values()]
    values = iter(torch.stack([*every, norm]).tolist())
    return [{task: next(values) for task in by_task} for by_task in losses], next(values)


def check_finite(losses: Mapping[str, float], batch: Batch, step: int) -> None:
    """Raise `HyperlectError` where training has diverged: no later step would mend it.

    Args:
        losses: of the batch by task.
        batch: whose cells are named.
        step: counted from 1.
    """
    for task, loss in losses.items():
        if not math.isfinite(loss):
            cells = ", ".join(sorted({str(cell) for cell in batch.cells if cell.task == task}))
            raise HyperlectError(
                f"The loss of {cells} is {loss} at step {step}: training has diverged. {REMEDY}"
            )


def check_gradient(norm: float, step: int) -> None:
    """Raise `HyperlectError` where a gradient is not finite, before it gets into the weights.

    Args:
        norm: of the gradient of all parameters.
        step: counted from 1.
    """
    if not math.isfinite(norm):
        raise HyperlectError(
            f"The gradient at step {step} is not finite: training has diverged. {REMEDY}"
        )
