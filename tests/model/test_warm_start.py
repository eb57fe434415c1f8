"""Starting with the weights of another run: matched by name, or refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from hyperlect.backbone import load_backbone
from hyperlect.errors import RunError
from hyperlect.grid import Cell, Kind
from hyperlect.methods import METHODS
from hyperlect.model import HyperX, HyperXConfig
from hyperlect.model.warm_start import Start, warm_start
from hyperlect.tasks import Task, TaskType
from tests.tiny import HIDDEN, saved_backbone

from .models import MLM, NER, POS, TASKS, TOPIC, padded, tiny_model

NLI = Task("nli", TaskType.PAIRS, ("no", "yes"))
ROWS = "adapters.source.embeddings."


def finished(folder: Path, **settings: Any) -> HyperX:
    """Save a run with trained weights to `folder`/run, on an encoder in `folder`/encoder."""
    model = tiny_model(saved_backbone(folder / "encoder"), **settings)
    model.save_pretrained(folder / "run")
    return model


def fresh(folder: Path, seed: int = 5, **changes: Any) -> HyperX:
    """Return a new model as training makes it, of the run's configuration with changes."""
    start = Start.read(str(folder / "run"))
    config = replace(start.config, **changes)
    torch.manual_seed(seed)
    return HyperX(load_backbone(start.encoder.reference, start.encoder.revision), config).eval()


def started(folder: Path, **changes: Any) -> tuple[HyperX, list[str]]:
    model = fresh(folder, **changes)
    return model, warm_start(model, Start.read(str(folder / "run")))


def scores(model: HyperX, task: str, language: str) -> Tensor:
    with torch.no_grad():
        return model(*padded(model.backbone), task=task, language=language).logits


@pytest.mark.parametrize(
    ("method", "hypernet"), [*((method, {}) for method in METHODS), ("hyperx", {"task_base": True})]
)
def test_shared_tasks_and_languages_are_matched_by_name(
    method: str, hypernet: dict[str, Any], tmp_path: Path
) -> None:
    old = finished(tmp_path, method=method, hypernet=hypernet)
    model, notes = started(
        tmp_path, tasks=(TOPIC, NLI, MLM, POS), languages=("tur", "deu", "isl", "eng")
    )
    for task in ("topic", "mlm", "pos"):
        for language in ("eng", "isl", "tur"):
            assert torch.equal(scores(model, task, language), scores(old, task, language))
    assert notes[0].startswith(f"started from {tmp_path / 'run'}: ")
    assert notes[-1] == "not kept in this run: the task ner"
    assert "heads.nli." in next(line for line in notes if "the task nli, as in a new model" in line)


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_a_new_language_starts_where_it_was_represented_before(
    dropout: float, tmp_path: Path
) -> None:
    old = finished(tmp_path, hypernet={"language_dropout": dropout})
    model, notes = started(tmp_path, languages=("deu", *old.languages))
    for task in old.tasks:
        torch.testing.assert_close(scores(model, task, "deu"), scores(old, task, "deu"))
    assert model.language_source("deu") == "own vector"
    assert f"new: the language deu, at the {old.language_source('deu')}" in notes[1]
    vector = model.own_parameters()[f"{ROWS}language"][0]
    assert vector.any().item() is (dropout == 0)


def test_a_new_task_starts_as_in_a_new_model(tmp_path: Path) -> None:
    finished(tmp_path)
    changes: dict[str, Any] = {"tasks": (*TASKS, NLI)}
    plain, (model, notes) = fresh(tmp_path, **changes), started(tmp_path, **changes)
    started_with, random = model.own_parameters(), plain.own_parameters()
    new = [f"{ROWS}task", *(name for name in random if name.startswith("heads.nli."))]
    assert len(new) == 3
    assert notes[1:] == [f"new: the task nli, as in a new model ({', '.join(new)})"]
    assert torch.equal(started_with[new[0]][-1], random[new[0]][-1])
    assert all(torch.equal(started_with[name], random[name]) for name in new[1:])


def test_layer_norms_start_as_the_backbone_or_the_run_has_them(tmp_path: Path) -> None:
    finished(tmp_path)
    model, notes = started(tmp_path, train_layer_norms=True)
    assert "LayerNorms, as the backbone has them (backbone." in notes[1]
    with torch.no_grad():
        for _, parameter in model.backbone.layer_norms():
            parameter.add_(0.1)
    model.save_pretrained(tmp_path / "run")
    again, _ = started(tmp_path)
    assert torch.equal(scores(again, "pos", "eng"), scores(model, "pos", "eng"))
    with pytest.raises(RunError, match=r"training\.train_layer_norms"):
        started(tmp_path, train_layer_norms=False)


def test_the_kinds_of_cells_follow_from_all_training(tmp_path: Path) -> None:
    old = finished(tmp_path)  # pos:eng, ner:isl, topic:tur and raw text in Turkish
    config = HyperXConfig((POS,), ("deu",), (Cell("pos", "deu"),), hypernet=old.config.hypernet)
    start = Start.read(str(tmp_path / "run"))
    extended = start.extended(config)
    grid = fresh(tmp_path, **vars(extended)).grid
    assert extended.languages == ("deu", "eng", "isl", "tur")
    assert grid.kind(Cell("pos", "eng")) is Kind.SUPERVISED
    assert grid.kind(Cell("pos", "isl")) is Kind.UNSEEN_COMBINATION
    assert grid.text_languages == {"tur"}
    only_text = replace(start.config, trained=(Cell("mlm", "fao"), Cell("pos", "eng")))
    extended = replace(start, config=only_text).extended(config)
    assert fresh(tmp_path, **vars(extended)).grid.kind(Cell("pos", "fao")) is Kind.TEXT_ONLY
    assert HyperXConfig.from_dict(extended.to_dict()) == extended


def test_all_differences_are_named_at_once(tmp_path: Path) -> None:
    old = finished(tmp_path, tied_decoder=True)
    start = Start.read(str(tmp_path / "run"))
    tasks = (
        replace(POS, labels=("DET", "NOUN", "ADJ")),
        replace(NER, labels=("O", "B-LOC", "I-LOC", "B-PER", "I-PER")),
        replace(TOPIC, type=TaskType.PAIRS, labels=("places", "animals")),
        MLM,
    )
    hypernet = replace(old.config.hypernet, bottleneck=8, activation="gelu", embedding_std=3.0)
    config = replace(
        old.config, tasks=tasks, hypernet=hypernet, method="task-hypernet", tied_decoder=False
    )
    with pytest.raises(RunError) as error:
        start.require_fit(("elsewhere", "v2"), config)
    assert str(tmp_path / "run") in str(error.value)
    assert [problem.message for problem in error.value.problems] == [
        f"its backbone is {tmp_path / 'encoder'}, here it is elsewhere@v2",
        "its method is hyperx, here it is task-hypernet",
        "its hypernet.bottleneck is 4, here it is 8",
        "its hypernet.activation is relu, here it is gelu",
        "the labels of pos differ; write labels: [DET, NOUN, VERB]",
        "the labels of ner differ; write labels: [LOC]",
        "its task topic: type is classification, here it is pairs",
        "the labels of topic differ; write labels: [animals, places]",
        "its tied_decoder is True, here it is False",
    ]


def test_weights_that_do_not_fit_are_named_and_nothing_is_changed(tmp_path: Path) -> None:
    finished(tmp_path)
    path = tmp_path / "run" / "model.safetensors"
    state = load_file(path)
    weight = "adapters.generator.maps.down_weight.weight"
    assert {weight, f"{ROWS}layer", f"{ROWS}language", "heads.pos.linear.bias"} <= state.keys()
    state[weight] = state[weight][:, :1].contiguous()
    state[f"{ROWS}language"] = state[f"{ROWS}language"][:2].contiguous()
    state["adapters.more"] = state.pop(f"{ROWS}layer")
    state["heads.pos.more"] = state.pop("heads.pos.linear.bias")
    save_file(state, path)
    model, plain = fresh(tmp_path), fresh(tmp_path)
    with pytest.raises(RunError) as error:
        warm_start(model, Start.read(str(tmp_path / "run")))
    messages = dict(problem.message.split(maxsplit=1) for problem in error.value.problems)
    assert {name: message.split(" not")[0] for name, message in messages.items()} == {
        weight: f"has the shape ({4 * HIDDEN}, 1),",
        f"{ROWS}language": "has the shape (2, 3),",
        f"{ROWS}layer": "is missing",
        "heads.pos.linear.bias": "is missing",
        "adapters.more": "is unexpected",
        "heads.pos.more": "is unexpected",
    }
    expected = plain.own_parameters()
    assert all(
        torch.equal(tensor, expected[name]) for name, tensor in model.own_parameters().items()
    )


def test_an_unfinished_run_is_refused(tmp_path: Path) -> None:
    (tmp_path / "unfinished").mkdir()
    with pytest.raises(RunError, match=r"model\.json"):
        Start.read(str(tmp_path / "unfinished"))


def test_an_encoder_of_other_weights_is_refused(tmp_path: Path) -> None:
    """A branch on a hub may have moved on since the run was trained."""
    finished(tmp_path)
    model = fresh(tmp_path)
    model.backbone.digest = "another"
    with pytest.raises(RunError, match="another encoder"):
        warm_start(model, Start.read(str(tmp_path / "run")))


def test_changes_of_cells_are_kept_and_trained_further(tmp_path: Path) -> None:
    old = tiny_model(saved_backbone(tmp_path / "encoder"))
    for task in ("pos", "ner"):
        for tensor in old.change_cell(task, "isl").values():
            tensor.data.normal_()
    old.save_pretrained(tmp_path / "run")
    start = Start.read(str(tmp_path / "run"))
    config = start.extended(replace(start.config, tasks=(TOPIC, POS), languages=("deu", "eng")))
    model = HyperX(load_backbone(start.encoder.reference), config).eval()
    warm_start(model, start)
    assert model.config.changed == (Cell("pos", "isl"),)
    for name, tensor in old.change_cell("pos", "isl").items():
        assert torch.equal(model.change_cell("pos", "isl")[name], tensor)
