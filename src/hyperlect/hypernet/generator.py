"""The generator: affine maps from a source embedding to every weight of an adapter."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from .adapter import AdapterWeights
from .config import HypernetConfig

SCALE = 0.1
"""Of the LayerNorm after an adapter that starts as an ordinary one."""


class AffineMap(nn.Module):
    """x ↦ reshape(G x + g), for one weight of the adapter.

    Args:
        inputs: size p of the source embedding.
        shape: shape of the weight that is made.
        layers: None for one map shared by all layers; otherwise one map for each.
    """

    def __init__(self, inputs: int, shape: tuple[int, ...], layers: int | None) -> None:
        super().__init__()
        lead = () if layers is None else (layers,)
        outputs = math.prod(shape)
        self.shape = shape
        self.weight = nn.Parameter(torch.zeros(*lead, outputs, inputs))
        self.bias = nn.Parameter(torch.zeros(*lead, outputs))

    def forward(self, source: Tensor) -> Tensor:
        """Map (C, L, p) to (C, L, *shape), all cells and layers in one matrix product."""
        if self.weight.dim() == 2:
            made = nn.functional.linear(source, self.weight, self.bias)
        else:  # one map a layer: a batched product over the layers
            made = torch.einsum("clp,lop->clo", source, self.weight) + self.bias
        return made.view(*source.shape[:2], *self.shape)


class Generator(nn.Module):
    """Writes the adapter weights of any number of cells, all layers at once.

    D = reshape(G_D s + g_D), and likewise d, U, u, γ and β: all maps are affine (Üstün et al.
    2022, equations 4 to 7). One generator is shared by all layers, unless the layer is no source
    of the source embedding: then there is one a layer. Ordinary LayerNorms are parameters here,
    shared by layers just as the generator is.

    Args:
        config: sizes and variants.
        hidden: the backbone's hidden size h.
        layers: the number of its layers L.
    """

    def __init__(self, config: HypernetConfig, hidden: int, layers: int) -> None:
        super().__init__()
        own = None if "layer" in config.sources else layers
        self.layers = layers
        shapes: dict[str, tuple[int, ...]] = {
            "down_weight": (config.bottleneck, hidden),
            "down_bias": (config.bottleneck,),
            "up_weight": (hidden, config.bottleneck),
            "up_bias": (hidden,),
        }
        self.norms = nn.ParameterDict()
        for place, kind in (("after", config.norm_after), ("before", config.norm_before)):
            if kind == "generated":
                shapes |= {f"{place}_weight": (hidden,), f"{place}_bias": (hidden,)}
            elif kind == "ordinary":
                self.norms[f"{place}_weight"] = torch.ones(own or 1, hidden)
                self.norms[f"{place}_bias"] = torch.zeros(own or 1, hidden)
        self.maps = nn.ModuleDict(
            {name: AffineMap(config.source_size, shape, own) for name, shape in shapes.items()}
        )

    def start_as_adapter(self, std: float) -> None:
        """Start the biases as an ordinary adapter's weights, which the source then modulates.

        Down and up weights are drawn from N(0, std²). The scale after the adapter starts at
        `SCALE`, so that it begins close to the identity and yet passes gradients on; one before
        it starts at 1.
        """
        if "after_weight" in self.norms:
            nn.init.constant_(self.norms["after_weight"], SCALE)
        for name, affine in self.maps.items():
            bias: nn.Parameter = affine.bias  # type: ignore[assignment]
            if name in ("down_weight", "up_weight"):
                nn.init.normal_(bias, std=std)
            elif name.endswith("_weight"):
                nn.init.constant_(bias, SCALE if name.startswith("after") else 1.0)

    def forward(self, source: Tensor) -> AdapterWeights:
        """Make adapter weights with leading dimensions (C, L) from sources of (C, L, p)."""
        made = {name: affine(source) for name, affine in self.maps.items()}
        cells = len(source)
        made |= {name: p.expand(cells, self.layers, -1) for name, p in self.norms.items()}
        return AdapterWeights(**made)
