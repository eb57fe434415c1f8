"""The masked-language-modelling head: it starts from the encoder's own, or as the identity."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForMaskedLM

from hyperlect.backbone import load_backbone
from hyperlect.heads import MlmHead
from tests.hypernet import twin
from tests.tiny import FAMILY_NAMES, save_tiny, tiny_backbone, tiny_encoder, tiny_tokenizer

IDS = torch.arange(5, 25).view(2, 10)
MASK = torch.ones_like(IDS)
MASK[1, 8:] = 0


@pytest.mark.parametrize("family", FAMILY_NAMES)
def test_it_starts_as_the_encoders_own_head(family: str, tmp_path: Path):
    twin.liven(tiny_encoder(family, mlm=True)).save_pretrained(tmp_path)
    tiny_tokenizer(family).save_pretrained(tmp_path)
    whole = AutoModelForMaskedLM.from_pretrained(tmp_path).eval()
    backbone = load_backbone(str(tmp_path)).eval()
    head = MlmHead.start(backbone)
    with torch.no_grad():
        expected = whole(input_ids=IDS, attention_mask=MASK).logits
        hidden, _ = backbone(IDS, MASK)
        found = head(hidden, None, backbone.word_embeddings)
    assert expected.std() > 0.1
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("family", FAMILY_NAMES)
def test_the_start_is_a_copy(family: str, tmp_path: Path):
    backbone = load_backbone(str(save_tiny(tmp_path, family, mlm=True)))
    head = MlmHead.start(backbone)
    with torch.no_grad():
        head.dense.weight.zero_()
    assert MlmHead.start(backbone).dense.weight.any()
    assert all(parameter.requires_grad for parameter in head.parameters())


@pytest.mark.parametrize("family", FAMILY_NAMES)
def test_without_one_it_starts_as_the_identity(family: str):
    backbone = tiny_backbone(family)
    head = MlmHead.start(backbone)
    hidden = torch.randn(2, 10, backbone.hidden_size)
    ones, zeros = torch.ones(backbone.hidden_size), torch.zeros(backbone.hidden_size)
    expected = twin.layer_norm(hidden, ones, zeros, 1e-12) @ backbone.word_embeddings.T
    found = head(hidden, None, backbone.word_embeddings)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_the_word_embeddings_are_not_the_heads():
    backbone = tiny_backbone("bert")
    head = MlmHead.start(backbone)
    assert set(dict(head.named_parameters())) == {
        "dense.weight", "dense.bias", "norm.weight", "norm.bias", "bias",
    }  # fmt: skip
    head(torch.randn(1, 3, 32), None, backbone.word_embeddings).square().sum().backward()
    assert backbone.word_embeddings.grad is None
    assert all(parameter.grad is not None for parameter in head.parameters())


def test_logits_at_the_masked_positions_only():
    backbone = tiny_backbone("bert")
    head = twin.liven(MlmHead.start(backbone))
    hidden = torch.randn(2, 10, 32)
    positions = torch.zeros(2, 10, dtype=torch.bool)
    positions[0, 3] = positions[1, 1] = positions[1, 7] = True
    every = head(hidden, None, backbone.word_embeddings)
    some = head(hidden, positions, backbone.word_embeddings)
    assert every.shape == (2, 10, backbone.vocabulary)
    assert some.shape == (3, backbone.vocabulary)
    torch.testing.assert_close(some, torch.stack([every[0, 3], every[1, 1], every[1, 7]]))


def test_an_untied_decoder_starts_from_the_word_embeddings_and_is_trained():
    backbone = tiny_backbone("bert")
    head, tied = MlmHead.start(backbone, tied=False), MlmHead.start(backbone)
    hidden = torch.randn(1, 4, 32)
    expected = tied(hidden, None, backbone.word_embeddings)
    assert torch.equal(head(hidden, None, backbone.word_embeddings), expected)
    assert "decoder" in dict(head.named_parameters())
    with torch.no_grad():
        head.decoder.zero_()
    assert backbone.word_embeddings.any()
    assert not head(hidden, None, backbone.word_embeddings).any()
