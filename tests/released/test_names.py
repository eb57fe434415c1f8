"""Every tensor of the released code is found, whichever of its names it has, and no other is."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from hyperlect.errors import RunError
from hyperlect.model import HyperX
from hyperlect.released import from_released
from tests.released.twin import (
    BEFORE,
    BERT,
    BIAS,
    DECODER_BIAS,
    HIDDEN,
    HYPERNET,
    OWN,
    SOURCE,
    VARIANTS,
    in_layers,
    released,
    saved,
)


def assert_equal(model: HyperX, arguments: dict[str, Any], state: dict[str, Tensor]) -> None:
    """Check that a model is that of these parameters, each under one name."""
    found = model.state_dict()
    for name, tensor in from_released(arguments, BERT, state).state_dict().items():
        assert torch.equal(found[name], tensor), name


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
    backwards = dict(reversed(state.items()))
    assert_equal(from_released(arguments, BERT, backwards), arguments, state)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_state_dict_has_several_names_for_one_tensor(variant: str):
    """The encoder in each task's model, the hypernetwork in each layer, two names of a bias."""
    arguments, state = released(VARIANTS[variant])
    whole = saved(arguments, state)
    single = {name: tensor for name, tensor in whole.items() if not name.startswith("encoder.")}
    for given in (whole, dict(reversed(whole.items())), single):
        assert_equal(from_released(arguments, BERT, given), arguments, state)


@pytest.mark.parametrize("variant", ["published", "one a layer, ordinary LayerNorms"])
def test_the_hypernetwork_may_be_there_in_the_layers_alone(variant: str):
    """`named_parameters` has only the first name of each, which then is that in the layers."""
    arguments, state = released(VARIANTS[variant])
    rest = {name: t for name, t in state.items() if not name.startswith(f"{HYPERNET}.")}
    inside = in_layers(arguments, state)
    if arguments["condition_to_layer_id"]:
        inside = {name: tensor for name, tensor in inside.items() if ".layer.0." in name}
    assert_equal(from_released(arguments, BERT, {**rest, **inside}), arguments, state)


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


@pytest.mark.parametrize(
    ("gone", "said"),
    [
        (f"{HYPERNET}.meta_up_sampler.weight_generator.0.weight", "up_weight.weight is missing"),
        (f"{SOURCE}.lang_embeddings.tr", "lang_embeddings.tr is missing"),
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
    with pytest.raises(RunError, match=r"hypernet\.1\.meta_up_sampler\S+ is missing"):
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
