"""The LoRA of one cell as a folder that the library peft loads over the unchanged encoder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor
from torch.nn import functional as F

from ..backbone import BUILTIN
from ..grid import Cell
from ..model import HyperX
from ..run_folder import save_tensors, write_json
from .adapters import HEAD, scoring
from .merged import CLASSIFIER, auto_class, empty_model, has_classifier, head_tensors, lora_factors

_INSIDE = "base_model.model."


def export_peft(model: HyperX, cell: Cell, folder: Path) -> None:
    """Write the LoRA and the head of one cell for peft: adapter_config.json and its tensors.

    All modules have one rank, the highest; the other pairs are filled up with zeros. A head that
    transformers has no equal of lies beside, in `HEAD`.

    Args:
        model: one with LoRA.
        cell: one that the model applies to.
        folder: is empty.

    Raises:
        HyperlectError: the adapters are no LoRA.
    """
    factors = lora_factors(model, cell)
    target, head = empty_model(model, cell), head_tensors(model, cell)
    carried = has_classifier(target)
    prefix = f"{target.base_model_prefix}." if carried else ""
    rank = max(len(a) for a, _ in factors.values())
    reference, tensors = model.backbone.reference, dict[str, Tensor]()
    is_on_hub = not (reference.startswith(BUILTIN) or Path(reference).exists())
    for path, (a, b) in factors.items():
        tensors[f"{_INSIDE}{prefix}{path}.lora_A.weight"] = F.pad(a, (0, 0, 0, rank - len(a)))
        tensors[f"{_INSIDE}{prefix}{path}.lora_B.weight"] = F.pad(b, (0, rank - b.shape[1]))
    config: dict[str, Any] = {
        "peft_type": "LORA",
        "task_type": "TOKEN_CLS" if carried else "FEATURE_EXTRACTION",
        # The path of a machine means nothing elsewhere.
        "base_model_name_or_path": reference if is_on_hub else None,
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
        names = {name: name.replace("linear", CLASSIFIER) for name in head}
        tensors |= {f"{_INSIDE}{new}": head[name] for name, new in names.items()}
    else:
        save_tensors(head, folder / HEAD)
    save_tensors(tensors, folder / "adapter_model.safetensors", {"format": "pt"})
    write_json(folder / "adapter_config.json", config)


def peft_usage(model: HyperX, cell: Cell | None) -> str:
    """Return the Python that loads the folder and computes what the model does."""
    assert cell is not None
    target = empty_model(model, cell)
    kind, labels = auto_class(target), dict(enumerate(model.task(cell.task).labels))
    named = f", id2label={labels}" if has_classifier(target) else ""
    lines = [
        "from peft import PeftModel",
        f"from transformers import {kind}",
        f'encoder = {kind}.from_pretrained("ENCODER"{named})',
        'model = PeftModel.from_pretrained(encoder, "FOLDER")',
    ]
    return "\n".join([*lines, *scoring(model, cell, has_classifier(target))])
