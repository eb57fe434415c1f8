"""The packed 4-bit format of the built-in backbone."""

from __future__ import annotations

import dataclasses
import struct

import numpy as np
import pytest

from hyperlect.backbone import builtin
from hyperlect.errors import BackboneError

SIZES = builtin.Sizes(
    hidden=32, layers=1, heads=2, feed_forward=64, vocabulary=12, positions=16, types=2
)


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


def packed_bytes(
    leave_out: str = "",
    version: int = 1,
    rename: tuple[str, str] = ("", ""),
    cut: tuple[str, ...] = (),
) -> bytes:
    """Write a tiny packed encoder, and do some damage to it on request.

    The word embeddings and the linear weights are 4-bit, the rest float32.
    """
    generator = np.random.default_rng(0)
    head = builtin.MAGIC + struct.pack("<I7ifi", version, *dataclasses.astuple(SIZES), 1e-12, 32)
    head += struct.pack("<5iQ", 2, 0, 2, 1, 3, 5) + struct.pack("<3I2f", 0, 2, 5, 0, 0) + b"abcde"
    head += struct.pack("<iI", 1, 9) + struct.pack("<IBI", 65, 1, 97)
    tensors = {}
    for name, (full, shape) in builtin.tensor_table(SIZES).items():
        four_bit = name == "emb.word" or (name.endswith(".w") and "LayerNorm" not in full)
        count = int(np.prod(shape))
        raw = generator.normal(size=count).astype("<f4").tobytes()
        tensors[name] = (four_bit, count, random_blocks(count, generator) if four_bit else raw)
    tensors.pop(leave_out, None)
    if rename[0]:
        tensors[rename[1]] = tensors.pop(rename[0])
    for name in cut:
        encoding, count, raw = tensors[name]
        tensors[name] = (encoding, count, raw[:-4])
    at = len(head) + 4 + sum(23 + len(name) for name in tensors)
    directory, body = struct.pack("<i", len(tensors)), b""
    for name, (encoding, count, raw) in tensors.items():
        directory += struct.pack("<H", len(name)) + name.encode()
        directory += struct.pack("<BIQQ", encoding, count, at + len(body), len(raw))
        body += raw
    return head + directory + body


def test_decoding_equals_the_plain_twin() -> None:
    raw = random_blocks(32 * 50, np.random.default_rng(1))
    assert builtin.decode_blocks(raw).tolist() == plain_decode(raw)


def test_decoding_one_block_by_hand() -> None:
    raw = struct.pack("<e", -0.5) + bytes([0x0F, 0xF0] + [0x88] * 14)
    values = builtin.decode_blocks(raw)
    assert values[:3].tolist() == [-3.5, 4.0, 0.0]  # low halves 15, 0, 8
    assert values[16:19].tolist() == [4.0, -3.5, 0.0]  # high halves 0, 15, 8


def test_header_and_directory_are_read() -> None:
    file = builtin.parse(packed_bytes(), "tiny.bin")
    assert file.sizes == SIZES
    assert (file.epsilon, file.bos, file.eos, file.pad) == (1e-12, 0, 2, 1)
    assert file.raw.keys() == builtin.tensor_table(SIZES).keys()
    assert file.raw["l0.fi.w"][0] == builtin.FOUR_BIT
    assert file.tensor("l0.fi.w").shape == (64 * 32,)
    assert file.tensor("l0.aln.b").std() > 0.5


def test_other_formats_and_versions_are_refused() -> None:
    for data in (b"GGUF" + packed_bytes()[4:], packed_bytes(version=2)):
        with pytest.raises(BackboneError, match=r"tiny\.bin"):
            builtin.parse(data, "tiny.bin")


def test_a_file_that_is_cut_off_anywhere_is_refused() -> None:
    data = packed_bytes()
    for length in [*range(4, len(data), 101), len(data) - 1]:
        with pytest.raises(BackboneError, match=r"tiny\.bin"):
            builtin.parse(data[:length], "tiny.bin")


def test_every_wrong_tensor_is_named() -> None:
    def messages(data: bytes) -> list[str]:
        with pytest.raises(BackboneError) as error:
            builtin.parse(data, "tiny.bin")
        return [problem.message for problem in error.value.problems]

    assert messages(packed_bytes(leave_out="l0.k.w")) == ["l0.k.w is missing"]
    assert messages(packed_bytes(rename=("l0.k.w", "l0.k.x"))) == [
        "l0.k.w is missing",
        "l0.k.x is unexpected",
    ]
    assert messages(packed_bytes(cut=("emb.pos", "emb.ln.b"))) == [
        "emb.ln.b has 124 bytes, not 128",
        "emb.pos has 2044 bytes, not 2048",
    ]
