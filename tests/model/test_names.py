"""Tasks and languages: what names mean, and whose vector stands for a language."""

from __future__ import annotations

import pytest
import torch

from hyperlect.errors import HyperlectError, RunError, UnknownNameError
from hyperlect.grid import Cell
from hyperlect.hypernet import UNTRAINED
from hyperlect.model import HyperXConfig
from hyperlect.tasks import Task, TaskType

from .made import IDS, LANGUAGES, MASK, MLM, POS, TASKS, make

OWN, MEAN, NONE = "own vector", "mean of the trained languages", "not used"


def logits(model, language: str, task: str = "pos") -> torch.Tensor:
    with torch.no_grad():
        return model(IDS, MASK, task=task, language=language).logits


def test_a_language_is_the_same_however_it_is_written():
    model = make(languages=("eng", "fao", "zho"))
    for names in (("fao", "fo", "Faroese", "FO"), ("zho", "zh", "zh-Hant", "cmn", "Chinese")):
        rows = {model.language_index(name) for name in names}
        assert rows == {model.languages.index(names[0])}
        first = logits(model, names[0])
        for name in names:
            assert torch.equal(logits(model, name), first)
            assert model.language_source(name) == OWN


def test_languages_of_a_configuration_may_be_written_in_any_way():
    config = HyperXConfig((POS,), ("en", "Faroese"), (Cell("pos", "fo"),))
    assert config.languages == ("eng", "fao")
    assert config.trained == (Cell("pos", "fao"),)
    model = make(languages=("en", "fo"), trained=(Cell("pos", "fo"),))
    assert model.languages == ["eng", "fao"]
    assert model.language_index("fao") == model.language_index("fo") == 1
    assert str(model.grid.kind(Cell("pos", "fao"))) == "supervised"


def test_a_trained_language_has_its_own_vector_and_another_the_mean():
    model = make()
    assert [model.language_source(code) for code in LANGUAGES] == [OWN] * len(LANGUAGES)
    assert model.language_source("fo") == model.language_source("yor") == MEAN
    assert model.language_index("fo") == UNTRAINED
    names, vectors = model.language_vectors()
    assert names == list(LANGUAGES)
    assert torch.equal(vectors, model.adapters.source.embeddings["language"].detach())
    assert len({logits(model, code).sum().item() for code in (*LANGUAGES, "fao")}) == 4


def test_the_mean_is_what_a_language_with_the_mean_as_its_vector_would_have():
    model, other = make(), make()
    with torch.no_grad():
        table = other.adapters.source.embeddings["language"]
        table[1] = table.mean(0)
    expected = logits(other, "isl")
    table = model.adapters.source.embeddings["language"].detach()
    assert torch.allclose(other.adapters.source.embeddings["language"][1], table.mean(0))
    torch.testing.assert_close(logits(model, "fao"), expected)


def test_where_training_dropped_languages_zero_stands_for_an_untrained_one():
    model, other = make(hypernet={"language_dropout": 0.2}), make()
    assert model.language_source("fao") == "zero vector"
    assert model.language_source("isl") == OWN
    with torch.no_grad():
        other.adapters.source.embeddings["language"][1] = 0
    torch.testing.assert_close(logits(model, "fao"), logits(other, "isl"))
    torch.testing.assert_close(logits(model, "eng"), logits(make(), "eng"))
    assert make(method="head", hypernet={"language_dropout": 0.2}).language_source("fao") == NONE


def test_an_untrained_language_is_never_random():
    first = logits(make(), "fao")
    torch.manual_seed(99)
    model = make()
    assert torch.equal(logits(model, "fao"), first)
    assert torch.equal(logits(model, "yor"), first)  # every one of them is the mean


@pytest.mark.parametrize("method", ["task-hypernet", "adapters", "head"])
def test_baselines_read_no_language(method: str):
    model = make(method=method)
    assert torch.equal(logits(model, "eng"), logits(model, "isl"))
    assert torch.equal(logits(model, "eng"), logits(model, "fao"))
    assert model.language_source("eng") == model.language_source("fao") == NONE
    names, vectors = model.language_vectors()
    assert (names, vectors.numel()) == ([], 0)
    different = make(method=method)
    if method != "head":
        assert not torch.equal(
            model.adapter_weights("pos", "eng").up_weight,
            different.adapter_weights("ner", "eng").up_weight,
        )


def test_the_task_hypernetwork_is_conditioned_on_task_and_layer_only():
    model = make(method="task-hypernet")
    assert model.config.hypernet.sources == ("task", "layer")
    assert set(model.adapters.source.embeddings) == {"task", "layer"}


def test_a_hypernetwork_without_language_input_uses_no_vector():
    model = make(hypernet={"sources": ("task", "layer")})
    assert model.language_source("eng") == NONE
    assert torch.equal(logits(model, "eng"), logits(model, "fao"))


def test_heads_alone_have_no_adapters():
    model = make(method="head")
    assert model.adapters is None
    assert model.generate([("pos", "eng")]) is None
    assert not [name for name in model.own_parameters() if not name.startswith("heads.")]
    with pytest.raises(RunError, match="no adapter weights"):
        model.adapter_weights("pos", "eng")


@pytest.mark.parametrize("method", ["hyperx", "task-hypernet", "adapters", "mad-x", "head"])
def test_unknown_names_are_errors_that_suggest_the_near_miss(method: str):
    model = make(method=method)
    with pytest.raises(UnknownNameError) as error:
        model(IDS, MASK, task="nre", language="eng")
    assert str(error.value) == (
        'Unknown task "nre". Did you mean "ner"? Known: pos, ner, topic, mlm.'
    )
    with pytest.raises(UnknownNameError) as error:
        model(IDS, MASK, task="ner", language="Icelandik")
    assert 'Unknown language "Icelandik". Did you mean "Icelandic" (isl)?' in str(error.value)
    for language in ("", "mul", "e", "xyzzy"):
        with pytest.raises(UnknownNameError, match="Unknown language"):
            model(IDS, MASK, task="ner", language=language)
    assert isinstance(error.value, HyperlectError)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"method": "hyper-x"}, 'method must be one of hyperx, .*, not "hyper-x"'),
        ({"languages": ()}, "languages is empty"),
        ({"languages": ("eng", "isl", "en")}, 'the language "eng" is listed twice'),
        ({"tasks": (POS, MLM, POS)}, 'the task "pos" is listed twice'),
        ({"tasks": (Task("a.b", TaskType.MLM),)}, 'a task cannot be called "a.b"'),
        ({"tasks": (Task("type", TaskType.MLM),)}, 'a task cannot be called "type"'),
        ({"tasks": (Task("", TaskType.MLM),)}, 'a task cannot be called ""'),
    ],
)
def test_configurations_that_cannot_be(changes: dict, said: str):
    settings = {"tasks": TASKS, "languages": LANGUAGES, **changes}
    with pytest.raises(ValueError, match=said):
        HyperXConfig(**settings)


def test_a_configuration_names_no_unknown_language():
    with pytest.raises(UnknownNameError, match='Unknown language "Elvish-ish"'):
        HyperXConfig((POS,), ("eng", "Elvish-ish"))
