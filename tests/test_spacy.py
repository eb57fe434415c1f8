"""The component of spaCy pipelines. Its entry point is read off pyproject.toml: a test of the
source tree must not depend on what is installed."""

from __future__ import annotations

import importlib
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from hyperlect.errors import HyperlectError, UnknownNameError
from hyperlect.grid import Cell
from hyperlect.model import HyperX
from hyperlect.tasks import UPOS, Task, TaskType
from tests.model.models import NER, TOPIC, tiny_model
from tests.tiny import saved_backbone

spacy = pytest.importorskip("spacy")
component = importlib.import_module("hyperlect.spacy")

POS = Task("pos", TaskType.TAGGING, UPOS)
SORT = Task("sort", TaskType.TAGGING, ("name", "word"))
DEP = Task("dep", TaskType.PARSING, ("nsubj", "obj", "root"))
TASKS = (POS, NER, DEP, SORT, TOPIC)
TRAINED = (Cell("pos", "eng"), Cell("ner", "isl"), Cell("dep", "eng"), Cell("sort", "tur"))
WORDS = ["the", "old", "cat", "sees", "Anna", "in", "Oslo", "and", "a", "dog"]
ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("spacy")
    model = tiny_model(saved_backbone(folder / "encoder"), tasks=TASKS, trained=TRAINED)
    model.save_pretrained(folder / "run")
    return folder / "run"


def pipeline(run: Path, *, sentences: bool = False, **config: Any) -> Any:
    nlp = spacy.blank("xx")
    if sentences:
        nlp.add_pipe("sentencizer")
    nlp.add_pipe("hyperlect", config={"model": str(run), "language": "isl", **config})
    return nlp


def doc_of(nlp: Any, words: list[str]) -> Any:
    return spacy.tokens.Doc(nlp.vocab, words=words)


def test_documents_have_what_the_model_predicts(run: Path) -> None:
    nlp = pipeline(run, tasks=["pos", "ner", "dep", "sort"])
    doc = nlp(doc_of(nlp, WORDS))
    model = HyperX.from_pretrained(run)
    pos, ner, dep, sort = (model.predict([WORDS], task, "isl")[0] for task in nlp_tasks(nlp))
    assert tuple(token.pos_ for token in doc) == pos.labels
    assert tuple(token.tag_ for token in doc) == sort.labels
    spans = [(span.label, span.start, span.end) for span in ner.spans]
    assert spans
    assert [(ent.label_, ent.start, ent.end) for ent in doc.ents] == spans
    heads = tuple(0 if token.head == token else token.head.i + 1 for token in doc)
    assert heads == dep.heads
    names = [label if head else "ROOT" for label, head in zip(dep.labels, dep.heads, strict=True)]
    assert [token.dep_ for token in doc] == names
    assert [len(sentence) for sentence in doc.sents] == [len(WORDS)]
    assert all(map(doc.has_annotation, ("POS", "TAG", "DEP", "HEAD", "ENT_IOB", "SENT_START")))


def nlp_tasks(nlp: Any) -> list[str]:
    return list(nlp.get_pipe("hyperlect").attributes)


def test_white_space_is_no_word_and_sentences_are_predicted_one_by_one(run: Path) -> None:
    nlp = pipeline(run, sentences=True, tasks=["pos", "ner", "dep"])
    text = "  the cat sees  Anna .\n\n Oslo and the dog . "
    doc = nlp(text)
    model = HyperX.from_pretrained(run)
    sentences = [["the", "cat", "sees", "Anna", "."], ["Oslo", "and", "the", "dog", "."]]
    words = [token for token in doc if not token.is_space]
    for task, read in (("pos", "pos_"), ("dep", "dep_")):
        predictions = model.predict(sentences, task, "isl")
        labels = [label for prediction in predictions for label in prediction.labels]
        if task == "dep":
            heads = [head for prediction in predictions for head in prediction.heads]
            labels = [label if head else "ROOT" for label, head in zip(labels, heads, strict=True)]
        assert [getattr(word, read) for word in words] == labels
    assert all(token.pos_ == "SPACE" for token in doc if token.is_space)
    assert [[w.text for w in s if not w.is_space] for s in doc.sents] == sentences
    assert doc.text == text


def test_a_stream_gives_what_single_documents_give(run: Path) -> None:
    nlp = pipeline(run, sentences=True, tasks=["pos", "ner", "dep"])
    texts = ["the cat . Anna sees Oslo .", "", " \n", *(" ".join(WORDS[i:]) for i in range(9))]

    def read(doc: Any) -> list[tuple[Any, ...]]:
        return [(t.text, t.pos_, t.ent_iob_, t.ent_type_, t.head.i, t.dep_) for t in doc]

    single = [read(nlp(text)) for text in texts]
    assert [read(doc) for doc in nlp.pipe(texts, batch_size=5)] == single


def test_a_stored_pipeline_loads_its_model_again(run: Path, tmp_path: Path) -> None:
    nlp = pipeline(run, tasks=["pos"])
    nlp.to_disk(tmp_path / "pipeline")
    assert not list((tmp_path / "pipeline").rglob("*.safetensors"))
    before = [token.pos_ for token in nlp(" ".join(WORDS))]
    assert [token.pos_ for token in spacy.load(tmp_path / "pipeline")(" ".join(WORDS))] == before
    moved = run.rename(run.with_name("moved"))
    try:
        config = {"components.hyperlect.model": str(moved)}
        again = spacy.load(tmp_path / "pipeline", config=config)
    finally:
        moved.rename(run)
    assert [token.pos_ for token in again(" ".join(WORDS))] == before


def test_the_language_is_that_of_the_pipeline_unless_it_is_named(run: Path) -> None:
    nlp = spacy.blank("is")
    nlp.add_pipe("hyperlect", config={"model": str(run), "tasks": ["pos"]})
    assert nlp.get_pipe("hyperlect").language == "isl"
    with pytest.raises(UnknownNameError, match="xx"):
        pipeline(run, language=None)


def test_wrong_tasks_are_refused(run: Path) -> None:
    with pytest.raises(UnknownNameError, match="poss"):
        pipeline(run, tasks=["poss"])
    with pytest.raises(HyperlectError, match="topic"):
        pipeline(run, tasks=["pos", "topic"])
    with pytest.raises(HyperlectError, match="sets pos"):
        pipeline(run, tasks=["pos", "pos"])
    assert nlp_tasks(pipeline(run)) == ["pos", "ner", "dep", "sort"]


def test_an_error_handler_decides_what_becomes_of_a_failure(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nlp = pipeline(run, tasks=["pos"])

    def fail(*_: object, **__: object) -> None:
        raise HyperlectError("it fails")

    monkeypatch.setattr(nlp.get_pipe("hyperlect").model, "predict", fail)
    with pytest.raises(HyperlectError):
        list(nlp.pipe(["the cat"]))
    nlp.set_error_handler(lambda name, proc, docs, error: None)
    assert list(nlp.pipe(["the cat"])) == []


def test_the_entry_point_names_the_factory_and_waits_for_no_library() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    points = project["entry-points"]["spacy_factories"]
    (module, _, function) = points["hyperlect"].partition(":")
    assert callable(getattr(importlib.import_module(module), function))
    code = "import sys, spacy; before = 'torch' in sys.modules; import hyperlect.spacy; "
    code += "print(before or 'torch' not in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True"]
