"""A run: its folder, what it starts from, and where it is computed."""

from __future__ import annotations

import json
import math
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import hyperlect.training.run as run_module
from hyperlect import HyperX
from hyperlect.backbone import Backbone
from hyperlect.errors import DataError, HyperlectError, Interrupted, RunError, UnknownNameError
from hyperlect.evaluation import Trust, evaluate_run
from hyperlect.grid import Cell
from hyperlect.hardware import versions
from hyperlect.recipe import load_recipe
from hyperlect.run_folder import write_json
from hyperlect.training import TRACED, make_accelerator, rerun, start
from hyperlect.training.run import choose_precision

from ..project import HYPERNET, TRAINING, go_on, silent, train, write_project
from .conftest import Watched
from .runs import events, read, same, weights

EVALUATED = {"evaluate_every": 6}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("project")
    return train(write_project(folder, training=EVALUATED), folder / "run")


def test_a_finished_run_has_all_of_its_files(run: Path) -> None:
    assert {path.name for path in run.iterdir()} == {
        "recipe.yaml", "versions.json", "model.json", "model.safetensors", "training.json",
        "embeddings.json", "trust.json", "metrics.jsonl", "log.txt", "tensorboard", "checkpoint",
    }  # fmt: skip


def test_the_recipe_of_a_run_is_the_one_that_was_trained(run: Path) -> None:
    assert load_recipe(run / "recipe.yaml") == load_recipe(run.parent / "recipe.yaml")
    assert str(run.parent) not in (run / "recipe.yaml").read_text()


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
        # Perplexity does not count here; the tasks count equally.
        mean = (event["scores"]["pos:eng"] + event["scores"]["ner:eng"]) / 2
        assert event["selection"] == pytest.approx(mean, abs=0.002)


def test_tensorboard_has_the_numbers_of_the_metrics(run: Path) -> None:
    board = EventAccumulator(str(run / "tensorboard")).Reload()
    for task in ("pos", "ner", "mlm"):
        logged = {e["step"]: e["loss"][task] for e in events(run) if task in e.get("loss", ())}
        shown = {event.step: event.value for event in board.Scalars(f"loss/{task}")}
        assert shown == pytest.approx(logged)
    assert [event.step for event in board.Scalars("dev/pos:eng")] == [6, 12]


def test_embeddings_are_those_of_the_model_with_their_kind(run: Path) -> None:
    kept = read(run / "embeddings.json")
    names, vectors = HyperX.from_pretrained(run).language_vectors()
    assert kept["languages"] == names == ["eng", "fao", "isl"]
    assert torch.equal(torch.tensor(kept["vectors"]), vectors)
    assert vectors.shape == (3, HYPERNET["embedding"])
    assert kept["kinds"] == {"eng": "labelled", "fao": "text only", "isl": "labelled"}


def test_trust_rests_on_dev_cells_and_training_languages(run: Path) -> None:
    kept = Trust.read(run)
    assert [(anchor.task, anchor.language) for anchor in kept.anchors] == [
        ("pos", "eng"), ("ner", "eng"),
    ]  # fmt: skip
    assert set(kept.pieces.frequent) == {"eng", "isl", "fao"}
    model = HyperX.from_pretrained(run)
    assert all(0 < share <= 1 for share in kept.pieces.covered.values())
    assert max(map(max, kept.pieces.frequent.values())) < len(model.tokenizer)


def test_the_summary_has_steps_time_best_score_and_size(run: Path) -> None:
    summary = read(run / "training.json")
    selections = [event["selection"] for event in events(run) if event["event"] == "dev"]
    assert summary["steps"] == 12
    assert summary["best"] == max(selections)
    assert isinstance(summary["seconds"], float)
    assert summary["seconds"] > 0
    assert summary["trained_parameters"] == sum(tensor.numel() for tensor in weights(run).values())


def test_the_model_holds_no_backbone_weights(run: Path) -> None:
    assert {name.split(".")[0] for name in weights(run)} == {"adapters", "heads"}


@pytest.mark.parametrize(
    "method", ["task-hypernet", "adapters", "mad-x", "finetune", "factorised", "head"]
)
def test_baselines_have_no_language_vectors(run: Path, tmp_path: Path, method: str) -> None:
    other = train(run.parent / "recipe.yaml", tmp_path / "run", f"method={method}")
    assert not (other / "embeddings.json").exists()
    assert HyperX.from_pretrained(other).config.method == method


@pytest.mark.parametrize("family", ["bert", "deberta-v2"])
def test_lora_trains_in_mixed_batches_and_is_evaluated(tmp_path: Path, family: str) -> None:
    recipe = write_project(tmp_path, family=family)
    options = ("hypernet.adapter=lora", "hypernet.lora_rank=2", "training.batching=mixed")
    other = train(recipe, tmp_path / "run", *options)
    model = HyperX.from_pretrained(other)
    weights = model.adapter_weights("ner", "isl")
    assert {name for name, _ in weights.items()} == {"query_a", "query_b", "value_a", "value_b"}
    assert evaluate_run(other, console=silent()).cells


@pytest.mark.parametrize("family", ["xlm-roberta", "modernbert"])
def test_other_families_train_too(tmp_path: Path, family: str) -> None:
    recipe = write_project(tmp_path, ("pos", "mlm"), family=family)
    other = train(recipe, tmp_path / "run")
    assert (other / "model.safetensors").is_file()


def test_malformed_data_is_reported_before_a_folder_is_made(tmp_path: Path) -> None:
    recipe = write_project(tmp_path, ("pos",))
    (tmp_path / "pos.isl.test").write_text("the\tARTICLE\n")
    with pytest.raises(DataError, match=r"pos\.isl\.test:1.*ARTICLE"):
        train(recipe, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_partial_overlap_with_evaluation_data_is_logged(tmp_path: Path) -> None:
    recipe = write_project(tmp_path, ("pos",))
    train_file, test_file = tmp_path / "pos.eng.train", tmp_path / "pos.eng.test"
    first = test_file.read_text().split("\n\n")[0]
    train_file.write_text(f"{train_file.read_text()}\n{first}\n")
    log = (train(recipe, tmp_path / "run") / "log.txt").read_text()
    (line,) = (line for line in log.splitlines() if str(test_file) in line)
    assert "1 of 8" in line
    assert str(train_file) in line


@pytest.mark.parametrize(("precision", "attention"), [("fp32", "sdpa"), ("bf16", "eager")])
def test_on_a_cpu_the_fused_attention_is_for_fp32_only(
    precision: str, attention: str, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []

    def forward(backbone: Backbone, *arguments: Any, **options: Any) -> Any:
        if torch.is_grad_enabled():  # not in evaluations, which have a precision of their own
            seen.append(backbone.encoder.config._attn_implementation)
        return original(backbone, *arguments, **options)

    original = Backbone.forward
    monkeypatch.setattr(Backbone, "forward", forward)
    recipe = run.parent / "recipe.yaml"
    train(recipe, tmp_path / "run", f"training.precision={precision}", "training.steps=4")
    assert set(seen) == {attention}


@pytest.mark.parametrize("recompute", ["true", "false"])
def test_copies_of_the_encoder_in_bf16_change_nothing(
    recompute: str, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even if activations are recomputed in the backward pass."""
    checkpointed = f"training.checkpoint_activations={recompute}"
    changes = ("training.precision=bf16", "training.steps=4", checkpointed)
    copied = train(run.parent / "recipe.yaml", tmp_path / "copied", *changes)
    monkeypatch.setattr("hyperlect.backbone.Backbone._frozen_matrices", lambda _: iter(()))
    plain = train(run.parent / "recipe.yaml", tmp_path / "plain", *changes)
    assert same(weights(plain), weights(copied))


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
    assert "not kept in this run: the task ner, mlm" in log
    assert read(run / "embeddings.json")["kinds"]["fao"] == "text only"
    assert load_recipe(run / "recipe.yaml").start_from == str(base)


def test_a_run_that_started_from_another_is_resumed(tmp_path: Path) -> None:
    recipe = write_project(tmp_path, ("pos",))
    base = train(recipe, tmp_path / "base")
    whole = train(recipe, tmp_path / "whole", "start_from=base")
    assert not same(weights(whole), weights(base))
    again = train(recipe, tmp_path / "again", "start_from=base", "training.save_every=5")
    assert same(weights(go_on(again)), weights(whole))


def test_a_run_that_does_not_fit_is_refused_before_a_folder_is_made(tmp_path: Path) -> None:
    recipe = write_project(tmp_path, ("pos",))
    base = train(recipe, tmp_path / "base", "training.steps=3")
    with pytest.raises(RunError, match="its method is hyperx, here it is adapters"):
        train(recipe, tmp_path / "run", f"start_from={base}", "method=adapters")
    assert not (tmp_path / "run").exists()


def test_data_of_earlier_runs_is_not_evaluated_on(tmp_path: Path) -> None:
    recipe = write_project(tmp_path, ("pos",), training={"steps": 3, "warmup": 0})
    base = train(recipe, tmp_path / "base")
    few = "few_shot={cells: [pos:isl], examples: 9}"
    middle = train(recipe, tmp_path / "middle", f"start_from={base}", few)
    trained_on = ("data.0.cells.dan.test=pos.isl.train", "data.0.cells.isl.train=[]")
    assert train(recipe, tmp_path / "run", *trained_on)
    with pytest.raises(DataError, match=r"pos\.isl\.train"):
        train(recipe, tmp_path / "other", *trained_on, f"start_from={middle}")
    without = train(recipe, tmp_path / "without", trained_on[1], f"start_from={middle}")
    with pytest.raises(DataError, match=r"pos\.isl\.train"):
        evaluate_run(without, files={Cell("pos", "fra"): tmp_path / "pos.isl.train"})
    (tmp_path / "pos.isl.train").rename(tmp_path / "moved")
    moved = ("data.0.cells.dan.test=moved", "data.0.cells.isl.train=[]", f"start_from={middle}")
    log = (train(recipe, tmp_path / "other", *moved) / "log.txt").read_text()
    assert "pos:isl of tiny" in log


def test_a_start_from_a_model_without_a_recipe_is_logged(tmp_path: Path) -> None:
    recipe = write_project(tmp_path, ("pos",), training={"steps": 3, "warmup": 0})
    base = train(recipe, tmp_path / "base")
    (base / "recipe.yaml").unlink()
    log = (train(recipe, tmp_path / "run", f"start_from={base}") / "log.txt").read_text()
    assert f"everything that {base} was trained on" in log


def test_cells_of_the_earlier_run_count_in_the_selection(tmp_path: Path) -> None:
    """Else the model might forget what it was trained on before."""
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


def test_the_summary_is_written_last(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[str] = []

    def noting(original: Callable[[Path, Any], None]) -> Callable[[Path, Any], None]:
        def note(path: Path, content: Any) -> None:
            written.append(path.name)
            original(path, content)

        return note

    for name in ("write_text", "write_json"):
        monkeypatch.setattr(run_module, name, noting(getattr(run_module, name)))
    train(run.parent / "recipe.yaml", tmp_path / "run", "training.steps=2", "training.warmup=0")
    assert written == ["versions.json", "recipe.yaml", "embeddings.json", "training.json"]


# --- where it is computed


def test_versions_are_kept(run: Path) -> None:
    kept = read(run / "versions.json")
    assert kept == versions("cpu", "fp32")


def test_a_run_that_is_resumed_elsewhere_says_so(
    run: Path, tmp_path: Path, watched: Watched
) -> None:
    recipe = write_project(tmp_path)
    moved = tmp_path / "run"
    watched.signals = {step: [signal.SIGINT] for step in (1, 2, 3)}
    with pytest.raises(Interrupted):
        train(recipe, moved, "training.steps=4")
    kept, log = moved / "versions.json", moved / "log.txt"
    here = read(kept)
    other = {"device": "cuda: Some GPU", "precision": "bf16", "platform": "another"}
    write_json(kept, {**here, **other})
    with pytest.raises(Interrupted):
        go_on(moved)
    (line,) = (line for line in log.read_text().splitlines() if "cuda: Some GPU" in line)
    assert here["device"] in line
    assert "bf16" in line
    assert "another" not in line
    assert read(kept) == here
    kept.write_text("{", encoding="utf-8")  # a damaged file does not keep anyone from resuming
    with pytest.raises(Interrupted):
        go_on(moved)
    assert read(kept) == here
    go_on(moved)
    write_json(kept, {**here, "device": "cuda: Some GPU"})
    go_on(moved)  # it is finished: nothing is computed any more
    assert read(kept)["device"] == "cuda: Some GPU"
    assert log.read_text().count("cuda: Some GPU") == 1


def test_versions_do_not_change_if_the_run_cannot_be_resumed(
    tmp_path: Path, watched: Watched
) -> None:
    recipe = write_project(tmp_path)
    watched.signals = {2: [signal.SIGINT]}
    with pytest.raises(Interrupted):
        train(recipe, tmp_path / "run")
    kept = tmp_path / "run" / "versions.json"
    write_json(kept, {"device": "cuda: Some GPU"})
    data = recipe.parent / "pos.eng.train"
    data.write_text(data.read_text(encoding="utf-8") + "\nthe\tDET\n", encoding="utf-8")
    with pytest.raises(RunError, match="training data"):
        go_on(tmp_path / "run")
    assert read(kept) == {"device": "cuda: Some GPU"}


def test_unknown_and_absent_devices_are_refused_before_a_folder_is_made(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = load_recipe(run / "recipe.yaml")
    with pytest.raises(UnknownNameError, match='"tpu"'):
        start(recipe, tmp_path / "run", "tpu", silent())
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(HyperlectError, match='"cuda"'):
        start(recipe, tmp_path / "run", "cuda", silent())
    assert not (tmp_path / "run").exists()


def test_runs_of_one_process_may_differ_in_device_and_precision(run: Path, tmp_path: Path) -> None:
    """accelerate alone would keep those of the first."""
    assert make_accelerator("cpu").device.type == "cpu"
    recipe = run.parent / "recipe.yaml"
    other = train(recipe, tmp_path / "run", "training.precision=bf16", "training.steps=4")
    assert read(other / "versions.json")["precision"] == "bf16"
    assert {tensor.dtype for tensor in weights(other).values()} == {torch.float32}
    assert not same(weights(other), weights(train(recipe, tmp_path / "fp32", "training.steps=4")))


def test_auto_is_bf16_only_on_a_gpu_that_computes_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for supported, expected in ((True, "bf16"), (False, "fp32")):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda value=supported, **_: value)
        assert choose_precision("auto", "cuda") == expected
        assert choose_precision("auto", "cpu") == choose_precision("auto", "mps") == "fp32"
        assert choose_precision("tf32", "cuda") == "tf32"
        assert choose_precision("bf16", "cpu") == "bf16"


# --- training the first steps again


def test_the_first_steps_of_a_run_are_the_same_again(run: Path, tmp_path: Path) -> None:
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    assert rerun(run, 5) == 5
    assert rerun(run, 1000) == min(TRACED, TRAINING["steps"])
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


def test_the_first_steps_are_those_of_the_first_attempt(
    run: Path, tmp_path: Path, watched: Watched
) -> None:
    watched.signals = {4: [signal.SIGINT]}
    with pytest.raises(Interrupted):
        train(run.parent / "recipe.yaml", tmp_path / "run")
    assert rerun(tmp_path / "run", 20) == 4
    go_on(tmp_path / "run")
    assert [e["step"] for e in events(tmp_path / "run") if e["event"] == "start"] == [0, 4]
    assert rerun(tmp_path / "run", 20) == TRAINING["steps"]


def test_deterministic_training_is_the_same_and_runs_again(run: Path, tmp_path: Path) -> None:
    exact = train(run.parent / "recipe.yaml", tmp_path / "run", "training.deterministic=true")
    assert same(weights(exact), weights(run))
    assert rerun(exact, 3) == 3


def test_what_differs_in_the_first_steps_is_named_with_what_may_explain_it(
    run: Path, tmp_path: Path
) -> None:
    """Another learning rate: the first gradient is the same, the weights after it are not."""
    other = Path(shutil.copytree(run, run.parent / "other"))  # the paths of its recipe fit there
    recipe = load_recipe(other / "recipe.yaml", ["training.learning_rate=0.02"])
    lines = [json.loads(line) for line in (other / "metrics.jsonl").read_text().splitlines()]
    lines[0]["versions"] |= {"torch": "1.0"}
    (other / "metrics.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    with pytest.raises(RunError, match=r"torch .*\(before: 1\.0\)") as error:
        rerun(other, 2, recipe=recipe)
    first, *later = error.value.problems
    assert (first.key, "weights" in first.message) == ("step 1", True)
    assert {problem.key for problem in later} == {"step 2"}
    assert any("loss of" in problem.message for problem in later)


def test_changed_data_is_named(tmp_path: Path) -> None:
    recipe = write_project(tmp_path)
    run = train(recipe, tmp_path / "run")
    path = tmp_path / "pos.eng.train"
    path.write_text(path.read_text() + "\nthe\tDET\n")
    with pytest.raises(RunError) as error:
        rerun(run, 1)
    assert "training data" in error.value.problems[0].message


def test_a_run_without_recorded_steps_says_so(run: Path) -> None:
    bare = Path(shutil.copytree(run, run.parent / "bare"))
    (bare / "metrics.jsonl").unlink()
    with pytest.raises(RunError, match="recorded no steps"):
        rerun(bare, 1)
