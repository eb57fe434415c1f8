"""Lines of files and streams, whatever their form; dependency trees; plain text."""

from __future__ import annotations

import gzip
import io
import itertools
import os
import sys
import threading
from pathlib import Path

import networkx
import pytest

from hyperlect.data.examples import MAX_TREE_WORDS, read_heads
from hyperlect.data.readers import Source, read

from .conftest import Write, places, problems

TREEBANK = "# text = a\n1\ta\t_\tNOUN\t_\t_\t0\troot\t_\t_\n\n1\tb\t_\tVERB\t_\t_\t0\troot\t_\t_\n"
FILES = {
    "conllu": (TREEBANK, True, {}),
    "columns": ("a NOUN\nb VERB\n\nc DET\n", True, {}),
    "tsv": ("text\tlabel\na\tx\nb\ty\n", False, {"text": "text", "label": "label"}),
    "csv": ('text,label\n"a, b",x\nc,y\n', False, {"text": "text", "label": "label"}),
    "jsonl": ('{"text": "a"}\n{"text": "b"}\n', False, {"text": "text"}),
    "text": ("first\n\nsecond\n", False, {}),
}
each_format = pytest.mark.parametrize("format_name", FILES)


def lines(path: str) -> list[tuple[str, int]]:
    return [(example.text, example.line) for example in read(Source("text", path), False)]


@each_format
@pytest.mark.parametrize("end", ["\r\n", "\r", "\r\r\n"])
def test_every_line_end_is_one_in_every_format(write: Write, format_name: str, end: str) -> None:
    content, word_level, fields = FILES[format_name]
    plain = read(Source(format_name, write(content, "a"), fields), word_level)  # type: ignore[arg-type]
    other = write(content.replace("\n", end), "b")
    assert read(Source(format_name, other, fields), word_level) == plain  # type: ignore[arg-type]
    assert len(plain) == 2


def test_line_ends_may_be_mixed_and_are_counted(write: Write) -> None:
    assert lines(write("a\rb\r\nc\n\nd\r\re")) == [
        ("a", 1), ("b", 2), ("c", 3), ("d", 5), ("e", 7)
    ]  # fmt: skip


def test_a_carriage_return_inside_of_a_line_is_text(write: Write) -> None:
    assert lines(write("a\nb\rc\nd")) == [("a", 1), ("b\rc", 2), ("d", 3)]


@each_format
def test_zipped_files_are_read_whatever_their_name(write: Write, format_name: str) -> None:
    content, word_level, fields = FILES[format_name]
    plain = read(Source(format_name, write(content, "a"), fields), word_level)  # type: ignore[arg-type]
    zipped = write(gzip.compress(content.encode()), "b")
    assert read(Source(format_name, zipped, fields), word_level) == plain  # type: ignore[arg-type]


def test_a_zipped_file_that_is_cut_off_is_an_error(write: Write) -> None:
    whole = gzip.compress(os.urandom(100).hex().encode())
    assert places(Source("text", write(whole[:60]))) == [None]


@each_format
def test_lines_that_were_read_already_are_an_input(format_name: str, write: Write) -> None:
    content, word_level, fields = FILES[format_name]
    plain = read(Source(format_name, write(content), fields), word_level)  # type: ignore[arg-type]
    numbered = enumerate(content.splitlines(), start=1)
    assert read(Source(format_name, numbered, fields), word_level) == plain  # type: ignore[arg-type]


def test_stdin_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    binary = io.BufferedReader(io.BytesIO(gzip.compress(b"one\ntwo\n")))  # type: ignore[arg-type]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(binary))
    assert lines("-") == [("one", 1), ("two", 2)]
    assert not sys.stdin.closed
    binary = io.BufferedReader(io.BytesIO(b"ok\n\xe4\n"))  # type: ignore[arg-type]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(binary))
    (problem,) = problems(Source("text", "-"))
    assert (problem.file, problem.line) == ("stdin", 2)
    monkeypatch.setattr(sys, "stdin", None)  # as of a process whose standard input is closed
    (problem,) = problems(Source("text", "-"))
    assert problem.file == "stdin"


@pytest.mark.skipif(os.name == "nt", reason="there are no such pipes")
def test_pipes_are_read_as_they_are_written(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=lambda: pipe.write_bytes(b"one\ntwo\n"))
    writer.start()
    assert lines(str(pipe)) == [("one", 1), ("two", 2)]
    writer.join()


def test_a_missing_file_suggests_its_neighbour(write: Write, tmp_path: Path) -> None:
    write("one\n", "sentences.txt")
    (problem,) = problems(Source("text", str(tmp_path / "sentence.txt")))
    assert problem.file == str(tmp_path / "sentence.txt")
    assert '"sentences.txt"' in problem.message


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    (problem,) = problems(Source("text", str(tmp_path / "no/x.txt")))
    assert str(tmp_path / "no") in problem.message


def test_a_folder_is_not_a_file(tmp_path: Path) -> None:
    (problem,) = problems(Source("text", str(tmp_path)))
    assert "folder" in problem.message


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="this user may read any file")
def test_a_forbidden_file_is_named(write: Write) -> None:
    path = write("one\n")
    Path(path).chmod(0)
    assert places(Source("text", path)) == [None]


def test_bytes_that_are_not_utf8_are_named_with_their_lines_and_likely_encoding(
    write: Write,
) -> None:
    path = write("gut\nganz schön\nbesser\nträge\n".encode("latin-1"))
    first, second = problems(Source("text", path))
    assert (first.line, second.line) == (2, 4)
    assert "byte 9 " in first.message
    assert '"schön"' in first.message
    assert "byte 3 " in second.message
    assert "Latin-1" in second.message
    assert '"träge"' in second.message


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_utf16_is_named_once(write: Write, encoding: str) -> None:
    (problem,) = problems(Source("text", write("eins\nzwei\n".encode(encoding))))
    assert "UTF-16" in problem.message


def test_byte_order_mark_and_windows_line_ends_are_dropped(write: Write) -> None:
    assert lines(write("\ufeffone\r\n\r\ntwo")) == [("one", 1), ("two", 3)]


def test_other_separators_are_part_of_the_text(write: Write) -> None:
    assert lines(write("a\u2028b\x85c\x0bd\n")) == [("a\u2028b\x85c\x0bd", 1)]


def test_spelling_is_kept_as_it_stands(write: Write) -> None:
    assert lines(write("cafe\u0301")) == [("cafe\u0301", 1)]


def test_plain_text_has_no_fields(write: Write) -> None:
    assert places(Source("text", write("one\n"), {"text": "text"})) == ["fields"]


def wrong_words(heads: str) -> list[int]:
    """The words that something is wrong with."""
    listed = heads.split()
    return [word for word, _ in read_heads(listed, [f"w{i + 1}" for i in range(len(listed))])[1]]


def test_a_tree_is_read() -> None:
    assert read_heads(["2", "0", "2"], ["a", "b", "c"]) == ((2, 0, 2), [])
    assert read_heads([], ["no", "heads"]) == ((), [])


@pytest.mark.parametrize(
    ("heads", "words"),
    [
        ("2 _", [2]),
        ("0 -1", [2]),
        ("0 1.0", [2]),
        ("0 ١", [2]),
        ("0 3", [2]),
        ("0 2", [2]),
        ("0 3 4 2", [2]),
        ("0 1 0 0", [3]),
        ("9", [1]),
        ("2 1 0 3 3 7 6", [1, 6]),  # two circles
        ("4 1 0 1", [1]),
    ],
)
def test_all_that_is_not_a_tree_is_named(heads: str, words: list[int]) -> None:
    assert wrong_words(heads) == words


def test_all_words_of_a_circle_and_all_roots_are_named() -> None:
    ((_, circle),) = read_heads(["0", "3", "4", "2"], "abcd")[1]
    assert circle.endswith("2, 3, 4")
    ((_, roots),) = read_heads(["0", "1", "0", "0"], "abcd")[1]
    assert roots.endswith("1, 3, 4")


@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_trees_of_one_root_have_no_fault_and_nothing_else_is_one(size: int) -> None:
    for heads in itertools.product(range(size + 1), repeat=size):
        graph = networkx.DiGraph((head, word) for word, head in enumerate(heads, start=1))
        graph.add_nodes_from(range(size + 1))
        tree = networkx.is_arborescence(graph) and heads.count(0) == 1
        assert tree == (not wrong_words(" ".join(map(str, heads)))), heads


def chain(words: int) -> list[str]:
    return [f"w w{i} {i} dep" for i in range(words)]


def test_a_sentence_too_long_to_parse_is_refused_with_its_line(write: Write) -> None:
    longest, longer = chain(MAX_TREE_WORDS), chain(MAX_TREE_WORDS + 1)
    fields = {"word": 2, "head": 3, "label": 4}
    content = "\n\n".join("\n".join(rows) for rows in (["w a 0 root"], longer, longest, longer))
    source = Source("columns", write(content), fields)
    assert places(source, True) == [3, 3 + 2 * MAX_TREE_WORDS + 3]
    assert len(read(Source("columns", source.location, {"word": 2, "label": 4}), True)) == 4
