"""The published procedure, done plainly, computes what hyperlect computes."""

import copy

import pytest
import torch
from published import PublishedModel

from hyperlect.data.batching import Batch, collate, mask_rows
from hyperlect.grid import Cell
from hyperlect.hypernet import HypernetConfig
from hyperlect.model import HyperX, HyperXConfig
from hyperlect.tasks import Task, TaskType
from hyperlect.training.trainer import batch_losses, task_weights
from tests.tiny import POSITIONS, tiny_backbone

TASKS = {
    "pos": Task("pos", TaskType.TAGGING, ("NOUN", "VERB", "X")),
    "topic": Task("topic", TaskType.CLASSIFICATION, ("sports", "travel")),
    "mlm": Task("mlm", TaskType.MLM),
}
ROWS = [
    {"input_ids": [2, 11, 12, 14, 3], "positions": [1, 3], "labels": [0, 2]},
    {"input_ids": [2, 20, 13, 3], "positions": [1], "labels": [1]},
]


def make() -> HyperX:
    torch.manual_seed(3)
    hypernet = HypernetConfig(bottleneck=4, projection=6, embedding=5, initial_std=0.3)
    config = HyperXConfig(
        tuple(TASKS.values()), ("eng", "isl"), hypernet=hypernet, head_dropout=0.0
    )
    return HyperX(tiny_backbone(), config).double()


def masked_batch(rows: list[dict[str, list[int]]], cell: Cell, model: HyperX) -> Batch:
    generator = torch.Generator().manual_seed(5)
    cells = [cell] * len(rows)
    masked = mask_rows(rows, cells, TASKS, model.tokenizer, generator)
    return collate(masked, cells, TASKS, model.tokenizer)


@pytest.mark.parametrize("task", TASKS)
def test_loss_and_gradients_are_the_same(task):
    ours = make()
    plain = PublishedModel(copy.deepcopy(ours), length=POSITIONS)
    rows = [{**row, "labels": [1]} for row in ROWS] if task == "topic" else ROWS
    batch = masked_batch(rows, Cell(task, "isl"), ours)
    _, expected = batch_losses(ours, batch, task_weights([batch], list(TASKS)))
    loss = plain.loss(batch)
    torch.testing.assert_close(loss, expected, atol=1e-6, rtol=0)  # the loss is taken in fp32
    expected.backward()
    loss.backward()
    theirs = dict(plain.hypernet.named_parameters())
    for name, parameter in ours.adapters.named_parameters():
        assert parameter.grad.any(), name
        torch.testing.assert_close(theirs[name].grad, parameter.grad, atol=1e-6, rtol=1e-4)


def test_sentences_are_padded_to_the_full_length_and_scored_at_every_position():
    model = make()
    batch = masked_batch(ROWS, Cell("mlm", "eng"), model)
    plain = PublishedModel(model, length=POSITIONS)
    ids, mask, labels = plain.padded(batch, "mlm")
    assert ids.shape == mask.shape == labels.shape == (2, POSITIONS)
    assert mask.sum().item() == 9
    vocabulary = plain.backbone.vocabulary
    assert plain(ids, mask, "mlm", "eng").shape == (2, POSITIONS, vocabulary)
