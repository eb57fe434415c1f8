"""Generated LoRA: on every family it is the encoder with other matrices, for one cell or many."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from hyperlect.backbone import FAMILIES, Backbone
from hyperlect.errors import BackboneError
from hyperlect.hypernet import UNTRAINED
from hyperlect.hypernet.config import TARGETS
from hyperlect.model import HyperX
from hyperlect.model.hyperx import load_hypernet
from tests.tiny import FAMILY_NAMES, saved_backbone, tiny_encoder

from .models import IDS, LANGUAGES, MASK, loss, padded, tiny_model

METHODS = ["hyperx", "task-hypernet", "language-hypernet", "adapters", "mad-x"]
CLOSE = {"rtol": 1e-4, "atol": 1e-5}


def lora_model(
    backbone: Backbone | str = "bert", method: str = "hyperx", **hypernet: Any
) -> HyperX:
    settings = {"adapter": "lora", "lora_rank": 3, "lora_alpha": 6.0, **hypernet}
    languages = ("tur",) if method == "mad-x" else LANGUAGES
    return tiny_model(backbone, method, settings, languages=languages)


def merged(model: HyperX, task: str, language: str) -> torch.nn.Module:
    """The twin: a copy of the encoder, with s B A added to its matrices."""
    hypernet, family = model.config.hypernet, model.backbone.family
    encoder = tiny_encoder(family.model_type).to(model.backbone.word_embeddings.dtype)
    weights = model.adapter_weights(task, language)
    layers = hypernet.layers(model.backbone.layers)
    for number, layer in enumerate(layers):
        block = encoder.get_submodule(family.layer.format(i=layer))
        for target in hypernet.lora_targets:
            place = family.projections[target]
            matrix = block.get_submodule(place.path).weight.data
            size = len(matrix) // place.parts
            for single in weights.in_sequence(leading=1):
                of_layer = dict(single[number].items())
                change = 2 * of_layer[f"{target}_b"] @ of_layer[f"{target}_a"]
                matrix[place.part * size : (place.part + 1) * size] += change
    return encoder


@torch.no_grad()
def states(encoder: torch.nn.Module, ids: Tensor, mask: Tensor) -> Tensor:
    return encoder(input_ids=ids, attention_mask=mask).last_hidden_state


@pytest.mark.parametrize("targets", [("query", "value"), TARGETS])
@pytest.mark.parametrize("family", FAMILY_NAMES)
def test_a_cell_is_the_encoder_with_other_matrices(family: str, targets: tuple[str, ...]):
    model = lora_model(family, lora_targets=targets).double()  # rounding grows with six targets
    ids, mask = padded(model.backbone)
    plain = states(tiny_encoder(family).double(), ids, mask)
    expected = states(merged(model, "ner", "isl"), ids, mask)
    with torch.no_grad():
        out = model(ids, mask, task="ner", language="isl").last_hidden_state
    torch.testing.assert_close(out[mask.bool()], expected[mask.bool()], **CLOSE)
    assert (out - plain)[mask.bool()].abs().max() > 1e-2
    # Without active adapters it is the encoder, bit for bit.
    assert torch.equal(model.backbone(ids, mask)[0], plain)
    model.hooks.remove()
    assert torch.equal(model.backbone(ids, mask)[0], plain)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("family", FAMILY_NAMES)
def test_each_target_acts_on_its_own(family: str, target: str):
    model = lora_model(family, lora_targets=(target,))
    ids, mask = padded(model.backbone)
    expected = states(merged(model, "pos", "eng"), ids, mask)
    with torch.no_grad():
        out = model(ids, mask, task="pos", language="eng").last_hidden_state
    torch.testing.assert_close(out[mask.bool()], expected[mask.bool()], **CLOSE)
    assert (out - model.backbone(ids, mask)[0])[mask.bool()].abs().max() > 1e-3


@pytest.mark.parametrize("settings", [{"top_layers": 1}, {"skip_last_layer": True}])
def test_some_layers_alone_have_it(settings: dict[str, Any]):
    model = lora_model("bert", **settings)
    expected = states(merged(model, "pos", "eng"), IDS, MASK)
    with torch.no_grad():
        out = model(IDS, MASK, task="pos", language="eng").last_hidden_state
    torch.testing.assert_close(out, expected, **CLOSE)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("family", ["bert", "deberta-v2", "modernbert"])
def test_mixed_cells_equal_each_row_alone_on_skewed_batches(family: str, method: str):
    """DeBERTa's cells take a pass each, since relative positions are projected for all rows."""
    model = lora_model(family, method)
    languages = ["tur"] if method == "mad-x" else [*LANGUAGES, "dan"]
    tasks = ["topic"] * 7 + ["pos", "ner", "topic", "pos"]
    names = [languages[0]] * 7 + [languages[i % len(languages)] for i in range(4)]
    torch.manual_seed(4)
    ids = torch.randint(5, 30, (11, 40))
    mask = torch.ones_like(ids)
    for row, length in enumerate([40, 2, 2, 40, 3, 2, 2, 40, 2, 5, 40]):
        mask[row, length:] = 0
        ids[row, length:] = model.tokenizer.pad_token_id
    options = {"output_hidden_states": True}
    with torch.no_grad():
        mixed = model(ids, mask, task=tasks, language=names, **options)
        for row, (task, language) in enumerate(zip(tasks, names, strict=True)):
            one = slice(row, row + 1)
            alone = model(ids[one], mask[one], task=task, language=language, **options)
            real = mask[row].bool()
            for mine, theirs in zip(mixed.hidden_states, alone.hidden_states, strict=True):
                torch.testing.assert_close(mine[row][real], theirs[0][real], **CLOSE)
    assert len(mixed.scores["topic"]) == 8


@pytest.mark.parametrize("family", ["bert", "deberta-v2"])
def test_gradients_of_a_mixed_batch_are_those_of_its_rows(family: str):
    model = lora_model(family)
    ids, mask = padded(model.backbone)

    def gradients(*batches: Any) -> list[Tensor]:
        model.zero_grad()
        for rows, tasks, languages in batches:
            out = model(ids[rows], mask[rows], task=tasks, language=languages)
            out.logits.square().sum().backward()
        return [parameter.grad.clone() for parameter in model.adapters.parameters()]

    mixed = gradients((slice(None), "topic", ["eng", "tur"]))
    alone = gradients((slice(0, 1), "topic", "eng"), (slice(1, 2), "topic", "tur"))
    for mine, theirs in zip(mixed, alone, strict=True):
        assert theirs.abs().max() > 0
        torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("start", ["published", "adapter"])
def test_it_starts_at_or_near_the_encoder_and_learns(start: str):
    backbone = lora_model().backbone
    config = tiny_model(hypernet={"adapter": "lora", "start": start, "initial_std": 0.02}).config
    torch.manual_seed(2)
    model = HyperX(backbone, config).train()
    model.backbone.eval()
    with torch.no_grad():
        change = model(IDS, MASK, task="pos", language="eng").last_hidden_state
        change = (change - backbone(IDS, MASK)[0]).abs().max()
    assert change == 0 if start == "adapter" else change < 1e-3
    before = {name: tensor.clone() for name, tensor in backbone.encoder.state_dict().items()}
    for head in model.heads.parameters():
        head.requires_grad_(False)
    optimizer = torch.optim.AdamW(model.adapters.parameters(), lr=3e-2)
    losses = []
    for _ in range(25):
        optimizer.zero_grad()
        value = loss(model, "pos", "eng")
        value.backward()
        losses.append(value.item())
        optimizer.step()
    assert losses[-1] < losses[0] - 0.05
    # After the first steps everything that the cell reads gets a gradient.
    for name, parameter in model.adapters.named_parameters():
        assert parameter.grad.abs().max() > 0, name
    after = backbone.encoder.state_dict()
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())


def test_a_language_and_a_task_of_madx_are_added():
    model = lora_model(method="mad-x")
    out = [model(IDS, MASK, task="pos", language="tur").last_hidden_state]
    weights = model.generate([("pos", "tur")])
    assert weights.query_a.shape[:3] == (1, 2, 2)  # cells, layers, the two adapters
    out.append(states(merged(model, "pos", "tur"), IDS, MASK))
    torch.testing.assert_close(*out, **CLOSE)


@pytest.mark.parametrize("method", ["hyperx", "adapters", "mad-x"])
def test_saved_and_loaded_it_is_the_same(tmp_path: Path, method: str):
    model = lora_model(saved_backbone(tmp_path / "encoder"), method, lora_targets=("down", "key"))
    model.save_pretrained(tmp_path / "model")
    again = HyperX.from_pretrained(tmp_path / "model")
    assert again.config == model.config
    for cell in (("pos", "tur"), ("topic", "tur")):
        with torch.inference_mode():
            one, two = (m(IDS, MASK, task=cell[0], language=cell[1]) for m in (model, again))
        assert torch.equal(one.last_hidden_state, two.last_hidden_state)
    loaded = load_hypernet(tmp_path / "model")
    if method != "hyperx":
        assert loaded is None
        return
    _, hypernet = loaded
    index = torch.tensor([0, 1]), torch.tensor([2, UNTRAINED])
    for name, tensor in model.adapters(*index).items():
        assert torch.equal(getattr(hypernet(*index), name), tensor)


def test_a_deep_copy_has_hooks_and_weights_of_its_own():
    model = lora_model()
    twin = copy.deepcopy(model)
    with torch.no_grad():
        before = model(IDS, MASK, task="pos", language="eng").last_hidden_state
        for parameter in twin.adapters.parameters():
            parameter.mul_(2)
        other = twin(IDS, MASK, task="pos", language="eng").last_hidden_state
        again = model(IDS, MASK, task="pos", language="eng").last_hidden_state
    assert torch.equal(again, before)
    assert not torch.equal(other, before)


def test_caches_sharing_and_changes_work_as_with_bottlenecks():
    model = lora_model()
    change = model.change_cell("pos", "isl")
    cells = {"task": ["pos", "pos"], "language": ["eng", "isl"]}
    with torch.no_grad():
        plain = model(IDS, MASK, **cells).last_hidden_state
        with model.cached_weights():
            torch.testing.assert_close(model(IDS, MASK, **cells).last_hidden_state, plain)
    with model.shared_weights([("pos", "eng"), ("pos", "isl")]):
        model(IDS, MASK, **cells).last_hidden_state.sum().backward()
    assert all(tensor.grad is not None and tensor.grad.any() for tensor in change.values())
    model.add_language("dan", {"eng": 1.0}, "like eng")
    with torch.no_grad():
        added = model.adapter_weights("ner", "dan").query_a
    assert added.shape == (2, 3, 32)


def test_a_family_without_the_projection_is_refused():
    bert = FAMILIES["bert"]
    family = dataclasses.replace(bert, projections={"value": bert.projections["value"]})
    assert list(family.targets(["value"])) == ["value"]
    with pytest.raises(BackboneError, match="query"):
        family.targets(["query", "value"])
