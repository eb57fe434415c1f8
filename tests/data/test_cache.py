from __future__ import annotations

import multiprocessing
import shutil
from collections.abc import Callable
from pathlib import Path

import datasets
import platformdirs
import pytest
from datasets import Dataset

from hyperlect.data.cache import cache_dir, cached, file_digest, quiet
from hyperlect.errors import HyperlectError


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
    arrow = next(entry.glob("*.arrow"))
    arrow.write_bytes(arrow.read_bytes()[:40])


def lose_a_file(entry: Path) -> None:
    next(entry.glob("*.arrow")).unlink()


def lose_all(entry: Path) -> None:
    shutil.rmtree(entry)
    entry.mkdir()


@pytest.mark.parametrize("damage", [cut_short, lose_a_file, lose_all])
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


@pytest.mark.parametrize("disabled", [True, False])
def test_quiet_leaves_the_setting_as_it_was(disabled: bool) -> None:
    before = datasets.are_progress_bars_disabled()
    change = {True: datasets.disable_progress_bars, False: datasets.enable_progress_bars}
    try:
        change[disabled]()
        with quiet():
            assert datasets.are_progress_bars_disabled()
        assert datasets.are_progress_bars_disabled() is disabled
    finally:
        change[before]()
