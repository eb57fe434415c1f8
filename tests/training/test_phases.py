"""The phases of mad-x: what learns when, from what, and how a run goes on across their border."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset

from hyperlect import HyperX
from hyperlect.backbone import load_backbone
from hyperlect.data.sampling import cell_probabilities
from hyperlect.evaluation import evaluate_run, read_results
from hyperlect.grid import Cell
from hyperlect.recipe import TrainingSection
from hyperlect.run_folder import load_tensors
from hyperlect.training import Interrupted
from hyperlect.training.loader import make_sampler
from hyperlect.training.phases import Phase, _part, phase_of, plan
from hyperlect.training.schedule import learning_rate

from ..project import go_on, train, write_data, write_project
from .conftest import Crash, Watched
from .runs import events, same, state, weights

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
    # Each phase has its half of the warm-up, and falls to zero at its end.
    one = [learning_rate(s, peak=0.01, warmup=1, steps=TURN, decay="linear") for s in range(TURN)]
    assert watched.rates == pytest.approx(one * 2)


def test_language_adapters_stay_as_text_made_them(
    recipe: Path, straight: Path, tmp_path: Path, watched: Watched
) -> None:
    watched.crashes = {TURN}
    with pytest.raises(Crash):
        train(recipe, tmp_path / "run", *CHANGES, f"training.save_every={TURN}")
    turned = load_tensors(tmp_path / "run" / "checkpoint" / "weights.safetensors")
    ended = weights(straight)
    assert turned.keys() == ended.keys()
    for name, tensor in turned.items():
        frozen = name.startswith(("adapters.languages.", "heads.mlm."))
        assert torch.equal(tensor, ended[name]) == frozen, name


def test_all_may_be_trained_again_after(recipe: Path, tmp_path: Path, watched: Watched) -> None:
    train(recipe, tmp_path / "run", *CHANGES)
    (trainer,) = watched.trainers
    own = trainer.model.own_parameters()
    assert own.keys() == trainer.parameters.keys()
    assert all(parameter.requires_grad for parameter in own.values())


def test_layer_norms_learn_from_text_alone(recipe: Path, tmp_path: Path, watched: Watched) -> None:
    """Later they would move from under language adapters that do not move with them."""
    train(recipe, tmp_path / "run", *CHANGES, "training.train_layer_norms=true")
    learned = [{n for n in names if n.startswith("backbone.")} for names in watched.gradients]
    assert all(learned[:TURN])
    assert not any(learned[TURN:])


def test_the_backbone_stays_as_it_was(straight: Path, recipe: Path) -> None:
    after = HyperX.from_pretrained(straight).backbone.encoder.state_dict()
    before = load_backbone(str(recipe.parent / "backbone")).encoder.state_dict()
    assert all(torch.equal(tensor, before[name]) for name, tensor in after.items())


def test_tasks_are_not_judged_before_they_are_trained(straight: Path) -> None:
    told = [event["step"] for event in events(straight) if event["event"] == "dev"]
    assert told[0] > TURN
    log = (straight / "log.txt").read_text()
    assert f"steps 1 to {TURN}: language adapters" in log
    assert f"steps {TURN + 1} to 12: task adapters" in log


@pytest.mark.parametrize("changes", [(), ("training.batching=mixed", "training.accumulate=2")])
@pytest.mark.parametrize("steps", [[3], [TURN], [TURN + 1], [1, TURN - 1, TURN, 9]], ids=str)
def test_a_run_goes_on_within_phases_and_across_them(
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
    assert {**state(run), "seconds": 0} == {**state(straight), "seconds": 0}


def test_what_has_no_language_adapter_is_not_applicable(recipe: Path, tmp_path: Path) -> None:
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
    assert read_results(run).data() == results.data()
    rows = [average for average in results.averages if average.mean is None]
    assert [(a.task, a.cells, a.not_applicable) for a in rows] == [
        ("pos", 0, 1),
        ("ner", 0, 1),
    ]


def sampled(method: str, shares: dict[str, float], **changes: Any) -> tuple[list[Phase], Any]:
    """The phases of a made-up model, and the chances of the cells without phases."""

    class Model:
        config = type("Config", (), {"method": method})
        grid = type("Grid", (), {"text_tasks": {"mlm"}})
        tasks = dict.fromkeys(("pos", "ner", "mlm"))

    rows = {
        cell: Dataset.from_list([{"input_ids": [1] * (3 + n % 4)} for n in range(count)])
        for cell, count in {
            Cell("pos", "eng"): 40, Cell("pos", "isl"): 9, Cell("ner", "eng"): 17,
            Cell("mlm", "fao"): 60, Cell("mlm", "eng"): 8,
        }.items()
    }  # fmt: skip
    settings = TrainingSection(**{"steps": 100, "batch_size": 4, **changes})
    whole = make_sampler(rows, settings, shares).probabilities
    return plan(Model, rows, settings, shares), whole  # type: ignore[arg-type]


@pytest.mark.parametrize("batching", ["single", "mixed"])
@pytest.mark.parametrize(
    "shares",
    [{}, {"mlm": 0.3}, {"pos": 0.2}, {"mlm": 0.3, "pos": 0.2}, {"pos": 0.5, "ner": 0.1}],
    ids=str,
)
def test_both_phases_together_draw_each_cell_as_often_as_one(
    batching: str, shares: dict[str, float]
) -> None:
    phases, whole = sampled("mad-x", shares, batching=batching)
    settings = TrainingSection(steps=100, batch_size=4, batching=batching)  # type: ignore[arg-type]
    text = sum(chance for cell, chance in whole.items() if cell.task == "mlm")
    assert [(p.start, p.end) for p in phases] == [(0, round(100 * text)), (round(100 * text), 100)]
    for phase, mass in zip(phases, (text, 1 - text), strict=True):
        own = make_sampler(phase.rows, settings, phase.shares).probabilities
        assert {cell: mass * chance for cell, chance in own.items()} == pytest.approx(
            {cell: whole[cell] for cell in own}
        )
    assert phases[0].rows.keys() | phases[1].rows.keys() == whole.keys()


def test_each_phase_has_a_step_at_least() -> None:
    phases, _ = sampled("mad-x", {"mlm": 0.001})
    assert [(p.start, p.end) for p in phases] == [(0, 1), (1, 100)]
    phases, _ = sampled("mad-x", {"mlm": 0.999}, steps=2)
    assert [(p.start, p.end) for p in phases] == [(0, 1), (1, 2)]


def test_other_methods_have_one_phase_with_everything() -> None:
    (phase,), whole = sampled("hyperx", {"mlm": 0.3})
    assert (phase.start, phase.end, phase.shares) == (0, 100, {"mlm": 0.3})
    assert phase.rows.keys() == whole.keys()
    assert phase.frozen == ()


def test_a_step_belongs_to_one_phase() -> None:
    phases = [Phase("first", 0, 3, {}, {}), Phase("second", 3, 5, {}, {})]
    found = [phase_of(phases, step).name for step in range(6)]
    assert found == ["first"] * 3 + ["second"] * 3  # after the end, the last


def test_shares_of_a_part_are_of_what_it_has() -> None:
    counts = {Cell("pos", "eng"): 4, Cell("ner", "eng"): 9, Cell("mlm", "fao"): 5}
    chances = cell_probabilities(counts, 2.0, {"pos": 0.1, "mlm": 0.5})
    _, shares = _part(counts, chances, {"pos": 0.1, "mlm": 0.5}, ["pos", "ner"])
    assert shares == pytest.approx({"pos": 0.2})
