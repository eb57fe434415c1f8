"""Checkpoint folders become runs that compute what the twin does."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from hyperlect.errors import BackboneError, RunError
from hyperlect.model import HyperX
from hyperlect.released import convert_checkpoint
from hyperlect.released.convert import find_checkpoint
from hyperlect.tasks import TaskType
from tests.released.folders import checkpoint, write_encoder, write_state
from tests.released.twin import DECODER, HIDDEN, IDS, MASK, REAL, VARIANTS, saved, twin_forward
from tests.tiny import save_tiny

CELLS = [("ner", "tr"), ("pos", "fo"), ("mlm", "en")]
LAYER = "encoder.encoder.layer.0"


def convert(folder: Path, *changes: str, **options: str) -> HyperX:
    """Convert, and load what was written."""
    convert_checkpoint(
        folder / "old", folder / "run", arguments=folder / "arguments.json", changes=changes,
        **options,
    )  # fmt: skip
    return HyperX.from_pretrained(folder / "run")


def assert_computes(model: HyperX, arguments: dict, state: dict) -> None:
    state = {name: t.double() if t.is_floating_point() else t for name, t in state.items()}
    for task, language in CELLS:
        states, logits = twin_forward(arguments, state, task, language)
        out = model(IDS, MASK, task=task, language=language)
        for mine, theirs in ((out.last_hidden_state, states[-1]), (out.logits, logits)):
            torch.testing.assert_close(mine[REAL].double(), theirs[REAL], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_run_computes_what_the_checkpoint_does(tmp_path: Path, variant: str):
    arguments, state = checkpoint(tmp_path, VARIANTS[variant])
    model = convert(tmp_path)
    assert_computes(model, arguments, state)
    assert not model.config.train_layer_norms
    assert not any(name.startswith("backbone.") for name in model.own_parameters())


def test_a_run_without_a_hypernetwork(tmp_path: Path):
    arguments, state = checkpoint(tmp_path, {"no_hypernet": True})
    model = convert(tmp_path)
    assert model.adapters is None
    assert_computes(model, arguments, state)


def test_trained_layer_norms_are_kept(tmp_path: Path):
    arguments, state = checkpoint(tmp_path)
    state[f"{LAYER}.output.LayerNorm.weight"] += 0.5
    write_state(tmp_path / "old", arguments, state)
    model = convert(tmp_path)
    assert model.config.train_layer_norms
    assert_computes(model, arguments, state)


def test_kinds_labels_and_lengths_are_those_of_the_arguments(tmp_path: Path):
    checkpoint(tmp_path)
    rename_english(tmp_path / "old")
    model = convert(
        tmp_path,
        *("max_length=12", "languages=anglais tr fo", "language_codes.anglais=en"),
        "train_task_language_pairs=ner#anglais pos#tr",
    )
    assert model.languages == ["eng", "tur", "fao"]
    assert [str(cell) for cell in model.config.trained] == ["ner:eng", "pos:tur"]
    assert model.max_length == 12
    assert model.tasks["ner"].type is TaskType.SPANS


def rename_english(folder: Path) -> None:
    """Call it "anglais" in the files, which is no code."""
    for path in folder.glob("*_model/pytorch_model.bin"):
        state = torch.load(path, weights_only=True)
        torch.save({k.replace("lang_embeddings.en", "lang_embeddings.anglais"): t
                    for k, t in state.items()}, path)  # fmt: skip


def test_a_tied_decoder_is_found_by_its_values(tmp_path: Path):
    """Files of a tied decoder hold the word embeddings under both names."""
    arguments, state = checkpoint(tmp_path)
    state[DECODER] = state["encoder.embeddings.word_embeddings.weight"]
    write_state(tmp_path / "old", arguments, state)
    model = convert(tmp_path)
    assert model.config.tied_decoder
    assert_computes(model, arguments, state)


def test_one_file_of_the_whole_model(tmp_path: Path):
    arguments, state = checkpoint(tmp_path)
    (tmp_path / "whole").mkdir()
    whole = {name: tensor.clone() for name, tensor in saved(arguments, state).items()}
    save_file(whole, tmp_path / "whole" / "m.safetensors")
    (tmp_path / "old").rename(tmp_path / "parts")
    (tmp_path / "whole").rename(tmp_path / "old")
    assert_computes(convert(tmp_path), arguments, state)


def test_copies_that_differ_are_named(tmp_path: Path):
    arguments, state = checkpoint(tmp_path)
    state[f"{LAYER}.output.dense.bias"] += 1
    write_state(tmp_path / "old", {**arguments, "tasks": ["ner"]}, state)
    name = "taskmodels_dict.ner.bert.encoder.layer.0.output.dense.bias differs"
    with pytest.raises(RunError, match=name):
        convert(tmp_path)
    assert not (tmp_path / "run").exists()


def test_another_encoder_is_refused_tensor_by_tensor(tmp_path: Path):
    _, state = checkpoint(tmp_path)
    for part in ("weight", "bias"):
        state[f"{LAYER}.output.dense.{part}"] += 1
    write_encoder(tmp_path / "other", state)
    with pytest.raises(RunError) as error:
        convert(tmp_path, backbone=str(tmp_path / "other"))
    assert f"encoder is not {tmp_path / 'other'}" in str(error.value)
    assert "--revision" in str(error.value)
    lines = [line for line in str(error.value).splitlines() if line.startswith("  - ")]
    assert lines == [f"  - {LAYER}.output.dense.{part}" for part in ("weight", "bias")]


def test_encoders_that_cannot_be_meant(tmp_path: Path):
    checkpoint(tmp_path)
    save_tiny(tmp_path / "roberta", "xlm-roberta")
    with pytest.raises(BackboneError, match="name a BERT"):
        convert(tmp_path, backbone=str(tmp_path / "roberta"))
    save_tiny(tmp_path / "headless", "bert")
    with pytest.raises(BackboneError, match="MLM head"):
        convert(tmp_path, backbone=str(tmp_path / "headless"))
    with pytest.raises(RunError, match="--backbone"):
        convert(tmp_path, "model_name_or_path=null")


def test_labels_of_another_number_must_be_named(tmp_path: Path):
    arguments, state = checkpoint(tmp_path)
    for part in ("weight", "bias"):
        state[f"taskmodels_dict.ner.cls.{part}"] = torch.randn(3, *(HIDDEN,) * (part == "weight"))
    write_state(tmp_path / "old", arguments, state)
    with pytest.raises(RunError, match="ner scores 3 labels; the released code has 7"):
        convert(tmp_path)
    with pytest.raises(RunError, match="ner scores 3 labels; labels lists 2"):
        convert(tmp_path, "labels.ner=[O, B-X]")
    model = convert(tmp_path, "labels.ner=[O, B-X, I-X]")
    assert model.tasks["ner"].labels == ("O", "B-X", "I-X")
    assert model.tasks["ner"].type is TaskType.SPANS


def test_a_wrong_argument_shows_in_the_tensors(tmp_path: Path):
    checkpoint(tmp_path)
    with pytest.raises(RunError, match=r"up_weight\.weight has the shape"):
        convert(tmp_path, "adapter_dim=5")
    with pytest.raises(RunError, match=r"layer_id_embeddings\.layer:0 is unexpected"):
        convert(tmp_path, "condition_to_layer_id=false")
    with pytest.raises(RunError, match="after_layer_output cannot be true"):
        convert(tmp_path, "after_layer_output=true")


def test_what_weights_do_not_show_is_reported(tmp_path: Path):
    checkpoint(tmp_path)
    text = (tmp_path / "arguments.json").read_text()
    (tmp_path / "arguments.json").write_text(text.replace('"after_layer_output": false, ', ""))
    done = convert_checkpoint(
        tmp_path / "old", tmp_path / "run", arguments=tmp_path / "arguments.json"
    )
    assert done.assumed == {"after_layer_output": False}
    assert done.task == "ner"
    assert [path.name for path in done.unread] == ["hyperx_args.bin"]
    with pytest.raises(RunError, match="exists already"):
        convert(tmp_path)


# What lies in a checkpoint folder

ONES = torch.ones(2)


def save_tensors(path: Path, content: object = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"bert.a": ONES, "cls.weight": ONES} if content is None else content, path)


def names_in(folder: Path, *tasks: str) -> list[str]:
    return [name for name, _ in find_checkpoint(folder).tensors(tasks)]


def test_files_of_tasks_and_what_else_lies_there(tmp_path: Path) -> None:
    save_tensors(tmp_path / "ner_model" / "pytorch_model.bin")
    save_tensors(tmp_path / "pos.pt")
    others = ("hyperx_args.bin", "trainer_args.bin", "optimizer.pt", "rng_state.pth", "README.md")
    for name in others:
        (tmp_path / name).write_text("not to be read")
    assert names_in(tmp_path, "ner", "pos") == [
        "taskmodels_dict.pos.bert.a", "taskmodels_dict.pos.cls.weight",
        "taskmodels_dict.ner.bert.a", "taskmodels_dict.ner.cls.weight",
    ]  # fmt: skip
    seen = find_checkpoint(tmp_path)
    assert [path.name for path in seen.pickles] == ["hyperx_args.bin", "trainer_args.bin"]
    assert all(str(path) in seen.hint for path in seen.pickles)
    assert "--arguments" in seen.hint


def test_a_file_of_no_task_and_a_task_without_a_file(tmp_path: Path) -> None:
    save_tensors(tmp_path / "ner_model" / "pytorch_model.bin")
    with pytest.raises(RunError, match=r"lacks the weights of pos: pos_model/pytorch_model.bin"):
        names_in(tmp_path, "ner", "pos")
    with pytest.raises(RunError, match=r"but of which\? .* the tasks are pos"):
        names_in(tmp_path, "pos")


def test_folders_without_weights(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="does not exist"):
        find_checkpoint(tmp_path / "x")
    with pytest.raises(RunError, match="holds no weights"):
        find_checkpoint(tmp_path)
    save_tensors(tmp_path / "checkpoint-5000" / "ner_model" / "pytorch_model.bin")
    with pytest.raises(RunError, match="Name one of its checkpoints: checkpoint-5000"):
        find_checkpoint(tmp_path)
    (tmp_path / "a.bin").write_text("")
    with pytest.raises(RunError, match="is a file; name the folder"):
        find_checkpoint(tmp_path / "a.bin")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ({"bert.a": ONES, "epoch": 3}, "epoch is a int"),
        ([ONES], "holds a list, not a state dict"),
        (torch.nn.Linear(1, 1), "cannot be read as a file of tensors alone"),
    ],
)
def test_files_that_hold_more_than_tensors(tmp_path: Path, content: object, reason: str) -> None:
    save_tensors(tmp_path / "ner_model" / "pytorch_model.bin", content)
    with pytest.raises(RunError, match=reason):
        names_in(tmp_path, "ner")


def test_what_a_pickle_would_run_is_not_run(tmp_path: Path) -> None:
    save_tensors(
        tmp_path / "ner_model" / "pytorch_model.bin", {"bert.a": Trap(tmp_path / "sprung")}
    )
    with pytest.raises(RunError, match="cannot be read"):
        names_in(tmp_path, "ner")
    assert not (tmp_path / "sprung").exists()


class Trap:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return Path.touch, (self.path,)
