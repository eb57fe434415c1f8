"""The optimiser: each part of the model learns at the rate that the recipe gives it."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from hyperlect import HyperX
from hyperlect.model import HyperXConfig
from hyperlect.recipe.sections import Part, TrainingSection
from hyperlect.tasks import Task, TaskType
from hyperlect.training.optimizer import make_optimizer, parts_of, set_rates

from ..tiny import tiny_backbone

NAMES = {
    "adapters.source.embeddings.language": "languages",
    "adapters.source.embeddings.task": "source",
    "adapters.generator.maps.down_weight.bias": "generator",
    "adapters.weights.up_weight": "adapters",
    "adapters.languages.weights.up_weight": "adapters",
    "latents.means.language": "latents",
    "heads.pos.scores.weight": "heads",
    "backbone.encoder.layer.0.output.LayerNorm.weight": "backbone",
}


def half(peak: float) -> float:
    return peak / 2


def parameters() -> dict[str, nn.Parameter]:
    return {name: nn.Parameter(torch.zeros(2)) for name in NAMES}


@pytest.mark.parametrize(("name", "part"), NAMES.items())
def test_the_narrowest_part_by_name(name: str, part: str) -> None:
    assert parts_of(name)[0] == part
    assert part in Part.__args__  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "method", ["hyperx", "adapters", "mad-x", "finetune", "factorised", "head"]
)
def test_every_trained_parameter_is_of_a_part(method: str) -> None:
    task = Task("pos", TaskType.TAGGING, ("NOUN", "VERB"))
    config = HyperXConfig((task,), ("eng",), method=method, train_layer_norms=True)
    own = HyperX(tiny_backbone("bert"), config).own_parameters()
    parts = {parts_of(name)[0] for name in own}
    expected = {
        "hyperx": {"languages", "source", "generator"},
        "adapters": {"adapters"},
        "mad-x": {"adapters"},
        "finetune": set(),
        "factorised": {"latents"},
        "head": set(),
    }
    assert parts == expected[method] | {"heads", "backbone"}


def test_a_part_has_a_rate_of_its_own() -> None:
    own = parameters()
    settings = TrainingSection(learning_rate=1e-2, learning_rates={"source": 1e-3, "heads": 5e-2})
    optimizer = make_optimizer(own, settings, "cpu")
    assert set_rates(optimizer, settings, half) == 5e-3
    for parameter in own.values():
        parameter.grad = torch.ones(2)
    optimizer.step()
    # the first step of Adam is as long as its rate
    moved = {name: -parameter[0].item() for name, parameter in own.items()}
    rates = {"source": 5e-4, "languages": 5e-4, "heads": 2.5e-2, "latents": 2.5e-2}
    expected = {name: rates.get(part, 5e-3) for name, part in NAMES.items()}
    assert moved == pytest.approx(expected, rel=1e-4)


def test_a_part_within_another_may_have_its_own_rate() -> None:
    settings = TrainingSection(learning_rates={"languages": 1e-2, "source": 1e-3, "adapters": 1})
    groups = make_optimizer(parameters(), settings, "cpu").param_groups
    sizes = {group["peak"]: len(group["params"]) for group in groups}
    # what is left has the common rate, the generator too: what writes adapters is none itself
    assert sizes == {1e-2: 1, 1e-3: 1, 1: 2, 1e-4: 4}


def test_one_rate_is_that_of_all_parts() -> None:
    settings = TrainingSection(learning_rate=1e-2)
    optimizer = make_optimizer(parameters(), settings, "cpu")
    set_rates(optimizer, settings, half)
    assert {group["lr"] for group in optimizer.param_groups} == {5e-3}
