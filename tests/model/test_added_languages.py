"""Languages that a model is given after training."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from hyperlect.errors import HyperlectError, UnknownNameError
from hyperlect.grid import Cell
from hyperlect.hypernet import Hypernet
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


@pytest.mark.parametrize("method", ["hyperx", "mad-x"])
def test_a_change_of_a_cell_is_its_own(tmp_path: Path, method: str) -> None:
    changes = {"language_dropout": 0.1}
    model = tiny_model(saved_backbone(tmp_path / "encoder"), method=method, hypernet=changes)
    model.add_language("deu", {}, "added")
    before = {code: scores(model, "pos", code) for code in (*LANGUAGES, "deu")}
    topics = scores(model, "topic", "deu")
    change = model.change_cell("pos", "deu")
    for code, expected in before.items():
        assert torch.equal(scores(model, "pos", code), expected)
    with torch.no_grad():
        for tensor in change.values():
            tensor += 0.5
    assert not torch.allclose(scores(model, "pos", "deu"), before["deu"])
    with model.cached_weights():
        cached = scores(model, "pos", "deu")
    assert torch.equal(cached, scores(model, "pos", "deu"))
    for code in LANGUAGES:
        assert torch.equal(scores(model, "pos", code), before[code])
    assert torch.equal(scores(model, "topic", "deu"), topics)
    model.save_pretrained(tmp_path / "run")
    loaded = HyperX.from_pretrained(tmp_path / "run")
    assert torch.equal(scores(loaded, "pos", "deu"), scores(model, "pos", "deu"))
    model.unchange_cells([Cell("pos", "deu")])
    assert torch.equal(scores(model, "pos", "deu"), before["deu"])
    assert not any(name.startswith("changes.") for name in model.own_parameters())


def test_a_batch_mixes_changed_cells_with_others() -> None:
    model = tiny_model()
    for tensor in model.change_cell("pos", "eng").values():
        tensor.data += 0.1
    mixed = model.generate([("pos", "isl"), ("pos", "eng"), ("topic", "eng")])
    assert mixed is not None
    for row, cell in enumerate([("pos", "isl"), ("pos", "eng"), ("topic", "eng")]):
        for name, tensor in model.adapter_weights(*cell).items():
            torch.testing.assert_close(getattr(mixed, name)[row], tensor)


@pytest.mark.parametrize("method", ["adapters", "factorised", "task-hypernet", "language-hypernet"])
def test_only_adapters_of_cells_can_change(method: str) -> None:
    with pytest.raises(HyperlectError, match=method):
        tiny_model(method=method).change_cell("pos", "eng")


def test_a_cell_without_a_vector_cannot_change() -> None:
    with pytest.raises(UnknownNameError):
        tiny_model().change_cell("pos", "deu")


@pytest.mark.parametrize("unit", [False, True])
def test_an_offset_of_the_source_embedding_becomes_a_change(unit: bool) -> None:
    model = tiny_model(hypernet={"unit_source": unit})
    assert isinstance(model.adapters, Hypernet)
    cell = [model.config.index(Cell("pos", "eng"))]
    tasks, languages = torch.tensor(cell).unbind(1)
    with model.offset_cells(["pos"], "eng") as (offset,):
        offset.data.normal_()
        inside = scores(model, "pos", "eng")
        expected = model.adapters.generator(model.adapters.source(tasks, languages) + offset)
        model.generate([("pos", "eng")]).up_weight.sum().backward()  # type: ignore[union-attr]
        assert offset.grad is not None
        assert offset.grad.any()
    for name, tensor in model.adapter_weights("pos", "eng").items():
        torch.testing.assert_close(tensor, getattr(expected, name)[0])
    torch.testing.assert_close(scores(model, "pos", "eng"), inside)
