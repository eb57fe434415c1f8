"""The configuration: what names mean, and whose vector represents a language."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
import torch
from torch import Tensor

from hyperlect.errors import HyperlectError, RunError, UnknownNameError
from hyperlect.grid import Cell
from hyperlect.hypernet import UNTRAINED, HypernetConfig
from hyperlect.methods import METHODS
from hyperlect.model import HyperX, HyperXConfig
from hyperlect.tasks import Task, TaskType

from .models import IDS, LANGUAGES, MASK, MLM, NER, POS, TASKS, TRAINED, tiny_model

OWN, MEAN, NOT_USED = "own vector", "mean of the trained languages", "not used"


def logits(model: HyperX, language: str, task: str = "pos") -> Tensor:
    with torch.no_grad():
        return model(IDS, MASK, task=task, language=language).logits


# --- fields


@pytest.mark.parametrize("method", METHODS)
def test_a_configuration_survives_json(method: str):
    config = HyperXConfig(TASKS, LANGUAGES, TRAINED, method, HypernetConfig(projection=None))
    assert HyperXConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_how_data_is_marked_is_not_kept():
    """It belongs to the recipe, and the same labels may come from data of several schemes."""
    bioes = Task(NER.name, NER.type, NER.labels, NER.label_map, scheme="bioes", unlabelled="ignore")
    config = HyperXConfig((bioes,), ("eng",))
    assert HyperXConfig.from_dict(config.to_dict()).tasks == (NER,)


def test_a_digest_is_of_tasks_labels_and_languages_in_order():
    config = HyperXConfig((POS, NER), ("eng", "isl"))
    same = HyperXConfig((POS, NER), ("en", "is"), TRAINED, head_dropout=0.5)
    assert config.digest == same.digest
    other_labels = Task("pos", TaskType.TAGGING, POS.labels[::-1])
    others = [((NER, POS), ("eng", "isl")), ((POS, NER), ("isl", "eng")), ((POS,), ("eng", "isl"))]
    others.append(((other_labels, NER), ("eng", "isl")))
    digests = {HyperXConfig(*other).digest for other in others}
    assert len(digests) == 4
    assert config.digest not in digests


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({"method": "hyper-x"}, ["method", "hyper-x"]),
        ({"parser": "biaffine"}, ["parser", "biaffine"]),
        ({"languages": ()}, ["languages"]),
        ({"languages": ("eng", "isl", "en")}, ['"eng"', "twice"]),
        ({"tasks": (POS, MLM, POS)}, ['"pos"', "twice"]),
        ({"tasks": (Task("a.b", TaskType.MLM),)}, ['"a.b"']),
        ({"tasks": (Task("type", TaskType.MLM),)}, ['"type"']),
        ({"tasks": (Task("", TaskType.MLM),)}, ['""']),
        *(
            ({"tasks": (Task(name, TaskType.MLM),)}, ["task"])
            for name in ("/x", "a\\b", "a\nb", "a:b")
        ),
        ({"method": "mad-x", "tasks": (MLM,)}, ["mad-x"]),
    ],
)
def test_an_impossible_configuration_is_refused(changes: dict[str, Any], names: list[str]):
    settings = {"tasks": TASKS, "languages": LANGUAGES, **changes}
    with pytest.raises(ValueError, match=names[0]) as error:
        HyperXConfig(**settings)
    assert all(name in str(error.value) for name in names)


def test_all_problems_of_a_configuration_are_named_at_once():
    with pytest.raises(ValueError, match="twice") as error:
        HyperXConfig((POS, POS), LANGUAGES, method="hyper", parser="best")
    assert all(name in str(error.value) for name in ("method", "parser", '"pos"'))


def test_languages_of_a_configuration_may_have_any_form():
    config = HyperXConfig((POS,), ("en", "Faroese"), (Cell("pos", "fo"),))
    assert config.languages == ("eng", "fao")
    assert config.trained == (Cell("pos", "fao"),)
    model = tiny_model(languages=("en", "fo"), trained=(Cell("pos", "fo"),))
    assert model.languages == ["eng", "fao"]
    assert model.config.language_index("fao") == model.config.language_index("fo") == 1
    assert str(model.grid.kind(Cell("pos", "fao"))) == "supervised"
    with pytest.raises(UnknownNameError, match="Elvish-ish"):
        HyperXConfig((POS,), ("eng", "Elvish-ish"))


# --- languages and their vectors


def test_a_language_is_the_same_in_every_form():
    model = tiny_model(languages=("eng", "fao", "zho"))
    for names in (("fao", "fo", "Faroese", "FO"), ("zho", "zh", "zh-Hant", "cmn", "Chinese")):
        rows = {model.config.language_index(name) for name in names}
        assert rows == {model.languages.index(names[0])}
        first = logits(model, names[0])
        for name in names:
            assert torch.equal(logits(model, name), first)
            assert model.language_source(name) == OWN


def test_a_trained_language_has_its_own_vector_and_others_have_the_mean():
    model = tiny_model()
    assert [model.language_source(code) for code in LANGUAGES] == [OWN] * len(LANGUAGES)
    assert model.language_source("fo") == model.language_source("yor") == MEAN
    assert model.config.language_index("fo") == UNTRAINED
    names, vectors = model.language_vectors()
    assert names == list(LANGUAGES)
    assert torch.equal(vectors, model.adapters.source.embeddings["language"].detach())
    assert len({logits(model, code).sum().item() for code in (*LANGUAGES, "fao")}) == 4


def test_an_untrained_language_equals_one_whose_vector_is_the_mean():
    model, other = tiny_model(), tiny_model()
    with torch.no_grad():
        table = other.adapters.source.embeddings["language"]
        table[1] = model.adapters.source.embeddings["language"].mean(0)
    torch.testing.assert_close(logits(model, "fao"), logits(other, "isl"))


def test_with_language_dropout_an_untrained_language_has_the_zero_vector():
    model, other = tiny_model(hypernet={"language_dropout": 0.2}), tiny_model()
    assert model.language_source("fao") == "zero vector"
    assert model.language_source("isl") == OWN
    with torch.no_grad():
        other.adapters.source.embeddings["language"][1] = 0
    torch.testing.assert_close(logits(model, "fao"), logits(other, "isl"))
    torch.testing.assert_close(logits(model, "eng"), logits(tiny_model(), "eng"))
    heads_only = tiny_model(method="head", hypernet={"language_dropout": 0.2})
    assert heads_only.language_source("fao") == NOT_USED


def test_an_untrained_language_is_never_random():
    first = logits(tiny_model(), "fao")
    torch.manual_seed(99)
    model = tiny_model()
    assert torch.equal(logits(model, "fao"), first)
    assert torch.equal(logits(model, "yor"), first)


@pytest.mark.parametrize("method", ["task-hypernet", "adapters", "head"])
def test_some_baselines_read_no_language(method: str):
    model = tiny_model(method=method)
    assert torch.equal(logits(model, "eng"), logits(model, "isl"))
    assert torch.equal(logits(model, "eng"), logits(model, "fao"))
    assert model.language_source("eng") == model.language_source("fao") == NOT_USED
    names, vectors = model.language_vectors()
    assert (names, vectors.numel()) == ([], 0)
    if method != "head":
        pos, ner = (model.adapter_weights(task, "eng").up_weight for task in ("pos", "ner"))
        assert not torch.equal(pos, ner)


@pytest.mark.parametrize(
    ("method", "sources"),
    [("task-hypernet", ("task", "layer")), ("language-hypernet", ("language", "layer"))],
)
def test_a_baseline_hypernetwork_lacks_one_source(method: str, sources: tuple[str, ...]):
    model = tiny_model(method=method)
    assert model.config.hypernet.sources == sources
    assert set(model.adapters.source.embeddings) == set(sources)


def test_a_hypernetwork_without_the_language_as_source_uses_no_vector():
    model = tiny_model(hypernet={"sources": ("task", "layer")})
    assert model.language_source("eng") == NOT_USED
    assert torch.equal(logits(model, "eng"), logits(model, "fao"))


def test_heads_alone_have_no_adapters():
    model = tiny_model(method="head")
    assert model.adapters is None
    assert model.generate([("pos", "eng")]) is None
    assert not [name for name in model.own_parameters() if not name.startswith("heads.")]
    with pytest.raises(RunError, match="head"):
        model.adapter_weights("pos", "eng")


def test_cells_of_equal_weights_have_the_same_index():
    config = tiny_model().config
    assert config.index(Cell("ner", "is")) == config.index(Cell("ner", "isl")) == (1, 1)
    assert config.index(Cell("pos", "fao")) == config.index(Cell("pos", "dan")) == (0, UNTRAINED)
    by_task = tiny_model(method="task-hypernet").config
    assert by_task.index(Cell("ner", "eng")) == by_task.index(Cell("ner", "isl"))
    by_language = tiny_model(method="language-hypernet").config
    assert by_language.index(Cell("ner", "eng")) == by_language.index(Cell("pos", "eng"))


# --- the cells of rows


def test_a_name_is_for_all_rows_or_there_is_one_for_each():
    config = tiny_model().config
    pos, ner = Cell("pos", "eng"), Cell("ner", "eng")
    assert config.cells("pos", "eng", 3, "row") == [pos] * 3
    assert config.cells(["pos", "ner", "pos"], "eng", 3, "row") == [pos, ner, pos]
    assert config.cells(("ner", "pos"), ("eng", "isl"), 2, "row") == [ner, Cell("pos", "isl")]
    assert config.cells("topic", "eng", 0, "row") == []
    assert config.cells([], [], 0, "row") == []


def test_all_unknown_names_are_named_with_their_rows():
    tasks, languages = ["pos", "pso", "nre", "pso"], ["eng", "isl", "isl", "Icelandik"]
    with pytest.raises(UnknownNameError) as error:
        tiny_model().config.cells(tasks, languages, 4, "row")
    problems = {problem.key: problem.message for problem in error.value.problems}
    assert problems.keys() == {"rows 1, 3", "row 2", "row 3"}
    for key, near in {"rows 1, 3": '"pos"', "row 2": '"ner"', "row 3": '"Icelandic"'}.items():
        assert f"Did you mean {near}" in problems[key]


@pytest.mark.parametrize("rows", [0, 2])
def test_one_unknown_name_for_all_rows_names_no_row(rows: int):
    config = tiny_model().config
    with pytest.raises(UnknownNameError, match='"pso"') as error:
        config.cells("pso", "eng", rows, "row")
    assert error.value.problems == ()
    with pytest.raises(UnknownNameError, match='"Icelandik"'):
        config.cells("topic", "Icelandik", rows, "row")


@pytest.mark.parametrize("names", [["pos"], ["pos"] * 3, []])
def test_there_must_be_as_many_names_as_rows(names: list[str]):
    config = tiny_model().config
    with pytest.raises(HyperlectError, match=f"task.*2.*{len(names)}"):
        config.cells(names, "eng", 2, "row")
    with pytest.raises(HyperlectError, match=f"language.*2.*{len(names)}"):
        config.cells("pos", ["eng"] * len(names), 2, "row")


@pytest.mark.parametrize("names", [None, 7, {"pos": 1}, ["pos", None], [["pos"], ["pos"]]])
def test_names_must_be_texts(names: Any):
    config = tiny_model().config
    with pytest.raises(HyperlectError, match="task"):
        config.cells(names, "eng", 2, "row")
    with pytest.raises(HyperlectError, match="language"):
        config.cells("pos", names, 2, "row")


@pytest.mark.parametrize("method", ["hyperx", "task-hypernet", "adapters", "mad-x", "head"])
def test_an_unknown_name_suggests_the_nearest(method: str):
    model = tiny_model(method=method)
    with pytest.raises(UnknownNameError, match=r'"nre".*"ner".*pos, ner, topic, mlm'):
        model(IDS, MASK, task="nre", language="eng")
    with pytest.raises(UnknownNameError, match=r'"Icelandik".*"Icelandic"'):
        model(IDS, MASK, task="ner", language="Icelandik")
    for language in ("", "mul", "e", "xyzzy"):
        with pytest.raises(UnknownNameError, match=f'"{language}"'):
            model(IDS, MASK, task="ner", language=language)


def test_a_configuration_may_be_copied():
    config = tiny_model().config
    assert copy.deepcopy(config) == config
    assert copy.deepcopy(config).tasks[0].type is TaskType.TAGGING
