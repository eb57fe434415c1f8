"""The table of encoder families: where adapters act in each; and the hooks that make them act.

A family that is not here is not supported. To add one, add a row (and a row to the tiny models of
the tests, which then check it in every way).
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import BackboneError, nearest
from ..hypernet import (
    AdapterWeights,
    LayerStacks,
    RowGroups,
    adapt,
    adapt_rows,
    low_rank,
    low_rank_rows,
)
from ..hypernet.config import TARGETS


@dataclass(frozen=True)
class MlmNames:
    """Paths of the layers of a family's own masked-language-modelling head, inside its MLM model.

    Attributes:
        dense, norm: the transformation before the decoder.
        bias: the decoder's bias.
        activation: the configuration field that names the non-linearity; ``=gelu`` is a fixed name.
    """

    dense: str
    norm: str
    bias: str
    activation: str


@dataclass(frozen=True)
class Projection:
    """A linear map of a layer, to which LoRA adds.

    Attributes:
        path: of its module, from the layer.
        part, parts: where one module computes several projections, which of its equal parts.
        positions: whether it also projects relative positions, which all rows of a batch share. A
            pass of the encoder then serves a single cell.
    """

    path: str
    part: int = 0
    parts: int = 1
    positions: bool = False

    def module(self, layer: nn.Module) -> nn.Linear:
        """Return its module."""
        module: Any = layer.get_submodule(self.path)
        return module  # type: ignore[no-any-return]

    def widths(self, layer: nn.Module) -> tuple[int, int]:
        """Return its input and output sizes."""
        module = self.module(layer)
        return module.in_features, module.out_features // self.parts


@dataclass(frozen=True)
class Family:
    """One encoder architecture.

    Attributes:
        model_type: its name in transformers (`config.model_type`).
        title: the name that people know.
        layer: path of layer {i} in the base model.
        feed_forward: path of the module whose output is the feed-forward block's, after dropout
            and before the residual sum.
        mlm: where its MLM head lies; None for a head that is only a decoder.
        projections: what LoRA can add to, by the names of `HypernetConfig.lora_targets`.
        pooler: whether the base model has a pooler unless ``add_pooling_layer=False`` is given.
        padded_positions: whether positions are numbered from ``pad_token_id`` + 1, so that the
            first ones of the table are never used.
        since: the first version of transformers that has it.
    """

    model_type: str
    title: str
    layer: str
    feed_forward: str
    mlm: MlmNames | None
    projections: Mapping[str, Projection] = field(default_factory=dict)
    pooler: bool = False
    padded_positions: bool = False
    since: str = "5.0"

    def insertion_points(self, encoder: nn.Module, layers: int, insertion: str) -> list[nn.Module]:
        """Return the module of each layer whose output the adapter changes.

        Args:
            encoder: the base model.
            layers: how many layers it has.
            insertion: "feed_forward" (as published) or "layer" (after the whole layer).
        """
        path = self.layer if insertion == "layer" else self.feed_forward
        return [encoder.get_submodule(path.format(i=index)) for index in range(layers)]

    def targets(self, names: Sequence[str]) -> dict[str, Projection]:
        """Return projections by name. Raises `BackboneError` that lists those that exist."""
        if missing := [name for name in names if name not in self.projections]:
            known = ", ".join(self.projections) or "none"
            raise BackboneError(
                f"LoRA cannot act on {', '.join(missing)} in {self.title}. hypernet.lora_targets "
                f"may name: {known}."
            )
        return {name: self.projections[name] for name in names}


_BERT = ("encoder.layer.{i}", "encoder.layer.{i}.output.dropout")
_ROTARY = ("layers.{i}", "layers.{i}.post_mlp_dropout")
_GATED = ("layers.{i}", "layers.{i}.mlp")
"""Where adapters act in BERT, in BERT with rotary positions, and where the feed-forward block is a
gated one: the paths of a layer and of the block, which several families share."""

_BERT_MLM = MlmNames(
    dense="cls.predictions.transform.dense",
    norm="cls.predictions.transform.LayerNorm",
    bias="cls.predictions.bias",
    activation="hidden_act",
)
_ROBERTA_MLM = MlmNames("lm_head.dense", "lm_head.layer_norm", "lm_head.bias", "=gelu")
_GTE_MLM = replace(_ROBERTA_MLM, bias="lm_head.decoder.bias")
_NOMIC_MLM = replace(_BERT_MLM, norm="cls.predictions.transform.layer_norm")
_MODERNBERT_MLM = MlmNames("head.dense", "head.norm", "decoder.bias", "classifier_activation")
_DISTILBERT_MLM = MlmNames(
    "vocab_transform", "vocab_layer_norm", "vocab_projector.bias", "activation"
)


def _projections(*paths: str) -> dict[str, Projection]:
    """Name the paths of the six targets, in the order of `TARGETS`."""
    return {name: Projection(path) for name, path in zip(TARGETS, paths, strict=True)}


_BERT_PROJECTIONS = _projections(
    *(f"attention.{name}" for name in ("self.query", "self.key", "self.value", "output.dense")),
    *("intermediate.dense", "output.dense"),
)
_DEBERTA_PROJECTIONS = {
    **_BERT_PROJECTIONS,
    "query": Projection("attention.self.query_proj", positions=True),
    "key": Projection("attention.self.key_proj", positions=True),
    "value": Projection("attention.self.value_proj"),
}
_MODERNBERT_PROJECTIONS = {
    "query": Projection("attn.Wqkv", 0, 3),
    "key": Projection("attn.Wqkv", 1, 3),
    "value": Projection("attn.Wqkv", 2, 3),
    "output": Projection("attn.Wo"),
    "up": Projection("mlp.Wi"),
    "down": Projection("mlp.Wo"),
}
_DISTILBERT_PROJECTIONS = _projections(
    *(f"attention.{name}_lin" for name in ("q", "k", "v", "out")), "ffn.lin1", "ffn.lin2"
)
_ROTARY_ATTENTION = tuple(f"self_attn.{name}_proj" for name in ("q", "k", "v", "o"))
_GATED_PROJECTIONS = _projections(*_ROTARY_ATTENTION, "mlp.up_proj", "mlp.down_proj")
_JINA_PROJECTIONS = _projections(*_ROTARY_ATTENTION, "mlp.fc1", "mlp.fc2")

_XLM_R = Family(
    "xlm-roberta",
    "XLM-R",
    *_BERT,
    _ROBERTA_MLM,
    _BERT_PROJECTIONS,
    pooler=True,
    padded_positions=True,
)

FAMILIES: dict[str, Family] = {
    family.model_type: family
    for family in (
        Family("bert", "BERT and MiniLM", *_BERT, _BERT_MLM, _BERT_PROJECTIONS, pooler=True),
        _XLM_R,
        replace(_XLM_R, model_type="roberta", title="RoBERTa"),
        Family("deberta-v2", "DeBERTa-v2 and v3", *_BERT, _BERT_MLM, _DEBERTA_PROJECTIONS),
        Family("modernbert", "ModernBERT", *_GATED, _MODERNBERT_MLM, _MODERNBERT_PROJECTIONS),
        Family(
            "distilbert",
            "DistilBERT",
            "transformer.layer.{i}",
            "transformer.layer.{i}.ffn",
            _DISTILBERT_MLM,
            _DISTILBERT_PROJECTIONS,
        ),
        Family("gte", "GTE", *_ROTARY, _GTE_MLM, _GATED_PROJECTIONS, since="5.18"),
        Family("eurobert", "EuroBERT", *_GATED, None, _GATED_PROJECTIONS, since="5.3"),
        Family("nomic_bert", "Nomic BERT", *_ROTARY, _NOMIC_MLM, _GATED_PROJECTIONS, since="5.5"),
        # Its LoRA adapters for retrieval and the like are files of their own, which are not loaded.
        Family(
            "jina_embeddings_v3",
            "Jina v3",
            *_ROTARY,
            _ROBERTA_MLM,
            _JINA_PROJECTIONS,
            pooler=True,
            since="5.4",
        ),
    )
}


def family_of(model_type: str) -> Family:
    """Return the family of a model type. Raises `BackboneError` that lists the supported ones."""
    if model_type not in FAMILIES:
        supported = ", ".join(f"{f.title} ({f.model_type})" for f in FAMILIES.values())
        raise BackboneError(
            f'Encoders of the type "{model_type}" are not supported.'
            f"{nearest(model_type, FAMILIES)} Supported: {supported}."
        )
    return FAMILIES[model_type]


Layers = Sequence[AdapterWeights] | LayerStacks


class OfThread(threading.local):
    """What is active in each thread, so that threads may share a model. Nothing is, in a copy."""

    active: Any = None

    @contextmanager
    def holding(self, active: Any) -> Iterator[None]:
        """Make something active inside the block, in this thread only."""
        before, self.active = self.active, active
        try:
            yield
        finally:
            self.active = before

    def __reduce__(self) -> tuple[type[OfThread], tuple[()]]:
        return OfThread, ()


class AdapterHooks:
    """Hooks one adapter for each layer into an encoder, and applies the active weights.

    The encoder is neither subclassed nor changed. While no weights are active, the hooks return
    nothing, and the encoder computes exactly what it does without them, bit for bit.

    Args:
        modules: the insertion point of each layer.
        activation: the adapters' non-linearity.
        eps: epsilon of the adapters' LayerNorms.

    Attributes:
        mixes_cells: whether a pass of the encoder can serve rows of several cells.
    """

    mixes_cells = True

    def __init__(self, modules: Sequence[nn.Module], activation: str, eps: float) -> None:
        self.activation = activation
        self.eps = eps
        self._hook((module, self._adapt, (layer,)) for layer, module in enumerate(modules))

    def _hook(
        self, points: Iterable[tuple[nn.Module, Callable[..., Any], tuple[Any, ...]]]
    ) -> None:
        """Hook methods, each with its first arguments, into modules."""
        points = list(points)
        self.modules = [module for module, *_ in points]
        # With a dictionary by thread, torch.compile would compile again in every step.
        self._in_thread = OfThread()
        # A partial of a method, not a closure: a deep copy of the model then has hooks that read
        # the copy's weights, not the original's.
        self._handles = [
            module.register_forward_hook(functools.partial(method, *arguments))
            for module, method, arguments in points
        ]

    def remove(self) -> None:
        """Take the hooks out; the encoder is as it was before."""
        for handle in self._handles:
            handle.remove()
        self._handles = []

    @contextmanager
    def active(self, layers: Layers, groups: RowGroups | None = None) -> Iterator[None]:
        """Apply weights inside the block, in this thread only.

        Args:
            layers: the weights of each layer: of one cell, without leading dimensions, or of
                several cells, leading dimension (C,).
            groups: which rows of the batch belong to which of several cells.

        Raises:
            BackboneError: the hooks have been removed, so nothing would apply the weights.
        """
        if not self._handles:
            raise BackboneError(
                "The adapters were removed from the encoder (hooks.remove()). Load the model again."
            )
        with self._in_thread.holding((layers, groups)):
            yield

    def rerun_contexts(self) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        """Return contexts for `torch.utils.checkpoint`: its second run sees the first's weights.

        The second run comes in the backward pass, when other weights or none may be active.
        """
        return nullcontext(), self._in_thread.holding(self._in_thread.active)

    def _adapt(self, layer: int, _module: nn.Module, _inputs: Any, output: Any) -> Any:
        """The hook of one layer; None leaves the output as it is."""
        active = self._in_thread.active
        if active is None:
            return None
        # The layers of some families return a tuple that begins with the hidden states.
        hidden: Tensor = output if isinstance(output, Tensor) else output[0]
        layers, groups = active
        if groups is None:
            hidden = adapt(hidden, layers[layer], self.activation, self.eps)
        else:
            hidden = adapt_rows(hidden, layers[layer], groups, self.activation, self.eps)
        return hidden if isinstance(output, Tensor) else (hidden, *output[1:])


class LoraHooks(AdapterHooks):
    """Hooks LoRA into projections of every layer; otherwise as `AdapterHooks`.

    Args:
        layers: those with adapters.
        targets: the projections by name.
        scale: what B A x is multiplied by.
    """

    def __init__(
        self, layers: Sequence[nn.Module], targets: Mapping[str, Projection], scale: float
    ) -> None:
        self.scale = scale
        self.mixes_cells = not any(projection.positions for projection in targets.values())
        self._hook(
            (projection.module(layer), self._add, (index, name, projection))
            for index, layer in enumerate(layers)
            for name, projection in targets.items()
        )

    def _add(
        self, layer: int, name: str, projection: Projection, _module: Any, inputs: Any, output: Any
    ) -> Any:
        """The hook of one projection; None leaves the output as it is."""
        active = self._in_thread.active
        if active is None:
            return None
        layers, groups = active
        if groups is None:
            added = low_rank(inputs[0], layers[layer], name, self.scale)
        else:
            added = low_rank_rows(inputs[0], layers[layer], name, groups, self.scale)
        if projection.parts == 1:
            return output + added
        before = added.shape[-1] * projection.part
        return output + F.pad(added, (before, output.shape[-1] - before - added.shape[-1]))
