"""What is trained when, and how fast: rates, seeds, the optimiser, and the phases of mad-x."""

from __future__ import annotations

import random
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset
from torch import nn
from transformers import get_polynomial_decay_schedule_with_warmup

from hyperlect import HyperX
from hyperlect.backbone import load_backbone
from hyperlect.data.sampling import CellSampler, MixedSampler
from hyperlect.errors import Interrupted
from hyperlect.evaluation import evaluate_run, read_results
from hyperlect.grid import Cell
from hyperlect.methods import METHODS
from hyperlect.model import HyperXConfig
from hyperlect.recipe import TrainingSection
from hyperlect.run_folder import checkpoints
from hyperlect.tasks import Task, TaskType
from hyperlect.training.checkpoint import read_checkpoint
from hyperlect.training.schedule import (
    _PARTS,
    Phase,
    derived_seed,
    learning_rate,
    make_optimizer,
    make_sampler,
    plan_phases,
    seed_everything,
    setting_of,
)

from ..project import go_on, train, write_data, write_project
from ..tiny import tiny_backbone
from .conftest import Crash, Watched
from .runs import events, same, state, weights

# --- rates and seeds


def rates(warmup: int, steps: int, decay: str = "linear") -> list[float]:
    return [
        learning_rate(step, peak=0.5, warmup=warmup, steps=steps, decay=decay)
        for step in range(steps)
    ]


def test_the_rate_rises_to_its_peak_and_falls_to_zero() -> None:
    assert rates(4, 8) == pytest.approx([0.125, 0.25, 0.375, 0.5, 0.5, 0.375, 0.25, 0.125])
    assert learning_rate(8, peak=0.5, warmup=4, steps=8, decay="linear") == 0


def test_without_warmup_the_first_step_has_the_peak() -> None:
    assert rates(0, 4) == pytest.approx([0.5, 0.375, 0.25, 0.125])


def test_a_constant_rate_stays_at_its_peak() -> None:
    assert rates(2, 5, "constant") == pytest.approx([0.25, 0.5, 0.5, 0.5, 0.5])


def test_the_decay_is_the_polynomial_of_the_released_code() -> None:
    # There the first step has the rate zero; here every step learns, so warm-up is a step ahead.
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.5)
    schedule = get_polynomial_decay_schedule_with_warmup(optimizer, 5, 20, lr_end=0.0)
    theirs = []
    for _ in range(20):
        theirs.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    ours = rates(5, 20)
    assert ours[5:] == pytest.approx(theirs[5:])
    assert ours[:5] == pytest.approx(theirs[1:6])


def test_seeds_are_the_same_on_every_machine_and_differ_by_purpose() -> None:
    assert derived_seed(1, "cells") == 2951481534200089699
    seeds = {derived_seed(*names) for names in [(1, "a"), (2, "a"), (1, "b"), ("1a",), (1, "a", 0)]}
    assert len(seeds) == 5
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_seeding_reaches_torch_numpy_and_python() -> None:
    def draw(*names: int | str) -> tuple[float, ...]:
        seed_everything(*names)
        return torch.rand(1).item(), float(np.random.rand()), random.random()

    first, again, other = draw(1, "step", 3), draw(1, "step", 3), draw(1, "step", 4)
    assert first == again
    assert all(a != b for a, b in zip(first, other, strict=True))


# --- the optimiser

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


def half_rates(settings: TrainingSection) -> tuple[float, dict[str, float]]:
    """The common rate, and how far each parameter moves, halfway down the decay.

    The first step of Adam is as long as its rate.
    """
    parameters = {name: nn.Parameter(torch.zeros(2)) for name in NAMES}
    optimizer = make_optimizer(parameters, settings, "cpu")
    phase = Phase("everything", 0, settings.steps, {}, {})
    rate = phase.set_rates(optimizer, settings.steps // 2, settings)
    for parameter in parameters.values():
        parameter.grad = torch.ones(2)
    optimizer.step()
    return rate, {name: -parameter[0].item() for name, parameter in parameters.items()}


def section(**changes: Any) -> TrainingSection:
    return TrainingSection(**{"steps": 100, "warmup": 0, "learning_rate": 1e-2, **changes})


@pytest.mark.parametrize("method", METHODS)
def test_every_trained_parameter_belongs_to_a_part(method: str) -> None:
    task = Task("pos", TaskType.TAGGING, ("NOUN", "VERB"))
    config = HyperXConfig((task,), ("eng",), method=method, train_layer_norms=True)
    names = HyperX(tiny_backbone("bert"), config).own_parameters()
    narrowest = {
        next(parts[0] for prefix, parts in _PARTS.items() if name.startswith(prefix))
        for name in names
    }
    expected = {
        "hyperx": {"languages", "source", "generator"},
        "task-hypernet": {"source", "generator"},
        "language-hypernet": {"languages", "source", "generator"},
        "adapters": {"adapters"},
        "mad-x": {"adapters"},
        "finetune": set(),
        "factorised": {"latents"},
        "head": set(),
    }
    assert narrowest == expected[method] | {"heads", "backbone"}


def test_one_rate_is_that_of_all_parts() -> None:
    rate, moved = half_rates(section())
    assert rate == pytest.approx(5e-3)
    assert moved == pytest.approx(dict.fromkeys(NAMES, 5e-3), rel=1e-4)


def test_a_part_namemay_have_its_own_rate() -> None:
    rate, moved = half_rates(section(learning_rates={"source": 1e-3, "heads": 5e-2}))
    assert rate == pytest.approx(5e-3)
    rates = {"source": 5e-4, "languages": 5e-4, "heads": 2.5e-2, "latents": 2.5e-2}
    expected = {name: rates.get(part_name, 5e-3) for name, part_name in NAMES.items()}
    assert moved == pytest.approx(expected, rel=1e-4)


def test_the_narrowest_part_namewith_a_rate_counts() -> None:
    settings = section(learning_rates={"languages": 1e-2, "source": 1e-3, "adapters": 1.0})
    by_part, default = settings.learning_rates, settings.learning_rate
    rates = {name: setting_of(name, by_part, default) for name in NAMES}
    expected = {"languages": 1e-2, "source": 1e-3, "adapters": 1.0}
    # The generator writes adapters, and is none itself.
    assert rates == {name: expected.get(part_name, 1e-2) for name, part_name in NAMES.items()}


def test_the_recipe_chooses_the_sampler() -> None:
    rows = {Cell(*cell): ROWS[cell] for cell in (("pos", "eng"), ("mlm", "fao"))}
    assert type(make_sampler(rows, section(batching="mixed"), {})) is MixedSampler
    single = make_sampler(rows, section(batching="single", tokens=70), {"mlm": 0.5})
    assert type(single) is CellSampler
    assert single.tokens == 70
    assert single.probabilities[Cell("mlm", "fao")] == 0.5


# --- the phases of mad-x

TASKS = ("pos", "ner", "mlm")
TURN = 6  # of 12 steps
SHARE = "tasks.mlm.share=0.5"
CHANGES = (SHARE, "data.2.cells.eng={train: mlm.eng.train}")
SETTINGS = {"steps": 12, "log_every": 4, "evaluate_every": 3, "patience": 2, "weight_decay": 0.1}


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("project")
    path = write_project(folder, TASKS, SETTINGS, method="mad-x")
    write_data(folder, "mlm", "eng", "train")
    return path


@pytest.fixture(scope="module")
def straight(recipe: Path) -> Path:
    return train(recipe, recipe.parent / "straight", *CHANGES)


def test_text_comes_first_and_then_labels(recipe: Path, tmp_path: Path, watched: Watched) -> None:
    train(recipe, tmp_path / "run", *CHANGES)
    assert len(watched.batches) == 12
    drawn = [{cell.task for cell in batch.cells} for batch in watched.batches]
    assert drawn[:TURN] == [{"mlm"}] * TURN
    assert set().union(*drawn[TURN:]) == {"pos", "ner"}
    for names in watched.gradients[:TURN]:
        assert all(name.startswith(("adapters.languages.", "heads.mlm.")) for name in names)
    for names in watched.gradients[TURN:]:
        assert all(
            name.startswith(("adapters.tasks.", "heads.pos.", "heads.ner.")) for name in names
        )
    touched = {name.split(".")[1] for names in watched.gradients for name in names}
    assert touched == {"languages", "tasks", "mlm", "pos", "ner"}
    # Each phase has half of the warm-up, and its rate falls to zero at its end.
    one = [learning_rate(s, peak=0.01, warmup=1, steps=TURN, decay="linear") for s in range(TURN)]
    assert watched.rates == pytest.approx(one * 2)


def test_language_adapters_do_not_change_after_their_phase(
    recipe: Path, straight: Path, tmp_path: Path, watched: Watched
) -> None:
    watched.crashes = {TURN}
    with pytest.raises(Crash):
        train(recipe, tmp_path / "run", *CHANGES, f"training.save_every={TURN}")
    _, kinds = read_checkpoint(checkpoints(tmp_path / "run")[0])
    before = kinds["weights"]
    after = weights(straight)
    assert before.keys() == after.keys()
    for name, tensor in before.items():
        frozen = name.startswith(("adapters.languages.", "heads.mlm."))
        assert torch.equal(tensor, after[name]) == frozen, name


def test_after_training_every_parameter_is_trainable_again(
    recipe: Path, tmp_path: Path, watched: Watched
) -> None:
    train(recipe, tmp_path / "run", *CHANGES)
    (trainer,) = watched.trainers
    parameters = trainer.model.own_parameters()
    assert parameters.keys() == trainer.parameters.keys()
    assert all(parameter.requires_grad for parameter in parameters.values())


def test_layer_norms_learn_in_the_first_phase_only(
    recipe: Path, tmp_path: Path, watched: Watched
) -> None:
    """The language adapters fit the encoder as it is then."""
    train(recipe, tmp_path / "run", *CHANGES, "training.train_layer_norms=true")
    learned = [{n for n in names if n.startswith("backbone.")} for names in watched.gradients]
    assert all(learned[:TURN])
    assert not any(learned[TURN:])


def test_the_backbone_does_not_change(straight: Path, recipe: Path) -> None:
    after = HyperX.from_pretrained(straight).backbone.encoder.state_dict()
    before = load_backbone(str(recipe.parent / "backbone")).encoder.state_dict()
    assert all(torch.equal(tensor, before[name]) for name, tensor in after.items())


def test_tasks_are_not_evaluated_before_they_are_trained(straight: Path) -> None:
    steps = [event["step"] for event in events(straight) if event["event"] == "dev"]
    assert steps[0] > TURN
    log = (straight / "log.txt").read_text()
    assert f"steps 1 to {TURN}: language adapters" in log
    assert f"steps {TURN + 1} to 12: task adapters" in log


@pytest.mark.parametrize("changes", [(), ("training.batching=mixed", "training.accumulate=2")])
@pytest.mark.parametrize("steps", [[3], [1, TURN - 1, TURN, TURN + 1]], ids=str)
def test_a_run_is_resumed_within_phases_and_across_them(
    recipe: Path, tmp_path: Path, watched: Watched, steps: list[int], changes: tuple[str, ...]
) -> None:
    changes = (*CHANGES, *changes, "training.patience=null")
    straight, run = train(recipe, tmp_path / "straight", *changes), tmp_path / "run"
    watched.signals = {step: [signal.SIGINT] for step in steps}
    with pytest.raises(Interrupted):
        train(recipe, run, *changes)
    for _ in steps[1:]:
        with pytest.raises(Interrupted):
            go_on(run)
    go_on(run)
    assert same(weights(run), weights(straight))
    assert events(run, clocks=False) == events(straight, clocks=False)
    assert state(run, clocks=False) == state(straight, clocks=False)


def test_cells_without_a_language_adapter_are_not_applicable(recipe: Path, tmp_path: Path) -> None:
    run = train(recipe, tmp_path / "run", SHARE)  # raw text in Faroese alone
    model = HyperX.from_pretrained(run)
    assert model.languages == ["fao"]
    results = evaluate_run(run)
    cells = {f"{c.task}:{c.language}": c for c in results.cells}
    assert {name for name, c in cells.items() if c.score is None} == {"pos:dan", "ner:isl"}
    assert "no raw text" in cells["pos:dan"].note
    assert (cells["pos:dan"].examples, cells["pos:dan"].units) == (8, 0)
    assert cells["pos:fao"].score is not None  # trained on other languages, with text here
    assert cells["pos:eng"].score is not None  # trained without a language adapter
    assert read_results(run).model_dump() == results.model_dump()
    rows = [average for average in results.averages if average.mean is None]
    assert [(a.task, a.cells, a.not_applicable) for a in rows] == [
        ("pos", 0, 1),
        ("ner", 0, 1),
    ]


SIZES = {
    ("pos", "eng"): 40, ("pos", "isl"): 9, ("ner", "eng"): 17, ("mlm", "fao"): 60,
    ("mlm", "eng"): 8,
}  # fmt: skip
ROWS = {
    cell: Dataset.from_list([{"input_ids": [1] * (3 + n % 4)} for n in range(count)])
    for cell, count in SIZES.items()
}


def planned(method: str, shares: dict[str, float], **changes: Any) -> tuple[list[Phase], Any]:
    """The phases of a method, and the probabilities of the cells without phases."""

    class Model:
        config = type("Config", (), {"method": method})
        grid = type("Grid", (), {"text_tasks": {"mlm"}})
        tasks = dict.fromkeys(("pos", "ner", "mlm"))

    rows = {Cell(*cell): encoded for cell, encoded in ROWS.items()}
    settings = section(batch_size=4, **changes)
    whole = make_sampler(rows, settings, shares).probabilities
    return plan_phases(Model, rows, settings, shares), whole  # type: ignore[arg-type]


@pytest.mark.parametrize("batching", ["single", "mixed"])
@pytest.mark.parametrize(
    "shares",
    [{}, {"mlm": 0.3}, {"pos": 0.2}, {"mlm": 0.3, "pos": 0.2}, {"pos": 0.5, "ner": 0.1}],
    ids=str,
)
def test_both_phases_together_draw_each_cell_as_often_as_one(
    batching: str, shares: dict[str, float]
) -> None:
    phases, whole = planned("mad-x", shares, batching=batching)
    settings = section(batch_size=4, batching=batching)
    text = sum(chance for cell, chance in whole.items() if cell.task == "mlm")
    assert [(p.start, p.end) for p in phases] == [(0, round(100 * text)), (round(100 * text), 100)]
    for phase, mass in zip(phases, (text, 1 - text), strict=True):
        of_phase = make_sampler(phase.rows, settings, phase.shares).probabilities
        assert {cell: mass * chance for cell, chance in of_phase.items()} == pytest.approx(
            {cell: whole[cell] for cell in of_phase}
        )
    assert phases[0].rows.keys() | phases[1].rows.keys() == whole.keys()


def test_each_phase_has_at_least_one_step() -> None:
    phases, _ = planned("mad-x", {"mlm": 0.001})
    assert [(p.start, p.end) for p in phases] == [(0, 1), (1, 100)]
    phases, _ = planned("mad-x", {"mlm": 0.999}, steps=2)
    assert [(p.start, p.end) for p in phases] == [(0, 1), (1, 2)]


def test_other_methods_have_one_phase_with_everything() -> None:
    (phase,), whole = planned("hyperx", {"mlm": 0.3})
    assert (phase.start, phase.end, phase.shares) == (0, 100, {"mlm": 0.3})
    assert phase.rows.keys() == whole.keys()
    assert phase.frozen == ()
    for method in METHODS:
        assert len(planned(method, {})[0]) == (2 if method == "mad-x" else 1)


def test_parts_may_have_a_weight_decay_of_their_own() -> None:
    settings = TrainingSection(weight_decay=0.5, weight_decays={"languages": 0.1, "source": 0.2})
    names = (
        "adapters.source.embeddings.language", "adapters.source.base.mlp.0.weight",
        "adapters.source.embeddings.task", "heads.pos.linear.weight",
    )  # fmt: skip
    parameters = {name: nn.Parameter(torch.ones(2)) for name in names}
    optimizer = make_optimizer(parameters, settings, "cpu")
    decays = {
        id(parameter): group["weight_decay"]
        for group in optimizer.param_groups
        for parameter in group["params"]
    }
    assert [decays[id(parameters[name])] for name in names] == [0.1, 0.2, 0.2, 0.5]
