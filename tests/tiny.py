"""Tiny tokenizers and random encoders of every supported family, for tests.

Nothing here is trained or fetched: vocabularies are written out, weights are random from a seed.
An encoder has 2 layers, hidden size 32, at most 64 positions.
"""

from __future__ import annotations

import string
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import (
    CONFIG_MAPPING,
    AutoConfig,
    AutoModel,
    AutoModelForMaskedLM,
    PreTrainedTokenizerFast,
)

from hyperlect.backbone import Backbone, load_backbone

FAMILY_NAMES = (
    "bert", "xlm-roberta", "roberta", "deberta-v2", "modernbert", "distilbert",
    "gte", "eurobert", "nomic_bert", "jina_embeddings_v3",
)  # fmt: skip

HIDDEN, LAYERS, HEADS, POSITIONS = 32, 2, 2, 64
WORDS = ("the", "a", "cat", "dog", "river", "sees", "old", "Anna", "in", "Oslo", "and", "not")
CHARACTERS = string.ascii_letters + string.digits + ".,!?-'áéíóúýðþæøåäöüßçñабвгдежзиклмностя猫水山"
BERT_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
ROBERTA_SPECIAL = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")
LLAMA_SPECIAL = ("<|begin_of_text|>", "<|end_of_text|>", "<|mask|>")


def wordpiece_tokenizer(types: bool = True) -> Any:
    """WordPiece with [CLS] and [SEP], as BERT's; it drops control characters."""
    pieces = [*WORDS, *CHARACTERS, *(f"##{character}" for character in CHARACTERS)]
    model = models.WordPiece(_numbered(BERT_SPECIAL, pieces), unk_token="[UNK]")
    backend = Tokenizer(model)
    backend.normalizer = normalizers.BertNormalizer(lowercase=False, strip_accents=False)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return _wrap(backend, BERT_SPECIAL, types)


def unigram_tokenizer(special: Sequence[str] = ROBERTA_SPECIAL, types: bool = False) -> Any:
    """Unigram with a space mark before each word, as XLM-R's and DeBERTa-v3's."""
    pieces = ["▁", *(f"▁{word}" for word in WORDS), *CHARACTERS]
    vocabulary = [(token, 0.0) for token in special]
    vocabulary += [(piece, -1.0 - index / 100) for index, piece in enumerate(pieces)]
    unknown = next(i for i, token in enumerate(special) if "unk" in token.lower())
    backend = Tokenizer(models.Unigram(vocabulary, unk_id=unknown, byte_fallback=False))
    backend.normalizer = normalizers.Sequence([normalizers.Nmt(), normalizers.NFKC()])
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    return _wrap(backend, special, types)


def byte_tokenizer(special: Sequence[str] = ROBERTA_SPECIAL) -> Any:
    """Byte-level BPE that adds no space by itself, as RoBERTa's and ModernBERT's."""
    merges: dict[tuple[str, str], str] = {}
    for word in (*(f"Ġ{word}" for word in WORDS), *WORDS):
        for end in range(1, len(word)):
            merges[word[:end], word[end]] = word[: end + 1]
    pieces = dict.fromkeys([*sorted(pre_tokenizers.ByteLevel.alphabet()), *merges.values()])
    backend = Tokenizer(models.BPE(_numbered(special, pieces), list(merges)))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return _wrap(backend, special)


def llama_tokenizer() -> Any:
    """Byte-level BPE as EuroBERT's: digits without a space before them; the end token also pads."""
    backend = byte_tokenizer(LLAMA_SPECIAL).backend_tokenizer
    words = Regex(r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+")
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(words, "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    return _wrap(backend, LLAMA_SPECIAL)


def tiny_tokenizer(family: str) -> Any:
    """Return a tokenizer of the sort that models of this family have."""
    match family:
        case "bert" | "distilbert" | "nomic_bert":
            return wordpiece_tokenizer(types=family != "distilbert")
        case "xlm-roberta" | "gte" | "jina_embeddings_v3":
            return unigram_tokenizer()
        case "deberta-v2":
            return unigram_tokenizer(BERT_SPECIAL, types=True)
        case "roberta":
            return byte_tokenizer()
        case "modernbert":
            return byte_tokenizer(BERT_SPECIAL)
        case "eurobert":
            return llama_tokenizer()
    raise ValueError(family)


def tiny_config(family: str, vocabulary: int, layers: int = LAYERS, hidden: int = HIDDEN) -> Any:
    """Return the configuration of a tiny encoder; its padding id is its tokenizer's.

    A test of a family that the installed transformers does not have yet is skipped.
    """
    if family not in CONFIG_MAPPING:
        pytest.skip(f"transformers {transformers.__version__} has no {family}")
    pad = tiny_tokenizer(family).pad_token_id
    shared = {"vocab_size": vocabulary, "pad_token_id": pad}
    # RoBERTa numbers positions from padding_idx + 1.
    positions = POSITIONS + pad + 1 if "roberta" in family else POSITIONS
    if family == "distilbert":
        sizes = {"dim": hidden, "n_layers": layers, "n_heads": HEADS, "hidden_dim": 2 * hidden}
        return AutoConfig.for_model(family, **shared, **sizes, max_position_embeddings=positions)
    sizes = {
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": HEADS,
        "intermediate_size": 2 * hidden,
        "max_position_embeddings": positions,
    }
    extra: dict[str, Any] = {}
    if family in ("bert", "nomic_bert"):
        extra = {"type_vocab_size": 2}
    elif "roberta" in family:
        extra = {"type_vocab_size": 1, "bos_token_id": 0, "eos_token_id": 2}
    elif family == "deberta-v2":
        extra = {
            "type_vocab_size": 0,
            "relative_attention": True,
            "position_buckets": 16,
            "norm_rel_ebd": "layer_norm",
            "share_att_key": True,
            "pos_att_type": ["p2c", "c2p"],
            "position_biased_input": False,
        }
    elif family in ("gte", "jina_embeddings_v3"):
        extra = {"type_vocab_size": 1}
    elif family == "eurobert":
        extra = {"bos_token_id": 0, "eos_token_id": 1, "mask_token_id": 2}
    elif family == "modernbert":
        special = {"cls_token_id": 2, "sep_token_id": 3, "bos_token_id": 2, "eos_token_id": 3}
        extra = {"global_attn_every_n_layers": 2, "local_attention": 16, **special}
    return AutoConfig.for_model(family, **shared, **sizes, **extra)


def tiny_encoder(
    family: str, seed: int = 0, mlm: bool = False, layers: int = LAYERS, hidden: int = HIDDEN
) -> Any:
    """Return a random encoder in evaluation mode; with `mlm`, its masked-LM model."""
    config = tiny_config(family, len(tiny_tokenizer(family)), layers, hidden)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = (AutoModelForMaskedLM if mlm else AutoModel).from_config(config)
    return model.eval()


def tiny_backbone(
    family: str = "bert", seed: int = 0, layers: int = LAYERS, hidden: int = HIDDEN
) -> Backbone:
    """Return a random encoder of a family with its tokenizer, held in memory only."""
    encoder = tiny_encoder(family, seed, layers=layers, hidden=hidden)
    return Backbone(encoder, tiny_tokenizer(family), reference=f"tiny-{family}")


def save_tiny(folder: Path, family: str = "bert", seed: int = 0, mlm: bool = False) -> Path:
    """Write encoder and tokenizer as a transformers folder that `load_backbone` reads.

    With `mlm` the model is saved with its masked-LM head.
    """
    tiny_encoder(family, seed, mlm).save_pretrained(folder)
    tiny_tokenizer(family).save_pretrained(folder)
    return folder


def saved_backbone(
    folder: Path, family: str = "bert", seed: int = 0, mlm: bool = False
) -> Backbone:
    """Save a tiny encoder and load it again, so that its reference is a real folder."""
    return load_backbone(str(save_tiny(folder, family, seed, mlm)))


def _numbered(special: Sequence[str], pieces: Any) -> dict[str, int]:
    return {token: index for index, token in enumerate(dict.fromkeys([*special, *pieces]))}


def _wrap(backend: Any, special: Sequence[str], types: bool = False) -> Any:
    """Add the post-processor and the names of the special tokens."""
    roles = {
        "pad_token": ("[PAD]", "<pad>", "<|end_of_text|>"),
        "unk_token": ("[UNK]", "<unk>"),
        "cls_token": ("[CLS]", "<s>"),
        "sep_token": ("[SEP]", "</s>"),
        "bos_token": ("<|begin_of_text|>",),
        "eos_token": ("<|end_of_text|>",),
        "mask_token": ("[MASK]", "<mask>", "<|mask|>"),
    }
    named = {role: name for role, names in roles.items() for name in names if name in special}
    start = named.get("cls_token") or named["bos_token"]
    end = named.get("sep_token") or named["eos_token"]
    between, second = (end, ":1") if types else (f"{end} {end}", "")
    backend.post_processor = processors.TemplateProcessing(
        single=f"{start} $A {end}",
        pair=f"{start} $A {between} $B{second} {end}{second}",
        special_tokens=[(token, backend.token_to_id(token)) for token in (start, end)],
    )
    inputs = ["input_ids", *(["token_type_ids"] if types else []), "attention_mask"]
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, model_max_length=POSITIONS, model_input_names=inputs, **named
    )
