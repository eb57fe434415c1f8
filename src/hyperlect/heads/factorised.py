"""Heads that are generated from a task and a language (Ponti et al. 2021).

Parameter space factorisation: every task and every language has a latent vector, and one network
turns a pair of them into the parameters of that cell's classifier, so that a combination without
data has one too.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..backbone import Backbone
from ..data.batching import TaskRows
from ..tasks import Task, TaskType
from .base import Answer, Encoded, HeadOptions, select
from .labels import LabelHead, SpanHead, mean_state

LATENT, INNER = 100, 400
"""Size of a latent vector, and of the generating network's layers."""


class Latents(nn.Module):
    """The latent vectors of tasks and languages, and the network that reads a pair of them.

    The prior of each vector is N(0, I). Its posterior is a normal with a mean and a variance for
    each entry, both learned. Training draws from the posterior; otherwise its mean is used. A
    language that was never trained has the mean of its prior, zero.

    Ponti et al. also put a normal around the classifier's parameters, and average predictions over
    many draws. Here the parameters are the network's output itself, and one prediction is made,
    with the means.

    Args:
        tasks, languages: how many there are of each.
    """

    def __init__(self, tasks: int, languages: int) -> None:
        super().__init__()
        # Languages start where an untrained one stays; tasks start apart from each other.
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
            (C, INNER), what the heads are generated from.
        """
        language = self._vectors("language", languages.clamp(min=0))
        known = (languages >= 0)[:, None].to(language.dtype)
        joined = torch.cat([self._vectors("task", tasks), known * language], dim=-1)
        return self.trunk(joined)  # type: ignore[no-any-return]

    def of_rows(self, cells: Sequence[tuple[int, int]]) -> tuple[Tensor, Tensor]:
        """Read the vectors of each distinct cell once.

        Args:
            cells: the task and the language of every row, as in `forward`.

        Returns:
            (C, INNER) of the distinct cells, and (B,), the cell of each row.
        """
        number = {cell: place for place, cell in enumerate(dict.fromkeys(cells))}
        device = self.means["task"].device
        tasks, languages = torch.tensor(list(number), device=device).unbind(1)
        return self(tasks, languages), torch.tensor([number[cell] for cell in cells], device=device)

    def _vectors(self, name: str, rows: Tensor) -> Tensor:
        mean: Tensor = self.means[name][rows]
        if not self.training:
            return mean
        # One draw for all cells of a task, or of a language, in a batch.
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


class FactorisedHead(LabelHead):
    """A linear head whose weights and bias are generated for each cell.

    Args:
        hidden: the backbone's hidden size h.
        labels: the number of labels.
        dropout: rate on the states in training.
        words: whether it reads words, as a `TaggingHead`, or texts, as a `ClassificationHead`.
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

    @classmethod
    def start(cls, task: Task, backbone: Backbone, options: HeadOptions) -> FactorisedHead:
        """Make the head that training starts from."""
        words = task.type.reads_words
        return cls(backbone.hidden_size, len(task.labels), options.dropout, words)

    def forward(self, states: Tensor, cells: Tensor, owners: Tensor) -> Tensor:
        """Score labels.

        Args:
            states: (…, h).
            cells: (C, INNER), as `Latents` returns them.
            owners: (…), the cell of each state.

        Returns:
            (…, labels).
        """
        parameters = self.affine(cells).view(cells.shape[0], self.labels, -1)
        weight, bias = parameters[..., :-1], parameters[..., -1]
        scores: Tensor = torch.einsum("...h,clh->...cl", self.dropout(states), weight) + bias
        chosen = owners[..., None, None].expand(*owners.shape, 1, self.labels)
        return scores.gather(-2, chosen).squeeze(-2)

    def read(self, encoded: Encoded, rows: TaskRows) -> Tensor:
        """Score the words or texts of a batch, in the shapes of the ordinary heads."""
        assert encoded.latents is not None
        cells, owners = encoded.latents
        if not self.words:
            hidden, mask = (select(t, rows.rows) for t in (encoded.hidden, encoded.attention_mask))
            states, owners = mean_state(hidden, mask), select(owners, rows.rows)
        else:
            states, width = encoded.states(rows), encoded.hidden.shape[1]
            if rows.positions is None:
                owners = select(owners, rows.rows)[:, None].expand(states.shape[:2])
            else:
                owners = owners[rows.positions // width]
        return self(states, cells, owners)  # type: ignore[no-any-return]

    def decode(self, scores: Sequence[Tensor], task: Task) -> Answer:
        """Decode as the ordinary head of the task does."""
        ordinary = SpanHead if task.type is TaskType.SPANS else LabelHead
        return ordinary.decode(self, scores, task)
