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


def test_languages_are_dropped_in_training_as_often_as_asked_for():
    model = net(projection=None, language_dropout=0.3).train()
    table = model.source.embeddings["language"]
    indices = torch.arange(4000) % LANGUAGES
    torch.manual_seed(3)
    found = model.source.language_vectors(indices)
    dropped = (found == 0).all(1)
    assert abs(dropped.double().mean() - 0.3) < 0.03
    assert torch.equal(found[~dropped], table[indices][~dropped])
    for language in range(LANGUAGES):  # whichever it is
        assert 0.2 < dropped[indices == language].double().mean() < 0.4
    torch.manual_seed(3)
    assert torch.equal(model.source.language_vectors(indices), found)
    assert not torch.equal(model.source.language_vectors(indices), found)


def test_no_language_is_dropped_outside_training():
    model = net(projection=None, language_dropout=0.9).eval()
    indices = torch.arange(LANGUAGES)
    assert torch.equal(
        model.source.language_vectors(indices), model.source.embeddings["language"][indices]
    )


@pytest.mark.parametrize("training", [False, True])
def test_where_languages_are_dropped_an_untrained_one_is_zero(training: bool):
    """Not the mean: zero is what training has seen in place of a language."""
    model = net(projection=None, language_dropout=0.1).train(training)
    rows = model.source.language_vectors(torch.tensor([UNTRAINED, 2, UNTRAINED]))
    assert not rows[[0, 2]].any()
    made = model.source(torch.tensor([1]), torch.tensor([UNTRAINED]))[0, 3]
    tables = model.source.embeddings
    expected = torch.cat([tables["task"][1], torch.zeros_like(tables["language"][0]),
                          tables["layer"][3]])  # fmt: skip
    assert torch.equal(made, expected)


def test_a_dropped_language_gets_no_gradient():
    model = net(language_dropout=0.5).train()
    languages = torch.arange(LANGUAGES)
    torch.manual_seed(1)
    dropped = (model.source.language_vectors(languages) == 0).all(1)
    assert dropped.any()
    assert not dropped.all()
    torch.manual_seed(1)
    model.source(torch.zeros_like(languages), languages).square().sum().backward()
    gradient = model.source.embeddings["language"].grad
    assert torch.equal((gradient == 0).all(1), dropped)


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
