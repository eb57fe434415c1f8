"""Heads that score labels of words or texts, and the decoding of spans."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from hyperlect.data.batching import TaskRows
from hyperlect.heads import ClassificationHead, Encoded, SpanHead, TaggingHead, iob2_spans
from hyperlect.heads.labels import best_sequence
from hyperlect.tasks import Task, TaskType

LABELS = ("O", "B-LOC", "I-LOC", "B-PER", "I-PER")
NER = Task("ner", TaskType.SPANS, LABELS)
POS = Task("pos", TaskType.TAGGING, ("DET", "NOUN", "VERB"))
TOPIC = Task("topic", TaskType.CLASSIFICATION, ("animals", "places", "people"))


def encoded(hidden: Tensor, mask: Tensor | None = None) -> Encoded:
    mask = torch.ones(hidden.shape[:2], dtype=torch.long) if mask is None else mask
    return Encoded(hidden, mask, vocabulary=torch.empty(0, hidden.shape[2]))


def positions_of(mask: Tensor) -> Tensor:
    """The gather index of a boolean mask."""
    return mask.flatten().nonzero().squeeze(1)


# --- reading words


@pytest.mark.parametrize("chosen", [[0, 1, 2], [0, 2]])
def test_states_at_positions_are_those_that_a_mask_picks(chosen: list[int]):
    torch.manual_seed(1)
    mask = torch.rand(3, 5) < 0.4
    mask[[row for row in range(3) if row not in chosen]] = False
    for positions in (mask, torch.zeros_like(mask)):
        hidden = torch.randn(3, 5, 4, requires_grad=True)
        rows = TaskRows(torch.tensor(chosen), positions=positions_of(positions))
        states = encoded(hidden).states(rows)
        assert torch.equal(states, hidden[positions])
        (expected,) = torch.autograd.grad(hidden[positions].square().sum(), hidden)
        (gradient,) = torch.autograd.grad(states.square().sum(), hidden)
        assert torch.equal(gradient, expected)


def test_without_positions_every_state_of_the_rows_is_read():
    hidden = torch.randn(3, 5, 4)
    assert torch.equal(encoded(hidden).states(TaskRows(torch.tensor([2, 0]))), hidden[[2, 0]])
    assert encoded(hidden).states(TaskRows(torch.arange(3))) is hidden


def test_a_tagger_scores_every_sub_word_or_those_at_positions():
    torch.manual_seed(1)
    head = TaggingHead(4, 3)
    hidden = torch.randn(2, 5, 4)
    every = head.read(encoded(hidden), TaskRows(torch.arange(2)))
    torch.testing.assert_close(every, hidden @ head.linear.weight.T + head.linear.bias)
    rows = TaskRows(torch.arange(2), counts=(2, 1), positions=torch.tensor([1, 4, 5 + 2]))
    some = head.read(encoded(hidden), rows)
    torch.testing.assert_close(some, torch.stack([every[0, 1], every[0, 4], every[1, 2]]))
    windows = head.split(some.bfloat16(), rows)
    assert [len(scores) for scores in windows] == [2, 1]
    assert {scores.dtype for scores in windows} == {torch.float32}


def test_the_answer_of_a_tagger_is_the_best_label_of_each_word():
    head = TaggingHead(4, 3)
    windows = [torch.tensor([[0.0, 2.0, 1.0]]), torch.tensor([[3.0, 0.0, 0.0], [0.0, 0.0, 1.0]])]
    answer = head.decode(windows, POS)
    assert answer.labels == [1, 0, 2]
    expected = torch.cat(windows).softmax(-1).amax(-1).tolist()
    assert answer.confidences == pytest.approx(expected)
    assert answer.probabilities is None
    assert answer.heads is None


# --- reading texts


def test_a_text_is_the_mean_of_its_sub_words():
    torch.manual_seed(1)
    head = ClassificationHead(4, 3)
    hidden = torch.randn(2, 5, 4)
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0]])
    scores = head.read(encoded(hidden, mask), TaskRows(torch.arange(2)))
    means = torch.stack([hidden[0].mean(0), hidden[1, :2].mean(0)])
    assert scores.shape == (2, 3)
    torch.testing.assert_close(scores, means @ head.linear.weight.T + head.linear.bias)
    one = head.read(encoded(hidden, mask), TaskRows(torch.tensor([1])))
    torch.testing.assert_close(one, scores[1:])


def test_padding_does_not_change_the_scores_of_a_text():
    torch.manual_seed(1)
    head = ClassificationHead(4, 3)
    hidden = torch.randn(1, 5, 4)
    mask = torch.tensor([[1, 1, 1, 0, 0]])
    other = hidden.clone()
    other[:, 3:] = 1e6
    assert torch.equal(head(hidden, mask), head(other, mask))
    torch.testing.assert_close(head(hidden, mask), head(hidden[:, :3], mask[:, :3]))


def test_the_answer_for_a_text_has_the_probability_of_every_label():
    head = ClassificationHead(4, 3)
    logits = torch.tensor([[1.0, 3.0, 2.0], [5.0, 0.0, 0.0]])
    first, second = head.split(logits, TaskRows(torch.arange(2), counts=(1, 1)))
    answer = head.decode([first], TOPIC)
    assert answer.labels == [1]
    assert answer.probabilities == pytest.approx(logits[0].softmax(-1).tolist())
    assert answer.confidences == pytest.approx([max(answer.probabilities)])
    assert head.decode([second], TOPIC).labels == [0]


# --- both


@pytest.mark.parametrize("kind", [TaggingHead, ClassificationHead])
def test_starting_values_and_dropout(kind: Any):
    torch.manual_seed(1)
    head = kind(400, 30, dropout=0.5)
    assert abs(head.linear.weight.std() - 0.02) < 0.002
    assert not head.linear.bias.any()
    hidden, rows = encoded(torch.randn(1, 5, 400)), TaskRows(torch.arange(1))
    assert not torch.equal(head.read(hidden, rows), head.read(hidden, rows))
    head.eval()
    assert torch.equal(head.read(hidden, rows), head.read(hidden, rows))


def test_the_loss_is_the_mean_over_the_scored_units():
    head = TaggingHead(4, 3)
    logits, labels = torch.randn(5, 3).bfloat16(), torch.tensor([0, 2, 1, 1, 0])
    rows = TaskRows(torch.arange(2), labels=labels)
    assert rows.units == 5
    expected = -logits.float().log_softmax(-1)[range(5), labels].mean()
    torch.testing.assert_close(head.loss(logits, rows), expected)
    torch.testing.assert_close(head.loss(logits, rows), F.cross_entropy(logits.float(), labels))


# --- spans


def is_valid(labels: tuple[str, ...]) -> bool:
    before = "O"
    for label in labels:
        if label.startswith("I-") and before not in (f"B-{label[2:]}", label):
            return False
        before = label
    return True


def best_of_all(logits: Tensor, labels: tuple[str, ...]) -> list[int]:
    """The best valid sequence, by trying all of them."""
    scores = logits.double().log_softmax(-1)
    sequences = [
        indices
        for indices in itertools.product(range(len(labels)), repeat=len(logits))
        if is_valid(tuple(labels[i] for i in indices))
    ]
    return list(max(sequences, key=lambda s: sum(scores[w, i].item() for w, i in enumerate(s))))


def decode(logits: Tensor, labels: tuple[str, ...] = LABELS) -> list[int]:
    return SpanHead(4, len(labels)).decode([logits], Task("ner", TaskType.SPANS, labels)).labels


@pytest.mark.parametrize("seed", range(20))
def test_spans_are_the_best_valid_sequence(seed: int):
    torch.manual_seed(seed)
    logits = 2 * torch.randn(5, len(LABELS))
    assert decode(logits) == best_of_all(logits, LABELS)


def test_the_order_of_the_labels_does_not_matter():
    torch.manual_seed(1)
    shuffled = ("I-PER", "B-LOC", "O", "I-LOC", "B-PER")
    logits = 2 * torch.randn(4, len(LABELS))
    assert decode(logits, shuffled) == best_of_all(logits, shuffled)


def test_a_valid_sequence_is_kept():
    valid = [1, 2, 2, 0, 3, 1, 3, 4]
    assert decode(F.one_hot(torch.tensor(valid), len(LABELS)).float()) == valid


def test_impossible_starts_and_transitions_are_avoided():
    logits = torch.full((3, len(LABELS)), -5.0)
    logits[0, 2] = logits[1, 4] = logits[2, 2] = 5.0  # I-LOC I-PER I-LOC
    decoded = [LABELS[i] for i in decode(logits)]
    assert is_valid(tuple(decoded))
    assert not decoded[0].startswith("I-")


def test_the_windows_of_a_sentence_are_decoded_as_one_sequence():
    torch.manual_seed(3)
    logits = 2 * torch.randn(6, len(LABELS))
    answer = SpanHead(4, 5).decode([logits[:2], logits[2:]], NER)
    assert answer.labels == best_of_all(logits, LABELS)
    assert answer.confidences == pytest.approx(
        logits.softmax(-1)[range(6), answer.labels].tolist(), rel=1e-5
    )


def test_no_words_have_no_labels():
    assert best_sequence(torch.empty(0, len(LABELS)).numpy(), LABELS) == []


@pytest.mark.parametrize(
    ("tags", "spans"),
    [
        ("O B-PER I-PER O B-LOC", [("PER", 1, 3), ("LOC", 4, 5)]),
        ("B-PER B-PER I-PER", [("PER", 0, 1), ("PER", 1, 3)]),
        ("I-PER I-PER B-LOC I-PER", [("LOC", 2, 3)]),
        ("B-PER I-LOC I-PER", [("PER", 0, 1)]),
        ("B-A-B I-A-B O", [("A-B", 0, 2)]),
        ("DET NOUN", []),
        ("", []),
    ],
)
def test_spans_are_read_strictly(tags: str, spans: list[tuple[str, int, int]]):
    assert list(iob2_spans(tags.split())) == spans
