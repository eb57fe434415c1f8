from __future__ import annotations

import unicodedata

import pytest

from hyperlect.data.subwords import Subwords
from hyperlect.errors import DataError
from tests.tiny import (
    FAMILY_NAMES,
    byte_tokenizer,
    tiny_tokenizer,
    unigram_tokenizer,
    wordpiece_tokenizer,
)

each_family = pytest.mark.parametrize("family", FAMILY_NAMES)


@each_family
def test_words_become_what_the_tokenizer_makes_of_the_sentence(family: str):
    tokenizer = tiny_tokenizer(family)
    (window,) = Subwords(tokenizer, 64).words([["the", "old", "cats", "sees", "Anna"]])[0]
    running = tokenizer("the old cats sees Anna")["input_ids"]
    # Byte-level tokenizers write the first word of a running sentence without its space.
    start = 2 if tokenizer.backend_tokenizer.get_vocab().get("Ġthe") else 0
    assert window.input_ids[start:] == running[start:]
    assert len(window.token_type_ids) == len(window.input_ids)
    assert set(window.token_type_ids) == {0}
    assert window.words == range(5)


@each_family
def test_the_first_subword_of_each_word_is_its_position(family: str):
    tokenizer = tiny_tokenizer(family)
    (window,) = Subwords(tokenizer, 64).words([["xyz", "the", "dogs", "Anna"]])[0]
    pieces = tokenizer.convert_ids_to_tokens(window.input_ids)
    begun = [pieces[position].strip("▁Ġ") for position in window.positions]
    assert begun[1:] == ["the", "dog", "Anna"]
    assert begun[0] in ("x", "")  # Unigram may spell the space before a word by itself
    assert window.positions[0] == 1


def test_byte_level_words_carry_their_space():
    tokenizer = byte_tokenizer()
    assert Subwords(tokenizer, 64).word_prefix == " "
    (window,) = Subwords(tokenizer, 64).words([["the", "cat"]])[0]
    assert tokenizer.convert_ids_to_tokens(window.input_ids)[1:-1] == ["Ġthe", "Ġcat"]


@pytest.mark.parametrize("make", [wordpiece_tokenizer, unigram_tokenizer])
def test_other_tokenizers_need_no_space(make):
    assert Subwords(make(), 64).word_prefix == ""


@each_family
@pytest.mark.parametrize("word", ["\x01", "\u200b", "\u00ad", "", "\ufeff", "☃"])
def test_every_word_has_exactly_one_position(family: str, word: str):
    sentence = [word, "the", word, word, "cat", word]
    (window,) = Subwords(tiny_tokenizer(family), 64).words([sentence])[0]
    assert len(set(window.positions)) == len(sentence)
    assert window.positions == sorted(window.positions)
    assert window.positions[0] > 0
    assert window.positions[-1] < len(window.input_ids) - 1


def test_a_word_without_subwords_is_unknown():
    tokenizer = wordpiece_tokenizer()
    (window,) = Subwords(tokenizer, 64).words([["the", "\x01", "cat"]])[0]
    assert tokenizer.convert_ids_to_tokens(window.input_ids) == [
        "[CLS]", "the", "[UNK]", "cat", "[SEP]",
    ]  # fmt: skip


@each_family
def test_text_is_normalised(family: str):
    subwords = Subwords(tiny_tokenizer(family), 64)
    composed, decomposed = "ñandú", unicodedata.normalize("NFD", "ñandú")
    assert composed != decomposed
    assert subwords.words([[composed]]) == subwords.words([[decomposed]])
    assert subwords.texts([composed]) == subwords.texts([decomposed])
    assert subwords.pairs([(composed, "a")]) == subwords.pairs([(decomposed, "a")])
    assert subwords.lines([composed]) == subwords.lines([decomposed])


@each_family
def test_long_sentences_become_windows_that_hold_each_word_once(family: str):
    tokenizer = tiny_tokenizer(family)
    sentence = ["the", "rivers", "xyz", "Anna", "not"] * 7
    subwords = Subwords(tokenizer, 16)
    whole = Subwords(tokenizer, 500).words([sentence])[0][0]
    windows = subwords.words([sentence])[0]
    assert len(windows) > 2
    assert [word for window in windows for word in window.words] == list(range(len(sentence)))
    inner: list[int] = []
    for window in windows:
        assert len(window.input_ids) <= 16
        assert len(window.positions) == len(window.words)
        for word, position in zip(window.words, window.positions, strict=True):
            assert window.input_ids[position] == whole.input_ids[whole.positions[word]]
        inner += window.input_ids[1:-1]
    assert inner == whole.input_ids[1:-1]
    sizes = [len(window.input_ids) for window in windows]
    assert max(sizes) - min(sizes) <= 6


def test_a_word_longer_than_a_window_keeps_its_first_subwords():
    tokenizer = wordpiece_tokenizer()
    windows = Subwords(tokenizer, 8).words([["the", "x" * 20, "cat"]])[0]
    assert [list(window.words) for window in windows] == [[0], [1], [2]]
    assert tokenizer.convert_ids_to_tokens(windows[1].input_ids) == [
        "[CLS]", "x", *["##x"] * 5, "[SEP]",
    ]  # fmt: skip


def test_no_words_no_window():
    assert Subwords(wordpiece_tokenizer(), 16).words([[], ["a"]])[0] == []


@each_family
def test_texts_are_those_of_the_tokenizer(family: str):
    tokenizer = tiny_tokenizer(family)
    texts = ["the old dog sees the river.", "", "not " * 30]
    expected = tokenizer(texts, truncation=True, max_length=16)["input_ids"]
    windows = Subwords(tokenizer, 16).texts(texts)
    assert [window.input_ids for (window,) in windows] == expected
    assert all(window.positions == [] for (window,) in windows)


@each_family
@pytest.mark.parametrize(("first", "second"), [(2, 3), (30, 2), (2, 30), (30, 40), (9, 8), (0, 1)])
def test_pairs_are_those_of_the_tokenizer(family: str, first: int, second: int):
    tokenizer = tiny_tokenizer(family)
    pair = " ".join(["cat"] * first), " ".join(["dog"] * second)
    # transformers truncates the same way; the odd sub-word of an odd room may go to either text.
    expected = tokenizer(*pair, truncation="longest_first", max_length=17)
    (window,) = Subwords(tokenizer, 17).pairs([pair])[0]
    assert len(window.input_ids) == len(expected["input_ids"]) <= 17
    if (17 - Subwords(tokenizer, 17).double.size) % 2 == 0 or first + second < 10:
        assert window.input_ids == expected["input_ids"]
        types = expected.get("token_type_ids", [0] * len(window.input_ids))
        assert window.token_type_ids == types


@each_family
def test_lines_lose_nothing(family: str):
    tokenizer = tiny_tokenizer(family)
    line = "the old cat sees " + "x" * 40 + " and not the river in Oslo " * 3
    windows = Subwords(tokenizer, 16).lines([line])[0]
    assert all(len(window.input_ids) <= 16 for window in windows)
    inner = [token for window in windows for token in window.input_ids[1:-1]]
    if family == "bert" or family == "distilbert":
        assert inner == tokenizer(line, add_special_tokens=False)["input_ids"]
    assert inner == tokenizer(line)["input_ids"][1:-1]


def test_windows_with_nothing_to_predict_are_left_out():
    assert Subwords(wordpiece_tokenizer(), 16).lines(["☃ ☃", "", "the ☃"])[:2] == [[], []]
    assert len(Subwords(wordpiece_tokenizer(), 16).lines(["the ☃"])[0]) == 1


def test_earlier_truncation_and_padding_do_not_matter():
    tokenizer = wordpiece_tokenizer()
    expected = Subwords(tokenizer, 64).words([["the"] * 30, ["cat"]])
    tokenizer(["the cat " * 9, "a"], truncation=True, max_length=8, padding="max_length")
    assert Subwords(tokenizer, 64).words([["the"] * 30, ["cat"]]) == expected


def test_a_length_without_room_is_refused():
    with pytest.raises(DataError, match="no room beside the 3 special tokens"):
        Subwords(wordpiece_tokenizer(), 4)
