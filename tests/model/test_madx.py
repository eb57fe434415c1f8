"""mad-x: language and task adapters in an encoder, and the cells without them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from hyperlect.errors import HyperlectError
from hyperlect.grid import Cell
from hyperlect.hypernet import AdapterWeights, adapt
from hyperlect.model import HyperX

from .models import IDS, MASK, tiny_model

TRAINED = (Cell("pos", "eng"), Cell("pos", "isl"), Cell("mlm", "tur"), Cell("mlm", "eng"))


def madx(**settings) -> HyperX:
    """Return a model with adapters for English and Turkish; Icelandic has labels and no text."""
    return tiny_model(method="mad-x", languages=("eng", "tur"), trained=TRAINED, **settings)


def last(model: HyperX, task: str, language: str) -> Tensor:
    with torch.no_grad():
        return model(IDS, MASK, task=task, language=language).last_hidden_state


def by_hand(model: HyperX, languages: int | None, tasks: int | None) -> Tensor:
    """Run the encoder with hooks that apply one adapter after the other."""
    backbone, hypernet = model.backbone, model.config.hypernet
    points = backbone.family.insertion_points(backbone.encoder, backbone.layers, hypernet.insertion)
    chosen = [(model.adapters.languages, languages), (model.adapters.tasks, tasks)]

    def hook(layer: int):
        def adapted(_module, _inputs, output: Tensor) -> Tensor:
            for table, row in chosen:
                if row is not None and layer in model.config.hypernet.layers(backbone.layers):
                    weights = {name: weight[row, layer] for name, weight in table.weights.items()}
                    output = adapt(output, AdapterWeights(**weights), hypernet.activation, 1e-5)
            return output

        return adapted

    handles = [point.register_forward_hook(hook(layer)) for layer, point in enumerate(points)]
    with torch.no_grad():
        hidden, _ = backbone(IDS, MASK, None, False)
    for handle in handles:
        handle.remove()
    return hidden


@pytest.mark.parametrize("skip", [False, True])
def test_a_layer_has_the_language_adapter_and_then_the_task_adapter(skip: bool):
    model = madx(hypernet={"skip_last_layer": skip})
    assert len(model.hooks.modules) == (1 if skip else 2)
    same = {"rtol": 1e-5, "atol": 1e-5}
    torch.testing.assert_close(last(model, "pos", "tur"), by_hand(model, 1, 0), **same)
    torch.testing.assert_close(last(model, "ner", "eng"), by_hand(model, 0, 1), **same)
    torch.testing.assert_close(last(model, "mlm", "tur"), by_hand(model, 1, None), **same)
    torch.testing.assert_close(last(model, "pos", "isl"), by_hand(model, None, 0), **same)
    assert not torch.allclose(last(model, "pos", "eng"), last(model, "pos", "tur"))
    assert torch.equal(last(model, "mlm", "isl"), by_hand(model, None, None))


def test_every_task_but_masked_language_modelling_has_an_adapter():
    model = madx()
    counts = {name: p.shape[0] for name, p in model.adapters.named_parameters()}
    assert counts["tasks.weights.up_bias"] == 3
    assert counts["languages.weights.up_bias"] == 2
    assert not model.adapter_weights("mlm", "eng").up_bias[:, 1].any()
    assert model.language_vectors()[0] == []


def test_without_a_language_adapter_only_trained_cells_apply():
    model = madx()
    sources = {code: model.language_source(code) for code in ("eng", "isl", "dan")}
    assert sources == {"eng": "own adapter", "isl": "no adapter", "dan": "no adapter"}
    assert model.adapter_weights("pos", "is").down_weight.shape[:2] == (2, 2)
    refused = {
        cell
        for task in ("pos", "ner", "mlm")
        for cell in (Cell(task, language) for language in ("eng", "tur", "isl", "dan"))
        if model.config.not_applicable(cell)
    }
    assert refused == {
        ("ner", "isl"),
        ("mlm", "isl"),
        ("pos", "dan"),
        ("ner", "dan"),
        ("mlm", "dan"),
    }
    with pytest.raises(HyperlectError) as error:
        model.adapter_weights("pos", "da")
    assert [problem.key for problem in error.value.problems] == ["pos:da"]
    with pytest.raises(HyperlectError) as error:
        model.predict(["the cat", "a dog", "a cat"], "pos", ["dan", "isl", "fao"])
    assert [problem.key for problem in error.value.problems] == ["pos:dan", "pos:fao"]
    (prediction,) = model.predict(["the cat"], "pos", "isl")
    assert prediction.language_source == "no adapter"


@pytest.mark.parametrize("method", ["hyperx", "adapters", "head"])
def test_other_methods_apply_to_every_cell(method: str):
    assert tiny_model(method=method).config.not_applicable(Cell("ner", "dan")) is None
