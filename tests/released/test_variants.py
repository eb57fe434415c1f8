"""Variants of the released code, from made-up parameters under its names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import BertModel

from hyperlect.errors import RunError
from hyperlect.model import HyperX
from hyperlect.released import from_released
from hyperlect.tasks import TaskType
from tests.released.twin import (
    BERT,
    CONFIG,
    DECODER,
    IDS,
    LAYERS,
    MASK,
    OWN,
    REAL,
    VARIANTS,
    released,
    saved,
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


def test_the_encoder_has_gradients_where_they_are_asked_for():
    """Without a hypernetwork the released code trains all of it, unless told to freeze some."""
    arguments, state = released({"no_hypernet": True})
    model = from_released(arguments, BERT, state)
    model.backbone.encoder.requires_grad_(True)
    model(IDS, MASK, task="ner", language="tr").logits[REAL].square().sum().backward()
    plain = BertModel(CONFIG, add_pooling_layer=False).eval()
    plain.load_state_dict({name: state[f"encoder.{name}"] for name in plain.state_dict()})
    weight, bias = (state[f"taskmodels_dict.ner.cls.{part}"] for part in ("weight", "bias"))
    logits = plain(IDS, MASK).last_hidden_state @ weight.T + bias
    logits[REAL].square().sum().backward()
    mine = dict(model.backbone.encoder.named_parameters())
    for name, parameter in plain.named_parameters():
        torch.testing.assert_close(mine[name].grad, parameter.grad, rtol=1e-4, atol=1e-4)


def test_a_tied_decoder_is_the_word_embeddings():
    """When `mlm` is the first task there, its decoder has no parameter of its own.

    In a state dict the embeddings then have both names.
    """
    arguments, state = released({})
    del state[DECODER]
    both = {**state, DECODER: state["encoder.embeddings.word_embeddings.weight"].clone()}
    for given in (state, both, saved(arguments, both)):
        model = from_released(arguments, BERT, given)
        assert model.config.tied_decoder
        assert model.heads["mlm"].decoder is None
        assert_is_twin(model, arguments, both, [("mlm", "tr")])


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
    with pytest.raises(RunError, match="only in memory"):
        from_released(arguments, BERT, state).save_pretrained(tmp_path / "other")


def test_what_cannot_be_done_is_told():
    arguments, state = released({"adapter_non_linearity": "mish"})
    with pytest.raises(RunError, match="activation must be one of relu, gelu"):
        from_released(arguments, BERT, state)
    arguments, state = released({})
    for name in ("anglais", "simple"):  # simple is English, as en is
        with pytest.raises(RunError) as error:
            from_released({**arguments, "languages": ["en", name, "fo"]}, BERT, state)
        assert [problem.key for problem in error.value.problems] == ["languages.1"]
    with pytest.raises(RunError, match="adapter_dim"):
        from_released({**arguments, "adaptor_dim": 4}, BERT, state)


def test_arguments_have_the_defaults_of_the_command_line():
    arguments, state = released(OWN | {"adapter_non_linearity": "relu"})
    told = ("condition_to_layer_id", "adapter_non_linearity", "no_hypernet", "after_layer_output")
    left = {key: value for key, value in arguments.items() if key not in told}
    model = from_released({**left, "model_name_or_path": None}, BERT, state)
    assert model.config.max_length == 256
    assert_is_twin(model, arguments, state, [("ner", "tr")])
    for lacking in ("adapter_dim", "projected_source_embedding_dim"):
        del left[lacking]
    with pytest.raises(RunError, match="has the shape"):
        from_released(left, BERT, state)
    with pytest.raises(RunError) as error:
        from_released({}, BERT, state)
    assert [problem.key for problem in error.value.problems] == ["tasks", "languages"]
