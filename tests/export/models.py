"""Tiny models with generated LoRA on an encoder that lies in a folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hyperlect.export import export
from hyperlect.grid import Cell
from hyperlect.model import HyperX
from hyperlect.tasks import Task, TaskType
from tests.model.models import LANGUAGES, TASKS, padded, tiny_model
from tests.tiny import saved_backbone

DEP = Task("dep", TaskType.PARSING, ("det", "nsubj", "root"))
CLOSE = {"rtol": 1e-5, "atol": 1e-5}


def lora_model(folder: Path, family: str = "bert", **settings: Any) -> HyperX:
    """Return a model whose LoRA acts on four projections, two of them in one module in some."""
    hypernet: dict[str, Any] = {"adapter": "lora", "lora_rank": 3, "lora_alpha": 7.0}
    hypernet["lora_targets"] = ("query", "value", "output", "down")
    hypernet |= settings.pop("hypernet", {})
    languages = ("tur",) if settings.get("method") == "mad-x" else LANGUAGES
    model = tiny_model(
        saved_backbone(folder / "backbone", family),
        hypernet=hypernet,
        tasks=(*TASKS, DEP),
        languages=languages,
        **settings,
    )
    if settings.get("train_layer_norms"):
        for _, parameter in model.backbone.layer_norms():
            parameter.data += 0.1
    return model


def run_usage(model: HyperX, form: str, cell: Cell, folder: Path, encoder: bool) -> dict[str, Any]:
    """Export a cell, and run the Python that the folder's page gives; return its variables."""
    export(model, form, folder, *cell, encoder=encoder)
    page = (folder / "README.md").read_text(encoding="utf-8")
    code = page.partition("```python\n")[2].partition("```")[0]
    place = folder / "encoder" if encoder else Path(model.backbone.reference)
    code = code.replace("FOLDER", folder.as_posix()).replace("ENCODER", place.as_posix())
    ids, mask = padded(model.backbone)
    variables = {"inputs": {"input_ids": ids, "attention_mask": mask}}
    with torch.no_grad():
        exec(code, variables)
    return variables


@torch.no_grad()
def expected(model: HyperX, cell: Cell) -> tuple[Tensor, Tensor, Tensor]:
    """Return what the model computes: states and logits, with the mask of what counts."""
    ids, mask = padded(model.backbone)
    words = mask.cumsum(dim=1) - 1
    out = model(ids, mask, task=cell.task, language=cell.language, words=words)
    scores = out.scores[cell.task]
    logits = scores if isinstance(scores, Tensor) else scores.arcs
    return out.last_hidden_state, logits, mask.bool()


def assert_same(model: HyperX, cell: Cell, variables: Mapping[str, Any]) -> None:
    """Compare the logits; of a head that lies beside and is not linear, the states."""
    states, logits, real = expected(model, cell)
    if "logits" not in variables:
        torch.testing.assert_close(variables["hidden"][real], states[real], **CLOSE)
        return
    theirs, by_word = variables["logits"], logits.dim() == 3
    torch.testing.assert_close(
        *((theirs[real], logits[real]) if by_word else (theirs, logits)), **CLOSE
    )
