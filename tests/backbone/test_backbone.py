"""The frozen encoder: what it computes is what transformers computes."""

from __future__ import annotations

import contextlib
import threading

import pytest
import torch
from torch import nn

from hyperlect.backbone import Backbone, encoder_digest
from hyperlect.errors import BackboneError
from tests.tiny import FAMILY_NAMES, HIDDEN, LAYERS, POSITIONS, tiny_backbone, tiny_encoder

IDS = torch.arange(5, 25).view(2, 10)
MASK = torch.ones_like(IDS)
MASK[1, 7:] = 0


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("family", FAMILY_NAMES)
def test_hidden_states_are_those_of_transformers(family: str, training: bool):
    plain, backbone = tiny_encoder(family).train(training), tiny_backbone(family).train(training)
    with torch.no_grad():
        torch.manual_seed(1)
        expected = plain(input_ids=IDS, attention_mask=MASK, output_hidden_states=True)
        torch.manual_seed(1)
        last, states = backbone(IDS, MASK, output_hidden_states=True)
        torch.manual_seed(1)
        alone, nothing = backbone(IDS, MASK)
    assert torch.equal(last, expected.last_hidden_state)
    assert torch.equal(alone, last)
    assert nothing is None
    assert len(states) == LAYERS + 1
    for mine, theirs in zip(states, expected.hidden_states, strict=True):
        assert torch.equal(mine, theirs)


@pytest.mark.parametrize("family", FAMILY_NAMES)
def test_recording_hidden_states_leaves_no_hook(family: str):
    backbone = tiny_backbone(family)
    backbone(IDS, MASK, output_hidden_states=True)
    for module in backbone.modules():
        assert not module._forward_hooks
        assert not module._forward_pre_hooks


def test_token_types_are_passed_on():
    plain, backbone = tiny_encoder("bert"), tiny_backbone("bert")
    types = torch.zeros_like(IDS)
    types[:, 5:] = 1
    last, _ = backbone(IDS, MASK, types)
    expected = plain(input_ids=IDS, attention_mask=MASK, token_type_ids=types).last_hidden_state
    assert torch.equal(last, expected)
    assert not torch.equal(last, backbone(IDS, MASK)[0])


@pytest.mark.parametrize("family", FAMILY_NAMES)
def test_sizes(family: str):
    backbone = tiny_backbone(family)
    assert (backbone.hidden_size, backbone.layers) == (HIDDEN, LAYERS)
    assert backbone.vocabulary == len(backbone.tokenizer)
    assert backbone.word_embeddings.shape == (backbone.vocabulary, HIDDEN)


@pytest.mark.parametrize("family", FAMILY_NAMES)
def test_the_longest_input_fits_and_no_more(family: str):
    backbone = tiny_backbone(family)
    assert backbone.max_length == POSITIONS
    ids = torch.full((1, POSITIONS), 6)
    assert backbone(ids, torch.ones_like(ids))[0].shape == (1, POSITIONS, HIDDEN)
    if family in ("bert", "roberta", "xlm-roberta"):  # the others know relative positions
        longer = torch.full((1, POSITIONS + 1), 6)
        with pytest.raises((IndexError, RuntimeError)):
            backbone(longer, torch.ones_like(longer))


def test_the_longest_input_is_also_the_tokenizers():
    backbone = tiny_backbone("bert")
    backbone.tokenizer.model_max_length = 20
    assert backbone.max_length == 20
    backbone.tokenizer.model_max_length = int(1e30)  # transformers' way of not knowing
    assert backbone.max_length == POSITIONS
    assert Backbone(tiny_encoder("xlm-roberta")).max_length == POSITIONS


@pytest.mark.parametrize("family", FAMILY_NAMES)
def test_everything_is_frozen_until_the_layer_norms_are_freed(family: str):
    backbone = tiny_backbone(family)
    assert not any(parameter.requires_grad for parameter in backbone.parameters())
    norms = {
        f"encoder.{path}.{name}"
        for path, module in backbone.encoder.named_modules()
        if isinstance(module, nn.LayerNorm)
        for name, _ in module.named_parameters()
    }
    assert {f"encoder.{name}" for name, _ in backbone.layer_norms()} == norms
    assert len(norms) > LAYERS


@pytest.mark.parametrize("family", FAMILY_NAMES)
def test_the_parameters_of_the_top_layers(family: str):
    backbone = tiny_backbone(family)
    everything = dict(backbone.encoder.named_parameters())
    assert dict(backbone.top_parameters(None)).keys() == everything.keys()
    path = backbone.family.layer.format(i=LAYERS - 1)
    last = {name for name in everything if name.startswith(f"{path}.")}
    assert {name for name, _ in backbone.top_parameters(1)} == last
    assert len(last) > 5
    layers = {name for name, _ in backbone.top_parameters(LAYERS)}
    assert last < layers < everything.keys()


@pytest.mark.parametrize("family", FAMILY_NAMES)
def test_attention_as_plain_products_gives_the_same(family: str):
    backbone = tiny_backbone(family).eval()
    expected, _ = backbone(IDS, MASK)
    backbone.attend_plainly()
    assert backbone.encoder.config._attn_implementation == "eager"
    own, _ = backbone(IDS, MASK)
    real = MASK.bool()  # what is computed for padding is never read
    torch.testing.assert_close(own[real], expected[real], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("family", FAMILY_NAMES)
def test_activations_can_be_computed_again(family: str):
    """Each layer runs twice, in contexts that are asked for, and only in training."""
    backbone = tiny_backbone(family)
    entered: list[str] = []

    @contextlib.contextmanager
    def run(name: str):
        entered.append(name)
        yield

    backbone.checkpoint_activations(lambda: (run("first"), run("second")))
    backbone.encoder.get_input_embeddings().weight.requires_grad_()
    backbone.train()
    backbone(IDS, MASK)[0].sum().backward()
    assert entered == ["first"] * LAYERS + ["second"] * LAYERS


def test_an_encoder_that_cannot_compute_activations_again_says_so(monkeypatch: pytest.MonkeyPatch):
    backbone = tiny_backbone()
    for name in ("activation_checkpointing_enable", "gradient_checkpointing_enable"):

        def refuse(*_: object) -> None:
            raise ValueError("not this one")

        monkeypatch.setattr(backbone.encoder, name, refuse, raising=False)
    with pytest.raises(BackboneError, match="cannot compute activations again: not this one"):
        backbone.checkpoint_activations(lambda: None)


def test_an_unsupported_encoder_is_refused():
    from transformers import AlbertConfig, AlbertModel

    sizes = {"hidden_size": 8, "num_attention_heads": 1, "intermediate_size": 8, "vocab_size": 9}
    encoder = AlbertModel(AlbertConfig(**sizes, embedding_size=4))
    with pytest.raises(BackboneError, match='"albert" are not supported'):
        Backbone(encoder)


def test_hidden_states_are_those_of_ones_own_pass() -> None:
    backbone = tiny_backbone("bert")
    ids, mask = torch.tensor([[2, 9, 14, 3]]), torch.ones(1, 4, dtype=torch.long)
    other, expected = torch.tensor([[2, 7, 3]]), backbone(ids, mask, output_hidden_states=True)[1]

    def in_another_thread(*_: object) -> None:
        if threading.current_thread() is threading.main_thread():
            thread = threading.Thread(target=backbone, args=(other, torch.ones_like(other)))
            thread.start()
            thread.join()

    handle = backbone.encoder.get_submodule("encoder.layer.1").register_forward_pre_hook(
        in_another_thread
    )
    _, states = backbone(ids, mask, output_hidden_states=True)
    handle.remove()
    assert [state.shape for state in states] == [state.shape for state in expected]
    assert all(torch.equal(*pair) for pair in zip(states, expected, strict=True))


def test_a_digest_tells_encoders_of_the_same_shapes_apart() -> None:
    backbone = tiny_backbone()
    assert encoder_digest(backbone.encoder) == backbone.digest
    for parameter in backbone.encoder.parameters():
        with torch.no_grad():
            parameter.add_(0.001)
            assert encoder_digest(backbone.encoder) != backbone.digest
            parameter.sub_(0.001)
