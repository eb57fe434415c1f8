"""Heads that are generated from latent vectors of a task and a language."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from hyperlect.data.batching import TaskRows
from hyperlect.heads import Encoded, FactorisedHead, Latents
from hyperlect.tasks import Task, TaskType

HIDDEN, LABELS = 6, 3
CELLS = [(1, 2), (1, 0), (1, 2), (1, -1)]


@pytest.fixture
def latents() -> Latents:
    torch.manual_seed(0)
    latents = Latents(tasks=2, languages=3)
    with torch.no_grad():
        for table in latents.parameters():
            table.add_(0.1 * torch.randn_like(table))
    return latents.eval()


def by_hand(head: FactorisedHead, latents: Latents, cell: tuple[int, int], x: Tensor) -> Tensor:
    """Score one vector of one cell."""
    task, language = cell
    vector = latents.means["language"][language] if language >= 0 else torch.zeros(100)
    joined = torch.cat([latents.means["task"][task], vector])
    parameters = head.affine(latents.trunk(joined)).reshape(LABELS, HIDDEN + 1)
    return parameters[:, :HIDDEN] @ x + parameters[:, HIDDEN]


@pytest.mark.parametrize("words", [True, False])
def test_every_row_is_scored_by_the_head_of_its_cell(latents: Latents, words: bool):
    """Whether the head reads all rows of a batch, or some."""
    torch.manual_seed(1)
    head = FactorisedHead(HIDDEN, LABELS, 0.5, words).eval()
    hidden, mask = torch.randn(4, 5, HIDDEN), torch.ones(4, 5)
    mask[1, 3:] = 0
    places = [(0, 1), (1, 0), (1, 2), (3, 4)]
    of_rows = latents.of_rows(CELLS)
    assert len(of_rows[0]) == 3
    encoded = Encoded(hidden, mask, torch.empty(0), of_rows)
    for rows in ([0, 1, 2, 3], [3, 1]):
        index = torch.tensor(rows)
        if words:
            read = [(row, column) for row, column in places if row in rows]
            gather = torch.tensor([row * 5 + column for row, column in read])
            states = [(row, hidden[row, column]) for row, column in read]
            scores = head.read(encoded, TaskRows(index, positions=gather))
            everywhere = head.read(encoded, TaskRows(index))
            of_batch = torch.stack([everywhere[rows.index(row), column] for row, column in read])
            torch.testing.assert_close(of_batch, scores)
        else:
            states = [(row, hidden[row, : int(mask[row].sum())].mean(0)) for row in rows]
            scores = head.read(encoded, TaskRows(index))
        expected = torch.stack([by_hand(head, latents, CELLS[row], x) for row, x in states])
        torch.testing.assert_close(scores, expected)


def test_answers_are_decoded_as_by_the_ordinary_heads():
    head = FactorisedHead(HIDDEN, 3, 0.0, words=True)
    sure = torch.tensor([[0.0, 0.0, 5.0], [0.0, 0.0, 9.0]])
    ner = Task("ner", TaskType.SPANS, ("O", "B-LOC", "I-LOC"))
    assert head.decode([sure], ner).labels == [1, 2]  # a span begins with B-
    assert head.decode([sure], Task("pos", TaskType.TAGGING, ("a", "b", "c"))).labels == [2, 2]


def test_an_untrained_language_has_the_mean_of_the_prior():
    latents = Latents(2, 3)
    with torch.no_grad():
        latents.means["language"][1].normal_()
    rows = latents.eval()(torch.tensor([0, 0, 0]), torch.tensor([-1, 0, 1]))
    assert torch.equal(rows[0], rows[1])  # languages start there, too
    assert not torch.allclose(rows[0], rows[2])


def test_training_draws_from_the_posterior(latents: Latents):
    cells = torch.tensor([0, 0, 1]), torch.tensor([2, 2, 2])
    means = latents(*cells)
    assert torch.equal(means, latents(*cells))
    latents.train()
    drawn = latents(*cells)
    assert torch.equal(drawn[0], drawn[1])  # one draw of a cell for each batch
    assert not torch.allclose(drawn, latents(*cells))
    with torch.no_grad():
        for table in latents.log_variances.values():
            table.fill_(-60.0)
    torch.testing.assert_close(latents(*cells), means)


def test_the_divergence_is_that_of_torch(latents: Latents):
    expected = sum(
        kl_divergence(
            Normal(latents.means[name], (latents.log_variances[name] / 2).exp()), Normal(0.0, 1.0)
        ).sum()
        for name in ("task", "language")
    )
    torch.testing.assert_close(latents.divergence(), expected)
