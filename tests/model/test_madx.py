"""Language and task adapters in an encoder, and the cells that have none."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from hyperlect.errors import BackboneError, HyperlectError
from hyperlect.grid import Cell
from hyperlect.hypernet import AdapterWeights, adapt
from hyperlect.model import HyperX

from ..tiny import tiny_backbone
from .made import IDS, MASK, MLM, make

TRAINED = (Cell("pos", "eng"), Cell("pos", "isl"), Cell("mlm", "tur"), Cell("mlm", "eng"))


def madx(**settings) -> HyperX:
    """Adapters for English and Turkish; Icelandic has labels and no text."""
    return make(method="mad-x", languages=("eng", "tur"), trained=TRAINED, **settings)


def last(model: HyperX, task: str, language: str) -> Tensor:
    with torch.no_grad():
        return model(IDS, MASK, task=task, language=language).last_hidden_state


def by_hand(model: HyperX, languages: int | None, tasks: int | None) -> Tensor:
    """The encoder with hooks that apply one adapter after the other."""
    backbone, hypernet = model.backbone, model.config.hypernet
    points = backbone.family.insertion_points(backbone.encoder, backbone.layers, hypernet.insertion)
    chosen = [(model.adapters.languages, languages), (model.adapters.tasks, tasks)]

    def hook(layer: int):
        def adapted(_module, _inputs, output: Tensor) -> Tensor:
            for table, row in chosen:
                if row is not None and layer in model.adapted_layers:
                    own = {name: weight[row, layer] for name, weight in table.weights.items()}
                    output = adapt(output, AdapterWeights(**own), hypernet.activation, 1e-5)
            return output

        return adapted

    handles = [point.register_forward_hook(hook(layer)) for layer, point in enumerate(points)]
    with torch.no_grad():
        hidden, _ = backbone(IDS, MASK, None, False)
    for handle in handles:
        handle.remove()
    return hidden


@pytest.mark.parametrize("skip", [False, True])
def test_the_encoder_with_both_adapters(skip: bool):
    model = madx(hypernet={"skip_last_layer": skip})
    assert list(model.adapted_layers) == ([0] if skip else [0, 1])
    same = {"rtol": 1e-5, "atol": 1e-5}
    torch.testing.assert_close(last(model, "pos", "tur"), by_hand(model, 1, 0), **same)
    torch.testing.assert_close(last(model, "ner", "eng"), by_hand(model, 0, 1), **same)
    torch.testing.assert_close(last(model, "mlm", "tur"), by_hand(model, 1, None), **same)
    torch.testing.assert_close(last(model, "pos", "isl"), by_hand(model, None, 0), **same)
    assert not torch.allclose(last(model, "pos", "eng"), last(model, "pos", "tur"))
    assert torch.equal(last(model, "mlm", "isl"), by_hand(model, None, None))


@pytest.mark.parametrize("method", ["hyperx", "adapters"])
def test_any_method_can_leave_the_last_layer_out(method: str):
    model = make(method=method, hypernet={"skip_last_layer": True})
    assert model.adapter_weights("pos", "eng").down_weight.shape[0] == 1
    assert len(model.slots.modules) == 1
    with pytest.raises(BackboneError, match=r"has 2 layers: lower hypernet\.top_layers"):
        make(hypernet={"top_layers": 3})
    with pytest.raises(BackboneError, match=r"has 1 layers.*skip_last_layer"):
        make(tiny_backbone(layers=1), hypernet={"skip_last_layer": True})


def test_there_is_an_adapter_for_each_task_but_masked_language_modelling():
    model = madx()
    counts = {name: p.shape[0] for name, p in model.adapters.named_parameters()}
    assert counts["tasks.weights.up_bias"] == 3
    assert counts["languages.weights.up_bias"] == 2
    assert not model.adapter_weights("mlm", "eng").up_bias[:, 1].any()
    assert model.language_vectors()[0] == []


def test_a_language_without_an_adapter_has_only_the_cells_that_were_trained_so():
    model = madx()
    sources = {code: model.language_source(code) for code in ("eng", "isl", "dan")}
    assert sources == {"eng": "own adapter", "isl": "no adapter", "dan": "no adapter"}
    assert model.adapter_weights("pos", "is").down_weight.shape[:2] == (2, 2)
    refused = {
        cell
        for task in ("pos", "ner", "mlm")
        for cell in (Cell(task, language) for language in ("eng", "tur", "isl", "dan"))
        if model.not_applicable(cell)
    }
    assert refused == {
        ("ner", "isl"),
        ("mlm", "isl"),
        ("pos", "dan"),
        ("ner", "dan"),
        ("mlm", "dan"),
    }
    with pytest.raises(HyperlectError, match="pos:da: its language has no adapter"):
        model.adapter_weights("pos", "da")
    with pytest.raises(HyperlectError, match="raw text in the language") as error:
        model.predict(["the cat", "a dog", "a cat"], "pos", ["dan", "isl", "fao"])
    assert "pos:dan" in str(error.value)
    assert "pos:fao" in str(error.value)
    assert "pos:isl" not in str(error.value)
    (found,) = model.predict(["the cat"], "pos", "isl")
    assert found.language_source == "no adapter"


@pytest.mark.parametrize("method", ["hyperx", "adapters", "head"])
def test_other_methods_have_something_for_every_cell(method: str):
    assert make(method=method).not_applicable(Cell("ner", "dan")) is None


def test_task_adapters_need_a_task():
    with pytest.raises(ValueError, match="mad-x needs a task besides"):
        make(method="mad-x", tasks=(MLM,))
