from __future__ import annotations

import warnings

import numpy as np
import pytest

from hyperlect.data.labels import inventory_of, label_ids
from hyperlect.errors import DataError
from hyperlect.tasks import Task, TaskType
from tests.data.made import corpus, tagged

NER = Task("ner", TaskType.SPANS, ("O", "B-LOC", "I-LOC", "B-PER", "I-PER"))
MAPPED = Task("ner", TaskType.SPANS, NER.labels, {"GPE": "LOC", "DATE": "O"})


def names(examples, task: Task) -> list[list[str]]:
    ids, starts = label_ids(examples, task)
    parts = np.split(ids, starts[1:-1])
    return [[task.labels[index] for index in part] for part in parts]


def test_labels_of_words():
    examples = tagged("Anna/B-PER Li/I-PER sees/O Oslo/B-LOC", "a/O", "Oslo/B-LOC Oslo/B-LOC")
    assert names(examples, NER) == [
        ["B-PER", "I-PER", "O", "B-LOC"], ["O"], ["B-LOC", "B-LOC"],
    ]  # fmt: skip


def test_labels_of_texts():
    task = Task("topic", TaskType.CLASSIFICATION, ("sports", "travel"), {"sport": "sports"})
    rows = [{"text": "a", "label": name} for name in ("travel", "sport", "sports")]
    ids, starts = label_ids(corpus(rows), task)
    assert ids.tolist() == [1, 0, 0]
    assert starts.tolist() == [0, 1, 2, 3]


def test_labels_of_selected_rows_only():
    examples = tagged("a/X", "Anna/B-PER", "b/X").select([1])
    assert names(examples, NER) == [["B-PER"]]


def test_no_examples():
    assert label_ids(tagged(), NER)[0].tolist() == []


def test_merged_and_dropped_entities_stay_valid():
    examples = tagged("x/B-GPE y/I-GPE z/B-DATE w/I-DATE v/B-LOC u/B-GPE t/O")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert names(examples, MAPPED) == [
            ["B-LOC", "I-LOC", "O", "O", "B-LOC", "B-LOC", "O"],
        ]


def test_a_stray_inside_tag_begins_a_span_and_is_said():
    examples = tagged(
        "Anna/O Oslo/I-LOC Li/I-LOC Bo/I-PER Oslo/B-LOC Bo/I-PER", "Oslo/I-LOC", file="f.iob"
    )
    with pytest.warns(UserWarning, match="continues no such span") as caught:
        assert names(examples, NER) == [
            ["O", "B-LOC", "I-LOC", "B-PER", "B-LOC", "B-PER"],
            ["B-LOC"],
        ]
    (warning,) = caught
    text = str(warning.message)
    assert text.startswith('f.iob:1: word 2, "Oslo", has the label "I-LOC"')
    assert "4 such tags in this corpus of 2 sentences" in text


def test_a_span_ends_with_its_sentence():
    with pytest.warns(UserWarning, match=r"made\.txt:11: word 1, .* one such tag"):
        assert names(tagged("a/B-LOC", "b/I-LOC"), NER) == [["B-LOC"], ["B-LOC"]]


def test_iob1_becomes_iob2():
    iob1 = tagged("a/I-PER b/I-PER c/B-PER d/O e/I-LOC")
    with pytest.warns(UserWarning, match="2 such tags"):
        assert names(iob1, NER) == [["B-PER", "I-PER", "B-PER", "O", "B-LOC"]]


def test_stray_tags_that_are_merged_or_dropped():
    examples = tagged("a/B-GPE b/I-LOC c/O d/I-DATE e/O")
    with pytest.warns(UserWarning, match="one such tag in"):
        assert names(examples, MAPPED) == [["B-LOC", "B-LOC", "O", "O", "O"]]


def test_unknown_labels_are_named_once_each_with_their_first_place():
    examples = tagged("Anna/B-PER x/B-LCO", "y/B-TIME z/B-LCO", file="train.iob2")
    with pytest.raises(DataError) as error:
        label_ids(examples, NER)
    text = str(error.value)
    assert "Known: O, B-LOC, I-LOC, B-PER, I-PER" in text
    assert (
        'train.iob2:1: word 2, "x", has the label "B-LCO" (2 times). Did you mean "B-LOC"?' in text
    )
    assert 'train.iob2:11: word 1, "y", has the label "B-TIME" (once)' in text
    assert text.count("B-LCO") == 1


def test_twenty_unknown_labels_are_shown():
    task = Task("topic", TaskType.CLASSIFICATION, ("sports",))
    with pytest.raises(DataError, match="… and 5 more") as error:
        label_ids(corpus([{"text": "a", "label": f"t{i}"} for i in range(25)]), task)
    assert str(error.value).count("made.txt:") == 20
    assert 'made.txt:1: the label "t0" (once)' in str(error.value)


def test_missing_labels_are_named():
    examples = corpus([{"words": ["a"], "labels": ["O"]}, {"words": ["b", "c"], "line": 7}])
    with pytest.raises(DataError, match=r"made\.txt:7: no label"):
        label_ids(examples, NER)
    texts = corpus([{"text": "a", "label": None, "line": 3}])
    with pytest.raises(DataError, match=r"made\.txt:3: no label"):
        label_ids(texts, Task("topic", TaskType.CLASSIFICATION, ("x",)))


def test_inventory_of_all_corpora():
    corpora = [tagged("a/B-GPE b/B-DATE"), tagged("c/I-PER d/O")]
    assert inventory_of(corpora, TaskType.SPANS, MAPPED.label_map) == NER.labels
    assert inventory_of([tagged("a/NOUN"), tagged("b/ADJ c/NOUN")], TaskType.TAGGING) == (
        "ADJ", "NOUN",
    )  # fmt: skip
    texts = corpus([{"text": "a", "label": "y"}, {"text": "b", "label": "x"}])
    assert inventory_of([texts], TaskType.CLASSIFICATION) == ("x", "y")
    assert inventory_of([texts], TaskType.MLM) == ()


@pytest.mark.parametrize(
    ("task_type", "words", "only"),
    [
        (TaskType.SPANS, ["a/O b/O", "c/DATE"], "O"),
        (TaskType.TAGGING, ["a/NOUN", "b/NOUN"], "NOUN"),
    ],
)
def test_one_label_alone_is_nothing_to_learn(task_type, words, only):
    with pytest.raises(DataError, match=f'The only label in its training data is "{only}"'):
        inventory_of([tagged(*words)], task_type, {"DATE": "O"})


def test_trees_may_have_one_relation():
    assert inventory_of([tagged("a/dep b/dep")], TaskType.PARSING) == ("dep",)


def test_an_inventory_of_spans_holds_nothing_but_iob2():
    corpora = [tagged("a/B-PER b/E-PER", file="one"), tagged("c/NOUN d/NOUN e/I-", file="two")]
    with pytest.raises(DataError) as error:
        inventory_of(corpora, TaskType.SPANS)
    text = str(error.value)
    assert 'one:1: word 2, "b", has the label "E-PER" (once)' in text
    assert 'two:1: word 1, "c", has the label "NOUN" (2 times)' in text
    assert '"I-"' in text
