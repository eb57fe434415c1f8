from __future__ import annotations

import torch

from hyperlect.heads import SequenceHead


def test_scores_are_of_the_mean_of_the_real_sub_words():
    torch.manual_seed(1)
    head = SequenceHead(4, 3)
    hidden = torch.randn(2, 5, 4)
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0]])
    found = head(hidden, mask, None)
    means = torch.stack([hidden[0].mean(0), hidden[1, :2].mean(0)])
    assert found.shape == (2, 3)
    torch.testing.assert_close(found, means @ head.linear.weight.T + head.linear.bias)


def test_what_padding_holds_does_not_matter():
    torch.manual_seed(1)
    head = SequenceHead(4, 3)
    hidden = torch.randn(1, 5, 4)
    mask = torch.tensor([[1, 1, 1, 0, 0]])
    other = hidden.clone()
    other[:, 3:] = 1e6
    assert torch.equal(head(hidden, mask, None), head(other, mask, None))
    torch.testing.assert_close(head(hidden, mask, None), head(hidden[:, :3], mask[:, :3], None))


def test_starting_values_and_dropout():
    torch.manual_seed(1)
    head = SequenceHead(400, 30, dropout=0.5)
    assert abs(head.linear.weight.std() - 0.02) < 0.002
    assert not head.linear.bias.any()
    hidden, mask = torch.randn(1, 5, 400), torch.ones(1, 5)
    assert not torch.equal(head(hidden, mask, None), head(hidden, mask, None))
    head.eval()
    assert torch.equal(head(hidden, mask, None), head(hidden, mask, None))
