from __future__ import annotations

import pytest

from hyperlect.data.readers import Example, Source, read

from ..conftest import Write, places, problems


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


def test_all_problems_are_named_with_their_lines(write: Write) -> None:
    path = write("lonely\na\tO\nNew York\tB-LOC\textra\n\tO\nb\t\nalone\n")
    assert places(Source("columns", path), True) == [1, 3, 4, 5, 6]


def test_what_is_wrong_with_many_lines_is_named_a_few_times(write: Write) -> None:
    path = write("# sent_id = 1\n" + "1\tAnna\tB-PER\n" * 9)
    *named, counted, hint = problems(Source("columns", path), True)
    assert [problem.line for problem in named] == [2, 3, 4]
    assert "6 more lines" in counted.message
    assert 'comment: "# "' in hint.message


def test_a_word_with_a_space_does_not_become_its_own_label(write: Write) -> None:
    assert places(Source("columns", write("in O\nNew York B-LOC\n")), True) == [2]


def test_a_separator_says_what_words_may_hold(write: Write) -> None:
    path = write("10\u00a0000\ngrande ville\n\nici\n")
    source = Source("columns", path, separator="\t", unlabelled="ignore")
    assert [example.words for example in read(source, True)] == [
        ("10\u00a0000", "grande ville"),
        ("ici",),
    ]
    tabs = write("a\tb O\n")
    assert read(Source("columns", tabs, separator=" "), True)[0].words == ("a\tb",)


@pytest.mark.parametrize("value", [0, -1, "word"])
def test_columns_are_numbers_from_one(write: Write, value: int | str) -> None:
    assert places(Source("columns", write("a O\n"), {"word": value}), True) == ["fields.word"]


def test_unknown_fields_are_refused(write: Write) -> None:
    assert places(Source("columns", write("a O\n"), {"tag": 2}), True)[0] == "fields"


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
    assert places(Source("columns", path, fields), True) == [3, 4]


def test_words_without_a_label_may_be_ignored(write: Write) -> None:
    path = write("a\tNOUN\nb\t_\nc\t\n")
    assert read(Source("columns", path, unlabelled="ignore"), True)[0].labels == ("NOUN", "", "")
    assert places(Source("columns", path), True) == [3]
    words = write("a\nb\n\nc\n")
    assert [e.labels for e in read(Source("columns", words, unlabelled="ignore"), True)] == [
        ("", ""),
        ("",),
    ]
    ragged = write("a\tO\nb\n")
    assert places(Source("columns", ragged, unlabelled="ignore"), True) == [2]


def test_the_prefix_of_every_word_is_stripped(write: Write) -> None:
    path = write("en:Oslo B-LOC\nen:: O\nen:a:b O\n\nen:http://x O\nOslo O\n")
    source = Source("columns", path, strip_prefix=True)
    assert [example.words for example in read(source, True)] == [
        ("Oslo", ":", "a:b"),
        ("http://x", "Oslo"),
    ]
    assert read(Source("columns", path), True)[0].words[0] == "en:Oslo"
    for prefix in ("be-x-old:", "simple:", "zh-min-nan:"):
        long = write(f"{prefix}a O\n")
        assert read(Source("columns", long, strip_prefix=True), True)[0].words == ("a",)
    bare = write("Oslo O\n")
    assert places(Source("columns", bare, strip_prefix=True), True) == ["strip_prefix"]
