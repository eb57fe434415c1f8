"""What all readers have in common, shown with the simplest formats."""

from __future__ import annotations

import json
import warnings

import pytest

from hyperlect.data.readers import Source, read
from hyperlect.errors import DataError, UnknownNameError

from ..conftest import Write, places


def test_an_unknown_format_suggests_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match='"conllu"'):
        read(Source("conllx", "a.conllu"), True)  # type: ignore[arg-type]


@pytest.mark.parametrize("content", ["", "\n\n", "\ufeff", " \r\n"])
@pytest.mark.parametrize("format_name", ["conllu", "columns", "text"])
def test_an_empty_file_is_refused(write: Write, format_name: str, content: str) -> None:
    assert places(Source(format_name, write(content)), True) == [None]  # type: ignore[arg-type]


@pytest.mark.parametrize("format_name", ["tsv", "csv", "jsonl"])
@pytest.mark.parametrize("content", ["", "\n \n"])
def test_an_empty_table_is_refused(write: Write, format_name: str, content: str) -> None:
    source = Source(format_name, write(content), {"text": "text"})  # type: ignore[arg-type]
    assert places(source) == [None]


def test_at_most_twenty_problems_are_shown_and_the_rest_counted(write: Write) -> None:
    path = write(b"one\n" + b"\xe4\n" * 25)
    with pytest.raises(DataError) as error:
        read(Source("text", path), False)
    assert len(error.value.problems) == 25
    assert str(error.value).count(f"{path}:") == 20
    assert str(error.value).endswith("… and 5 more")


def test_the_limit_counts_examples_and_what_follows_is_not_looked_at(write: Write) -> None:
    path = write("one O\n\ntwo O\n\nthree\n")
    examples = read(Source("columns", path, limit=2), True)
    assert [example.words for example in examples] == [("one",), ("two",)]


def test_what_is_wrong_before_the_limit_is_an_error(write: Write) -> None:
    assert places(Source("columns", write("one O\ntwo\n\nthree O\n"), limit=1), True) == [2]


@pytest.mark.parametrize("limit", [0, -3])
def test_a_limit_below_one_is_refused(write: Write, limit: int) -> None:
    assert places(Source("text", write("one\n"), limit=limit)) == [None]


def warned(source: Source) -> str:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        read(source, False)
    return " ".join(str(warning.message) for warning in caught)


QUOTED = 'label\ttext\nx\t"He said ""no"" twice"\ny\tplain\n'


def test_quoted_cells_of_tsv_are_remarked_on(write: Write) -> None:
    fields = {"text": "text", "label": "label"}
    path = write(QUOTED)
    assert "quoting: minimal" in warned(Source("tsv", path, fields))
    assert path in warned(Source("tsv", path, fields))
    assert warned(Source("tsv", path, fields, quoting="minimal")) == ""
    assert warned(Source("tsv", write('label\ttext\nx\t"a"\ny\t"b"\n'), fields)) != ""
    plain = 'label\ttext\nx\t"a\ny\tsays "b"\nx\t"a" and "b"\nx\t"c"\n'
    assert warned(Source("tsv", write(plain), fields)) == ""


@pytest.mark.parametrize(("texts", "count"), [(1, 30), (3, 30)])
def test_a_column_that_is_almost_empty_is_remarked_on(write: Write, texts: int, count: int) -> None:
    records = [{"text": "a" if number < texts else ""} for number in range(count)]
    path = write("\n".join(map(json.dumps, records)))
    remark = warned(Source("jsonl", path, {"text": "text"}))
    assert bool(remark) == (texts == 1)
    assert not remark or "29 of 30 rows" in remark
