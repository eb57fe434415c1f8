"""Tasks: types, labels, label maps."""

from __future__ import annotations

import pytest

from hyperlect.errors import UnknownNameError
from hyperlect.tasks import DEPREL, UPOS, Task, TaskType, inventory


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
    found = TaskType(task_type)
    assert (found.reads_words, found.metric) == (words, metric)


def test_every_type_has_a_metric() -> None:
    assert all(task_type.metric for task_type in TaskType)


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
    given = {"aux:pass": "aux:pass", "obl:arg": "iobj", "dobj": "obj"}
    assert Task("dep", TaskType.PARSING, label_map=given).map_label(relation) == mapped


def test_the_universal_inventories_are_whole() -> None:
    assert (len(set(UPOS)), len(set(DEPREL))) == (17, 37)
    assert list(DEPREL) == sorted(DEPREL)


def test_labels_have_the_index_of_their_output() -> None:
    task = Task("pos", TaskType.TAGGING, ("NOUN", "VERB"))
    assert [task.label_id(label) for label in ("NOUN", "VERB")] == [0, 1]
    with pytest.raises(UnknownNameError, match=r'label of task pos "VREB"\. Did you mean "VERB"'):
        task.label_id("VREB")


def test_an_inventory_is_sorted_and_has_each_label_once() -> None:
    assert inventory(TaskType.TAGGING, ["VERB", "NOUN", "VERB"]) == ("NOUN", "VERB")
    assert inventory(TaskType.CLASSIFICATION, iter("ba")) == ("a", "b")
    assert inventory(TaskType.MLM, ["x"]) == ()


def test_an_inventory_of_spans_has_both_tags_of_each_type_after_o() -> None:
    found = inventory(TaskType.SPANS, iter(["I-PER", "O", "B-LOC", "B-PER"]))
    assert found == ("O", "B-LOC", "I-LOC", "B-PER", "I-PER")
    assert inventory(TaskType.SPANS, []) == ("O",)
