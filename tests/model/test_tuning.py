"""finetune and factorised: baselines that train the encoder itself."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from hyperlect.backbone import load_backbone
from hyperlect.grid import Cell
from hyperlect.methods import METHODS
from hyperlect.model import HyperX
from hyperlect.recipe import load_recipe
from hyperlect.tasks import Task, TaskType

from ..project import train, write_project
from .models import IDS, MASK, TASKS, tiny_model


@pytest.mark.parametrize("method", [m for m in METHODS if METHODS[m].trains_encoder])
def test_the_whole_encoder_or_its_top_layers_are_trained(method: str):
    model = tiny_model(method=method)
    everything = {
        f"backbone.encoder.{name}" for name, _ in model.backbone.encoder.named_parameters()
    }
    trained = model.own_parameters()
    assert everything < trained.keys()
    assert all(parameter.requires_grad for parameter in trained.values())
    top = tiny_model(method=method, hypernet={"top_layers": 1})
    tuned = {name for name in top.own_parameters() if name.startswith("backbone.")}
    last = top.backbone.family.layer.format(i=top.backbone.layers - 1)
    assert tuned == {name for name in everything if f".{last}." in name}
    free = {f"backbone.{n}" for n, p in top.backbone.named_parameters() if p.requires_grad}
    assert free == tuned


def test_finetuning_starts_as_the_encoder():
    model = tiny_model(method="finetune").eval()
    plain, _ = model.backbone(IDS, MASK)
    assert torch.equal(model(IDS, MASK, task="pos", language="eng").last_hidden_state, plain)
    assert model.generate([("pos", "eng")]) is None


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_project(tmp_path_factory.mktemp("project"), ("pos", "ner", "topic", "mlm"))


@pytest.mark.parametrize("method", [m for m in METHODS if METHODS[m].trains_encoder])
def test_a_trained_encoder_comes_back(project: Path, tmp_path: Path, method: str):
    run = train(project, tmp_path / "run", f"method={method}", "training.batching=mixed")
    model = HyperX.from_pretrained(run)
    before = load_backbone(str(project.parent / "backbone")).encoder.state_dict()
    after = model.backbone.encoder.state_dict()
    changed = [name for name in before if not torch.equal(before[name], after[name])]
    assert any("layer.0" in name for name in changed)
    assert any("word_embeddings" in name for name in changed)
    again = HyperX.from_pretrained(run)
    first, second = (m.predict(["the dog sees"], "pos", "isl") for m in (model, again))
    assert first == second


def test_factorised_heads_differ_by_language(project: Path, tmp_path: Path):
    run = train(project, tmp_path / "run", "method=factorised", "training.learning_rate=0.02")
    model = HyperX.from_pretrained(run)
    with torch.no_grad():
        one, other = (
            model(IDS[:1], MASK[:1], task="topic", language=language).logits
            for language in ("eng", "isl")
        )
    assert not torch.allclose(one, other)
    assert model.language_source("eng") == "own vector"
    assert model.language_source("zul") == "zero vector"
    assert model.latents is not None
    assert model.latents.means["language"].abs().sum(1).gt(0).any()


def test_only_heads_that_read_latents_train_them():
    """Trees and raw text leave the latent vector of a language at its start, zero."""
    trained = (Cell("pos", "eng"), Cell("dep", "deu"), Cell("mlm", "fin"))
    dep = Task("dep", TaskType.PARSING, ("obj", "nsubj"))
    languages = ("eng", "deu", "fin")
    options = {"tasks": (*TASKS, dep), "languages": languages, "trained": trained}
    model = tiny_model(method="factorised", **options)
    sources = {code: model.language_source(code) for code in languages}
    assert sources == {"eng": "own vector", "deu": "zero vector", "fin": "zero vector"}
    assert tiny_model(**options).language_source("deu") == "own vector"


def test_settings_without_effect_are_noted(project: Path):
    recipe = load_recipe(project, ["method=finetune", "hypernet.bottleneck=8"])
    assert any(note.startswith("hypernet") and "top_layers" in note for note in recipe.notes())
    plain = load_recipe(project, ["method=finetune", "hypernet.top_layers=1"])
    assert plain.hypernet.top_layers == 1
