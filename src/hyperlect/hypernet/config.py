"""The configuration of a hypernetwork: every published variant is a field with a plain name."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

Start = Literal["published", "adapter"]
LayerNormKind = Literal["none", "ordinary", "generated"]
Insertion = Literal["feed_forward", "layer"]
Source = Literal["task", "language", "layer"]

SOURCES: tuple[Source, ...] = ("task", "language", "layer")
ACTIVATIONS = ("relu", "gelu", "gelu_new", "silu", "tanh", "leaky_relu")
# Numbers that need not be whole; all others count something.
_FRACTIONS = ("initial_std", "embedding_std", "language_std", "language_dropout", "norm_eps")


@dataclass(frozen=True)
class HypernetConfig:
    """Sizes and variants of the network that writes adapter weights.

    The defaults are the published "base" model; ``projection=32`` is its "small" one.

    Attributes:
        bottleneck: the adapters' inner size b.
        projection: size p of the projected source embedding that the generator reads; None for
            no projection, when the generator reads the concatenated embeddings themselves.
        embedding: size e of each task, language and layer embedding, unless overridden by the
            three fields below (the released code allows three sizes).
        task_embedding: size of the task embeddings; None for that of embedding.
        language_embedding: size of the language embeddings; None for that of embedding.
        layer_embedding: size of the layer embeddings; None for that of embedding.
        source_hidden: inner size of the projection; None for that of the concatenation.
        sources: what the source embedding is made from, in this order. Without "layer" there is
            one generator a layer; without "language" the model is conditioned on the task alone.
        unit_source: whether the source embedding is scaled to length 1. As published it begins near
            zero, so that all cells and layers have almost the same weights for hundreds of steps,
            and at a high learning rate it grows until it drowns the input.
        norm_before: the LayerNorm of what the adapter reads: none, ordinary (trained directly,
            shared as the generator is) or generated.
        norm_after: the LayerNorm of what the up-projection gives: none, ordinary (trained directly,
            shared as the generator is) or generated.
        insertion: where the adapter acts: on the feed-forward block's output before the residual
            sum, or on the output of the whole layer.
        activation: the adapter's non-linearity: relu, gelu, gelu_new (gelu approximated with tanh),
            silu, tanh or leaky_relu.
        initial_std: standard deviation of every linear map's initial weights.
        embedding_std: standard deviation of the initial embeddings.
        language_std: the same for languages alone, where it differs; 0 starts them all at zero.
        language_dropout: how often, in training, the zero vector takes a language's place. With
            it, zero also stands for every language without a vector of its own, in place of the
            mean of the others.
        start: what the first generated weights are: near zero, since all biases start there
            ("published"), or those of an ordinary adapter ("adapter"), which starts training
            sooner.
        top_layers: how many layers, counted from the top, have adapters; None for all.
        skip_last_layer: whether the last of them goes without after all, as in MAD-X 2.0
            (Pfeiffer et al. 2021).
        norm_eps: epsilon of the adapters' LayerNorms.
    """

    bottleneck: int = 256
    projection: int | None = 192
    embedding: int = 64
    task_embedding: int | None = None
    language_embedding: int | None = None
    layer_embedding: int | None = None
    source_hidden: int | None = None
    sources: tuple[Source, ...] = SOURCES
    unit_source: bool = False
    norm_before: LayerNormKind = "none"
    norm_after: LayerNormKind = "generated"
    insertion: Insertion = "feed_forward"
    activation: str = "relu"
    initial_std: float = 0.02
    embedding_std: float = 1.0
    language_std: float | None = None
    language_dropout: float = 0.0
    start: Start = "published"
    top_layers: int | None = None
    skip_last_layer: bool = False
    norm_eps: float = 1e-5

    def __post_init__(self) -> None:
        object.__setattr__(self, "sources", tuple(self.sources))
        faults = list(self._faults())
        if faults:
            raise ValueError("; ".join(faults))

    def _faults(self) -> list[str]:
        faults = [
            f"{name} must be at least 1, not {value}"
            for name, value in asdict(self).items()
            if isinstance(value, int)
            and not isinstance(value, bool)
            and name not in _FRACTIONS
            and value < 1
        ]
        faults += [
            f"{name} must be at least 0, not {value}"
            for name in _FRACTIONS
            if name != "language_dropout"
            and (value := getattr(self, name)) is not None
            and value < 0
        ]
        if not set(self.sources) <= set(SOURCES) or len(set(self.sources)) != len(self.sources):
            faults.append(f"sources must be distinct names among {', '.join(SOURCES)}")
        if not {"task", "language"} & set(self.sources):
            faults.append("sources must hold task or language")
        if self.activation not in ACTIVATIONS:
            faults.append(f"activation must be one of {', '.join(ACTIVATIONS)}")
        for name in ("norm_before", "norm_after"):
            if getattr(self, name) not in ("none", "ordinary", "generated"):
                faults.append(f"{name} must be none, ordinary or generated")
        if self.start not in ("published", "adapter"):
            faults.append("start must be published or adapter")
        if not 0 <= self.language_dropout < 1:
            faults.append("language_dropout must be at least 0 and below 1")
        if self.skip_last_layer and self.top_layers == 1:
            faults.append("skip_last_layer leaves no layer where top_layers is 1")
        if self.insertion not in ("feed_forward", "layer"):
            faults.append("insertion must be feed_forward or layer")
        return faults

    def size_of(self, source: Source) -> int:
        """Return the embedding size of one source."""
        own = getattr(self, f"{source}_embedding")
        return int(own if own is not None else self.embedding)

    @property
    def concatenated(self) -> int:
        """Size of the concatenated embeddings (3e by default)."""
        return sum(self.size_of(source) for source in self.sources)

    @property
    def source_size(self) -> int:
        """Size of the source embedding s that the generator reads (p, or 3e unprojected)."""
        return self.projection if self.projection is not None else self.concatenated

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON; `HypernetConfig(**data)` reads it back."""
        return {**asdict(self), "sources": list(self.sources)}

    @classmethod
    def names(cls) -> list[str]:
        """Return the names of all fields."""
        return [field.name for field in fields(cls)]
