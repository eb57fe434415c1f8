"""Corpora and their cache: read once, kept as Arrow rows, a few drawn."""

from __future__ import annotations

import multiprocessing
import os
import threading
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import platformdirs
import pytest
from datasets import Dataset, concatenate_datasets, load_from_disk

from hyperlect.data import corpus, readers
from hyperlect.data.corpus import (
    arrow_column,
    cache_dir,
    cached,
    content_digest,
    draw,
    file_digest,
    list_lengths,
    read_corpus,
)
from hyperlect.data.encoding import encode
from hyperlect.data.readers import Source
from hyperlect.errors import DataError, HyperlectError
from hyperlect.tasks import Task, TaskType

from ..tiny import tiny_tokenizer


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[Source]:
    """The sources that were really read, not taken from the cache."""
    seen: list[Source] = []
    read = readers.read_batches

    def watched(source: Source, word_level: bool) -> Any:
        seen.append(source)
        return read(source, word_level)

    monkeypatch.setattr(corpus, "read_batches", watched)
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
        (replace(tagged, unlabelled="ignore"), True),
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


def test_the_problems_of_all_sources_are_found_at_once(tagged: Source, tmp_path: Path) -> None:
    (tmp_path / "bad.txt").write_text("alone\n")
    bad = replace(tagged, location=str(tmp_path / "bad.txt"))
    gone = replace(tagged, location=str(tmp_path / "gone.txt"))
    with pytest.raises(DataError) as error:
        read_corpus([bad, tagged, gone], True, tmp_path / "cache")
    assert [(problem.file, problem.line) for problem in error.value.problems] == [
        (bad.location, 1),
        (gone.location, None),
    ]


@pytest.mark.filterwarnings("always")
def test_what_a_reader_warns_of_is_said_at_every_start(tmp_path: Path, reads: list[Source]) -> None:
    (tmp_path / "a.tsv").write_text('text\n"a"\n"b"\n')
    source = Source("tsv", str(tmp_path / "a.tsv"), {"text": "text"})
    for _ in range(2):
        with pytest.warns(UserWarning, match=r"a\.tsv.*quoting: minimal") as caught:
            read_corpus([source], False, tmp_path / "cache")
        assert len(caught) == 1
    assert len(reads) == 1


@pytest.mark.skipif(os.name == "nt", reason="there are no such pipes")
def test_pipes_and_lines_are_read_and_not_kept(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for text in ("one", "two"):
        writer = threading.Thread(target=pipe.write_text, args=(f"{text}\n",))
        writer.start()
        rows = read_corpus([Source("text", str(pipe))], False, tmp_path / "cache")
        assert rows["text"][:] == [text]
        writer.join()
    rows = read_corpus([Source("text", iter([(7, "three")]))], False, tmp_path / "cache")
    assert (rows[0]["text"], rows[0]["line"]) == ("three", 7)
    assert not (tmp_path / "cache").exists()


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


class Builder:
    """Builds a small data set, and counts how often."""

    def __init__(self, value: int = 1) -> None:
        self.value = value
        self.times = 0

    def __call__(self) -> Dataset:
        self.times += 1
        return Dataset.from_dict({"value": [self.value] * 3})


def entries(folder: Path) -> list[Path]:
    return list(folder.iterdir())


def test_what_was_built_once_is_loaded_after(tmp_path: Path) -> None:
    build = Builder()
    first = cached({"a": 1, "b": 2}, build, tmp_path / "deep" / "er")
    again = cached({"b": 2, "a": 1}, build, tmp_path / "deep" / "er")
    assert build.times == 1
    assert first[:] == again[:] == {"value": [1, 1, 1]}
    assert again.cache_files


def test_another_key_is_another_entry(tmp_path: Path) -> None:
    assert cached(["x", 1], Builder(1), tmp_path)["value"][0] == 1
    assert cached(["x", 2], Builder(2), tmp_path)["value"][0] == 2
    assert len(entries(tmp_path)) == 2


def test_an_empty_data_set_is_kept_too(tmp_path: Path) -> None:
    empty = Dataset.from_dict({"value": []})
    assert len(cached("none", lambda: empty, tmp_path)) == 0
    assert len(cached("none", lambda: pytest.fail("built twice"), tmp_path)) == 0


def test_a_failed_build_leaves_nothing(tmp_path: Path) -> None:
    def fail() -> Dataset:
        raise HyperlectError("no data")

    with pytest.raises(HyperlectError, match="no data"):
        cached("key", fail, tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def cut_short(entry: Path) -> None:
    entry.write_bytes(entry.read_bytes()[:40])


def empty(entry: Path) -> None:
    entry.write_bytes(b"")


def replace_by_text(entry: Path) -> None:
    entry.write_text("not a table")


@pytest.mark.parametrize("damage", [cut_short, empty, replace_by_text])
def test_a_damaged_entry_is_built_again(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    build = Builder()
    cached("key", build, tmp_path)
    damage(entries(tmp_path)[0])
    assert cached("key", build, tmp_path)[:] == {"value": [1, 1, 1]}
    assert build.times == 2
    assert cached("key", build, tmp_path)[:] == {"value": [1, 1, 1]}
    assert build.times == 2
    assert len(entries(tmp_path)) == 1


def test_a_slower_process_takes_what_a_quicker_one_made(tmp_path: Path) -> None:
    def build() -> Dataset:
        cached("key", Builder(7), tmp_path)  # meanwhile, another process
        return Builder(7)()

    assert cached("key", build, tmp_path)["value"][0] == 7
    assert len(entries(tmp_path)) == 1


def _ask(folder: Path, start: multiprocessing.synchronize.Barrier) -> None:
    start.wait(timeout=30)
    for key in range(5):
        assert cached(key, Builder(key), folder)[:] == {"value": [key] * 3}


def test_two_processes_at_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    start = context.Barrier(2)
    workers = [context.Process(target=_ask, args=(tmp_path, start)) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(timeout=60)
    assert [worker.exitcode for worker in workers] == [0, 0]
    assert len(entries(tmp_path)) == 5


def test_warnings_of_others_are_not_kept(tmp_path: Path) -> None:
    def build() -> Dataset:
        warnings.warn("old", DeprecationWarning, stacklevel=1)
        return Builder()()

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(cached("key", build, tmp_path)) == len(cached("key", build, tmp_path)) == 3


def test_selected_rows_are_kept_alone(tmp_path: Path) -> None:
    rows = Dataset.from_dict({"value": [1, 2, 3]}).select([2, 0])
    assert cached("key", lambda: rows, tmp_path)[:] == {"value": [3, 1]}


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(HyperlectError, match="HYPERLECT_CACHE") as caught:
        cached("key", Builder(), tmp_path / "file")
    assert str(tmp_path / "file") in str(caught.value)


def test_the_cache_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HYPERLECT_CACHE", str(tmp_path))
    assert cache_dir() == tmp_path
    monkeypatch.setenv("HYPERLECT_CACHE", "~/mine")
    assert cache_dir() == Path.home() / "mine"
    monkeypatch.delenv("HYPERLECT_CACHE")
    assert cache_dir() == Path(platformdirs.user_cache_dir("hyperlect"))


def test_file_digest_is_of_the_content(tmp_path: Path) -> None:
    for name, text in (("a", "x"), ("b", "x"), ("c", "y")):
        (tmp_path / name).write_text(text)
    assert file_digest(tmp_path / "a") == file_digest(tmp_path / "b")
    assert file_digest(tmp_path / "a") != file_digest(tmp_path / "c")


ROWS = Dataset.from_dict({"text": ["a", "b", "c", "d"], "ids": [[1], [2, 3], [], [4]]})


def test_a_column_is_what_the_data_set_holds(tmp_path: Path) -> None:
    assert arrow_column(ROWS, "ids").to_pylist() == [[1], [2, 3], [], [4]]
    ROWS.save_to_disk(str(tmp_path / "rows"))
    loaded = load_from_disk(str(tmp_path / "rows"))
    joined = concatenate_datasets([loaded, ROWS])
    assert arrow_column(joined, "text").to_pylist() == list("abcdabcd")


def test_the_lengths_of_lists() -> None:
    assert list_lengths(ROWS, "ids").tolist() == [1, 2, 0, 1]
    assert list_lengths(ROWS.select([3, 1]), "ids").tolist() == [1, 2]


def test_selected_rows_alone_and_in_their_order() -> None:
    assert arrow_column(ROWS.select([2, 0]), "text").to_pylist() == ["c", "a"]
    assert arrow_column(ROWS.select(range(1, 3)), "text").to_pylist() == ["b", "c"]


def test_a_digest_is_of_the_content_wherever_it_lies(tmp_path: Path) -> None:
    ROWS.save_to_disk(str(tmp_path / "rows"))
    loaded = load_from_disk(str(tmp_path / "rows"))
    pieces = concatenate_datasets([loaded.select([0, 1]), ROWS.select([2, 3])])
    shuffled = ROWS.select([3, 1, 0, 2]).select([2, 1, 3, 0])
    for same in (loaded, pieces, shuffled):
        assert content_digest(same) == content_digest(ROWS)
    changed = Dataset.from_dict({"text": ["a", "b", "c", "d"], "ids": [[1], [3, 2], [], [4]]})
    others = (changed, ROWS.select([1, 0, 2, 3]), ROWS.select([0, 1, 2]))
    assert content_digest(ROWS) not in {content_digest(other) for other in others}


NUMBERS = Dataset.from_dict({"text": [str(number) for number in range(40)]})


def test_a_draw_is_the_beginning_of_one_random_order() -> None:
    whole = draw(NUMBERS, 40, "1 of pos:eng")["text"]
    assert sorted(whole, key=int) == NUMBERS["text"][:]
    assert whole[:] != NUMBERS["text"][:]
    for count in (0, 5, 10, 20):
        assert draw(NUMBERS, count, "1 of pos:eng")["text"][:] == whole[:count]
    assert whole[:5] == ["36", "5", "38", "6", "20"]  # today as at any other time


def test_every_name_has_an_order_of_its_own() -> None:
    names = [f"{number} of {cell}" for number in (1, 2, 3) for cell in ("pos:eng", "pos:isl")]
    assert len({tuple(draw(NUMBERS, 40, name)["text"]) for name in names}) == len(names)


def test_the_cache_of_encoded_data_tells_draws_apart(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_text("".join(f"the cat sees {number}\n" for number in range(9)))
    read = read_corpus([Source("text", str(file))], word_level=False, cache=tmp_path / "cache")
    task, tokenizer = Task("mlm", TaskType.MLM), tiny_tokenizer("bert")
    encoded = [
        encode(examples, task, tokenizer, 32, tmp_path / "cache")["input_ids"][:]
        for examples in (read, draw(read, 4, "1"), draw(read, 4, "2"), draw(read, 3, "1"))
    ]
    assert [len(rows) for rows in encoded] == [9, 4, 4, 3]
    assert encoded[1][:3] == encoded[3]
    assert encoded[1] != encoded[2]
    assert draw(read, 2, "1")["line"][:] != [1, 2]  # the place in the file is known still
