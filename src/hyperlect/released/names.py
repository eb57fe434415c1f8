"""The names that the released code gives its tensors, and those that they have here."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
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
_PARTS = {
    "biaffine_arcs.weight": "arcs.weight",
    "biaffine_rels.weight": "relations.weight",
    "predictions.bias": "bias",
    "predictions.transform.dense.weight": "dense.weight",
    "predictions.transform.dense.bias": "dense.bias",
    "predictions.transform.LayerNorm.weight": "norm.weight",
    "predictions.transform.LayerNorm.bias": "norm.bias",
    "predictions.decoder.weight": "decoder",
}


def without_repeats(tensors: Iterable[tuple[str, Tensor]]) -> dict[str, Tensor]:
    """Keep one copy of the encoder, which checkpoints repeat under each task.

    Args:
        tensors: under their names there; what repeats is let go at once.

    Raises:
        RunError: copies differ, every one named.
    """
    kept: dict[str, Tensor] = {}
    problems = Problems()
    for name, tensor in tensors:
        once = re.sub(rf"^{HEADS}[^.]+\.bert\.", ENCODER, name)
        if once not in kept:
            kept[once] = tensor
        elif not same(kept[once], tensor):
            problems.add(f"{name} differs from the same tensor elsewhere")
    problems.raise_if_any(RunError, "The tasks of the released model have different encoders:")
    return kept


def same(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors are equal bit for bit, in type and shape too."""
    return one.dtype == other.dtype and torch.equal(one, other)


def rename(
    state: Mapping[str, Tensor], arguments: Mapping[str, Any], layers: int
) -> dict[str, Tensor]:
    """Give every tensor the name it has here.

    Args:
        state: under the released code's names, without repeats.
        arguments: its arguments, which order tasks and languages.
        layers: how many the encoder has.

    Raises:
        RunError: tensors fit nowhere or are missing from what becomes one tensor, every one named.
    """
    renamed: dict[str, Tensor] = {}
    stacks: dict[str, dict[int, tuple[str, Tensor]]] = {}
    problems = Problems()
    order = {
        "task_embeddings": ("task", list(arguments["tasks"])),
        "lang_embeddings": ("language", list(arguments["languages"])),
        "layer_id_embeddings": ("layer", [f"layer:{i}" for i in range(layers)]),
    }
    for name, tensor in state.items():
        if name.startswith(_SOURCE):
            table, _, entry = name.removeprefix(_SOURCE).partition(".")
            if table == "source_embedding_MLP":
                renamed[f"adapters.source.project.{entry}"] = tensor
            elif table in order and entry in order[table][1]:
                source, entries = order[table]
                key = f"adapters.source.embeddings.{source}"
                stacks.setdefault(key, {})[entries.index(entry)] = name, tensor
            else:
                problems.add(f"{name} is unexpected")
        elif name.startswith(_HYPERNET):
            layer, target = _generator_name(name.removeprefix(_HYPERNET))
            if target is None:
                problems.add(f"{name} is unexpected")
            elif layer is None and ".norms." not in target:
                renamed[target] = tensor
            else:
                stacks.setdefault(target, {})[layer or 0] = name, tensor
        elif name.startswith(HEADS):
            task, _, rest = name.removeprefix(HEADS).partition(".")
            if rest == "cls.predictions.decoder.bias":  # the same as its bias
                continue
            renamed[f"heads.{task}.{_head_name(rest)}"] = tensor
        elif not (name.endswith("position_ids") or ".pooler." in name):
            renamed[f"backbone.encoder.{name.removeprefix(ENCODER)}"] = tensor
    counts = {f"adapters.source.embeddings.{source}": len(rows) for source, rows in order.values()}
    shared = 1 if arguments.get("condition_to_layer_id") else layers
    for key, rows in stacks.items():
        _check_rows(key, rows, counts.get(key, shared), problems)
    problems.raise_if_any(RunError, "These tensors are not of a model of the released code:")
    for key, rows in stacks.items():
        renamed[key] = torch.stack([rows[i][1] for i in sorted(rows)])
    return renamed


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


def _generator_name(name: str) -> tuple[int | None, str | None]:
    """Split ``[{layer}.]{module}.{weight|bias}`` into the layer and the name it has here."""
    match = re.fullmatch(r"(?:(\d+)\.)?(.+)\.(weight|bias)", name)
    if match is None:
        return None, None
    layer = None if match[1] is None else int(match[1])
    if match[2] in _GENERATORS:
        return layer, f"adapters.generator.maps.{_GENERATORS[match[2]]}.{match[3]}"
    if match[2] in _NORMS:
        return layer, f"adapters.generator.norms.{_NORMS[match[2]]}_{match[3]}"
    return layer, None


def _head_name(name: str) -> str:
    rest = name.removeprefix("cls.").removeprefix("classifier.")
    return _PARTS.get(rest, f"linear.{rest}")


def label_counts(state: Mapping[str, Tensor]) -> dict[str, int]:
    """Return how many labels each head scores, by task; `mlm` has none."""
    counts = {}
    for name, tensor in state.items():
        task, _, rest = name.removeprefix(HEADS).partition(".")
        scored = _head_name(rest) in ("linear.weight", "relations.weight")
        if name.startswith(HEADS) and scored:
            counts[task] = len(tensor)
    return counts
