"""Variants of the released code, from made-up parameters under its names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from hyperlect.errors import RunError, UnknownNameError
from hyperlect.model import HyperX
from hyperlect.released import from_released
from hyperlect.tasks import TaskType
from tests.released.twin import (
    BEFORE,
    BERT,
    DECODER,
    HIDDEN,
    HYPERNET,
    IDS,
    LAYERS,
    MASK,
    OWN,
    REAL,
    SOURCE,
    VARIANTS,
    released,
    twin_forward,
    twin_weights,
)
from tests.tiny import tiny_tokenizer


def assert_is_twin(
    model: HyperX, arguments: dict[str, Any], state: dict[str, Tensor], cells: list[tuple[str, str]]
) -> None:
    model = model.double()
    state = {name: t.double() if t.is_floating_point() else t for name, t in state.items()}
    for task, language in cells:
        states, logits = twin_forward(arguments, state, task, language)
        out = model(IDS, MASK, task=task, language=language, output_hidden_states=True)
        assert len(out.hidden_states) == LAYERS + 1
        for mine, theirs in zip(out.hidden_states, states, strict=True):
            torch.testing.assert_close(mine[REAL], theirs[REAL], rtol=1e-8, atol=1e-8)
        torch.testing.assert_close(out.logits[REAL], logits[REAL], rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_computes_what_its_twin_does(variant: str):
    arguments, state = released(VARIANTS[variant])
    model = from_released(arguments, BERT, state)
    assert_is_twin(model, arguments, state, [("ner", "tr"), ("pos", "fo"), ("mlm", "en")])
    assert not model.training
    weights = dict(model.adapter_weights("pos", "fo").items())
    for layer, expected in enumerate(twin_weights(arguments, state, "pos", "fo")):
        assert weights.keys() == expected.keys()
        for name, tensor in expected.items():
            torch.testing.assert_close(weights[name][layer].float(), tensor)


def test_without_a_hypernetwork_there_are_no_adapters():
    arguments, state = released({"no_hypernet": True})
    model = from_released(arguments, BERT, state)
    assert model.adapters is None
    assert_is_twin(model, arguments, state, [("ner", "tr"), ("mlm", "en")])


def test_every_tensor_is_used():
    """Changing any one of them changes the model."""
    arguments, state = released({**BEFORE})
    first = from_released(arguments, BERT, state).state_dict()
    for name in state:
        if ".pooler." in name or name.endswith(("position_ids", "decoder.bias")):
            continue
        changed = from_released(arguments, BERT, {**state, name: state[name] + 1}).state_dict()
        moved = [key for key in first if not torch.equal(first[key], changed[key])]
        assert len(moved) == 1, name


@pytest.mark.parametrize("variant", ["published", "one a layer, ordinary LayerNorms"])
def test_the_order_of_the_tensors_does_not_matter(variant: str):
    """Files sort them by name, which is not the order of languages and layers."""
    arguments, state = released(VARIANTS[variant])
    first = from_released(arguments, BERT, state).state_dict()
    backwards = dict(reversed(state.items()))
    for name, tensor in from_released(arguments, BERT, backwards).state_dict().items():
        assert torch.equal(tensor, first[name]), name


def test_an_encoder_repeated_under_each_task_is_read_once():
    """Checkpoints of the released code repeat it; here also without the shared copy."""
    arguments, state = released({})
    repeats = {
        f"taskmodels_dict.{task}.bert.{name.removeprefix('encoder.')}": tensor
        for task in ("ner", "pos", "mlm")
        for name, tensor in state.items()
        if name.startswith("encoder.")
    }
    heads = {name: tensor for name, tensor in state.items() if not name.startswith("encoder.")}
    for given in ({**state, **repeats}, {**repeats, **heads}):
        model = from_released(arguments, BERT, given)
        assert_is_twin(model, arguments, state, [("ner", "tr"), ("mlm", "fo")])
    name = "taskmodels_dict.pos.bert.encoder.layer.0.output.dense.weight"
    with pytest.raises(RunError, match=f"{name} differs from the same tensor elsewhere"):
        from_released(arguments, BERT, {**state, **repeats, name: repeats[name] + 1})


def test_a_tied_decoder_is_the_word_embeddings():
    """When `mlm` is the first task there, its decoder is tied and has no name of its own."""
    arguments, state = released({})
    del state[f"{DECODER}.weight"]
    model = from_released(arguments, BERT, state)
    assert model.config.tied_decoder
    state[f"{DECODER}.weight"] = state["encoder.embeddings.word_embeddings.weight"]
    assert_is_twin(model, arguments, state, [("mlm", "tr")])


def test_tasks_and_languages():
    arguments, state = released({})
    model = from_released(arguments, BERT, state)
    assert model.languages == ["eng", "tur", "fao"]
    assert model.tasks["ner"].type is TaskType.SPANS
    assert model.tasks["ner"].labels[:3] == ("O", "B-PER", "I-PER")
    assert model.tasks["pos"].labels[0] == "NOUN"
    assert len(model.tasks["pos"].labels) == 18
    assert model.tasks["mlm"].type is TaskType.MLM
    norms = {name for name, p in model.backbone.named_parameters() if p.requires_grad}
    assert norms
    assert all("LayerNorm" in name for name in norms)


def test_other_numbers_of_labels_are_numbered():
    arguments, state = released({})
    for part in ("weight", "bias"):
        state[f"taskmodels_dict.ner.cls.{part}"] = state[f"taskmodels_dict.ner.cls.{part}"][:4]
    bert = {**BERT, "num_labels": {"ner": 4, "pos": 18}}
    ner = from_released(arguments, bert, state).tasks["ner"]
    assert (ner.type, ner.labels) == (TaskType.TAGGING, ("0", "1", "2", "3"))


def test_a_released_model_is_saved_with_its_backbone(tmp_path: Path):
    arguments, state = released({"model_name_or_path": str(tmp_path / "bert")})
    model = from_released(arguments, BERT, state)
    model.save_pretrained(tmp_path / "run")
    model.backbone.encoder.save_pretrained(tmp_path / "bert")
    tiny_tokenizer("bert").save_pretrained(tmp_path / "bert")
    loaded = HyperX.from_pretrained(tmp_path / "run")
    for task in ("ner", "pos"):
        mine, theirs = (m(IDS, MASK, task=task, language="fao").logits for m in (loaded, model))
        assert torch.equal(mine, theirs)
    arguments.pop("model_name_or_path")
    with pytest.raises(RunError, match="in memory only"):
        from_released(arguments, BERT, state).save_pretrained(tmp_path / "other")


@pytest.mark.parametrize(
    ("gone", "said"),
    [
        (f"{HYPERNET}.meta_up_sampler.weight_generator.0.weight", "up_weight.weight is missing"),
        (f"{SOURCE}.lang_embeddings.tr", "source.embeddings.language lacks its row 1"),
        (f"{SOURCE}.source_embedding_MLP.2.bias", "source.project.2.bias is missing"),
        ("taskmodels_dict.mlm.cls.predictions.bias", "heads.mlm.bias is missing"),
        ("encoder.encoder.layer.2.output.dense.bias", "layer.2.output.dense.bias is missing"),
    ],
)
def test_missing_tensors_are_named(gone: str, said: str):
    arguments, state = released({})
    del state[gone]
    with pytest.raises(RunError, match=said):
        from_released(arguments, BERT, state)


def test_missing_layers_are_named():
    arguments, state = released(OWN)
    left = {name: t for name, t in state.items() if not name.startswith(f"{HYPERNET}.1.")}
    with pytest.raises(RunError, match=r"generator.maps.up_weight.weight lacks its row 1"):
        from_released(arguments, BERT, left)


@pytest.mark.parametrize(
    "name",
    [
        f"{HYPERNET}.meta_up_sampler.weight_generator.1.weight",
        f"{HYPERNET}.gate",
        f"{SOURCE}.lang_embeddings.de",
        f"{SOURCE}.script_embeddings.Latn",
        "taskmodels_dict.nli.cls.weight",
        "encoder.encoder.layer.7.output.dense.bias",
    ],
)
def test_left_over_tensors_are_named(name: str):
    arguments, state = released({})
    with pytest.raises(RunError, match="is unexpected"):
        from_released(arguments, BERT, {**state, name: torch.ones(2)})


def test_misshapen_tensors_are_named():
    arguments, state = released({})
    name = f"{SOURCE}.lang_embeddings.tr"
    with pytest.raises(RunError, match=rf"{name} has the shape \(9,\), others \(4,\)"):
        from_released(arguments, BERT, {**state, name: torch.ones(9)})
    given = {**state, "taskmodels_dict.ner.cls.weight": torch.ones(5, HIDDEN)}
    with pytest.raises(RunError, match=r"heads.ner.linear.weight has the shape \(5, 16\), not"):
        from_released(arguments, BERT, given)


def test_what_cannot_be_done_is_told():
    arguments, state = released({"adapter_non_linearity": "gelu_new"})
    with pytest.raises(RunError, match="activation must be one of relu, gelu"):
        from_released(arguments, BERT, state)
    arguments, state = released({})
    with pytest.raises(UnknownNameError, match='Unknown language "simple"'):
        from_released({**arguments, "languages": ["en", "simple", "fo"]}, BERT, state)
