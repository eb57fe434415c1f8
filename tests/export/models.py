"""Tiny models with generated LoRA on an encoder that lies in a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hyperlect.model import HyperX
from hyperlect.tasks import Task, TaskType
from tests.hypernet import twin
from tests.model.models import LANGUAGES, TASKS, tiny_model
from tests.tiny import saved_backbone

DEP = Task("dep", TaskType.PARSING, ("det", "nsubj", "root"))


def lora_model(folder: Path, family: str = "bert", **settings: Any) -> HyperX:
    """Return a model whose LoRA acts on four projections, two of them in one module in some."""
    hypernet: dict[str, Any] = {"adapter": "lora", "lora_rank": 3, "lora_alpha": 7.0}
    hypernet["lora_targets"] = ("query", "value", "output", "down")
    hypernet |= settings.pop("hypernet", {})
    languages = ("tur",) if settings.get("method") == "mad-x" else LANGUAGES
    model = tiny_model(
        saved_backbone(folder / "encoder", family),
        hypernet=hypernet,
        tasks=(*TASKS, DEP),
        languages=languages,
        **settings,
    )
    if settings.get("train_layer_norms"):
        for _, parameter in model.backbone.layer_norms():
            parameter.data += 0.1
    twin.liven(model.heads)
    return model
