"""From sentences to labels: inputs, predictions, and what is refused."""

from __future__ import annotations

import copy
import json
import threading
import unicodedata
import warnings
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from hyperlect.data.encoding import encode_inputs
from hyperlect.data.subwords import Subwords
from hyperlect.errors import DataError, HyperlectError, UnknownNameError
from hyperlect.grid import Cell
from hyperlect.heads import best_tree
from hyperlect.hypernet import HypernetConfig
from hyperlect.model import HyperX, HyperXConfig
from hyperlect.predict import Prediction, check_inputs, forward_rows, label_rows, split_words
from hyperlect.tasks import Task, TaskType

from .heads.test_parsing import is_tree
from .tiny import POSITIONS, tiny_backbone

SMALL = HypernetConfig(bottleneck=4, projection=6, embedding=5)
POS = Task("pos", TaskType.TAGGING, ("DET", "NOUN", "VERB", "ADJ"))
NER = Task("ner", TaskType.SPANS, ("O", "B-LOC", "I-LOC", "B-PER", "I-PER"))
TOPIC = Task("topic", TaskType.CLASSIFICATION, ("animals", "people", "places"))
NLI = Task("nli", TaskType.PAIRS, ("same", "other"))
DEP = Task("dep", TaskType.PARSING, ("nsubj", "obj", "punct", "root"))
TASKS = (POS, NER, TOPIC, NLI, Task("mlm", TaskType.MLM), DEP)
TRAINED = (
    Cell("pos", "eng"),
    Cell("ner", "isl"),
    Cell("topic", "eng"),
    Cell("nli", "eng"),
    Cell("mlm", "fao"),
)
LANGUAGES = ("eng", "fao", "isl")


def random_model(family: str = "bert", method: str = "hyperx") -> HyperX:
    """Return a model whose answers vary from word to word and from cell to cell."""
    torch.manual_seed(0)
    config = HyperXConfig(TASKS, LANGUAGES, TRAINED, method=method, hypernet=SMALL)
    model = HyperX(tiny_backbone(family), config)
    for parameter in model.own_parameters().values():
        torch.nn.init.normal_(parameter, std=0.4)
    return model.eval()


@pytest.fixture(scope="module")
def model() -> HyperX:
    return random_model()


def labels(model: HyperX, inputs: list[Any], task: str = "pos", language: str = "eng") -> list[Any]:
    return [prediction.labels for prediction in model.predict(inputs, task, language)]


# --- splitting raw sentences


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Anna sees a cat.", ["Anna", "sees", "a", "cat", "."]),
        ("Don't! l’eau rock'n'roll", ["Don't", "!", "l’eau", "rock'n'roll"]),
        ("a well-known - dash", ["a", "well-known", "-", "dash"]),
        ("3.14 or 1,000.50 at 12:30.", ["3.14", "or", "1,000.50", "at", "12:30", "."]),
        ("«Где?» — спросил он", ["«", "Где", "?", "»", "—", "спросил", "он"]),
        ("مرحبا، كيف حالك؟", ["مرحبا", "،", "كيف", "حالك", "؟"]),
        ("می‌خواهم بروم", ["می‌خواهم", "بروم"]),  # with a joiner inside
        ("वह घर जाता है।", ["वह", "घर", "जाता", "है", "।"]),
        ("நான் வந்தேன்.", ["நான்", "வந்தேன்", "."]),
        ("我在北京，1990年。", ["我", "在", "北", "京", "，", "1990", "年", "。"]),
        ("猫が好き。", ["猫", "が", "好", "き", "。"]),
        ("한국어 문장.", ["한국어", "문장", "."]),
        ("ภาษาไทย ดี", ["ภาษาไทย", "ดี"]),
        ("Cafe\u0301 nai\u0308f", ["Cafe\u0301", "nai\u0308f"]),  # decomposed
        ("\ufeffHi\u200b  there\u00a0!\r\n", ["Hi", "there", "!"]),
        ("ok ❤\ufe0f 👩‍👩‍👧!", ["ok", "❤\ufe0f", "👩‍👩‍👧", "!"]),
        (" \t ", []),
    ],
)  # fmt: skip
def test_raw_sentences_are_split_into_words(text: str, words: list[str]) -> None:
    assert split_words(text) == words


def test_the_words_of_a_sentence_spell_it() -> None:
    text = "“Já,” sagði Þórný: «3,5 km til Ísafjarðar?» 北京 (ok) e-mail a_b x̂y̌"
    assert "".join(split_words(text)) == "".join(text.split())


# --- the form of inputs


@pytest.mark.parametrize(
    ("item", "task", "content"),
    [
        ("the cat!", POS, ["the", "cat", "!"]),
        (["the", "cat!"], POS, ["the", "cat!"]),
        (("the", "cat!"), POS, ["the", "cat!"]),
        (np.array(["the", "cat"]), POS, ["the", "cat"]),
        ("the cat!", TOPIC, "the cat!"),
        ("", TOPIC, ""),
        (("the", "cat"), TOPIC, "the cat"),
        (["the cat", "a dog"], NLI, ("the cat", "a dog")),
    ],
)
def test_each_task_takes_its_form(item: Any, task: Task, content: Any) -> None:
    (checked,) = check_inputs([item], [task])
    assert checked.content == content


SURROGATE = "the \ud800 cat"


def test_all_inputs_of_a_wrong_form_are_named_at_once() -> None:
    items = [
        ["a", None], "the cat", None, "  ", [], ["a"], "ab", {"text": "a"}, b"a", 7, SURROGATE,
        ["the", "\udfff"],
    ]  # fmt: skip
    tasks = [POS, POS, TOPIC, POS, POS, NLI, NLI, TOPIC, POS, TOPIC, TOPIC, POS]
    with pytest.raises(DataError) as error:
        check_inputs(items, tasks)
    keys = [problem.key for problem in error.value.problems]
    assert keys == [f"input {number}" for number in (0, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11)]


@pytest.mark.parametrize("task", ["pos", "topic", "nli", "dep"])
def test_half_a_surrogate_pair_is_refused(model: HyperX, task: str) -> None:
    """It is not a character, so no tokenizer can read it."""
    plain: Any = ("a", "b") if task == "nli" else "the cat"
    broken: Any = ("a", SURROGATE) if task == "nli" else SURROGATE
    with pytest.raises(DataError, match="surrogate") as error:
        model.predict([broken, plain, broken], task, "eng")
    assert [problem.key for problem in error.value.problems] == ["input 0", "input 2"]
    whole = "the 👩 cat"
    assert model.predict([(whole, whole) if task == "nli" else whole], task, "eng")


@pytest.mark.parametrize("wrong", ["the cat", b"the cat", 7, None])
def test_inputs_must_be_a_list(model: HyperX, wrong: Any) -> None:
    with pytest.raises(DataError, match="list"):
        model.predict(wrong, "pos", "eng")


def test_inputs_may_come_from_a_generator(model: HyperX) -> None:
    inputs = ["the cat", "a dog"]
    assert model.predict(iter(inputs), "pos", "eng") == model.predict(inputs, "pos", "eng")


@pytest.mark.parametrize("wrong", [None, 7, ["pos", None], {"pos": "ner"}])
def test_task_and_language_must_be_names(model: HyperX, wrong: Any) -> None:
    with pytest.raises(HyperlectError, match="task must be"):
        model.predict(["the cat", "a dog"], wrong, "eng")
    with pytest.raises(HyperlectError, match="language must be"):
        model.predict(["the cat", "a dog"], "pos", wrong)


def test_an_unknown_option_is_refused(model: HyperX) -> None:
    with pytest.raises(TypeError, match="batch_size"):
        model.predict(["the cat"], "pos", "eng", batch_size=3)


@pytest.mark.parametrize("wrong", ["the cat", ("the",), ("the", "cat", "sees")])
def test_a_pair_must_be_two_texts(model: HyperX, wrong: Any) -> None:
    with pytest.raises(DataError) as error:
        model.predict([wrong], "nli", "eng")
    (problem,) = error.value.problems
    assert problem.key == "input 0"
    assert '"nli"' in problem.message


@pytest.mark.parametrize("empty", ["", "  ", []])
def test_an_input_without_words_is_refused(model: HyperX, empty: Any) -> None:
    with pytest.raises(DataError) as error:
        model.predict(["the cat", empty], "pos", "eng")
    assert [problem.key for problem in error.value.problems] == ["input 1"]


def test_no_inputs_have_no_predictions(model: HyperX) -> None:
    for task in ("pos", "ner", "topic", "nli"):
        assert model.predict([], task, "eng") == []


def test_unknown_tasks_and_languages_are_refused(model: HyperX) -> None:
    with pytest.raises(UnknownNameError, match=r'"poss".*"pos"'):
        model.predict(["the cat"], "poss", "eng")
    with pytest.raises(UnknownNameError, match='"faroish"'):
        model.predict(["the cat"], "pos", "faroish")
    with pytest.raises(HyperlectError, match='"mlm"'):
        model.predict(["the cat"], "mlm", "fao")
    with pytest.raises(HyperlectError, match='"mlm"'):
        model.predict(["a", "b"], ["pos", "mlm"], ["eng", "eng"])
    with pytest.raises(HyperlectError, match='"mlm"'):
        model.predict(["a"], ["pos", "mlm"], "eng")


def test_unknown_names_among_many_name_their_inputs(model: HyperX) -> None:
    with pytest.raises(UnknownNameError) as error:
        model.predict(["a", "b", "c"], ["pos", "poss", "ner"], ["eng", "isl", "faroish"])
    problems = {problem.key: problem.message for problem in error.value.problems}
    assert problems.keys() == {"input 1", "input 2"}
    assert '"pos"' in problems["input 1"]
    assert '"faroish"' in problems["input 2"]


def test_there_is_one_name_for_all_inputs_or_one_for_each(model: HyperX) -> None:
    inputs = [["the", "cat"], ["Oslo"]]
    both = model.predict(inputs, "pos", ["eng", "isl"])
    assert [prediction.language for prediction in both] == ["eng", "isl"]
    tasks, languages = ["pos", "pos"], ["eng", "eng"]
    assert model.predict(inputs, tasks, languages) == model.predict(inputs, "pos", "eng")
    with pytest.raises(HyperlectError, match=r"language.*2.*3"):
        model.predict(inputs, "pos", ["eng"] * 3)


# --- warnings


def test_texts_that_are_cut_are_counted_in_a_warning(model: HyperX) -> None:
    long = "the " * POSITIONS
    with pytest.warns(UserWarning, match=rf"^2 of 3 texts .* {POSITIONS} sub-words"):
        model.predict([long, "the cat", long], "topic", "eng")
    with pytest.warns(UserWarning, match=r"^1 of 1 text "):
        model.predict([(long, "a")], "nli", "eng")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.predict([long, "the cat"], "pos", "eng")  # in windows, without a loss
        model.predict(["the cat"], "topic", "eng")


def test_text_of_a_script_without_spaces_is_warned_of(model: HyperX) -> None:
    thai, lao = "ฉันรักภาษาไทยมาก", "ຂ້ອຍຮັກພາສາລາວ"
    with pytest.warns(UserWarning, match="^2 of 4 texts .*Thai"):
        model.predict([thai, "the cat", lao, "ไทย"], "pos", "tha")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.predict([["ฉัน", "รัก", "ภาษาไทย"]], "pos", "tha")
        model.predict([thai], "topic", "tha")


# --- predictions


def test_original_words_come_back_while_the_encoder_reads_nfc(model: HyperX) -> None:
    composed = ["Þ\u00f3r\u00fdn", "sees", "\u00e1r"]
    decomposed = [unicodedata.normalize("NFD", word) for word in composed]
    assert composed != decomposed
    first, second = (model.predict([words], "pos", "eng")[0] for words in (composed, decomposed))
    assert first.words == tuple(composed)
    assert second.words == tuple(decomposed)
    assert first.labels == second.labels
    one, other = (
        encode_inputs([words], POS, model.tokenizer, 64)[0]["input_ids"]
        for words in (composed, decomposed)
    )
    assert one == other


def test_words_of_a_raw_text_come_back_as_they_were(model: HyperX) -> None:
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
def test_a_prediction_names_its_kind_and_whose_vector_was_used(
    model: HyperX, task: str, language: str, kind: str, source: str
) -> None:
    (prediction,) = model.predict(["the cat"], task, language)
    assert (prediction.kind, prediction.language_source) == (kind, source)
    assert prediction.task == task
    assert len(prediction.language) == 3


def test_an_untouched_language_uses_the_mean_vector(model: HyperX) -> None:
    """It predicts what a language predicts whose own vector is that mean."""
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
    model = random_model(family)
    lengths = [1, 200, 3, 64, 63, 62, 61, 500]
    inputs = [["the", "cat", "Oslo", "xyzzy"] * (n // 4) + ["dog"] * (n % 4) for n in lengths]
    for task in ("pos", "ner"):
        predictions = model.predict(inputs, task, "eng")
        assert [len(prediction.labels) for prediction in predictions] == lengths
        assert [list(prediction.words) for prediction in predictions] == inputs


def test_spans_of_a_long_sentence_are_valid_across_its_windows(model: HyperX) -> None:
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
    assert set(prediction.labels) <= set(POS.labels)


def test_control_tokens_in_inputs_are_text(model: HyperX) -> None:
    """A mask or the end of a text that someone writes must not act as one."""
    for text in ("the [MASK] cat", "the cat [SEP]", "[PAD] [CLS]"):
        (words,) = model.predict([text.split()], "pos", "eng")
        assert words.words == tuple(text.split())
        for task in ("topic", "nli"):
            one = text if task == "topic" else (text, "a")
            (row,) = encode_inputs([one], model.task(task), model.tokenizer, 64)
            control = {*model.tokenizer.all_special_ids} - {model.tokenizer.unk_token_id}
            assert sum(token in control for token in row["input_ids"]) == (2 + (task == "nli"))


def test_predictions_come_in_the_order_of_the_inputs(model: HyperX) -> None:
    """Inputs are batched by length."""
    inputs = [["the"] * n + ["cat", "sees"] * m for n in (5, 1, 9) for m in (2, 7, 1)]
    together = labels(model, inputs)
    assert together == [labels(model, [words])[0] for words in inputs]
    predictions = model.predict(inputs, "pos", "eng", tokens_per_batch=1)
    assert [list(prediction.words) for prediction in predictions] == inputs
    texts = [f"{'the ' * n}cat" for n in (4, 1, 7, 2)]
    assert [p.text for p in model.predict(texts, "topic", "eng")] == texts
    assert [p.label for p in model.predict(texts, "topic", "eng")] == [
        model.predict([text], "topic", "eng")[0].label for text in texts
    ]


def test_texts_have_a_label_and_probabilities_that_sum_to_one(model: HyperX) -> None:
    inputs = ["the cat", "Anna", ["the", "old", "dog"], ""]
    predictions = model.predict(inputs, "topic", "eng")
    assert [prediction.text for prediction in predictions] == ["the cat", "Anna", "the old dog", ""]
    for prediction in predictions:
        assert prediction.scores is not None
        assert list(prediction.scores) == list(TOPIC.labels)
        assert sum(prediction.scores.values()) == pytest.approx(1)
        assert prediction.label == max(prediction.scores, key=prediction.scores.__getitem__)
        assert prediction.confidences == (prediction.scores[prediction.label],)
        assert prediction.words == prediction.labels == ()


def test_pairs_are_two_texts(model: HyperX) -> None:
    first, second = model.predict([("the cat", "a dog"), ["Anna", "Oslo"]], "nli", "eng")
    assert (first.text, second.text) == ("the cat\ta dog", "Anna\tOslo")
    assert first.scores is not None
    assert sum(first.scores.values()) == pytest.approx(1)
    assert first.label in NLI.labels
    swapped = model.predict([("a dog", "the cat")], "nli", "eng")[0]
    assert swapped.scores != first.scores


def test_offsets_are_where_words_stand_in_the_text(model: HyperX) -> None:
    texts = ["  Anna   sees (Oslo)!", "Cafe\u0301 👩‍👩‍👧 3,5 km", "a\tb\n"]
    words = [["the", "cat!", "", "x y"]]
    for prediction in model.predict([*texts, *words], "pos", "eng"):
        assert len(prediction.offsets) == len(prediction.words)
        for word, (start, end) in zip(prediction.words, prediction.offsets, strict=True):
            assert prediction.text[start:end] == word
    predictions = model.predict([*texts, *words], "pos", "eng")
    assert [prediction.text for prediction in predictions] == [*texts, "the cat!  x y"]


def test_confidences_are_the_probabilities_of_the_labels(model: HyperX) -> None:
    sentence = ["Anna", "sees", "Oslo", "and", "the", "old", "dog"] * 15  # in several windows
    for task in (POS, NER):
        (prediction,) = model.predict([sentence], task.name, "eng")
        rows = encode_inputs([sentence], task, model.tokenizer, model.max_length)
        assert len(rows) > 1
        cells = [Cell(task.name, "eng")] * len(rows)
        by_index = {}
        for batch, output in forward_rows(model, rows, cells):
            split = model.head(task.name).split(output.logits, batch.tasks[task.name])
            by_index |= dict(zip(batch.indices, split, strict=True))
        chances = torch.cat([by_index[index] for index in range(len(rows))]).softmax(-1)
        assert len(prediction.confidences) == len(sentence)
        for word, (label, confidence) in enumerate(
            zip(prediction.labels, prediction.confidences, strict=True)
        ):
            expected = chances[word, task.labels.index(label)].item()
            assert confidence == pytest.approx(expected, rel=1e-4)


def test_spans_have_their_text_place_and_confidence() -> None:
    prediction = Prediction(
        "ner", "isl", "supervised", "own vector",
        text="Anna  Jónsdóttir sees Oslo.",
        words=("Anna", "Jónsdóttir", "sees", "Oslo", "."),
        offsets=((0, 4), (6, 16), (17, 21), (22, 26), (26, 27)),
        labels=("B-PER", "I-PER", "O", "B-LOC", "O"),
        confidences=(0.9, 0.6, 0.99, 0.8, 1.0),
    )  # fmt: skip
    person, place = prediction.spans
    assert (person.label, person.start, person.end) == ("PER", 0, 2)
    assert (person.text, person.start_char, person.end_char) == ("Anna  Jónsdóttir", 0, 16)
    assert person.confidence == 0.6
    assert (place.label, place.text, place.start_char, place.end_char) == ("LOC", "Oslo", 22, 26)
    assert prediction.to_dict()["spans"][0] == {
        "label": "PER", "start": 0, "end": 2, "text": "Anna  Jónsdóttir", "start_char": 0,
        "end_char": 16, "confidence": 0.6,
    }  # fmt: skip


def test_predictions_become_plain_data(model: HyperX) -> None:
    inputs = ["Anna sees Oslo", ["the", "cat"], "the cat", ("a", "b"), "Anna sees"]
    predictions = model.predict(inputs, ["ner", "pos", "topic", "nli", "dep"], ["isl"] * 5)
    ner, pos, topic, nli, dep = (
        json.loads(json.dumps(prediction.to_dict(), allow_nan=False)) for prediction in predictions
    )
    about = ["task", "language", "kind", "language_source", "text"]
    words = [*about, "words", "offsets", "labels", "confidences"]
    assert list(ner) == [*words, "spans"]
    assert list(pos) == words
    assert list(topic) == list(nli) == [*about, "label", "scores"]
    assert list(dep) == [*words, "heads"]
    assert (ner["language"], ner["kind"], ner["text"]) == ("isl", "supervised", "Anna sees Oslo")
    assert ner["offsets"] == [[0, 4], [5, 9], [10, 14]]
    assert nli["text"] == "a\tb"
    assert topic["scores"].keys() == set(TOPIC.labels)
    for number in (*ner["confidences"], *topic["scores"].values()):
        assert number == round(number, 4)


def test_a_notebook_shows_a_table(model: HyperX) -> None:
    inputs = [["Anna", "<b>"], "the <i>cat</i>", ["Anna", "sees"]]
    ner, topic, dep = model.predict(inputs, ["ner", "topic", "dep"], ["isl", "eng", "eng"])
    shown = ner._repr_html_()
    assert "ner in Icelandic (supervised)" in shown
    assert "&lt;b&gt;" in shown
    assert all(f"<td>{label}</td>" in shown for label in ner.labels)
    assert "<b>" not in shown
    assert "the &lt;i&gt;cat" in topic._repr_html_()
    assert f"<td>{topic.label}</td>" in topic._repr_html_()
    first = f"<td>1 Anna</td><td>{dep.labels[0]} ← {dep.heads[0]}</td>"
    assert first in dep._repr_html_()


def test_a_prediction_depends_neither_on_chance_nor_on_the_mode(model: HyperX) -> None:
    first = labels(model, [["the", "cat", "sees"]])
    model.train()
    try:
        assert labels(model, [["the", "cat", "sees"]]) == first
        assert model.training
    finally:
        model.eval()


def test_the_caller_is_never_in_inference_mode(model: HyperX) -> None:
    """Neither between batches nor after it stops halfway."""
    rows = encode_inputs([["the", "cat"], ["a"]], POS, model.tokenizer, 64)
    for _ in forward_rows(model, rows, [Cell("pos", "eng")] * 2, tokens_per_batch=1):
        assert not torch.is_inference_mode_enabled()
        assert torch.is_grad_enabled()
        break
    assert not torch.is_inference_mode_enabled()


@pytest.mark.parametrize("task", [task.name for task in TASKS if task.name != "mlm"])
def test_scores_that_are_nan_are_an_error(model: HyperX, task: str) -> None:
    """The highest of them would be a label like any other."""
    broken = copy.deepcopy(model)
    for parameter in broken.heads[task].parameters():
        parameter.data.fill_(torch.nan)
    inputs = ["the cat"] if task != "nli" else [("the cat", "a cat")]
    with pytest.raises(HyperlectError, match=f"{task}:eng"):
        broken.predict(inputs, task, "eng")


@pytest.mark.parametrize("method", ["task-hypernet", "adapters", "head"])
def test_some_baselines_predict_the_same_in_every_language(method: str) -> None:
    model = random_model(method=method)
    inputs = [["the", "old", "cat", "sees", "Anna"]]
    assert labels(model, inputs, language="eng") == labels(model, inputs, language="dan")


# --- several cells at once

MIXED: list[tuple[Any, str, str]] = [
    (["the", "cat"], "pos", "eng"), ("a dog in Oslo", "topic", "isl"),
    ("Anna sees Oslo.", "ner", "is"), (["Anna"] * 90, "pos", "dan"),
    (("the cat", "a dog"), "nli", "eng"), (["old"] * 3, "ner", "fao"), ("the cat", "pos", "isl"),
    ("the river", "topic", "Danish"), ("Anna sees the cat", "dep", "eng"),
]  # fmt: skip


def without_numbers(prediction: Prediction) -> Prediction:
    return replace(prediction, scores=None, confidences=(), promised=(0.0, 0.0))


@pytest.mark.parametrize("tokens", [1, 100, 4096])
def test_inputs_of_any_cells_go_together(model: HyperX, tokens: int) -> None:
    inputs, tasks, languages = map(list, zip(*MIXED, strict=True))
    predictions = model.predict(inputs, tasks, languages, tokens_per_batch=tokens)
    for prediction, one in zip(predictions, MIXED, strict=True):
        (alone,) = model.predict(one[:1], *one[1:])
        assert without_numbers(prediction) == without_numbers(alone)
        assert prediction.confidences == pytest.approx(alone.confidences, abs=1e-5)
        if alone.scores is not None:
            assert prediction.scores == pytest.approx(alone.scores, abs=1e-5)


def test_inputs_of_several_cells_are_one_batch(
    model: HyperX, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    run = HyperX.run

    def note(self: HyperX, batch: Any, *rest: Any) -> Any:
        sizes.append(len(batch.cells))
        return run(self, batch, *rest)

    monkeypatch.setattr(HyperX, "run", note)
    inputs, tasks, languages = map(list, zip(*MIXED, strict=True))
    model.predict(inputs, tasks, languages)
    assert len(sizes) == 1
    assert sizes[0] > len(MIXED)  # the long sentence has several windows


@pytest.mark.parametrize("tokens", [1, 100, 4096])
def test_several_tasks_answer_each_input(model: HyperX, tokens: int) -> None:
    inputs = [["the", "cat"], "Anna sees Oslo.", ["Anna", "sees"] * 50, ["the", "cat"], "ok"]
    tasks = ["dep", "pos", "topic", "ner"]
    together = model.predict(inputs, tasks, "fao", tokens_per_batch=tokens)
    assert [list(answers) for answers in together] == [tasks] * len(inputs)
    for task in tasks:
        expected = model.predict(inputs, task, "fao")
        for answers, alone in zip(together, expected, strict=True):
            assert without_numbers(answers[task]) == without_numbers(alone)
            assert answers[task].confidences == pytest.approx(alone.confidences, abs=1e-4)


def test_several_tasks_split_each_sentence_once(
    model: HyperX, monkeypatch: pytest.MonkeyPatch
) -> None:
    sentences: list[int] = []
    split = Subwords.words

    def note(self: Subwords, inputs: Any) -> Any:
        sentences.append(len(inputs))
        return split(self, inputs)

    monkeypatch.setattr(Subwords, "words", note)
    (answers,) = model.predict(["the cat"], ("pos", "ner", "dep", "pos"), "isl")
    assert list(answers) == ["pos", "ner", "dep"]
    assert sentences == [1]
    assert model.predict([], ["pos", "ner"], "isl") == []
    assert list(model.predict(["the cat"], ["pos"], "isl")[0]) == ["pos"]


@pytest.mark.parametrize("tasks", [[], ["poss", "ner"], [3], ["nli", "pos"]])
def test_several_tasks_must_be_names_and_read_the_inputs(model: HyperX, tasks: list[Any]) -> None:
    with pytest.raises(HyperlectError):
        model.predict(["the cat"], tasks, "isl")


@pytest.mark.parametrize("precision", ["auto", "fp32", "tf32", "bf16"])
def test_the_precision_holds_for_one_call(model: HyperX, precision: Any) -> None:
    inputs = [["the", "old", "cat", "sees", "Anna"]]
    before = model.predict(inputs, "pos", "isl")
    attention = model.backbone.encoder.config._attn_implementation
    fast = model.predict(inputs, "pos", "isl", precision=precision)
    close = 0.1 if precision in ("auto", "bf16") else 0.0
    assert fast[0].confidences == pytest.approx(before[0].confidences, abs=close)
    assert (precision == "bf16") <= (fast[0].confidences != before[0].confidences)
    assert model.predict(inputs, "pos", "isl") == before
    assert model.backbone.encoder.config._attn_implementation == attention


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize("precision", [None, "bf16"])
def test_batches_in_threads_are_as_one_after_another(model: HyperX, precision: Any) -> None:
    inputs = [["the", "cat", "sees"] * n for n in (1, 40, 3, 7, 2, 90, 1, 5)]
    tasks = ["pos", "dep"]
    options: dict[str, Any] = {"tokens_per_batch": 40, "precision": precision}
    together = model.predict(inputs, tasks, "fao", **options)
    assert torch.get_num_threads() == 2
    torch.set_num_threads(1)
    expected = model.predict(inputs, tasks, "fao", **options)
    for mine, other in zip(together, expected, strict=True):
        for task in tasks:
            assert without_numbers(mine[task]) == without_numbers(other[task])
            assert mine[task].confidences == pytest.approx(other[task].confidences, abs=1e-5)


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize(("count", "batches"), [(8, [4, 4]), (6, [6])])
def test_few_rows_are_shared_out_over_the_threads(
    model: HyperX, count: int, batches: list[int]
) -> None:
    rows = encode_inputs([["the", "cat"] * 25] * count, POS, model.tokenizer, 64)
    assert {len(row["input_ids"]) for row in rows} == {52}
    run = forward_rows(model, rows, [Cell("pos", "eng")] * count)
    assert [len(batch.indices) for batch, _ in run] == batches


def test_a_pass_in_one_thread_may_end_inside_a_layer_of_another(model: HyperX) -> None:
    first_inside, second_inside, first_ended = (threading.Event() for _ in range(3))
    layers = model.backbone.family.insertion_points(model.backbone.encoder, 2, "layer")

    def gate(*_: object) -> None:
        if threading.current_thread() is threading.main_thread():
            second_inside.set()
            assert first_ended.wait(60)
        else:
            first_inside.set()
            assert second_inside.wait(60)

    def first() -> None:
        model.predict([["the", "cat"]], ["pos", "dep"], "fao")
        first_ended.set()

    expected = model.predict([["the", "cat"]], ["pos", "dep"], "eng")
    thread = threading.Thread(target=first)
    with layers[-1].register_forward_pre_hook(gate):
        thread.start()
        assert first_inside.wait(60)
        assert model.predict([["the", "cat"]], ["pos", "dep"], "eng") == expected
        thread.join()


@pytest.mark.usefixtures("two_threads")
def test_batches_in_threads_stop_with_their_reader_and_report_errors(model: HyperX) -> None:
    rows = encode_inputs([["the", "cat"]] * 20, POS, model.tokenizer, 64)
    threads = threading.active_count()  # those of earlier tests may live on
    for _ in forward_rows(model, rows, [Cell("pos", "eng")] * 20, tokens_per_batch=1):
        assert not torch.is_inference_mode_enabled()
        break
    assert torch.get_num_threads() == 2
    assert threading.active_count() == threads
    broken = copy.deepcopy(model)
    broken.heads["pos"] = broken.heads["ner"]
    broken.heads["ner"].linear.weight.data = torch.zeros(5, 3)
    with pytest.raises(RuntimeError):
        broken.predict([["the", "cat"]] * 20, "pos", "eng", tokens_per_batch=1)
    assert torch.get_num_threads() == 2
    model.train()  # its batches come one after another, since the mode is of all threads
    try:
        assert len(labels(model, [["the"], ["a", "cat"]] * 300)) == 600
        assert model.training
    finally:
        model.eval()


def test_rows_without_a_window_have_no_answer(model: HyperX) -> None:
    rows = encode_inputs([["the"], [], ["a", "cat"]], POS, model.tokenizer, 64)
    answers = label_rows(model, rows, [Cell("pos", "eng")] * len(rows))
    assert {example: len(answer.labels) for example, answer in answers.items()} == {0: 1, 2: 2}


# --- trees


def assert_tree(prediction: Prediction, words: int) -> None:
    assert len(prediction.heads) == len(prediction.labels) == len(prediction.words) == words
    assert is_tree(list(prediction.heads))
    for head, relation in zip(prediction.heads, prediction.labels, strict=True):
        assert (head == 0) == (relation == "root")


def test_sentences_are_parsed_into_trees(model: HyperX) -> None:
    first, second = model.predict(["Anna sees the old dog.", ["ok"]], "dep", "fao")
    assert_tree(first, 6)
    assert first.spans == []
    assert (second.heads, second.labels) == ((0,), ("root",))
    assert second.confidences == pytest.approx([1.0])
    assert model.predict(["ok"], "pos", "eng")[0].heads == ()


def test_the_confidence_of_a_word_is_that_of_its_head_and_relation(model: HyperX) -> None:
    (prediction,) = model.predict([["Anna", "sees", "the", "cat"]], "dep", "eng")
    rows = encode_inputs([["Anna", "sees", "the", "cat"]], DEP, model.tokenizer, 64)
    ((_, output),) = forward_rows(model, rows, [Cell("dep", "eng")])
    arcs = output.scores["dep"].arcs[0].clone()
    arcs[range(4), range(1, 5)] = -torch.inf  # no word is its own head
    assert best_tree(arcs.double().numpy()) == list(prediction.heads)
    attached = arcs.softmax(-1)[range(4), list(prediction.heads)].tolist()
    for confidence, chance in zip(prediction.confidences, attached, strict=True):
        assert 0 <= confidence <= chance + 1e-6


@pytest.mark.parametrize("family", ["bert", "xlm-roberta"])
def test_a_sentence_beyond_the_input_length_is_one_tree(family: str) -> None:
    model = random_model(family)
    words = [("the", "cat", "sees", "Oslo")[i % 4] for i in range(150)]
    long, short = model.predict([words, words[:5]], "dep", "eng")
    assert_tree(long, 150)
    assert_tree(short, 5)
    distances = [abs(head - word) for word, head in enumerate(long.heads, start=1) if head]
    assert max(distances) > 64  # further than one window reaches


def test_trees_do_not_depend_on_the_batch(model: HyperX) -> None:
    inputs = [["the"] * n + ["cat", "sees", "Oslo"] for n in (1, 90, 3, 0, 12)]
    together = model.predict(inputs, "dep", "eng")
    alone = model.predict(inputs, "dep", "eng", tokens_per_batch=1)
    mixed = model.predict([*inputs, "the cat"], ["dep"] * 5 + ["pos"], ["eng"] * 5 + ["isl"])
    for predictions in (alone, mixed[:5]):
        for mine, expected in zip(predictions, together, strict=True):
            assert without_numbers(mine) == without_numbers(expected)
            assert mine.confidences == pytest.approx(expected.confidences, abs=1e-4)
