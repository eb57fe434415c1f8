"""Encoded rows: their fields, windows, cache, and what is refused or warned of."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hyperlect.data import encoding
from hyperlect.data.encoding import each_window, encode, encode_inputs, tokenizer_digest
from hyperlect.errors import BackboneError, DataError
from hyperlect.tasks import Task, TaskType
from tests.data.made import corpus, parsed, tagged
from tests.tiny import FAMILY_NAMES, byte_tokenizer, tiny_tokenizer, wordpiece_tokenizer

POS = Task("pos", TaskType.TAGGING, ("DET", "NOUN", "VERB"))
TOPIC = Task("topic", TaskType.CLASSIFICATION, ("animals", "places"))
NLI = Task("nli", TaskType.PAIRS, ("no", "yes"))
MLM = Task("mlm", TaskType.MLM)
DEP = Task("dep", TaskType.PARSING, ("nsubj", "obj", "root"))


def test_rows_of_words(tmp_path: Path):
    tokenizer = wordpiece_tokenizer()
    rows = encode(tagged("the/DET cats/NOUN sees/VERB", "dog/NOUN"), POS, tokenizer, 64, tmp_path)
    assert rows.column_names == [
        "input_ids", "token_type_ids", "positions", "labels", "example", "truncated",
    ]  # fmt: skip
    first = rows[0]
    assert tokenizer.convert_ids_to_tokens(first["input_ids"]) == [
        "[CLS]", "the", "cat", "##s", "sees", "[SEP]",
    ]  # fmt: skip
    assert first["token_type_ids"] == [0] * 6
    assert first["positions"] == [1, 2, 4]
    assert first["labels"] == [0, 1, 2]
    assert rows["example"][:] == [0, 1]


@pytest.mark.parametrize("family", FAMILY_NAMES)
def test_windows_keep_labels_with_their_words(tmp_path: Path, family: str):
    tokenizer = tiny_tokenizer(family)
    long = " ".join(["the/DET", "cat/NOUN", "xyz/NOUN", "sees/VERB"] * 10)
    rows = encode(tagged("a/DET", long, "dog/NOUN"), POS, tokenizer, 16, tmp_path)
    assert rows["example"][:] == [0, *[1] * (len(rows) - 2), 2]
    assert len(rows) > 4
    joined = [label for row in rows for label in row["labels"] if row["example"] == 1]
    assert joined == [0, 1, 1, 2] * 10
    by_label: dict[int, set[str]] = {}
    for row in rows:
        assert len(row["labels"]) == len(row["positions"])
        for label, position in zip(row["labels"], row["positions"], strict=True):
            piece = tokenizer.convert_ids_to_tokens(row["input_ids"][position])
            by_label.setdefault(label, set()).add(piece.strip("▁Ġ"))
    assert by_label[2] == {"sees"}
    assert by_label[0] == {"the", "a"}


def test_rows_have_token_types_only_if_the_tokenizer_makes_them(tmp_path: Path):
    rows = encode(tagged("the/DET"), POS, byte_tokenizer(), 64, tmp_path)
    assert "token_type_ids" not in rows.column_names


def test_rows_of_texts_pairs_and_lines(tmp_path: Path):
    tokenizer = wordpiece_tokenizer()
    texts = corpus([{"text": "Oslo " * 50, "label": "places"}, {"text": "", "label": "animals"}])
    with pytest.warns(UserWarning, match="sub-words"):
        rows = encode(texts, TOPIC, tokenizer, 16, tmp_path)
    assert [len(row["input_ids"]) for row in rows] == [16, 2]
    assert rows["truncated"][:] == [True, False]
    assert rows["labels"][:] == [[1], [0]]
    assert rows["positions"][:] == [[], []]

    pairs = corpus([{"text": "a cat", "pair": "a dog", "label": "yes"}])
    (row,) = encode(pairs, NLI, tokenizer, 16, tmp_path)
    assert row["token_type_ids"] == [0, 0, 0, 0, 1, 1, 1]
    assert row["labels"] == [1]

    lines = corpus([{"text": "the old dog " * 9}, {"text": "☃"}, {"text": "Anna"}])
    rows = encode(lines, MLM, tokenizer, 16, tmp_path)
    assert rows["example"][:] == [0, 0, 2]
    assert rows["labels"][:] == [[], [], []]


def test_labels_are_checked_although_the_rows_are_cached(tmp_path: Path):
    ner = Task("ner", TaskType.SPANS, ("O", "B-PER", "I-PER"))
    examples = tagged("Anna/I-PER sees/O")
    for _ in range(2):
        with pytest.warns(UserWarning, match="begin"):
            rows = encode(examples, ner, wordpiece_tokenizer(), 64, tmp_path)
        assert rows[0]["labels"] == [1, 0]


@pytest.fixture
def builds(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """One entry for each batch of examples that is encoded rather than read from the cache."""
    calls: list[int] = []
    plain = encoding._windows

    def note(inputs: Any, *rest: Any) -> Any:
        calls.append(len(inputs))
        return plain(inputs, *rest)

    monkeypatch.setattr(encoding, "_windows", note)
    return calls


def test_the_cache_knows_everything_that_encodings_depend_on(tmp_path: Path, builds: list[int]):
    tokenizer = wordpiece_tokenizer()
    encode(tagged("the/DET"), POS, tokenizer, 64, tmp_path)
    encode(tagged("the/DET", file="elsewhere"), POS, wordpiece_tokenizer(), 64, tmp_path)
    assert len(builds) == 1
    tokenizer("a b", truncation=True, max_length=4, padding="max_length")
    encode(tagged("the/DET"), POS, tokenizer, 64, tmp_path)
    assert len(builds) == 1
    encode(tagged("a/DET"), POS, tokenizer, 64, tmp_path)
    encode(tagged("the/DET"), POS, tokenizer, 63, tmp_path)
    encode(tagged("the/DET"), POS, byte_tokenizer(), 64, tmp_path)
    other = Task("pos", TaskType.TAGGING, ("NOUN", "DET"))
    assert encode(tagged("the/DET"), other, tokenizer, 64, tmp_path)[0]["labels"] == [1]
    assert len(builds) == 5


@pytest.mark.parametrize("family", FAMILY_NAMES)
def test_a_tokenizer_with_new_tokens_encodes_anew(family: str, tmp_path: Path, builds: list[int]):
    tokenizer = tiny_tokenizer(family)
    sentence, digest = tagged("xyzzy/NOUN cat/NOUN"), tokenizer_digest(tokenizer)
    (before,) = encode(sentence, POS, tokenizer, 64, tmp_path)
    assert tokenizer_digest(tokenizer) == digest
    tokenizer.add_tokens(["xyzzy"])
    assert tokenizer_digest(tokenizer) != digest
    (after,) = encode(sentence, POS, tokenizer, 64, tmp_path)
    assert len(builds) == 2
    new = tokenizer.convert_tokens_to_ids("xyzzy")
    assert new not in before["input_ids"]
    assert new in after["input_ids"]
    assert len(after["input_ids"]) < len(before["input_ids"])


def test_the_default_cache_is_that_of_the_environment(session_cache: Path):
    encode(tagged("not/DET not/DET not/DET"), POS, wordpiece_tokenizer(), 64)
    assert any((session_cache / "encoded").iterdir())


def test_a_digest_is_of_all_that_decides_how_a_tokenizer_encodes():
    typed, untyped = wordpiece_tokenizer(), wordpiece_tokenizer(types=False)
    assert tokenizer_digest(typed) == tokenizer_digest(wordpiece_tokenizer())
    assert tokenizer_digest(typed) != tokenizer_digest(untyped)


def test_more_examples_than_are_encoded_at_a_time(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(encoding, "BATCH", 3)
    sentences = [f"{'the/DET ' * (i % 5 + 1)}cat/NOUN" for i in range(10)]
    rows = encode(tagged(*sentences), POS, wordpiece_tokenizer(), 64, tmp_path)
    assert rows["example"][:] == list(range(10))
    assert [row["labels"] for row in rows] == [[0] * (i % 5 + 1) + [1] for i in range(10)]
    words = [["the"] * (i % 5 + 1) + ["cat"] for i in range(10)]
    inputs = encode_inputs(words, POS, wordpiece_tokenizer(), 64)
    assert [{**row, "labels": []} for row in inputs] == [{**row, "labels": []} for row in rows]
    assert not any(len(row["labels"]) for row in inputs)


def test_inputs_without_labels():
    tokenizer = wordpiece_tokenizer()
    rows = encode_inputs([["the", "cat"], [], ["dog"] * 40], POS, tokenizer, 16)
    assert [row["example"] for row in rows] == [0, 2, 2, 2]
    assert rows[0]["positions"] == [1, 2]
    assert len(rows[0]["labels"]) == 0
    (row,) = encode_inputs(["a cat"], TOPIC, tokenizer, 16)
    assert row["input_ids"] == tokenizer("a cat")["input_ids"]
    (row,) = encode_inputs([("a cat", "a dog")], NLI, tokenizer, 16)
    assert row["input_ids"] == tokenizer("a cat", "a dog")["input_ids"]


def test_no_examples_have_no_rows(tmp_path: Path):
    assert len(encode(tagged(), POS, wordpiece_tokenizer(), 64, tmp_path)) == 0
    assert encode_inputs([], POS, wordpiece_tokenizer(), 64) == []


def place_of_problem(make: Callable[[], object]) -> tuple[str, int | None]:
    """Return file and line of the problem that is named."""
    with pytest.raises(DataError) as error:
        make()
    (problem,) = (problem for problem in error.value.problems if problem.file)
    return problem.file, problem.line


def test_incomplete_examples_are_named(tmp_path: Path):
    tokenizer = wordpiece_tokenizer()
    pairs = corpus([{"text": "a", "label": "yes", "pair": "b"}, {"text": "a", "label": "yes"}])
    assert place_of_problem(lambda: encode(pairs, NLI, tokenizer, 64, tmp_path)) == ("made.txt", 11)
    unknown = tagged("the/SYM")
    assert place_of_problem(lambda: encode(unknown, POS, tokenizer, 64, tmp_path)) == (
        "made.txt",
        1,
    )
    headless = tagged("Anna/nsubj")
    assert place_of_problem(lambda: encode(headless, DEP, tokenizer, 64, tmp_path)) == (
        "made.txt",
        1,
    )


def test_raw_text_needs_a_mask_token(tmp_path: Path):
    tokenizer = wordpiece_tokenizer()
    tokenizer.mask_token = None
    with pytest.raises(BackboneError, match="mlm"):
        encode(corpus([{"text": "a"}]), MLM, tokenizer, 64, tmp_path)


def test_texts_that_are_cut_are_counted_in_a_warning(tmp_path: Path):
    """At every start, although the rows are cached. Words and lines are never cut."""
    tokenizer = wordpiece_tokenizer()
    texts = [{"text": "Oslo " * n, "label": "places"} for n in (14, 15, 30)]
    pairs = [
        {"text": "a " * 20, "pair": "b", "label": "no"},
        {"text": "a", "pair": "b", "label": "no"},
    ]
    for _ in range(2):
        with pytest.warns(UserWarning, match=r"made\.txt: 2 of 3 texts .* 16 sub-words"):
            encode(corpus(texts), TOPIC, tokenizer, 16, tmp_path)
        with pytest.warns(UserWarning, match=r"made\.txt: 1 of 2 texts"):
            encode(corpus(pairs), NLI, tokenizer, 16, tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        encode(corpus(texts[:1]), TOPIC, tokenizer, 16, tmp_path)
        encode(corpus([{"text": "Oslo " * 40}]), MLM, tokenizer, 16, tmp_path)
        encode(tagged("the/DET " * 40), POS, tokenizer, 16, tmp_path)


def test_words_without_a_label_are_neither_trained_nor_scored(tmp_path: Path):
    task = Task("pos", TaskType.TAGGING, ("DET", "NOUN"), unlabelled="ignore")
    words = ["the", "cats", "sees", "old", "dog"]
    examples = corpus(
        [
            {"words": words, "labels": ["DET", "NOUN", "", "", "NOUN"]},
            {"words": ["not", "Oslo"], "labels": ["", ""]},
            {"words": ["a"], "labels": ["DET"]},
        ]
    )
    with pytest.warns(UserWarning, match="4 of 8 words"):
        row, last = encode(examples, task, wordpiece_tokenizer(), 64, tmp_path)
    assert (row["example"], last["example"]) == (0, 2)
    assert row["labels"] == [0, 1, 1]
    assert row["positions"] == [1, 2, 6]
    (whole,) = encode_inputs([words], task, wordpiece_tokenizer(), 64)
    assert np.array_equal(row["input_ids"], whole["input_ids"])  # the others are still context


def test_rows_of_trees(tmp_path: Path):
    trees = parsed("Anna/2/nsubj:pass sees/0/root cats/2/obj", "not/0/root")
    tokenizer = wordpiece_tokenizer()
    rows = encode(trees, DEP, tokenizer, 64, tmp_path)
    assert rows.column_names == [
        "input_ids", "token_type_ids", "windows", "words", "labels", "heads", "example",
        "truncated",
    ]  # fmt: skip
    first = rows[0]
    assert tokenizer.convert_ids_to_tokens(first["input_ids"]) == [
        "[CLS]", "Anna", "sees", "cat", "##s", "[SEP]",
    ]  # fmt: skip
    assert first["words"] == [0, 1, 2, 3, 3, -1]
    assert (first["windows"], first["labels"], first["heads"]) == ([6], [0, 2, 1], [2, 0, 2])
    assert rows["example"][:] == [0, 1]


@pytest.mark.parametrize("family", FAMILY_NAMES)
def test_a_long_sentence_to_parse_is_one_row_of_windows(tmp_path: Path, family: str):
    tokenizer = tiny_tokenizer(family)
    words = ["xyz", "the", "old"] * 12
    tree = " ".join(f"{word}/{i}/{'obj' if i else 'root'}" for i, word in enumerate(words))
    row, short = encode(parsed(tree, "a/0/root"), DEP, tokenizer, 16, tmp_path)
    assert len(row["windows"]) > 3
    assert max(row["windows"]) <= 16
    assert len(row["input_ids"]) == len(row["words"]) == sum(row["windows"])
    assert row["words"].count(0) == 1
    assert sorted(set(row["words"])) == list(range(-1, 37))
    assert len(row["heads"]) == len(row["labels"]) == 36
    for number, word in enumerate(words, start=1):
        ids = [t for t, w in zip(row["input_ids"], row["words"], strict=True) if w == number]
        pieces = tokenizer.convert_ids_to_tokens(ids)
        assert "".join(piece.strip("▁Ġ#") for piece in pieces) == word
    windows = list(each_window(row))
    assert [len(window["input_ids"]) for window in windows] == row["windows"]
    for window in windows:  # each is a whole input of the encoder
        ids = window["input_ids"]
        assert (ids[0], ids[-1]) == (short["input_ids"][0], short["input_ids"][-1])
    assert [token for window in windows for token in window["input_ids"]] == row["input_ids"]
    assert windows[0]["heads"] == row["heads"]
    assert not any(window["heads"] or window["labels"] for window in windows[1:])
    assert (short["windows"], short["words"]) == ([3], [0, 1, -1])


def test_inputs_to_parse_are_rows_without_heads():
    rows = encode_inputs([["the", "dog"], [], ["a"]], DEP, wordpiece_tokenizer(), 64)
    assert [row["example"] for row in rows] == [0, 2]
    assert [(row["words"], row["labels"], row["heads"]) for row in rows] == [
        ([0, 1, 2, -1], [], []),
        ([0, 1, -1], [], []),
    ]
