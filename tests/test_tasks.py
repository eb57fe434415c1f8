"""Tasks: types, labels, label maps."""

from __future__ import annotations

import copy
import pickle

import pytest

from hyperlect.errors import UnknownNameError
from hyperlect.tasks import DEPREL, TASK_TYPES, UPOS, Scheme, Task, TaskType, label_set
from hyperlect.tasks import task_type as task_type_of


@pytest.mark.parametrize(
    ("task_type", "words", "metric"),
    [
        ("tagging", True, "accuracy"),
        ("spans", True, "span F1"),
        ("parsing", True, "LAS"),
        ("classification", False, "accuracy"),
        ("pairs", False, "accuracy"),
        ("mlm", False, "perplexity"),
    ],
)
def test_types_say_what_they_read_and_how_they_are_scored(
    task_type: str, words: bool, metric: str
) -> None:
    typed = task_type_of(task_type)
    assert (typed.reads_words, typed.metric) == (words, metric)


def test_task_types_are_their_names_and_stay_themselves_when_copied() -> None:
    assert TASK_TYPES["spans"] is TaskType.SPANS == "spans"
    assert copy.deepcopy(TaskType.SPANS) is TaskType.SPANS
    assert pickle.loads(pickle.dumps(TaskType.SPANS)) is TaskType.SPANS
    with pytest.raises(UnknownNameError, match='"span"'):
        task_type_of("span")


ENTITY_MAP = {"DATE": "O", "GPE": "LOC", "-": "O", "E-GPE": "B-LOC"}


@pytest.mark.parametrize(
    ("label", "mapped"),
    [
        ("B-DATE", "O"),
        ("I-DATE", "O"),
        ("I-GPE", "I-LOC"),
        ("B-GPE", "B-LOC"),
        ("B-LOC", "B-LOC"),
        ("O", "O"),
        ("B-GPE-X", "B-GPE-X"),
        ("-", "O"),
        ("E-GPE", "B-LOC"),
        ("PER", "PER"),
    ],
)
def test_a_label_map_of_spans_speaks_of_entity_types_or_whole_tags(label: str, mapped: str) -> None:
    task = Task("ner", TaskType.SPANS, label_map=ENTITY_MAP)
    assert task.map_label(label) == mapped


@pytest.mark.parametrize(
    ("scheme", "label", "tag", "mapped"),
    [
        ("iob2", "B-GPE", ("B", "GPE"), "B-LOC"),
        ("iob2", "O", ("", "O"), "O"),
        ("iob2", "PER", None, "PER"),
        ("iob2", "S-PER", None, "S-PER"),
        ("iob2", "I-", None, "I-"),
        ("iob2", "ORG", ("I", "ORG"), "I-ORG"),  # the map names the whole tag
        ("io", "PER", ("I", "PER"), "I-PER"),
        ("io", "GPE", ("I", "GPE"), "I-LOC"),
        ("io", "I-PER", ("I", "PER"), "I-PER"),
        ("io", "DATE", ("I", "DATE"), "O"),
        ("io", "ORG", ("I", "ORG"), "I-ORG"),
        ("io", "S-PER", None, "S-PER"),
        ("io", "0", None, "0"),
        ("bioes", "S-GPE", ("S", "GPE"), "B-LOC"),
        ("bioes", "E-PER", ("E", "PER"), "I-PER"),
        ("bioes", "PER", None, "PER"),
    ],
)
def test_tags_of_every_scheme_are_taken_apart(
    scheme: Scheme, label: str, tag: tuple[str, str] | None, mapped: str
) -> None:
    label_map = {"GPE": "LOC", "DATE": "O", "ORG": "I-ORG"}
    task = Task("ner", TaskType.SPANS, label_map=label_map, scheme=scheme)
    assert task.split_tag(label) == tag
    assert task.map_label(label) == mapped


@pytest.mark.parametrize(
    ("entity", "mapped"),
    [("GPE", "LOC"), ("LOC", "LOC"), ("PER", "PER"), ("DATE", "MISC"), ("MISC", "MISC")],
)
def test_a_star_is_every_type_that_nothing_else_names(entity: str, mapped: str) -> None:
    labels = ("O", "B-PER", "I-PER")
    task = Task("ner", TaskType.SPANS, labels, {"GPE": "LOC", "*": "MISC"})
    assert task.map_entity(entity) == mapped


def test_other_label_maps_speak_of_labels() -> None:
    task = Task("pos", TaskType.TAGGING, label_map={"B-X": "NOUN"})
    assert task.map_label("B-X") == "NOUN"
    assert task.map_label("X") == "X"


@pytest.mark.parametrize(
    ("relation", "mapped"),
    [
        ("nsubj", "nsubj"),
        ("nsubj:pass", "nsubj"),
        ("aux:pass", "aux:pass"),
        ("obl:arg", "iobj"),
        ("dobj", "obj"),
        ("dobj:x", "obj"),
    ],
)
def test_relations_lose_subtypes_that_no_label_map_names(relation: str, mapped: str) -> None:
    label_map = {"aux:pass": "aux:pass", "obl:arg": "iobj", "dobj": "obj"}
    assert Task("dep", TaskType.PARSING, label_map=label_map).map_label(relation) == mapped


def test_the_universal_label_sets_are_whole() -> None:
    assert (len(set(UPOS)), len(set(DEPREL))) == (17, 37)
    assert list(DEPREL) == sorted(DEPREL)


def test_a_label_set_is_sorted_and_has_each_label_once() -> None:
    assert label_set(TaskType.TAGGING, ["VERB", "NOUN", "VERB"]) == ("NOUN", "VERB")
    assert label_set(TaskType.CLASSIFICATION, iter("ba")) == ("a", "b")
    assert label_set(TaskType.MLM, ["x"]) == ()


def test_a_label_set_of_spans_has_both_tags_of_each_type_after_o() -> None:
    labels = label_set(TaskType.SPANS, iter(["I-PER", "O", "B-LOC", "B-PER"]))
    assert labels == ("O", "B-LOC", "I-LOC", "B-PER", "I-PER")
    assert label_set(TaskType.SPANS, []) == ("O",)
