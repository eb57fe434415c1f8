"""Masks for masked language modelling."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

RATE = 0.15
MASKED, RANDOM = 0.8, 0.1  # of the chosen positions; the rest keep their sub-word


def mask_tokens(
    input_ids: Tensor,
    attention_mask: Tensor,
    tokenizer: Any,
    generator: torch.Generator | None = None,
    rate: float = RATE,
) -> tuple[Tensor, Tensor]:
    """Choose positions to predict and hide what stands there (Devlin et al. 2019, section 3.1).

    Of the chosen positions 80 % become the mask token, 10 % a random sub-word, and 10 % stay.
    Special and unknown tokens are neither chosen nor put in. Every row has at least one chosen
    position, unless it holds nothing else than special tokens.

    Args:
        input_ids: (B, T).
        attention_mask: (B, T), 1 where there is a sub-word.
        tokenizer: has a mask token.
        generator: source of chance; torch's own if ``None``.
        rate: the share of sub-words that is chosen.

    Returns:
        The hidden ids (B, T), and the chosen positions (B, T), boolean.
    """
    special = torch.tensor(sorted(set(tokenizer.all_special_ids)))
    open_to_choice = attention_mask.bool() & ~torch.isin(input_ids, special)
    chance = torch.rand(input_ids.shape, generator=generator)
    chance = chance.masked_fill(~open_to_choice, torch.inf)
    chosen = chance < rate
    # The luckiest position of each row is chosen whatever its number.
    luckiest = chance.argmin(dim=1, keepdim=True)
    chosen = chosen.scatter(1, luckiest, True) & open_to_choice

    fate = torch.rand(input_ids.shape, generator=generator)
    hidden = torch.where(chosen & (fate < MASKED), tokenizer.mask_token_id, input_ids)
    swapped = chosen & (fate >= MASKED) & (fate < MASKED + RANDOM)
    others = _ordinary_tokens(input_ids.shape, len(tokenizer), special, generator)
    return torch.where(swapped, others, hidden), chosen


def _ordinary_tokens(
    shape: torch.Size, vocabulary: int, special: Tensor, generator: torch.Generator | None
) -> Tensor:
    """Draw sub-words evenly from those that are not special (`special` sorted)."""
    special = special[special < vocabulary]
    drawn = torch.randint(vocabulary - len(special), shape, generator=generator)
    for token in special:  # the k-th ordinary id is k plus the special ids at or below it
        drawn = drawn + (drawn >= token)
    return drawn
