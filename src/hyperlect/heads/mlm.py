"""The head of masked language modelling, with the decoder tied to the frozen embeddings."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.activations import ACT2FN

from ..backbone import Backbone
from .token import at_positions


class MlmHead(nn.Module):
    """Dense map, non-linearity, LayerNorm, then the vocabulary.

    Where the encoder brings a pretrained head, that is where it starts. Otherwise it starts as
    the identity followed by a LayerNorm, without a non-linearity, so that the hidden states are
    compared with the word embeddings directly.

    Args:
        hidden: the backbone's hidden size h.
        vocabulary: size of the vocabulary.
        activation: transformers' name of the non-linearity; "linear" for none.
        eps: epsilon of the LayerNorm.

    The decoder is the encoder's frozen word embeddings, unless the head has one of its own, as
    some models of the released code do (see `start`).
    """

    def __init__(
        self, hidden: int, vocabulary: int, activation: str = "linear", eps: float = 1e-12
    ) -> None:
        super().__init__()
        self.activation = activation
        self.activate = ACT2FN[activation]
        self.dense = nn.Linear(hidden, hidden)
        nn.init.eye_(self.dense.weight)
        nn.init.zeros_(self.dense.bias)
        self.norm = nn.LayerNorm(hidden, eps=eps)
        self.bias = nn.Parameter(torch.zeros(vocabulary))
        self.decoder: nn.Parameter | None = None

    @classmethod
    def start(cls, backbone: Backbone, tied: bool = True) -> MlmHead:
        """Make the head that training on `backbone` starts from.

        A decoder of its own (not `tied`) starts from the word embeddings.
        """
        own = backbone.mlm_start
        head = cls(backbone.hidden_size, backbone.vocabulary)
        if own is not None:
            head = cls(backbone.hidden_size, backbone.vocabulary, own.activation, own.eps)
            head.load_state_dict(own.state)
        if not tied:
            head.decoder = nn.Parameter(backbone.word_embeddings.detach().clone())
        return head

    def forward(self, hidden: Tensor, positions: Tensor | None, embeddings: Tensor) -> Tensor:
        """Score the vocabulary: (N, vocabulary) at the N true `positions`, or (B, T, vocabulary).

        Args:
            hidden: (B, T, h).
            positions: (B, T), boolean: the masked positions.
            embeddings: (vocabulary, h), the encoder's word embeddings.
        """
        read = self.dense(hidden if positions is None else at_positions(hidden, positions))
        decoder = embeddings if self.decoder is None else self.decoder
        return F.linear(self.norm(self.activate(read)), decoder, self.bias)
