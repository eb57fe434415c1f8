from __future__ import annotations

import csv
import json

import pytest

from hyperlect.data.readers import Example, Source, read

from ..conftest import Write, places, problems

TOPIC = {"text": "sentence", "label": "topic"}
PAIR = {"text": "premise", "pair": "hypothesis", "label": "gold"}
WORDS = {"words": "tokens", "labels": "tags"}


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


def test_tsv_problems_are_named_with_their_lines(write: Write) -> None:
    path = write("topic\tsentence\nsports\ta\tb\ntravel\n \tno label\nsports\t \n")
    assert places(Source("tsv", path, TOPIC)) == [2, 3, 4, 5]


@pytest.mark.parametrize(("format_name", "comma"), [("tsv", "\t"), ("csv", ",")])
def test_missing_columns_list_those_present(write: Write, format_name: str, comma: str) -> None:
    path = write(comma.join(["id", "sentences", "class"]) + "\n" + comma.join("abc") + "\n")
    (problem,) = problems(Source(format_name, path, TOPIC))  # type: ignore[arg-type]
    assert problem.line == 1
    for name in ('"sentence"', '"topic"', 'Did you mean "sentences"?', "id, sentences, class"):
        assert name in problem.message


@pytest.mark.parametrize(
    ("format_name", "sign", "name"),
    [("csv", ";", "semicolons"), ("tsv", ";", "semicolons"), ("csv", "\t", "format: tsv"),
     ("tsv", ",", "format: csv")],
)  # fmt: skip
def test_another_separator_is_recognised(
    write: Write, format_name: str, sign: str, name: str
) -> None:
    for quote in ("", '"'):
        rows = (("topic", "sentence"), ("x", "a"))
        cells = [sign.join(f"{quote}{cell}{quote}" for cell in row) for row in rows]
        path = write("\n".join(cells))
        (problem,) = problems(Source(format_name, path, TOPIC))  # type: ignore[arg-type]
        assert problem.line == 1
        assert name in problem.message


def test_a_column_named_twice_is_refused_if_it_is_asked_for(write: Write) -> None:
    path = write("topic\tsentence\tsentence\tid\tid\na\tb\tc\td\te\n")
    assert places(Source("tsv", path, TOPIC)) == [1]
    assert read(Source("tsv", path, {"text": "topic"}), False) == [Example(text="a", line=2)]


def test_tsv_may_be_quoted_as_pandas_writes_it(write: Write) -> None:
    path = write('topic\tsentence\nx\t"two\nlines, ""one"" tabs:\t\t!"\ny\tplain\n')
    assert read(Source("tsv", path, TOPIC, quoting="minimal"), False) == [
        Example(text='two\nlines, "one" tabs:\t\t!', label="x", line=2),
        Example(text="plain", label="y", line=4),
    ]
    every = problems(Source("tsv", path, TOPIC))
    assert [problem.line for problem in every] == [3]
    assert "quoting: minimal" in every[0].message


def test_a_quoted_header_is_recognised(write: Write) -> None:
    (problem,) = problems(Source("tsv", write('"topic"\t"sentence"\n"x"\t"a"\n'), TOPIC))
    assert problem.line == 1
    assert "quoting: minimal" in problem.message


@pytest.mark.parametrize("format_name", ["csv", "tsv"])
def test_cells_may_be_long_and_no_setting_of_the_process_changes(
    write: Write, format_name: str
) -> None:
    limit = csv.field_size_limit()
    long = "word " * 60_000
    comma = "," if format_name == "csv" else "\t"
    path = write(f'sentence{comma}topic\n"{long}"{comma}x\nshort{comma}y\n')
    source = Source(format_name, path, TOPIC, quoting="minimal")  # type: ignore[arg-type]
    assert [example.text for example in read(source, False)] == [long, "short"]
    assert csv.field_size_limit() == limit


def test_csv_quoting_and_lines_within_cells(write: Write) -> None:
    path = write('\ufefftopic,sentence\r\nsports,"one, ""two""\r\nthree"\r\n\r\ntravel,four\r\n')
    assert read(Source("csv", path, TOPIC), False) == [
        Example(text='one, "two"\nthree', label="sports", line=2),
        Example(text="four", label="travel", line=5),
    ]


def test_csv_problems_are_named_with_their_lines(write: Write) -> None:
    path = write('topic,sentence\nsports,"a"b\ntravel,a,b\nsports,"never closed\nx,y\n')
    assert places(Source("csv", path, TOPIC)) == [2, 3, 4]


def test_jsonl_values(write: Write) -> None:
    path = write(
        "\n"
        + jsonl(
            {"sentence": "a", "topic": "x", "more": {"ignored": 1}},
            {"sentence": ["b", "c"], "topic": 3},
            {"sentence": "d\u2028e", "topic": True},
            {"sentence": "f", "topic": 1.0},
        )
    )
    assert read(Source("jsonl", path, TOPIC), False) == [
        Example(text="a", label="x", line=2),
        Example(text="b c", label="3", line=3),
        Example(text="d\u2028e", label="true", line=4),
        Example(text="f", label="1", line=5),
    ]


def test_jsonl_problems_are_named_with_their_lines(write: Write) -> None:
    path = write(
        "{'sentence': 'a'}\n"
        "[1]\n"
        '{"sentence": "a"}\n'
        '{"sentence": "\\ud800", "topic": "x"}\n'
        '{"sentence": 1, "topic": "x"}\n'
        '{"sentence": "a", "topic": null}\n'
        '{"sentence": "a", "topic": NaN}\n'
        '{"sentence": "a", "topic": 0.5}\n'
        '{"sentence": "a", "topic": Infinity}\n'
    )
    every = problems(Source("jsonl", path, TOPIC))
    assert [problem.line for problem in every] == list(range(1, 10))
    assert "column 2" in every[0].message
    assert '"topic"' in every[2].message
    assert "surrogate" in every[3].message


ARRAY = """
[
  {"sentence": "a", "topic": "x"},
  {
    "sentence": "b, ] c",
    "topic": true
  }
]
"""


def test_a_json_array_is_read_like_its_elements_a_line(write: Write) -> None:
    expected = [Example(text="a", label="x", line=3), Example(text="b, ] c", label="true", line=4)]
    assert read(Source("jsonl", write(ARRAY), TOPIC), False) == expected
    short = write('[{"sentence": "a", "topic": "x"},\n {"sentence": "b", "topic": "y"}]')
    assert [example.line for example in read(Source("jsonl", short, TOPIC), False)] == [1, 2]
    assert len(read(Source("jsonl", write(ARRAY), TOPIC, limit=1), False)) == 1


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (ARRAY.replace('"b,', "b,"), 5),
        (ARRAY.replace("]\n", ""), 7),  # never closed
        (ARRAY + ARRAY, 10),
        (ARRAY.replace('"topic": true', '"label": 1'), 4),
        (ARRAY.replace('{"sentence": "a", "topic": "x"}', "[1]"), 3),
        (ARRAY.replace('"topic": true', '"topic": "\\ud800"'), 4),
    ],
)
def test_problems_of_a_json_array_are_named_with_their_lines(
    write: Write, content: str, line: int
) -> None:
    assert places(Source("jsonl", write(content), TOPIC)) == [line]


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
    assert places(Source("jsonl", path, WORDS), True) == [1, 2, 3, 4, 5]


def test_words_and_texts_without_a_label_may_be_ignored(write: Write) -> None:
    path = write(
        jsonl(
            {"tokens": ["a", "b", "c"], "tags": ["N", "_", None]}, {"tokens": ["d"], "tags": ["_"]}
        )
    )
    source = Source("jsonl", path, WORDS, unlabelled="ignore")
    with pytest.warns(UserWarning, match="1 row"):
        assert read(source, True) == [Example(("a", "b", "c"), ("N", "", ""), line=1)]
    texts = write("sentence\ttopic\na\t\nb\tx\nc\t_\n")
    with pytest.warns(UserWarning, match="2 rows"):
        (example,) = read(Source("tsv", texts, TOPIC, unlabelled="ignore"), False)
    assert example.text == "b"


def test_unlabelled_data_and_its_blank_rows(write: Write) -> None:
    path = write(jsonl({"sentence": "a"}, {"sentence": " "}, {"sentence": None}), "a")
    assert read(Source("jsonl", path, {"text": "sentence"}), False) == [Example(text="a", line=1)]
    path = write(jsonl({"tokens": ["a"]}, {"tokens": []}), "b")
    assert read(Source("jsonl", path, {"words": "tokens"}), True) == [Example(("a",), line=1)]


def test_fields_must_fit_the_level(write: Write) -> None:
    path = write("sentence\na\n")
    first, second = problems(Source("tsv", path, {"txt": "sentence"}))
    assert (first.key, second.key) == ("fields", "fields")
    assert '"text"' in first.message
    assert places(Source("tsv", path, {}), word_level=True) == ["fields"]


TREES = {"words": "tokens", "heads": "head", "labels": "deprel"}


def test_heads_are_read_from_lists_of_numbers_or_of_texts(write: Write) -> None:
    expected = Example(("Anna", "sees"), ("nsubj", "root"), (2, 0), line=1)
    for heads in ([2, 0], ["2", "0"], "2 0", [2.0, 0]):
        record = {"tokens": "Anna sees", "head": heads, "deprel": ["nsubj", "root"]}
        assert read(Source("jsonl", write(jsonl(record)), TREES), True) == [expected]


def test_heads_must_be_one_a_word_and_a_tree(write: Write) -> None:
    labels = {"tokens": "Anna sees", "deprel": "nsubj root"}
    wrong: tuple[object, ...] = ([2], [1, 5], [2, None])
    path = write(jsonl(*({**labels, "head": heads} for heads in wrong)))
    assert places(Source("jsonl", path, TREES), True) == [1, 2, 3]
    path = write(jsonl({"tokens": "a b c", "head": [2, 0], "deprel": ["obj"]}))
    (problem,) = problems(Source("jsonl", path, TREES), True)
    assert "1 label" in problem.message  # whatever the order of the fields
