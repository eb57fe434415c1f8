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
from hyperlect.heads import ParseScores
from hyperlect.training.loss import batch_loss, check_finite, check_gradient, read_once

IDS = torch.ones(3, 3, dtype=torch.long)
NER, ISL, TOPIC = Cell("ner", "fao"), Cell("ner", "isl"), Cell("topic", "eng")
LABELS = {"ner": [0, 2, 1, 1], "topic": [1], "dep": [1, 0]}
HEADS = {"dep": torch.tensor([0, 1])}
LOGITS = {
    "ner": torch.tensor([[2.0, 0, -1], [0.5, 0.5, 0], [1.0, 0, 0], [0, 3.0, 1]]),
    "topic": torch.tensor([[1.0, -1.0]]),
}
DEP = Cell("dep", "eng")
PARSE = ParseScores(
    arcs=torch.tensor([[[1.0, 0, 0], [0, 2.0, -1.0]]]),
    relations=torch.arange(12.0).view(1, 2, 3, 2) % 5,
    real=torch.tensor([[True, True]]),
)


def batch(*cells: Cell) -> Batch:
    labels = {task: torch.tensor(LABELS[task]) for task in {cell.task for cell in cells}}
    return Batch(list(cells), IDS, IDS, IDS.bool(), labels, words=IDS, heads=HEADS)


def model(*_: Any, task: list[str], language: list[str], **__: Any) -> SimpleNamespace:
    assert len(task) == len(language)
    logits = {name: LOGITS[name] for name in dict.fromkeys(task) if name in LOGITS}
    return SimpleNamespace(task_logits=logits, parses={"dep": PARSE} if "dep" in task else {})


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


def test_trees_cost_their_heads_and_the_relations_there() -> None:
    found = batch_loss(model, batch(DEP, TOPIC, DEP, DEP))  # type: ignore[arg-type]
    heads = [math.log(math.e + 2) - 1, math.log(1 + math.exp(2) + math.exp(-1)) - 2]
    relations = [math.log(1 + math.e) - 1, math.log(math.exp(3) + math.exp(4)) - 3]
    expected = (sum(heads) + sum(relations)) / 2
    assert found.by_task["dep"].item() == pytest.approx(expected)
    assert found.total.item() == pytest.approx(3 / 4 * expected + 1 / 4 * by_hand("topic"))


def test_the_windows_of_a_sentence_count_once() -> None:
    long = batch(DEP, DEP, DEP, TOPIC)
    long.drawn["dep"] = 1
    found = batch_loss(model, long)  # type: ignore[arg-type]
    assert found.total.item() == pytest.approx((found.by_task["dep"].item() + by_hand("topic")) / 2)


def test_losses_and_norm_are_read_together() -> None:
    first, second, third, norm = torch.tensor([1.5, 2.5, math.inf, 0.5])
    found, size = read_once([{"pos": first, "ner": second}, {"pos": third}], norm)
    assert found == [{"pos": 1.5, "ner": 2.5}, {"pos": math.inf}]
    assert size == 0.5


@pytest.mark.parametrize("norm", [math.nan, math.inf])
def test_a_gradient_that_is_not_finite_is_an_error(norm: float) -> None:
    check_gradient(7.0, 3)
    with pytest.raises(HyperlectError, match=r"gradient at step 7 is not finite.*learning_rate"):
        check_gradient(norm, 7)


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_divergence_is_an_error_that_names_cells_and_step(loss: float) -> None:
    mixed = batch(NER, TOPIC, ISL, NER)
    said = r"loss of ner:fao, ner:isl is (nan|inf) at step 7.*learning_rate"
    with pytest.raises(HyperlectError, match=said) as error:
        check_finite({"topic": 1.0, "ner": loss}, mixed, 7)
    assert "topic" not in str(error.value)
    check_finite({"topic": 1.0, "ner": 3.5}, mixed, 7)
