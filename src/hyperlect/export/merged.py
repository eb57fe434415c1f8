"""One cell as a plain transformers folder: its LoRA is added to the encoder's matrices.

The folder costs no more at inference than the encoder does. The head of a tagger goes into
`AutoModelForTokenClassification`, in families where that is one linear layer on the encoder. Other
heads have no counterpart in transformers: those of texts read the mean of all states, not the first
one. They lie beside the encoder, in `head.safetensors`.
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
from ..heads import ClassificationHead, FactorisedHead, TaggingHead
from ..model import HyperX
from ..run_folder import save_tensors, write_text

HEAD = "head.safetensors"
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
    model.config.require_applicable([cell])
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
        linear = {name: tensor.detach().cpu() for name, tensor in head.items()}
        target.get_submodule(CLASSIFIER).load_state_dict(linear, assign=True)
    else:
        save_tensors(head, folder / HEAD)
    with quiet():
        target.save_pretrained(folder)
    model.tokenizer.save_pretrained(folder)
    kind = auto_class(target)
    code = f'from transformers import {kind}\nmodel = {kind}.from_pretrained("FOLDER")'
    write_text(folder / "README.md", read_me(model, cell, target, code))


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
    """Return the tensors of a cell's head; of a linear one, "weight" (labels, h) and "bias"."""
    head = model.head(cell.task)
    if isinstance(head, FactorisedHead):
        assert model.latents is not None
        with torch.no_grad():
            latents, _ = model.latents.of_rows([model.config.index(cell)])
            parameters = head.affine(latents).view(head.labels, -1)
        return {"weight": parameters[:, :-1].contiguous(), "bias": parameters[:, -1].contiguous()}
    linear = isinstance(head, TaggingHead | ClassificationHead)
    return (head.get_submodule("linear") if linear else head).state_dict()


def empty_model(model: HyperX, cell: Cell) -> Any:
    """Return the transformers model of a cell, on the meta device: without any weights.

    It is one for token classification where this has the form of the cell's head, else a bare
    encoder.
    """
    from transformers import AutoModel, AutoModelForTokenClassification

    encoder: Any = model.backbone.encoder
    config, head = copy.deepcopy(encoder.config), model.head(cell.task)
    with torch.device("meta"):
        if isinstance(head, TaggingHead) or (isinstance(head, FactorisedHead) and head.words):
            labels = model.task(cell.task).labels
            config.id2label = dict(enumerate(labels))
            config.label2id = {label: number for number, label in enumerate(labels)}
            target = AutoModelForTokenClassification.from_config(config, dtype=torch.float32)
            if has_classifier(target):
                return target
        pooler = {"add_pooling_layer": False} if model.backbone.family.pooler else {}
        plain = copy.deepcopy(encoder.config)
        return AutoModel.from_config(plain, dtype=torch.float32, **pooler)


def has_classifier(target: Any) -> bool:
    """Whether a transformers model is an encoder with one linear layer for labels, and no more."""
    inside = f"{target.base_model_prefix}."
    others = {name for name in target.state_dict() if not name.startswith(inside)}
    return others == {f"{CLASSIFIER}.weight", f"{CLASSIFIER}.bias"}


def auto_class(target: Any) -> str:
    """Return the class of transformers that loads a model of `empty_model`."""
    return "AutoModelForTokenClassification" if has_classifier(target) else "AutoModel"


def read_me(model: HyperX, cell: Cell, target: Any, code: str) -> str:
    """Return a page that says how a folder is loaded, and what its head reads."""
    task, head = model.task(cell.task), model.head(cell.task)
    words = isinstance(head, TaggingHead) or (isinstance(head, FactorisedHead) and head.words)
    states = "the state of each word's first sub-word" if words else "the mean of all states"
    if has_classifier(target):
        form = "The model scores every sub-word. The label of a word is that of its first one."
    elif isinstance(head, TaggingHead | ClassificationHead | FactorisedHead):
        form = (
            f"transformers has no head of this form here, so it lies beside, in {HEAD}: the "
            f"logits are weight @ x + bias, x being {states} (the encoder's last_hidden_state, "
            "without padding)."
        )
    else:
        form = (
            f"transformers has no head of this form, so its tensors lie beside, in {HEAD}, under "
            f"the names of hyperlect.heads.{type(head).__name__}, which computes the scores."
        )
    labels = f"\n\nLabels: {', '.join(task.labels)}." if task.labels else ""
    return f"# {cell.task} in {cell.language}\n\n```python\n{code}\n```\n\n{form}{labels}\n"
