from __future__ import annotations

import json

import pytest

from hyperlect.data.examples import Example, Source
from hyperlect.data.readers import read
from hyperlect.errors import DataError

from .conftest import Write

TOPIC = {"text": "sentence", "label": "topic"}
PAIR = {"text": "premise", "pair": "hypothesis", "label": "gold"}
WORDS = {"words": "tokens", "labels": "tags"}


def faults(source: Source, word_level: bool = False) -> list[str]:
    with pytest.raises(DataError) as caught:
        read(source, word_level)
    return [line.removeprefix("  - ") for line in str(caught.value).splitlines()[1:]]


def jsonl(*records: object) -> str:
    return "".join(json.dumps(record) + "\n" for record in records)


def test_tsv_has_a_header_and_no_quoting(write: Write) -> None:
    path = write('id\ttopic\tsentence\n1\tsports\tHe said "no\n\n2\ttravel\t "x", y \n')
    assert read(Source("tsv", path, TOPIC), False) == [
        Example(text='He said "no', label="sports", line=2),
        Example(text=' "x", y ', label="travel", line=4),
    ]


def test_pairs(write: Write) -> None:
    path = write("premise\thypothesis\tgold\nIt rains.\tIt is wet.\tentailment\n")
    assert read(Source("tsv", path, PAIR), False) == [
        Example(text="It rains.", pair="It is wet.", label="entailment", line=2)
    ]


def test_tsv_faults_are_named_with_their_lines(write: Write) -> None:
    path = write("topic\tsentence\nsports\ta\tb\ntravel\n \tno label\nsports\t \n")
    assert faults(Source("tsv", path, TOPIC)) == [
        f"{path}:2: 3 columns, and the header has 2",
        f"{path}:3: 1 column, and the header has 2",
        f"{path}:4: the label is empty",
        f"{path}:5: the text is empty",
    ]


@pytest.mark.parametrize(("format_name", "comma"), [("tsv", "\t"), ("csv", ",")])
def test_missing_columns_list_those_present(write: Write, format_name: str, comma: str) -> None:
    path = write(comma.join(["id", "sentences", "class"]) + "\n" + comma.join("abc") + "\n")
    assert faults(Source(format_name, path, TOPIC)) == [  # type: ignore[arg-type]
        f'{path}:1: no columns "sentence", "topic". Did you mean "sentences"? '
        "Columns present: id, sentences, class"
    ]


def test_a_column_named_twice_is_refused_if_it_is_asked_for(write: Write) -> None:
    path = write("topic\tsentence\tsentence\tid\tid\na\tb\tc\td\te\n")
    assert faults(Source("tsv", path, TOPIC)) == [f'{path}:1: 2 columns are named "sentence"']


def test_csv_quoting_and_lines_within_cells(write: Write) -> None:
    path = write('\ufefftopic,sentence\r\nsports,"one, ""two""\r\nthree"\r\n\r\ntravel,four\r\n')
    assert read(Source("csv", path, TOPIC), False) == [
        Example(text='one, "two"\nthree', label="sports", line=2),
        Example(text="four", label="travel", line=5),
    ]


def test_csv_faults_are_named_with_their_lines(write: Write) -> None:
    path = write('topic,sentence\nsports,"a"b\ntravel,a,b\nsports,"never closed\nx,y\n')
    found = faults(Source("csv", path, TOPIC))
    assert [fault.removeprefix(path).split(":")[1] for fault in found] == ["2", "3", "4"]
    assert "not CSV" in found[0]
    assert "3 columns, and the header has 2" in found[1]
    assert "not CSV" in found[2]


def test_jsonl_values(write: Write) -> None:
    path = write(
        "\n"
        + jsonl(
            {"sentence": "a", "topic": "x", "more": {"ignored": 1}},
            {"sentence": ["b", "c"], "topic": 3},
            {"sentence": "d\u2028e", "topic": True},
        )
    )
    assert read(Source("jsonl", path, TOPIC), False) == [
        Example(text="a", label="x", line=2),
        Example(text="b c", label="3", line=3),
        Example(text="d\u2028e", label="true", line=4),
    ]


def test_jsonl_faults_are_named_with_their_lines(write: Write) -> None:
    path = write(
        "{'sentence': 'a'}\n"
        "[1]\n"
        '{"sentence": "a"}\n'
        '{"sentence": "\\ud800", "topic": "x"}\n'
        '{"sentence": 1, "topic": "x"}\n'
        '{"sentence": "a", "topic": null}\n'
        '{"sentence": "a", "topic": 0.5}\n'
    )
    found = faults(Source("jsonl", path, TOPIC))
    assert [fault.removeprefix(f"{path}:").split(": ", 1)[0] for fault in found] == list("1234567")
    expected = (
        "not JSON (Expecting property name enclosed in double quotes, column 2)",
        "one object a line",
        'no column "topic". Columns present: sentence',
        "surrogate",
        "the text is a number, not a text",
        "the label is empty",
        "the label is a fraction, not a text or a whole number",
    )
    for fault, text in zip(found, expected, strict=True):
        assert text in fault


def test_words_in_lists_and_in_texts(write: Write) -> None:
    lists = write(jsonl({"tokens": ["New York", "!"], "tags": ["B-LOC", "O"]}), "a")
    assert read(Source("jsonl", lists, WORDS), True) == [
        Example(("New York", "!"), ("B-LOC", "O"), line=1)
    ]
    texts = write("tokens\ttags\nYork  !\tB-LOC O\n", "b")
    assert read(Source("tsv", texts, WORDS), True) == [
        Example(("York", "!"), ("B-LOC", "O"), line=2)
    ]


def test_word_faults(write: Write) -> None:
    path = write(
        jsonl(
            {"tokens": ["a", "b"], "tags": ["O"]},
            {"tokens": ["a", " "], "tags": ["O", "O"]},
            {"tokens": ["a", "b"], "tags": ["O", ""]},
            {"tokens": ["a", 1], "tags": ["O", "O"]},
            {"tokens": 5, "tags": ["O"]},
            {"tokens": [], "tags": []},
        )
    )
    assert faults(Source("jsonl", path, WORDS), True) == [
        f"{path}:1: 2 words and 1 label",
        f"{path}:2: word 2 is empty",
        f"{path}:3: the label of word 2 is empty",
        f"{path}:4: the words hold a number, not only texts",
        f"{path}:5: the words are a number, not a list",
    ]


def test_unlabelled_data_and_its_blank_rows(write: Write) -> None:
    path = write(jsonl({"sentence": "a"}, {"sentence": " "}, {"sentence": None}), "a")
    assert read(Source("jsonl", path, {"text": "sentence"}), False) == [Example(text="a", line=1)]
    path = write(jsonl({"tokens": ["a"]}, {"tokens": []}), "b")
    assert read(Source("jsonl", path, {"words": "tokens"}), True) == [Example(("a",), line=1)]


def test_fields_must_fit_the_level(write: Write) -> None:
    path = write("sentence\na\n")
    first, second = faults(Source("tsv", path, {"txt": "sentence"}))
    assert '"txt" is nothing that sentence-level data has. Did you mean "text"?' in first
    assert "which column holds the text" in second
    assert "holds the words" in faults(Source("tsv", path, {}), word_level=True)[0]


TREES = {"words": "tokens", "heads": "head", "labels": "deprel"}


def test_heads_are_read_from_lists_of_numbers_or_of_texts(write: Write) -> None:
    expected = Example(("Anna", "sees"), ("nsubj", "root"), (2, 0), line=1)
    for heads in ([2, 0], ["2", "0"], "2 0"):
        record = {"tokens": "Anna sees", "head": heads, "deprel": ["nsubj", "root"]}
        assert read(Source("jsonl", write(jsonl(record)), TREES), True) == [expected]


def test_heads_must_be_one_a_word_and_a_tree(write: Write) -> None:
    labels = {"tokens": "Anna sees", "deprel": "nsubj root"}
    given = ([2], [1, 5], [2, None], [2.0, 0])
    path = write(jsonl(*({**labels, "head": heads} for heads in given)))
    assert faults(Source("jsonl", path, TREES), True) == [
        f"{path}:1: 2 words and 1 head",
        f'{path}:2: word 2 ("sees") has the head 5, and the sentence ends with word 2; '
        "word 1 is its own head; no word has the head 0: the tree has no root",
        f'{path}:3: word 2 ("sees") has no head',
        f"{path}:4: the head is a fraction, not a text or a whole number",
    ]
