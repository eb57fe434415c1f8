"""The training loop: it learns, it keeps the backbone, and it stops when it is asked to."""

from __future__ import annotations

import math
import signal
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import hyperlect.training.trainer as trainer_module
from hyperlect import HyperX
from hyperlect.backbone import load_backbone
from hyperlect.errors import HyperlectError
from hyperlect.evaluation import Trust
from hyperlect.hypernet.generator import Generator
from hyperlect.training import StopRequest, make_accelerator
from hyperlect.training.schedule import learning_rate
from hyperlect.training.trainer import any_process

from ..project import TRAINING, train, write_project
from .conftest import Watched
from .runs import events, read, same, state, weights


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("project")
    return write_project(folder, ("pos", "ner", "topic", "mlm"))


@pytest.fixture(scope="module")
def tagging(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_project(tmp_path_factory.mktemp("tagging"), ("pos",))


def losses(run: Path, task: str) -> list[float]:
    return [e["loss"][task] for e in events(run) if e["event"] == "train" and task in e["loss"]]


def test_the_loss_falls_and_the_task_is_learnt(tagging: Path, tmp_path: Path) -> None:
    run = train(tagging, tmp_path / "run", "training.steps=100", "training.log_every=10")
    of_pos = losses(run, "pos")
    assert of_pos[-1] < 0.5 * of_pos[0]
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
def test_the_backbone_does_not_change_by_a_bit(
    project: Path, tmp_path: Path, watched: Watched, method: str
) -> None:
    train(project, tmp_path / "run", f"method={method}", "training.backbone_dropout=true")
    before = load_backbone(str(project.parent / "backbone")).encoder.state_dict()
    after = watched.trainers[0].model.backbone.encoder.state_dict()
    assert same(dict(before), dict(after))


def test_its_layer_norms_alone_are_trained_on_request(
    project: Path, tmp_path: Path, watched: Watched
) -> None:
    run = train(project, tmp_path / "run", "training.train_layer_norms=true")
    before = load_backbone(str(project.parent / "backbone")).encoder.state_dict()
    after = watched.trainers[0].model.backbone.encoder.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {name for name in before if "LayerNorm" in name}
    loaded = HyperX.from_pretrained(run).backbone.encoder.state_dict()
    assert same(dict(after), dict(loaded))


def test_every_parameter_of_the_hypernetwork_has_a_gradient_in_every_step(
    project: Path, tmp_path: Path, watched: Watched
) -> None:
    # At a higher rate the few units of such small adapters may all die.
    train(project, tmp_path / "run", "training.learning_rate=1e-5", "hypernet.bottleneck=16")
    adapters = {name for name in watched.trainers[0].parameters if name.startswith("adapters.")}
    assert adapters
    for batch, names in zip(watched.batches, watched.gradients, strict=True):
        assert adapters <= names
        # Of the heads, those of the batch's tasks.
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
    logged = {e["step"]: e["learning_rate"] for e in events(run) if e["event"] == "train"}
    assert logged == {step: expected[step - 1] for step in logged}


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


@pytest.mark.parametrize(("task", "batches"), [("topic", 6), ("ner", 7), ("dep", 6)])
def test_accumulated_gradients_are_those_of_one_large_batch(
    tmp_path: Path, watched: Watched, task: str, batches: int
) -> None:
    """Of one epoch, whose longest sentence has 70 words and the others 5 to 9."""
    recipe = write_project(tmp_path, (task,), {"head_dropout": 0.0, "clip": None})
    one = ("training.steps=1", "training.warmup=0")
    train(recipe, tmp_path / "one", *one, "training.batch_size=60")
    train(recipe, tmp_path / "many", *one, f"training.accumulate={batches}")
    whole, *small = watched.batches
    assert len(small) == batches
    assert whole.tasks[task].units == sum(batch.tasks[task].units for batch in small)
    assert watched.norms[1] == pytest.approx(watched.norms[0], rel=1e-3)


def test_each_batch_is_of_one_cell(project: Path, tmp_path: Path, watched: Watched) -> None:
    train(project, tmp_path / "run", "training.steps=40")
    trainer = watched.trainers[0]
    assert {cell for batch in watched.batches for cell in batch.cells} == set(trainer.rows)
    for batch in watched.batches:
        (cell,) = set(batch.cells)
        rows = trainer.rows[cell]
        longest = max(len(rows[index]["input_ids"]) for index in batch.indices)
        assert batch.input_ids.shape == (len(batch.indices), longest)


MIXED = ("training.batching=mixed", "training.batch_size=8")


def test_mixed_batches_are_of_many_cells(project: Path, tmp_path: Path, watched: Watched) -> None:
    run = train(project, tmp_path / "run", *MIXED)
    kinds = [len(set(batch.cells)) for batch in watched.batches]
    assert len(kinds) == int(TRAINING["steps"])
    assert sum(kinds) / len(kinds) > 2.5
    assert {cell for batch in watched.batches for cell in batch.cells} == set(
        watched.trainers[0].rows
    )
    logged = [set(event["loss"]) for event in events(run) if event["event"] == "train"]
    assert logged == [{"pos", "ner", "topic", "mlm"}] * 4


def test_mixed_batches_teach_too(tagging: Path, tmp_path: Path) -> None:
    more = ("training.steps=60", "training.log_every=10", "training.accumulate=2")
    run = train(tagging, tmp_path / "run", *MIXED, *more)
    of_pos = losses(run, "pos")
    assert of_pos[-1] < 0.5 * of_pos[0]


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


def test_recomputed_activations_change_nothing(
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


def without_evaluation(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither in training nor at its end."""
    monkeypatch.setattr(trainer_module.Trainer, "_evaluate", lambda *_: None)
    monkeypatch.setattr("hyperlect.training.run.measure_trust", lambda *_: Trust())


def test_weights_are_generated_once_for_each_step(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, watched: Watched
) -> None:
    generated: list[int] = []
    plain = Generator.forward

    def forward(self: Generator, source: torch.Tensor) -> Any:
        generated.append(len(source))
        return plain(self, source)

    monkeypatch.setattr(Generator, "forward", forward)
    more = ("training.accumulate=3", "training.steps=4", "training.evaluate_every=9")
    without_evaluation(monkeypatch)
    train(project, tmp_path / "run", *MIXED, *more)
    cells = [
        {cell for batch in watched.batches[start : start + 3] for cell in batch.cells}
        for start in range(0, 12, 3)
    ]
    assert generated == [len(each) for each in cells]


def test_a_task_gets_its_fixed_share_of_the_steps(tmp_path: Path, watched: Watched) -> None:
    recipe = write_project(tmp_path, ("pos", "mlm"), {"steps": 120})
    train(recipe, tmp_path / "run", "tasks.mlm.share=0.75")
    drawn = Counter(task for batch in watched.batches for task in batch.tasks)
    assert drawn["mlm"] == pytest.approx(90, abs=3 * math.sqrt(120 * 0.75 * 0.25))


@pytest.mark.parametrize("accumulate", [1, 2])
def test_in_bf16_the_generator_computes_and_learns_in_fp32(
    project: Path, tmp_path: Path, watched: Watched, monkeypatch: pytest.MonkeyPatch,
    accumulate: int,
) -> None:  # fmt: skip
    """Else weights and gradients would depend on the number of micro-batches."""
    autocast: list[bool] = []
    dtypes: set[torch.dtype] = set()
    plain = Generator.forward

    def forward(self: Generator, source: Tensor) -> Any:
        autocast.append(torch.is_autocast_enabled("cpu"))
        source.register_hook(lambda _: autocast.append(torch.is_autocast_enabled("cpu")))
        weights = plain(self, source)
        dtypes.update(tensor.dtype for _, tensor in weights.items())
        return weights

    monkeypatch.setattr(Generator, "forward", forward)
    without_evaluation(monkeypatch)
    changes = ("training.precision=bf16", "training.steps=3", f"training.accumulate={accumulate}")
    train(project, tmp_path / "run", *changes)
    assert len(autocast) == 6
    assert not any(autocast)
    assert dtypes == {torch.float32}


def broken(factor: float, at: int, watched: Watched) -> Any:
    """Spoil the loss, or its gradient alone, of one step."""
    batch_losses = trainer_module.batch_losses

    def spoil(model: Any, batch: Any, weights: Any) -> Any:
        losses, total = batch_losses(model, batch, weights)
        if len(watched.batches) != at:
            return losses, total
        if math.isnan(factor):
            losses = {task: loss * factor for task, loss in losses.items()}
        return losses, total * factor

    return spoil


def test_divergence_ends_training_with_cell_examples_and_the_way_back(
    project: Path, tmp_path: Path, watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer_module, "batch_losses", broken(math.nan, 3, watched))
    run = tmp_path / "run"
    with pytest.raises(HyperlectError, match=r"at step 3\b.*nan.*training\.learning_rate") as error:
        train(project, run, "training.save_every=2")
    batch = watched.batches[2]
    (cell,) = set(batch.cells)
    (trainer,) = watched.trainers
    examples = {trainer.rows[cell][index]["example"] + 1 for index in batch.indices}
    listed = ", ".join(map(str, sorted(examples)))
    assert f"the loss of {cell} is nan (its batch: examples {cell} {listed})" in str(error.value)
    assert str(run / "checkpoint" / "000000002.safetensors") in str(error.value)
    assert f"hyperlect train --resume {run}" in str(error.value)


def test_steps_that_are_not_finite_are_skipped_and_counted_if_the_recipe_says_so(
    project: Path, tmp_path: Path, watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer_module, "batch_losses", broken(math.nan, 3, watched))
    run = train(project, tmp_path / "run", "training.not_finite=skip", "training.log_every=1")
    assert len(watched.batches) == TRAINING["steps"]
    assert len(watched.rates) == TRAINING["steps"] - 1  # steps of the optimiser
    assert state(run)["skipped"] == 1
    assert all(bool(tensor.isfinite().all()) for tensor in weights(run).values())
    log = (run / "log.txt").read_text()
    assert "step 3 skipped: the loss of" in log
    (warning,) = [w for w in read(run / "training.json")["warnings"] if "skipped" in w]
    assert f"warning: {warning}" in log


def test_cells_that_never_trained_are_warned_of(project: Path, tmp_path: Path) -> None:
    run = train(project, tmp_path / "run", "training.steps=1", "training.warmup=0")
    training = read(run / "training.json")
    (drawn,) = training["examples"]
    (warning,) = [w for w in training["warnings"] if "never trained" in w]
    idle = {"pos:eng", "pos:isl", "ner:eng", "topic:eng", "mlm:fao"} - {drawn}
    assert all(cell in warning for cell in idle)
    assert drawn not in warning
    assert warning in (run / "log.txt").read_text()


def test_parts_without_a_gradient_are_warned_of(
    tagging: Path, tmp_path: Path, watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_evaluation(monkeypatch)
    whole = read(train(tagging, tmp_path / "whole") / "training.json")
    assert not [w for w in whole["warnings"] if "gradient" in w]
    name = next(name for name in weights(tmp_path / "whole") if name.startswith("adapters."))
    sum_gradients = trainer_module.sum_gradients

    def lose(*arguments: Any) -> None:
        sum_gradients(*arguments)
        watched.trainers[-1].parameters[name].grad = None

    monkeypatch.setattr(trainer_module, "sum_gradients", lose)
    run = train(tagging, tmp_path / "run")
    (warning,) = [w for w in read(run / "training.json")["warnings"] if "gradient" in w]
    assert warning.endswith(f": {name}")
    assert warning in (run / "log.txt").read_text()


def test_a_task_that_answers_always_the_same_is_warned_of(project: Path, tmp_path: Path) -> None:
    run = train(project, tmp_path / "run", "training.learning_rate=1e-9")
    warned = {w.split(":")[0] for w in read(run / "training.json")["warnings"] if "constant" in w}
    assert "pos" in warned
    learnt = ("training.steps=60", "only_tasks=[pos]")
    warnings = read(train(project, tmp_path / "learnt", *learnt) / "training.json")["warnings"]
    assert not [w for w in warnings if "constant" in w]


@pytest.mark.parametrize("clip", ["1.0", "null"])
def test_a_gradient_that_is_not_finite_does_not_reach_the_weights(
    project: Path, tmp_path: Path, watched: Watched, monkeypatch: pytest.MonkeyPatch, clip: str
) -> None:
    monkeypatch.setattr(trainer_module, "batch_losses", broken(math.inf, 3, watched))
    with pytest.raises(HyperlectError, match=r"at step 3\b.*gradient"):
        train(project, tmp_path / "run", f"training.clip={clip}", "training.save_every=2")
    (trainer,) = watched.trainers
    assert all(bool(p.isfinite().all()) for p in trainer.parameters.values())
    assert state(tmp_path / "run")["step"] == 2


@pytest.fixture
def scores(monkeypatch: pytest.MonkeyPatch) -> list[float | None]:
    """The selection scores of the evaluations to come, which a test fills in."""
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
    # A run that ends after the best six steps keeps the same weights.
    scores += [3.0, 5.0]
    short = ("training.evaluate_every=3", "training.decay=constant")
    scores += [3.0, 5.0, 4.0, 5.0]
    ends = train(tagging, tmp_path / "ends", *short, "training.steps=6")
    continues = train(tagging, tmp_path / "continues", *short, "training.steps=12")
    assert same(weights(ends), weights(continues))


def test_training_stops_when_patience_ends(
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


def test_dropout_of_the_frozen_backbone_is_on_only_on_request(
    tagging: Path, tmp_path: Path, watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    modes: list[tuple[bool, bool]] = []
    batch_losses = trainer_module.batch_losses

    def note(model: HyperX, *rest: Any) -> Any:
        modes.append((model.training, model.backbone.encoder.training))
        return batch_losses(model, *rest)

    monkeypatch.setattr(trainer_module, "batch_losses", note)
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
    of_dep = losses(run, "dep")
    assert of_dep[-1] < 0.5 * of_dep[0]
    dev = [event for event in events(run) if event["event"] == "dev"][-1]
    assert dev["scores"]["dep:eng"] > enough
    model = HyperX.from_pretrained(run)
    assert model.config.parser == form
    (tree,) = model.predict([["Anna", "sees", "the", "cat"]], "dep", "isl")
    assert tree.heads == (0, 1, 1, 1)
    assert tree.labels[0] == "root"


# --- signals


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_asks_to_stop_and_handlers_are_restored(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    accelerator = make_accelerator("cpu")
    with StopRequest() as stop:
        assert not any_process(stop.asked, accelerator)
        signal.raise_signal(number)
        assert any_process(stop.asked, accelerator)
    assert signal.getsignal(number) is before


def test_a_second_interrupt_acts_at_once() -> None:
    with StopRequest():
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_sigterm_never_acts_at_once() -> None:
    with StopRequest() as stop:
        for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGINT, signal.SIGTERM):
            signal.raise_signal(number)
        assert stop.asked


def test_handlers_are_restored_after_an_error() -> None:
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(ValueError, match="broken"), StopRequest():
        raise ValueError("broken")
    assert signal.getsignal(signal.SIGINT) is before


def test_outside_the_main_thread_nothing_is_caught() -> None:
    errors: list[BaseException] = []

    def work() -> None:
        try:
            with StopRequest() as stop:
                assert not stop.asked
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert not errors
