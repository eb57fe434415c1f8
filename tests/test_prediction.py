"""From sentences to labels."""

from __future__ import annotations

import copy
import unicodedata
from dataclasses import replace
from typing import Any

import pytest
import torch

from hyperlect.data.encoding import encode_inputs
from hyperlect.data.readers.trees import read_heads
from hyperlect.data.words import split_words
from hyperlect.errors import DataError, HyperlectError, UnknownNameError
from hyperlect.grid import Cell
from hyperlect.hypernet import HypernetConfig
from hyperlect.model import HyperX, HyperXConfig
from hyperlect.prediction import Prediction, Span, forward_rows, iob2_spans
from hyperlect.tasks import Task, TaskType

from .tiny import tiny_backbone

SMALL = HypernetConfig(bottleneck=4, projection=6, embedding=5)
TASKS = (
    Task("pos", TaskType.TAGGING, ("DET", "NOUN", "VERB", "ADJ")),
    Task("ner", TaskType.SPANS, ("O", "B-LOC", "I-LOC", "B-PER", "I-PER")),
    Task("topic", TaskType.CLASSIFICATION, ("animals", "people", "places")),
    Task("nli", TaskType.PAIRS, ("same", "other")),
    Task("mlm", TaskType.MLM),
    Task("dep", TaskType.PARSING, ("nsubj", "obj", "punct", "root")),
)
TRAINED = (
    Cell("pos", "eng"),
    Cell("ner", "isl"),
    Cell("topic", "eng"),
    Cell("nli", "eng"),
    Cell("mlm", "fao"),
)
LANGUAGES = ("eng", "fao", "isl")


def make(family: str = "bert", method: str = "hyperx") -> HyperX:
    """A model whose answers vary from word to word and from cell to cell."""
    torch.manual_seed(0)
    config = HyperXConfig(TASKS, LANGUAGES, TRAINED, method=method, hypernet=SMALL)
    model = HyperX(tiny_backbone(family), config)
    for parameter in model.own_parameters().values():
        torch.nn.init.normal_(parameter, std=0.4)
    return model.eval()


@pytest.fixture(scope="module")
def model() -> HyperX:
    return make()


def labels(model: HyperX, inputs: list[Any], task: str = "pos", language: str = "eng") -> list[Any]:
    return [prediction.labels for prediction in model.predict(inputs, task, language)]


def test_original_words_come_back_while_the_encoder_sees_nfc(model: HyperX) -> None:
    composed = ["Þ\u00f3r\u00fdn", "sees", "\u00e1r"]
    decomposed = [unicodedata.normalize("NFD", word) for word in composed]
    assert composed != decomposed
    first, second = (model.predict([words], "pos", "eng")[0] for words in (composed, decomposed))
    assert first.words == tuple(composed)
    assert second.words == tuple(decomposed)
    assert first.labels == second.labels
    task = model.task("pos")
    one, other = (
        encode_inputs([words], task, model.tokenizer, 64)[0]["input_ids"]
        for words in (composed, decomposed)
    )
    assert one == other


def test_words_come_back_from_raw_text_as_they_were(model: HyperX) -> None:
    text = unicodedata.normalize("NFD", "Þórný sees á.")
    (prediction,) = model.predict([text], "pos", "eng")
    assert list(prediction.words) == split_words(text)
    assert len(prediction.labels) == 4


@pytest.mark.parametrize(
    ("task", "language", "kind", "source"),
    [
        ("pos", "eng", "supervised", "own vector"),
        ("pos", "en", "supervised", "own vector"),
        ("pos", "isl", "unseen combination", "own vector"),
        ("ner", "fao", "unseen language, text only", "own vector"),
        ("ner", "dan", "unseen language, untouched", "mean of the trained languages"),
        ("topic", "Danish", "unseen language, untouched", "mean of the trained languages"),
    ],
)
def test_predictions_say_their_kind_and_whose_vector(
    model: HyperX, task: str, language: str, kind: str, source: str
) -> None:
    (prediction,) = model.predict(["the cat"], task, language)
    assert (prediction.kind, prediction.language_source) == (kind, source)
    assert prediction.task == task
    assert len(prediction.language) == 3


def test_an_untouched_language_takes_the_mean_vector(model: HyperX) -> None:
    """What it predicts is what a language predicts whose own vector is that mean."""
    mean = copy.deepcopy(model)
    table = mean.adapters.source.embeddings["language"]  # type: ignore[union-attr,index]
    with torch.no_grad():
        table[LANGUAGES.index("fao")] = table.mean(dim=0)
    for task, inputs in {"pos": [["the", "cat"]], "topic": ["the cat"]}.items():
        rows = encode_inputs(inputs, model.task(task), model.tokenizer, 64)
        (_, of_dan), *_ = forward_rows(model, rows, [Cell(task, "dan")])
        (_, of_mean), *_ = forward_rows(mean, rows, [Cell(task, "fao")])
        (_, of_fao), *_ = forward_rows(model, rows, [Cell(task, "fao")])
        torch.testing.assert_close(of_dan.logits, of_mean.logits)
        assert not torch.allclose(of_dan.logits, of_fao.logits)


@pytest.mark.parametrize("family", ["bert", "xlm-roberta", "roberta", "modernbert"])
def test_every_word_has_one_label_however_long_the_sentence(family: str) -> None:
    model = make(family)
    lengths = [1, 200, 3, 64, 63, 62, 61, 500]
    inputs = [["the", "cat", "Oslo", "xyzzy"] * (n // 4) + ["dog"] * (n % 4) for n in lengths]
    for task in ("pos", "ner"):
        found = model.predict(inputs, task, "eng")
        assert [len(prediction.labels) for prediction in found] == lengths
        assert [list(prediction.words) for prediction in found] == inputs


def test_spans_of_a_long_sentence_are_valid_over_its_windows(model: HyperX) -> None:
    words = ["Anna", "Oslo", "sees", "river", "old"] * 60
    (prediction,) = model.predict([words], "ner", "eng")
    assert any(label.startswith("I-") for label in prediction.labels)
    before = "O"
    for label in prediction.labels:
        assert not label.startswith("I-") or before[2:] == label[2:]
        before = label


def test_words_without_sub_words_have_a_label_like_the_others(model: HyperX) -> None:
    words = ["the", "\u0007", "cat", "", "\u200b", "☃"]
    (prediction,) = model.predict([words], "pos", "eng")
    assert list(prediction.words) == words
    assert len(prediction.labels) == len(words)
    assert set(prediction.labels) <= set(model.task("pos").labels)


def test_the_order_of_the_inputs_is_kept(model: HyperX) -> None:
    """Inputs are batched by length, and come back as they were given."""
    inputs = [["the"] * n + ["cat", "sees"] * m for n in (5, 1, 9) for m in (2, 7, 1)]
    together = labels(model, inputs)
    assert together == [labels(model, [words])[0] for words in inputs]
    found = model.predict(inputs, "pos", "eng", tokens_per_batch=1)
    assert [list(prediction.words) for prediction in found] == inputs
    texts = [f"{'the ' * n}cat" for n in (4, 1, 7, 2)]
    assert [p.text for p in model.predict(texts, "topic", "eng")] == texts
    assert [p.label for p in model.predict(texts, "topic", "eng")] == [
        model.predict([text], "topic", "eng")[0].label for text in texts
    ]


def test_texts_have_a_label_and_probabilities_that_sum_to_one(model: HyperX) -> None:
    found = model.predict(["the cat", "Anna", ["the", "old", "dog"], ""], "topic", "eng")
    assert [prediction.text for prediction in found] == ["the cat", "Anna", "the old dog", ""]
    for prediction in found:
        assert prediction.scores is not None
        assert list(prediction.scores) == list(model.task("topic").labels)
        assert sum(prediction.scores.values()) == pytest.approx(1)
        assert prediction.label == max(prediction.scores, key=prediction.scores.__getitem__)
        assert prediction.words == prediction.labels == ()


def test_pairs_are_two_texts(model: HyperX) -> None:
    first, second = model.predict([("the cat", "a dog"), ["Anna", "Oslo"]], "nli", "eng")
    assert (first.text, second.text) == ("the cat\ta dog", "Anna\tOslo")
    assert first.scores is not None
    assert sum(first.scores.values()) == pytest.approx(1)
    assert first.label in ("same", "other")
    turned = model.predict([("a dog", "the cat")], "nli", "eng")[0]
    assert turned.scores != first.scores


@pytest.mark.parametrize("wrong", ["the cat", ("the",), ("the", "cat", "sees")])
def test_a_pair_of_another_form_is_refused(model: HyperX, wrong: Any) -> None:
    with pytest.raises(DataError, match=r'"nli" takes two texts'):
        model.predict([wrong], "nli", "eng")


@pytest.mark.parametrize("empty", ["", "  ", []])
def test_an_input_without_words_is_an_error(model: HyperX, empty: Any) -> None:
    with pytest.raises(DataError, match="input 1: it holds no word"):
        model.predict(["the cat", empty], "pos", "eng")


def test_every_input_of_a_wrong_form_is_named(model: HyperX) -> None:
    with pytest.raises(DataError) as error:
        model.predict([["a", None], "the cat", None, ""], ["pos", "pos", "topic", "ner"], "eng")
    named = [line.split()[2] for line in str(error.value).splitlines()[1:]]
    assert named == ["0:", "2:", "3:"]


def test_one_text_in_place_of_a_list_is_an_error(model: HyperX) -> None:
    with pytest.raises(DataError, match="Give a list"):
        model.predict("the cat", "pos", "eng")


def test_no_inputs_give_no_predictions(model: HyperX) -> None:
    for task in ("pos", "ner", "topic", "nli"):
        assert model.predict([], task, "eng") == []


def test_unknown_tasks_and_languages_are_refused(model: HyperX) -> None:
    with pytest.raises(UnknownNameError, match=r'"poss"\. Did you mean "pos"'):
        model.predict(["the cat"], "poss", "eng")
    with pytest.raises(UnknownNameError, match='language "faroish"'):
        model.predict(["the cat"], "pos", "faroish")
    with pytest.raises(HyperlectError, match='"mlm" models raw text'):
        model.predict(["the cat"], "mlm", "fao")


def test_a_prediction_does_not_depend_on_chance_or_mode(model: HyperX) -> None:
    first = labels(model, [["the", "cat", "sees"]])
    model.train()
    try:
        assert labels(model, [["the", "cat", "sees"]]) == first
        assert model.training
    finally:
        model.eval()


def test_the_caller_is_not_drawn_into_inference_mode(model: HyperX) -> None:
    """Between batches, and where it stops half-way, gradients are as they were."""
    task = model.task("pos")
    rows = encode_inputs([["the", "cat"], ["a"]], task, model.tokenizer, 64)
    for _ in forward_rows(model, rows, [Cell("pos", "eng")] * 2, tokens_per_batch=1):
        assert not torch.is_inference_mode_enabled()
        assert torch.is_grad_enabled()
        break
    assert not torch.is_inference_mode_enabled()


@pytest.mark.parametrize("task", [task.name for task in TASKS if task.name != "mlm"])
def test_scores_that_are_no_numbers_give_no_labels(model: HyperX, task: str) -> None:
    """The best of them would be a label like any other."""
    broken = copy.deepcopy(model)
    for parameter in broken.heads[task].parameters():
        parameter.data.fill_(torch.nan)
    inputs = ["the cat"] if task != "nli" else [("the cat", "a cat")]
    with pytest.raises(HyperlectError, match=rf"scores of {task}:eng are not numbers"):
        broken.predict(inputs, task, "eng")


@pytest.mark.parametrize("method", ["task-hypernet", "adapters", "head"])
def test_baselines_predict_the_same_in_every_language(method: str) -> None:
    model = make(method=method)
    inputs = [["the", "old", "cat", "sees", "Anna"]]
    assert labels(model, inputs, language="eng") == labels(model, inputs, language="dan")


@pytest.mark.parametrize(
    ("tags", "spans"),
    [
        ("O B-PER I-PER O B-LOC", [Span("PER", 1, 3), Span("LOC", 4, 5)]),
        ("B-PER B-PER I-PER", [Span("PER", 0, 1), Span("PER", 1, 3)]),
        ("I-PER I-PER B-LOC I-PER", [Span("LOC", 2, 3)]),
        ("B-PER I-LOC I-PER", [Span("PER", 0, 1)]),
        ("B-A-B I-A-B O", [Span("A-B", 0, 2)]),
        ("DET NOUN", []),
        ("", []),
    ],
)
def test_spans_are_read_strictly(tags: str, spans: list[Span]) -> None:
    assert list(iob2_spans(tags.split())) == spans
    cell = ("ner", "fao", "supervised", "own vector")
    assert Prediction(*cell, labels=tuple(tags.split())).spans == spans


MIXED: list[tuple[Any, str, str]] = [
    (["the", "cat"], "pos", "eng"), ("a dog in Oslo", "topic", "isl"),
    ("Anna sees Oslo.", "ner", "is"), (["Anna"] * 90, "pos", "dan"),
    (("the cat", "a dog"), "nli", "eng"), (["old"] * 3, "ner", "fao"), ("the cat", "pos", "isl"),
    ("the river", "topic", "Danish"),
]  # fmt: skip


@pytest.mark.parametrize("tokens", [1, 100, 4096])
def test_inputs_of_any_cells_go_together(model: HyperX, tokens: int) -> None:
    inputs, tasks, languages = map(list, zip(*MIXED, strict=True))
    found = model.predict(inputs, tasks, languages, tokens_per_batch=tokens)
    for prediction, one in zip(found, MIXED, strict=True):
        (alone,) = model.predict(one[:1], *one[1:])
        assert replace(prediction, scores=None) == replace(alone, scores=None)
        if alone.scores is not None:
            assert prediction.scores == pytest.approx(alone.scores, abs=1e-5)


def test_they_do_go_through_the_model_together(
    model: HyperX, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    plain = HyperX.forward

    def forward(self: HyperX, input_ids: torch.Tensor, *rest: Any, **options: Any) -> Any:
        seen.append(len(input_ids))
        return plain(self, input_ids, *rest, **options)

    monkeypatch.setattr(HyperX, "forward", forward)
    inputs, tasks, languages = map(list, zip(*MIXED, strict=True))
    model.predict(inputs, tasks, languages)
    assert len(seen) == 1
    assert seen[0] > len(MIXED)  # the long sentence has several windows


def test_a_name_may_be_one_for_all_or_one_an_input(model: HyperX) -> None:
    inputs = [["the", "cat"], ["Oslo"]]
    both = model.predict(inputs, "pos", ["eng", "isl"])
    assert [prediction.language for prediction in both] == ["eng", "isl"]
    assert model.predict(inputs, ["pos", "pos"], "eng") == model.predict(inputs, "pos", "eng")
    with pytest.raises(HyperlectError, match="2 inputs need as many names of a language, not 3"):
        model.predict(inputs, "pos", ["eng"] * 3)


def test_unknown_names_among_many_name_their_inputs(model: HyperX) -> None:
    with pytest.raises(UnknownNameError) as error:
        model.predict(["a", "b", "c"], ["pos", "poss", "ner"], ["eng", "isl", "faroish"])
    said = str(error.value)
    assert 'input 1: Unknown task "poss". Did you mean "pos"?' in said
    assert 'input 2: Unknown language "faroish"' in said
    with pytest.raises(HyperlectError, match='"mlm" models raw text'):
        model.predict(["a", "b"], ["pos", "mlm"], "eng")


def assert_tree(prediction: Prediction, words: int) -> None:
    assert len(prediction.heads) == len(prediction.labels) == len(prediction.words) == words
    assert not read_heads(list(map(str, prediction.heads)), prediction.words)[1]
    for head, relation in zip(prediction.heads, prediction.labels, strict=True):
        assert (head == 0) == (relation == "root")


def test_sentences_are_parsed_into_trees(model: HyperX) -> None:
    first, second = model.predict(["Anna sees the old dog.", ["ok"]], "dep", "fao")
    assert_tree(first, 6)
    assert first.spans == []
    assert (second.heads, second.labels) == ((0,), ("root",))
    assert model.predict(["ok"], "pos", "eng")[0].heads == ()


@pytest.mark.parametrize("family", ["bert", "xlm-roberta"])
def test_a_sentence_beyond_the_input_length_is_one_tree(family: str) -> None:
    model = make(family)
    words = [("the", "cat", "sees", "Oslo")[i % 4] for i in range(150)]
    long, short = model.predict([words, words[:5]], "dep", "eng")
    assert_tree(long, 150)
    assert_tree(short, 5)
    far = [abs(head - word) for word, head in enumerate(long.heads, start=1) if head]
    assert max(far) > 64  # further than one window reaches


def test_trees_do_not_depend_on_the_batch(model: HyperX) -> None:
    inputs = [["the"] * n + ["cat", "sees", "Oslo"] for n in (1, 90, 3, 0, 12)]
    together = model.predict(inputs, "dep", "eng")
    alone = model.predict(inputs, "dep", "eng", tokens_per_batch=1)
    mixed = model.predict([*inputs, "the cat"], ["dep"] * 5 + ["pos"], ["eng"] * 5 + ["isl"])
    assert together == alone == mixed[:5]
