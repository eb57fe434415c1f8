from __future__ import annotations

from pathlib import Path

import pytest

from hyperlect.data import encoding
from hyperlect.data.encoding import content_digest, encode, encode_inputs, tokenizer_digest
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
    assert rows.column_names == ["input_ids", "token_type_ids", "positions", "labels", "example"]
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


def test_token_types_only_where_they_are_made(tmp_path: Path):
    rows = encode(tagged("the/DET"), POS, byte_tokenizer(), 64, tmp_path)
    assert "token_type_ids" not in rows.column_names


def test_rows_of_texts_pairs_and_lines(tmp_path: Path):
    tokenizer = wordpiece_tokenizer()
    texts = corpus([{"text": "Oslo " * 50, "label": "places"}, {"text": "", "label": "animals"}])
    rows = encode(texts, TOPIC, tokenizer, 16, tmp_path)
    assert [len(row["input_ids"]) for row in rows] == [16, 2]
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


def test_faults_are_said_although_the_rows_are_cached(tmp_path: Path):
    ner = Task("ner", TaskType.SPANS, ("O", "B-PER", "I-PER"))
    examples = tagged("Anna/I-PER sees/O")
    for _ in range(2):
        with pytest.warns(UserWarning, match="begin"):
            rows = encode(examples, ner, wordpiece_tokenizer(), 64, tmp_path)
        assert rows[0]["labels"] == [1, 0]


def test_the_cache_is_used_and_knows_what_matters(tmp_path: Path, monkeypatch):
    built = []
    build = encoding._build
    monkeypatch.setattr(encoding, "_build", lambda *a: built.append(1) or build(*a))
    tokenizer = wordpiece_tokenizer()
    encode(tagged("the/DET"), POS, tokenizer, 64, tmp_path)
    encode(tagged("the/DET", file="elsewhere"), POS, wordpiece_tokenizer(), 64, tmp_path)
    assert len(built) == 1
    tokenizer("a b", truncation=True, max_length=4, padding="max_length")
    encode(tagged("the/DET"), POS, tokenizer, 64, tmp_path)
    assert len(built) == 1
    encode(tagged("a/DET"), POS, tokenizer, 64, tmp_path)
    encode(tagged("the/DET"), POS, tokenizer, 63, tmp_path)
    encode(tagged("the/DET"), POS, byte_tokenizer(), 64, tmp_path)
    other = Task("pos", TaskType.TAGGING, ("NOUN", "DET"))
    assert encode(tagged("the/DET"), other, tokenizer, 64, tmp_path)[0]["labels"] == [1]
    assert len(built) == 5


def test_default_cache_is_that_of_the_environment(session_cache: Path):
    encode(tagged("not/DET not/DET not/DET"), POS, wordpiece_tokenizer(), 64)
    assert any((session_cache / "encoded").iterdir())


def test_digests():
    examples = tagged("the/DET", "cat/NOUN", "dog/NOUN")
    assert content_digest(examples) == content_digest(tagged("the/DET", "cat/NOUN", "dog/NOUN"))
    assert content_digest(examples.select([1])) == content_digest(tagged("cat/NOUN"))
    assert content_digest(examples) != content_digest(examples.select([0, 2, 1]))
    assert content_digest(tagged("ab/DET c/DET")) != content_digest(tagged("a/DET bc/DET"))
    typed, untyped = wordpiece_tokenizer(), wordpiece_tokenizer(types=False)
    assert tokenizer_digest(typed) == tokenizer_digest(wordpiece_tokenizer())
    assert tokenizer_digest(typed) != tokenizer_digest(untyped)


def test_more_examples_than_one_batch(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(encoding, "BATCH", 3)
    sentences = [f"{'the/DET ' * (i % 5 + 1)}cat/NOUN" for i in range(10)]
    rows = encode(tagged(*sentences), POS, wordpiece_tokenizer(), 64, tmp_path)
    assert rows["example"][:] == list(range(10))
    assert [row["labels"] for row in rows] == [[0] * (i % 5 + 1) + [1] for i in range(10)]
    words = [["the"] * (i % 5 + 1) + ["cat"] for i in range(10)]
    inputs = encode_inputs(words, POS, wordpiece_tokenizer(), 64)
    assert inputs == [{**row, "labels": []} for row in rows]


def test_inputs_without_labels():
    tokenizer = wordpiece_tokenizer()
    rows = encode_inputs([["the", "cat"], [], ["dog"] * 40], POS, tokenizer, 16)
    assert [row["example"] for row in rows] == [0, 2, 2, 2]
    assert rows[0]["positions"] == [1, 2]
    assert rows[0]["labels"] == []
    (row,) = encode_inputs(["a cat"], TOPIC, tokenizer, 16)
    assert row["input_ids"] == tokenizer("a cat")["input_ids"]
    (row,) = encode_inputs([("a cat", "a dog")], NLI, tokenizer, 16)
    assert row["input_ids"] == tokenizer("a cat", "a dog")["input_ids"]


def test_no_examples(tmp_path: Path):
    assert len(encode(tagged(), POS, wordpiece_tokenizer(), 64, tmp_path)) == 0
    assert encode_inputs([], POS, wordpiece_tokenizer(), 64) == []


def test_what_cannot_be_encoded(tmp_path: Path):
    tokenizer = wordpiece_tokenizer()
    with pytest.raises(DataError, match=r"made\.txt:1: no second text"):
        encode(corpus([{"text": "a", "label": "yes"}]), NLI, tokenizer, 64, tmp_path)
    with pytest.raises(DataError, match="SYM"):
        encode(tagged("the/SYM"), POS, tokenizer, 64, tmp_path)
    tokenizer.mask_token = None
    with pytest.raises(BackboneError, match="mask token"):
        encode(corpus([{"text": "a"}]), MLM, tokenizer, 64, tmp_path)


def test_rows_of_trees(tmp_path: Path):
    trees = parsed("Anna/2/nsubj:pass sees/0/root cats/2/obj", "not/0/root")
    tokenizer = wordpiece_tokenizer()
    rows = encode(trees, DEP, tokenizer, 64, tmp_path)
    assert rows.column_names == [
        "input_ids", "token_type_ids", "windows", "words", "labels", "heads", "example",
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
        own = [t for t, w in zip(row["input_ids"], row["words"], strict=True) if w == number]
        pieces = tokenizer.convert_ids_to_tokens(own)
        assert "".join(piece.strip("▁Ġ#") for piece in pieces) == word
    begin = 0
    for length in row["windows"]:  # each window is a whole input of the encoder
        window = row["input_ids"][begin : begin + length]
        assert (window[0], window[-1]) == (short["input_ids"][0], short["input_ids"][-1])
        begin += length
    assert (short["windows"], short["words"]) == ([3], [0, 1, -1])


def test_inputs_to_parse_are_rows_without_heads():
    rows = encode_inputs([["the", "dog"], [], ["a"]], DEP, wordpiece_tokenizer(), 64)
    assert [row["example"] for row in rows] == [0, 2]
    assert [(row["words"], row["labels"], row["heads"]) for row in rows] == [
        ([0, 1, 2, -1], [], []),
        ([0, 1, -1], [], []),
    ]


def test_sentences_to_parse_need_heads(tmp_path: Path):
    with pytest.raises(DataError, match=r"(?s)task dep without heads.*made.txt:1: no heads"):
        encode(tagged("Anna/nsubj"), DEP, wordpiece_tokenizer(), 64, tmp_path)
