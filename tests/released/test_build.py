"""Parity with the authors' released code, forward and gradients."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from hyperlect.errors import RunError
from hyperlect.heads import ParseScores
from hyperlect.model import HyperX
from hyperlect.released import from_released
from tests.released.twin import word_numbers

PARITY = Path(__file__).parents[1] / "parity"
PARSE = ("arc_preds", "rel_preds")
CELLS = ["ner:tr", "ner:en", "pos:ar", "mlm:fo", "dep:tr"]


@pytest.fixture(scope="module")
def tensors() -> dict[str, torch.Tensor]:
    return load_file(PARITY / "paper_default.safetensors")


@pytest.fixture(scope="module")
def facts() -> dict:
    return json.loads((PARITY / "paper_default.json").read_text())


def build(tensors: dict, facts: dict) -> HyperX:
    state = {k.removeprefix("param/"): v for k, v in tensors.items() if k.startswith("param/")}
    return from_released(facts["hyperx_args"], facts["bert_config"], state)


def run(model: HyperX, tensors: dict, cell: str) -> dict[str, torch.Tensor]:
    task, language = cell.split(":")
    output = model(
        tensors["input/input_ids"].long(),
        tensors["input/attention_mask"].long(),
        task=task,
        language=language,
        words=word_numbers(tensors["input/word_starts"]),
        output_hidden_states=True,
    )
    index = torch.tensor([list(model.tasks).index(task), model.config.language_index(language)])
    source = model.adapters.source(index[:1], index[1:])[0]
    weights = model.generate([(task, language)])[0]
    found = {"last_hidden_state": output.last_hidden_state}
    if task == "dep":
        found |= parse_as_released(output.scores[task], tensors)
    else:
        found["logits"] = output.logits
    found |= {f"hidden_states.{i}": h for i, h in enumerate(output.hidden_states)}
    for layer in range(model.backbone.layers):
        found[f"gen.{layer}.source_embedding"] = source[layer]
        for name, tensor in weights[layer].items():
            found[f"gen.{layer}.{name.replace('after', 'post_ln')}"] = tensor
    return found


def parse_as_released(
    scores: ParseScores, stored: dict[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    """In the shape of the released code, with its own scores where there is no word or no head."""
    made = {name: stored[f"out/dep:tr/{name}"].to(scores.arcs.dtype, copy=True) for name in PARSE}
    for sentence, words in enumerate(scores.real.sum(dim=1).tolist()):
        for name, mine in zip(PARSE, (scores.arcs, scores.relations), strict=True):
            made[name][sentence, :words, : words + 1] = mine[sentence, :words, : words + 1].detach()
    assert scores.real.sum() == 14
    return made


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("cell", CELLS)
def test_forward_is_that_of_the_released_code(tensors, facts, cell, dtype):
    model = build(tensors, facts).to(dtype)
    found = run(model, tensors, cell)
    expected = {
        key.removeprefix(f"out/{cell}/"): value
        for key, value in tensors.items()
        if key.startswith(f"out/{cell}/") and not key.endswith("/loss")
    }
    assert found.keys() == expected.keys()
    real = tensors["input/attention_mask"].bool()
    for name, value in expected.items():
        mine = found[name].detach().double()
        if mine.shape[:2] == real.shape:  # what padding holds means nothing
            mine, value = mine[real], value[real]
        if dtype is torch.float32:
            assert (mine - value).abs().max() <= 1e-4, name
        else:
            scale = value.double().abs().max()
            assert ((mine - value.double()).abs().max() / scale) <= 1e-6, name


def test_the_parser_knows_the_released_relations(tensors, facts):
    model = build(tensors, facts)
    assert model.task("dep").labels == tuple("01234")  # as many as it was given
    assert model.config.parser == "direct"
    arguments = {**facts["hyperx_args"], "tasks": ["dep", "chunking"]}
    with pytest.raises(RunError, match="'dep' or 'mlm', not \"chunking\""):
        from_released(arguments, facts["bert_config"], {})


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.float64, 1e-6)])
def test_gradients_are_those_of_the_released_code(tensors, facts, dtype, tolerance):
    model = build(tensors, facts).to(dtype)
    output = model(
        tensors["input/input_ids"].long(),
        tensors["input/attention_mask"].long(),
        task="ner",
        language="tr",
    )
    output.logits.square().sum().backward()
    expected = {k.removeprefix("grad/ner:tr/"): v for k, v in tensors.items() if "grad/" in k}
    maps = "adapters.generator.maps"
    layernorm = "encoder.encoder.hypernet.post_layernorm_hypernet"
    controller = "encoder.encoder.hypernet_source_controller"
    names = {
        "encoder.encoder.hypernet.meta_up_sampler.weight_generator.0": f"{maps}.up_weight",
        "encoder.encoder.hypernet.meta_up_sampler.bias_generator.0": f"{maps}.up_bias",
        "encoder.encoder.hypernet.meta_down_sampler.weight_generator.0": f"{maps}.down_weight",
        "encoder.encoder.hypernet.meta_down_sampler.bias_generator.0": f"{maps}.down_bias",
        f"{layernorm}.weight_generator": f"{maps}.after_weight",
        f"{layernorm}.bias_generator": f"{maps}.after_bias",
        f"{controller}.source_embedding_MLP": "adapters.source.project",
        "taskmodels_dict.ner.cls": "heads.ner.linear",
        "encoder.embeddings": "backbone.encoder.embeddings",
        "encoder.encoder.layer": "backbone.encoder.encoder.layer",
    }
    parameters = dict(model.named_parameters())
    checked = 0
    for released, value in expected.items():
        prefix = next((p for p in names if released.startswith(p + ".")), None)
        if prefix is not None:
            mine = parameters[names[prefix] + released.removeprefix(prefix)].grad
        else:
            table, entry = released.split("_embeddings.")
            source = {"task": "task", "lang": "language", "layer_id": "layer"}[
                table.rpartition(".")[2]
            ]
            row = {"ner": 0, "tr": 1}.get(entry) if source != "layer" else int(entry[-1])
            mine = parameters[f"adapters.source.embeddings.{source}"].grad[row]
        scale = value.double().abs().max()
        assert (mine.double() - value.double()).abs().max() <= tolerance * scale, released
        checked += 1
    assert checked == len(expected) > 20


def test_a_missing_and_an_unexpected_tensor_are_named(tensors, facts):
    state = {k: v for k, v in tensors.items() if k.startswith("param/")}
    moved = state.pop("param/taskmodels_dict.ner.cls.bias")
    state["param/taskmodels_dict.ner.cls.basis"] = moved
    with pytest.raises(RunError) as error:
        from_released(facts["hyperx_args"], facts["bert_config"], state)
    assert "heads.ner.linear.bias is missing" in str(error.value)
    assert "taskmodels_dict.ner.cls.basis is unexpected" in str(error.value)
