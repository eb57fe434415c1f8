"""The hypernetwork: source embedding and generator together."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .adapter import AdapterWeights
from .config import HypernetConfig
from .generator import SCALE, AffineMap, Generator
from .source import SourceEmbedding


class Hypernet(nn.Module):
    """Writes the adapter weights of any cell: (task, language) → weights of all layers.

    Args:
        config: sizes and variants.
        hidden: the backbone's hidden size h.
        layers: the number of its layers L.
        tasks, languages: how many there are of each.

    At h = 768, L = 12 and the default configuration there are 76,460,288 parameters with two
    tasks and eight languages ("base"); with ``projection=32``, 13,105,248 ("small").
    """

    def __init__(
        self, config: HypernetConfig, *, hidden: int, layers: int, tasks: int, languages: int
    ) -> None:
        super().__init__()
        self.config = config
        self.source = SourceEmbedding(config, tasks, languages, layers)
        self.generator = Generator(config, hidden, layers)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the initial parameters from torch's global generator (seed it beforehand)."""
        for source, table in self.source.embeddings.items():
            own = self.config.language_std if source == "language" else None
            nn.init.normal_(table, std=self.config.embedding_std if own is None else own)
        for module in self.modules():
            if isinstance(module, nn.Linear | AffineMap):
                nn.init.normal_(module.weight, std=self.config.initial_std)
                nn.init.zeros_(module.bias)
        if self.config.start == "adapter":
            self.generator.start_as_adapter(self.config.initial_std)

    def forward(self, tasks: Tensor, languages: Tensor) -> AdapterWeights:
        """Generate the weights of C cells.

        Args:
            tasks, languages: (C,), indices; a language of `source.UNTRAINED` takes the mean of
                the language vectors.

        Returns:
            Adapter weights with leading dimensions (C, L).
        """
        return self.generator(self.source(tasks, languages))  # type: ignore[no-any-return]


class OrdinaryAdapters(nn.Module):
    """Adapters that are trained directly, one set a task, with no network that writes them.

    Their shapes and place are those of `config`, so they are what a hypernetwork's cost and
    quality are compared with. Down and up weights start from N(0, initial_std²), biases from
    zero. The LayerNorm after the adapter starts with a scale of `generator.SCALE`, so that the
    adapter is close to the identity at first, as adapters are meant to be (Houlsby et al. 2019,
    section 2): at 1 it would add noise as large as the activations, layer upon layer.

    Args:
        config: sizes and variants; what concerns the source embedding is not used.
        hidden, layers, tasks: as for `Hypernet`.
    """

    def __init__(self, config: HypernetConfig, *, hidden: int, layers: int, tasks: int) -> None:
        super().__init__()
        self.config = config
        lead = (tasks, layers)
        weights = {
            "down_weight": torch.empty(*lead, config.bottleneck, hidden),
            "down_bias": torch.zeros(*lead, config.bottleneck),
            "up_weight": torch.empty(*lead, hidden, config.bottleneck),
            "up_bias": torch.zeros(*lead, hidden),
        }
        for place, kind in (("after", config.norm_after), ("before", config.norm_before)):
            if kind != "none":
                scale = SCALE if place == "after" else 1.0
                weights[f"{place}_weight"] = torch.full((*lead, hidden), scale)
                weights[f"{place}_bias"] = torch.zeros(*lead, hidden)
        nn.init.normal_(weights["down_weight"], std=config.initial_std)
        nn.init.normal_(weights["up_weight"], std=config.initial_std)
        self.weights = nn.ParameterDict({name: nn.Parameter(w) for name, w in weights.items()})

    def forward(self, tasks: Tensor, languages: Tensor) -> AdapterWeights:
        """Select the weights of (C,) tasks, (C, L) leading; the languages change nothing."""
        return AdapterWeights(**{name: weight[tasks] for name, weight in self.weights.items()})
