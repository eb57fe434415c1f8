from __future__ import annotations

import pytest
import torch

from hyperlect.data.masking import _ordinary_tokens, mask_tokens
from tests.tiny import FAMILY_NAMES, tiny_tokenizer, wordpiece_tokenizer


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def many_rows(tokenizer, rows: int = 400, width: int = 50) -> tuple[torch.Tensor, torch.Tensor]:
    """Make rows of ordinary sub-words with special ones around them and padding after."""
    ids = _ordinary_tokens(
        torch.Size((rows, width)),
        len(tokenizer),
        torch.tensor(sorted(set(tokenizer.all_special_ids))),
        generator(1),
    )
    ids[:, 0], ids[:, -6], ids[:, -5:] = (
        tokenizer.cls_token_id, tokenizer.sep_token_id, tokenizer.pad_token_id,
    )  # fmt: skip
    attention = torch.ones_like(ids)
    attention[:, -5:] = 0
    return ids, attention


@pytest.mark.parametrize("family", FAMILY_NAMES)
def test_rates(family: str):
    tokenizer = tiny_tokenizer(family)
    ids, attention = many_rows(tokenizer)
    hidden, chosen = mask_tokens(ids, attention, tokenizer, generator())
    open_positions = 400 * 43
    assert chosen.sum() / open_positions == pytest.approx(0.15, abs=0.012)
    masked = hidden[chosen] == tokenizer.mask_token_id
    kept = hidden[chosen] == ids[chosen]
    assert masked.float().mean() == pytest.approx(0.8, abs=0.025)
    assert kept.float().mean() == pytest.approx(0.1, abs=0.02)
    assert torch.equal(hidden[~chosen], ids[~chosen])


@pytest.mark.parametrize("family", FAMILY_NAMES)
def test_special_tokens_are_neither_chosen_nor_put_in(family: str):
    tokenizer = tiny_tokenizer(family)
    special = torch.tensor(tokenizer.all_special_ids)
    ids, attention = many_rows(tokenizer)
    ids[:, 7] = tokenizer.unk_token_id
    hidden, chosen = mask_tokens(ids, attention, tokenizer, generator(), rate=1.0)
    assert not chosen[torch.isin(ids, special)].any()
    assert chosen[~torch.isin(ids, special)].all()
    put_in = hidden[chosen & (hidden != tokenizer.mask_token_id)]
    assert not torch.isin(put_in, special).any()


def test_every_row_has_something_to_predict():
    tokenizer = wordpiece_tokenizer()
    ids = torch.tensor([[2, 9, 3, 0], [2, 9, 10, 3], [2, 1, 3, 0]])
    attention = torch.tensor([[1, 1, 1, 0], [1, 1, 1, 1], [1, 1, 1, 0]])
    for seed in range(50):
        _, chosen = mask_tokens(ids, attention, tokenizer, generator(seed))
        assert chosen[0].tolist() == [False, True, False, False]
        assert chosen[1].sum() >= 1
        assert not chosen[2].any()  # nothing but special and unknown tokens


def test_all_ordinary_tokens_are_drawn_and_no_other():
    drawn = _ordinary_tokens(torch.Size((5000,)), 12, torch.tensor([0, 3, 4, 11, 99]), generator())
    assert drawn.unique().tolist() == [1, 2, 5, 6, 7, 8, 9, 10]
    assert torch.bincount(drawn).max() < 5000 / 8 * 1.2


def test_the_generator_decides():
    tokenizer = wordpiece_tokenizer()
    ids, attention = many_rows(tokenizer, rows=4)
    first, again, other = (
        mask_tokens(ids, attention, tokenizer, generator(seed))[0] for seed in (3, 3, 4)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
