"""From words and texts to sub-words: positions, windows, and control tokens that are text."""

from __future__ import annotations

import random
import unicodedata
from collections.abc import Iterator
from itertools import combinations, pairwise
from typing import Any

import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from hyperlect.backbone.builtin import builtin_folder
from hyperlect.data.subwords import Subwords, Window, balanced_windows, unknown_share
from hyperlect.errors import BackboneError, DataError
from tests.tiny import (
    BERT_SPECIAL,
    FAMILY_NAMES,
    ROBERTA_SPECIAL,
    byte_tokenizer,
    tiny_tokenizer,
    unigram_tokenizer,
    wordpiece_tokenizer,
)

each_family = pytest.mark.parametrize("family", FAMILY_NAMES)


@each_family
def test_words_are_encoded_as_in_a_running_sentence(family: str):
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
def test_the_position_of_a_word_is_its_first_sub_word(family: str):
    tokenizer = tiny_tokenizer(family)
    (window,) = Subwords(tokenizer, 64).words([["xyz", "the", "dogs", "Anna"]])[0]
    pieces = tokenizer.convert_ids_to_tokens(window.input_ids)
    first = [pieces[position].strip("▁Ġ") for position in window.positions]
    assert first[1:] == ["the", "dog", "Anna"]
    assert first[0] in ("x", "")  # Unigram may spell the space before a word as a piece of its own
    assert window.positions[0] == 1


def test_byte_level_words_include_their_space():
    tokenizer = byte_tokenizer()
    assert Subwords(tokenizer, 64).word_prefix == " "
    (window,) = Subwords(tokenizer, 64).words([["the", "cat"]])[0]
    assert tokenizer.convert_ids_to_tokens(window.input_ids)[1:-1] == ["Ġthe", "Ġcat"]


def gemma_tokenizer() -> Any:
    """BPE over text whose spaces are marks, none before the first word, as mmBERT's."""
    pieces = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", *"▁catheolds", "▁c", "at", "▁cat"]
    merges = [("▁", "c"), ("a", "t"), ("▁c", "at")]
    vocabulary = {piece: index for index, piece in enumerate(dict.fromkeys(pieces))}
    backend = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", fuse_unk=True))
    backend.normalizer = normalizers.Replace(" ", "▁")
    backend.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    ends = [("<bos>", 2), ("<eos>", 1)]
    backend.post_processor = processors.TemplateProcessing(
        single="<bos> $A <eos>", pair="<bos> $A <eos> $B <eos>", special_tokens=ends
    )
    roles = {f"{role}_token": f"<{role}>" for role in ("pad", "eos", "bos", "unk", "mask")}
    return PreTrainedTokenizerFast(tokenizer_object=backend, **roles)


def test_words_after_marks_for_spaces_are_as_in_a_running_sentence():
    tokenizer = gemma_tokenizer()
    (window,) = Subwords(tokenizer, 64).words([["the", "cat", "old", "cats"]])[0]
    pieces = tokenizer.convert_ids_to_tokens(window.input_ids)
    assert pieces[:6] == ["<bos>", "▁", "t", "h", "e", "▁cat"]
    running = tokenizer.convert_ids_to_tokens(tokenizer("the cat old cats")["input_ids"])
    assert pieces[2:] == running[1:]


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


def test_a_word_without_sub_words_is_unknown():
    tokenizer = wordpiece_tokenizer()
    (window,) = Subwords(tokenizer, 64).words([["the", "\x01", "cat"]])[0]
    assert tokenizer.convert_ids_to_tokens(window.input_ids) == [
        "[CLS]", "the", "[UNK]", "cat", "[SEP]",
    ]  # fmt: skip


@each_family
def test_unicode_is_normalised(family: str):
    subwords = Subwords(tiny_tokenizer(family), 64)
    composed, decomposed = "ñandú", unicodedata.normalize("NFD", "ñandú")
    assert composed != decomposed
    assert subwords.words([[composed]]) == subwords.words([[decomposed]])
    assert subwords.texts([composed]) == subwords.texts([decomposed])
    assert subwords.pairs([(composed, "a")]) == subwords.pairs([(decomposed, "a")])
    assert subwords.lines([composed]) == subwords.lines([decomposed])


@each_family
def test_the_windows_of_a_long_sentence_hold_each_word_once(family: str):
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


def test_a_word_longer_than_a_window_keeps_its_first_sub_words():
    tokenizer = wordpiece_tokenizer()
    windows = Subwords(tokenizer, 8).words([["the", "x" * 20, "cat"]])[0]
    assert [list(window.words) for window in windows] == [[0], [1], [2]]
    assert tokenizer.convert_ids_to_tokens(windows[1].input_ids) == [
        "[CLS]", "x", *["##x"] * 5, "[SEP]",
    ]  # fmt: skip


def test_no_words_have_no_window():
    assert Subwords(wordpiece_tokenizer(), 16).words([[], ["a"]])[0] == []


@each_family
def test_texts_are_encoded_as_by_the_tokenizer(family: str):
    tokenizer = tiny_tokenizer(family)
    texts = ["the old dog sees the river.", "", "not " * 30]
    expected = tokenizer(texts, truncation=True, max_length=16)["input_ids"]
    windows = Subwords(tokenizer, 16).texts(texts)
    assert [window.input_ids for (window,) in windows] == expected
    assert all(window.positions == [] for (window,) in windows)
    assert [window.truncated for (window,) in windows] == [False, False, True]


@each_family
@pytest.mark.parametrize(("first", "second"), [(2, 3), (30, 2), (2, 30), (30, 40), (9, 8), (0, 1)])
def test_pairs_are_encoded_as_by_the_tokenizer(family: str, first: int, second: int):
    tokenizer = tiny_tokenizer(family)
    pair = " ".join(["cat"] * first), " ".join(["dog"] * second)
    # transformers truncates the same way; the odd sub-word of an odd room may go to either text.
    expected = tokenizer(*pair, truncation="longest_first", max_length=17)
    (window,) = Subwords(tokenizer, 17).pairs([pair])[0]
    assert len(window.input_ids) == len(expected["input_ids"]) <= 17
    whole = tokenizer(*pair)["input_ids"]
    assert window.truncated == (len(whole) > 17)
    if (17 - Subwords(tokenizer, 17).double.size) % 2 == 0 or first + second < 10:
        assert window.input_ids == expected["input_ids"]
        types = expected.get("token_type_ids", [0] * len(window.input_ids))
        assert window.token_type_ids == types


@each_family
def test_the_windows_of_a_line_lose_nothing(family: str):
    tokenizer = tiny_tokenizer(family)
    line = "the old cat sees " + "x" * 40 + " and not the river in Oslo " * 3
    windows = Subwords(tokenizer, 16).lines([line])[0]
    assert all(len(window.input_ids) <= 16 for window in windows)
    inner = [token for window in windows for token in window.input_ids[1:-1]]
    if family == "bert" or family == "distilbert":
        assert inner == tokenizer(line, add_special_tokens=False)["input_ids"]
    assert inner == tokenizer(line)["input_ids"][1:-1]


def test_windows_without_anything_to_predict_are_left_out():
    assert Subwords(wordpiece_tokenizer(), 16).lines(["☃ ☃", "", "the ☃"])[:2] == [[], []]
    assert len(Subwords(wordpiece_tokenizer(), 16).lines(["the ☃"])[0]) == 1


def test_earlier_truncation_and_padding_change_nothing():
    tokenizer = wordpiece_tokenizer()
    expected = Subwords(tokenizer, 64).words([["the"] * 30, ["cat"]])
    tokenizer(["the cat " * 9, "a"], truncation=True, max_length=8, padding="max_length")
    assert Subwords(tokenizer, 64).words([["the"] * 30, ["cat"]]) == expected


def test_a_length_without_room_is_refused():
    with pytest.raises(DataError, match="max_length is 4"):
        Subwords(wordpiece_tokenizer(), 4)


# --- windows


def test_a_sentence_that_fits_is_one_window():
    assert balanced_windows([3, 4], 7) == [range(2)]
    assert balanced_windows([], 7) == []


def test_windows_are_even():
    assert [len(window) for window in balanced_windows([1] * 10, 8)] == [5, 5]
    assert [len(window) for window in balanced_windows([1] * 21, 10)] == [7, 7, 7]


@pytest.mark.parametrize("seed", range(20))
def test_there_is_no_better_division_into_windows(seed: int):
    """None with fewer windows, and none of as many whose largest is smaller."""
    source = random.Random(seed)
    lengths = [source.randint(1, 5) for _ in range(9)]
    windows = balanced_windows(lengths, 8)
    assert [index for window in windows for index in window] == list(range(9))

    def sums(bounds: tuple[int, ...]) -> list[int]:
        edges = (0, *bounds, 9)
        return [sum(lengths[a:b]) for a, b in pairwise(edges)]

    for cuts in range(9):
        fitting = [s for c in combinations(range(1, 9), cuts) if max(s := sums(c)) <= 8]
        if fitting:
            break
    assert len(windows) == cuts + 1
    assert max(sum(lengths[i] for i in window) for window in windows) == min(map(max, fitting))


# --- control tokens in text

WRITTEN = ("<s>", "</s>", "<mask>", "<pad>", "<unk>", "[MASK]", "[CLS]", "[SEP]", "[PAD]", "[UNK]")


def each_window_of(subwords: Subwords, text: str) -> Iterator[tuple[Window, int]]:
    """The windows of a text in every form, each with the number of its special tokens."""
    words = ["the", text, f"cat{text}dog", f"{text}{text}"]
    (of_words,) = subwords.words([words])
    assert [word for window in of_words for word in window.words] == list(range(len(words)))
    line = " ".join(words)
    (of_text,), (of_line,) = subwords.texts([line]), subwords.lines([line])
    yield from ((window, subwords.single.size) for window in (*of_words, *of_text, *of_line))
    for pair in ((line, "a dog"), ("a dog", line)):
        (of_pair,) = subwords.pairs([pair])
        yield from ((window, subwords.double.size) for window in of_pair)


def assert_control_tokens_are_text(tokenizer: Any) -> None:
    control = set(tokenizer.all_special_ids) - {tokenizer.unk_token_id}
    subwords = Subwords(tokenizer, 500)
    for text in WRITTEN:
        for window, special in each_window_of(subwords, text):
            assert sum(token in control for token in window.input_ids) == special, text


@each_family
def test_a_control_token_that_is_written_in_a_text_is_text(family: str):
    assert_control_tokens_are_text(tiny_tokenizer(family))


@pytest.mark.backbone
def test_the_built_in_tokenizer_takes_control_tokens_for_text():
    try:
        tokenizer = AutoTokenizer.from_pretrained(builtin_folder("e5-small"))
    except BackboneError as error:
        pytest.skip(str(error))
    assert_control_tokens_are_text(tokenizer)
    text = "the <mask> cat <s> and </s>"
    (window,) = Subwords(tokenizer, 500).texts([text])[0]
    assert tokenizer.decode(window.input_ids[1:-1]) == text


@pytest.mark.parametrize("special", [ROBERTA_SPECIAL, BERT_SPECIAL])
def test_the_characters_of_a_control_token_are_spelled(special: tuple[str, ...]):
    """Byte-level tokenizers can spell every one of them."""
    tokenizer = byte_tokenizer(special)
    for token in special:
        (window,) = Subwords(tokenizer, 64).texts([f"the {token} cat"])[0]
        pieces = tokenizer.convert_ids_to_tokens(window.input_ids[1:-1])
        assert "".join(pieces).replace("Ġ", " ") == f"the {token} cat"


@each_family
def test_texts_without_control_tokens_need_no_second_tokenizer(family: str):
    subwords = Subwords(tiny_tokenizer(family), 64)
    subwords.texts(["a <b> [c] cat", "s> </s"])
    subwords.words([["<", "s", ">"]])
    assert "_literal" not in vars(subwords)


def test_words_beside_a_control_token_are_encoded_as_always():
    subwords = Subwords(unigram_tokenizer(), 64)
    (plain,), (marked,) = (subwords.words([["the", word, "cat"]])[0] for word in ("dog", "<mask>"))
    assert plain.input_ids[:2] == marked.input_ids[:2]
    assert plain.input_ids[-2:] == marked.input_ids[-2:]


def test_the_share_of_unknown_sub_words():
    tokenizer = wordpiece_tokenizer()
    rows = [tokenizer(text)["input_ids"] for text in ("the ☃ cat", "☃")]
    assert unknown_share(rows, tokenizer) == pytest.approx(2 / 4)
    assert unknown_share([], tokenizer) == 0
