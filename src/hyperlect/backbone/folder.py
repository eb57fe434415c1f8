"""Writes an encoder's weights and tokenizer as a folder that transformers loads as it stands.

It suits transformers 4.57 and 5 alike: `AutoModel.from_pretrained(folder, add_pooling_layer=False)`
and `AutoTokenizer.from_pretrained(folder)`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from .packed import PackedFile, tensor_table

MAX_LENGTH = 512
SPECIAL_TOKENS = {
    "bos_token": "<s>",
    "cls_token": "<s>",
    "eos_token": "</s>",
    "sep_token": "</s>",
    "pad_token": "<pad>",
    "unk_token": "<unk>",
    "mask_token": "<mask>",
}


def write_weights(packed: PackedFile, folder: Path, done: Callable[[int], None]) -> None:
    """Write `config.json` and, decoded to float32, `model.safetensors`.

    Args:
        packed: The parsed weights file.
        folder: An existing folder.
        done: Called after each tensor is decoded, with its number of values.
    """
    tensors: dict[str, NDArray[np.float32]] = {}
    for short, (full, shape) in tensor_table(packed.sizes).items():
        tensors[full] = packed.tensor(short).reshape(shape)
        done(tensors[full].size)
    config, weights = folder / "config.json", folder / "model.safetensors"
    write_json(config, bert_config(packed))
    save_file(tensors, weights, metadata={"format": "pt"})
    # safetensors makes its file readable by the owner alone; a shared cache is for everyone.
    weights.chmod(config.stat().st_mode)


def bert_config(packed: PackedFile) -> dict[str, Any]:
    """Return the `config.json` of the encoder as a transformers `BertConfig` without pooler."""
    return {
        "architectures": ["BertModel"],
        "model_type": "bert",
        # Without a version, transformers 4.57.3 and later take any large local tokenizer for a
        # faulty Mistral one and warn about it.
        "transformers_version": "5.0.0",
        "dtype": "float32",
        "hidden_act": "gelu",
        "hidden_size": packed.sizes.hidden,
        "num_hidden_layers": packed.sizes.layers,
        "num_attention_heads": packed.sizes.heads,
        "intermediate_size": packed.sizes.feed_forward,
        "vocab_size": packed.sizes.vocabulary,
        "max_position_embeddings": packed.sizes.positions,
        "type_vocab_size": packed.sizes.types,
        "layer_norm_eps": packed.epsilon,
        "hidden_dropout_prob": 0.1,
        "attention_probs_dropout_prob": 0.1,
        "initializer_range": 0.02,
        "pad_token_id": packed.pad,
        "bos_token_id": packed.bos,
        "eos_token_id": packed.eos,
    }


def write_tokenizer(content: bytes, folder: Path) -> None:
    """Write `tokenizer.json`, its mask token taking the space before it, and its configuration."""
    tokenizer = json.loads(content)
    for token in tokenizer["added_tokens"]:
        token["lstrip"] = token["content"] == SPECIAL_TOKENS["mask_token"]
    write_json(folder / "tokenizer.json", tokenizer, indent=None)
    configuration = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        **SPECIAL_TOKENS,
        "model_max_length": MAX_LENGTH,
        # The encoder was trained with token type 0 alone, so the tokenizer makes no types.
        "model_input_names": ["input_ids", "attention_mask"],
        "clean_up_tokenization_spaces": False,
        "added_tokens_decoder": {
            str(token["id"]): {key: token[key] for key in token if key != "id"}
            for token in tokenizer["added_tokens"]
        },
    }
    write_json(folder / "tokenizer_config.json", configuration)


def write_json(path: Path, content: Mapping[str, Any], indent: int | None = 2) -> None:
    """Write one JSON file in UTF-8."""
    path.write_text(json.dumps(content, indent=indent, ensure_ascii=False), encoding="utf-8")
