"""Tiny models whose adapters have a large effect, on a tiny encoder of any family."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from hyperlect.backbone import Backbone
from hyperlect.grid import Cell
from hyperlect.model import HyperX, HyperXConfig
from hyperlect.tasks import Task, TaskType
from tests.hypernet import twin
from tests.tiny import tiny_backbone

POS = Task("pos", TaskType.TAGGING, ("DET", "NOUN", "VERB"))
NER = Task("ner", TaskType.SPANS, ("O", "B-LOC", "I-LOC"), {"GPE": "LOC", "DATE": "O"})
TOPIC = Task("topic", TaskType.CLASSIFICATION, ("animals", "places"))
MLM = Task("mlm", TaskType.MLM)
TASKS = (POS, NER, TOPIC, MLM)
LANGUAGES = ("eng", "isl", "tur")
TRAINED = (Cell("pos", "eng"), Cell("ner", "isl"), Cell("topic", "tur"), Cell("mlm", "tur"))

IDS = torch.tensor([[2, 9, 14, 7, 21, 30, 8, 25, 11, 3], [2, 12, 8, 19, 33, 6, 3, 0, 0, 0]])
MASK = torch.tensor([[1] * 10, [1] * 7 + [0] * 3])
POSITIONS = torch.zeros(2, 10, dtype=torch.bool)
POSITIONS[0, [1, 2, 5]] = POSITIONS[1, [1, 4]] = True


def tiny_model(
    backbone: Backbone | str = "bert",
    method: str = "hyperx",
    hypernet: dict[str, Any] | None = None,
    **settings: Any,
) -> HyperX:
    """Return a model in evaluation mode, every trained parameter off its starting value."""
    backbone = tiny_backbone(backbone) if isinstance(backbone, str) else backbone
    config = HyperXConfig(
        tasks=settings.pop("tasks", TASKS),
        languages=settings.pop("languages", LANGUAGES),
        trained=settings.pop("trained", TRAINED),
        method=method,
        hypernet=twin.small(**(hypernet or {})),
        **settings,
    )
    torch.manual_seed(11)
    model = HyperX(backbone, config)
    if model.adapters is not None:
        twin.liven(model.adapters)
    twin.liven(model.heads)
    return model.eval()


def padded(backbone: Backbone) -> tuple[Tensor, Tensor]:
    """Return `IDS` and `MASK` with the padding of the backbone's tokenizer."""
    return IDS.where(MASK.bool(), backbone.tokenizer.pad_token_id), MASK


def loss(model: HyperX, task: str, language: str) -> Tensor:
    """Return a loss on arbitrary labels of the kind that training has."""
    ids, mask = padded(model.backbone)
    kind = model.task(task).type
    positions = POSITIONS if kind.reads_words or kind is TaskType.MLM else None
    logits = model(ids, mask, task=task, language=language, positions=positions).logits
    return torch.nn.functional.cross_entropy(logits, torch.arange(len(logits)) % 2)
