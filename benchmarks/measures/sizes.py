"""The sizes at which parameters are counted."""

from __future__ import annotations

import torch
from transformers import BertConfig, BertModel

from hyperlect.accounting import Sizes
from hyperlect.hypernet import HypernetConfig

TASKS = (1, 4)
LANGUAGES = (1, 10, 100, 1_000, 7_000)


def encoder_parameters(
    vocabulary: int, hidden: int, *, positions: int = 512, types: int = 2
) -> int:
    """Count those of an encoder of twelve BERT layers without a pooler, made without memory.

    The layers of XLM-R are the same as BERT's; its vocabulary, positions and types are not.
    """
    config = BertConfig(
        vocab_size=vocabulary,
        hidden_size=hidden,
        intermediate_size=4 * hidden,
        max_position_embeddings=positions,
        type_vocab_size=types,
        num_attention_heads=12,
        num_hidden_layers=12,
    )
    with torch.device("meta"):
        return sum(p.numel() for p in BertModel(config, add_pooling_layer=False).parameters())


VOCABULARIES = {"mBERT": 119_547, "XLM-R base": 250_002, "builtin:e5-small": 250_037}
_XLMR = encoder_parameters(VOCABULARIES["XLM-R base"], 768, positions=514, types=1)
SETTINGS: dict[str, tuple[Sizes, HypernetConfig]] = {
    "mBERT": (
        Sizes(768, 12, encoder_parameters(VOCABULARIES["mBERT"], 768)),
        HypernetConfig(),
    ),
    "XLM-R base": (Sizes(768, 12, _XLMR), HypernetConfig()),
    "builtin:e5-small": (
        Sizes(384, 12, encoder_parameters(VOCABULARIES["builtin:e5-small"], 384)),
        HypernetConfig(bottleneck=64, projection=32),
    ),
}
"""By encoder: its sizes, and those of the adapters."""


def title(encoder: str) -> str:
    """Return the encoder with the sizes of its adapters."""
    config = SETTINGS[encoder][1]
    return f"{encoder}, b = {config.bottleneck}, p = {config.projection}"
