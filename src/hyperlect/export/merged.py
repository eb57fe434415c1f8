"""One cell as a plain transformers folder: its LoRA is added to the encoder's matrices.

The folder costs no more at inference than the encoder does. Linear heads go into
`AutoModelForTokenClassification`, in families where that is one linear layer on the encoder. Other
heads have no equal in transformers, and lie beside the encoder in a file of their own.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ..backbone.loading import quiet
from ..errors import HyperlectError
from ..grid import Cell
from ..heads import FactorisedHead
from ..model import HyperX
from ..run_folder import save_tensors
from .adapters import HEAD, is_linear, scoring

CLASSIFIER = "classifier"
"""The linear layer of token classification in transformers."""


def export_merged(model: HyperX, cell: Cell, folder: Path) -> None:
    """Write one cell as a transformers folder: encoder with merged LoRA, head, tokenizer.

    Trained LayerNorms, and an encoder that was trained as a whole, are in it.

    Args:
        model: one with LoRA, or without adapters.
        cell: any cell, trained or not.
        folder: an existing folder for the files.

    Raises:
        HyperlectError: the adapters are bottlenecks, or the method does not apply to the cell.
        UnknownNameError: there is no such task, or no such language.
    """
    factors = {} if model.adapters is None else lora_factors(model, cell)
    head, target = head_tensors(model, cell), empty_model(model, cell)
    state = {name: t.detach().cpu() for name, t in model.backbone.encoder.state_dict().items()}
    for path, (a, b) in factors.items():
        change = model.config.hypernet.lora_scale * (b.double() @ a.double())
        state[f"{path}.weight"] = (state[f"{path}.weight"].double() + change.cpu()).float()
    # The encoder may have a pooler, which no head reads.
    encoder = {name: state[name] for name in target.base_model.state_dict()}
    target.base_model.load_state_dict(encoder, assign=True)
    if has_classifier(target):
        linear = {name.removeprefix("linear."): t.detach().cpu() for name, t in head.items()}
        target.get_submodule(CLASSIFIER).load_state_dict(linear, assign=True)
    else:
        save_tensors(head, folder / HEAD)
    with quiet():
        model.backbone.save_pretrained(folder, target)


def merged_usage(model: HyperX, cell: Cell | None) -> str:
    """Return the Python that loads the folder and computes what the model does."""
    assert cell is not None
    target = empty_model(model, cell)
    kind = auto_class(target)
    lines = [f"from transformers import {kind}", f'model = {kind}.from_pretrained("FOLDER")']
    return "\n".join([*lines, *scoring(model, cell, has_classifier(target))])


def lora_factors(model: HyperX, cell: Cell) -> dict[str, tuple[Tensor, Tensor]]:
    """Return what a cell's LoRA adds to the encoder's matrices.

    Several targets in one module, and the adapters of mad-x, become one pair of a higher rank.

    Returns:
        The path of a module in the encoder → A (r, in) and B (out, r); `lora_scale` B A is added.

    Raises:
        HyperlectError: the adapters are no LoRA.
    """
    hypernet, family = model.config.hypernet, model.backbone.family
    if model.adapters is None:
        raise HyperlectError(f"The method {model.config.method} has no adapters to write as LoRA.")
    if hypernet.adapter != "lora":
        raise HyperlectError(
            "The model's adapters are bottlenecks. They are not linear, so they can become neither "
            "LoRA nor a part of the encoder's matrices. Export them for the library adapters, or "
            "train with hypernet.adapter: lora."
        )
    pairs: dict[str, list[tuple[Tensor, Tensor]]] = {}
    weights = model.adapter_weights(*cell).unbind()
    for layer, of_layer in zip(hypernet.layers(model.backbone.layers), weights, strict=True):
        for target, projection in family.targets(hypernet.lora_targets).items():
            path = f"{family.layer.format(i=layer)}.{projection.path}"
            for single in of_layer.in_sequence():
                a, b = getattr(single, f"{target}_a"), getattr(single, f"{target}_b")
                after = projection.parts - 1 - projection.part
                whole = F.pad(b, (0, 0, len(b) * projection.part, len(b) * after))
                pairs.setdefault(path, []).append((a, whole))
    return {
        path: (torch.cat([a for a, _ in several]), torch.cat([b for _, b in several], dim=1))
        for path, several in pairs.items()
    }


def head_tensors(model: HyperX, cell: Cell) -> dict[str, Tensor]:
    """Return the tensors of a cell's head; of a generated one, those of the linear map it is."""
    head = model.head(cell.task)
    if not isinstance(head, FactorisedHead):
        return head.state_dict()
    assert model.latents is not None
    with torch.no_grad():
        latents, _ = model.latents.of_rows([model.config.index(cell)])
        parameters = head.affine(latents).view(head.labels, -1)
    weight, bias = parameters[:, :-1].contiguous(), parameters[:, -1].contiguous()
    return {"linear.weight": weight, "linear.bias": bias}


def empty_model(model: HyperX, cell: Cell) -> Any:
    """Return the transformers model of a cell, on the meta device: without any weights.

    It is one for token classification where the head is linear and this is no more than that, else
    a bare encoder. Heads for texts read the mean of all states, as no model for texts does in
    transformers. A linear map of a mean is the mean of linear maps, so they fit in here too.
    """
    from transformers import AutoModel, AutoModelForTokenClassification

    plain = model.backbone.encoder.config
    config = copy.deepcopy(plain)
    with torch.device("meta"):
        if is_linear(model, cell):
            labels = model.task(cell.task).labels
            config.id2label = dict(enumerate(labels))
            config.label2id = {label: number for number, label in enumerate(labels)}
            target = AutoModelForTokenClassification.from_config(config, dtype=torch.float32)
            if has_classifier(target):
                return target
        pooler = {"add_pooling_layer": False} if model.backbone.family.pooler else {}
        return AutoModel.from_config(copy.deepcopy(plain), dtype=torch.float32, **pooler)


def has_classifier(target: Any) -> bool:
    """Whether a transformers model is an encoder with one linear layer for labels, and no more."""
    inside = f"{target.base_model_prefix}."
    others = {name for name in target.state_dict() if not name.startswith(inside)}
    return others == {f"{CLASSIFIER}.weight", f"{CLASSIFIER}.bias"}


def auto_class(target: Any) -> str:
    """Return the class of transformers that loads a model of `empty_model`."""
    return "AutoModelForTokenClassification" if has_classifier(target) else "AutoModel"
