"""Fitting one language to its sentences: nothing else changes, and it is never for the worse."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from hyperlect.data.encoding import encode_inputs
from hyperlect.grid import Cell
from hyperlect.model import HyperX
from hyperlect.tasks import Task, TaskType
from hyperlect.transfer.adapt import (
    Fitter,
    Settings,
    adapt,
    certainty_loss,
    entropy,
    unlabelled_rows,
)
from tests.model.models import LANGUAGES, padded, tiny_model

FAST = Settings(
    steps=6, raw_steps=6, batch_size=4, look_every=2, learning_rate=0.1, adapter_rate=0.1,
    offset_rate=0.1, caution=0.0,
)  # fmt: skip
SENTENCES = [["a", "b", "c"], ["b", "c", "a", "d"], ["d", "a"], ["c", "c", "b"], ["a", "d", "b"]]


def with_language(method: str = "hyperx") -> HyperX:
    model = tiny_model(method=method, hypernet={"language_dropout": 0.1})
    model.add_language("deu", {}, "added")
    return model


def labelled(model: HyperX, label: int) -> dict[str, Any]:
    """Sentences for `pos`, whose words all have one label."""
    rows = encode_inputs(SENTENCES, model.task("pos"), model.tokenizer, 32)
    return {
        "pos": [
            {
                **row,
                "labels": [label] * len(row["positions"]),
            }
            for row in rows
        ]
    }


def tensors(model: HyperX) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in model.state_dict().items()}


def scores(model: HyperX, task: str, language: str) -> Tensor:
    with torch.no_grad():
        return model(*padded(model.backbone), task=task, language=language).logits


@pytest.mark.parametrize("method", ["hyperx", "mad-x"])
@pytest.mark.parametrize("trained", ["vector", "adapter"])
def test_labels_teach_one_language_and_change_no_other(method: str, trained: Any) -> None:
    model = with_language(method)
    cells = [(t, c) for t in ("pos", "topic") for c in LANGUAGES]
    before = {cell: scores(model, *cell) for cell in cells}
    old = tensors(model)
    result = adapt(model, "deu", labelled(model, 1), {}, replace(FAST, trained=trained))
    assert result.steps > 0
    assert result.after["pos"] < result.before["pos"]
    for cell, expected in before.items():
        assert torch.equal(scores(model, *cell), expected)
    row = model.languages.index("deu")
    for name, tensor in tensors(model).items():
        rows = tensor[:row] if name in model.language_parameters() else tensor
        if name in old:
            assert torch.equal(rows, old[name][:row] if rows is not tensor else old[name]), name


def test_a_change_of_the_adapter_is_of_the_labelled_cell_alone() -> None:
    model = with_language()
    topics = scores(model, "topic", "deu")
    adapt(model, "deu", labelled(model, 1), {}, FAST)
    assert model.config.changed == (Cell("pos", "deu"),)
    assert torch.equal(scores(model, "topic", "deu"), topics)
    assert scores(model, "pos", "deu").argmax(dim=-1).eq(1).all()


def test_few_sentences_move_it_less() -> None:
    moved = []
    for caution in (0.0, 5.0, 20.0):
        model = with_language()
        adapt(model, "deu", labelled(model, 1), {}, replace(FAST, caution=caution, folds=2))
        moved.append(model.change_cell("pos", "deu")["up_weight"].norm().item())
    assert moved[0] > moved[1] > moved[2] > 0


def test_the_projection_is_shared() -> None:
    model = with_language()
    before = scores(model, "pos", "eng")
    settings = replace(FAST, trained="source", source_rate=0.1)
    assert adapt(model, "deu", labelled(model, 1), {}, settings).steps > 0
    assert not torch.equal(scores(model, "pos", "eng"), before)


def contrary(model: HyperX) -> dict[str, Any]:
    """Sentences of which each two teach what is wrong in the third."""
    rows = labelled(model, 0)["pos"][:3]
    with torch.no_grad():
        for parameter in model.heads["pos"].parameters():
            parameter.zero_()  # an even guess, of which nothing learnt is an improvement
    return {"pos": [{**row, "labels": [n % 3] * len(row["labels"])} for n, row in enumerate(rows)]}


def test_labels_that_teach_nothing_leave_the_vector() -> None:
    model = with_language()
    rows = contrary(model)
    before = scores(model, "pos", "deu")
    assert adapt(model, "deu", rows, {}, FAST).steps == 0
    assert model.config.changed == ()
    assert torch.equal(scores(model, "pos", "deu"), before)


def test_a_fold_ends_when_held_out_labels_get_no_better(monkeypatch: pytest.MonkeyPatch) -> None:
    model, steps = with_language(), [0]
    take = torch.optim.Adam.step

    def count(optimizer: torch.optim.Adam) -> None:
        steps[0] += 1
        take(optimizer)

    monkeypatch.setattr(torch.optim.Adam, "step", count)
    adapt(model, "deu", contrary(model), {}, replace(FAST, steps=1000))
    assert steps[0] == 3 * FAST.look_every


def test_a_fold_that_ends_first_does_not_end_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    losses = iter([1.0, 1.1, *[1.0, 0.6, 0.3, 0.4] * 2])  # of three folds, look by look
    monkeypatch.setattr(Fitter, "held_out", lambda fitter, rows: {"pos": next(losses)})
    model = with_language()
    result = adapt(model, "deu", labelled(model, 1), {}, replace(FAST, folds=3))
    best = 2 * FAST.look_every
    assert result.steps == best * 3 / 2
    assert result.before == {"pos": 1.0}
    assert result.after == {"pos": pytest.approx((1.1 + 0.3 + 0.3) / 3)}


def test_one_labelled_sentence_is_too_few_to_hold_any_out() -> None:
    model = with_language()
    rows = labelled(model, 1)
    result = adapt(model, "deu", {"pos": rows["pos"][:1]}, {}, FAST)
    assert result.steps == 0
    assert adapt(model, "deu", {"pos": rows["pos"][:2]}, {}, FAST).sentences == {"pos": 2}


def test_one_labelled_sentence_of_each_task_is_too_few() -> None:
    model = with_language()
    row = labelled(model, 1)["pos"][0]
    rows = {"pos": [row], "ner": [row]}
    assert adapt(model, "deu", rows, {}, FAST).steps == 0
    rows["pos"] = labelled(model, 1)["pos"][:3]
    assert adapt(model, "deu", rows, {}, replace(FAST, folds=1)).sentences == {"pos": 3, "ner": 1}


def test_raw_sentences_make_predictions_more_certain() -> None:
    model = with_language()
    rows = unlabelled_rows(model, SENTENCES, ["pos"])
    result = adapt(model, "deu", {}, rows, replace(FAST, most_changed=1.0, certain=2.0))
    assert result.steps == FAST.steps
    assert result.after["pos"] < result.before["pos"]
    assert result.sentences == {"pos": len(SENTENCES)}


def test_raw_sentences_leave_what_is_certain() -> None:
    model = with_language()
    before = scores(model, "pos", "deu")
    result = adapt(model, "deu", {}, unlabelled_rows(model, SENTENCES), replace(FAST, certain=0.0))
    assert (result.steps, result.after) == (0, result.before)
    assert torch.equal(scores(model, "pos", "deu"), before)


def test_raw_sentences_stop_before_too_many_labels_change() -> None:
    model = with_language()
    before = scores(model, "pos", "deu")
    rows = unlabelled_rows(model, SENTENCES)
    settings = replace(FAST, most_changed=-1.0, look_every=1, certain=2.0)
    assert adapt(model, "deu", {}, rows, settings).steps == 0
    assert torch.equal(scores(model, "pos", "deu"), before)


@pytest.mark.parametrize("seed", [1, 2])
def test_the_same_seed_gives_the_same_vector(seed: int) -> None:
    models = [with_language() for _ in range(2)]
    for model in models:
        adapt(model, "deu", {}, unlabelled_rows(model, SENTENCES), replace(FAST, seed=seed))
    assert torch.equal(scores(models[0], "pos", "deu"), scores(models[1], "pos", "deu"))


def test_parameters_are_trained_afterwards_as_before() -> None:
    model = with_language().train()
    required = {name: p.requires_grad for name, p in model.named_parameters()}
    adapt(model, "deu", labelled(model, 1), {}, replace(FAST, trained="vector"))
    assert {name: p.requires_grad for name, p in model.named_parameters()} == required
    assert model.training


def test_raw_text_teaches_tags_by_default() -> None:
    assert set(unlabelled_rows(tiny_model(), SENTENCES)) == {"pos"}
    assert set(unlabelled_rows(tiny_model(), SENTENCES, ["ner"])) == {"ner"}


def test_certainty_keeps_the_rates_of_labels() -> None:
    even = torch.tensor([0.5, 0.5])
    collapsed = torch.tensor([[0.99, 0.01], [0.99, 0.01]]).log()
    certain = torch.tensor([[0.99, 0.01], [0.01, 0.99]]).log()
    unsure = torch.tensor([[0.5, 0.5], [0.5, 0.5]]).log()
    assert entropy(collapsed) == pytest.approx(entropy(certain).item())
    assert certainty_loss(certain, even, 1.0) < certainty_loss(unsure, even, 1.0)
    assert certainty_loss(certain, even, 1.0) < certainty_loss(collapsed, even, 1.0)
    assert certainty_loss(certain, even, 1.0) == pytest.approx(entropy(certain).item(), abs=1e-6)


def test_trees_can_be_learnt_from_raw_sentences_on_request() -> None:
    dep = Task("dep", TaskType.PARSING, ("root", "det", "obj"))
    model = tiny_model(
        tasks=(dep,), trained=(Cell("dep", "eng"),), hypernet={"language_dropout": 0.1}
    )
    model.add_language("deu", {}, "added")
    rows = unlabelled_rows(model, SENTENCES, ["dep"])
    result = adapt(model, "deu", {}, rows, replace(FAST, most_changed=1.0, certain=2.0))
    assert result.steps == FAST.raw_steps
    assert result.after != result.before
