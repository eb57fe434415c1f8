"""Languages that a model is given after training."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from hyperlect.errors import HyperlectError, UnknownNameError
from hyperlect.methods import METHODS
from hyperlect.model import HyperX
from tests.tiny import saved_backbone

from .models import LANGUAGES, padded, tiny_model

READING = [name for name in METHODS if tiny_model(method=name).language_parameters()]


def scores(model: HyperX, task: str, language: str) -> Tensor:
    with torch.no_grad():
        return model(*padded(model.backbone), task=task, language=language).logits


def test_which_methods_read_a_language() -> None:
    assert READING == ["hyperx", "language-hypernet", "mad-x", "factorised"]
    with pytest.raises(HyperlectError, match="adapters"):
        tiny_model(method="adapters").add_language("deu", {}, "nowhere")


@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("method", READING)
def test_without_a_mixture_it_is_as_it_was_untrained(method: str, dropout: float) -> None:
    model = tiny_model(method=method, hypernet={"language_dropout": dropout})
    before = {t: scores(model, t, "deu") for t in ("pos", "topic")} if method != "mad-x" else {}
    others = {(t, c): scores(model, t, c) for t in ("pos", "topic") for c in LANGUAGES}
    assert model.add_language("de", {}, "added") == "deu"
    assert model.languages == [*LANGUAGES, "deu"]
    assert model.language_source("deu") == "added"
    for task, expected in before.items():
        torch.testing.assert_close(scores(model, task, "deu"), expected)
    for (task, language), expected in others.items():
        assert torch.equal(scores(model, task, language), expected)


@pytest.mark.parametrize("method", READING)
def test_like_one_language_is_that_language(method: str) -> None:
    model = tiny_model(method=method)
    model.add_language("deu", {"isl": 1.0}, "like isl")
    assert torch.equal(scores(model, "pos", "deu"), scores(model, "pos", "isl"))


def test_a_mixture_is_a_weighted_mean_of_vectors() -> None:
    model = tiny_model()
    (table,) = model.language_parameters().values()
    expected = table[0] * 0.25 + table[2] * 0.75
    model.add_language("deu", {"eng": 0.25, "tur": 0.75}, "a mixture")
    (table,) = model.language_parameters().values()
    torch.testing.assert_close(table[3], expected)


def test_adding_again_replaces_the_vector() -> None:
    model = tiny_model()
    model.add_language("deu", {"isl": 1.0}, "like isl")
    model.add_language("deu", {"eng": 1.0}, "like eng")
    assert model.languages == [*LANGUAGES, "deu"]
    assert torch.equal(scores(model, "pos", "deu"), scores(model, "pos", "eng"))


@pytest.mark.parametrize("unknown", ["fra", "nonsense"])
def test_a_mixture_of_untrained_languages_is_refused(unknown: str) -> None:
    model = tiny_model()
    with pytest.raises(UnknownNameError, match=unknown):
        model.add_language("deu", {unknown: 1.0}, "like it")
    assert model.languages == list(LANGUAGES)


def test_it_is_saved_and_loaded(tmp_path: Path) -> None:
    model = tiny_model(saved_backbone(tmp_path / "encoder"))
    model.add_language("deu", {"isl": 1.0}, "like isl")
    model.save_pretrained(tmp_path / "run")
    loaded = HyperX.from_pretrained(tmp_path / "run")
    assert loaded.languages[-1] == "deu"
    assert loaded.language_source("deu") == "like isl"
    assert torch.equal(scores(loaded, "pos", "deu"), scores(model, "pos", "deu"))


def test_offsets_change_nothing_until_they_are_trained(tmp_path: Path) -> None:
    model = tiny_model(saved_backbone(tmp_path / "encoder"), hypernet={"language_dropout": 0.1})
    before = {code: scores(model, "pos", code) for code in (*LANGUAGES, "deu")}
    topics = scores(model, "topic", "deu")
    model.add_language("deu", {}, "added")
    model.give_offsets()
    for code, expected in before.items():
        assert torch.equal(scores(model, "pos", code), expected)
    offsets = model.language_parameters()["adapters.source.offsets"]
    with torch.no_grad():
        offsets[-1, model.config.adapted_tasks.index("pos")] += 0.5
    assert not torch.allclose(scores(model, "pos", "deu"), before["deu"])
    for code in LANGUAGES:
        assert torch.equal(scores(model, "pos", code), before[code])
    assert torch.equal(scores(model, "topic", "deu"), topics)
    model.save_pretrained(tmp_path / "run")
    loaded = HyperX.from_pretrained(tmp_path / "run")
    assert torch.equal(scores(loaded, "pos", "deu"), scores(model, "pos", "deu"))


@pytest.mark.parametrize("method", ["adapters", "mad-x", "factorised", "language-hypernet"])
def test_only_a_hypernetwork_of_cells_has_offsets(method: str) -> None:
    with pytest.raises(HyperlectError, match=method):
        tiny_model(method=method).give_offsets()
    tiny_model(method=method, hypernet={"cell_offsets": True})
