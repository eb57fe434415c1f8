"""The heads of a model, and the rows that each of them scores."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..backbone import Backbone
from ..errors import HyperlectError
from ..grid import Cell
from ..heads import (
    FactorisedHead,
    MlmHead,
    ParserHead,
    ParseScores,
    SequenceHead,
    TokenHead,
)
from ..rows import rows_by_task
from ..tasks import Task, TaskType
from .config import HyperXConfig


def generated_from_latents(task: Task, config: HyperXConfig) -> bool:
    """Say whether a task's head is made from latent vectors of the task and the language."""
    ordinary = (TaskType.MLM, TaskType.PARSING)
    return config.method == "factorised" and task.type not in ordinary


def make_head(task: Task, backbone: Backbone, config: HyperXConfig) -> nn.Module:
    """Make the head of a task as training starts from it."""
    hidden, labels = backbone.hidden_size, len(task.labels)
    match task.type:
        case TaskType.MLM:
            return MlmHead.start(backbone, tied=config.tied_decoder)
        case TaskType.PARSING:
            return ParserHead(hidden, labels, config.parser, config.head_dropout)
        case _ if generated_from_latents(task, config):
            words = task.type.reads_words
            return FactorisedHead(hidden, labels, config.head_dropout, words)
        case TaskType.TAGGING | TaskType.SPANS:
            return TokenHead(hidden, labels, config.head_dropout)
        case TaskType.CLASSIFICATION | TaskType.PAIRS:
            return SequenceHead(hidden, labels, config.head_dropout)


def score_rows(
    heads: nn.ModuleDict,
    cells: Sequence[Cell],
    embeddings: Tensor,
    hidden: Tensor,
    mask: Tensor,
    positions: Tensor | None,
    words: Tensor | None,
    latents: tuple[Tensor, Tensor] | None = None,
) -> tuple[dict[str, Tensor], dict[str, ParseScores]]:
    """Score the rows of each task with its head.

    Args:
        heads: by task.
        cells: of every row.
        embeddings: the backbone's word embeddings.
        hidden, mask, positions, words: (B, T, …), as in `HyperX.forward`.
        latents: for factorised heads: (C, …) of the distinct cells, and (B,), which of them each
            row belongs to.

    Returns:
        `HyperXOutput.task_logits` and `HyperXOutput.parses`.
    """
    logits: dict[str, Tensor] = {}
    parses: dict[str, ParseScores] = {}
    for task, rows in rows_by_task(cells).items():
        own = [hidden, mask, positions, words, None if latents is None else latents[1]]
        if len(rows) < len(cells):
            index = torch.tensor(rows).to(hidden.device, non_blocking=True)
            own = [None if tensor is None else tensor[index] for tensor in own]
        head = heads[task]
        if isinstance(head, ParserHead):
            if own[3] is None:
                raise HyperlectError(f"The task {task} is of words: say where they are (words).")
            parses[task] = head(own[0], own[3])
        elif isinstance(head, MlmHead):
            logits[task] = head(own[0], own[2], embeddings)
        elif isinstance(head, FactorisedHead):
            assert latents is not None
            logits[task] = head(*own[:3], latents[0], own[4])
        else:
            logits[task] = head(*own[:3])
    return logits, parses
