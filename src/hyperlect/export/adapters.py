"""A cell as a folder that the library `adapters` loads (AdapterHub).

The library's bottleneck adapters compute what `hypernet.adapter.adapt` does. Names of tensors and
fields are those of adapters 1.3.0. A wrong name raises nothing there: random weights stay in place,
and only the loading information says so. `make peers` loads exports in the library itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import HyperlectError, Problems
from ..grid import Cell
from ..heads import ClassificationHead, FactorisedHead, ParserHead, TaggingHead
from ..hypernet import AdapterWeights
from ..methods import METHODS
from ..model import HyperX
from ..run_folder import save_tensors, write_json

VERSION = "adapters.1.3.0"
HEAD = "hyperlect_head.safetensors"
"""The tensors of a head that the library has no equal of."""
NORM_EPS = 1e-5
"""Epsilon of the LayerNorms of the library's adapters, which cannot be set."""

_LAYER = "encoder.layer.{i}.output"
FAMILIES = {
    "bert": ("BertAdapterModel", f"bert.{_LAYER}"),
    "xlm-roberta": ("XLMRobertaAdapterModel", f"roberta.{_LAYER}"),
    "roberta": ("RobertaAdapterModel", f"roberta.{_LAYER}"),
    "deberta-v2": ("DebertaV2AdapterModel", f"deberta.{_LAYER}"),
    "distilbert": ("DistilBertAdapterModel", "distilbert.transformer.layer.{i}.output_adapters"),
    "modernbert": ("", "model.layers.{i}.output_adapters"),
}
"""By family: the library's class with heads, if it has one; and the module that holds adapters."""
WITH_PARSER = ("bert", "xlm-roberta", "roberta")
ACTIVATIONS = {"leaky_relu": "leakyrelu"}
"""Names of non-linearities that differ there."""


def export_adapters(model: HyperX, cell: Cell, folder: Path) -> None:
    """Write the adapter and the head of a cell; for mad-x two adapters, which are stacked.

    Where the library has no equal of the head, its tensors lie in a file of their own, `HEAD`.

    Args:
        model: its adapters must have an equal in the library.
        cell: one that the model applies to.
        folder: is empty.

    Raises:
        HyperlectError: they have none; every reason is named.
    """
    _require_equal(model)
    class_name, module = FAMILIES[model.backbone.family.model_type]
    layers = model.config.hypernet.layers(model.backbone.layers)
    reference = model.backbone.reference
    about = {
        "hidden_size": model.backbone.hidden_size,
        "model_class": class_name or type(model.backbone.encoder).__name__,
        # The path of a machine means nothing elsewhere; the library does not read it.
        "model_name": Path(reference).name if Path(reference).exists() else reference,
        "model_type": model.backbone.family.model_type,
        "version": VERSION,
    }
    stages = model.adapter_weights(*cell).in_sequence(leading=1)
    for weights, (name, place) in zip(stages, _stages(model, cell, folder), strict=True):
        config = _adapter_config(model, weights, is_first=weights is stages[0])
        tensors = _attention_biases(model)
        for layer, of_layer in zip(layers, weights.unbind(), strict=True):
            path = f"{module.format(i=layer)}.adapters.{name}"
            tensors |= {f"{path}.{key}": tensor for key, tensor in _adapter_tensors(of_layer)}
        files = ("adapter_config.json", "adapter.safetensors", "pytorch_adapter.bin")
        _write(place, files, {**about, "name": name, "config": config}, tensors)
    if head := _head(model, cell):
        config, tensors = head
        tensors = {f"heads.{name}.{key}": tensor for key, tensor in tensors.items()}
        files = ("head_config.json", "model_head.safetensors", "pytorch_model_head.bin")
        _write(place, files, {**about, "name": name, "config": config}, tensors)
    else:
        save_tensors(model.head(cell.task).state_dict(), place / HEAD)


def _require_equal(model: HyperX) -> None:
    """Raise `HyperlectError` with every reason why the library cannot compute the same."""
    problems, config = Problems(), model.config
    norms = [kind for kind in config.hypernet.norms.values() if kind != "none"]
    if METHODS[config.method].trains_encoder:
        problems.add(f"the method {config.method} trains the encoder itself")
    elif model.adapters is None:
        problems.add(f"the method {config.method} has no adapters")
    if config.hypernet.adapter == "lora":
        problems.add("its adapters are LoRA; export them for peft, or merged", key="adapter")
    if model.backbone.family.model_type not in FAMILIES:
        problems.add(f"the library does not know {model.backbone.family.title}")
    if norms and config.hypernet.norm_eps != NORM_EPS:
        problems.add(f"the library's LayerNorms have the epsilon {NORM_EPS}", key="norm_eps")
    if config.hypernet.insertion == "layer" and not _has_heads(model):
        problems.add(
            f"the library has no adapters after the whole layer in {model.backbone.family.title}",
            key="insertion",
        )
    problems.raise_if_any(HyperlectError, "The format adapters cannot carry this model:")


def _has_heads(model: HyperX) -> bool:
    return bool(FAMILIES.get(model.backbone.family.model_type, ("",))[0])


def _stages(model: HyperX, cell: Cell, folder: Path) -> list[tuple[str, Path]]:
    """Return the name and the folder of each adapter, in the order in which they act."""
    if model.config.method == "mad-x":
        return [(cell.language, folder / "language"), (cell.task, folder / "task")]
    return [(f"{cell.task}-{cell.language}", folder)]


def _adapter_config(model: HyperX, weights: AdapterWeights, is_first: bool) -> dict[str, Any]:
    hypernet = model.config.hypernet
    layers = hypernet.layers(model.backbone.layers)
    after_layer = hypernet.insertion == "layer"
    return {
        "architecture": None,
        "mh_adapter": False,
        "output_adapter": True,
        "non_linearity": ACTIVATIONS.get(hypernet.activation, hypernet.activation),
        # Whether the layer's own residual sum and LayerNorm come before the adapter, or after.
        "original_ln_before": after_layer and is_first,
        "original_ln_after": not after_layer,
        "residual_before_ln": not after_layer,
        "adapter_residual_before_ln": False,
        "ln_before": weights.before_weight is not None,
        "ln_after": weights.after_weight is not None,
        # The library takes int(h // reduction_factor); h / b would often give b - 1.
        "reduction_factor": model.backbone.hidden_size / (weights.down_bias.shape[-1] + 0.5),
        "leave_out": [layer for layer in range(model.backbone.layers) if layer not in layers],
    }


def _attention_biases(model: HyperX) -> dict[str, Tensor]:
    """Return zeros for the biases that the library makes up.

    Where a family joins query, key and value (`Wqkv`), version 1.3.0 adds a random bias to a map
    that has none, which changes the encoder. Loading an adapter takes any tensor of the model.
    """
    return {
        f"model.{path}.bias": torch.zeros(module.out_features)
        for path, module in model.backbone.encoder.named_modules()
        if isinstance(module, nn.Linear) and path.endswith(".Wqkv") and module.bias is None
    }


def _adapter_tensors(weights: AdapterWeights) -> list[tuple[str, Tensor]]:
    """Name the weights of one layer as the library does."""
    down, names = "adapter_down.0", {}
    if weights.before_weight is not None:  # the first of a sequence, known by a second name too
        down = "adapter_down.1"
    for kind in ("weight", "bias"):
        names[f"down_{kind}"] = [f"{down}.{kind}"]
        names[f"up_{kind}"] = [f"adapter_up.{kind}"]
        names[f"after_{kind}"] = [f"adapter_norm_after.{kind}"]
        names[f"before_{kind}"] = [f"adapter_norm_before.{kind}", f"adapter_down.0.{kind}"]
    return [(key, tensor) for name, tensor in weights.items() for key in names[name]]


def _head(model: HyperX, cell: Cell) -> tuple[dict[str, Any], dict[str, Tensor]] | None:
    """Return configuration and tensors of the library's equal of a head; None if it has none.

    The library's heads for texts read the first sub-word, and those here the mean. A linear map of
    a mean is the mean of linear maps, so a tagging head whose logits are averaged is the same.
    """
    if not _has_heads(model):
        return None
    head, labels = model.head(cell.task), model.task(cell.task).labels
    encoder, state = model.backbone.encoder.config, head.state_dict()
    config: dict[str, Any] = {
        "num_labels": len(labels),
        "label2id": {label: number for number, label in enumerate(labels)},
    }
    if isinstance(head, TaggingHead | ClassificationHead):
        config |= {"head_type": "tagging", "layers": 1, "activation_function": None}
        config["dropout_prob"] = model.config.head_dropout
        return config, {"1.weight": state["linear.weight"], "1.bias": state["linear.bias"]}
    is_direct = isinstance(head, ParserHead) and head.perceptrons is None
    # The library pads the starts of words with this id, so it must not be the start of one.
    if is_direct and encoder.pad_token_id == 0 and encoder.model_type in WITH_PARSER:
        config["head_type"] = "dependency_parsing"
        names = {"biaffine_arcs": "arcs", "biaffine_rels": "relations"}
        return config, {f"{new}.weight": state[f"{old}.weight"] for new, old in names.items()}
    return None


def _write(
    folder: Path, files: tuple[str, str, str], config: dict[str, Any], tensors: Mapping[str, Tensor]
) -> None:
    """Write a configuration and its tensors, these both as safetensors and as a torch file.

    The library reads the torch file unless it is asked for the other.
    """
    folder.mkdir(exist_ok=True)
    config_file, safetensors_file, torch_file = files
    # A view would drag the tensors of all other layers into the torch file.
    plain = {name: tensor.detach().cpu().clone() for name, tensor in tensors.items()}
    write_json(folder / config_file, config, indent=2)
    save_tensors(plain, folder / safetensors_file)
    torch.save(plain, folder / torch_file)


def adapters_usage(model: HyperX, cell: Cell | None) -> str:
    """Return the Python that loads the folder and computes what the model does."""
    assert cell is not None
    library_head = _head(model, cell)
    (_, place), *others = reversed(_stages(model, cell, Path("FOLDER")))
    if _has_heads(model):
        lines = ["import adapters", 'model = adapters.AutoAdapterModel.from_pretrained("ENCODER")']
    else:
        lines = [
            "import adapters, transformers",
            'model = transformers.AutoModel.from_pretrained("ENCODER")',
            "adapters.init(model)",
        ]
    if others:
        lines += [
            'names = [model.load_adapter(f"FOLDER/{name}") for name in ("language", "task")]',
            "model.active_adapters = adapters.Stack(*names)",
        ]
    else:
        lines += ['model.load_adapter("FOLDER", set_active=True)']
    if library_head and not is_linear(model, cell):
        lines += ["scores = model(**inputs, word_starts=word_starts)"]
    else:
        lines += scoring(model, cell, library_head is not None, place.as_posix())
    return "\n".join(lines)


def is_linear(model: HyperX, cell: Cell) -> bool:
    """Whether a cell's head is a linear map of states, or of their mean."""
    return isinstance(model.head(cell.task), TaggingHead | ClassificationHead | FactorisedHead)


def scoring(model: HyperX, cell: Cell, carried: bool, place: str = "FOLDER") -> list[str]:
    """Return the lines of Python that score tokenized `inputs` with what a library loads.

    Args:
        model, cell: what was exported.
        carried: whether the library has the head; else its tensors lie in `HEAD`.
        place: the folder of that file.
    """
    lines = ["logits = model(**inputs).logits"]
    if not carried:
        lines = [
            "hidden = model(**inputs).last_hidden_state",
            "import safetensors.torch  # the library has no such head",
            f'head = safetensors.torch.load_file("{place}/{HEAD}")',
        ]
        if not is_linear(model, cell):
            return lines
        lines += ['logits = hidden @ head["linear.weight"].T + head["linear.bias"]']
    if model.task(cell.task).type.reads_words:
        return [*lines[:-1], f"{lines[-1]}  # a word has those of its first sub-word"]
    return [
        *lines,
        'mask = inputs["attention_mask"][..., None]  # a text has the mean of its sub-words',
        "logits = (logits * mask).sum(1) / mask.sum(1)",
    ]
