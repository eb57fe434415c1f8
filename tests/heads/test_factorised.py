"""Heads made from latent vectors of a task and a language."""

from __future__ import annotations

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from hyperlect.heads import FactorisedHead, Latents

HIDDEN, LABELS = 6, 3


@pytest.fixture
def latents() -> Latents:
    torch.manual_seed(0)
    made = Latents(tasks=2, languages=3)
    with torch.no_grad():
        for table in made.parameters():
            table.add_(0.1 * torch.randn_like(table))
    return made.eval()


def plain(head: FactorisedHead, latents: Latents, cell: tuple[int, int], x: torch.Tensor):
    """One vector of one cell, written out."""
    task, language = cell
    own = latents.means["language"][language] if language >= 0 else torch.zeros(100)
    made = head.affine(latents.trunk(torch.cat([latents.means["task"][task], own])))
    made = made.reshape(LABELS, HIDDEN + 1)
    return made[:, :HIDDEN] @ x + made[:, HIDDEN]


@pytest.mark.parametrize("words", [True, False])
def test_every_row_is_scored_by_the_head_of_its_cell(latents: Latents, words: bool):
    torch.manual_seed(1)
    head = FactorisedHead(HIDDEN, LABELS, 0.5, words).eval()
    cells = [(1, 2), (1, 0), (1, 2), (1, -1)]
    hidden = torch.randn(4, 5, HIDDEN)
    mask = torch.ones(4, 5)
    mask[1, 3:] = 0
    positions = torch.zeros(4, 5, dtype=torch.bool)
    positions[0, 1] = positions[1, 0] = positions[1, 2] = positions[3, 4] = True
    made, owners = latents.of_rows(cells)
    assert len(made) == 3
    found = head(hidden, mask, positions, made, owners)
    if words:
        read = [(row, hidden[row, place]) for row, place in positions.nonzero().tolist()]
        everywhere = head(hidden, mask, None, made, owners)
        torch.testing.assert_close(everywhere[positions], found)
    else:
        read = [(row, hidden[row, : int(mask[row].sum())].mean(0)) for row in range(4)]
    expected = torch.stack([plain(head, latents, cells[row], x) for row, x in read])
    torch.testing.assert_close(found, expected)


def test_an_untrained_language_has_the_mean_of_the_prior():
    latents = Latents(2, 3)
    with torch.no_grad():
        latents.means["language"][1].normal_()
    rows = latents.eval()(torch.tensor([0, 0, 0]), torch.tensor([-1, 0, 1]))
    assert torch.equal(rows[0], rows[1])  # where a language starts, too
    assert not torch.allclose(rows[0], rows[2])


def test_training_draws_from_the_posterior(latents: Latents):
    cells = torch.tensor([0, 0, 1]), torch.tensor([2, 2, 2])
    still = latents(*cells)
    assert torch.equal(still, latents(*cells))
    latents.train()
    drawn = latents(*cells)
    assert torch.equal(drawn[0], drawn[1])  # one draw of a cell a batch
    assert not torch.allclose(drawn, latents(*cells))
    with torch.no_grad():
        for table in latents.log_variances.values():
            table.fill_(-60.0)
    torch.testing.assert_close(latents(*cells), still)


def test_divergence_is_that_of_torch(latents: Latents):
    expected = sum(
        kl_divergence(
            Normal(latents.means[name], (latents.log_variances[name] / 2).exp()), Normal(0.0, 1.0)
        ).sum()
        for name in ("task", "language")
    )
    torch.testing.assert_close(latents.divergence(), expected)
