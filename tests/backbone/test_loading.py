"""Loading an encoder: from a folder or the hub, whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForMaskedLM

from hyperlect.backbone import FAMILIES, load_backbone
from hyperlect.errors import BackboneError
from tests.hub import COMMIT, put_on_hub
from tests.tiny import FAMILY_NAMES, save_tiny, tiny_config, tiny_encoder, tiny_tokenizer

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
def test_a_folder_gives_the_same_encoder(family: str, mlm: bool, tmp_path: Path):
    backbone = load_backbone(str(save_tiny(tmp_path, family, seed=3, mlm=mlm)))
    saved = tiny_encoder(family, seed=3, mlm=mlm)
    assert torch.equal(outputs(backbone.encoder), outputs(saved.base_model))
    assert type(backbone.encoder) is type(saved.base_model)
    assert backbone.family is FAMILIES[family]
    assert backbone.reference == str(tmp_path)
    text = "Anna sees the old river"
    assert backbone.tokenizer(text)["input_ids"] == tiny_tokenizer(family)(text)["input_ids"]
    assert (backbone.mlm_start is not None) is mlm
    assert not any(parameter.requires_grad for parameter in backbone.parameters())


def test_no_pooler_is_loaded(tmp_path: Path):
    for mlm in (False, True):
        backbone = load_backbone(str(save_tiny(tmp_path / str(mlm), "bert", mlm=mlm)))
        assert not [name for name, _ in backbone.named_parameters() if "pooler" in name]


def test_a_hub_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder = save_tiny(tmp_path / "made", "xlm-roberta", seed=4)
    put_on_hub("acme/tiny-xlmr", folder, tmp_path / "cache", monkeypatch)
    for revision in (None, "main", COMMIT):
        backbone = load_backbone("acme/tiny-xlmr", revision)
        assert torch.equal(outputs(backbone.encoder), outputs(tiny_encoder("xlm-roberta", seed=4)))
        assert (backbone.reference, backbone.revision) == ("acme/tiny-xlmr", revision)
        assert backbone.tokenizer.is_fast
    with pytest.raises(BackboneError, match='The backbone "acme/tiny-xlmr" cannot be loaded'):
        load_backbone("acme/tiny-xlmr", "v2")
    assert '"acme/absent" cannot be loaded' in refusal("acme/absent")


def test_a_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    save_tiny(tmp_path / "encoder")
    assert load_backbone("~/encoder").reference == "~/encoder"


@pytest.mark.parametrize("reference", ["/no/such/folder", "./no-such", "../no-such", "~/no-such"])
def test_a_missing_folder(reference: str):
    assert refusal(reference) == (
        f'The backbone "{reference}" cannot be loaded. There is no such folder.'
    )


@pytest.mark.parametrize("reference", ["", "not a name", "a/b/c"])
def test_what_is_neither_folder_nor_hub_id(reference: str):
    assert f'The backbone "{reference}" cannot be loaded.' in refusal(reference)


@pytest.mark.parametrize("model_type", ["bertt", "t5"])
def test_an_unsupported_family_lists_the_supported_ones(model_type: str, tmp_path: Path):
    """Whether or not transformers knows it."""
    (tmp_path / "config.json").write_text(json.dumps({"model_type": model_type}))
    message = refusal(tmp_path)
    assert f'"{model_type}" are not supported' in message
    assert all(f"({name})" in message for name in FAMILY_NAMES)


def test_what_lies_in_the_folder_is_no_encoder(tmp_path: Path):
    assert "cannot be loaded" in refusal(tmp_path)
    (tmp_path / "config.json").write_text("{")
    assert "not a valid JSON file" in refusal(tmp_path)


@pytest.mark.parametrize("mlm", [False, True])
def test_missing_and_misshapen_weights_are_all_named(mlm: bool, tmp_path: Path):
    inside = "bert." if mlm else ""

    def spoil(state: dict[str, torch.Tensor]) -> None:
        state[f"{inside}{DENSE}"] = torch.zeros(3, 3)
        del state[f"{inside}encoder.layer.0.attention.self.query.bias"]
        del state[f"{inside}embeddings.LayerNorm.weight"]

    edit_weights(save_tiny(tmp_path, "bert", mlm=mlm), spoil)
    message = refusal(tmp_path)
    assert f"{inside}{DENSE} has the shape (3, 3), not (32, 64)" in message
    assert f"{inside}encoder.layer.0.attention.self.query.bias is missing" in message
    assert f"{inside}embeddings.LayerNorm.weight is missing" in message


def test_damaged_or_absent_weights(tmp_path: Path):
    weights = save_tiny(tmp_path) / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    assert f'The backbone "{tmp_path}" cannot be loaded.' in refusal(tmp_path)
    weights.unlink()
    assert "no file named model.safetensors" in refusal(tmp_path)


def test_a_slow_tokenizer_is_refused(tmp_path: Path):
    save_tiny(tmp_path)
    (tmp_path / "tokenizer.json").unlink()
    described = json.dumps({"tokenizer_class": "ByT5Tokenizer"})
    (tmp_path / "tokenizer_config.json").write_text(described)
    assert "has no fast tokenizer (tokenizer.json), which word alignment needs" in refusal(tmp_path)


@pytest.mark.parametrize("family", FAMILY_NAMES)
def test_a_missing_tokenizer_is_refused(family: str, tmp_path: Path):
    """transformers would make one up, without a vocabulary."""
    tiny_encoder(family).save_pretrained(tmp_path)
    assert "tokenizer" in refusal(tmp_path)


def test_a_head_that_is_only_partly_there_is_left(tmp_path: Path):
    norm = "cls.predictions.transform.LayerNorm.weight"
    edit_weights(save_tiny(tmp_path, "bert", mlm=True), lambda state: state.pop(norm))
    assert load_backbone(str(tmp_path)).mlm_start is None


@pytest.mark.parametrize("family", FAMILY_NAMES)
def test_a_head_with_a_decoder_of_its_own_is_left(family: str, tmp_path: Path):
    """With the word embeddings as its decoder it would be another head."""
    config = tiny_config(family, len(tiny_tokenizer(family)))
    config.tie_word_embeddings = False
    AutoModelForMaskedLM.from_config(config).save_pretrained(tmp_path)
    tiny_tokenizer(family).save_pretrained(tmp_path)
    assert load_backbone(str(tmp_path)).mlm_start is None


def test_the_other_head_of_deberta_is_left(tmp_path: Path):
    config = tiny_config("deberta-v2", len(tiny_tokenizer("deberta-v2")))
    config.legacy = False
    AutoModelForMaskedLM.from_config(config).save_pretrained(tmp_path)
    tiny_tokenizer("deberta-v2").save_pretrained(tmp_path)
    assert load_backbone(str(tmp_path)).mlm_start is None
