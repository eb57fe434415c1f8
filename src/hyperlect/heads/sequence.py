"""Sentence-level heads: one label for a text or a pair of texts."""

from __future__ import annotations

from torch import Tensor, nn


class SequenceHead(nn.Module):
    """Mean of the hidden states, then a linear map to labels.

    The mean over all sub-words is used rather than the first one, since a frozen encoder's first
    sub-word need not stand for the sentence.

    Args:
        hidden: the backbone's hidden size h.
        labels: how many labels.
        dropout: rate on the mean while training.
    """

    def __init__(self, hidden: int, labels: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(hidden, labels)
        nn.init.normal_(self.linear.weight, std=0.02)
        nn.init.zeros_(self.linear.bias)

    def forward(self, hidden: Tensor, attention_mask: Tensor, positions: Tensor | None) -> Tensor:
        """Score labels, (B, labels).

        Args:
            hidden: (B, T, h).
            attention_mask: (B, T), 1 where there is a sub-word.
            positions: not used.
        """
        return self.linear(self.dropout(mean_state(hidden, attention_mask)))  # type: ignore[no-any-return]


def mean_state(hidden: Tensor, attention_mask: Tensor) -> Tensor:
    """Average the hidden states of each row, (B, T, h), over its sub-words: (B, h)."""
    mask = attention_mask[..., None].to(hidden.dtype)
    return (hidden * mask).sum(dim=1) / mask.sum(dim=1)
