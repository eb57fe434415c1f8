"""Models of the authors' released code (ahmetustun/hyperx) as hyperlect models.

The released code names its parameters after its own modules; here they are renamed one by one,
and nothing may be missing or left over.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from transformers import BertConfig, BertModel

from .backbone import Backbone, MlmStart
from .errors import Problems, RunError
from .heads import MlmHead
from .hypernet import HypernetConfig
from .model import HyperX, HyperXConfig
from .tasks import DEPREL, Task, TaskType
from .weights import load_exactly

# The labels that the released code gives its word-level tasks, in its order.
_LABELS = {
    "ner": ("O", "B-PER", "I-PER", "B-ORG", "I-ORG", "B-LOC", "I-LOC"),
    "pos": (
        *("NOUN", "PUNCT", "ADP", "NUM", "SYM", "SCONJ", "ADJ", "PART", "DET"),
        *("CCONJ", "PROPN", "PRON", "X", "_", "ADV", "INTJ", "VERB", "AUX"),
    ),
    "dep": ("_", *DEPREL),
}
_TYPES = {"ner": TaskType.SPANS, "pos": TaskType.TAGGING, "dep": TaskType.PARSING}
# Names of non-linearities that differ from those of hyperlect.
_ACTIVATIONS = {"swish": "silu", "gelu_python": "gelu", "leakyrelu": "leaky_relu"}
_ENCODER = "encoder."
_HYPERNET = "encoder.encoder.hypernet."
_SOURCE = "encoder.encoder.hypernet_source_controller."
_HEADS = "taskmodels_dict."

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


def from_released(
    arguments: Mapping[str, Any], encoder_config: Mapping[str, Any], state: Mapping[str, Tensor]
) -> HyperX:
    """Build a `HyperX` from a model of the released code.

    Args:
        arguments: the released code's arguments by its own names (``adapter_dim``,
            ``condition_to_layer_id``, …).
        encoder_config: the configuration of its BERT, with ``num_labels`` by task.
        state: its parameters under its own names (``encoder.encoder.hypernet.…``). The encoder
            may be repeated under each task (``taskmodels_dict.ner.bert.…``), as in its
            checkpoints.

    Returns:
        A model in evaluation mode whose LayerNorms are trainable, as they are there. Labels have
        the released code's names where their number is the released one, else numbers. Saving the
        model records the argument ``model_name_or_path`` as its backbone.

    Raises:
        RunError: tensors are missing, left over or mis-shaped, every one named; or hyperlect
            cannot do what the arguments say.
    """
    names = _without_repeats({k.removeprefix("param/"): tensor for k, tensor in state.items()})
    num_labels = encoder_config.get("num_labels", {})
    try:
        config = HyperXConfig(
            tasks=tuple(_task(name, num_labels) for name in arguments["tasks"]),
            languages=tuple(arguments["languages"]),
            method="head" if arguments.get("no_hypernet") else "hyperx",
            hypernet=_hypernet_config(arguments),
            train_layer_norms=True,
            head_dropout=encoder_config.get("hidden_dropout_prob", 0.1),
            parser="direct",
            # Which of the two it is depends on the order of the tasks there.
            tied_decoder=not any(name.endswith("predictions.decoder.weight") for name in names),
        )
    except ValueError as error:
        raise RunError(
            f"These arguments of the released code are not supported: {error}."
        ) from error
    model = HyperX(_backbone(arguments, encoder_config), config)
    target = dict(model.named_parameters())
    load_exactly(target, _rename(names, arguments, model.backbone.layers))
    return model.eval()


def _without_repeats(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Keep one copy of the encoder, which checkpoints repeat under each task."""
    kept: dict[str, Tensor] = {}
    problems = Problems()
    for name, tensor in state.items():
        once = re.sub(rf"^{_HEADS}[^.]+\.bert\.", _ENCODER, name)
        if once not in kept:
            kept[once] = tensor
        elif not torch.equal(kept[once], tensor):
            problems.add(f"{name} differs from the same tensor elsewhere")
    problems.raise_if_any(RunError, "The tasks of the released model have different encoders:")
    return kept


def _backbone(arguments: Mapping[str, Any], encoder_config: Mapping[str, Any]) -> Backbone:
    sizes = {key: value for key, value in encoder_config.items() if key != "num_labels"}
    bert = BertConfig(**sizes)
    head = MlmHead(bert.hidden_size, bert.vocab_size)  # for its shapes: the weights are loaded
    start = MlmStart(bert.hidden_act, bert.layer_norm_eps, head.state_dict())
    encoder = BertModel(bert, add_pooling_layer=False)
    reference = arguments.get("model_name_or_path") or ""
    return Backbone(encoder, reference=reference, mlm_start=start)


def _task(name: str, num_labels: Mapping[str, int]) -> Task:
    if name == "mlm":
        return Task(name, TaskType.MLM)
    if name not in _LABELS:
        raise RunError(f'The released code has no task "{name}"; it has {", ".join(_LABELS)}, mlm.')
    count = num_labels.get(name, len(_LABELS[name]))
    if count == len(_LABELS[name]):
        return Task(name, _TYPES[name], _LABELS[name])
    # Numbers are no IOB2 tags, so what they mark cannot be scored as spans.
    task_type = TaskType.TAGGING if name == "ner" else _TYPES[name]
    return Task(name, task_type, tuple(map(str, range(count))))


def _hypernet_config(arguments: Mapping[str, Any]) -> HypernetConfig:
    def norm(place: str) -> str:
        if not arguments.get(f"add_layer_norm_{place}_adapter"):
            return "none"
        return "generated" if arguments.get("conditional_layer_norm") else "ordinary"

    projected = arguments.get("project_source_embeddings")
    layered = arguments.get("condition_to_layer_id")
    activation = arguments.get("adapter_non_linearity", "relu").lower()
    return HypernetConfig(
        bottleneck=arguments["adapter_dim"],
        projection=arguments["projected_source_embedding_dim"] if projected else None,
        task_embedding=arguments["task_embedding_dim"],
        language_embedding=arguments["language_embedding_dim"],
        layer_embedding=arguments["layer_id_embedding_dim"],
        source_hidden=arguments["source_hidden_dim"],
        sources=("task", "language", "layer") if layered else ("task", "language"),
        norm_before=norm("before"),  # type: ignore[arg-type]
        norm_after=norm("after"),  # type: ignore[arg-type]
        insertion="layer" if arguments.get("after_layer_output") else "feed_forward",
        activation=_ACTIVATIONS.get(activation, activation),
    )


def _rename(
    state: Mapping[str, Tensor], arguments: Mapping[str, Any], layers: int
) -> dict[str, Tensor]:
    """Give every tensor the name it has here. Raises `RunError` for those that fit nowhere."""
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
        elif name.startswith(_HEADS):
            task, _, rest = name.removeprefix(_HEADS).partition(".")
            if rest == "cls.predictions.decoder.bias":  # the same as its bias
                continue
            renamed[f"heads.{task}.{_head_name(rest)}"] = tensor
        elif not (name.endswith("position_ids") or ".pooler." in name):
            renamed[f"backbone.encoder.{name.removeprefix(_ENCODER)}"] = tensor
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
