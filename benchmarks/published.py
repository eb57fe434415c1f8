"""Training as it was published, done plainly: what speed.py compares hyperlect's training with.

The procedure is that of Üstün et al. (2022) and of the authors' released code:

- every sentence is padded to the longest length the model takes, 256 sub-words;
- at every step, each layer's adapter weights are generated when the layer is reached, in a loop
  over layers, from the source embedding of that layer alone;
- heads score every position, for masked language modelling over the whole vocabulary, and the
  loss is taken where there is a label;
- one cell a batch, and AdamW as it comes.

The parameters are those of a hyperlect model, the mathematics too: the loss and its gradients are
the same (tests/benchmarks/test_published.py). The code is not: apart from the frozen encoder and
the heads, it is written out here.
"""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hyperlect.data.batching import Batch, TaskRows
from hyperlect.heads import Encoded
from hyperlect.model import HyperX

NO_LABEL = -100
LENGTH = 256


class PublishedModel(nn.Module):
    """Hyper-X of the published form (the default `HypernetConfig`, but for sizes).

    Args:
        model: whose encoder, hypernetwork and heads are taken over. It must not be used itself
            any more, since its hooks are taken out of the encoder.
        length: what every sentence is padded to, in sub-words.
    """

    def __init__(self, model: HyperX, length: int = LENGTH) -> None:
        super().__init__()
        model.hooks.remove()
        self.backbone = model.backbone
        self.hypernet: Any = model.adapters
        self.heads = model.heads
        self.config = model.config.hypernet
        self.tasks = list(model.tasks)
        self.languages = list(model.languages)
        self.length = length
        self.cell = (0, 0)
        points = self.backbone.family.insertion_points(
            self.backbone.encoder, self.backbone.layers, "feed_forward"
        )
        for layer, module in enumerate(points):
            module.register_forward_hook(functools.partial(self.adapt, layer))

    def source(self, layer: int) -> Tensor:
        """Make the source embedding of the present cell for one layer, (p,)."""
        tables = self.hypernet.source.embeddings
        task, language = self.cell
        parts = [tables["task"][task], tables["language"][language], tables["layer"][layer]]
        return self.hypernet.source.project(torch.cat(parts))  # type: ignore[no-any-return]

    def generate(self, name: str, source: Tensor, *shape: int) -> Tensor:
        """Generate one weight of one layer's adapter."""
        affine = self.hypernet.generator.maps[name]
        return F.linear(source, affine.weight, affine.bias).view(*shape)

    def adapt(self, layer: int, _module: nn.Module, _inputs: Any, z: Tensor) -> Tensor:
        """Apply the adapter of one layer, generated on the spot: z + LN(U ReLU(D z + d) + u)."""
        hidden, inner = z.shape[-1], self.config.bottleneck
        source = self.source(layer)
        down = self.generate("down_weight", source, inner, hidden)
        down_bias = self.generate("down_bias", source, inner)
        up = self.generate("up_weight", source, hidden, inner)
        up_bias = self.generate("up_bias", source, hidden)
        scale = self.generate("after_weight", source, hidden)
        shift = self.generate("after_bias", source, hidden)
        out = F.linear(F.relu(F.linear(z, down, down_bias)), up, up_bias)
        return z + F.layer_norm(out, (hidden,), scale, shift, self.config.norm_eps)

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, task: str, language: str
    ) -> Tensor:
        """Score every position, (B, T, labels or vocabulary), or sentence, (B, labels)."""
        self.cell = (self.tasks.index(task), self.languages.index(language))
        hidden, _ = self.backbone(input_ids, attention_mask)
        head: Any = self.heads[task]
        encoded = Encoded(hidden, attention_mask, self.backbone.word_embeddings)
        every = TaskRows(torch.arange(len(hidden), device=hidden.device))
        return head.read(encoded, every)  # type: ignore[no-any-return]

    def loss(self, batch: Batch) -> Tensor:
        """Return the mean loss of a batch of one cell over its labels."""
        task, language = batch.cells[0]
        input_ids, attention_mask, labels = self.padded(batch, task)
        logits = self(input_ids, attention_mask, task, language).float()
        return F.cross_entropy(
            logits.flatten(0, -2), labels.flatten().to(logits.device), ignore_index=NO_LABEL
        )

    def padded(self, batch: Batch, task: str) -> tuple[Tensor, Tensor, Tensor]:
        """Pad a batch to the full length: sub-words and mask (B, T), labels (B, T) or (B,)."""
        missing = self.length - batch.input_ids.shape[1]
        pad = self.backbone.encoder.config.pad_token_id
        input_ids = F.pad(batch.input_ids, (0, missing), value=pad)
        attention_mask = F.pad(batch.attention_mask, (0, missing))
        rows = batch.tasks[task]
        assert rows.labels is not None
        if rows.positions is None:
            return input_ids, attention_mask, rows.labels
        labels = torch.full_like(batch.input_ids, NO_LABEL).flatten()
        labels[rows.positions] = rows.labels
        labels = F.pad(labels.view_as(batch.input_ids), (0, missing), value=NO_LABEL)
        return input_ids, attention_mask, labels
