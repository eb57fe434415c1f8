"""Made-up models of the released code, and a plain twin that reads its names.

Nothing here is shared with `hyperlect.released`.
"""

from __future__ import annotations

import itertools
from typing import Any

import torch
from torch import Tensor
from transformers import BertConfig, BertModel

from hyperlect.hypernet import HypernetConfig
from tests.hypernet import twin

HIDDEN, LAYERS, BOTTLENECK = 16, 3, 4
BERT = {
    "vocab_size": 40, "hidden_size": HIDDEN, "num_hidden_layers": LAYERS,
    "num_attention_heads": 2, "intermediate_size": 24, "max_position_embeddings": 16,
    "num_labels": {"ner": 7, "pos": 18},
}  # fmt: skip
CONFIG = BertConfig(**{key: value for key, value in BERT.items() if key != "num_labels"})
ARGUMENTS = {
    "tasks": ["ner", "pos", "mlm"], "languages": ["en", "tr", "fo"],
    "condition_to_layer_id": True, "project_source_embeddings": True,
    "task_embedding_dim": 3, "language_embedding_dim": 4, "layer_id_embedding_dim": 2,
    "projected_source_embedding_dim": 6, "source_hidden_dim": 8, "adapter_dim": BOTTLENECK,
    "adapter_non_linearity": "relu", "add_layer_norm_before_adapter": False,
    "add_layer_norm_after_adapter": True, "conditional_layer_norm": True,
    "no_hypernet": False, "after_layer_output": False,
}  # fmt: skip
OWN = {"condition_to_layer_id": False}
BEFORE = {"add_layer_norm_before_adapter": True}
ORDINARY = {"conditional_layer_norm": False}
VARIANTS: dict[str, dict[str, Any]] = {
    "published": {},
    "no LayerNorm": {"add_layer_norm_after_adapter": False},
    "ordinary LayerNorm after": ORDINARY,
    "generated LayerNorm before": {"add_layer_norm_after_adapter": False, **BEFORE},
    "generated LayerNorm before and after": BEFORE,
    "ordinary LayerNorm before and after": {**BEFORE, **ORDINARY},
    "after the layer": {"after_layer_output": True},
    "after the layer, LayerNorm before": {"after_layer_output": True, **BEFORE, **ORDINARY},
    "one a layer": OWN,
    "one a layer, ordinary LayerNorms": {**OWN, **BEFORE, **ORDINARY},
    "one a layer, generated LayerNorms": {**OWN, **BEFORE},
    "one a layer, unprojected, after the layer": {
        **OWN, "project_source_embeddings": False, "after_layer_output": True,
    },
    "no projection": {"project_source_embeddings": False},
    "gelu": {"adapter_non_linearity": "gelu"},
    "gelu_new": {"adapter_non_linearity": "gelu_new"},
    "gelu by another name": {"adapter_non_linearity": "GELU_python"},
    "swish": {"adapter_non_linearity": "swish"},
    "tanh": {"adapter_non_linearity": "tanh"},
}  # fmt: skip
IDS = torch.tensor([[1, 5, 9, 13, 17, 2], [1, 8, 4, 2, 0, 0]])
MASK = torch.tensor([[1] * 6, [1] * 4 + [0] * 2])
REAL = MASK.bool()
HYPERNET = "encoder.encoder.hypernet"
SOURCE = "encoder.encoder.hypernet_source_controller"
DECODER = "taskmodels_dict.mlm.cls.predictions.decoder.weight"
DECODER_BIAS = "taskmodels_dict.mlm.cls.predictions.decoder.bias"
BIAS = "taskmodels_dict.mlm.cls.predictions.bias"


def released(changes: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Arguments, and random parameters of the names and shapes that the released code has."""
    arguments = {**ARGUMENTS, **changes}
    shapes: dict[str, tuple[int, ...]] = {}

    def linear(name: str, inputs: int, outputs: int) -> None:
        shapes.update({f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)})

    if not arguments["no_hypernet"]:
        _hypernet_shapes(arguments, shapes, linear)
    linear("taskmodels_dict.ner.cls", HIDDEN, 7)
    linear("taskmodels_dict.pos.cls", HIDDEN, 18)
    predictions = "taskmodels_dict.mlm.cls.predictions"
    linear(f"{predictions}.transform.dense", HIDDEN, HIDDEN)
    shapes |= {DECODER: (BERT["vocab_size"], HIDDEN), BIAS: (BERT["vocab_size"],)}
    norm = f"{predictions}.transform.LayerNorm"
    shapes |= {f"{norm}.weight": (HIDDEN,), f"{norm}.bias": (HIDDEN,)}
    torch.manual_seed(3)
    state = {name: 0.4 * torch.randn(shape) for name, shape in shapes.items()}
    encoder = twin.liven(BertModel(CONFIG))
    state |= {f"encoder.{name}": tensor for name, tensor in encoder.state_dict().items()}
    return arguments, state


def in_layers(arguments: dict[str, Any], state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The hypernetwork under the names that a forward pass adds.

    Every layer keeps the generator it was given as a module of its feed-forward output, unless
    adapters act after the layers.
    """
    found = {}
    for layer in range(LAYERS) if not arguments["after_layer_output"] else ():
        place = HYPERNET if arguments["condition_to_layer_id"] else f"{HYPERNET}.{layer}"
        inside = f"encoder.encoder.layer.{layer}.output.hypernet"
        for name, tensor in state.items():
            if name.startswith(f"{place}."):
                found[inside + name.removeprefix(place)] = tensor
    return found


def saved(arguments: dict[str, Any], state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The parameters under all the names that they have in a state dict after a forward pass."""
    whole = {**state, **in_layers(arguments, state), DECODER_BIAS: state[BIAS]}
    whole["encoder.embeddings.position_ids"] = torch.arange(16)[None]
    for name, tensor in list(whole.items()):
        if name.startswith("encoder."):
            rest = name.removeprefix("encoder.")
            whole |= {f"taskmodels_dict.{t}.bert.{rest}": tensor for t in arguments["tasks"]}
    return whole


def _hypernet_shapes(arguments: dict[str, Any], shapes: dict[str, Any], linear: Any) -> None:
    sizes = {
        "task_embeddings": (arguments["tasks"], arguments["task_embedding_dim"]),
        "lang_embeddings": (arguments["languages"], arguments["language_embedding_dim"]),
    }
    places = [f"{HYPERNET}.{i}" for i in range(LAYERS)]
    if arguments["condition_to_layer_id"]:
        places = [HYPERNET]
        layers = [f"layer:{i}" for i in range(LAYERS)]
        sizes["layer_id_embeddings"] = (layers, arguments["layer_id_embedding_dim"])
    p = sum(size for _, size in sizes.values())
    for table, (entries, size) in sizes.items():
        shapes.update({f"{SOURCE}.{table}.{entry}": (size,) for entry in entries})
    if arguments["project_source_embeddings"]:
        inner, out = arguments["source_hidden_dim"], arguments["projected_source_embedding_dim"]
        linear(f"{SOURCE}.source_embedding_MLP.0", p, inner)
        linear(f"{SOURCE}.source_embedding_MLP.2", inner, out)
        p = out
    for place in places:
        for name, outputs in (("up", HIDDEN), ("down", BOTTLENECK)):
            linear(f"{place}.meta_{name}_sampler.weight_generator.0", p, HIDDEN * BOTTLENECK)
            linear(f"{place}.meta_{name}_sampler.bias_generator.0", p, outputs)
        for name, where in (("pre", "before"), ("post", "after")):
            if not arguments[f"add_layer_norm_{where}_adapter"]:
                continue
            if arguments["conditional_layer_norm"]:
                linear(f"{place}.{name}_layernorm_hypernet.weight_generator", p, HIDDEN)
                linear(f"{place}.{name}_layernorm_hypernet.bias_generator", p, HIDDEN)
            else:
                norm = f"{place}.{name}_layer_norm"
                shapes.update({f"{norm}.weight": (HIDDEN,), f"{norm}.bias": (HIDDEN,)})


def twin_weights(
    arguments: dict[str, Any], state: dict[str, Tensor], task: str, language: str
) -> list[dict[str, Tensor]] | None:
    """The adapter weights of every layer of a cell, read from the released names."""
    if arguments["no_hypernet"]:
        return None

    def apply(name: str, x: Tensor) -> Tensor:
        return state[f"{name}.weight"] @ x + state[f"{name}.bias"]

    made = []
    for layer in range(LAYERS):
        place = HYPERNET if arguments["condition_to_layer_id"] else f"{HYPERNET}.{layer}"
        tables = [f"task_embeddings.{task}", f"lang_embeddings.{language}"]
        if arguments["condition_to_layer_id"]:
            tables.append(f"layer_id_embeddings.layer:{layer}")
        s = torch.cat([state[f"{SOURCE}.{table}"] for table in tables])
        if arguments["project_source_embeddings"]:
            mlp = f"{SOURCE}.source_embedding_MLP"
            s = apply(f"{mlp}.2", apply(f"{mlp}.0", s).relu())
        weights = {}
        for name, shape in (("down", (BOTTLENECK, HIDDEN)), ("up", (HIDDEN, BOTTLENECK))):
            sampler = f"{place}.meta_{name}_sampler"
            weights[f"{name}_weight"] = apply(f"{sampler}.weight_generator.0", s).view(shape)
            weights[f"{name}_bias"] = apply(f"{sampler}.bias_generator.0", s)
        for name, where in (("pre", "before"), ("post", "after")):
            for part in ("weight", "bias"):
                generator = f"{place}.{name}_layernorm_hypernet.{part}_generator"
                ordinary = f"{place}.{name}_layer_norm.{part}"
                if f"{generator}.weight" in state:
                    weights[f"{where}_{part}"] = apply(generator, s)
                elif ordinary in state:
                    weights[f"{where}_{part}"] = state[ordinary]
        made.append(weights)
    return made


def twin_forward(
    arguments: dict[str, Any], state: dict[str, Tensor], task: str, language: str
) -> tuple[list[Tensor], Tensor]:
    """Hidden states of all layers and logits."""
    encoder = BertModel(CONFIG).double()
    own = {k.removeprefix("encoder."): v for k, v in state.items() if k.startswith("encoder.")}
    known = encoder.state_dict().keys()
    encoder.load_state_dict({name: tensor for name, tensor in own.items() if name in known})
    names = {"swish": "silu", "GELU_python": "gelu"}
    activation = arguments["adapter_non_linearity"]
    config = HypernetConfig(
        insertion="layer" if arguments["after_layer_output"] else "feed_forward",
        activation=names.get(activation, activation),
    )
    weights = twin_weights(arguments, state, task, language)
    states = twin.bert(encoder, IDS, MASK, weights, config)
    cls = f"taskmodels_dict.{task}.cls"
    if task != "mlm":
        return states, states[-1] @ state[f"{cls}.weight"].T + state[f"{cls}.bias"]
    inside = f"{cls}.predictions.transform"
    x = states[-1] @ state[f"{inside}.dense.weight"].T + state[f"{inside}.dense.bias"]
    norm = (state[f"{inside}.LayerNorm.{part}"] for part in ("weight", "bias"))
    x = twin.layer_norm(twin.ACTIVATIONS["gelu"](x), *norm, 1e-12)
    return states, x @ state[DECODER].T + state[BIAS]


def word_numbers(starts: Tensor) -> Tensor:
    """Which word each sub-word belongs to, from where words start: (B, T + 1) → (B, T)."""
    words = torch.full((len(starts), starts.shape[1] - 1), -1)
    words[:, 0] = 0
    for row, places in enumerate(starts.tolist()):
        bounds = itertools.pairwise(place for place in places if place > 0)
        for word, (begin, end) in enumerate(bounds, start=1):
            words[row, begin:end] = word
    return words
