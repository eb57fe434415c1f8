from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import pytest
from datasets import Dataset

from hyperlect.data.labels import IGNORED, label_ids, label_set_of
from hyperlect.errors import DataError, Problem
from hyperlect.tasks import Scheme, Task, TaskType

from .made import corpus, tagged

NER = Task("ner", TaskType.SPANS, ("O", "B-LOC", "I-LOC", "B-PER", "I-PER"))
MAPPED = replace(NER, label_map={"GPE": "LOC", "DATE": "O"})
POS = Task("pos", TaskType.TAGGING, ("ADJ", "NOUN"))
TOPIC = Task("topic", TaskType.CLASSIFICATION, ("sports", "travel"))


def names(examples: Dataset, task: Task) -> list[list[str]]:
    ids, starts = label_ids(examples, task)
    sentences = np.split(ids, starts[1:-1])
    return [[task.labels[i] if i >= 0 else str(i) for i in sentence] for sentence in sentences]


def silently(examples: Dataset, task: Task) -> list[list[str]]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return names(examples, task)


def problems(examples: Dataset, task: Task) -> tuple[Problem, ...]:
    with pytest.raises(DataError) as error:
        label_ids(examples, task)
    return error.value.problems


def labels_missing(*counts: int) -> Dataset:
    return corpus([{"words": list("abcd"), "labels": ["O"] * count} for count in counts])


def test_labels_of_words() -> None:
    examples = tagged("Anna/B-PER Li/I-PER sees/O Oslo/B-LOC", "a/O", "Oslo/B-LOC Oslo/B-LOC")
    assert silently(examples, NER) == [
        ["B-PER", "I-PER", "O", "B-LOC"], ["O"], ["B-LOC", "B-LOC"],
    ]  # fmt: skip


def test_labels_of_texts() -> None:
    task = replace(TOPIC, label_map={"sport": "sports"})
    rows = [{"text": "a", "label": name} for name in ("travel", "sport", "sports")]
    ids, starts = label_ids(corpus(rows), task)
    assert ids.tolist() == [1, 0, 0]
    assert starts.tolist() == [0, 1, 2, 3]


def test_labels_of_selected_rows_only() -> None:
    examples = tagged("a/X", "Anna/B-PER", "b/X").select([1])
    assert names(examples, NER) == [["B-PER"]]


@pytest.mark.parametrize("task", [NER, POS, TOPIC])
def test_no_examples(task: Task) -> None:
    assert label_ids(tagged(), task)[0].tolist() == []


@pytest.mark.parametrize("labels", [("false", "true"), ("False", "True")])
def test_truth_values_are_one_however_they_are_written(labels: tuple[str, ...]) -> None:
    task = replace(TOPIC, labels=labels)
    rows = [{"text": "a", "label": name} for name in ("true", "True", "false", "False")]
    assert label_ids(corpus(rows), task)[0].tolist() == [1, 1, 0, 0]
    both = replace(TOPIC, labels=("True", "true"))
    assert label_ids(corpus(rows[:2]), both)[0].tolist() == [1, 0]


def test_merged_and_dropped_entities_stay_valid() -> None:
    examples = tagged("x/B-GPE y/I-GPE z/B-DATE w/I-DATE v/B-LOC u/B-GPE t/O")
    assert silently(examples, MAPPED) == [["B-LOC", "I-LOC", "O", "O", "B-LOC", "B-LOC", "O"]]


def test_all_other_entities_may_be_mapped_at_once() -> None:
    examples = tagged("a/B-GPE b/B-LOC c/B-DATE d/I-DATE e/B-PER f/O")
    task = replace(NER, label_map={"GPE": "LOC", "*": "O"})
    assert silently(examples, task) == [["B-LOC", "B-LOC", "O", "O", "B-PER", "O"]]
    unlisted = replace(task, labels=(), label_map={"GPE": "LOC", "*": "MISC"})
    assert label_set_of([examples], unlisted) == ("O", "B-LOC", "I-LOC", "B-MISC", "I-MISC")


def test_a_stray_inside_tag_begins_a_span_and_is_said() -> None:
    examples = tagged(
        "Anna/O Oslo/I-LOC Li/I-LOC Bo/I-PER Oslo/B-LOC Bo/I-PER", "Oslo/I-LOC", file="f.iob"
    )
    with pytest.warns(UserWarning, match=r"f\.iob:1: .*Oslo.*I-LOC") as caught:
        assert names(examples, NER) == [
            ["O", "B-LOC", "I-LOC", "B-PER", "B-LOC", "B-PER"],
            ["B-LOC"],
        ]
    (warning,) = caught
    assert "4 such tags in 2 sentences" in str(warning.message)


def test_a_span_ends_with_its_sentence() -> None:
    with pytest.warns(UserWarning, match=r"made\.txt:11: word 1, .* 1 such tag in 2 sentences"):
        assert names(tagged("a/B-LOC", "b/I-LOC"), NER) == [["B-LOC"], ["B-LOC"]]


def test_stray_tags_that_are_merged_or_dropped() -> None:
    examples = tagged("a/B-GPE b/I-LOC c/O d/I-DATE e/O")
    with pytest.warns(UserWarning, match="1 such tag in"):
        assert names(examples, MAPPED) == [["B-LOC", "B-LOC", "O", "O", "O"]]


@pytest.mark.parametrize(
    ("scheme", "written", "read"),
    [
        ("iob1", "I-PER I-PER B-PER O I-LOC I-PER", "B-PER I-PER B-PER O B-LOC B-PER"),
        ("io", "PER PER O LOC PER LOC", "B-PER I-PER O B-LOC B-PER B-LOC"),
        ("io", "I-PER I-PER O I-LOC PER", "B-PER I-PER O B-LOC B-PER"),
        ("io", "PER B-PER GPE LOC DATE PER", "B-PER B-PER B-LOC B-LOC O B-PER"),
        (
            "bioes",
            "B-PER I-PER E-PER S-PER S-PER O B-LOC E-LOC",
            "B-PER I-PER I-PER B-PER B-PER O B-LOC I-LOC",
        ),
        ("bioes", "B-PER L-PER U-PER S-GPE S-DATE B-LOC", "B-PER I-PER B-PER B-LOC O B-LOC"),
        ("bioes", "B-PER M-PER E-PER B-PER E-PER", "B-PER I-PER I-PER B-PER I-PER"),
    ],
)
def test_spans_of_every_scheme_become_iob2(scheme: Scheme, written: str, read: str) -> None:
    task = replace(MAPPED, scheme=scheme)
    examples = tagged(" ".join(f"w/{tag}" for tag in written.split()))
    assert silently(examples, task) == [read.split()]


def test_an_inside_tag_after_the_end_of_a_span_begins_another() -> None:
    examples = tagged("a/B-PER b/E-PER c/I-PER d/E-PER")
    with pytest.warns(UserWarning, match="1 such tag"):
        assert names(examples, replace(NER, scheme="bioes")) == [
            ["B-PER", "I-PER", "B-PER", "I-PER"]
        ]


def test_strays_are_sought_after_a_map_of_whole_tags() -> None:
    """Types without B- and I- that are mapped to tags: no span of the gold data may vanish."""
    task = replace(NER, label_map={"PER": "I-PER", "LOC": "I-LOC", "0": "O", "B": "B-PER"})
    examples = tagged("Mira/PER Olsen/PER sees/0 Bergen/LOC B-PER/B-PER", "Oslo/LOC a/B b/I-PER")
    with pytest.warns(UserWarning, match="3 such tags"):
        assert names(examples, task) == [
            ["B-PER", "I-PER", "O", "B-LOC", "B-PER"],
            ["B-LOC", "B-PER", "I-PER"],
        ]


HINTS: list[tuple[str, Scheme, str]] = [
    ("PER", "iob2", "scheme: io"),
    ("ORG", "iob1", "scheme: io"),
    ("S-PER", "iob2", "scheme: bioes"),
    ("E-LOC", "io", "scheme: bioes"),
    ("U-LOC", "iob1", "scheme: bioes"),
    ("0", "iob2", 'label_map: {"0": O}'),
    ("0", "io", 'label_map: {"0": O}'),
    ("-", "iob2", 'label_map: {"-": O}'),
    ("o", "bioes", 'label_map: {"o": O}'),
    ("B", "iob2", 'label_map: {"B": B-'),
    ("I-", "iob1", 'label_map: {"I-": I-'),
    ("B_PER", "iob2", '"B-PER"'),
    ("PER-I", "iob2", '"I-PER"'),
    ("I-PERS", "iob2", '"I-PER"'),
    ("B-LCO", "iob2", '"B-LOC"'),
    ("PERS", "io", '"PER"'),
]


@pytest.mark.parametrize(("label", "scheme", "hint"), HINTS)
def test_hints_name_what_is_meant_and_not_the_nearest_spelling(
    label: str, scheme: Scheme, hint: str
) -> None:
    _, problem = problems(tagged("a/O", f"b/{label}"), replace(NER, scheme=scheme))
    assert problem.line == 11
    assert hint in problem.message


@pytest.mark.parametrize(("label", "scheme", "hint"), HINTS[:12])
def test_hints_come_where_no_labels_are_listed_too(label: str, scheme: Scheme, hint: str) -> None:
    with pytest.raises(DataError) as error:
        label_set_of([tagged("a/O", f"b/{label}")], replace(NER, labels=(), scheme=scheme))
    (problem,) = error.value.problems
    assert (problem.file, problem.line) == ("made.txt", 11)
    assert hint in problem.message


def test_unknown_labels_are_named_once_each_with_their_first_place() -> None:
    examples = tagged("Anna/B-PER x/B-LCO", "y/B-TIME z/B-LCO", file="train.iob2")
    known, first, second = problems(examples, NER)
    assert known.key == "tasks.ner.labels"
    assert "O, B-LOC, I-LOC, B-PER, I-PER" in known.message
    assert (first.file, first.line, second.line) == ("train.iob2", 1, 11)
    assert 'word 2, "x", has the label "B-LCO" (2 times)' in first.message
    assert '"B-TIME"' in second.message


def test_unknown_labels_of_texts_are_all_counted() -> None:
    rows = [{"text": "a", "label": f"t{i}"} for i in range(25)]
    with pytest.raises(DataError, match="… and 6 more") as error:
        label_ids(corpus(rows), TOPIC)
    assert len(error.value.problems) == 1 + 25


def test_missing_labels_are_named() -> None:
    examples = corpus([{"words": ["a"], "labels": ["O"]}, {"words": ["b", "c"], "line": 7}])
    assert [(problem.file, problem.line) for problem in problems(examples, NER)] == [
        ("made.txt", 7)
    ]
    texts = corpus([{"text": "a", "label": "sports"}, {"text": "a", "label": None, "line": 3}])
    assert [problem.line for problem in problems(texts, TOPIC)] == [3]
    (problem,) = problems(labels_missing(4, 3, 4), NER)
    assert problem.line == 11
    assert "3 labels for 4 words" in problem.message


def unlabelled(*sentences: str) -> Dataset:
    """Make sentences in which _ stands for no label."""
    rows = [[pair.rsplit("/", 1) for pair in sentence.split()] for sentence in sentences]
    return corpus(
        [
            {"words": [w for w, _ in row], "labels": [tag.replace("_", "") for _, tag in row]}
            for row in rows
        ]
    )


def test_words_without_a_label_are_an_error_or_ignored_and_counted() -> None:
    examples = unlabelled("a/NOUN b/_", "c/_ d/ADJ e/_")
    (problem,) = problems(examples, POS)
    assert problem.line == 1
    assert "3 times" in problem.message
    with pytest.warns(UserWarning, match=r"made\.txt.* 3 of 5 words"):
        ids, starts = label_ids(examples, replace(POS, unlabelled="ignore"))
    assert ids.tolist() == [1, IGNORED, IGNORED, 0, IGNORED]
    assert starts.tolist() == [0, 2, 5]
    assert label_set_of([examples], replace(POS, labels=())) == ("ADJ", "NOUN")


def test_a_span_goes_on_over_a_word_that_is_ignored() -> None:
    examples = unlabelled("a/B-PER b/_ c/I-PER", "d/_ e/I-LOC")
    with pytest.warns(UserWarning, match="1 such tag"):
        read = names(examples, replace(NER, unlabelled="ignore"))
    assert read == [["B-PER", str(IGNORED), "I-PER"], [str(IGNORED), "B-LOC"]]


def test_the_label_set_is_that_of_all_corpora() -> None:
    spans = replace(MAPPED, labels=())
    corpora = [tagged("a/B-GPE b/B-DATE"), tagged("c/I-PER d/O")]
    assert label_set_of(corpora, spans) == NER.labels
    tags = [tagged("a/NOUN"), tagged("b/ADJ c/NOUN")]
    assert label_set_of(tags, replace(POS, labels=())) == ("ADJ", "NOUN")
    texts = corpus([{"text": "a", "label": "y"}, {"text": "b", "label": "x"}])
    assert label_set_of([texts], replace(TOPIC, labels=())) == ("x", "y")
    assert label_set_of([texts], Task("mlm", TaskType.MLM)) == ()


@pytest.mark.parametrize(
    ("task", "words"),
    [
        (replace(NER, labels=(), label_map={"DATE": "O"}), ["a/O b/O", "c/B-DATE"]),
        (replace(POS, labels=()), ["a/NOUN", "b/NOUN"]),
    ],
)
def test_one_label_alone_is_nothing_to_learn(task: Task, words: list[str]) -> None:
    with pytest.raises(DataError) as error:
        label_set_of([tagged(*words)], task)
    assert [problem.key for problem in error.value.problems] == [f"tasks.{task.name}"]


def test_no_label_at_all_is_nothing_to_learn() -> None:
    task = replace(POS, labels=(), unlabelled="ignore")
    with pytest.raises(DataError) as error:
        label_set_of([unlabelled("a/_")], task)
    assert error.value.problems[0].key == "tasks.pos"


def test_trees_may_have_one_relation() -> None:
    assert label_set_of([tagged("a/dep b/dep")], Task("dep", TaskType.PARSING)) == ("dep",)


def test_tags_of_another_scheme_are_all_named() -> None:
    corpora = [tagged("a/B-PER b/E-PER", file="one"), tagged("c/NOUN d/NOUN e/I-", file="two")]
    with pytest.raises(DataError) as error:
        label_set_of(corpora, replace(NER, labels=()))
    assert [(problem.file, problem.line) for problem in error.value.problems] == [
        ("one", 1),
        ("two", 1),
        ("two", 1),
    ]
    assert 'word 2, "b"' in error.value.problems[0].message
    assert "(2 times)" in error.value.problems[1].message
