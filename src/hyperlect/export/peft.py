"""The LoRA of one cell as a folder that the library peft loads over the unchanged encoder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor
from torch.nn import functional as F

from ..backbone import BUILTIN
from ..errors import HyperlectError
from ..grid import Cell
from ..model import HyperX
from ..run_folder import save_tensors, write_json, write_text
from .merged import (
    CLASSIFIER,
    HEAD,
    auto_class,
    empty_model,
    has_classifier,
    head_tensors,
    lora_factors,
    read_me,
)

_INSIDE = "base_model.model."


def export_peft(model: HyperX, cell: Cell, folder: Path) -> None:
    """Write the LoRA and the head of one cell for peft: adapter_config.json and its tensors.

    All modules have one rank, the highest; the other pairs are filled up with zeros. The head is
    in the folder as `export_merged` has it: as the classifier, or beside, in `head.safetensors`.

    Args:
        model: one with LoRA.
        cell: any cell, trained or not.
        folder: an existing folder for the files.

    Raises:
        HyperlectError: the adapters are no LoRA, LayerNorms were trained, or the method does not
            apply to the cell.
        UnknownNameError: there is no such task, or no such language.
    """
    factors = lora_factors(model, cell)
    if model.config.train_layer_norms:
        raise HyperlectError(
            "The encoder's LayerNorms were trained too, and a peft folder holds no part of the "
            "encoder. Export the cell as merged."
        )
    target, head = empty_model(model, cell), head_tensors(model, cell)
    carried = has_classifier(target)
    prefix = f"{target.base_model_prefix}." if carried else ""
    reference = model.backbone.reference
    builtin = reference.startswith(BUILTIN)
    rank = max(len(a) for a, _ in factors.values())
    tensors: dict[str, Tensor] = {}
    for path, (a, b) in factors.items():
        tensors[f"{_INSIDE}{prefix}{path}.lora_A.weight"] = F.pad(a, (0, 0, 0, rank - len(a)))
        tensors[f"{_INSIDE}{prefix}{path}.lora_B.weight"] = F.pad(b, (0, rank - b.shape[1]))
    config: dict[str, Any] = {
        "peft_type": "LORA",
        "task_type": "TOKEN_CLS" if carried else "FEATURE_EXTRACTION",
        "base_model_name_or_path": None if builtin else reference,
        "revision": model.backbone.revision,
        "r": rank,
        "lora_alpha": model.config.hypernet.lora_scale * rank,
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": False,
        "target_modules": [f"{prefix}{path}" for path in factors],
        "modules_to_save": [CLASSIFIER] if carried else None,
        "inference_mode": True,
    }
    if carried:
        tensors |= {f"{_INSIDE}{CLASSIFIER}.{name}": tensor for name, tensor in head.items()}
    else:
        save_tensors(head, folder / HEAD)
    save_tensors(tensors, folder / "adapter_model.safetensors", {"format": "pt"})
    write_json(folder / "adapter_config.json", config)
    kind, labels = auto_class(target), dict(enumerate(model.task(cell.task).labels))
    name, saved = reference, ""
    if builtin:
        name = "ENCODER"
        saved = (
            "from hyperlect.backbone import load_backbone\n"
            f'load_backbone("{reference}").encoder.save_pretrained("{name}")\n'
        )
    code = (
        f"from peft import PeftModel\nfrom transformers import {kind}\n{saved}"
        f'encoder = {kind}.from_pretrained("{name}"{f", id2label={labels}" if carried else ""})\n'
        'model = PeftModel.from_pretrained(encoder, "FOLDER")'
    )
    write_text(folder / "README.md", read_me(model, cell, target, code))
