"""The loop: it learns, it leaves the backbone alone, and what it does is what was asked for."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch

import hyperlect.training.trainer as trainer_module
from hyperlect import HyperX
from hyperlect.backbone import load_backbone
from hyperlect.data.batching import make_batch
from hyperlect.errors import HyperlectError
from hyperlect.hypernet.generator import Generator
from hyperlect.training.loss import BatchLoss, batch_loss
from hyperlect.training.schedule import learning_rate

from ..project import TRAINING, train, write_project
from .conftest import Watched
from .runs import events, same, state, weights


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("project")
    return write_project(folder, ("pos", "ner", "topic", "mlm"))


@pytest.fixture(scope="module")
def tagging(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_project(tmp_path_factory.mktemp("tagging"), ("pos",))


def losses(run: Path, task: str) -> list[float]:
    return [e["loss"][task] for e in events(run) if e["event"] == "train" and task in e["loss"]]


def test_the_loss_goes_down_and_the_task_is_learnt(tagging: Path, tmp_path: Path) -> None:
    run = train(tagging, tmp_path / "run", "training.steps=100", "training.log_every=10")
    found = losses(run, "pos")
    assert found[-1] < 0.5 * found[0]
    dev = [event for event in events(run) if event["event"] == "dev"][-1]
    assert dev["scores"]["pos:eng"] > 85


def test_a_seed_decides_everything(project: Path, tmp_path: Path) -> None:
    runs = [
        train(project, tmp_path / name, f"training.seed={seed}")
        for name, seed in (("first", 1), ("again", 1), ("other", 2))
    ]
    first, again, other = map(weights, runs)
    assert same(first, again)
    assert events(runs[0], clocks=False) == events(runs[1], clocks=False)
    assert first.keys() == other.keys()
    assert not any(
        torch.equal(first[name], other[name]) for name in first if name.startswith("adapters.")
    )


def test_a_seed_decides_the_initial_weights(project: Path, tmp_path: Path) -> None:
    still = ("training.steps=1", "training.warmup=0", "training.learning_rate=1e-30")
    first, again, other = (
        weights(train(project, tmp_path / name, *still, f"training.seed={seed}"))
        for name, seed in (("first", 1), ("again", 1), ("other", 2))
    )
    assert same(first, again)
    drawn = [name for name in first if name.endswith("weight") and first[name].std() > 0]
    drawn = [name for name in drawn if "mlm" not in name]  # it starts as the identity
    assert len(drawn) > 5
    assert not any(torch.equal(first[name], other[name]) for name in drawn)


@pytest.mark.parametrize(
    "method", ["hyperx", "task-hypernet", "language-hypernet", "adapters", "mad-x", "head"]
)
def test_the_backbone_stays_as_it_is_bit_for_bit(
    project: Path, tmp_path: Path, watched: Watched, method: str
) -> None:
    train(project, tmp_path / "run", f"method={method}", "training.backbone_dropout=true")
    before = load_backbone(str(project.parent / "backbone")).encoder.state_dict()
    after = watched.trainers[0].model.backbone.encoder.state_dict()
    assert same(dict(before), dict(after))


def test_its_layer_norms_and_nothing_else_of_it_are_trained_where_asked_for(
    project: Path, tmp_path: Path, watched: Watched
) -> None:
    run = train(project, tmp_path / "run", "training.train_layer_norms=true")
    before = load_backbone(str(project.parent / "backbone")).encoder.state_dict()
    trained = watched.trainers[0].model
    after = trained.backbone.encoder.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {name for name in before if "LayerNorm" in name}
    loaded = HyperX.from_pretrained(run).backbone.encoder.state_dict()
    assert same(dict(after), dict(loaded))


def test_every_parameter_of_the_hypernetwork_has_a_gradient_in_every_step(
    project: Path, tmp_path: Path, watched: Watched
) -> None:
    # At a greater rate the few units of such small adapters may all die.
    train(project, tmp_path / "run", "training.learning_rate=1e-5", "hypernet.bottleneck=16")
    adapters = {name for name in watched.trainers[0].parameters if name.startswith("adapters.")}
    assert adapters
    for batch, names in zip(watched.batches, watched.gradients, strict=True):
        assert adapters <= names
        # and of the heads, only the one of the task
        heads = {name.split(".")[1] for name in names if name.startswith("heads.")}
        assert heads == set(batch.tasks)


def test_rates_follow_the_schedule(project: Path, tmp_path: Path, watched: Watched) -> None:
    run = train(project, tmp_path / "run")
    peak, warmup, steps = (TRAINING[key] for key in ("learning_rate", "warmup", "steps"))
    expected = [
        learning_rate(step, peak=peak, warmup=int(warmup), steps=int(steps), decay="linear")
        for step in range(int(steps))
    ]
    assert watched.rates == expected
    told = {e["step"]: e["learning_rate"] for e in events(run) if e["event"] == "train"}
    assert told == {step: expected[step - 1] for step in told}


def test_gradients_are_clipped(project: Path, tmp_path: Path, watched: Watched) -> None:
    train(project, tmp_path / "free", "training.clip=null")
    free = watched.norms.copy()
    watched.norms.clear()
    train(project, tmp_path / "clipped", "training.clip=0.05")
    assert max(free) > 0.2
    assert max(watched.norms) == pytest.approx(0.05, rel=1e-3)


def test_accumulated_batches_make_one_step(project: Path, tmp_path: Path, watched: Watched) -> None:
    run = train(project, tmp_path / "run", "training.accumulate=3")
    steps = int(TRAINING["steps"])
    assert len(watched.batches) == 3 * steps
    assert len(watched.rates) == steps == state(run)["step"]


def test_accumulated_gradients_are_those_of_the_mean_loss(tmp_path: Path, watched: Watched) -> None:
    recipe = write_project(tmp_path, ("topic",), {"head_dropout": 0.0, "clip": None})
    one = ("training.steps=1", "training.warmup=0")
    train(recipe, tmp_path / "one", *one, "training.batch_size=24")
    train(recipe, tmp_path / "six", *one, "training.batch_size=4", "training.accumulate=6")
    assert watched.norms[1] == pytest.approx(watched.norms[0], rel=1e-3)


def test_each_batch_is_of_one_cell(project: Path, tmp_path: Path, watched: Watched) -> None:
    train(project, tmp_path / "run", "training.steps=40")
    trainer = watched.trainers[0]
    assert {cell for batch in watched.batches for cell in batch.cells} == set(trainer.rows)
    for batch in watched.batches:
        (cell,) = set(batch.cells)
        rows = trainer.rows[cell]
        longest = max(len(rows[index]["input_ids"]) for index in batch.rows)
        assert batch.input_ids.shape == (len(batch.rows), longest)


MIXED = ("training.batching=mixed", "training.batch_size=8")


def test_mixed_batches_are_of_many_cells(project: Path, tmp_path: Path, watched: Watched) -> None:
    run = train(project, tmp_path / "run", *MIXED)
    kinds = [len(set(batch.cells)) for batch in watched.batches]
    assert len(kinds) == int(TRAINING["steps"])
    assert sum(kinds) / len(kinds) > 2.5
    assert {cell for batch in watched.batches for cell in batch.cells} == set(
        watched.trainers[0].rows
    )
    told = [set(event["loss"]) for event in events(run) if event["event"] == "train"]
    assert told == [{"pos", "ner", "topic", "mlm"}] * 4


def test_mixed_batches_teach(tagging: Path, tmp_path: Path) -> None:
    more = ("training.steps=60", "training.log_every=10", "training.accumulate=2")
    run = train(tagging, tmp_path / "run", *MIXED, *more)
    found = losses(run, "pos")
    assert found[-1] < 0.5 * found[0]


def test_batches_keep_to_a_budget_of_sub_words(
    project: Path, tmp_path: Path, watched: Watched
) -> None:
    for batching in ("mixed", "single"):
        watched.batches.clear()
        budget = (f"training.batching={batching}", "training.tokens=96")
        train(project, tmp_path / batching, *budget)
        sizes = [batch.input_ids.numel() for batch in watched.batches]
        assert max(sizes) <= 96
        assert sum(sizes) / len(sizes) > 60


@pytest.mark.parametrize("method", ["hyperx", "adapters", "head"])
def test_accumulated_gradients_of_mixed_batches_are_those_of_the_rows(
    tmp_path: Path, watched: Watched, method: str
) -> None:
    """A row weighs the same in one great batch and in small ones, whatever stands beside it."""
    train(write_project(tmp_path, ("topic", "nli")), tmp_path / "run", f"method={method}")
    trainer = watched.trainers[0]
    model, (nli, topic) = trainer.model.eval(), sorted(trainer.rows)
    rows = [(nli if row % 3 else topic, row) for row in range(24)]
    gradients = []
    for parts in ([rows], [[row] for row in rows], [rows[:8], rows[8:16], rows[16:]]):
        batches = [make_batch(trainer.rows, part, model.tasks, model.tokenizer) for part in parts]
        model.zero_grad()
        with model.generated_once([nli, topic]):
            for batch in batches:
                (batch_loss(model, batch).total / len(parts)).backward()
        gradients.append({n: p.grad for n, p in trainer.parameters.items() if p.grad is not None})
    for other in gradients[1:]:
        assert other.keys() == gradients[0].keys()
        for name, gradient in other.items():
            torch.testing.assert_close(gradient, gradients[0][name], rtol=1e-3, atol=1e-5)


def test_activations_computed_again_change_nothing(
    project: Path, tmp_path: Path, watched: Watched
) -> None:
    steps = ("training.steps=6", "training.evaluate_every=3", *MIXED)
    plain = train(project, tmp_path / "plain", *steps)
    norms = watched.norms.copy()
    watched.norms.clear()
    again = train(project, tmp_path / "again", *steps, "training.checkpoint_activations=true")
    assert watched.norms == pytest.approx(norms, rel=1e-3)
    for name, tensor in weights(again).items():
        torch.testing.assert_close(tensor, weights(plain)[name], rtol=1e-2, atol=1e-3)


def test_weights_are_generated_once_a_step(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, watched: Watched
) -> None:
    made: list[int] = []
    plain = Generator.forward

    def forward(self: Generator, source: torch.Tensor) -> Any:
        made.append(len(source))
        return plain(self, source)

    monkeypatch.setattr(Generator, "forward", forward)
    more = ("training.accumulate=3", "training.steps=4", "training.evaluate_every=9")
    monkeypatch.setattr(trainer_module.Trainer, "_evaluate", lambda *_: None)
    train(project, tmp_path / "run", *MIXED, *more)
    cells = [
        {cell for batch in watched.batches[start : start + 3] for cell in batch.cells}
        for start in range(0, 12, 3)
    ]
    assert made == [len(each) for each in cells]


def test_a_task_gets_its_fixed_share_of_the_steps(tmp_path: Path, watched: Watched) -> None:
    recipe = write_project(tmp_path, ("pos", "mlm"), {"steps": 120})
    train(recipe, tmp_path / "run", "tasks.mlm.share=0.75")
    drawn = Counter(task for batch in watched.batches for task in set(batch.tasks))
    assert drawn["mlm"] == pytest.approx(90, abs=3 * math.sqrt(120 * 0.75 * 0.25))


def test_divergence_stops_training_with_a_reason(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(model: Any, batch: Any) -> BatchLoss:
        weight = next(p for p in model.parameters() if p.requires_grad)
        total = weight.sum() * math.nan
        return BatchLoss(total, {batch.tasks[0]: total.detach()})

    monkeypatch.setattr(trainer_module, "batch_loss", broken)
    with pytest.raises(HyperlectError, match="at step 1: training has diverged"):
        train(project, tmp_path / "run")


@pytest.mark.parametrize("clip", ["1.0", "null"])
def test_a_gradient_that_is_not_finite_does_not_reach_the_weights(
    project: Path, tmp_path: Path, watched: Watched, monkeypatch: pytest.MonkeyPatch, clip: str
) -> None:
    plain = trainer_module.batch_loss

    def broken(model: Any, batch: Any) -> BatchLoss:
        loss = plain(model, batch)
        infinite = len(watched.batches) == 3
        return loss._replace(total=loss.total * math.inf) if infinite else loss

    monkeypatch.setattr(trainer_module, "batch_loss", broken)
    with pytest.raises(HyperlectError, match="gradient at step 3 is not finite"):
        train(project, tmp_path / "run", f"training.clip={clip}", "training.save_every=2")
    (trainer,) = watched.trainers
    assert all(bool(p.isfinite().all()) for p in trainer.parameters.values())
    assert state(tmp_path / "run")["step"] == 2


@pytest.fixture
def scores(monkeypatch: pytest.MonkeyPatch) -> list[float | None]:
    """The selection scores of coming evaluations, to be filled in."""
    scripted: list[float | None] = []
    monkeypatch.setattr(trainer_module, "selection_score", lambda _: scripted.pop(0))
    return scripted


def test_the_weights_of_the_best_evaluation_are_kept(
    tagging: Path, tmp_path: Path, scores: list[float | None]
) -> None:
    scores += [3.0, 5.0, 4.0, 5.0]
    run = train(tagging, tmp_path / "run", "training.evaluate_every=3")
    marks = [event["best"] for event in events(run) if event["event"] == "dev"]
    assert marks == [True, True, False, False]
    # What was best after six steps is what a run that ends there would have kept …
    scores += [3.0, 5.0]
    short = ("training.evaluate_every=3", "training.decay=constant")
    scores += [3.0, 5.0, 4.0, 5.0]
    ends = train(tagging, tmp_path / "ends", *short, "training.steps=6")
    goes_on = train(tagging, tmp_path / "goes-on", *short, "training.steps=12")
    assert same(weights(ends), weights(goes_on))


def test_training_stops_where_patience_ends(
    tagging: Path, tmp_path: Path, scores: list[float | None]
) -> None:
    scores += [5.0, 4.0, 5.0, 9.0]
    run = train(tagging, tmp_path / "run", "training.evaluate_every=2", "training.patience=2")
    assert state(run)["step"] == 6
    assert "no better for 2 evaluations" in (run / "log.txt").read_text()
    assert scores == [9.0]


def test_without_a_score_the_last_weights_are_kept(
    tagging: Path, tmp_path: Path, scores: list[float | None], watched: Watched
) -> None:
    scores += [None]
    run = train(tagging, tmp_path / "run")
    trained = {name: p.detach() for name, p in watched.trainers[0].parameters.items()}
    assert same(weights(run), trained)
    assert state(run)["best"] is None


def test_dropout_of_the_frozen_backbone_is_on_only_where_asked_for(
    tagging: Path, tmp_path: Path, watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    modes: list[tuple[bool, bool]] = []
    plain = trainer_module.batch_loss

    def loss(model: HyperX, batch: Any) -> BatchLoss:
        modes.append((model.training, model.backbone.encoder.training))
        return plain(model, batch)

    monkeypatch.setattr(trainer_module, "batch_loss", loss)
    steps = ("training.steps=4", "training.warmup=0", "training.evaluate_every=2")
    train(tagging, tmp_path / "off", *steps)
    assert modes == [(True, False)] * 4
    train(tagging, tmp_path / "on", *steps, "training.backbone_dropout=true")
    assert modes[4:] == [(True, True)] * 4


@pytest.mark.parametrize(("form", "enough"), [("mlp", 70), ("direct", 30)])
def test_trees_are_learnt_beside_tags(form: str, enough: float, tmp_path: Path) -> None:
    recipe = write_project(tmp_path / "project", ("pos", "dep"), parser=form)
    run = train(
        recipe, tmp_path / "run", "training.steps=120", "training.batching=mixed",
        "training.log_every=10", "training.batch_size=8",
    )  # fmt: skip
    found = losses(run, "dep")
    assert found[-1] < 0.5 * found[0]
    dev = [event for event in events(run) if event["event"] == "dev"][-1]
    assert dev["scores"]["dep:eng"] > enough
    model = HyperX.from_pretrained(run)
    assert model.config.parser == form
    (tree,) = model.predict([["Anna", "sees", "the", "cat"]], "dep", "isl")
    assert tree.heads == (0, 1, 1, 1)
    assert tree.labels[0] == "root"
