"""What a service knows of its model and its run."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

pytest.importorskip("prometheus_client")

from hyperlect.data.encoding import encode_inputs
from hyperlect.errors import HyperlectError
from hyperlect.evaluation import CellResult, Results
from hyperlect.evaluation.results import Expected, write_results
from hyperlect.grid import Kind
from hyperlect.predict import Prediction
from hyperlect.serving.batching import Entry
from hyperlect.serving.schemas import Settings
from hyperlect.serving.service import Service

from ..model.test_features import model_of
from ..test_predict import random_model


def service(run: Path | None = None) -> Service:
    return Service(random_model(), Settings(precision="fp32"), run)


def result(task: str, language: str, kind: Kind, expected: Expected | None = None) -> CellResult:
    return CellResult(
        task=task,
        language=language,
        kind=kind,
        metric="span F1",
        score=61.0,
        examples=9,
        expected=expected,
    )


@pytest.fixture
def run(tmp_path: Path) -> Path:
    cells = (
        result("ner", "isl", Kind.SUPERVISED),
        result("ner", "mlt", Kind.UNTOUCHED, Expected(score=50.0, low=40.0, high=60.0)),
    )
    results = Results(name="mine", method="hyperx", backbone="tiny", cells=cells)
    write_results(tmp_path, results)
    return tmp_path


def test_the_grid_has_every_cell_with_its_kind_and_what_is_known_of_it(run: Path) -> None:
    grid = service(run).grid()
    assert grid.name == "mine"
    assert [task.name for task in grid.tasks] == ["pos", "ner", "topic", "nli", "dep"]
    assert set(grid.languages) == {"eng", "fao", "isl", "mlt"}
    assert len(grid.cells) == 5 * 4
    cells = {(cell.task, cell.language): cell for cell in grid.cells}
    assert cells["ner", "isl"].kind == Kind.SUPERVISED
    assert cells["ner", "isl"].score == 61.0
    assert cells["pos", "isl"].kind == Kind.UNSEEN_COMBINATION
    assert cells["pos", "isl"].score is None
    expected = cells["ner", "mlt"].expected
    assert expected is not None
    assert (expected.low, expected.source) == (40.0, "evaluation")


def test_languages_have_their_names_direction_and_kinds() -> None:
    known = {language.code: language for language in service().languages(every=True)}
    assert known["isl"].autonym == "íslenska"
    assert known["isl"].kinds["ner"] == Kind.SUPERVISED
    assert known["heb"].direction == "rtl"
    assert known["heb"].kinds["ner"] == Kind.UNTOUCHED
    assert known["heb"].language_source == "mean of the trained languages"
    assert {language.code for language in service().languages()} == {"eng", "fao", "isl"}


def predictions(task: str, language: str, count: int) -> list[Prediction]:
    return random_model().predict(["Anna sees Oslo"] * count, task, language)


def test_what_to_expect_comes_from_the_evaluation_or_from_enough_sentences(run: Path) -> None:
    served = service(run)
    several = [
        *predictions("ner", "mlt", 1),
        *predictions("ner", "isl", 12),
        *predictions("ner", "tur", 12),
        *predictions("ner", "deu", 9),
    ]
    sources = {cell.language: e.source for cell, e in served.expectations(several).items()}
    assert sources == {"mlt": "evaluation", "tur": "request"}


def test_nothing_is_expected_where_the_encoder_does_not_know_the_text(run: Path) -> None:
    known = random_model().predict(["Anna sees Oslo"] * 12, "ner", "tur")
    unknown = random_model().predict(["Аня бачить Осло"] * 12, "ner", "tur")
    served = service(run)
    assert served.expectations(known)
    assert not served.expectations(unknown)


def test_a_model_that_answers_nothing_does_not_start() -> None:
    served = service()
    with torch.no_grad():
        for parameter in served.model.heads.parameters():
            parameter.fill_(float("nan"))
    with pytest.raises(HyperlectError, match="NaN"), served.warm():
        pass


def test_the_grid_does_not_show_languages_that_are_described_for_a_batch(tmp_path: Path) -> None:
    model = model_of(tmp_path)
    served = Service(model, Settings(precision="fp32"))
    before = served.grid(), served.languages()
    rows = encode_inputs(["the cat sees Oslo"], model.task("pos"), model.tokenizer, 64)
    with model.described({"deu": [rows]}):
        assert "deu" in model.languages
        assert (served.grid(), served.languages()) == before


def test_languages_known_by_their_sentences_do_not_depend_on_other_requests(
    tmp_path: Path,
) -> None:
    model = model_of(tmp_path)
    texts = ["the cat sees Oslo", "Anna and a dog", "old river"]
    entries = [Entry(text, "pos", "deu", 6) for text in texts]
    answers = Service(model, Settings(precision="fp32")).answer(entries)
    for text, answer in zip(texts, answers, strict=True):
        assert isinstance(answer, Prediction)
        (single,) = model.predict([text], "pos", "deu")
        assert answer.confidences == pytest.approx(single.confidences, abs=1e-5)
        assert answer.labels == single.labels
    together = model.predict(texts, "pos", "deu")
    assert together[0].confidences != pytest.approx(answers[0].confidences, abs=1e-5)  # type: ignore[union-attr]


def test_weights_are_kept_while_it_is_warm() -> None:
    served = service()
    with served.warm():
        cache = served.model._cache
        served.answer([Entry("the cat", "pos", "eng", 4), Entry("the cat", "ner", "isl", 4)])
        assert served.model._cache is cache
        assert cache is not None
        assert len(cache) == 2
    assert served.model._cache is None
