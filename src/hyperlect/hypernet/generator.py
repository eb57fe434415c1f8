"""Where adapter weights come from: the hypernetwork, or adapters that are trained directly.

The hypernetwork makes a source embedding of task, language and layer, and from it the weights.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .adapter import AdapterWeights
from .config import HypernetConfig
from .language import UNTRAINED, LanguageBase

POST_NORM_SCALE = 0.1
"""First scale of the LayerNorm after an adapter that starts as an ordinary one: close to the
identity, and yet it passes gradients on (Houlsby et al. 2019, section 2). At 1 every layer would
add noise as large as the activations."""

Widths = Mapping[str, tuple[int, int]]
"""The input and output size of each target of LoRA; those that are not listed have h and h."""


def adapter_shapes(
    config: HypernetConfig, hidden: int, widths: Widths | None = None
) -> dict[str, tuple[int, ...]]:
    """Return the shape of each weight that the adapters of a configuration have, by its name."""
    shapes: dict[str, tuple[int, ...]] = {}
    if config.adapter == "lora":
        for target in config.lora_targets:
            inputs, outputs = (widths or {}).get(target, (hidden, hidden))
            shapes[f"{target}_a"] = (config.lora_rank, inputs)
            shapes[f"{target}_b"] = (outputs, config.lora_rank)
        return shapes
    shapes = {
        "down_weight": (config.bottleneck, hidden),
        "down_bias": (config.bottleneck,),
        "up_weight": (hidden, config.bottleneck),
        "up_bias": (hidden,),
    }
    for place, kind in config.norms.items():
        if kind != "none":
            shapes |= {f"{place}_weight": (hidden,), f"{place}_bias": (hidden,)}
    return shapes


@torch.no_grad()
def start_as_adapter(weights: Iterable[tuple[str, Any]], std: float) -> None:
    """Start tensors, each with its name, as those of an ordinary adapter.

    Down and up weights are drawn from N(0, std²). The scale after the adapter starts at
    `POST_NORM_SCALE`, one before it at 1, biases at 0. Of LoRA, A is drawn, and B starts at 0.
    """
    scales = {"after_weight": POST_NORM_SCALE, "before_weight": 1.0}
    for name, weight in weights:
        if name in ("down_weight", "up_weight") or name.endswith("_a"):
            nn.init.normal_(weight, std=std)
        else:
            nn.init.constant_(weight, scales.get(name, 0.0))


class SourceEmbedding(nn.Module):
    """s = W2 ReLU(W1 [e_t ; e_l ; e_i] + c1) + c2 (Üstün et al. 2022, equation 3).

    With `unit_source` it is a s / |s|, of length a.

    Embeddings start from N(0, 1), linear maps from N(0, 0.02²) with zero biases; both standard
    deviations are fields of the configuration.

    Args:
        config: sizes and variants.
        tasks, languages, layers: how many there are of each.
    """

    def __init__(self, config: HypernetConfig, tasks: int, languages: int, layers: int) -> None:
        super().__init__()
        self.sources = config.sources
        self.language_dropout = config.language_dropout
        self.length = config.source_length if config.unit_source else None
        self.layers = layers
        counts = {"task": tasks, "language": languages, "layer": layers}
        self.embeddings = nn.ParameterDict(
            {s: torch.empty(counts[s], config.size_of(s)) for s in config.sources}
        )
        self.base = LanguageBase(config, languages) if config.has_base else None
        self.project: nn.Sequential | None = None
        if config.projection is not None:
            inner = config.source_hidden or config.concatenated
            self.project = nn.Sequential(
                nn.Linear(config.concatenated, inner),
                nn.ReLU(),
                nn.Linear(inner, config.projection),
            )

    def language_vectors(self, indices: Tensor) -> Tensor:
        """Look up language vectors; in training, replace some by zero (`language_dropout`).

        `UNTRAINED` gives the mean of all vectors. With language dropout it gives zero, since
        training has then taught what zero stands for. With a base (see `LanguageBase`) the base
        takes the place of zero and of the mean.

        Args:
            indices: (C,), integers.

        Returns:
            (C, e).
        """
        table: Tensor = self.embeddings["language"]
        rows = table[indices.clamp(min=0)]
        untrained = indices == UNTRAINED
        if self.language_dropout == 0 and self.base is None:
            # The mean is cheap; to ask whether it is needed would make a GPU wait.
            return torch.where(untrained[:, None], table.mean(dim=0), rows)
        if self.training and self.language_dropout > 0:
            chance = torch.rand(indices.shape, device=rows.device)
            untrained = untrained | (chance < self.language_dropout)
        if self.base is not None:
            return self.base.vectors(table, indices, untrained)
        return rows.masked_fill(untrained[:, None], 0.0)

    @torch.no_grad()
    def all_vectors(self) -> Tensor:
        """Return the vectors of all languages as in use: their rows, with a base if they have one.

        Returns:
            (languages, e).
        """
        table: Tensor = self.embeddings["language"]
        if self.base is None:
            return table
        with self.base.in_use():
            rows = torch.arange(len(table), device=table.device)
            return self.base.vectors(table, rows, torch.zeros_like(rows, dtype=torch.bool))

    def forward(self, tasks: Tensor, languages: Tensor) -> Tensor:
        """Make the source embeddings of some cells for all layers at once.

        Args:
            tasks, languages: (C,), the indices of each cell's task and language.

        Returns:
            (C, L, p). Without the layer as a source, all layers of a cell share one vector.
        """
        columns = []
        for source in self.sources:
            if source == "layer":
                column = self.embeddings["layer"][None]
            elif source == "language":
                column = self.language_vectors(languages)[:, None]
            else:
                column = self.embeddings["task"][tasks][:, None]
            columns.append(column.expand(tasks.shape[0], self.layers, -1))
        joined = torch.cat(columns, dim=-1)
        embedding: Tensor = joined if self.project is None else self.project(joined)
        if self.length is not None:
            embedding = self.length * F.normalize(embedding, dim=-1)
        return embedding


class AffineMap(nn.Module):
    """x ↦ reshape(G x + g), for one weight of the adapter.

    Args:
        inputs: size p of the source embedding.
        shape: shape of the weight it writes.
        layers: None for one map that all layers share; otherwise one map for each.
    """

    def __init__(self, inputs: int, shape: tuple[int, ...], layers: int | None) -> None:
        super().__init__()
        leading = () if layers is None else (layers,)
        outputs = math.prod(shape)
        self.shape = shape
        self.weight = nn.Parameter(torch.zeros(*leading, outputs, inputs))
        self.bias = nn.Parameter(torch.zeros(*leading, outputs))

    def forward(
        self, source: Tensor, layer: int | None = None, onto: tuple[Tensor, Tensor] | None = None
    ) -> Tensor:
        """Map (C, L, p) to (C, L, *shape), all cells and layers in one matrix product.

        Args:
            source: of all layers; (C, p) of a single one.
            layer: which one that is; the result is then (C, *shape).
            onto: what is added in a single layer: (K, *shape), and (C,), the row for each cell.
        """
        weight: Tensor = self.weight
        bias: Tensor = self.bias
        if layer is not None and weight.dim() == 3:
            weight, bias = weight[layer], bias[layer]
        if onto is not None:
            table, rows = onto
            flat = (table.flatten(1) + bias).index_select(0, rows).addmm_(source, weight.T)
        elif weight.dim() == 2:
            flat = F.linear(source, weight, bias)
        else:  # one map for each layer: a batched product over the layers
            flat = torch.einsum("clp,lop->clo", source, weight) + bias
        return flat.view(*source.shape[:-1], *self.shape)


class Generator(nn.Module):
    """Writes the adapter weights of any number of cells, all layers at once.

    D = reshape(G_D s + g_D), and likewise d, U, u, γ and β: all maps are affine (Üstün et al.
    2022, equations 4 to 7). All layers share one generator, unless the layer is not a source of
    the source embedding: then each layer has its own. Ordinary LayerNorms are parameters here,
    shared by layers just as the generator is.

    Args:
        config: sizes and variants.
        hidden: the backbone's hidden size h.
        layers: the number of its layers L.
        widths: of LoRA's targets.
    """

    def __init__(
        self, config: HypernetConfig, hidden: int, layers: int, widths: Widths | None = None
    ) -> None:
        super().__init__()
        separate = None if "layer" in config.sources else layers
        self.layers = layers
        self.norms, self.maps = nn.ParameterDict(), nn.ModuleDict()
        for name, shape in adapter_shapes(config, hidden, widths).items():
            place, _, end = name.partition("_")
            if config.norms.get(place) == "ordinary":
                initial = torch.ones if end == "weight" else torch.zeros
                self.norms[name] = initial(separate or 1, hidden)
            else:
                self.maps[name] = AffineMap(config.source_size, shape, separate)

    def start_as_adapter(self, std: float) -> None:
        """Start the biases as an ordinary adapter's weights, which the source then modulates.

        The maps to B of LoRA start at zero, so that it adds nothing at first. The maps to A are
        not zero, so B gets a gradient at once, and A as soon as B has moved.
        """
        start_as_adapter(((name, affine.bias) for name, affine in self.maps.items()), std)
        for name, affine in self.maps.items():
            if name.endswith("_b"):
                nn.init.zeros_(affine.get_parameter("weight"))
        start_as_adapter(self.norms.items(), std)

    def shift(self, offset: Tensor) -> dict[str, Tensor]:
        """Return what an offset o of the source embedding adds to each weight: G o, by its name.

        Args:
            offset: (L, p).

        Returns:
            Tensors with leading dimension (L,). Ordinary LayerNorms do not depend on the source.
        """
        shifts = {}
        for name, affine in self.maps.items():
            zero: Tensor = affine(torch.zeros_like(offset)[None])
            shifts[name] = (affine(offset[None]) - zero)[0]
        return shifts

    def forward(
        self,
        source: Tensor,
        layer: int | None = None,
        onto: Mapping[str, tuple[Tensor, Tensor]] | None = None,
    ) -> AdapterWeights:
        """Write adapter weights with leading dimensions (C, L) from sources of (C, L, p).

        Args:
            source, layer: as for `AffineMap`.
            onto: the same for each weight by its name; none are ordinary LayerNorms.
        """
        onto = onto or {}
        weights = {n: affine(source, layer, onto.get(n)) for n, affine in self.maps.items()}
        for name, norm in self.norms.items():
            of_cells = norm.expand(source.shape[0], self.layers, -1)
            weights[name] = of_cells if layer is None else of_cells[:, layer]
        return AdapterWeights(**weights)


class Hypernet(nn.Module):
    """Writes the adapter weights of any cell: (task, language) → weights of all layers.

    Args:
        config: sizes and variants.
        hidden: the backbone's hidden size h.
        layers: the number of its layers L.
        tasks, languages: how many there are of each.
        widths: of LoRA's targets.

    At h = 768, L = 12 and the default configuration there are 76,460,288 parameters with two
    tasks and eight languages ("base"); with ``projection=32``, 13,105,248 ("small").
    """

    def __init__(
        self,
        config: HypernetConfig,
        *,
        hidden: int,
        layers: int,
        tasks: int,
        languages: int,
        widths: Widths | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        self.source = SourceEmbedding(config, tasks, languages, layers)
        self.generator = Generator(config, hidden, layers, widths)
        self.base: OrdinaryAdapters | None = None
        if config.task_base:
            self.base = OrdinaryAdapters(
                config, hidden=hidden, layers=layers, tasks=tasks, widths=widths
            )
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the initial parameters from torch's global generator (seed it before)."""
        for source, table in self.source.embeddings.items():
            std = self.config.embedding_std
            if source == "language" and self.config.language_std is not None:
                std = self.config.language_std
            nn.init.normal_(table, std=std)
        for module in self.modules():
            if isinstance(module, nn.Linear | AffineMap):
                nn.init.normal_(module.weight, std=self.config.initial_std)
                nn.init.zeros_(module.bias)
        if self.base is not None:
            start_as_adapter(self.base.weights.items(), self.config.initial_std)
        if self.config.start == "adapter":
            self.generator.start_as_adapter(self.config.initial_std)

    def forward(self, tasks: Tensor, languages: Tensor) -> AdapterWeights:
        """Write the weights of C cells.

        Args:
            tasks, languages: (C,), indices; `UNTRAINED` for a language without a vector.

        Returns:
            Adapter weights with leading dimensions (C, L).
        """
        generated: AdapterWeights = self.generator(self.source(tasks, languages))
        if self.base is None:
            return generated
        base = self.base(tasks, languages)
        return AdapterWeights(**{n: getattr(base, n) + w for n, w in generated.items()})

    def by_layer(self, tasks: Tensor, languages: Tensor) -> Callable[[int], AdapterWeights]:
        """Return a function that writes the weights of C cells for one layer, leading (C,).

        Most of the time goes into passes over the weights. Each product is added right onto the
        base of its task, which takes half as many of them as products, bases and sums apart.

        Args:
            tasks, languages: as for `forward`.
        """
        source = self.source(tasks, languages)
        bases = nn.ParameterDict() if self.base is None else self.base.weights

        def write(layer: int) -> AdapterWeights:
            onto = {name: (table[:, layer], tasks) for name, table in bases.items()}
            return self.generator(source[:, layer], layer, onto)  # type: ignore[no-any-return]

        return write

    @torch.no_grad()
    def coordinates(self, tasks: Tensor, languages: Tensor) -> Tensor:
        """Write the weights of C cells in a few coordinates, with the same norms and distances.

        A layer's weights are w = [G g] [s ; 1], all maps on top of each other. With QR = [G g] and
        Q orthonormal, |w - w'| = |R [s ; 1] - R [s' ; 1]|. Ordinary LayerNorms are the same in all
        cells; their length is one more coordinate. So no weights are written, which would take the
        memory of as many adapters. With `task_base` [G g] has one more column for each task.

        Args:
            tasks, languages: (C,), as for `forward`.

        Returns:
            (C, L, at most p + 2, and with `task_base` as many more as there are tasks).
        """
        maps: Any = self.generator.maps
        norms = list(self.generator.norms.values())
        affine = [torch.cat([m.weight, m.bias[..., None]], dim=-1) for m in maps.values()]
        columns = torch.cat(affine, dim=-2)
        source = F.pad(self.source(tasks, languages), (0, 1), value=1.0)
        if self.base is not None:
            weights = [self.base.weights[name].flatten(2).permute(1, 2, 0) for name in maps]
            bases = torch.cat(weights, dim=-2)
            columns = torch.cat([columns.expand(len(bases), -1, -1), bases], dim=-1)
            owners = F.one_hot(tasks, bases.shape[-1])[:, None].expand(*source.shape[:2], -1)
            source = torch.cat([source, owners], dim=-1)
        triangle = torch.linalg.qr(columns, mode="r").R
        points: Tensor = (triangle @ source[..., None]).squeeze(-1)
        if norms:
            length = torch.cat(norms, dim=-1).norm(dim=-1, keepdim=True)
            points = torch.cat([points, length.expand(*points.shape[:2], 1)], dim=-1)
        return points


class OrdinaryAdapters(nn.Module):
    """Adapters that are trained directly, one set for each task; no network writes them.

    Their shapes and insertion point are those of `config`; `start_as_adapter` says how they start.

    Args:
        config: sizes and variants; the fields of the source embedding are not used.
        hidden, layers, tasks, widths: as for `Hypernet`.
        languages: no adapter depends on them.
    """

    def __init__(
        self,
        config: HypernetConfig,
        *,
        hidden: int,
        layers: int,
        tasks: int,
        languages: int = 0,
        widths: Widths | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        shapes = adapter_shapes(config, hidden, widths)
        self.weights = nn.ParameterDict(
            {name: torch.empty(tasks, layers, *shape) for name, shape in shapes.items()}
        )
        start_as_adapter(self.weights.items(), config.initial_std)

    def forward(self, tasks: Tensor, languages: Tensor) -> AdapterWeights:
        """Select the weights of (C,) tasks, (C, L) leading; the languages change nothing."""
        # Indexing takes half as long again, forward and backward.
        return AdapterWeights(**{n: w.index_select(0, tasks) for n, w in self.weights.items()})


class StackedAdapters(nn.Module):
    """An adapter for each language, and on it one for each task (MAD-X: Pfeiffer et al. 2020).

    A layer computes T(L(z)), each adapter with a residual connection of its own; with LoRA, a
    projection computes W x + L(x) + T(x). A language or a
    task without an adapter leaves the other to act alone. There are no invertible adapters at the
    embeddings.

    Args:
        config: sizes and variants; the fields of the source embedding are not used.
        tasks, languages: how many adapters there are of each.
        sizes: hidden, layers and widths, as for `Hypernet`.
    """

    def __init__(self, config: HypernetConfig, *, tasks: int, languages: int, **sizes: Any) -> None:
        super().__init__()
        self.languages = OrdinaryAdapters(config, tasks=languages, **sizes)
        self.tasks = OrdinaryAdapters(config, tasks=tasks, **sizes)

    def forward(self, tasks: Tensor, languages: Tensor) -> AdapterWeights:
        """Select the weights of C cells.

        Args:
            tasks, languages: (C,), indices; `UNTRAINED` where there is no adapter.

        Returns:
            Adapter weights with leading dimensions (C, L, 2): of the language, then of the task.
        """
        selected = [_select(self.languages, languages), _select(self.tasks, tasks)]
        return AdapterWeights.stack(selected, dim=2)


def _select(adapters: OrdinaryAdapters, index: Tensor) -> AdapterWeights:
    """Select rows, leading dimensions (C, L); `UNTRAINED` gives zeros, which add nothing."""
    absent = index == UNTRAINED

    def blank(tensor: Tensor) -> Tensor:
        return tensor.masked_fill(absent.view(-1, *(1,) * (tensor.dim() - 1)), 0.0)

    return adapters(index.clamp(min=0), index).apply(blank)  # type: ignore[no-any-return]
