"""Scores against seqeval, scikit-learn and the script of the CoNLL 2018 shared task.

Labels are random, so most are invalid.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from seqeval.metrics import f1_score, precision_score, recall_score
from seqeval.scheme import IOB2
from sklearn.metrics import accuracy_score
from sklearn.metrics import f1_score as label_f1
from udtools import udeval

from hyperlect.evaluation import score
from hyperlect.evaluation.metrics import METRICS, Tree, macro_f1, precision_recall_f1, score_trees
from hyperlect.tasks import TASK_TYPES, Task, TaskType

NER = Task("ner", TaskType.SPANS)
POS = Task("pos", TaskType.TAGGING)
Sentences = list[list[str]]


def random_tags(seed: int) -> tuple[Sentences, Sentences]:
    """Draw gold and predicted tags of a few sentences in any order, so most are invalid IOB2."""
    source = random.Random(seed)
    types = ["PER", "LOC", "ORG-X", "ORG"][: source.randint(1, 4)]
    tags = ["O"] * source.randint(1, 4) + [f"{p}-{t}" for t in types for p in "BI"]
    gold = [
        [source.choice(tags) for _ in range(source.randint(1, 9))]
        for _ in range(source.randint(1, 6))
    ]
    changes = source.choice([0.0, 0.1, 0.5, 1.0])
    predicted = [
        [source.choice(tags) if source.random() < changes else tag for tag in sentence]
        for sentence in gold
    ]
    return gold, predicted


@pytest.mark.parametrize("start", range(0, 300, 50))
def test_spans_are_scored_as_by_seqeval_in_strict_mode(start: int) -> None:
    for seed in range(start, start + 50):
        gold, predicted = random_tags(seed)
        result = score(NER, gold, predicted)
        strict = {"mode": "strict", "scheme": IOB2, "zero_division": 0}
        expected = [
            100 * metric(gold, predicted, average="micro", **strict)
            for metric in (f1_score, precision_score, recall_score)
        ]
        ours = [result.value, result.details["precision"], result.details["recall"]]
        assert ours == pytest.approx(expected), seed
        types = sorted({tag[2:] for sentence in [*gold, *predicted] for tag in sentence} - {""})
        by_type = [result.details[f"F1 {t}"] for t in types if f"F1 {t}" in result.details]
        theirs = f1_score(gold, predicted, average=None, **strict)
        assert by_type == pytest.approx([100 * value for value in theirs]), seed


def test_a_span_is_right_only_with_its_bounds_and_type() -> None:
    gold = ["B-PER", "I-PER", "O", "B-LOC", "I-LOC", "B-LOC"]
    predicted = ["B-PER", "O", "O", "B-ORG", "I-ORG", "B-LOC"]
    result = score(NER, [gold], [predicted])
    assert result.value == pytest.approx(100 / 3)
    assert (result.units, result.unit) == (3, "spans")
    assert result.details["F1 LOC"] == pytest.approx(200 / 3)
    assert result.details["F1 PER"] == result.details["F1 ORG"] == 0


def test_a_span_begins_with_b() -> None:
    result = score(NER, [["B-PER", "I-PER"]], [["I-PER", "I-PER"]])
    assert (result.value, result.details["precision"]) == (0, 0)


def test_spans_end_with_their_sentence() -> None:
    apart = score(NER, [["B-PER"], ["O", "B-PER"]], [["B-PER"], ["O", "B-PER"]])
    assert apart.units == 2
    assert score(NER, [["O", "B-PER"], ["O"]], [["O", "O"], ["B-PER"]]).value == 0


@pytest.mark.parametrize("seed", range(30))
def test_labels_are_scored_as_by_scikit_learn(seed: int) -> None:
    source = random.Random(seed)
    labels = ["NOUN", "VERB", "CCONJ", "SCONJ", "X"][: source.randint(1, 5)]
    count = source.randint(1, 60)
    gold, predicted = ([source.choice(labels) for _ in range(count)] for _ in range(2))
    expected = label_f1(gold, predicted, average="macro", zero_division=0)
    assert macro_f1(gold, predicted) == pytest.approx(100 * expected)
    for size in (1, 3, count):  # the division into sentences changes nothing
        sentences = [
            [labels[i : i + size] for i in range(0, count, size)] for labels in (gold, predicted)
        ]
        result = score(POS, *sentences)
        assert result.value == pytest.approx(100 * accuracy_score(gold, predicted))
        assert result.details["macro F1"] == pytest.approx(100 * expected)
        assert (result.units, result.unit) == (count, "words")


def test_similar_tags_are_different_tags() -> None:
    result = score(
        POS, [["CCONJ", "NOUN"], ["SCONJ", "AUX"]], [["SCONJ", "NOUN"], ["SCONJ", "VERB"]]
    )
    assert result.value == 50


@pytest.mark.parametrize("task_type", [TaskType.CLASSIFICATION, TaskType.PAIRS])
def test_texts_are_scored_by_accuracy_and_macro_f1(task_type: TaskType) -> None:
    task = Task("topic", task_type, ("a", "b", "c"))
    result = score(task, [["a"], ["a"], ["b"], ["c"]], [["a"], ["b"], ["b"], ["b"]])
    assert result.value == 50
    assert result.details["macro F1"] == pytest.approx(100 * (2 / 3 + 1 / 2 + 0) / 3)
    assert (result.units, result.unit) == (4, "texts")


def test_without_anything_to_divide_by_a_score_is_zero() -> None:
    assert precision_recall_f1(0, 0, 0) == (0, 0, 0)
    assert precision_recall_f1(0, 3, 0) == (0, 0, 0)
    assert precision_recall_f1(2, 4, 8) == pytest.approx((50, 25, 100 / 3))
    assert score(POS, [], []).value == macro_f1([], []) == 0
    assert score(NER, [["O", "O"]], [["O", "O"]]).value == 0


@pytest.mark.parametrize("predicted", [[["O"]], [["O", "O"], ["O"]], [["O"], ["O", "O"]]])
def test_missing_labels_are_refused(predicted: Sentences) -> None:
    with pytest.raises(ValueError, match="differ in number"):
        score(NER, [["O"], ["O"]], predicted)


def random_tree(source: random.Random, size: int) -> Tree:
    """Draw a tree: each word, in a random order, takes a head among those before it."""
    order = source.sample(range(1, size + 1), size)
    heads, labels = [0] * size, ["root"] * size
    for place, word in enumerate(order[1:], start=1):
        heads[word - 1] = source.choice(order[:place])
        labels[word - 1] = source.choice(["obj", "nsubj", "nsubj:pass", "nsubj:outer", "punct"])
    return heads, labels


def official_scores(gold: list[Tree], predicted: list[Tree], folder: Path) -> dict[str, float]:
    """Score trees with the script of the CoNLL 2018 shared task."""
    for name, trees in (("gold", gold), ("predicted", predicted)):
        with (folder / name).open("w") as file:
            for tree in trees:
                for word, (head, label) in enumerate(zip(*tree, strict=True), start=1):
                    upos = "PUNCT" if label == "punct" else "X"
                    file.write(f"{word}\tw{word}\t_\t{upos}\t_\t_\t{head}\t{label}\t_\t_\n")
                file.write("\n")
    loaded = [udeval.load_conllu_file(str(folder / name)) for name in ("gold", "predicted")]
    result = udeval.evaluate(*loaded)
    assert result["Words"].f1 == 1
    return {name: 100 * result[name].f1 for name in ("LAS", "UAS")}


@pytest.mark.parametrize("seed", range(20))
def test_trees_are_scored_as_by_the_official_script(seed: int, tmp_path: Path) -> None:
    source = random.Random(seed)
    sizes = [source.randint(1, 12) for _ in range(source.randint(1, 8))]
    gold = [random_tree(source, size) for size in sizes]
    predicted = [
        random_tree(source, len(tree[0])) if source.random() < 0.7 else tree for tree in gold
    ]
    result = score_trees(gold, predicted)
    expected = official_scores(gold, predicted, tmp_path)
    assert result.value == pytest.approx(expected["LAS"])
    assert result.details["UAS"] == pytest.approx(expected["UAS"])
    assert (result.units, result.unit) == (sum(sizes), "words")


def test_subtypes_do_not_count() -> None:
    gold = [([2, 0, 2], ["nsubj:pass", "root", "punct"])]
    result = score_trees(gold, [([2, 0, 1], ["nsubj", "root", "punct"])])
    assert result.value == result.details["UAS"] == pytest.approx(200 / 3)
    result = score_trees(gold, [([2, 0, 2], ["obj", "root", "punct"])])
    assert (result.value, result.details["UAS"]) == (pytest.approx(200 / 3), 100)


def test_trees_must_match_in_size() -> None:
    with pytest.raises(ValueError, match="differ"):
        score_trees([([0], ["root"])], [([0, 1], ["root", "obj"])])
    assert score_trees([], []).value == 0


def drawn(labels: list[str], length: int | None, seed: int) -> Sentences:
    source = random.Random(seed)
    return [[source.choice(labels) for _ in range(length or i % 5 + 1)] for i in range(12)]


@pytest.mark.parametrize(
    ("task_type", "labels", "length"),
    [
        (TaskType.TAGGING, ["A", "B"], None),
        (TaskType.SPANS, ["O", "B-X", "I-X", "B-Y"], None),
        (TaskType.CLASSIFICATION, ["A", "B", "C"], 1),
    ],
)
def test_the_counts_of_the_examples_add_up_to_the_score(
    task_type: TaskType, labels: list[str], length: int | None
) -> None:
    result = score(Task("t", task_type), drawn(labels, length, 1), drawn(labels, length, 2))
    right, total = map(sum, zip(*result.examples, strict=True))
    assert len(result.examples) == 12
    assert 0 < result.value < 100
    assert result.value == pytest.approx(100 * right / total)


def test_the_counts_of_trees() -> None:
    gold = [([2, 0], ["det", "root"]), ([0, 1, 1], ["root", "obj", "punct"])]
    predicted = [([2, 0], ["det", "root"]), ([0, 1, 2], ["root", "nsubj", "punct"])]
    result = score_trees(gold, predicted)
    assert list(result.examples) == [(2, 2), (1, 3)]
    assert result.value == pytest.approx(60)


def test_every_type_of_task_has_a_metric() -> None:
    others = {TaskType.PARSING.metric, TaskType.MLM.metric}  # scored in other ways
    assert {kind.metric for kind in TASK_TYPES.values()} == METRICS.keys() | others
