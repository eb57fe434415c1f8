"""The loss of a batch."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from hyperlect.data.batching import Batch
from hyperlect.errors import HyperlectError
from hyperlect.grid import Cell
from hyperlect.training.loss import batch_loss, check_finite

IDS = torch.ones(3, 3, dtype=torch.long)
NER, ISL, TOPIC = Cell("ner", "fao"), Cell("ner", "isl"), Cell("topic", "eng")
LABELS = {"ner": [0, 2, 1, 1], "topic": [1]}
LOGITS = {
    "ner": torch.tensor([[2.0, 0, -1], [0.5, 0.5, 0], [1.0, 0, 0], [0, 3.0, 1]]),
    "topic": torch.tensor([[1.0, -1.0]]),
}


def batch(*cells: Cell) -> Batch:
    labels = {task: torch.tensor(LABELS[task]) for task in {cell.task for cell in cells}}
    return Batch(list(cells), IDS, IDS, IDS.bool(), labels)


def model(*_: Any, task: list[str], language: list[str], **__: Any) -> SimpleNamespace:
    assert len(task) == len(language)
    return SimpleNamespace(task_logits={name: LOGITS[name] for name in dict.fromkeys(task)})


def by_hand(task: str) -> float:
    """The mean of -log p(label)."""
    chances = [[math.exp(x) for x in row] for row in LOGITS[task].tolist()]
    surprise = [-math.log(row[y] / sum(row)) for row, y in zip(chances, LABELS[task], strict=True)]
    return sum(surprise) / len(surprise)


def test_it_is_the_mean_cross_entropy_of_the_labels() -> None:
    found = batch_loss(model, batch(NER, ISL))  # type: ignore[arg-type]
    assert found.total.item() == pytest.approx(by_hand("ner"))
    assert found.by_task["ner"].item() == pytest.approx(by_hand("ner"))


def test_tasks_count_by_their_rows() -> None:
    found = batch_loss(model, batch(NER, TOPIC, ISL))  # type: ignore[arg-type]
    expected = 2 / 3 * by_hand("ner") + 1 / 3 * by_hand("topic")
    assert found.total.item() == pytest.approx(expected)
    assert {task: loss.item() for task, loss in found.by_task.items()} == pytest.approx(
        {"ner": by_hand("ner"), "topic": by_hand("topic")}
    )
    assert not any(loss.requires_grad for loss in found.by_task.values())


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_divergence_is_an_error_that_names_cells_and_step(loss: float) -> None:
    mixed = batch(NER, TOPIC, ISL, NER)
    said = r"loss of ner:fao, ner:isl is (nan|inf) at step 7.*learning_rate"
    with pytest.raises(HyperlectError, match=said) as error:
        check_finite({"topic": 1.0, "ner": loss}, mixed, 7)
    assert "topic" not in str(error.value)
    check_finite({"topic": 1.0, "ner": 3.5}, mixed, 7)
