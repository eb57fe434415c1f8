from __future__ import annotations

import pytest

from hyperlect.data.examples import Example, Source
from hyperlect.data.readers import read
from hyperlect.errors import DataError

from .conftest import Write


def faults(source: Source) -> list[str]:
    with pytest.raises(DataError) as caught:
        read(source, True)
    return [line.removeprefix("  - ") for line in str(caught.value).splitlines()[1:]]


def test_spaces_and_sentences(write: Write) -> None:
    path = write("\n\nTórshavn B-LOC\n,  O\n\n \nO O\n")
    assert read(Source("columns", path), True) == [
        Example(("Tórshavn", ","), ("B-LOC", "O"), line=3),
        Example(("O",), ("O",), line=7),
    ]


def test_tabs_comments_and_numbered_columns(write: Write) -> None:
    path = write("# sent_id = 1\n# text = New York #1\n1\tNew York\tB-LOC\t-\n2\t#1\tO\t-\n\n# x\n")
    source = Source("columns", path, {"word": 2, "label": 3}, comment="# ")
    assert read(source, True) == [Example(("New York", "#1"), ("B-LOC", "O"), line=3)]


def test_without_a_comment_prefix_there_are_no_comments(write: Write) -> None:
    assert read(Source("columns", write("# O\n")), True)[0].words == ("#",)


def test_a_no_break_space_belongs_to_the_word(write: Write) -> None:
    assert read(Source("columns", write("10\u00a0000 O\n")), True)[0].words == ("10\u00a0000",)


def test_document_lines_end_a_sentence_and_are_none(write: Write) -> None:
    path = write("-DOCSTART- -X- O O\n\na DT B-NP O\n-DOCSTART- -X- O O\nb DT B-NP O\n")
    source = Source("columns", path, {"label": 4})
    assert [example.words for example in read(source, True)] == [("a",), ("b",)]


def test_as_text_words_are_joined_and_labels_left_alone(write: Write) -> None:
    path = write("one\ntwo\n")
    assert read(Source("columns", path), False) == [Example(text="one two", line=1)]


def test_all_faults_are_named_with_their_lines(write: Write) -> None:
    path = write("lonely\na\tO\nNew York\tB-LOC\textra\n\tO\nb\t\nalone\n")
    assert faults(Source("columns", path)) == [
        f"{path}:1: 1 column, and column 2 is asked for",
        f"{path}:3: 3 columns, where the lines before have 2",
        f"{path}:4: the word (column 1) is empty",
        f"{path}:5: the label (column 2) is empty",
        f"{path}:6: 1 column, and column 2 is asked for",
    ]


def test_what_is_wrong_with_many_lines_is_named_a_few_times(write: Write) -> None:
    path = write("# sent_id = 1\n" + "1\tAnna\tB-PER\n" * 9)
    found = faults(Source("columns", path))
    assert found[:3] == [f"{path}:{n}: 3 columns, where the lines before have 4" for n in (2, 3, 4)]
    assert found[3] == f"{path}: 3 columns, where the lines before have 4: so in 6 more lines"
    assert 'write comment: "# " in the block' in found[4]
    assert len(found) == 5


def test_a_word_with_a_space_does_not_become_its_own_label(write: Write) -> None:
    path = write("in O\nNew York B-LOC\n")
    assert faults(Source("columns", path)) == [
        f"{path}:2: 3 columns, where the lines before have 2"
    ]


@pytest.mark.parametrize("value", [0, -1, "word"])
def test_columns_are_numbers_from_one(write: Write, value: int | str) -> None:
    (fault,) = faults(Source("columns", write("a O\n"), {"word": value}))
    assert f'word is "{value}"' in fault


def test_unknown_fields_are_refused(write: Write) -> None:
    (fault,) = faults(Source("columns", write("a O\n"), {"tag": 2}))
    assert '"tag" is none of the columns there are: word, label' in fault


def test_heads_are_read_and_must_be_a_tree(write: Write) -> None:
    fields = {"word": 2, "head": 3, "label": 4}
    good = "1 Anna 2 nsubj\n2 sees 0 root\n\n1 Ja 0 root\n"
    assert read(Source("columns", write(good), fields), True) == [
        Example(("Anna", "sees"), ("nsubj", "root"), (2, 0), line=1),
        Example(("Ja",), ("root",), (0,), line=4),
    ]
    assert read(Source("columns", write(good), fields), False)[0] == Example(
        text="Anna sees", line=1
    )
    path = write("\n1 Anna 2 nsubj\n2 sees x root\n3 . 3 punct\n")
    assert faults(Source("columns", path, fields)) == [
        f'{path}:3: the head of word 2 ("sees") is "x", which is no number from 0',
        f"{path}:4: word 3 is its own head",
    ]
