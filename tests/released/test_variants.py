"""Variants of the released code, from made-up parameters under its names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import BertModel

from hyperlect.errors import RunError, UnknownNameError
from hyperlect.model import HyperX
from hyperlect.released import from_released
from hyperlect.tasks import TaskType
from tests.released.twin import (
    BEFORE,
    BERT,
    BIAS,
    CONFIG,
    DECODER,
    DECODER_BIAS,
    HIDDEN,
    HYPERNET,
    IDS,
    LAYERS,
    MASK,
    OWN,
    REAL,
    SOURCE,
    VARIANTS,
    in_layers,
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


def test_every_tensor_is_used():
    """Changing any one of them changes the model."""
    arguments, state = released({**BEFORE})
    first = from_released(arguments, BERT, state).state_dict()
    for name in state:
        if ".pooler." in name:
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


ALIASED = [
    "published",
    "ordinary LayerNorm after",
    "one a layer",
    "one a layer, ordinary LayerNorms",
]


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_state_dict_has_several_names_for_one_tensor(variant: str):
    """The encoder in each task's model, the hypernetwork in each layer, two names of a bias."""
    arguments, state = released(VARIANTS[variant])
    whole = saved(arguments, state)
    single = {name: tensor for name, tensor in whole.items() if not name.startswith("encoder.")}
    for given in (whole, dict(reversed(whole.items())), single):
        found = from_released(arguments, BERT, given).state_dict()
        for name, tensor in from_released(arguments, BERT, state).state_dict().items():
            assert torch.equal(found[name], tensor), name


@pytest.mark.parametrize("variant", ALIASED)
def test_the_hypernetwork_may_be_there_in_the_layers_alone(variant: str):
    """`named_parameters` has only the first name of each, which then is that in the layers."""
    arguments, state = released(VARIANTS[variant])
    heads = {name: t for name, t in state.items() if not name.startswith(f"{HYPERNET}.")}
    inside = in_layers(arguments, state)
    assert len(state) == len(heads) + len(inside) // (1 if OWN.items() <= arguments.items() else 3)
    if arguments["condition_to_layer_id"]:
        inside = {name: tensor for name, tensor in inside.items() if ".layer.0." in name}
    model = from_released(arguments, BERT, {**heads, **inside})
    assert_is_twin(model, arguments, state, [("ner", "tr")])


@pytest.mark.parametrize(
    ("variant", "name", "main"),
    [
        (
            "published",
            "taskmodels_dict.pos.bert.encoder.layer.0.output.dense.weight",
            "encoder.encoder.layer.0.output.dense.weight",
        ),
        (
            "published",
            "encoder.encoder.layer.2.output.hypernet.meta_up_sampler.bias_generator.0.bias",
            f"{HYPERNET}.meta_up_sampler.bias_generator.0.bias",
        ),
        (
            "one a layer",
            "encoder.encoder.layer.1.output.hypernet.meta_up_sampler.bias_generator.0.bias",
            f"{HYPERNET}.1.meta_up_sampler.bias_generator.0.bias",
        ),
        ("published", DECODER_BIAS, BIAS),
    ],
)
def test_copies_that_differ_are_named(variant: str, name: str, main: str):
    arguments, state = released(VARIANTS[variant])
    whole = saved(arguments, state)
    with pytest.raises(RunError) as error:
        from_released(arguments, BERT, {**whole, name: whole[name] + 1})
    faults = [line for line in str(error.value).splitlines() if line.startswith("  - ")]
    assert faults == [f"  - {name} differs from another copy of {main}"]


def test_layers_that_hold_the_hypernetwork_show_where_it_acts():
    arguments, state = released({})
    whole = saved(arguments, state)
    with pytest.raises(RunError, match="after_layer_output cannot be true of a checkpoint that"):
        from_released({**arguments, "after_layer_output": True}, BERT, whole)


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
    with pytest.raises(RunError, match="in memory only"):
        from_released(arguments, BERT, state).save_pretrained(tmp_path / "other")


@pytest.mark.parametrize(
    ("gone", "said"),
    [
        (f"{HYPERNET}.meta_up_sampler.weight_generator.0.weight", "up_weight.weight is missing"),
        (f"{SOURCE}.lang_embeddings.tr", "source.embeddings.language lacks its row 1"),
        (f"{SOURCE}.source_embedding_MLP.2.bias", "source.project.2.bias is missing"),
        (BIAS, "heads.mlm.bias is missing"),
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
        f"{SOURCE}.source_embedding_MLP.1.bias",
        f"{HYPERNET}.0.meta_up_sampler.weight_generator.0.weight",
        "taskmodels_dict.nli.cls.weight",
        "taskmodels_dict.ner.weight",
        "taskmodels_dict.ner.classifier.weight",
        "taskmodels_dict.ner.cls.predictions.decoder.bias",
        "encoder.encoder.layer.7.output.dense.bias",
        "encoder.pooler.bar",
        "encoder.layer.0.position_ids",
        "foo.pooler.bar",
        "whatever.position_ids",
        "embeddings.word_embeddings.weight",
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
    arguments, state = released({"adapter_non_linearity": "mish"})
    with pytest.raises(RunError, match="activation must be one of relu, gelu"):
        from_released(arguments, BERT, state)
    arguments, state = released({})
    with pytest.raises(UnknownNameError, match='Unknown language "anglais"'):
        from_released({**arguments, "languages": ["en", "anglais", "fo"]}, BERT, state)
    with pytest.raises(RunError, match='the language "eng" is listed twice'):
        from_released({**arguments, "languages": ["en", "simple", "fo"]}, BERT, state)


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
    with pytest.raises(RunError, match="released code lack tasks and languages"):
        from_released({}, BERT, state)
