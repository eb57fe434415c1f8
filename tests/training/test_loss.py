"""The loss of a batch."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from hyperlect.data.batching import Batch
from hyperlect.errors import HyperlectError
from hyperlect.training.loss import batch_loss, check_finite

BATCH = Batch(
    "ner",
    "fao",
    torch.ones(2, 3, dtype=torch.long),
    torch.ones(2, 3, dtype=torch.long),
    labels=torch.tensor([0, 2]),
)


def test_it_is_the_mean_cross_entropy_of_the_labels() -> None:
    logits = torch.tensor([[2.0, 0.0, -1.0], [0.5, 0.5, 0.0]])

    def model(*_: Any, task: str, language: str, **__: Any) -> SimpleNamespace:
        assert (task, language) == ("ner", "fao")
        return SimpleNamespace(logits=logits)

    chances = [[math.exp(x) for x in row] for row in logits.tolist()]
    by_hand = -sum(
        math.log(row[label] / sum(row)) for row, label in zip(chances, [0, 2], strict=True)
    )
    assert batch_loss(model, BATCH).item() == pytest.approx(by_hand / 2)  # type: ignore[arg-type]


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_divergence_is_an_error_that_names_cell_and_step(loss: float) -> None:
    with pytest.raises(HyperlectError, match=r"ner:fao is (nan|inf) at step 7.*learning_rate"):
        check_finite(loss, BATCH, 7)
    check_finite(3.5, BATCH, 7)
