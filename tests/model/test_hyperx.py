"""The whole model against a plain twin: encoder, adapters and heads written out in loops."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor

from hyperlect.data.batching import Batch, collate, mask_rows
from hyperlect.data.encoding import encode_inputs
from hyperlect.errors import BackboneError, HyperlectError
from hyperlect.grid import Cell
from hyperlect.heads import ClassificationHead, MlmHead, ParserHead, SpanHead, TaggingHead
from hyperlect.hypernet import UNTRAINED
from hyperlect.model import HyperX
from hyperlect.tasks import PARSERS, Task, TaskType
from tests.hypernet import twin
from tests.tiny import HIDDEN, tiny_backbone

from .models import IDS, LANGUAGES, MASK, POSITIONS, TASKS, tiny_model

REAL = MASK.bool()
NAMES = [task.name for task in TASKS]
CLOSE = {"rtol": 1e-9, "atol": 1e-9}
DEP = Task("dep", TaskType.PARSING, ("det", "nsubj", "root"))
NLI = Task("nli", TaskType.PAIRS, ("no", "yes"))
SENTENCES = [["the", "cat", "sees", "Oslo"], ["Anna", "xyz"], ["old"] * 40]


def double(**settings: Any) -> HyperX:
    model = tiny_model(**settings).double()
    twin.liven(model.backbone, seed=5)  # zero biases and unit LayerNorms hide bugs
    return model


def states(model: HyperX, task: str, language: str, dropout: float = 0.0) -> list[Tensor]:
    row = model.config.language_index(language)
    weights = twin.cell(
        model.adapters, NAMES.index(task), None if row == UNTRAINED else row, HIDDEN
    )
    config = model.config.hypernet
    return twin.bert(model.backbone.encoder, IDS, MASK, weights, config, dropout)


def linear(model: HyperX, task: str, x: Tensor) -> Tensor:
    head = model.heads[task].linear
    return x @ head.weight.T + head.bias


@pytest.mark.parametrize("language", ["isl", "fao"])  # with its own vector, and without
@pytest.mark.parametrize("variant", twin.VARIANTS)
def test_every_variant_equals_its_twin(variant: str, language: str):
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
def test_the_gradients_of_every_variant_equal_those_of_its_twin(variant: str):
    model = double(hypernet=twin.VARIANTS[variant])
    for _, parameter in model.backbone.layer_norms():
        parameter.requires_grad_(True)
    out = model(IDS, MASK, task="pos", language="tur", positions=POSITIONS)
    out.logits.square().sum().backward()
    gradients = {
        name: parameter.grad.clone()
        for name, parameter in model.named_parameters()
        if parameter.grad is not None
    }
    model.zero_grad()
    last = states(model, "pos", "tur")[-1]
    linear(model, "pos", last[POSITIONS]).square().sum().backward()
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    other_heads = {n for n in trained if n.startswith("heads.") and "heads.pos." not in n}
    assert gradients.keys() == trained - other_heads
    for name, gradient in gradients.items():
        assert gradient.any(), name
        expected = model.get_parameter(name).grad
        torch.testing.assert_close(gradient, expected, rtol=1e-8, atol=1e-9, msg=name)


@pytest.mark.parametrize("insertion", ["feed_forward", "layer"])
def test_gradients_are_numerically_right(insertion: str):
    """Finite differences of the whole model along random directions of the hypernetwork."""
    model = double(hypernet={"insertion": insertion, "activation": "tanh"})
    parameters = list(model.adapters.parameters())

    def value() -> Tensor:
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
    """With the same seed the twin draws in the same order, so it drops the same sub-words."""
    model = double(hypernet={"insertion": insertion}).train()
    for name, module in model.backbone.named_modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0 if name.endswith("attention.self.dropout") else 0.3
    torch.manual_seed(9)
    out = model(IDS, MASK, task="pos", language="isl")
    torch.manual_seed(9)
    expected = states(model, "pos", "isl", dropout=0.3)[-1]
    torch.testing.assert_close(out.last_hidden_state[REAL], expected[REAL], **CLOSE)


def test_heads_equal_their_twins():
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
def test_ordinary_adapters_equal_their_twin(variant: str):
    model = double(method="adapters", hypernet=twin.VARIANTS[variant])
    config = model.config.hypernet
    for task in ("pos", "ner"):
        tables = model.adapters.weights.items()
        of_task = {name: weight[NAMES.index(task)] for name, weight in tables}
        weights = [{name: weight[layer] for name, weight in of_task.items()} for layer in range(2)]
        expected = twin.bert(model.backbone.encoder, IDS, MASK, weights, config)[-1]
        out = model(IDS, MASK, task=task, language="eng")
        torch.testing.assert_close(out.last_hidden_state[REAL], expected[REAL], **CLOSE)


def test_the_adapter_weights_of_a_cell_are_those_of_its_forward_pass():
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
    weights = model.generate(cells)
    assert weights.up_weight.shape == (3, 3, HIDDEN, 4)
    for index, (task, language) in enumerate(cells):
        for name, tensor in model.adapter_weights(task, language).items():
            torch.testing.assert_close(getattr(weights, name)[index], tensor)


@pytest.mark.parametrize("method", ["hyperx", "adapters"])
def test_layers_without_adapters_are_left_out(method: str):
    model = tiny_model(method=method, hypernet={"skip_last_layer": True})
    assert model.adapter_weights("pos", "eng").down_weight.shape[0] == 1
    assert len(model.hooks.modules) == 1


@pytest.mark.parametrize(
    ("layers", "hypernet", "field"),
    [(2, {"top_layers": 3}, "top_layers"), (1, {"skip_last_layer": True}, "skip_last_layer")],
)
def test_an_encoder_with_too_few_layers_is_refused(
    layers: int, hypernet: dict[str, Any], field: str
):
    for method in ("hyperx", "finetune", "head"):
        with pytest.raises(BackboneError, match=rf"hypernet\.{field}"):
            tiny_model(tiny_backbone(layers=layers), method, hypernet=hypernet)


# --- the head of each task


def test_each_type_of_task_has_its_head():
    model = tiny_model(tasks=(*TASKS, DEP), parser="direct", head_dropout=0.3)
    kinds = {"pos": TaggingHead, "ner": SpanHead, "topic": ClassificationHead, "mlm": MlmHead}
    for name, kind in {**kinds, "dep": ParserHead}.items():
        head = model.head(name)
        assert type(head) is kind
        assert isinstance(head, MlmHead) or head.dropout.p == 0.3
    assert model.head("dep").perceptrons is None


def batch_of(model: HyperX, cells: list[Cell], inputs: list[Any]) -> Batch:
    rows = [
        encode_inputs([one], model.task(cell.task), model.tokenizer, 32)[0]
        for cell, one in zip(cells, inputs, strict=True)
    ]
    masked = mask_rows(rows, cells, model.tasks, model.tokenizer, torch.Generator().manual_seed(1))
    return collate(masked, cells, model.tasks, model.tokenizer)


@pytest.mark.parametrize("form", PARSERS)
@pytest.mark.parametrize("family", ["bert", "modernbert"])
def test_a_sentence_is_parsed_the_same_beside_any_others(form: str, family: str):
    """Beside other tasks, languages and lengths; and a long one in its windows."""
    model = tiny_model(family, tasks=(*TASKS, DEP), parser=form).double()
    cells = [Cell("dep", "isl"), Cell("pos", "eng"), Cell("dep", "eng"), Cell("dep", "tur")]
    sentences = [SENTENCES[0], ["a", "dog"], SENTENCES[2], SENTENCES[1]]
    together = batch_of(model, cells, sentences)
    assert len(together.cells) > len(cells)
    out = model.run(together)
    assert out.scores.keys() == {"dep", "pos"}
    scores = out.scores["dep"]
    assert scores.real.sum(dim=1).tolist() == [4, 40, 2]
    for place, number in enumerate((0, 2, 3)):
        words = len(sentences[number])
        alone = model.run(batch_of(model, [cells[number]], [sentences[number]])).scores["dep"]
        close = {"rtol": 1e-8, "atol": 1e-8}
        torch.testing.assert_close(scores.arcs[place, :words, : words + 1], alone.arcs[0], **close)
        torch.testing.assert_close(
            scores.relations[place, :words, : words + 1], alone.relations[0], **close
        )
        assert alone.arcs.std() > 0.01


@pytest.mark.parametrize("form", PARSERS)
def test_every_parameter_of_a_parser_has_a_gradient(form: str):
    model = tiny_model(tasks=(*TASKS, DEP), parser=form)
    scores = model.run(batch_of(model, [Cell("dep", "eng")], [SENTENCES[0]])).scores["dep"]
    scores.loss(torch.tensor([2, 3, 0, 3]), torch.tensor([0, 1, 2, 1])).backward()
    assert all(parameter.grad.any() for parameter in model.heads["dep"].parameters())
    assert any(parameter.grad.any() for parameter in model.adapters.parameters())


def test_parsing_needs_words_and_has_no_logits():
    model = tiny_model(tasks=(*TASKS, DEP))
    with pytest.raises(HyperlectError, match=r"dep.*words"):
        model(IDS, MASK, task="dep", language="eng")
    out = model.run(batch_of(model, [Cell("dep", "eng")], [SENTENCES[0]]))
    with pytest.raises(HyperlectError, match="dep"):
        _ = out.logits


def test_a_forward_pass_of_tensors_equals_that_of_a_collated_batch():
    model = tiny_model(tasks=(*TASKS, DEP, NLI))
    cells = [Cell("dep", "eng"), Cell("pos", "isl"), Cell("topic", "tur"), Cell("dep", "isl")]
    inputs = [SENTENCES[0], SENTENCES[1], "Anna sees the cat", SENTENCES[1]]
    batch = batch_of(model, cells, inputs)
    positions = torch.zeros(batch.input_ids.numel(), dtype=torch.bool)
    positions[batch.tasks["pos"].positions] = True
    words = torch.full_like(batch.input_ids, -1)
    for row, number in ((0, 0), (3, 3)):
        encoded = encode_inputs([inputs[number]], DEP, model.tokenizer, 32)[0]
        words[row, : len(encoded["words"])] = torch.tensor(encoded["words"])
    tensors = model(
        batch.input_ids,
        batch.attention_mask,
        task=[cell.task for cell in cells],
        language=[cell.language for cell in cells],
        token_type_ids=batch.token_type_ids,
        positions=positions.view_as(batch.input_ids),
        words=words,
    )
    collated = model.run(batch)
    assert torch.equal(tensors.last_hidden_state, collated.last_hidden_state)
    for task, scores in collated.scores.items():
        if task == "dep":
            assert torch.equal(tensors.scores["dep"].arcs, scores.arcs)
        else:
            assert torch.equal(tensors.scores[task], scores)


# --- a GPU never waits


@contextmanager
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Refuse everything by which a GPU would have to tell the CPU a value."""

    def refuse(*_: Any, **__: Any) -> Any:
        raise AssertionError("a GPU would have to wait here")

    with monkeypatch.context() as patch:
        for name in ("__bool__", "__int__", "__float__", "__index__", "item", "tolist", "nonzero"):
            patch.setattr(Tensor, name, refuse)
        patch.setattr(Tensor, "cpu", refuse)
        patch.setattr(Tensor, "numpy", refuse)
        for name in ("nonzero", "masked_select", "unique", "isin"):
            patch.setattr(torch, name, refuse)
        yield


def adapters_alone(model: HyperX) -> Any:
    """Stand in for the encoder, whose own code is transformers': apply the adapters in turn."""

    def forward(input_ids: Tensor, *_: Any) -> tuple[Tensor, None]:
        hidden = model.backbone.word_embeddings[input_ids]
        for module in model.hooks.modules:
            hidden = module(hidden)
        return hidden, None

    return forward


@pytest.mark.parametrize("method", ["hyperx", "mad-x", "factorised"])
@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_the_forward_pass_of_a_collated_batch_never_waits_for_a_gpu(
    method: str, dropout: float, monkeypatch: pytest.MonkeyPatch
):
    """Nor do language vectors, adapters, heads and losses: the number of words is known."""
    hypernet = {"language_dropout": dropout}
    model = tiny_model(method=method, tasks=(*TASKS, DEP, NLI), hypernet=hypernet).train()
    cells = [Cell(task, LANGUAGES[n % 3]) for n, task in enumerate((*NAMES, "dep", "nli", "dep"))]
    text = "the old cat sees Anna"
    inputs = [text.split(), text.split(), text, text, text.split(), (text, "a dog"), ["a"] * 40]
    batch = batch_of(model, [*cells, Cell("pos", "fao")], [*inputs, ["Oslo"]])
    labels = {
        name: torch.zeros(
            sum(rows.words.lengths) if rows.words else sum(rows.counts), dtype=torch.int64
        )
        for name, rows in batch.tasks.items()
    }
    monkeypatch.setattr(model.backbone, "forward", adapters_alone(model))
    labelled = {
        name: type(rows)(**{**vars(rows), "labels": labels[name], "heads": labels[name]})
        for name, rows in batch.tasks.items()
    }
    with no_waiting(monkeypatch):
        out = model.run(batch)
        losses = [model.head(name).loss(out.scores[name], rows) for name, rows in labelled.items()]
    assert torch.stack(losses).isfinite().all()
    with no_waiting(monkeypatch), pytest.raises(AssertionError, match="wait"):
        losses[0].item()
