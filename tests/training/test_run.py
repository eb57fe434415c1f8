"""The run folder."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import hyperlect.training.run as run_module
from hyperlect import HyperX
from hyperlect.errors import DataError, RunError
from hyperlect.grid import Cell
from hyperlect.recipe import load_recipe
from hyperlect.training.monitor import Monitor
from hyperlect.training.trainer import Trainer

from ..project import HYPERNET, go_on, train, write_project
from .runs import events, read, same, weights

EVALUATED = {"evaluate_every": 6}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("project")
    return train(write_project(folder, training=EVALUATED), folder / "run")


def test_a_finished_run_holds_everything(run: Path) -> None:
    assert {path.name for path in run.iterdir()} == {
        "recipe.yaml", "versions.json", "model.json", "model.safetensors", "training.json",
        "embeddings.json", "metrics.jsonl", "log.txt", "tensorboard", "checkpoint",
    }  # fmt: skip


def test_its_recipe_is_the_one_that_was_trained(run: Path) -> None:
    assert load_recipe(run / "recipe.yaml") == load_recipe(run.parent / "recipe.yaml")


def test_metrics_have_the_documented_form(run: Path) -> None:
    trained = [event for event in events(run) if event["event"] == "train"]
    evaluated = [event for event in events(run) if event["event"] == "dev"]
    assert [event["step"] for event in trained] == [3, 6, 9, 12]
    assert [event["step"] for event in evaluated] == [6, 12]
    for event in trained:
        keys = {"event", "step", "loss", "learning_rate", "tokens_per_second", "seconds"}
        assert event.keys() == keys
        assert event["loss"].keys() <= {"pos", "ner", "mlm"}
        assert all(math.isfinite(loss) and loss > 0 for loss in event["loss"].values())
        assert event["tokens_per_second"] > 0
    for event in evaluated:
        assert event.keys() == {"event", "step", "scores", "selection", "best"}
        assert event["scores"].keys() == {"pos:eng", "ner:eng", "mlm:fao"}
        # Perplexity has no part in what is best; the tasks count alike.
        mean = (event["scores"]["pos:eng"] + event["scores"]["ner:eng"]) / 2
        assert event["selection"] == pytest.approx(mean, abs=0.002)


def test_tensorboard_has_the_numbers_of_the_metrics(run: Path) -> None:
    board = EventAccumulator(str(run / "tensorboard")).Reload()
    for task in ("pos", "ner", "mlm"):
        told = {e["step"]: e["loss"][task] for e in events(run) if task in e.get("loss", ())}
        found = {event.step: event.value for event in board.Scalars(f"loss/{task}")}
        assert found == pytest.approx(told)
    assert [event.step for event in board.Scalars("dev/pos:eng")] == [6, 12]


def test_embeddings_are_those_of_the_model_with_their_kind(run: Path) -> None:
    found = read(run / "embeddings.json")
    names, vectors = HyperX.from_pretrained(run).language_vectors()
    assert found["languages"] == names == ["eng", "fao", "isl"]
    assert torch.equal(torch.tensor(found["vectors"]), vectors)
    assert vectors.shape == (3, HYPERNET["embedding"])
    assert found["kinds"] == {"eng": "labelled", "fao": "text only", "isl": "labelled"}


def test_training_tells_steps_time_and_best_score(run: Path) -> None:
    found = read(run / "training.json")
    selections = [event["selection"] for event in events(run) if event["event"] == "dev"]
    assert found["steps"] == 12
    assert found["best"] == max(selections)
    assert isinstance(found["seconds"], float)
    assert found["seconds"] > 0


def test_the_model_holds_no_backbone_weights(run: Path) -> None:
    assert {name.split(".")[0] for name in weights(run)} == {"adapters", "heads"}


@pytest.mark.parametrize(
    "method", ["task-hypernet", "adapters", "mad-x", "finetune", "factorised", "head"]
)
def test_baselines_have_no_language_vectors(run: Path, tmp_path: Path, method: str) -> None:
    other = train(run.parent / "recipe.yaml", tmp_path / "run", f"method={method}")
    assert not (other / "embeddings.json").exists()
    assert HyperX.from_pretrained(other).config.method == method


@pytest.mark.parametrize("family", ["xlm-roberta", "modernbert"])
def test_other_families_train_too(tmp_path: Path, family: str) -> None:
    recipe = write_project(tmp_path, ("pos", "mlm"), family=family)
    other = train(recipe, tmp_path / "run")
    assert (other / "model.safetensors").is_file()


def test_faulty_data_is_told_of_before_a_folder_is_made(tmp_path: Path) -> None:
    recipe = write_project(tmp_path, ("pos",))
    (tmp_path / "pos.isl.test").write_text("the\tARTICLE\n")
    with pytest.raises(DataError, match=r"pos\.isl\.test:1.*ARTICLE"):
        train(recipe, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_partial_overlap_with_evaluation_data_is_told_of(tmp_path: Path) -> None:
    recipe = write_project(tmp_path, ("pos",))
    train_file, test_file = tmp_path / "pos.eng.train", tmp_path / "pos.eng.test"
    first = test_file.read_text().split("\n\n")[0]
    train_file.write_text(f"{train_file.read_text()}\n{first}\n")
    log = train(recipe, tmp_path / "run") / "log.txt"
    assert f"1 of 8 examples of {test_file} are in the training data: {train_file} (1)" in (
        log.read_text()
    )


@pytest.mark.parametrize(("precision", "attention"), [("fp32", "sdpa"), ("bf16", "eager")])
def test_the_fused_attention_is_for_fp32_on_a_cpu(
    precision: str, attention: str, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []

    def step(trainer: Trainer, monitor: Monitor) -> None:
        seen.append(trainer.model.backbone.encoder.config._attn_implementation)
        original(trainer, monitor)

    original = Trainer._step
    monkeypatch.setattr(Trainer, "_step", step)
    recipe = run.parent / "recipe.yaml"
    train(recipe, tmp_path / "run", f"training.precision={precision}", "training.steps=4")
    assert set(seen) == {attention}


@pytest.mark.parametrize("again", ["true", "false"])
def test_kept_casts_change_nothing(
    again: str, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where activations are computed again, that happens without them."""
    checkpointed = f"training.checkpoint_activations={again}"
    changes = ("training.precision=bf16", "training.steps=4", checkpointed)
    kept = train(run.parent / "recipe.yaml", tmp_path / "kept", *changes)
    monkeypatch.setattr("hyperlect.training.trainer.KeptCasts", nullcontext)
    plain = train(run.parent / "recipe.yaml", tmp_path / "plain", *changes)
    for name, tensor in weights(plain).items():
        assert torch.equal(tensor, weights(kept)[name]), name


def test_a_run_that_starts_from_another(tmp_path: Path) -> None:
    """A few sentences of a new language, after training in others and on other tasks."""
    recipe = write_project(tmp_path)
    assert "fao" in (tmp_path / "recipe.yaml").read_text()
    base = train(recipe, tmp_path / "base", "few_shot={cells: [pos:isl], examples: 0}")
    few = "few_shot={cells: [pos:isl], examples: 5, alone: true}"
    going_on = (few, "only_tasks=[pos]", "training.select_by=all", f"start_from={base}")
    one_step = ("training.steps=1", "training.warmup=0", "training.learning_rate=1e-12")
    run = train(recipe, tmp_path / "run", *going_on, *one_step)
    before, after = HyperX.from_pretrained(base), HyperX.from_pretrained(run)
    assert before.languages == ["eng", "fao"]
    assert after.languages == ["eng", "fao", "isl"]
    for language in ("eng", "fao", "isl"):
        old, new = (model.adapter_weights("pos", language) for model in (before, after))
        torch.testing.assert_close(new.up_weight, old.up_weight)
    assert str(after.grid.kind(Cell("pos", "eng"))) == "supervised"
    log = (run / "log.txt").read_text()
    assert f"started from {base}: " in log
    assert "new: the language isl, at the mean of the trained languages" in log
    assert "left behind, so not in this run: the task ner, mlm" in log
    assert read(run / "embeddings.json")["kinds"]["fao"] == "text only"
    assert load_recipe(run / "recipe.yaml").start_from == str(base)


def test_a_run_that_was_started_from_another_is_resumed(tmp_path: Path) -> None:
    recipe = write_project(tmp_path, ("pos",))
    base = train(recipe, tmp_path / "base")
    whole = train(recipe, tmp_path / "whole", "start_from=base")
    assert not same(weights(whole), weights(base))
    part = train(recipe, tmp_path / "part", "start_from=base", "training.save_every=5")
    assert same(weights(go_on(part)), weights(whole))


def test_a_run_that_does_not_fit_is_refused_before_a_folder_is_made(tmp_path: Path) -> None:
    recipe = write_project(tmp_path, ("pos",))
    base = train(recipe, tmp_path / "base", "training.steps=3")
    with pytest.raises(RunError, match="its method is hyperx, here it is adapters"):
        train(recipe, tmp_path / "run", f"start_from={base}", "method=adapters")
    assert not (tmp_path / "run").exists()


def test_evaluation_data_must_not_be_what_an_earlier_run_was_trained_on(tmp_path: Path) -> None:
    recipe = write_project(tmp_path, ("pos",), training={"steps": 3, "warmup": 0})
    base = train(recipe, tmp_path / "base")
    few = "few_shot={cells: [pos:isl], examples: 9}"
    middle = train(recipe, tmp_path / "middle", f"start_from={base}", few)
    trained_on = ("data.0.cells.dan.test=pos.isl.train", "data.0.cells.isl.train=[]")
    assert train(recipe, tmp_path / "run", *trained_on)
    with pytest.raises(DataError, match=r"pos\.isl\.train"):
        train(recipe, tmp_path / "other", *trained_on, f"start_from={middle}")
    (tmp_path / "pos.isl.train").rename(tmp_path / "moved")
    moved = ("data.0.cells.dan.test=moved", "data.0.cells.isl.train=[]", f"start_from={middle}")
    log = (train(recipe, tmp_path / "other", *moved) / "log.txt").read_text()
    assert "was not checked, for want of the data: pos:isl of tiny" in log


def test_going_on_from_a_model_without_a_recipe_is_told(tmp_path: Path) -> None:
    recipe = write_project(tmp_path, ("pos",), training={"steps": 3, "warmup": 0})
    base = train(recipe, tmp_path / "base")
    (base / "recipe.yaml").unlink()
    log = (train(recipe, tmp_path / "run", f"start_from={base}") / "log.txt").read_text()
    assert f"was not checked, for want of the data: all that {base} was trained on" in log


def test_cells_of_the_run_before_are_of_their_kind_in_the_selection(tmp_path: Path) -> None:
    """Else what was trained before, and may be forgotten, would have no say."""
    recipe = write_project(tmp_path, ("pos",), training={"steps": 3, "warmup": 0})
    base = train(recipe, tmp_path / "base", "few_shot={cells: [pos:isl], examples: 0}")
    few = "few_shot={cells: [pos:isl], examples: 5, alone: true}"
    run = train(recipe, tmp_path / "run", f"start_from={base}", few)
    scores, selection = selected(run)
    assert scores.keys() >= {"pos:eng"}
    assert selection == pytest.approx(scores["pos:eng"], abs=0.01)
    refused = ("training.select_by=unseen language", f"start_from={base}", few)
    with pytest.raises(RunError, match='no cell of kind "unseen language" has dev files'):
        train(recipe, tmp_path / "other", *refused)
    assert not (tmp_path / "other").exists()


def selected(run: Path) -> tuple[dict[str, float], float]:
    """The scores of the last evaluation in training, and what selects by them."""
    (event,) = (event for event in events(run) if event["event"] == "dev")
    return event["scores"], event["selection"]


def test_what_says_that_a_run_is_trained_is_written_last(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[str] = []

    def noting(original: Callable[[Path, Any], None]) -> Callable[[Path, Any], None]:
        def note(path: Path, content: Any) -> None:
            written.append(path.name)
            original(path, content)

        return note

    for name in ("write_whole", "write_json"):
        monkeypatch.setattr(run_module, name, noting(getattr(run_module, name)))
    train(run.parent / "recipe.yaml", tmp_path / "run", "training.steps=2", "training.warmup=0")
    assert written == ["recipe.yaml", "versions.json", "embeddings.json", "training.json"]
