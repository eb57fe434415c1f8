"""The whole model against a plain twin: encoder, adapters and heads written out in loops."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from hyperlect.hypernet import UNTRAINED
from hyperlect.model import HyperX
from tests.hypernet import twin
from tests.tiny import HIDDEN, tiny_backbone

from .made import IDS, MASK, POSITIONS, TASKS, make

REAL = MASK.bool()
NAMES = [task.name for task in TASKS]
CLOSE = {"rtol": 1e-9, "atol": 1e-9}


def double(**settings: Any) -> HyperX:
    model = make(**settings).double()
    twin.liven(model.backbone, seed=5)  # zero biases and unit LayerNorms hide faults
    return model


def states(model: HyperX, task: str, language: str, dropout: float = 0.0) -> list[torch.Tensor]:
    row = model.language_index(language)
    weights = twin.cell(
        model.adapters, NAMES.index(task), None if row == UNTRAINED else row, HIDDEN
    )
    config = model.config.hypernet
    return twin.bert(model.backbone.encoder, IDS, MASK, weights, config, dropout)


def linear(model: HyperX, task: str, x: torch.Tensor) -> torch.Tensor:
    head = model.heads[task].linear
    return x @ head.weight.T + head.bias


@pytest.mark.parametrize("language", ["isl", "fao"])  # with a vector of its own, and without
@pytest.mark.parametrize("variant", twin.VARIANTS)
def test_every_variant_is_its_twin(variant: str, language: str):
    model = double(hypernet=twin.VARIANTS[variant])
    out = model(IDS, MASK, task="ner", language=language, output_hidden_states=True)
    expected = states(model, "ner", language)
    assert len(out.hidden_states) == len(expected)
    for mine, plain in zip(out.hidden_states, expected, strict=True):
        torch.testing.assert_close(mine[REAL], plain[REAL], **CLOSE)
    assert torch.equal(out.last_hidden_state, out.hidden_states[-1])
    torch.testing.assert_close(out.logits[REAL], linear(model, "ner", expected[-1][REAL]), **CLOSE)
    again = model(IDS, MASK, task="ner", language=language)
    assert torch.equal(again.logits, out.logits)
    assert again.hidden_states is None


@pytest.mark.parametrize("variant", twin.VARIANTS)
def test_gradients_are_the_twins(variant: str):
    model = double(hypernet=twin.VARIANTS[variant])
    for _, parameter in model.backbone.layer_norms():
        parameter.requires_grad_(True)
    out = model(IDS, MASK, task="pos", language="tur", positions=POSITIONS)
    out.logits.square().sum().backward()
    found = {
        name: parameter.grad.clone()
        for name, parameter in model.named_parameters()
        if parameter.grad is not None
    }
    model.zero_grad()
    last = states(model, "pos", "tur")[-1]
    linear(model, "pos", last[POSITIONS]).square().sum().backward()
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    other_heads = {n for n in trained if n.startswith("heads.") and "heads.pos." not in n}
    assert found.keys() == trained - other_heads
    for name, gradient in found.items():
        assert gradient.any(), name
        expected = model.get_parameter(name).grad
        torch.testing.assert_close(gradient, expected, rtol=1e-8, atol=1e-9, msg=name)


@pytest.mark.parametrize("insertion", ["feed_forward", "layer"])
def test_gradients_are_numerically_right(insertion: str):
    """Finite differences of the whole model along random directions of the hypernetwork."""
    model = double(hypernet={"insertion": insertion, "activation": "tanh"})
    parameters = list(model.adapters.parameters())

    def value() -> torch.Tensor:
        logits = model(IDS, MASK, task="topic", language="eng").logits
        return torch.sin(logits).sum()

    gradients = torch.autograd.grad(value(), parameters)
    torch.manual_seed(8)
    for parameter, gradient in zip(parameters, gradients, strict=True):
        direction = torch.randn_like(parameter)
        ends = []
        for step in (1e-5, -1e-5):
            with torch.no_grad():
                parameter.add_(step * direction)
                ends.append(value())
                parameter.sub_(step * direction)
        slope = (ends[0] - ends[1]) / 2e-5
        torch.testing.assert_close(slope, (gradient * direction).sum(), rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("insertion", ["feed_forward", "layer"])
def test_the_adapter_comes_after_the_dropout(insertion: str):
    """In training: same seed, same order of drawing, so the same sub-words are dropped."""
    model = double(hypernet={"insertion": insertion}).train()
    for name, module in model.backbone.named_modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0 if name.endswith("attention.self.dropout") else 0.3
    torch.manual_seed(9)
    out = model(IDS, MASK, task="pos", language="isl")
    torch.manual_seed(9)
    expected = states(model, "pos", "isl", dropout=0.3)[-1]
    torch.testing.assert_close(out.last_hidden_state[REAL], expected[REAL], **CLOSE)


def test_heads_are_their_twins():
    model = double()
    hidden = {task: states(model, task, "eng")[-1] for task in NAMES}
    table, head = model.backbone.word_embeddings, model.heads["mlm"]
    read = hidden["mlm"][POSITIONS] @ head.dense.weight.T + head.dense.bias
    read = twin.layer_norm(read, head.norm.weight, head.norm.bias, 1e-12)
    mean = torch.stack([hidden["topic"][0].mean(0), hidden["topic"][1, :7].mean(0)])
    expected = {
        "pos": linear(model, "pos", hidden["pos"][POSITIONS]),
        "ner": linear(model, "ner", hidden["ner"][POSITIONS]),
        "topic": linear(model, "topic", mean),
        "mlm": read @ table.T + head.bias,
    }
    for task, logits in expected.items():
        out = model(IDS, MASK, task=task, language="eng", positions=POSITIONS)
        torch.testing.assert_close(out.logits, logits, rtol=1e-8, atol=1e-8, msg=task)


@pytest.mark.parametrize("variant", ["published", "ordinary LayerNorm after", "after the layer"])
def test_ordinary_adapters_are_their_twin(variant: str):
    model = double(method="adapters", hypernet=twin.VARIANTS[variant])
    config = model.config.hypernet
    for task in ("pos", "ner"):
        rows = model.adapters.weights.items()
        made = {name: weight[NAMES.index(task)] for name, weight in rows}
        weights = [{name: weight[layer] for name, weight in made.items()} for layer in range(2)]
        expected = twin.bert(model.backbone.encoder, IDS, MASK, weights, config)[-1]
        out = model(IDS, MASK, task=task, language="eng")
        torch.testing.assert_close(out.last_hidden_state[REAL], expected[REAL], **CLOSE)


def test_adapter_weights_of_a_cell_are_what_the_forward_pass_applies():
    model = double()
    weights = model.adapter_weights("ner", "isl")
    layers = [dict(layer.items()) for layer in weights.unbind()]
    assert not any(tensor.requires_grad for layer in layers for tensor in layer.values())
    config = model.config.hypernet
    expected = twin.bert(model.backbone.encoder, IDS, MASK, layers, config)[-1]
    out = model(IDS, MASK, task="ner", language="isl")
    torch.testing.assert_close(out.last_hidden_state[REAL], expected[REAL], **CLOSE)


def test_several_cells_are_generated_at_once():
    model = double(backbone=tiny_backbone("bert", layers=3))
    cells = [("pos", "eng"), ("mlm", "fao"), ("ner", "tur")]
    made = model.generate(cells)
    assert made.up_weight.shape == (3, 3, HIDDEN, 4)
    for index, (task, language) in enumerate(cells):
        for name, tensor in model.adapter_weights(task, language).items():
            torch.testing.assert_close(getattr(made, name)[index], tensor)
