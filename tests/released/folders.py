"""Checkpoint folders as the released code writes them, and the encoder they were trained on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import BertForMaskedLM

from tests.released.twin import CONFIG, released, saved
from tests.tiny import tiny_tokenizer

TRAINED = ["ner#en", "pos#tr", "mlm#fo"]


def checkpoint(
    folder: Path, changes: dict[str, Any] | None = None
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Write ``encoder`` and ``arguments.json`` into a folder, and a checkpoint ``old``."""
    arguments, state = released(changes or {})
    arguments |= {"train_task_language_pairs": TRAINED, "model_name_or_path": f"{folder}/encoder"}
    write_encoder(folder / "encoder", state)
    write_state(folder / "old", arguments, state)
    (folder / "old" / "hyperx_args.bin").write_bytes(b"\x80\x04no pickle is read.")
    given = {**arguments, "learning_rate": 1e-4, "lr_scheduler_type": "polynomial", "fp16": True}
    (folder / "arguments.json").write_text(json.dumps(given))
    return arguments, state


def write_encoder(folder: Path, state: dict[str, Tensor]) -> None:
    model = BertForMaskedLM(CONFIG)
    own = model.bert.state_dict()
    model.bert.load_state_dict({name: state[f"encoder.{name}"] for name in own})
    model.save_pretrained(folder)
    tiny_tokenizer("bert").save_pretrained(folder)


def write_state(folder: Path, arguments: dict[str, Any], state: dict[str, Tensor]) -> None:
    """Write one file a task, all of its state dict: a head, and the encoder with all it holds."""
    whole = saved(arguments, state)
    for task in arguments["tasks"]:
        prefix = f"taskmodels_dict.{task}."
        own = {k.removeprefix(prefix): t for k, t in whole.items() if k.startswith(prefix)}
        (folder / f"{task}_model").mkdir(parents=True, exist_ok=True)
        torch.save(own, folder / f"{task}_model" / "pytorch_model.bin")
