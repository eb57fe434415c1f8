"""Files are written whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from hyperlect.files import read_object, write_json, write_whole


def test_the_text_is_there_and_nothing_else(tmp_path: Path):
    for text in ("é\n", "other"):
        write_whole(tmp_path / "a.json", text)
        assert (tmp_path / "a.json").read_text(encoding="utf-8") == text
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_what_was_there_stays_when_writing_fails(tmp_path: Path):
    path = tmp_path / "a.json"
    write_whole(path, "whole")
    with pytest.raises(UnicodeEncodeError):
        write_whole(path, "half \ud800")
    assert path.read_text() == "whole"


def test_two_that_have_the_same_number_do_not_meet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Processes of two machines or containers may."""
    partial: list[Path] = []
    original = Path.replace

    def both(self: Path, target: Path) -> Path:
        partial.append(self)
        if len(partial) == 1:
            write_whole(tmp_path / "a.json", "theirs")
        return original(self, target)

    monkeypatch.setattr(Path, "replace", both)
    write_whole(tmp_path / "a.json", "mine")
    assert (tmp_path / "a.json").read_text() == "mine"
    assert len(set(partial)) == 2


def test_plain_data_is_written_as_people_read_it(tmp_path: Path):
    write_json(tmp_path / "a.json", {"é": [1, None]})
    assert (tmp_path / "a.json").read_text(encoding="utf-8") == '{\n "é": [\n  1,\n  null\n ]\n}\n'


def test_what_is_no_object_reads_as_an_empty_one(tmp_path: Path):
    path = tmp_path / "a.json"
    assert read_object(path) == {}
    for text in ("", '{"a": ', "null", "[1]", '"a"', "\udc80"):
        path.write_text(text, encoding="utf-8", errors="surrogateescape")
        assert read_object(path) == {}
    write_json(path, {"a": [1]})
    assert read_object(path) == {"a": [1]}
