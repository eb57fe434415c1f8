"""Parameters are counted on models; the formulas beside them are read as arithmetic."""

from __future__ import annotations

import re

import efficiency
import pytest
import torch
from measures import costs
from measures.sizes import SETTINGS, Setting, count, model, per_language, per_task, stored_apart

from hyperlect.hypernet import HypernetConfig
from hyperlect.methods import METHODS
from hyperlect.model import HyperX, HyperXConfig
from hyperlect.recipe.recipe import RECOMMENDED
from hyperlect.tasks import Task, TaskType
from tests.hypernet import twin
from tests.model.models import NER, POS, TOPIC, padded, tiny_model

BASE = SETTINGS["mBERT"]
LANGUAGES = ("deu", "eng", "isl", "tur")
DEP = Task("dep", TaskType.PARSING, ("det", "nsubj", "root"))
MLM = Task("mlm", TaskType.MLM)
VARIANCES = "latents.log_variances."


def evaluate(formula: str, **names: int) -> int:
    """Read a formula of the page as arithmetic."""
    python = formula.replace("·", "*").replace("²", "**2").replace("[", "(").replace("]", ")")
    assert re.fullmatch(r"[\w +*()]+", python), formula
    return int(eval(python, {}, names))


def trained_in(built: HyperX, without: tuple[str, ...] = ("heads.",)) -> int:
    return sum(p.numel() for n, p in built.own_parameters().items() if not n.startswith(without))


@pytest.mark.parametrize("variant", ["published", "ordinary LayerNorm after", "no projection"])
@pytest.mark.parametrize("method", METHODS)
def test_counts_are_those_of_models(method: str, variant: str) -> None:
    setting = Setting(24, 50, twin.small(**twin.VARIANTS[variant]), positions=8)
    tasks = (POS, NER, TOPIC)
    built = model(setting, method, tasks, LANGUAGES)
    counted = count(setting, method, len(tasks), len(LANGUAGES))
    stored = ("heads.", VARIANCES)
    assert (counted.trained, counted.stored) == (trained_in(built), trained_in(built, stored))
    fewer_tasks = model(setting, method, tasks[:2], LANGUAGES)
    assert per_task(setting, method).stored == counted.stored - trained_in(fewer_tasks, stored)
    fewer_languages = model(setting, method, tasks, LANGUAGES[:3])
    added = counted.stored - trained_in(fewer_languages, stored)
    assert per_language(setting, method).stored == added


@pytest.mark.parametrize("method", METHODS)
def test_a_model_for_each_task(method: str) -> None:
    """Models of mad-x share their language adapters."""
    setting = Setting(24, 50, twin.small(), positions=8)
    models = [model(setting, method, [task], LANGUAGES) for task in (POS, NER, TOPIC)]
    apart = sum(trained_in(built, ("heads.", VARIANCES)) for built in models)
    if method == "mad-x":
        apart -= 2 * sum(p.numel() for p in models[0].adapters.languages.parameters())
    assert stored_apart(setting, method, 3, len(LANGUAGES)) == apart


def test_predictions_do_not_need_the_variances() -> None:
    """So they are trained, and not counted as stored."""
    built = tiny_model(method="factorised")
    ids, mask = padded(built.backbone)
    variances = [p for n, p in built.own_parameters().items() if n.startswith(VARIANCES)]
    assert len(variances) == 2
    with torch.no_grad():
        before = built(ids, mask, task="pos", language="isl").logits
        for parameter in variances:
            parameter.fill_(5.0)
        after = built(ids, mask, task="pos", language="isl").logits
    assert torch.equal(before, after)


@pytest.mark.parametrize(("projection", "published"), [(192, 76_460_288), (32, 13_105_248)])
def test_the_published_sizes(projection: int, published: int) -> None:
    setting = Setting(768, 119_547, HypernetConfig(projection=projection))
    assert setting.encoder == 177_262_848
    counted = count(setting, "hyperx", tasks=2, languages=8)
    assert (counted.trained, counted.stored) == (published, published)
    assert (per_language(setting, "hyperx").stored, per_task(setting, "hyperx").stored) == (64, 64)


@pytest.mark.parametrize("method", METHODS)
def test_the_formulas_are_the_counts(method: str) -> None:
    names = {"T": 2, "N": 8, "L": 12, "e": 64, "p": 192, "E": BASE.encoder}
    names["A"] = evaluate("2*h*b + b + 3*h", h=768, b=256)
    counted = count(BASE, method, 2, 8)
    assert evaluate(costs.FORMULAS[method], **names) == counted.trained
    assert evaluate(costs.STORED[method], **names) == counted.stored
    assert evaluate(costs.APART[method], **names) == stored_apart(BASE, method, 2, 8)


@pytest.mark.parametrize("method", costs.WITH_TASK_BASE)
def test_the_formulas_with_a_base_for_each_task(method: str) -> None:
    defaults = HypernetConfig(**RECOMMENDED["hypernet"])
    setting = Setting(768, 119_547, defaults)
    names = {"T": 2, "N": 8, "L": 12, "e": 64, "p": defaults.projection or 0}
    names["A"] = evaluate("2*h*b + b + 3*h", h=768, b=defaults.bottleneck)
    counted = count(setting, method, 2, 8)
    assert defaults.task_base
    assert evaluate(costs.WITH_TASK_BASE[method], **names) == counted.trained == counted.stored


@pytest.mark.parametrize(
    ("name", "task", "options"),
    [
        ("tags, entities, texts", POS, {}),
        ("tags, entities, texts", TOPIC, {}),
        ("the same with `factorised`", NER, {"method": "factorised"}),
        ("parser, `mlp`", DEP, {"parser": "mlp", "method": "factorised"}),
        ("parser, `direct`", DEP, {"parser": "direct"}),
        ("`mlm`, tied", MLM, {"tied_decoder": True}),
    ],
)
def test_the_formulas_of_heads_are_the_sizes_of_heads(
    name: str, task: Task, options: dict[str, str | bool]
) -> None:
    setting = Setting(24, 50, twin.small(), positions=8)
    config = HyperXConfig((POS, task) if task is not POS else (POS,), LANGUAGES, **options)  # type: ignore[arg-type]
    with torch.device("meta"):
        head = HyperX(setting.backbone, config).head(task.name)
    rows = [line.strip("| \n").split(" | ") for line in costs.HEADS.splitlines()]
    formulas = {row[0]: row[1] for row in rows if len(row) == 3}
    sizes = {"h": 24, "vocabulary": 50, "labels": len(task.labels), "relations": len(task.labels)}
    assert evaluate(formulas[name], **sizes) == sum(p.numel() for p in head.parameters())


@pytest.mark.parametrize(("encoder", "h"), [("mBERT", 768), ("builtin:e5-small", 384)])
def test_the_page_shows_the_sizes_of_heads(encoder: str, h: int) -> None:
    rows = [
        line.strip("| ").split(" | ") for line in costs.page(efficiency.counts(), []).splitlines()
    ]
    column = 1 + list(SETTINGS).index(encoder)
    shown = {row[0]: row[column] for row in rows if len(row) == 1 + len(SETTINGS)}
    assert shown["tags (17)"] == f"{17 * (h + 1):,}"
    assert shown["tags (17), `factorised`"] == f"{401 * 17 * (h + 1):,}"
    parser = 1200 * (h + 1) + 250500 + 10201 * 37
    assert shown["parser, `mlp` (37 relations)"] == f"{parser:,}"
    assert shown["`mlm`, tied"] == f"{h * (h + 3) + SETTINGS[encoder].vocabulary:,}"
