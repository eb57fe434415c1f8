"""The configuration of a hypernetwork: every published variant is a field with a plain name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args, get_origin, get_type_hints

AdapterKind = Literal["bottleneck", "lora"]
Target = Literal["query", "key", "value", "output", "up", "down"]
LayerNormKind = Literal["none", "ordinary", "generated"]
Source = Literal["task", "language", "layer"]

SOURCES: tuple[Source, ...] = get_args(Source)
TARGETS: tuple[Target, ...] = get_args(Target)
RENAMED = {"norm_before": "pre_norm", "norm_after": "post_norm"}
"""Old names of fields, which recipes and saved models may still have."""

_UNREAD: dict[AdapterKind, tuple[str, ...]] = {
    "bottleneck": ("lora_rank", "lora_alpha", "lora_targets"),
    "lora": ("pre_norm", "post_norm", "insertion", "activation"),
}
"""What cannot be set for each kind of adapter. Sizes and epsilon of bottlenecks may be."""


@dataclass(frozen=True)
class HypernetConfig:
    """Sizes and variants of the network that writes adapter weights.

    The defaults are the published "base" model; ``projection=32`` is its "small" one.

    Attributes:
        adapter: the kind of adapter: bottleneck, the published one, or lora: to projections W x of
            every layer it adds (lora_alpha / lora_rank) B A x, with A and B generated (Hu et al.
            2022). It has no LayerNorm, activation or insertion of its own and no bottleneck.
        lora_rank: rank r of A (r, in) and B (out, r).
        lora_alpha: B A x is multiplied by lora_alpha / lora_rank.
        lora_targets: the projections that lora changes: query, key, value and output (of the
            attention), up and down (of the feed-forward block).
        bottleneck: the bottleneck adapters' inner size b.
        projection: size p of the projected source embedding that the generator reads; None for
            no projection: the generator then reads the concatenated embeddings.
        embedding: size e of each task, language and layer embedding, unless one of the next three
            fields overrides it (the released code allows three sizes).
        task_embedding: size of the task embeddings; None for that of embedding.
        language_embedding: size of the language embeddings; None for that of embedding.
        layer_embedding: size of the layer embeddings; None for that of embedding.
        source_hidden: inner size of the projection; None for that of the concatenation.
        sources: what the source embedding is made from, in this order. Without "layer" there is
            one generator for each layer. Without "language" the model is conditioned on the task
            alone.
        unit_source: whether the source embedding is scaled to a length. The published one starts
            near zero, so that all cells and layers have almost the same weights for hundreds of
            steps. At a high learning rate it grows until it drowns the input.
        source_length: the length that unit_source scales to. A step of Adam moves each weight of
            the generator by about the learning rate, and a generated one by up to source_length √p
            times as much: with 1/√p one rate serves the generator and adapters alike.
        task_base: whether each task has an ordinary adapter of its own, trained directly, to which
            what is generated is added. Tasks then do not hold each other back, and the generator
            says how cells differ from their task's adapter.
        pre_norm: the LayerNorm of the adapter's input: none, ordinary (trained directly, shared as
            the generator is) or generated.
        post_norm: the LayerNorm of the up-projection's output: none, ordinary (trained directly,
            shared as the generator is) or generated.
        insertion: where the adapter acts: on the feed-forward block's output before the residual
            sum, or on the output of the whole layer.
        activation: the adapter's non-linearity: relu, gelu, gelu_new (gelu approximated with tanh),
            silu, tanh or leaky_relu.
        initial_std: standard deviation of every linear map's initial weights.
        embedding_std: standard deviation of the initial embeddings.
        language_std: the same for languages alone, where it differs; 0 starts them all at zero.
        language_dropout: how often the zero vector replaces a language's vector in training. The
            zero vector then also stands for every language without a vector of its own; otherwise
            the mean of the trained vectors does.
        language_base: what a language's vector starts from: nothing but its own row of the table
            ("none"), what a small perceptron makes of the language's features, to which the row is
            added ("features"), or, where the row is dropped or missing, the mean of the other
            languages' rows, weighted by similarity of features ("neighbours"). With a base
            language_dropout drops the row, and the base alone stands for the language. The recipe's
            section language_features says where features come from.
        base_components: the number of principal components of the features that a base reads.
        base_hidden: inner size of the perceptron of "features".
        base_dropout: its dropout.
        base_temperature: of "neighbours": what cosines are divided by before the softmax; the
            lower, the fewer neighbours count.
        start: the first generated weights: near zero, since all biases start there ("published"),
            or those of an ordinary adapter ("adapter"), which learns sooner. With lora "adapter"
            starts A at random and B at zero in all cells, as LoRA does.
        top_layers: how many layers, counted from the top, have adapters; None for all.
        skip_last_layer: whether the last of them has no adapter, as in MAD-X 2.0 (Pfeiffer et al.
            2021).
        norm_eps: epsilon of the adapters' LayerNorms.

    Raises:
        ValueError: fields do not fit; the message names all of them.
    """

    adapter: AdapterKind = "bottleneck"
    lora_rank: int = 8
    lora_alpha: float = 16.0
    lora_targets: tuple[Target, ...] = ("query", "value")
    bottleneck: int = 256
    projection: int | None = 192
    embedding: int = 64
    task_embedding: int | None = None
    language_embedding: int | None = None
    layer_embedding: int | None = None
    source_hidden: int | None = None
    sources: tuple[Source, ...] = SOURCES
    unit_source: bool = False
    source_length: float = 1.0
    task_base: bool = False
    pre_norm: LayerNormKind = "none"
    post_norm: LayerNormKind = "generated"
    insertion: Literal["feed_forward", "layer"] = "feed_forward"
    activation: Literal["relu", "gelu", "gelu_new", "silu", "tanh", "leaky_relu"] = "relu"
    initial_std: float = 0.02
    embedding_std: float = 1.0
    language_std: float | None = None
    language_dropout: float = 0.0
    language_base: Literal["none", "features", "neighbours"] = "none"
    base_components: int = 16
    base_hidden: int = 64
    base_dropout: float = 0.1
    base_temperature: float = 0.2
    start: Literal["published", "adapter"] = "published"
    top_layers: int | None = None
    skip_last_layer: bool = False
    norm_eps: float = 1e-5

    def __post_init__(self) -> None:
        object.__setattr__(self, "sources", tuple(self.sources))
        object.__setattr__(self, "lora_targets", tuple(self.lora_targets))
        if problems := "; ".join(self._problems()):
            raise ValueError(problems)

    def _problems(self) -> Iterator[str]:
        for name, hint in _FIELD_TYPES.items():
            value, choices = getattr(self, name), get_args(hint)
            least = 0 if float in (hint, *choices) else 1  # what is not real counts something
            if isinstance(value, int | float) and not isinstance(value, bool) and value < least:
                yield f"{name} must be at least {least}, not {value}"
            if get_origin(hint) is Literal and value not in choices:
                yield f'{name} must be one of {", ".join(choices)}, not "{value}"'
        if not set(self.sources) <= set(SOURCES) or len(set(self.sources)) != len(self.sources):
            yield f"sources must be distinct names among {', '.join(SOURCES)}"
        if not self.task_base and not {"task", "language"} & set(self.sources):
            yield "sources must hold task or language"
        for name in ("language_dropout", "base_dropout"):
            if getattr(self, name) >= 1:
                yield f"{name} must be below 1, not {getattr(self, name)}"
        for name in ("source_length", "base_temperature", "lora_alpha"):
            if getattr(self, name) == 0:
                yield f"{name} must be above 0"
        if self.task_base and (self.start == "adapter" or "ordinary" in self.norms.values()):
            yield (
                "task_base starts as an adapter and has LayerNorms by itself; "
                "set start: published, and pre_norm and post_norm to none or generated"
            )
        if self.skip_last_layer and self.top_layers == 1:
            yield "skip_last_layer leaves no layer when top_layers is 1"
        targets = set(self.lora_targets)
        if not targets or not targets <= set(TARGETS) or len(targets) != len(self.lora_targets):
            yield f"lora_targets must be distinct names among {', '.join(TARGETS)}"
        for name in _UNREAD.get(self.adapter, ()):
            if getattr(self, name) != getattr(type(self), name):
                yield f"{name} is not read with adapter: {self.adapter}; remove it"

    @property
    def has_base(self) -> bool:
        """Whether language vectors have a base, which method "task-hypernet" does not read."""
        return self.language_base != "none" and "language" in self.sources

    @property
    def norms(self) -> dict[str, LayerNormKind]:
        """The kind of the LayerNorm at each place, by the start of its weights' names."""
        if self.adapter == "lora":
            return {}
        return {"after": self.post_norm, "before": self.pre_norm}

    @property
    def lora_scale(self) -> float:
        """What B A x is multiplied by."""
        return self.lora_alpha / self.lora_rank

    def size_of(self, source: Source) -> int:
        """Return the embedding size of one source."""
        override = getattr(self, f"{source}_embedding")
        return int(self.embedding if override is None else override)

    @property
    def concatenated(self) -> int:
        """Size of the concatenated embeddings (3e by default)."""
        return sum(self.size_of(source) for source in self.sources)

    @property
    def source_size(self) -> int:
        """Size of the source embedding s that the generator reads (p, or 3e without projection)."""
        return self.projection if self.projection is not None else self.concatenated

    def layers(self, encoder_layers: int) -> range:
        """Return which layers of an encoder, counted from 0 at the bottom, have adapters.

        Raises:
            ValueError: the encoder has too few.
        """
        first = encoder_layers - (self.top_layers or encoder_layers)
        adapted = range(first, encoder_layers - self.skip_last_layer)
        if first < 0:
            raise ValueError(
                f"top_layers must be at most {encoder_layers}, the number of the encoder's layers"
            )
        if not adapted:
            raise ValueError("skip_last_layer leaves no layer of this encoder")
        return adapted

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        lists = {"sources": list(self.sources), "lora_targets": list(self.lora_targets)}
        return {**asdict(self), **lists}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> HypernetConfig:
        """Read the output of `to_dict`, of earlier versions too."""
        return cls(**{RENAMED.get(name, name): value for name, value in data.items()})


_FIELD_TYPES = get_type_hints(HypernetConfig)
