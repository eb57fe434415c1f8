"""What all readers have in common, shown with the simplest formats."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hyperlect.data.examples import Source
from hyperlect.data.readers import read
from hyperlect.errors import DataError, UnknownNameError

from .conftest import Write


def failure(source: Source, word_level: bool = False) -> str:
    with pytest.raises(DataError) as caught:
        read(source, word_level)
    return str(caught.value)


def test_an_unknown_format_suggests_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match='Did you mean "conllu"'):
        read(Source("conllx", "a.conllu"), True)  # type: ignore[arg-type]


def test_a_missing_file_suggests_its_neighbour(write: Write, tmp_path: Path) -> None:
    write("one\n", "sentences.txt")
    path = str(tmp_path / "sentence.txt")
    assert failure(Source("text", path)) == (
        f"Cannot read {path} as text:\n"
        f'  - {path}: there is no such file. Did you mean "sentences.txt"?'
    )


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    assert f"nor a folder {tmp_path / 'no'}" in failure(Source("text", str(tmp_path / "no/x.txt")))


def test_a_folder_is_not_a_file(tmp_path: Path) -> None:
    assert "this is a folder" in failure(Source("text", str(tmp_path)))


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="this user may read any file")
def test_a_forbidden_file_is_named(write: Write) -> None:
    path = write("one\n")
    Path(path).chmod(0)
    assert "cannot be read" in failure(Source("text", path))


@pytest.mark.parametrize("content", ["", "\n\n", "\ufeff", " \r\n"])
@pytest.mark.parametrize("format_name", ["conllu", "columns", "text"])
def test_an_empty_file_is_refused(write: Write, format_name: str, content: str) -> None:
    path = write(content)
    assert "it holds no examples" in failure(Source(format_name, path), True)  # type: ignore[arg-type]


@pytest.mark.parametrize("format_name", ["tsv", "csv", "jsonl"])
def test_an_empty_table_is_refused(write: Write, format_name: str) -> None:
    path = write("")
    fields = {"text": "text"}
    assert "it holds no examples" in failure(Source(format_name, path, fields))  # type: ignore[arg-type]


def test_bytes_that_are_not_utf8_are_named_with_their_lines(write: Write) -> None:
    path = write("gut\nschön\nbesser\nträge\n".encode("latin-1"))
    message = failure(Source("text", path))
    assert f"{path}:2: byte 4 of the line (0xf6) is not UTF-8" in message
    assert f"{path}:4: byte 3 of the line (0xe4) is not UTF-8" in message


def test_utf16_is_named_once(write: Write) -> None:
    message = failure(Source("text", write("eins\nzwei\n".encode("utf-16"))))
    assert message.count("  - ") == 1
    assert "UTF-16" in message


def test_at_most_twenty_faults_are_shown_and_the_rest_counted(write: Write) -> None:
    path = write(b"one\n" + b"\xe4\n" * 25)
    message = failure(Source("text", path))
    assert message.count(f"{path}:") == 20
    assert message.endswith("… and 5 more")


def test_the_limit_counts_examples_and_what_follows_is_not_looked_at(write: Write) -> None:
    path = write("one O\n\ntwo O\n\nthree\n")
    examples = read(Source("columns", path, limit=2), True)
    assert [example.words for example in examples] == [("one",), ("two",)]


@pytest.mark.parametrize("limit", [0, -3])
def test_a_limit_below_one_is_refused(write: Write, limit: int) -> None:
    assert f"the limit is {limit}" in failure(Source("text", write("one\n"), limit=limit))


def test_byte_order_mark_and_windows_line_ends_are_dropped(write: Write) -> None:
    examples = read(Source("text", write("\ufeffone\r\n\r\ntwo")), False)
    assert [(example.text, example.line) for example in examples] == [("one", 1), ("two", 3)]


def test_only_line_feeds_end_a_line(write: Write) -> None:
    examples = read(Source("text", write("a\u2028b\x85c\x0bd\n")), False)
    assert [example.text for example in examples] == ["a\u2028b\x85c\x0bd"]


def test_spelling_is_kept_as_it_stands(write: Write) -> None:
    decomposed = "cafe\u0301"
    assert read(Source("text", write(decomposed)), False)[0].text == decomposed


def test_plain_text_as_words_is_split_at_white_space(write: Write) -> None:
    example = read(Source("text", write("  one  two\tthree \n")), True)[0]
    assert example.words == ("one", "two", "three")
    assert example.labels == ()


def test_plain_text_has_no_fields(write: Write) -> None:
    assert "no columns" in failure(Source("text", write("one\n"), {"text": "text"}))
