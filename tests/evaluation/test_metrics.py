"""Scores against seqeval and scikit-learn, on random labels, invalid ones among them."""

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
from hyperlect.evaluation.metrics import Tree, accuracy, macro_f1, precision_recall_f1, score_trees
from hyperlect.tasks import Task, TaskType

NER = Task("ner", TaskType.SPANS)
POS = Task("pos", TaskType.TAGGING)
Sentences = list[list[str]]


def random_tags(seed: int) -> tuple[Sentences, Sentences]:
    """Gold and predicted tags of a few sentences: any order of tags, so many are invalid IOB2."""
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
def test_spans_are_scored_as_seqeval_scores_them_strictly(start: int) -> None:
    for seed in range(start, start + 50):
        gold, predicted = random_tags(seed)
        found = score(NER, gold, predicted)
        strict = {"mode": "strict", "scheme": IOB2, "zero_division": 0}
        expected = [
            100 * metric(gold, predicted, average="micro", **strict)
            for metric in (f1_score, precision_score, recall_score)
        ]
        ours = [found.value, found.details["precision"], found.details["recall"]]
        assert ours == pytest.approx(expected), seed
        types = sorted({tag[2:] for sentence in [*gold, *predicted] for tag in sentence} - {""})
        by_type = [found.details[f"F1 {t}"] for t in types if f"F1 {t}" in found.details]
        theirs = f1_score(gold, predicted, average=None, **strict)
        assert by_type == pytest.approx([100 * value for value in theirs]), seed


def test_a_span_counts_only_where_bounds_and_type_are_right() -> None:
    gold = ["B-PER", "I-PER", "O", "B-LOC", "I-LOC", "B-LOC"]
    predicted = ["B-PER", "O", "O", "B-ORG", "I-ORG", "B-LOC"]
    found = score(NER, [gold], [predicted])
    assert found.value == pytest.approx(100 / 3)
    assert (found.units, found.unit) == (3, "spans")
    assert found.details["F1 LOC"] == pytest.approx(200 / 3)
    assert found.details["F1 PER"] == found.details["F1 ORG"] == 0


def test_what_does_not_begin_with_b_is_no_span() -> None:
    found = score(NER, [["B-PER", "I-PER"]], [["I-PER", "I-PER"]])
    assert (found.value, found.details["precision"]) == (0, 0)


def test_spans_do_not_run_over_the_end_of_a_sentence() -> None:
    apart = score(NER, [["B-PER"], ["O", "B-PER"]], [["B-PER"], ["O", "B-PER"]])
    assert apart.units == 2
    assert score(NER, [["O", "B-PER"], ["O"]], [["O", "O"], ["B-PER"]]).value == 0


@pytest.mark.parametrize("seed", range(40))
def test_labels_are_scored_as_scikit_learn_scores_them(seed: int) -> None:
    source = random.Random(seed)
    labels = ["NOUN", "VERB", "CCONJ", "SCONJ", "X"][: source.randint(1, 5)]
    count = source.randint(1, 60)
    gold, predicted = ([source.choice(labels) for _ in range(count)] for _ in range(2))
    assert accuracy(gold, predicted) == pytest.approx(100 * accuracy_score(gold, predicted))
    expected = label_f1(gold, predicted, average="macro", zero_division=0)
    assert macro_f1(gold, predicted) == pytest.approx(100 * expected)
    parts = iter(zip(gold, predicted, strict=True))
    sentences = [list(pairs) for pairs in zip(*[parts] * 3, strict=False)]
    if sentences:  # how words are parted into sentences changes nothing
        by_sentence = [[[pair[side] for pair in s] for s in sentences] for side in (0, 1)]
        found = score(POS, *by_sentence)
        size = 3 * len(sentences)
        assert found.value == pytest.approx(100 * accuracy_score(gold[:size], predicted[:size]))
        assert (found.units, found.unit) == (size, "words")


def test_any_confusion_of_tags_is_an_error() -> None:
    """Tags that are alike, as CCONJ and SCONJ, are not folded into one."""
    found = score(
        POS, [["CCONJ", "NOUN"], ["SCONJ", "AUX"]], [["SCONJ", "NOUN"], ["SCONJ", "VERB"]]
    )
    assert found.value == 50


@pytest.mark.parametrize("task_type", [TaskType.CLASSIFICATION, TaskType.PAIRS])
def test_texts_are_scored_by_accuracy_with_macro_f1_beside_it(task_type: TaskType) -> None:
    task = Task("topic", task_type, ("a", "b", "c"))
    found = score(task, [["a"], ["a"], ["b"], ["c"]], [["a"], ["b"], ["b"], ["b"]])
    assert found.value == 50
    assert found.details["macro F1"] == pytest.approx(100 * (2 / 3 + 1 / 2 + 0) / 3)
    assert (found.units, found.unit) == (4, "texts")


def test_nothing_to_divide_by_is_zero() -> None:
    assert precision_recall_f1(0, 0, 0) == (0, 0, 0)
    assert precision_recall_f1(0, 3, 0) == (0, 0, 0)
    assert precision_recall_f1(2, 4, 8) == pytest.approx((50, 25, 100 / 3))
    assert accuracy([], []) == macro_f1([], []) == 0
    assert score(NER, [["O", "O"]], [["O", "O"]]).value == 0


@pytest.mark.parametrize("predicted", [[["O"]], [["O", "O"], ["O"]], [["O"], ["O", "O"]]])
def test_labels_that_are_lacking_are_not_passed_over(predicted: Sentences) -> None:
    with pytest.raises(ValueError, match="differ in number"):
        score(NER, [["O"], ["O"]], predicted)


def random_tree(source: random.Random, size: int) -> Tree:
    """Any tree: each word, in a random order, takes a head among those before it."""
    order = source.sample(range(1, size + 1), size)
    heads, labels = [0] * size, ["root"] * size
    for place, word in enumerate(order[1:], start=1):
        heads[word - 1] = source.choice(order[:place])
        labels[word - 1] = source.choice(["obj", "nsubj", "nsubj:pass", "nsubj:outer", "punct"])
    return heads, labels


def official_scores(gold: list[Tree], predicted: list[Tree], folder: Path) -> dict[str, float]:
    """What the script of the CoNLL 2018 shared task says."""
    for name, trees in (("gold", gold), ("predicted", predicted)):
        with (folder / name).open("w") as file:
            for tree in trees:
                for word, (head, label) in enumerate(zip(*tree, strict=True), start=1):
                    upos = "PUNCT" if label == "punct" else "X"
                    file.write(f"{word}\tw{word}\t_\t{upos}\t_\t_\t{head}\t{label}\t_\t_\n")
                file.write("\n")
    loaded = [udeval.load_conllu_file(str(folder / name)) for name in ("gold", "predicted")]
    found = udeval.evaluate(*loaded)
    assert found["Words"].f1 == 1
    return {name: 100 * found[name].f1 for name in ("LAS", "UAS")}


@pytest.mark.parametrize("seed", range(20))
def test_trees_are_scored_as_the_official_script_scores_them(seed: int, tmp_path: Path) -> None:
    source = random.Random(seed)
    sizes = [source.randint(1, 12) for _ in range(source.randint(1, 8))]
    gold = [random_tree(source, size) for size in sizes]
    predicted = [
        random_tree(source, len(tree[0])) if source.random() < 0.7 else tree for tree in gold
    ]
    found = score_trees(gold, predicted)
    expected = official_scores(gold, predicted, tmp_path)
    assert found.value == pytest.approx(expected["LAS"])
    assert found.details["UAS"] == pytest.approx(expected["UAS"])
    assert (found.units, found.unit) == (sum(sizes), "words")


def test_subtypes_do_not_count_and_heads_do() -> None:
    gold = [([2, 0, 2], ["nsubj:pass", "root", "punct"])]
    found = score_trees(gold, [([2, 0, 1], ["nsubj", "root", "punct"])])
    assert found.value == found.details["UAS"] == pytest.approx(200 / 3)
    found = score_trees(gold, [([2, 0, 2], ["obj", "root", "punct"])])
    assert (found.value, found.details["UAS"]) == (pytest.approx(200 / 3), 100)


def test_trees_must_match_in_size() -> None:
    with pytest.raises(ValueError, match="differ"):
        score_trees([([0], ["root"])], [([0, 1], ["root", "obj"])])
    assert score_trees([], []).value == 0
