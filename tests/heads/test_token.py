from __future__ import annotations

import itertools

import pytest
import torch

from hyperlect.heads import TokenHead, decode_spans
from hyperlect.heads.token import at_positions

LABELS = ("O", "B-LOC", "I-LOC", "B-PER", "I-PER")


def valid(labels: tuple[str, ...]) -> bool:
    before = "O"
    for label in labels:
        if label.startswith("I-") and before not in (f"B-{label[2:]}", label):
            return False
        before = label
    return True


def best(logits: torch.Tensor, labels: tuple[str, ...]) -> list[int]:
    """The best valid sequence, by trying all of them."""
    scores = logits.double().log_softmax(-1)
    sequences = [
        indices
        for indices in itertools.product(range(len(labels)), repeat=len(logits))
        if valid(tuple(labels[i] for i in indices))
    ]
    return list(max(sequences, key=lambda s: sum(scores[w, i].item() for w, i in enumerate(s))))


def test_what_stands_at_positions_is_what_a_mask_picks():
    torch.manual_seed(1)
    mask, none = torch.rand(3, 5) < 0.4, torch.zeros(3, 5, dtype=torch.bool)
    values = torch.randn(3, 5, 4, requires_grad=True)
    for positions in (mask, none):
        (expected,) = torch.autograd.grad(values[positions].square().sum(), values)
        found = at_positions(values, positions)
        assert torch.equal(found, values[positions])
        (gradient,) = torch.autograd.grad(found.square().sum(), values)
        assert torch.equal(gradient, expected)
    numbers = torch.arange(3)[:, None].expand(3, 5)
    assert torch.equal(at_positions(numbers, mask), mask.nonzero()[:, 0])


def test_scores_everywhere_or_at_positions():
    torch.manual_seed(1)
    head = TokenHead(4, 3)
    hidden, mask = torch.randn(2, 5, 4), torch.ones(2, 5)
    positions = torch.zeros(2, 5, dtype=torch.bool)
    positions[0, 1] = positions[0, 4] = positions[1, 2] = True
    every = head(hidden, mask, None)
    torch.testing.assert_close(every, hidden @ head.linear.weight.T + head.linear.bias)
    some = head(hidden, mask, positions)  # in the order of reading
    torch.testing.assert_close(some, torch.stack([every[0, 1], every[0, 4], every[1, 2]]))


def test_dropout_acts_in_training_alone():
    torch.manual_seed(1)
    head = TokenHead(50, 3, dropout=0.5)
    hidden, mask = torch.randn(1, 5, 50), torch.ones(1, 5)
    assert not torch.equal(head(hidden, mask, None), head(hidden, mask, None))
    head.eval()
    assert torch.equal(head(hidden, mask, None), head(hidden, mask, None))


@pytest.mark.parametrize("seed", range(20))
def test_spans_are_the_best_valid_sequence(seed: int):
    torch.manual_seed(seed)
    logits = 2 * torch.randn(5, len(LABELS))
    assert decode_spans(logits, LABELS) == best(logits, LABELS)


def test_the_order_of_the_labels_does_not_matter():
    torch.manual_seed(1)
    shuffled = ("I-PER", "B-LOC", "O", "I-LOC", "B-PER")
    logits = 2 * torch.randn(4, len(LABELS))
    assert decode_spans(logits, shuffled) == best(logits, shuffled)


def test_valid_sequences_are_left_as_they_are():
    wanted = [1, 2, 2, 0, 3, 1, 3, 4]
    logits = torch.nn.functional.one_hot(torch.tensor(wanted), len(LABELS)).float()
    assert decode_spans(logits, LABELS) == wanted


def test_impossible_starts_and_changes_are_mended():
    sure = torch.full((3, len(LABELS)), -5.0)
    sure[0, 2] = sure[1, 4] = sure[2, 2] = 5.0  # I-LOC I-PER I-LOC
    found = [LABELS[i] for i in decode_spans(sure, LABELS)]
    assert valid(tuple(found))
    assert not found[0].startswith("I-")


def test_no_words_give_no_labels():
    assert decode_spans(torch.empty(0, len(LABELS)), LABELS) == []


def test_half_precision_logits():
    torch.manual_seed(2)
    logits = torch.randn(4, len(LABELS)).bfloat16()
    assert decode_spans(logits, LABELS) == best(logits.float(), LABELS)
