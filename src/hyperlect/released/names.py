"""The names that the released code gives its tensors, and those that they have here."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from ..errors import Problems, RunError

ENCODER = "encoder."
_HYPERNET = "encoder.encoder.hypernet."
_SOURCE = "encoder.encoder.hypernet_source_controller."
HEADS = "taskmodels_dict."

# The released code's generators and ordinary LayerNorms → the adapter weight that each makes.
_GENERATORS = {
    "meta_down_sampler.weight_generator.0": "down_weight",
    "meta_down_sampler.bias_generator.0": "down_bias",
    "meta_up_sampler.weight_generator.0": "up_weight",
    "meta_up_sampler.bias_generator.0": "up_bias",
    "post_layernorm_hypernet.weight_generator": "after_weight",
    "post_layernorm_hypernet.bias_generator": "after_bias",
    "pre_layernorm_hypernet.weight_generator": "before_weight",
    "pre_layernorm_hypernet.bias_generator": "before_bias",
}
_NORMS = {"post_layer_norm": "after", "pre_layer_norm": "before"}
_HEADS = {
    "cls.weight": "linear.weight",
    "cls.bias": "linear.bias",
    "biaffine_arcs.weight": "arcs.weight",
    "biaffine_rels.weight": "relations.weight",
    "cls.predictions.bias": "bias",
    "cls.predictions.transform.dense.weight": "dense.weight",
    "cls.predictions.transform.dense.bias": "dense.bias",
    "cls.predictions.transform.LayerNorm.weight": "norm.weight",
    "cls.predictions.transform.LayerNorm.bias": "norm.bias",
    "cls.predictions.decoder.weight": "decoder",
}
DECODER = f"{HEADS}mlm.cls.predictions.decoder.weight"
_DECODER_BIAS = f"{HEADS}mlm.cls.predictions.decoder.bias"
_BIAS = f"{HEADS}mlm.cls.predictions.bias"
_EMBEDDINGS = f"{ENCODER}embeddings.word_embeddings.weight"
# What an encoder may bring and no model of the released code reads.
_UNREAD = (
    f"{ENCODER}embeddings.position_ids",
    f"{ENCODER}pooler.dense.weight",
    f"{ENCODER}pooler.dense.bias",
)


def without_repeats(
    tensors: Iterable[tuple[str, Tensor]], arguments: Mapping[str, Any]
) -> dict[str, Tensor]:
    """Keep one of every tensor that the released code holds under several names.

    Args:
        tensors: under their names there; what repeats is let go at once.
        arguments: the released code's.

    Returns:
        The tensors under the names that `rename` takes, whichever of their names they came under.

    Raises:
        RunError: copies differ, every one named; or layers hold the hypernetwork, and by the
            arguments they do not.
    """
    kept: dict[str, Tensor] = {}
    problems = Problems()
    for name, tensor in tensors:
        once = _main_name(name, arguments)
        if once not in kept:
            kept[once] = tensor
        elif not same(kept[once], tensor):
            problems.add(f"{name} differs from another copy of {once}")
    problems.raise_if_any(RunError, "Tensors that are one in the released code are not equal:")
    return kept


def _main_name(name: str, arguments: Mapping[str, Any]) -> str:
    """Return the name that stands for all those of a tensor.

    The encoder is part of each task's model. Where adapters act inside the layers, a forward pass
    leaves in every layer the generator it was given: the only one, or its own. The decoder of `mlm`
    has the head's bias.
    """
    name = re.sub(rf"^{HEADS}[^.]+\.bert\.", ENCODER, name)
    inside = re.fullmatch(rf"{ENCODER}encoder\.layer\.(\d+)\.output\.hypernet\.(.+)", name)
    if inside is None:
        return _BIAS if name == _DECODER_BIAS else name
    if arguments["after_layer_output"]:
        raise RunError(
            f"after_layer_output cannot be true of a checkpoint that holds {name}: layers hold the "
            "hypernetwork only where adapters act inside them."
        )
    layer = "" if arguments["condition_to_layer_id"] else f"{inside[1]}."
    return f"{_HYPERNET}{layer}{inside[2]}"


def same(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors are equal bit for bit, in type and shape too."""
    return one.dtype == other.dtype and torch.equal(one, other)


def decoder_is_tied(state: Mapping[str, Tensor]) -> bool:
    """Whether `mlm` decodes with the word embeddings, as it does there where it is the first task.

    They have one name among parameters then, and both in a state dict.
    """
    if DECODER not in state:
        return True
    return _EMBEDDINGS in state and same(state[DECODER], state[_EMBEDDINGS])


def rename(
    state: Mapping[str, Tensor],
    arguments: Mapping[str, Any],
    layers: int,
    wanted: Collection[str] = (),
) -> dict[str, Tensor]:
    """Give every tensor the name it has here.

    Args:
        state: under the released code's names, without repeats.
        arguments: its arguments, which order tasks and languages.
        layers: how many the encoder has.
        wanted: names here; if anything is wrong, it is told too which of them are missing.

    Raises:
        RunError: tensors fit nowhere or are missing from what becomes one tensor, every one named.
    """
    renamed: dict[str, Tensor] = {}
    stacks: dict[str, dict[int, tuple[str, Tensor]]] = {}
    problems = Problems()
    shared = bool(arguments["condition_to_layer_id"])
    order = {
        "task_embeddings": ("task", list(arguments["tasks"])),
        "lang_embeddings": ("language", list(arguments["languages"])),
        "layer_id_embeddings": ("layer", [f"layer:{i}" for i in range(layers) if shared]),
    }
    for name, tensor in state.items():
        if name in _UNREAD:
            continue
        key, row = _place(name, order, shared)
        if key is None:
            problems.add(f"{name} is unexpected")
        elif row is None:
            renamed[key] = tensor
        else:
            stacks.setdefault(key, {})[row] = name, tensor
    counts = {f"adapters.source.embeddings.{source}": len(rows) for source, rows in order.values()}
    for key, rows in stacks.items():
        _check_rows(key, rows, counts.get(key, 1 if shared else layers), problems)
    if problems:  # the same fault seen from the other side
        for key in sorted(set(wanted) - renamed.keys() - stacks.keys()):
            problems.add(f"{key} is missing")
    problems.raise_if_any(RunError, "These tensors are not of a model of the released code:")
    for key, rows in stacks.items():
        renamed[key] = torch.stack([rows[i][1] for i in sorted(rows)])
    return renamed


def _place(
    name: str, order: Mapping[str, tuple[str, list[str]]], shared: bool
) -> tuple[str | None, int | None]:
    """Return the name that a tensor has here, and its row where several become one.

    A name of None means that there is no such tensor in the released code.
    """
    if name.startswith(_SOURCE):
        table, _, entry = name.removeprefix(_SOURCE).partition(".")
        if table == "source_embedding_MLP":
            return f"adapters.source.project.{entry}", None
        source, entries = order.get(table, ("", []))
        if entry in entries:
            return f"adapters.source.embeddings.{source}", entries.index(entry)
    elif name.startswith(_HYPERNET):
        return _generator_place(name.removeprefix(_HYPERNET), shared)
    elif name.startswith(HEADS):
        task, _, rest = name.removeprefix(HEADS).partition(".")
        if rest in _HEADS:
            return f"heads.{task}.{_HEADS[rest]}", None
    elif name.startswith(ENCODER):
        return f"backbone.encoder.{name.removeprefix(ENCODER)}", None
    return None, None


def _generator_place(name: str, shared: bool) -> tuple[str | None, int | None]:
    """Do the same for ``[{layer}.]{module}.{weight|bias}``; only a shared one has no layer."""
    match = re.fullmatch(r"(?:(\d+)\.)?(.+)\.(weight|bias)", name)
    if match is None or (match[1] is None) != shared:
        return None, None
    layer = None if shared else int(match[1])
    if match[2] in _GENERATORS:
        return f"adapters.generator.maps.{_GENERATORS[match[2]]}.{match[3]}", layer
    if match[2] in _NORMS:
        return f"adapters.generator.norms.{_NORMS[match[2]]}_{match[3]}", layer or 0
    return None, None


def _check_rows(
    key: str, rows: Mapping[int, tuple[str, Tensor]], count: int, problems: Problems
) -> None:
    """Note which of the tensors that become one here are missing, left over or mis-shaped."""
    for row in sorted(set(range(count)) - rows.keys()):
        problems.add(f"{key} lacks its row {row}")
    shape = next(iter(rows.values()))[1].shape
    for row, (name, tensor) in rows.items():
        if row >= count:
            problems.add(f"{name} is unexpected")
        elif tensor.shape != shape:
            problems.add(f"{name} has the shape {tuple(tensor.shape)}, others {tuple(shape)}")


def label_counts(state: Mapping[str, Tensor]) -> dict[str, int]:
    """Return how many labels each head scores, by task; `mlm` has none."""
    counts = {}
    for name, tensor in state.items():
        task, _, rest = name.removeprefix(HEADS).partition(".")
        scored = _HEADS.get(rest) in ("linear.weight", "relations.weight")
        if name.startswith(HEADS) and scored:
            counts[task] = len(tensor)
    return counts
