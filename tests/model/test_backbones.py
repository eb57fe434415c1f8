"""Promises that hold on encoders of every family."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch import nn
from transformers import AutoModelForMaskedLM

from hyperlect.backbone import load_backbone
from hyperlect.model import HyperX
from tests.hypernet import twin
from tests.tiny import FAMILY_NAMES, tiny_backbone, tiny_encoder, tiny_tokenizer

from .models import IDS, LANGUAGES, MASK, POSITIONS, TASKS, loss, padded, tiny_model


def forward(model: HyperX, seed: int = 1, task: str = "pos", language: str = "eng"):
    torch.manual_seed(seed)
    with torch.no_grad():
        return model(
            *padded(model.backbone), task=task, language=language, output_hidden_states=True
        )


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("family", FAMILY_NAMES)
def test_without_adapters_the_model_is_the_encoder_bit_for_bit(family: str, training: bool):
    plain = tiny_encoder(family).train(training)
    model = tiny_model(family).train(training)
    ids, mask = padded(model.backbone)

    def same(model: HyperX) -> bool:
        with torch.no_grad():
            torch.manual_seed(1)
            expected = plain(input_ids=ids, attention_mask=mask, output_hidden_states=True)
            torch.manual_seed(1)
            last, states = model.backbone(ids, mask, output_hidden_states=True)
        # Of some models, older versions of transformers give the last one before its norm.
        theirs = (*expected.hidden_states[:-1], expected[0])
        pairs = zip((*states, last), (*theirs, expected[0]), strict=True)
        return all(torch.equal(here, there) for here, there in pairs)

    assert same(model)
    forward(model)  # the adapters act during the pass alone
    assert same(model)
    model.hooks.remove()
    assert same(model)
    heads_alone = tiny_model(family, method="head").train(training)
    out = forward(heads_alone)
    torch.manual_seed(1)
    with torch.no_grad():
        expected = plain(input_ids=ids, attention_mask=mask, output_hidden_states=True)
    assert torch.equal(out.last_hidden_state, expected.last_hidden_state)
    for mine, theirs in zip(out.hidden_states[:-1], expected.hidden_states[:-1], strict=True):
        assert torch.equal(mine, theirs)


@pytest.mark.parametrize("insertion", ["feed_forward", "layer"])
@pytest.mark.parametrize("family", FAMILY_NAMES)
def test_adapters_change_the_output_of_every_layer(family: str, insertion: str):
    model, plain = tiny_model(family, hypernet={"insertion": insertion}), tiny_encoder(family)
    ids, mask = padded(model.backbone)
    with torch.no_grad():
        expected = plain(input_ids=ids, attention_mask=mask, output_hidden_states=True)
    out = forward(model)
    assert torch.equal(out.hidden_states[0], expected.hidden_states[0])
    for mine, theirs in zip(out.hidden_states[1:], expected.hidden_states[1:], strict=True):
        assert (mine - theirs).abs().max() > 0.1
    # Task and language both matter.
    for cell in ({"task": "ner"}, {"language": "isl"}):
        other = forward(model, **cell).last_hidden_state
        assert (other - out.last_hidden_state).abs().max() > 1e-3


@pytest.mark.parametrize("family", FAMILY_NAMES)
def test_an_adapter_after_the_layer_is_part_of_its_hidden_states(family: str):
    """hidden_states[i + 1] is what layer i + 1 reads, adapter included."""
    model = tiny_model(family, hypernet={"insertion": "layer"})
    layers = model.backbone.family.insertion_points(model.backbone.encoder, 2, "layer")
    seen = []
    handle = layers[1].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    out = forward(model)
    handle.remove()
    assert torch.equal(out.hidden_states[1], seen[0])


@pytest.mark.parametrize("task", [task.name for task in TASKS])
@pytest.mark.parametrize("family", FAMILY_NAMES)
def test_padding_changes_no_state_and_no_score(family: str, task: str):
    model = tiny_model(family)
    ids, mask = padded(model.backbone)
    length = int(mask[1].sum())
    with torch.no_grad():
        together = model(ids, mask, task=task, language="eng")
        alone = model(ids[1:, :length], mask[1:, :length], task=task, language="eng")
    mine, theirs = together.last_hidden_state[1, :length], alone.last_hidden_state[0]
    assert (mine - theirs).abs().max() < 1e-5
    logits = together.logits[1] if task == "topic" else together.logits[1, :length]
    assert (logits - alone.logits[0]).abs().max() < 1e-5


@pytest.mark.parametrize("train_layer_norms", [False, True])
@pytest.mark.parametrize("family", FAMILY_NAMES)
def test_a_training_step_changes_trained_parameters_and_no_others(
    family: str, train_layer_norms: bool
):
    model = tiny_model(family, train_layer_norms=train_layer_norms).train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    trained = model.own_parameters()
    optimizer = torch.optim.AdamW(trained.values(), lr=1e-2, weight_decay=0)
    loss(model, "pos", "isl").backward()
    for name, parameter in model.adapters.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.any(), name
    optimizer.step()
    changed = {n for n, tensor in model.state_dict().items() if not torch.equal(tensor, before[n])}
    norms = {
        f"backbone.encoder.{path}.{name}"
        for path, module in model.backbone.encoder.named_modules()
        if isinstance(module, nn.LayerNorm) or "RMSNorm" in type(module).__name__
        for name, _ in module.named_parameters()
    }
    in_backbone = {name for name in changed if name.startswith("backbone.")}
    assert in_backbone == (norms if train_layer_norms else set())
    adapters = {name for name in trained if name.startswith("adapters.")}
    assert changed - in_backbone == adapters | {"heads.pos.linear.weight", "heads.pos.linear.bias"}
    # Of the embeddings, only the rows of the cell.
    for source, row in (("task", 0), ("language", LANGUAGES.index("isl"))):
        name = f"adapters.source.embeddings.{source}"
        rows = (model.state_dict()[name] != before[name]).any(1).nonzero().flatten()
        assert rows.tolist() == [row]


@pytest.mark.parametrize("family", FAMILY_NAMES)
def test_training_lowers_the_loss_of_every_task(family: str):
    model = tiny_model(family).eval()  # without dropout the loss is sure to fall
    optimizer = torch.optim.AdamW(model.own_parameters().values(), lr=3e-3, weight_decay=0)
    cells = [("pos", "eng"), ("ner", "isl"), ("topic", "tur"), ("mlm", "tur")]
    with torch.no_grad():
        start = [loss(model, *cell).item() for cell in cells]
    for _ in range(12):
        for cell in cells:
            optimizer.zero_grad()
            loss(model, *cell).backward()
            optimizer.step()
    with torch.no_grad():
        end = [loss(model, *cell).item() for cell in cells]
    assert all(after < before for after, before in zip(end, start, strict=True))


@pytest.mark.parametrize("family", [name for name in FAMILY_NAMES if name != "eurobert"])
def test_the_mlm_head_starts_as_the_encoders_own(family: str, tmp_path: Path):
    twin.liven(tiny_encoder(family, mlm=True)).save_pretrained(tmp_path)
    tiny_tokenizer(family).save_pretrained(tmp_path)
    whole = AutoModelForMaskedLM.from_pretrained(tmp_path).eval()
    backbone = load_backbone(str(tmp_path))
    config = tiny_model(method="head").config
    model = HyperX(backbone, config).eval()
    ids, mask = padded(backbone)
    with torch.no_grad():
        expected = whole(input_ids=ids, attention_mask=mask).logits
        every = model(ids, mask, task="mlm", language="eng").logits
        some = model(ids, mask, task="mlm", language="eng", positions=POSITIONS).logits
    torch.testing.assert_close(every, expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(some, expected[POSITIONS], rtol=1e-5, atol=1e-5)


def test_two_models_can_share_one_encoder():
    backbone = tiny_backbone()
    one, other = tiny_model(backbone), tiny_model(backbone, hypernet={"insertion": "layer"})
    assert torch.equal(forward(one).logits, forward(tiny_model()).logits)
    alone = tiny_model(hypernet={"insertion": "layer"})
    assert torch.equal(forward(other).logits, forward(alone).logits)


def test_a_deep_copy_is_a_model_of_its_own():
    model = tiny_model()
    copied = copy.deepcopy(model)
    assert torch.equal(forward(copied).logits, forward(model).logits)
    expected = forward(model).logits
    with torch.no_grad():
        for parameter in copied.adapters.parameters():
            parameter.zero_()
    assert torch.equal(forward(model).logits, expected)
    assert not torch.equal(forward(copied).logits, expected)


def test_after_eval_mode_the_model_is_in_its_mode_before():
    model = tiny_model().train()
    with model.eval_mode():
        assert not model.training
        assert model(IDS, MASK, task="pos", language="eng").logits.is_inference()
    assert model.training
    assert model(IDS, MASK, task="pos", language="eng").logits.requires_grad
