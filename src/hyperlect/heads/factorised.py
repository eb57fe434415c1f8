"""Heads that are generated from a task and a language (Ponti et al. 2021).

Parameter space factorisation: every task and every language has a latent vector, and one network
turns a pair of them into the parameters of that cell's classifier, so that there is one for a
combination without data.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .sequence import mean_state
from .token import at_positions

LATENT, INNER = 100, 400
"""Size of a latent vector, and of the generating network's layers."""


class Latents(nn.Module):
    """The latent vectors of tasks and languages, and the network that reads a pair of them.

    The prior of each vector is N(0, I), its posterior a normal with a mean and a variance for each
    entry, both learned. Training draws from the posterior; otherwise its mean stands for it. A
    language that was never trained has the mean of its prior, zero.

    Ponti et al. also put a normal around the classifier's parameters, and average predictions over
    many draws of everything. Here the parameters are the network's output itself, and predictions
    are made once, with the means.

    Args:
        tasks, languages: how many there are of each.
    """

    def __init__(self, tasks: int, languages: int) -> None:
        super().__init__()
        # Languages start where an untrained one stays; tasks apart from each other.
        self.means = nn.ParameterDict(
            {"task": torch.randn(tasks, LATENT), "language": torch.zeros(languages, LATENT)}
        )
        self.log_variances = nn.ParameterDict(
            {name: torch.full_like(mean, -4.0) for name, mean in self.means.items()}
        )
        self.trunk = nn.Sequential(
            nn.Linear(2 * LATENT, INNER), nn.ReLU(), nn.Linear(INNER, INNER), nn.ReLU()
        )

    def forward(self, tasks: Tensor, languages: Tensor) -> Tensor:
        """Read the vectors of C cells.

        Args:
            tasks, languages: (C,), indices; a negative language is one without a vector.

        Returns:
            (C, INNER), what the heads are made from.
        """
        language = self._of("language", languages.clamp(min=0))
        known = (languages >= 0)[:, None].to(language.dtype)
        return self.trunk(torch.cat([self._of("task", tasks), known * language], dim=-1))  # type: ignore[no-any-return]

    def of_rows(self, cells: Sequence[tuple[int, int]]) -> tuple[Tensor, Tensor]:
        """Read the vectors of each distinct cell once.

        Args:
            cells: the task and the language of every row, as in `forward`.

        Returns:
            (C, INNER) of the distinct cells, and (B,), which of them each row belongs to.
        """
        number = {cell: place for place, cell in enumerate(dict.fromkeys(cells))}
        device = self.means["task"].device
        tasks, languages = torch.tensor(list(number), device=device).unbind(1)
        return self(tasks, languages), torch.tensor([number[cell] for cell in cells], device=device)

    def _of(self, name: str, rows: Tensor) -> Tensor:
        mean: Tensor = self.means[name][rows]
        if not self.training:
            return mean
        # one draw for all cells of a task, or of a language, in a batch
        table: Tensor = self.log_variances[name]
        noise = torch.randn_like(table)[rows]
        return mean + noise * (table[rows] / 2).exp()

    def divergence(self) -> Tensor:
        """Return the Kullback-Leibler divergence of all posteriors from their priors, in nats.

        ½ Σ (σ² + μ² − 1 − log σ²) (Kingma and Welling 2014, appendix B).
        """
        sums = [
            (self.log_variances[name].exp() + mean**2 - 1 - self.log_variances[name]).sum() / 2
            for name, mean in self.means.items()
        ]
        return torch.stack(sums).sum()


class FactorisedHead(nn.Module):
    """A linear head whose weights and bias are made anew for each language.

    Args:
        hidden: the backbone's hidden size h.
        labels: how many labels.
        dropout: rate on what is read, while training.
        words: whether it reads single sub-words, as `TokenHead`, or their mean, as `SequenceHead`.
    """

    def __init__(self, hidden: int, labels: int, dropout: float, words: bool) -> None:
        super().__init__()
        self.words = words
        self.labels = labels
        self.dropout = nn.Dropout(dropout)
        self.affine = nn.Linear(INNER, labels * (hidden + 1))
        nn.init.normal_(self.affine.weight, std=0.02)
        nn.init.zeros_(self.affine.bias)
        with torch.no_grad():  # the classifier starts as an ordinary head's does
            nn.init.normal_(self.affine.bias.view(labels, hidden + 1)[:, :-1], std=0.02)

    def forward(
        self,
        hidden: Tensor,
        attention_mask: Tensor,
        positions: Tensor | None,
        cells: Tensor,
        owners: Tensor,
    ) -> Tensor:
        """Score labels, in the shapes of `TokenHead` and `SequenceHead`.

        Args:
            hidden: (B, T, h).
            attention_mask: (B, T), 1 where there is a sub-word.
            positions: (B, T), boolean; not used where texts are read.
            cells: (C, INNER), as `Latents` gives them.
            owners: (B,), which of the cells each row belongs to.
        """
        made = self.affine(cells).view(len(cells), self.labels, -1)
        weight, bias = made[..., :-1], made[..., -1]
        if not self.words:
            read = mean_state(hidden, attention_mask)
        elif positions is None:
            read, owners = hidden, owners[:, None].expand(hidden.shape[:2])
        else:
            owners = at_positions(owners[:, None].expand(hidden.shape[:2]), positions)
            read = at_positions(hidden, positions)
        scores: Tensor = torch.einsum("...h,clh->...cl", self.dropout(read), weight) + bias
        chosen = owners[..., None, None].expand(*owners.shape, 1, self.labels)
        return scores.gather(-2, chosen).squeeze(-2)
