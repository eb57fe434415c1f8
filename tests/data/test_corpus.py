from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hyperlect.data import corpus, readers
from hyperlect.data.corpus import read_corpus
from hyperlect.data.examples import Source
from hyperlect.errors import DataError


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[Source]:
    """The sources that were really read, not taken from the cache."""
    seen: list[Source] = []
    read = readers.read

    def watched(source: Source, word_level: bool) -> Any:
        seen.append(source)
        return read(source, word_level)

    monkeypatch.setattr(corpus, "read", watched)
    return seen


@pytest.fixture
def tagged(tmp_path: Path) -> Source:
    path = tmp_path / "tagged.txt"
    path.write_text("Bær NOUN\nvaksa VERB\n\nJa INTJ\n")
    return Source("columns", str(path))


def test_rows_of_words(tagged: Source, tmp_path: Path) -> None:
    rows = read_corpus([tagged], True, tmp_path / "cache")
    assert rows[0] == {
        "words": ["Bær", "vaksa"],
        "labels": ["NOUN", "VERB"],
        "heads": [],
        "text": "",
        "pair": None,
        "label": None,
        "line": 1,
        "file": tagged.location,
    }
    assert rows["line"][:] == [1, 4]


def test_rows_of_several_sources_in_order(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text("one\ttwo\tgold\nx\ty\tyes\n")
    (tmp_path / "b.txt").write_text("\nz\n")
    pairs = Source("tsv", str(tmp_path / "a.tsv"), {"text": "one", "pair": "two", "label": "gold"})
    text = Source("text", str(tmp_path / "b.txt"))
    rows = read_corpus([text, pairs], False, tmp_path / "cache")
    assert [row["file"] for row in rows] == [text.location, pairs.location]
    assert [row["line"] for row in rows] == [2, 2]
    assert [(row["text"], row["pair"], row["label"]) for row in rows] == [
        ("z", None, None),
        ("x", "y", "yes"),
    ]


def test_a_second_start_reads_nothing(tagged: Source, tmp_path: Path, reads: list[Source]) -> None:
    first = read_corpus([tagged], True, tmp_path / "cache")
    os.utime(tagged.location, (0, 0))
    again = read_corpus([tagged], True, tmp_path / "cache")
    assert reads == [tagged]
    assert first[:] == again[:]


def test_whatever_changes_the_rows_is_read_again(
    tagged: Source, tmp_path: Path, reads: list[Source], monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    copy = tmp_path / "copy.txt"
    copy.write_bytes(Path(tagged.location).read_bytes())
    asked = [
        (tagged, True),
        (tagged, False),
        (replace(tagged, limit=1), True),
        (replace(tagged, comment="#"), True),
        (replace(tagged, fields={"word": 2, "label": 1}), True),
        (replace(tagged, location=str(copy)), True),
    ]
    for source, word_level in asked:
        read_corpus([source], word_level, cache)
    Path(tagged.location).write_text("Nei INTJ\n")
    assert read_corpus([tagged], True, cache)["words"][:] == [["Nei"]]
    monkeypatch.setattr(corpus, "READER_VERSION", corpus.READER_VERSION + 1)
    read_corpus([tagged], True, cache)
    assert reads == [*(source for source, _ in asked), tagged, tagged]


def test_a_folder_read_as_a_data_set_is_known_by_its_content(
    tmp_path: Path, reads: list[Source], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "hf")
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "train.jsonl").write_text('{"text": "a"}\n')
    source = Source("hub", str(folder), {"text": "text"}, split="train")
    for _ in range(2):
        assert read_corpus([source], False, tmp_path / "cache")["text"][:] == ["a"]
    assert len(reads) == 1
    (folder / "train.jsonl").write_text('{"text": "b"}\n{"text": "c"}\n')
    assert read_corpus([source], False, tmp_path / "cache")["text"][:] == ["b", "c"]
    assert read_corpus([source], False, tmp_path / "cache")["file"][0] == f"{folder}/train"


def test_the_faults_of_all_sources_are_told_at_once(tagged: Source, tmp_path: Path) -> None:
    (tmp_path / "bad.txt").write_text("alone\n")
    bad = replace(tagged, location=str(tmp_path / "bad.txt"))
    gone = replace(tagged, location=str(tmp_path / "gone.txt"))
    with pytest.raises(DataError) as caught:
        read_corpus([bad, tagged, gone], True, tmp_path / "cache")
    message = str(caught.value)
    assert f"{bad.location}:1: 1 column" in message
    assert f"{gone.location}: there is no such file" in message
    assert tagged.location not in message


def test_the_default_cache_is_the_users(
    tagged: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HYPERLECT_CACHE", str(tmp_path / "mine"))
    read_corpus([tagged], True)
    assert len(list((tmp_path / "mine" / "corpora").iterdir())) == 1


def test_nothing_is_printed(
    tagged: Source, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    read_corpus([tagged], True, tmp_path / "cache")
    read_corpus([tagged], True, tmp_path / "cache")
    assert capfd.readouterr() == ("", "")
