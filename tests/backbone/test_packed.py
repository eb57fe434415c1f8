"""The packed 4-bit format of the built-in backbone."""

from __future__ import annotations

import struct

import numpy as np
from transformers import BertConfig, BertModel

from hyperlect.backbone import builtin

SIZES = {
    "hidden_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "vocab_size": 12,
    "max_position_embeddings": 16,
    "type_vocab_size": 2,
}
NAMES = builtin.packed_names(1)


def plain_decode(raw: bytes) -> list[float]:
    """Decode 4-bit blocks one value at a time."""
    values = []
    for start in range(0, len(raw), 18):
        (scale,) = struct.unpack_from("<e", raw, start)
        codes = raw[start + 2 : start + 18]
        values += [((code & 15) - 8) * scale for code in codes]
        values += [((code >> 4) - 8) * scale for code in codes]
    return values


def random_blocks(count: int, generator: np.random.Generator) -> bytes:
    """Blocks holding `count` values, with scales of both signs."""
    blocks = np.zeros(count // 32, builtin.BLOCK)
    blocks["scale"] = generator.normal(0, 0.02, len(blocks))
    blocks["codes"] = generator.integers(0, 256, (len(blocks), 16))
    return blocks.tobytes()


def packed_bytes() -> bytes:
    """Write a tiny packed encoder: word embeddings and linear weights in 4 bits, else float32."""
    generator = np.random.default_rng(0)
    head = b"E5S1" + struct.pack("<I7ifi", 1, *SIZES.values(), 1e-12, 32)
    head += struct.pack("<5iQ", 2, 0, 2, 1, 3, 5) + struct.pack("<3I2f", 0, 2, 5, 0, 0) + b"abcde"
    head += struct.pack("<iI", 1, 9) + struct.pack("<IBI", 65, 1, 97)
    tensors = {}
    encoder = BertModel(BertConfig(**SIZES), add_pooling_layer=False)
    for full, tensor in encoder.state_dict().items():
        name, count = NAMES[full], tensor.numel()
        four_bit = name == "emb.word" or (name.endswith(".w") and "LayerNorm" not in full)
        raw = generator.normal(size=count).astype("<f4").tobytes()
        tensors[name] = (four_bit, count, random_blocks(count, generator) if four_bit else raw)
    at = len(head) + 4 + sum(23 + len(name) for name in tensors)
    directory, body = struct.pack("<i", len(tensors)), b""
    for name, (encoding, count, raw) in tensors.items():
        directory += struct.pack("<H", len(name)) + name.encode()
        directory += struct.pack("<BIQQ", encoding, count, at + len(body), len(raw))
        body += raw
    return head + directory + body


def test_decoding_equals_the_plain_twin() -> None:
    raw = random_blocks(32 * 50, np.random.default_rng(1))
    assert builtin.decode(builtin.FOUR_BIT, raw).tolist() == plain_decode(raw)


def test_decoding_one_block_by_hand() -> None:
    raw = struct.pack("<e", -0.5) + bytes([0x0F, 0xF0] + [0x88] * 14)
    values = builtin.decode(builtin.FOUR_BIT, raw)
    assert values[:3].tolist() == [-3.5, 4.0, 0.0]  # low halves 15, 0, 8
    assert values[16:19].tolist() == [4.0, -3.5, 0.0]  # high halves 0, 15, 8


def test_header_and_directory_are_read() -> None:
    settings, tensors = builtin.parse(packed_bytes())
    ends = {"bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 1}
    assert settings == {**SIZES, **ends, "layer_norm_eps": 1e-12}
    assert tensors.keys() == set(NAMES.values())
    assert tensors["l0.fi.w"][0] == builtin.FOUR_BIT
    assert builtin.decode(*tensors["l0.fi.w"]).shape == (64 * 32,)
    assert builtin.decode(*tensors["l0.aln.b"]).std() > 0.5
