"""Loading an encoder: from a folder or the hub, whole or not at all."""

from __future__ import annotations

import json
import shutil
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import load_file, save_file
from transformers import AutoModelForMaskedLM

from hyperlect.backbone import FAMILIES, encoder_limits, load_backbone
from hyperlect.errors import BackboneError, UnknownNameError
from tests.hub import COMMIT, put_on_hub
from tests.tiny import (
    FAMILY_NAMES,
    LAYERS,
    POSITIONS,
    save_tiny,
    tiny_config,
    tiny_encoder,
    tiny_tokenizer,
)

IDS = torch.arange(5, 25).view(2, 10)
MASK = torch.ones_like(IDS)
DENSE = "encoder.layer.1.output.dense.weight"


def edit_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], Any]) -> None:
    state = load_file(folder / "model.safetensors")
    change(state)
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})


def refusal(reference: Path | str) -> str:
    with pytest.raises(BackboneError) as error:
        load_backbone(str(reference))
    return str(error.value)


def outputs(encoder: Any) -> torch.Tensor:
    with torch.no_grad():
        return encoder(input_ids=IDS, attention_mask=MASK).last_hidden_state


@pytest.mark.parametrize("mlm", [False, True])
@pytest.mark.parametrize("family", FAMILY_NAMES)
def test_an_encoder_comes_back_from_a_folder(family: str, mlm: bool, tmp_path: Path):
    backbone = load_backbone(str(save_tiny(tmp_path, family, seed=3, mlm=mlm)))
    saved = tiny_encoder(family, seed=3, mlm=mlm)
    assert torch.equal(outputs(backbone.encoder), outputs(saved.base_model))
    assert type(backbone.encoder) is type(saved.base_model)
    assert backbone.family is FAMILIES[family]
    assert backbone.reference == str(tmp_path)
    text = "Anna sees the old river"
    assert backbone.tokenizer(text)["input_ids"] == tiny_tokenizer(family)(text)["input_ids"]
    # EuroBERT's head is only a decoder.
    assert (backbone.mlm_start is not None) is (mlm and family != "eurobert")
    assert not any(parameter.requires_grad for parameter in backbone.parameters())


def test_no_pooler_is_loaded(tmp_path: Path):
    for mlm in (False, True):
        backbone = load_backbone(str(save_tiny(tmp_path / str(mlm), "bert", mlm=mlm)))
        assert not [name for name, _ in backbone.named_parameters() if "pooler" in name]


def test_an_encoder_comes_back_from_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder = save_tiny(tmp_path / "made", "xlm-roberta", seed=4)
    put_on_hub("acme/tiny-xlmr", folder, tmp_path / "cache", monkeypatch)
    for revision in (None, "main", COMMIT):
        backbone = load_backbone("acme/tiny-xlmr", revision)
        assert torch.equal(outputs(backbone.encoder), outputs(tiny_encoder("xlm-roberta", seed=4)))
        assert (backbone.reference, backbone.revision) == ("acme/tiny-xlmr", revision)
        assert backbone.tokenizer.is_fast
    with pytest.raises(BackboneError, match="acme/tiny-xlmr"):
        load_backbone("acme/tiny-xlmr", "v2")
    assert "acme/absent" in refusal("acme/absent")


def test_a_folder_may_be_relative_to_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    save_tiny(tmp_path / "encoder")
    assert load_backbone("~/encoder").reference == "~/encoder"


@pytest.fixture
def connections(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The hosts that a connection was tried to, all in vain."""
    hosts: list[str] = []

    def refuse(address: Any, *_: Any, **__: Any) -> Any:
        hosts.append(address[0] if isinstance(address, tuple) else address)
        raise OSError("no network")

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    for name in ("create_connection", "getaddrinfo"):
        monkeypatch.setattr(socket, name, refuse)
    return hosts


MISSING = ("/no/such/folder", "./no-such", "../no-such", "~/no-such", "", "not a name", "a/b/c")


@pytest.mark.parametrize("reference", MISSING)
def test_a_reference_that_is_neither_folder_nor_hub_id_is_refused(
    reference: str, connections: list[str]
):
    assert f'"{reference}"' in refusal(reference)
    assert "no such folder" in refusal(reference)
    assert connections == []


@pytest.mark.parametrize("reference", ["acme/absent", "absent-encoder"])
def test_without_a_network_the_hub_is_asked_once(
    reference: str, connections: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The client of the hub would ask again for half a minute, for every file."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    message = refusal(reference)
    assert "hub cannot be reached" in message
    assert reference in message
    assert len(connections) == 1


def test_without_a_network_a_cached_encoder_is_loaded(
    connections: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    put_on_hub("acme/tiny", save_tiny(tmp_path / "made"), tmp_path / "cache", monkeypatch)
    backbone = load_backbone("acme/tiny")
    assert torch.equal(outputs(backbone.encoder), outputs(tiny_encoder("bert")))
    assert len(connections) == 1
    shutil.rmtree(tmp_path / "cache")
    assert "hub cannot be reached" in refusal("acme/tiny")


@pytest.mark.parametrize("family", FAMILY_NAMES)
def test_layers_and_longest_input_are_read_without_weights(family: str, tmp_path: Path):
    folder = save_tiny(tmp_path, family)
    (folder / "model.safetensors").unlink()
    assert encoder_limits(str(folder)) == (LAYERS, POSITIONS)
    with pytest.raises(BackboneError, match="no-such"):
        encoder_limits("./no-such")


def test_the_limits_of_the_built_in_backbone_are_known_without_making_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("HYPERLECT_CACHE", str(tmp_path / "cache"))
    assert encoder_limits("builtin:e5-small") == (12, 512)
    assert not (tmp_path / "cache").exists()
    with pytest.raises(UnknownNameError, match="e5-small"):
        encoder_limits("builtin:e5-smal")


@pytest.mark.parametrize("model_type", ["bertt", "t5"])
def test_an_unsupported_family_lists_the_supported_ones(model_type: str, tmp_path: Path):
    """Even where transformers knows it."""
    (tmp_path / "config.json").write_text(json.dumps({"model_type": model_type}))
    message = refusal(tmp_path)
    assert f'"{model_type}" are not supported' in message
    assert all(f"({name})" in message for name in FAMILY_NAMES)


def test_a_folder_without_an_encoder_is_refused(tmp_path: Path):
    assert "config.json" in refusal(tmp_path)
    (tmp_path / "config.json").write_text("{")
    assert "config.json" in refusal(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    assert "model_type" in refusal(tmp_path)


@pytest.mark.parametrize("mlm", [False, True])
def test_missing_and_misshapen_weights_are_all_named(mlm: bool, tmp_path: Path):
    inside = "bert." if mlm else ""

    def spoil(state: dict[str, torch.Tensor]) -> None:
        state[f"{inside}{DENSE}"] = torch.zeros(3, 3)
        del state[f"{inside}encoder.layer.0.attention.self.query.bias"]
        del state[f"{inside}embeddings.LayerNorm.weight"]

    edit_weights(save_tiny(tmp_path, "bert", mlm=mlm), spoil)
    with pytest.raises(BackboneError) as error:
        load_backbone(str(tmp_path))
    messages = dict(problem.message.split(maxsplit=1) for problem in error.value.problems)
    assert messages == {
        f"{inside}encoder.layer.0.attention.self.query.bias": "is missing",
        f"{inside}embeddings.LayerNorm.weight": "is missing",
        f"{inside}{DENSE}": "has the shape (3, 3), not (32, 64)",
    }


def test_damaged_and_absent_weights_are_refused(tmp_path: Path):
    weights = save_tiny(tmp_path) / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    assert str(tmp_path) in refusal(tmp_path)
    weights.unlink()
    assert "model.safetensors" in refusal(tmp_path)


def test_an_encoder_with_an_adapter_of_peft_is_refused(tmp_path: Path):
    """transformers would load and use it, but only where peft is installed."""
    peft = pytest.importorskip("peft")
    save_tiny(tmp_path, "jina_embeddings_v3")
    lora = peft.LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False)
    peft.get_peft_model(tiny_encoder("jina_embeddings_v3"), lora).save_pretrained(tmp_path)
    assert "adapter_config.json" in refusal(tmp_path)
    # In a folder of its own, as those for retrieval are, it is not loaded.
    (tmp_path / "adapter_config.json").rename(save_tiny(tmp_path / "lora") / "adapter_config.json")
    assert load_backbone(str(tmp_path)).family.title == "Jina v3"


@pytest.mark.parametrize("family", ["gte", "eurobert", "nomic_bert", "jina_embeddings_v3"])
def test_a_family_that_transformers_does_not_have_yet_names_the_version(
    family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    save_tiny(tmp_path, family)
    # transformers puts a new module there while it loads its own.
    monkeypatch.setattr(sys.modules["transformers"], "CONFIG_MAPPING", {"bert": None})
    assert f"transformers {FAMILIES[family].since}" in refusal(tmp_path)


def test_a_slow_tokenizer_is_refused(tmp_path: Path):
    save_tiny(tmp_path)
    (tmp_path / "tokenizer.json").unlink()
    described = json.dumps({"tokenizer_class": "ByT5Tokenizer"})
    (tmp_path / "tokenizer_config.json").write_text(described)
    assert "tokenizer.json" in refusal(tmp_path)


@pytest.mark.parametrize("family", FAMILY_NAMES)
def test_a_missing_tokenizer_is_refused(family: str, tmp_path: Path):
    """transformers would make one without a vocabulary."""
    tiny_encoder(family).save_pretrained(tmp_path)
    assert "tokenizer" in refusal(tmp_path)


def test_an_incomplete_mlm_head_is_not_used(tmp_path: Path):
    norm = "cls.predictions.transform.LayerNorm.weight"
    edit_weights(save_tiny(tmp_path, "bert", mlm=True), lambda state: state.pop(norm))
    assert load_backbone(str(tmp_path)).mlm_start is None


@pytest.mark.parametrize("family", FAMILY_NAMES)
def test_an_mlm_head_with_its_own_decoder_is_not_used(family: str, tmp_path: Path):
    """It would change if it decoded with the word embeddings."""
    config = tiny_config(family, len(tiny_tokenizer(family)))
    config.tie_word_embeddings = False
    AutoModelForMaskedLM.from_config(config).save_pretrained(tmp_path)
    tiny_tokenizer(family).save_pretrained(tmp_path)
    assert load_backbone(str(tmp_path)).mlm_start is None


def test_the_second_kind_of_deberta_head_is_not_used(tmp_path: Path):
    """Not even tried: transformers 5.0 cannot make it."""
    config = tiny_config("deberta-v2", len(tiny_tokenizer("deberta-v2")))
    model = AutoModelForMaskedLM.from_config(config)
    model.save_pretrained(tmp_path)
    tiny_tokenizer("deberta-v2").save_pretrained(tmp_path)
    assert load_backbone(str(tmp_path)).mlm_start is not None
    config.legacy, config.architectures = False, [type(model).__name__]
    config.save_pretrained(tmp_path)
    backbone = load_backbone(str(tmp_path))
    assert backbone.mlm_start is None
    assert torch.equal(backbone.word_embeddings, model.get_input_embeddings().weight)


class Marks:
    """What writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def test_weights_that_are_a_pickle_are_not_unpickled(tmp_path: Path):
    save_tiny(tmp_path / "encoder")
    (tmp_path / "encoder" / "model.safetensors").unlink()
    mark = tmp_path / "unpickled"
    torch.save({"a": Marks(mark)}, tmp_path / "encoder" / "pytorch_model.bin")
    assert "encoder" in refusal(tmp_path / "encoder")
    assert not mark.exists()
    torch.load(tmp_path / "encoder" / "pytorch_model.bin", weights_only=False)
    assert mark.exists()  # so the file would have done it


@pytest.mark.parametrize("model_type", ["bert", "my-own"])
def test_code_in_a_folder_is_not_run_and_nobody_is_asked(
    model_type: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def asked(*_: object) -> str:
        raise AssertionError("asked")

    monkeypatch.setattr("builtins.input", asked)
    folder, mark = save_tiny(tmp_path / "encoder"), tmp_path / "run"
    (folder / "code.py").write_text(f"open({str(mark)!r}, 'w').close()\n")
    for name, classes in {
        "config.json": {"AutoConfig": "code.Config", "AutoModel": "code.Model"},
        "tokenizer_config.json": {"AutoTokenizer": ["code.Tokenizer", "code.Tokenizer"]},
    }.items():
        data = json.loads((folder / name).read_text())
        data["auto_map"] = classes
        if "model_type" in data:
            data["model_type"] = model_type
        if name == "tokenizer_config.json":
            data["tokenizer_class"] = "MyTokenizer"
        (folder / name).write_text(json.dumps(data))
    if model_type == "bert":  # which transformers has: the code is not looked at
        assert load_backbone(str(folder)).layers == LAYERS
    else:
        assert model_type in refusal(folder)
    assert not mark.exists()
