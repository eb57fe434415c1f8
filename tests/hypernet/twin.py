"""Plain twins: the formulas written out, for one layer of one cell at a time.

The package batches cells and layers, and takes LayerNorm and non-linearities from torch. Here they
are loops and formulas.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from hyperlect.hypernet import Hypernet, HypernetConfig

WEIGHTS = ("down_weight", "down_bias", "up_weight", "up_bias")
NORMS = ("after_weight", "after_bias", "before_weight", "before_bias")

# Every published variant and some mixtures, each as the fields that differ from the default.
VARIANTS: dict[str, dict[str, Any]] = {
    "published": {},
    "no LayerNorm": {"post_norm": "none"},
    "ordinary LayerNorm after": {"post_norm": "ordinary"},
    "generated LayerNorm before": {"post_norm": "none", "pre_norm": "generated"},
    "ordinary LayerNorm before": {"post_norm": "none", "pre_norm": "ordinary"},
    "generated LayerNorm before and after": {"pre_norm": "generated"},
    "ordinary LayerNorm before and after": {"pre_norm": "ordinary", "post_norm": "ordinary"},
    "generated before, ordinary after": {"pre_norm": "generated", "post_norm": "ordinary"},
    "ordinary before, generated after": {"pre_norm": "ordinary"},
    "one generator a layer": {"sources": ("task", "language")},
    "one generator and ordinary LayerNorms a layer": {
        "sources": ("task", "language"), "pre_norm": "ordinary", "post_norm": "ordinary",
    },
    "one generator a layer, unprojected": {"sources": ("task", "language"), "projection": None},
    "no projection": {"projection": None},
    "source of length 1": {"unit_source": True},
    "source of length a half": {"unit_source": True, "source_length": 0.5},
    "source of length 1, no projection": {"unit_source": True, "projection": None},
    "no language": {"sources": ("task", "layer")},
    "language alone": {"sources": ("language", "layer")},
    "task alone, one generator a layer": {"sources": ("task",), "pre_norm": "generated"},
    "sources in another order": {"sources": ("layer", "language", "task")},
    "embeddings of several sizes": {
        "task_embedding": 2, "language_embedding": 5, "layer_embedding": 3, "source_hidden": 9,
    },
    "a base for each task": {"task_base": True},
    "a base for each task, language and layer as sources": {
        "task_base": True, "sources": ("language", "layer"), "pre_norm": "generated",
    },
    "a base for each task, one generator a layer": {
        "task_base": True, "sources": ("task", "language"), "post_norm": "none",
    },
    "gelu": {"activation": "gelu"},
    "gelu_new": {"activation": "gelu_new"},
    "silu": {"activation": "silu"},
    "tanh": {"activation": "tanh"},
    "leaky_relu": {"activation": "leaky_relu"},
    "another epsilon": {"norm_eps": 0.5, "pre_norm": "generated"},
    "after the layer": {"insertion": "layer"},
    "after the layer, LayerNorm before": {
        "insertion": "layer", "pre_norm": "ordinary", "post_norm": "none", "projection": None,
    },
    "after the layer, one generator a layer": {
        "insertion": "layer", "sources": ("task", "language"), "activation": "gelu",
    },
}  # fmt: skip

ACTIVATIONS = {
    "relu": lambda x: x.clamp(min=0),
    "gelu": lambda x: x * (1 + torch.erf(x / math.sqrt(2))) / 2,
    "gelu_new": lambda x: x / (1 + torch.exp(-math.sqrt(8 / math.pi) * (x + 0.044715 * x**3))),
    "silu": lambda x: x / (1 + torch.exp(-x)),
    "tanh": lambda x: (torch.exp(2 * x) - 1) / (torch.exp(2 * x) + 1),
    "leaky_relu": lambda x: torch.where(x > 0, x, x / 100),
}


def small(**changes: Any) -> HypernetConfig:
    """A small configuration whose adapters have a large effect, so that a bug in them shows."""
    sizes = {"bottleneck": 4, "projection": 6, "embedding": 3, "initial_std": 0.3}
    return HypernetConfig(**{**sizes, **changes})


def liven(module: torch.nn.Module, seed: int = 0) -> Any:
    """Move every parameter off its start: zero biases and unit LayerNorms hide bugs."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.add_(0.2 * noise.to(parameter.dtype))
    return module


def source(net: Hypernet, task: int, language: int | None, layer: int) -> Tensor:
    """s = W2 ReLU(W1 [e_t ; e_l ; e_i] + c1) + c2; a language of None has the mean of all.

    With `unit_source` it is scaled to a length.
    """
    rows = {"task": task, "language": language, "layer": layer}
    columns = []
    for name in net.config.sources:
        table = net.source.embeddings[name]
        columns.append(sum(table) / len(table) if rows[name] is None else table[rows[name]])
    joined = torch.cat(columns)
    if net.config.projection is not None:
        first, _, second = net.source.project
        inner = first.weight @ joined + first.bias
        joined = second.weight @ (inner * (inner > 0)) + second.bias
    if net.config.unit_source:
        joined = joined * (net.config.source_length / joined.square().sum().sqrt())
    return joined


def cell(net: Hypernet, task: int, language: int | None, hidden: int) -> list[dict[str, Tensor]]:
    """The adapter weights of one cell, one dictionary for each layer."""
    b = net.config.bottleneck
    shapes = {"down_weight": (b, hidden), "up_weight": (hidden, b), "down_bias": (b,)}
    separate = "layer" not in net.config.sources
    layers = []
    for layer in range(net.source.layers):
        s = source(net, task, language, layer)
        weights = {}
        for name in WEIGHTS + NORMS:
            place = name.partition("_")[0]
            kind = {"after": net.config.post_norm, "before": net.config.pre_norm}.get(place)
            if kind == "none":
                continue
            if kind == "ordinary":
                weights[name] = net.generator.norms[name][layer if separate else 0]
                continue
            matrix, bias = net.generator.maps[name].weight, net.generator.maps[name].bias
            if separate:
                matrix, bias = matrix[layer], bias[layer]
            weights[name] = (matrix @ s + bias).reshape(shapes.get(name, (hidden,)))
            if net.config.task_base:
                weights[name] = weights[name] + net.base.weights[name][task, layer]
        layers.append(weights)
    return layers


def layer_norm(x: Tensor, scale: Tensor, shift: Tensor, eps: float) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    return scale * centred / (centred.square().mean(-1, keepdim=True) + eps).sqrt() + shift


def adapter(z: Tensor, weights: dict[str, Tensor], activation: str, eps: float) -> Tensor:
    """A(z) = z + LN(U f(D LN(z) + d) + u), with LayerNorms where it has their weights."""
    inner = z
    if "before_weight" in weights:
        inner = layer_norm(inner, weights["before_weight"], weights["before_bias"], eps)
    inner = inner @ weights["down_weight"].T + weights["down_bias"]
    inner = ACTIVATIONS[activation](inner)
    inner = inner @ weights["up_weight"].T + weights["up_bias"]
    if "after_weight" in weights:
        inner = layer_norm(inner, weights["after_weight"], weights["after_bias"], eps)
    return z + inner


def bert(
    encoder: Any,
    input_ids: Tensor,
    attention_mask: Tensor,
    weights: list[dict[str, Tensor]] | None,
    config: HypernetConfig,
    dropout: float = 0.0,
) -> list[Tensor]:
    """A BERT with adapters, written out; returns the output of the embeddings and of every layer.

    `dropout` is the rate after the embeddings, the attention and the feed-forward block.
    """

    def drop(x: Tensor) -> Tensor:
        return torch.nn.functional.dropout(x, dropout, training=True) if dropout else x

    def adapted(x: Tensor, layer: int) -> Tensor:
        if weights is None:
            return x
        return adapter(x, weights[layer], config.activation, config.norm_eps)

    table, norm = encoder.embeddings, encoder.embeddings.LayerNorm
    positions = torch.arange(input_ids.shape[1])
    x = table.word_embeddings.weight[input_ids] + table.position_embeddings.weight[positions]
    x = x + table.token_type_embeddings.weight[0]
    states = [drop(layer_norm(x, norm.weight, norm.bias, norm.eps))]
    for index, layer in enumerate(encoder.encoder.layer):
        x = states[-1]
        attended = layer.attention.output.dense(_attention(layer, x, attention_mask))
        norm = layer.attention.output.LayerNorm
        x = layer_norm(x + drop(attended), norm.weight, norm.bias, norm.eps)
        inner = ACTIVATIONS["gelu"](layer.intermediate.dense(x))
        fed = drop(layer.output.dense(inner))
        if config.insertion == "feed_forward":
            fed = adapted(fed, index)
        norm = layer.output.LayerNorm
        x = layer_norm(x + fed, norm.weight, norm.bias, norm.eps)
        if config.insertion == "layer":
            x = adapted(x, index)
        states.append(x)
    return states


def _attention(layer: Any, x: Tensor, attention_mask: Tensor) -> Tensor:
    attention = layer.attention.self
    heads = attention.num_attention_heads

    def split(projected: Tensor) -> Tensor:
        return projected.unflatten(-1, (heads, -1)).transpose(1, 2)

    query, key, value = (
        split(attention.query(x)),
        split(attention.key(x)),
        split(attention.value(x)),
    )
    scores = query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1])
    scores = scores.masked_fill(attention_mask[:, None, None] == 0, -1e30)
    return (scores.softmax(-1) @ value).transpose(1, 2).flatten(2)
