from __future__ import annotations

import pytest
import torch

from hyperlect.hypernet import UNTRAINED, Hypernet
from hyperlect.hypernet.source import SourceEmbedding

from . import twin

HIDDEN, LAYERS, TASKS, LANGUAGES = 5, 4, 3, 6


def net(**changes: object) -> Hypernet:
    torch.manual_seed(2)
    made = Hypernet(
        twin.small(**changes), hidden=HIDDEN, layers=LAYERS, tasks=TASKS, languages=LANGUAGES
    )
    return twin.liven(made.double())


@pytest.mark.parametrize("variant", twin.VARIANTS)
def test_sources_are_the_formula(variant: str):
    model = net(**twin.VARIANTS[variant])
    cells = [(0, 0), (2, 5), (1, None), (2, 5)]
    tasks = torch.tensor([task for task, _ in cells])
    languages = torch.tensor([UNTRAINED if row is None else row for _, row in cells])
    made = model.source(tasks, languages)
    assert made.shape == (len(cells), LAYERS, model.config.source_size)
    for index, (task, language) in enumerate(cells):
        for layer in range(LAYERS):
            expected = twin.source(model, task, language, layer)
            torch.testing.assert_close(made[index, layer], expected, rtol=1e-9, atol=1e-10)


def test_order_is_task_language_layer():
    model = net(projection=None)
    tables = model.source.embeddings
    made = model.source(torch.tensor([1]), torch.tensor([4]))[0, 3]
    expected = torch.cat([tables["task"][1], tables["language"][4], tables["layer"][3]])
    assert torch.equal(made, expected)


def test_an_untrained_language_is_the_mean_and_never_random():
    model = net(projection=None)
    table = model.source.embeddings["language"]
    rows = model.source.language_vectors(torch.tensor([UNTRAINED, 2, UNTRAINED]))
    assert torch.equal(rows[0], table.mean(0))
    assert torch.equal(rows[0], rows[2])
    assert torch.equal(rows[1], table[2])


def test_an_untrained_language_moves_every_vector_alike():
    model = net()
    model.source(torch.tensor([0]), torch.tensor([UNTRAINED])).square().sum().backward()
    gradient = model.source.embeddings["language"].grad
    assert gradient.abs().min() > 0
    assert torch.allclose(gradient, gradient[:1].expand_as(gradient))


def test_only_the_rows_of_a_cell_get_a_gradient():
    model = net()
    model.source(torch.tensor([1]), torch.tensor([4])).square().sum().backward()
    tables = model.source.embeddings
    assert tables["task"].grad.abs().sum(1).nonzero().flatten().tolist() == [1]
    assert tables["language"].grad.abs().sum(1).nonzero().flatten().tolist() == [4]
    assert tables["layer"].grad.abs().sum(1).nonzero().flatten().tolist() == [0, 1, 2, 3]


def test_without_the_layer_all_layers_share_one_vector():
    made = net(sources=("task", "language")).source(torch.tensor([0]), torch.tensor([1]))
    assert torch.equal(made, made[:, :1].expand_as(made))


def test_sources_that_are_left_out_have_no_table():
    source = SourceEmbedding(twin.small(sources=("task",), projection=None), 2, 3, 4)
    assert {name: tuple(p.shape) for name, p in source.named_parameters()} == {
        "embeddings.task": (2, 3)
    }
