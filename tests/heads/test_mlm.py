"""The masked-language-modelling head: it starts from the encoder's own, or as the identity."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForMaskedLM

from hyperlect.backbone import Backbone, load_backbone
from hyperlect.data.batching import TaskRows
from hyperlect.heads import Encoded, HeadOptions, MlmHead
from hyperlect.tasks import Task, TaskType
from tests.hypernet import twin
from tests.tiny import FAMILY_NAMES, HIDDEN, save_tiny, tiny_backbone, tiny_encoder, tiny_tokenizer

MLM = Task("mlm", TaskType.MLM)
IDS = torch.arange(5, 25).view(2, 10)
MASK = torch.ones_like(IDS)
MASK[1, 8:] = 0


def start(backbone: Backbone, **options: Any) -> MlmHead:
    return MlmHead.start(MLM, backbone, HeadOptions(**options))


# EuroBERT's own head is only a decoder, so the head starts as without one.
@pytest.mark.parametrize("family", [name for name in FAMILY_NAMES if name != "eurobert"])
def test_it_starts_as_the_encoders_own_head(family: str, tmp_path: Path):
    twin.liven(tiny_encoder(family, mlm=True)).save_pretrained(tmp_path)
    tiny_tokenizer(family).save_pretrained(tmp_path)
    whole = AutoModelForMaskedLM.from_pretrained(tmp_path).eval()
    backbone = load_backbone(str(tmp_path)).eval()
    with torch.no_grad():
        expected = whole(input_ids=IDS, attention_mask=MASK).logits
        hidden, _ = backbone(IDS, MASK)
        logits = start(backbone)(hidden, backbone.word_embeddings)
    assert expected.std() > 0.1
    torch.testing.assert_close(logits, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("family", FAMILY_NAMES)
def test_the_start_is_a_copy(family: str, tmp_path: Path):
    backbone = load_backbone(str(save_tiny(tmp_path, family, mlm=True)))
    head = start(backbone)
    with torch.no_grad():
        head.dense.weight.zero_()
    assert start(backbone).dense.weight.any()
    assert all(parameter.requires_grad for parameter in head.parameters())


@pytest.mark.parametrize("family", FAMILY_NAMES)
def test_without_a_pretrained_head_it_starts_as_the_identity(family: str):
    backbone = tiny_backbone(family)
    hidden = torch.randn(2, 10, HIDDEN)
    ones, zeros = torch.ones(HIDDEN), torch.zeros(HIDDEN)
    expected = twin.layer_norm(hidden, ones, zeros, 1e-12) @ backbone.word_embeddings.T
    logits = start(backbone)(hidden, backbone.word_embeddings)
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-5)


def test_the_word_embeddings_are_not_parameters_of_the_head():
    backbone = tiny_backbone("bert")
    head = start(backbone)
    assert set(dict(head.named_parameters())) == {
        "dense.weight", "dense.bias", "norm.weight", "norm.bias", "bias",
    }  # fmt: skip
    head(torch.randn(1, 3, HIDDEN), backbone.word_embeddings).square().sum().backward()
    assert backbone.word_embeddings.grad is None
    assert all(parameter.grad is not None for parameter in head.parameters())


def test_masked_positions_are_scored_alone():
    backbone = tiny_backbone("bert")
    head = twin.liven(start(backbone))
    encoded = Encoded(torch.randn(2, 10, HIDDEN), MASK, backbone.word_embeddings)

    def read(positions: Tensor | None) -> Tensor:
        return head.read(encoded, TaskRows(torch.arange(2), positions=positions))

    every, some = read(None), read(torch.tensor([3, 11, 17]))
    assert every.shape == (2, 10, backbone.vocabulary)
    torch.testing.assert_close(some, torch.stack([every[0, 3], every[1, 1], every[1, 7]]))


def test_an_untied_decoder_starts_from_the_word_embeddings_and_is_trained():
    backbone = tiny_backbone("bert")
    head, tied = start(backbone, tied_decoder=False), start(backbone)
    hidden = torch.randn(1, 4, HIDDEN)
    expected = tied(hidden, backbone.word_embeddings)
    assert torch.equal(head(hidden, backbone.word_embeddings), expected)
    assert "decoder" in dict(head.named_parameters())
    with torch.no_grad():
        head.decoder.zero_()
    assert backbone.word_embeddings.any()
    assert not head(hidden, backbone.word_embeddings).any()
