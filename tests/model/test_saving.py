"""Saving and loading: exact, or refused with every problem named."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from hyperlect.backbone import load_backbone
from hyperlect.errors import BackboneError, RunError
from hyperlect.hypernet import Hypernet, HypernetConfig
from hyperlect.methods import METHODS
from hyperlect.model import HyperX
from hyperlect.model.hyperx import load_hypernet
from hyperlect.run_folder import load_exactly
from hyperlect.tasks import PARSERS, Task, TaskType
from tests.hub import COMMIT, put_on_hub
from tests.tiny import (
    FAMILY_NAMES,
    POSITIONS,
    save_tiny,
    saved_backbone,
    tiny_backbone,
    tiny_encoder,
)

from .models import MLM, NER, POS, TASKS, TRAINED, padded, tiny_model


def saved(folder: Path, **settings: Any) -> HyperX:
    """Return a model on the encoder in `folder`/encoder, saved to `folder`/run."""
    backbone = saved_backbone(folder / "encoder", settings.pop("family", "bert"))
    model = tiny_model(backbone, **settings)
    model.save_pretrained(folder / "run")
    return model


def outputs(model: HyperX) -> list[Tensor]:
    cells = [("pos", "eng"), ("ner", "fao"), ("topic", "isl"), ("mlm", "tur")]
    with torch.no_grad():
        passes = [
            model(*padded(model.backbone), task=task, language=language) for task, language in cells
        ]
    return [tensor for out in passes for tensor in (out.last_hidden_state, out.logits)]


def assert_same(loaded: HyperX, model: HyperX) -> None:
    assert loaded.config == model.config
    assert loaded.languages == model.languages
    parameters, expected = loaded.own_parameters(), model.own_parameters()
    assert parameters.keys() == expected.keys()
    assert all(torch.equal(parameters[name], expected[name]) for name in parameters)
    for mine, other in zip(outputs(loaded), outputs(model), strict=True):
        assert torch.equal(mine, other)


@pytest.mark.parametrize("train_layer_norms", [False, True])
@pytest.mark.parametrize("method", METHODS)
def test_every_method_comes_back(method: str, train_layer_norms: bool, tmp_path: Path):
    model = saved(tmp_path, method=method, train_layer_norms=train_layer_norms)
    if train_layer_norms:
        with torch.no_grad():
            for _, parameter in model.backbone.layer_norms():
                parameter.add_(0.1)
        model.save_pretrained(tmp_path / "run")
    loaded = HyperX.from_pretrained(tmp_path / "run")
    assert_same(loaded, model)
    assert not loaded.training
    free = {name for name, p in loaded.named_parameters() if p.requires_grad}
    assert free == loaded.own_parameters().keys()


@pytest.mark.parametrize("family", FAMILY_NAMES)
def test_every_family_comes_back(family: str, tmp_path: Path):
    model = saved(tmp_path, family=family)
    loaded = HyperX.from_pretrained(str(tmp_path / "run"))
    assert_same(loaded, model)
    assert loaded.tokenizer("Anna sees Oslo").input_ids


@pytest.mark.parametrize(
    "hypernet",
    [
        {"sources": ("task", "language"), "pre_norm": "ordinary", "post_norm": "ordinary"},
        {"projection": None, "insertion": "layer", "activation": "gelu", "norm_eps": 1e-3},
    ],
)
def test_variants_come_back(hypernet: dict, tmp_path: Path):
    model = saved(tmp_path, hypernet=hypernet)
    assert_same(HyperX.from_pretrained(tmp_path / "run"), model)


def test_an_untied_decoder_comes_back(tmp_path: Path):
    model = saved(tmp_path, tied_decoder=False)
    assert "heads.mlm.decoder" in model.own_parameters()
    assert_same(HyperX.from_pretrained(tmp_path / "run"), model)


@pytest.mark.parametrize("parser", PARSERS)
def test_both_parsers_come_back(parser: str, tmp_path: Path):
    dep = Task("dep", TaskType.PARSING, ("obj", "root"), {"dobj": "obj"})
    model = saved(tmp_path, tasks=(*TASKS, dep), parser=parser)
    loaded = HyperX.from_pretrained(tmp_path / "run")
    assert_same(loaded, model)
    assert loaded.task("dep") == dep
    sentences = [["Anna", "sees", "Oslo"]]
    assert loaded.predict(sentences, "dep", "eng") == model.predict(sentences, "dep", "eng")


def test_the_longest_input_comes_back(tmp_path: Path):
    model = saved(tmp_path, max_length=20)
    loaded = HyperX.from_pretrained(tmp_path / "run")
    assert loaded.max_length == model.max_length == 20
    assert tiny_model(max_length=999).max_length == tiny_model().max_length == POSITIONS


def test_a_pretrained_mlm_head_comes_back(tmp_path: Path):
    backbone = saved_backbone(tmp_path / "encoder", mlm=True)
    model = tiny_model(backbone)
    model.save_pretrained(tmp_path / "run")
    assert_same(HyperX.from_pretrained(tmp_path / "run"), model)


def test_saving_a_loaded_model_writes_the_same_bytes(tmp_path: Path):
    saved(tmp_path)
    HyperX.from_pretrained(tmp_path / "run").save_pretrained(tmp_path / "again")
    for name in ("model.json", "model.safetensors"):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "again" / name).read_bytes()


def test_a_model_comes_back_from_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    put_on_hub("acme/bert", save_tiny(tmp_path / "encoder"), tmp_path / "cache", monkeypatch)
    model = tiny_model(load_backbone("acme/bert"))
    model.save_pretrained(tmp_path / "run")
    put_on_hub("acme/mixed", tmp_path / "run", tmp_path / "cache", monkeypatch)
    for revision in (None, COMMIT):
        assert_same(HyperX.from_pretrained("acme/mixed", revision=revision), model)
    with pytest.raises(RunError, match="acme/none"):
        HyperX.from_pretrained("acme/none")


def test_a_hub_repository_without_a_model_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    put_on_hub("acme/bert", save_tiny(tmp_path / "encoder"), tmp_path / "cache", monkeypatch)
    with pytest.raises(RunError, match=r"acme/bert.*model\.json"):
        HyperX.from_pretrained("acme/bert")


def test_the_revision_of_the_backbone_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    put_on_hub(
        "acme/bert", save_tiny(tmp_path / "files"), tmp_path / "cache", monkeypatch, ref="v1"
    )
    model = tiny_model(load_backbone("acme/bert", "v1"))
    model.save_pretrained(tmp_path / "run")
    loaded = HyperX.from_pretrained(tmp_path / "run")
    assert (loaded.backbone.reference, loaded.backbone.revision) == ("acme/bert", "v1")
    assert_same(loaded, model)


def test_no_pickle_and_no_backbone_weight_is_saved(tmp_path: Path):
    model = saved(tmp_path)
    assert sorted(p.name for p in (tmp_path / "run").iterdir()) == [
        "model.json",
        "model.safetensors",
    ]
    state = load_file(tmp_path / "run" / "model.safetensors")  # not a pickle, or this fails
    assert state.keys() == model.own_parameters().keys()
    assert not [name for name in state if name.startswith("backbone.")]


def test_names_of_saved_tensors_are_fixed(tmp_path: Path):
    """Models that people have saved must stay readable."""
    maps = ["after", "before", "down", "up"]
    hypernet = {"pre_norm": "generated"}
    saved(tmp_path, hypernet=hypernet, tasks=(POS, MLM), train_layer_norms=True)
    norms = ["embeddings.LayerNorm"]
    for layer in (0, 1):
        inside = f"encoder.layer.{layer}"
        norms += [f"{inside}.attention.output.LayerNorm", f"{inside}.output.LayerNorm"]
    assert sorted(load_file(tmp_path / "run" / "model.safetensors")) == sorted(
        [
            *(f"adapters.source.embeddings.{name}" for name in ("language", "layer", "task")),
            *(f"adapters.source.project.{i}.{end}" for i in (0, 2) for end in ("bias", "weight")),
            *(
                f"adapters.generator.maps.{name}_{weight}.{end}"
                for name in maps
                for weight in ("bias", "weight")
                for end in ("bias", "weight")
            ),
            *(f"backbone.encoder.{norm}.{end}" for norm in norms for end in ("bias", "weight")),
            *(f"heads.mlm.{name}" for name in ("bias", "dense.bias", "dense.weight")),
            *(f"heads.mlm.{name}" for name in ("norm.bias", "norm.weight")),
            *(f"heads.pos.linear.{name}" for name in ("bias", "weight")),
        ]
    )
    ordinary = {"pre_norm": "ordinary", "post_norm": "none"}
    saved(tmp_path, hypernet=ordinary, tasks=(POS,))
    state = load_file(tmp_path / "run" / "model.safetensors")
    assert [name for name in state if ".norms." in name] == [
        "adapters.generator.norms.before_bias",
        "adapters.generator.norms.before_weight",
    ]
    saved(tmp_path, method="adapters", hypernet=ordinary, tasks=(POS,))
    state = load_file(tmp_path / "run" / "model.safetensors")
    assert sorted(name for name in state if name.startswith("adapters.")) == [
        f"adapters.weights.{name}_{end}"
        for name in ("before", "down", "up")
        for end in ("bias", "weight")
    ]


def test_the_form_of_the_configuration_file_is_fixed(tmp_path: Path):
    saved(tmp_path, tasks=(POS, NER), trained=TRAINED[:2])
    data = json.loads((tmp_path / "run" / "model.json").read_text())
    assert (
        data.pop("hypernet")
        == HypernetConfig(bottleneck=4, projection=6, embedding=3, initial_std=0.3).to_dict()
    )
    digest = load_backbone(str(tmp_path / "encoder")).digest
    assert data == {
        "format_version": 1,
        "backbone": {"reference": "../encoder", "revision": None, "digest": digest},
        "tasks": [
            {"name": "pos", "type": "tagging", "labels": ["DET", "NOUN", "VERB"], "label_map": {}},
            {
                "name": "ner",
                "type": "spans",
                "labels": ["O", "B-LOC", "I-LOC"],
                "label_map": {"GPE": "LOC", "DATE": "O"},
            },
        ],
        "languages": ["eng", "isl", "tur"],
        "trained": [["pos", "eng"], ["ner", "isl"]],
        "method": "hyperx",
        "train_layer_norms": False,
        "head_dropout": 0.1,
        "parser": "mlp",
        "tied_decoder": True,
        "max_length": None,
        "text_tasks": [],
        "added": {},
    }


def as_in_version_0_1(path: Path) -> None:
    """Take the checksums and digests out of a weights file."""
    save_file(load_file(path), path)


def test_all_missing_unexpected_and_misshapen_tensors_are_named(tmp_path: Path):
    saved(tmp_path)
    path = tmp_path / "run" / "model.safetensors"
    state = load_file(path)
    state["heads.pos.linear.basis"] = state.pop("heads.pos.linear.bias")
    state["adapters.source.embeddings.language"] = torch.zeros(2, 3)
    del state["adapters.generator.maps.up_weight.weight"]
    save_file(state, path)
    with pytest.raises(RunError) as error:
        HyperX.from_pretrained(tmp_path / "run")
    assert [problem.message for problem in error.value.problems] == [
        "adapters.generator.maps.up_weight.weight is missing",
        "heads.pos.linear.bias is missing",
        "heads.pos.linear.basis is unexpected",
        "adapters.source.embeddings.language has the shape (2, 3), not (3, 3)",
    ]


def test_weights_that_do_not_fit_change_nothing(tmp_path: Path):
    model = saved(tmp_path)
    before = {name: tensor.detach().clone() for name, tensor in model.own_parameters().items()}
    state = {name: tensor + 1 for name, tensor in before.items()}
    state.pop("heads.pos.linear.bias")
    with pytest.raises(RunError):
        load_exactly(model.own_parameters(), state)
    assert all(torch.equal(model.own_parameters()[name], before[name]) for name in before)


def test_trained_layer_norms_are_not_lost(tmp_path: Path):
    saved(tmp_path, train_layer_norms=True)
    path = tmp_path / "run" / "model.json"
    data = json.loads(path.read_text())
    path.write_text(json.dumps({**data, "train_layer_norms": False}))
    with pytest.raises(RunError, match=r"model\.json was changed"):
        HyperX.from_pretrained(tmp_path / "run")
    as_in_version_0_1(tmp_path / "run" / "model.safetensors")
    with pytest.raises(RunError, match=r"embeddings\.LayerNorm\.weight is unexpected"):
        HyperX.from_pretrained(tmp_path / "run")


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (lambda data: data.update(format_version=2), "format_version 2"),
        (lambda data: data.pop("format_version"), "format_version None"),
        (lambda data: data.pop("tasks"), "tasks"),
        (lambda data: data.pop("backbone"), "backbone"),
        (lambda data: data.update(colour="blue"), "colour"),
        (lambda data: data["hypernet"].update(bottlneck=3), "bottlneck"),
        (lambda data: data["hypernet"].update(bottleneck=0), "bottleneck"),
        (lambda data: data["tasks"][0].update(type="tags"), "tags"),
        (lambda data: data.update(method="hyper"), "method"),
        (lambda data: data.update(languages=["eng", "qqqq"]), "qqqq"),
    ],
)
def test_a_malformed_configuration_is_refused(
    change: Callable[[Any], Any], name: str, tmp_path: Path
):
    saved(tmp_path)
    path = tmp_path / "run" / "model.json"
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))
    with pytest.raises(RunError, match=name) as error:
        HyperX.from_pretrained(tmp_path / "run")
    assert str(path) in str(error.value)


def test_a_configuration_whose_labels_were_changed_is_refused(tmp_path: Path):
    """The weights would load, and every label would have another name."""
    saved(tmp_path)
    path = tmp_path / "run" / "model.json"
    written = path.read_text()
    for change in (
        lambda data: data["tasks"][0]["labels"].reverse(),
        lambda data: data["languages"].reverse(),
        lambda data: data["tasks"].reverse(),
        lambda data: data["hypernet"].update(norm_eps=2e-5),
        lambda data: data.update(max_length=20),
    ):
        data = json.loads(written)
        change(data)
        path.write_text(json.dumps(data))
        with pytest.raises(RunError, match=r"model\.json was changed"):
            HyperX.from_pretrained(tmp_path / "run")
    path.write_text(written)
    assert HyperX.from_pretrained(tmp_path / "run")


def test_a_flipped_bit_of_the_weights_is_found(tmp_path: Path):
    saved(tmp_path)
    path = tmp_path / "run" / "model.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[:-5] + bytes([whole[-5] ^ 1]) + whole[-4:])
    for load in (HyperX.from_pretrained, load_hypernet):
        with pytest.raises(RunError) as error:
            load(tmp_path / "run")
        (problem,) = error.value.problems
        assert problem.file == str(path)
        assert problem.message.split()[0] in load_file(path)


def test_a_flipped_bit_of_the_configuration_is_found(tmp_path: Path):
    """But for white space, and the encoder, which has a digest of its own."""
    saved(tmp_path)
    model, path = HyperX.from_pretrained(tmp_path / "run"), tmp_path / "run" / "model.json"
    whole, messages = path.read_bytes(), []
    for place in range(0, 8 * len(whole), 41):
        damaged = bytearray(whole)
        damaged[place // 8] ^= 1 << place % 8
        path.write_bytes(damaged)
        try:
            loaded = HyperX.from_pretrained(tmp_path / "run")
        except (RunError, BackboneError) as error:
            messages.append(str(error))
        else:
            assert loaded.config == model.config
    assert all(str(path.parent) in message for message in messages)


def test_incomplete_folders_are_refused(tmp_path: Path):
    saved(tmp_path)
    run = tmp_path / "run"
    (run / "model.safetensors").write_bytes(b"")
    with pytest.raises(RunError, match=r"model\.safetensors"):
        HyperX.from_pretrained(run)
    (run / "model.safetensors").unlink()
    with pytest.raises(RunError, match=r"model\.safetensors"):
        HyperX.from_pretrained(run)
    (run / "model.json").write_text("{")
    (run / "model.safetensors").touch()
    with pytest.raises(RunError, match=r"model\.json"):
        HyperX.from_pretrained(run)


@pytest.mark.parametrize("source", ["nowhere", "runs/", "runs/a b", "~/x", "a/b/c", "./x"])
def test_a_source_that_is_neither_folder_nor_hub_id_is_refused(source: str):
    with pytest.raises(RunError, match=r"model\.json"):
        HyperX.from_pretrained(source)


@pytest.mark.parametrize("source", ["runs/mixed-", "runs/a..b", "no/body"])
def test_a_source_that_might_be_a_hub_id_is_looked_up(source: str):
    with pytest.raises(RunError, match=f'"{source}".*hub cannot be reached'):
        HyperX.from_pretrained(source)


def test_a_backbone_that_has_moved_can_be_named_again(tmp_path: Path):
    saved(tmp_path)
    (tmp_path / "encoder").rename(tmp_path / "elsewhere")
    written = tmp_path / "run" / "model.json"
    with pytest.raises(BackboneError, match="encoder") as error:
        HyperX.from_pretrained(tmp_path / "run")
    assert str(written) in str(error.value)
    data = json.loads(written.read_text())
    data["backbone"]["reference"] = str(tmp_path / "elsewhere")
    written.write_text(json.dumps(data))
    assert HyperX.from_pretrained(tmp_path / "run")


def test_a_run_and_its_backbone_can_move_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "here").mkdir()
    saved(tmp_path / "here")
    text = (tmp_path / "here" / "run" / "model.json").read_text()
    assert json.loads(text)["backbone"]["reference"] == "../encoder"
    (tmp_path / "here").rename(tmp_path / "there")
    assert HyperX.from_pretrained(tmp_path / "there" / "run")
    monkeypatch.chdir(tmp_path / "there" / "run")
    model = HyperX.from_pretrained(".")
    assert model.backbone.reference == str(tmp_path / "there" / "encoder")
    monkeypatch.chdir(tmp_path / "there")
    HyperX(load_backbone("encoder"), model.config).save_pretrained("run")
    assert (Path("run") / "model.json").read_text() == text


def test_a_backbone_of_another_size_is_refused(tmp_path: Path):
    saved(tmp_path)
    tiny_encoder("bert", hidden=16).save_pretrained(tmp_path / "encoder")
    with pytest.raises(RunError, match=r"up_weight\.weight .*\(128, 6\), not \(64, 6\)"):
        HyperX.from_pretrained(tmp_path / "run")


@pytest.mark.parametrize("method", ["hyperx", "finetune"])
def test_a_backbone_of_other_weights_is_refused(method: str, tmp_path: Path):
    """A folder may be written again, and a name on a hub may come to mean other weights."""
    saved(tmp_path, method=method)
    assert HyperX.from_pretrained(tmp_path / "run")
    encoder = load_backbone(str(tmp_path / "encoder")).encoder
    next(iter(encoder.parameters())).data += 0.01
    encoder.save_pretrained(tmp_path / "encoder")
    with pytest.raises(RunError, match="another encoder"):
        HyperX.from_pretrained(tmp_path / "run")
    data = json.loads((tmp_path / "run" / "model.json").read_text())
    del data["backbone"]["digest"]  # earlier versions wrote none
    (tmp_path / "run" / "model.json").write_text(json.dumps(data))
    assert HyperX.from_pretrained(tmp_path / "run")


def test_a_backbone_without_a_reference_cannot_be_saved(tmp_path: Path):
    model = tiny_model()
    model.backbone.reference = ""
    with pytest.raises(RunError, match="memory"):
        model.save_pretrained(tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_model_is_loaded_onto_a_device(tmp_path: Path):
    saved(tmp_path)
    assert HyperX.from_pretrained(tmp_path / "run", device="cpu").device == torch.device("cpu")


@pytest.mark.parametrize("sources", [("task", "language", "layer"), ("task", "language")])
def test_a_hypernetwork_is_loaded_without_its_encoder(sources: tuple[str, ...], tmp_path: Path):
    model = tiny_model(tiny_backbone(layers=3), hypernet={"sources": sources})
    model.save_pretrained(tmp_path)
    loaded = load_hypernet(tmp_path)
    assert loaded is not None
    config, hypernet = loaded
    assert config == model.config
    assert not hypernet.training
    assert isinstance(model.adapters, Hypernet)
    index = torch.tensor([0, 1, 2]), torch.tensor([1, 2, 0])
    assert torch.equal(hypernet(*index).down_weight, model.adapters(*index).down_weight)


@pytest.mark.parametrize("method", ["adapters", "mad-x", "finetune", "factorised", "head"])
def test_other_methods_have_no_hypernetwork_to_load(method: str, tmp_path: Path):
    saved(tmp_path, method=method)
    assert load_hypernet(tmp_path / "run") is None
