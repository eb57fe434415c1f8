"""Counts of parameters are those of real models."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from hyperlect.accounting import APART, FORMULAS, STORED, Sizes, count, head_size
from hyperlect.hypernet import HypernetConfig
from hyperlect.methods import METHODS, Method
from hyperlect.model import HyperX
from hyperlect.tasks import Task, TaskType
from tests.hypernet import twin
from tests.model.made import MLM, NER, POS, TASKS, TOPIC, make, padded

DEP = Task("dep", TaskType.PARSING, ("det", "nsubj", "root"))
VARIANCES = "latents.log_variances."


def own(model: HyperX, without: tuple[str, ...] = ("heads.",)) -> int:
    """What a model trains, beside heads."""
    return sum(p.numel() for n, p in model.own_parameters().items() if not n.startswith(without))


def sizes_of(model: HyperX) -> Sizes:
    backbone = model.backbone
    encoder = sum(p.numel() for p in backbone.encoder.parameters())
    return Sizes(backbone.hidden_size, len(model.adapted_layers), encoder)


@pytest.mark.parametrize("variant", twin.VARIANTS)
@pytest.mark.parametrize("method", ["hyperx", "adapters", "mad-x"])
def test_every_variant(method: Method, variant: str) -> None:
    hypernet = twin.VARIANTS[variant]
    model = make(method=method, hypernet=hypernet)
    tasks = len(model.adapted_tasks)
    assert count(method, twin.small(**hypernet), sizes_of(model), tasks, 3).trained == own(model)


@pytest.mark.parametrize("variant", ["published", "ordinary LayerNorm after", "no projection"])
@pytest.mark.parametrize("method", ["task-hypernet", "language-hypernet"])
def test_baselines_that_do_not_read_everything(method: Method, variant: str) -> None:
    hypernet = twin.VARIANTS[variant]
    model = make(method=method, hypernet=hypernet)
    assert count(method, twin.small(**hypernet), sizes_of(model), 4, 3).trained == own(model)


@pytest.mark.parametrize("fewer", [{"top_layers": 1}, {"skip_last_layer": True}], ids=str)
@pytest.mark.parametrize("sources", [("task", "language", "layer"), ("task", "language")])
@pytest.mark.parametrize("method", ["hyperx", "adapters", "mad-x"])
def test_fewer_layers(method: Method, sources: tuple[str, ...], fewer: dict[str, Any]) -> None:
    hypernet = {"sources": sources, **fewer}
    model = make(method=method, hypernet=hypernet)
    assert sizes_of(model).layers == 1
    tasks = len(model.adapted_tasks)
    assert count(method, twin.small(**hypernet), sizes_of(model), tasks, 3).trained == own(model)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_and_what_one_more_adds(method: Method) -> None:
    kept = ("heads.", VARIANCES)
    model = make(method=method)
    found = count(method, twin.small(), sizes_of(model), len(model.adapted_tasks), 3)
    assert (found.trained, found.stored) == (own(model), own(model, kept))
    fewer = make(method=method, tasks=(POS, NER, MLM), trained=())
    assert own(model, kept) - own(fewer, kept) == found.per_task
    less = make(method=method, languages=("eng", "isl"), trained=())
    assert own(model, kept) - own(less, kept) == found.per_language


@pytest.mark.parametrize("method", METHODS)
def test_tasks_apart(method: Method) -> None:
    """A model a task; those of mad-x have their language adapters in common."""
    models = [make(method=method, tasks=(task,), trained=()) for task in (POS, NER, TOPIC)]
    apart = sum(own(model, ("heads.", VARIANCES)) for model in models)
    if method == "mad-x":
        apart -= 2 * sum(p.numel() for p in models[0].adapters.languages.parameters())
    found = count(method, twin.small(), sizes_of(models[0]), 3, 3, apart=True)
    assert found.stored == apart
    four = count(method, twin.small(), sizes_of(models[0]), 4, 3, apart=True)
    assert four.stored == apart + found.per_task


def test_predictions_do_not_need_the_variances() -> None:
    """So they are trained, and need not be stored."""
    model = make(method="factorised")
    ids, mask = padded(model.backbone)
    with torch.no_grad():
        before = model(ids, mask, task="pos", language="isl").logits
        changed = [p for n, p in model.own_parameters().items() if n.startswith(VARIANCES)]
        for parameter in changed:
            parameter.fill_(5.0)
        after = model(ids, mask, task="pos", language="isl").logits
    assert len(changed) == 2
    assert torch.equal(before, after)


@pytest.mark.parametrize("parser", ["mlp", "direct"])
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("method", ["hyperx", "factorised"])
def test_heads(method: Method, tied: bool, parser: Any) -> None:
    tasks = (*TASKS, DEP)
    model = make(method=method, tasks=tasks, tied_decoder=tied, parser=parser)
    backbone = model.backbone
    for task in tasks:
        form: dict[str, Any] = {"method": method, "parser": parser, "tied": tied}
        found = head_size(task, backbone.hidden_size, backbone.vocabulary, **form)
        assert found == sum(p.numel() for p in model.heads[task.name].parameters()), task.name


@pytest.mark.parametrize(("projection", "published"), [(192, 76_460_288), (32, 13_105_248)])
def test_the_published_sizes(projection: int, published: int) -> None:
    config = HypernetConfig(projection=projection)
    found = count("hyperx", config, Sizes(768, 12, 177_853_440), tasks=2, languages=8)
    assert (found.trained, found.stored) == (published, published)
    assert (found.per_language, found.per_task) == (64, 64)


@pytest.mark.parametrize("method", METHODS)
def test_the_formulas_are_the_counts(method: Method) -> None:
    """The texts, read as arithmetic, at the published size."""
    names = {"T": 2, "N": 8, "L": 12, "e": 64, "p": 192, "E": 1000, "h": 768, "b": 256}
    names["A"] = 2 * 768 * 256 + 256 + 3 * 768

    def read(formula: str) -> int:
        plain = formula.replace("·", "*").replace("[", "(").replace("]", ")")
        return int(eval(plain, {}, names))

    sizes = Sizes(768, 12, 1000)
    found = count(method, HypernetConfig(), sizes, 2, 8)
    apart = count(method, HypernetConfig(), sizes, 2, 8, apart=True)
    assert read(FORMULAS[method]) == found.trained
    assert read(STORED[method]) == found.stored
    assert read(APART[method]) == apart.stored
