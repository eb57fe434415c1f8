"""Files are written whole, read exactly, and the state of a run is read off its folder."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
import safetensors.torch
import torch
from filelock import FileLock

from hyperlect.errors import Problems, RunError
from hyperlect.run_folder import (
    RunState,
    load_exactly,
    load_tensors,
    load_tensors_and_metadata,
    locate,
    locked,
    read_events,
    read_json,
    read_json_or_empty,
    require_run,
    run_state,
    save_tensors,
    write_json,
    write_text,
)
from tests.hub import put_on_hub


def test_text_replaces_text_and_leaves_nothing_else(tmp_path: Path):
    for text in ("é\n", "other"):
        write_text(tmp_path / "a.json", text)
        assert (tmp_path / "a.json").read_text(encoding="utf-8") == text
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_old_text_stays_when_writing_fails(tmp_path: Path):
    path = tmp_path / "a.json"
    write_text(path, "whole")
    with pytest.raises(UnicodeEncodeError):
        write_text(path, "half \ud800")
    assert path.read_text() == "whole"
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_two_writers_do_not_share_a_partial_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    partial: list[Path] = []
    original = Path.replace

    def both(self: Path, target: Path) -> Path:
        partial.append(self)
        if len(partial) == 1:
            write_text(tmp_path / "a.json", "theirs")
        return original(self, target)

    monkeypatch.setattr(Path, "replace", both)
    write_text(tmp_path / "a.json", "mine")
    assert (tmp_path / "a.json").read_text() == "mine"
    assert len(set(partial)) == 2


def full(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_is_an_error_that_names_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(RunError) as error:
        write_json(tmp_path / "a.json", {})
    assert str(tmp_path / "a.json") in str(error.value)
    assert os.strerror(errno.ENOSPC) in str(error.value)

    def serialize(*_: object) -> None:
        raise safetensors.SafetensorError("No space left on device")

    monkeypatch.setattr(safetensors.torch, "save_file", serialize)
    with pytest.raises(RunError, match=r"x\.safetensors"):
        save_tensors({"a": torch.ones(1)}, tmp_path / "x.safetensors")


def test_json_is_checked_when_it_is_read(tmp_path: Path):
    path = tmp_path / "a.json"
    assert read_json_or_empty(path) == {}
    with pytest.raises(RunError, match=r"a\.json"):
        read_json(path)
    for text in ("", '{"a": ', "null", "[1]", '"a"', "\udc80"):
        path.write_text(text, encoding="utf-8", errors="surrogateescape")
        assert read_json_or_empty(path) == {}
        with pytest.raises(RunError, match=r"a\.json"):
            read_json(path)
    write_json(path, {"format_version": 2, "a": ["é"]})
    assert read_json(path, version=2) == {"a": ["é"]}
    with pytest.raises(RunError, match="format_version 2"):
        read_json(path, version=1)


def test_tensors_come_back_as_they_were(tmp_path: Path):
    base = torch.randn(4, 6)
    tensors = {
        "plain": base,
        "transposed": base.t(),  # not contiguous
        "a view": base[1],  # shares memory
        "half": base.bfloat16(),
        "double": base.double(),
        "numbers": torch.arange(5),
        "trained": torch.nn.Parameter(base),
        "scalar": torch.tensor(3.5),
        "empty": torch.empty(0, 3),
    }
    save_tensors(tensors, tmp_path / "x.safetensors")
    loaded = load_tensors(tmp_path / "x.safetensors")
    assert loaded.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert torch.equal(loaded[name], tensor), name
        assert loaded[name].dtype == tensor.dtype
        assert not loaded[name].requires_grad


@pytest.mark.parametrize("tensors", [{}, {"a": torch.ones(2)}])
@pytest.mark.parametrize("metadata", [None, {}, {"config": "digest é"}])
def test_metadata_comes_back_and_tensors_may_be_none(
    tmp_path: Path, tensors: dict[str, torch.Tensor], metadata: dict[str, str] | None
):
    save_tensors(tensors, tmp_path / "x.safetensors", metadata)
    loaded, texts = load_tensors_and_metadata(tmp_path / "x.safetensors")
    assert loaded.keys() == tensors.keys()
    assert texts == (metadata or {})


@pytest.mark.skipif(os.name != "posix", reason="file modes are POSIX's")
@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_weights_have_the_mode_of_other_files(tmp_path: Path, umask: int):
    before = os.umask(umask)
    try:
        save_tensors({"a": torch.ones(1)}, tmp_path / "x.safetensors")
        write_text(tmp_path / "a.txt", "")
    finally:
        os.umask(before)
    modes = {(tmp_path / name).stat().st_mode for name in ("x.safetensors", "a.txt")}
    assert len(modes) == 1


def test_missing_and_damaged_tensor_files_are_refused(tmp_path: Path):
    path = tmp_path / "x.safetensors"
    with pytest.raises(RunError, match=r"x\.safetensors"):
        load_tensors(path)
    save_tensors({"a": torch.ones(200)}, path)
    whole = path.read_bytes()
    for damaged in (b"", b"\x80\x04nonsense that a pickle could be", whole[:-1], whole[:30]):
        path.write_bytes(damaged)
        with pytest.raises(RunError, match=r"x\.safetensors"):
            load_tensors(path)


def test_a_flipped_bit_anywhere_is_found_or_changes_nothing(tmp_path: Path):
    path = tmp_path / "x.safetensors"
    tensors = {
        "å.weight": torch.randn(2, 3),
        "half": torch.arange(3, dtype=torch.bfloat16),
        "scalar": torch.zeros(()),
    }
    save_tensors(tensors, path, {"config": "abc", "format": "pt"})
    whole = path.read_bytes()
    messages = []
    for place in range(0, 8 * len(whole), 7):
        damaged = bytearray(whole)
        damaged[place // 8] ^= 1 << place % 8
        path.write_bytes(damaged)
        try:
            loaded, texts = load_tensors_and_metadata(path)
        except RunError as error:
            messages.append(str(error))
            continue
        assert loaded.keys() == tensors.keys()
        assert all(torch.equal(loaded[name], tensors[name]) for name in tensors)
        assert all(loaded[name].dtype == tensors[name].dtype for name in tensors)
        assert texts["config"] == "abc"
    assert all(str(path) in message for message in messages)
    assert len(messages) > 8 / 7 * len(whole) - 50  # others are in the name of the checksums


def test_damaged_tensors_are_named(tmp_path: Path):
    path = tmp_path / "x.safetensors"
    save_tensors({name: torch.ones(50) for name in "abc"}, path)
    whole = bytearray(path.read_bytes())
    whole[-210] ^= 1
    whole[-1] ^= 128
    path.write_bytes(whole)
    with pytest.raises(RunError) as error:
        load_tensors(path)
    assert [problem.message.split()[0] for problem in error.value.problems] == ["b", "c"]
    assert {problem.file for problem in error.value.problems} == {str(path)}


def test_equal_tensors_and_texts_give_equal_bytes(tmp_path: Path):
    path, written = tmp_path / "x", set()
    for names in ("bac", "abc", "cba") * 4:  # safetensors alone puts the texts in any order
        save_tensors({name: torch.ones(3) for name in names}, path, {"b": "é", "a": "1"})
        written.add(path.read_bytes())
    assert len(written) == 1
    assert load_tensors_and_metadata(path)[1] == {"a": "1", "b": "é"}


def test_files_without_checksums_are_read(tmp_path: Path):
    """As version 0.1 wrote them, and other libraries do."""
    safetensors.torch.save_file({"a": torch.ones(2)}, tmp_path / "x", {"config": "1"})
    loaded, texts = load_tensors_and_metadata(tmp_path / "x")
    assert loaded["a"].tolist() == [1, 1]
    assert texts == {"config": "1"}


def test_a_log_cut_off_in_its_last_line_is_read_and_other_damage_is_noted(tmp_path: Path):
    problems, path = Problems("log"), tmp_path / "log"
    assert list(read_events(path, problems)) == []
    path.write_bytes(b'{"step": 1}\n\xff\n[1]\n{"step": "2"}\n{"step": 3}\n{"step": 4')
    assert list(read_events(path, problems)) == [(1, {"step": 1}), (5, {"step": 3})]
    assert [problem.line for problem in problems.items] == [2, 3, 4]
    assert list(read_events(path)) == [(1, {"step": 1}), (5, {"step": 3})]


def test_loading_names_every_problem_and_copies_nothing():
    target = {name: torch.zeros(2, 3) for name in "abcdf"}
    state = {"a": torch.ones(2, 3), "b": torch.ones(3, 2), "e": torch.ones(1)}
    state["f"] = torch.ones(2, 3, dtype=torch.int32)
    with pytest.raises(RunError) as error:
        load_exactly(target, state, "weights")
    names = [problem.message.split()[0] for problem in error.value.problems]
    assert names == ["c", "d", "e", "b", "f"]
    assert {problem.file for problem in error.value.problems} == {"weights"}
    assert not any(tensor.any() for tensor in target.values())


def test_tensors_are_copied_in_place():
    parameter = torch.nn.Parameter(torch.zeros(3))
    load_exactly({"a": parameter}, {"a": torch.tensor([1.0, 2.0, 3.0])})
    assert parameter.tolist() == [1, 2, 3]
    assert parameter.requires_grad
    assert parameter.is_leaf


def test_a_folder_comes_before_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for place in ("on hub", "runs/mixed"):
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / "model.json").write_text(place)
    monkeypatch.chdir(tmp_path)
    downloaded = put_on_hub("acme/mixed", tmp_path / "on hub", tmp_path / "cache", monkeypatch)
    put_on_hub("runs/mixed", tmp_path / "on hub", tmp_path / "cache", monkeypatch)
    assert locate("runs/mixed", None, ["model.json"]) == Path("runs/mixed")
    assert locate("acme/mixed", None, ["model.json"]) == downloaded
    with pytest.raises(RunError, match=r"other\.json"):
        locate("acme/mixed", None, ["model.json", "other.json"])


def test_the_state_of_a_run_is_read_off_its_folder(tmp_path: Path):
    assert run_state(tmp_path) is RunState.MISSING
    (tmp_path / "checkpoint.old").mkdir()
    write_json(tmp_path / "checkpoint.old" / "state.json", {})
    assert run_state(tmp_path) is RunState.INTERRUPTED
    write_json(tmp_path / "training.json", {})
    assert run_state(tmp_path) is RunState.INTERRUPTED  # the weights are not there
    (tmp_path / "model.safetensors").touch()
    assert run_state(tmp_path) is RunState.TRAINED
    write_text(tmp_path / "error.txt", "out of memory")
    assert run_state(tmp_path) is RunState.FAILED
    write_text(tmp_path / "results.json", '{"cells": [')
    assert run_state(tmp_path) is RunState.FAILED  # cut off
    write_json(tmp_path / "results.json", {"cells": []})
    assert run_state(tmp_path) is RunState.DONE


def test_a_path_that_is_not_a_run_says_what_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    write_run = tmp_path / "runs" / "mixed"
    write_run.mkdir(parents=True)
    write_text(write_run / "recipe.yaml", "")
    assert require_run(write_run) == write_run
    with pytest.raises(RunError, match="--resume"):
        require_run(write_run, finished=True)
    with pytest.raises(RunError, match=r'Did you mean "runs/mixed"'):
        require_run(Path("runs/mixd"))
    write_text(tmp_path / "mine.yaml", "")
    with pytest.raises(RunError, match=r"hyperlect train mine\.yaml"):
        require_run(Path("mine.yaml"))
    converted = tmp_path / "converted"
    converted.mkdir()
    write_json(converted / "model.json", {})
    assert require_run(converted, recipe=False) == converted
    with pytest.raises(RunError, match="without a recipe"):
        require_run(converted)


def test_a_run_is_held_by_one_process(tmp_path: Path):
    run = tmp_path / "run"
    run.mkdir()
    attempt = (
        "import sys; from pathlib import Path; from hyperlect.run_folder import locked\n"
        "with locked(Path(sys.argv[1])): pass"
    )
    with locked(run):
        second = subprocess.run(
            [sys.executable, "-c", attempt, run], capture_output=True, text=True, check=False
        )
        assert second.returncode != 0
        assert "RunError" in second.stderr
    with locked(run):
        pass
    assert not list(run.iterdir())


@pytest.mark.skipif(sys.platform == "win32", reason="no open file can be removed there")
def test_a_lock_is_removed_while_it_is_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Removed after its release, it could be another process's already."""
    run = tmp_path / "run"
    run.mkdir()
    there = []
    release = FileLock.release

    def released(lock: FileLock, force: bool = False) -> None:
        if lock.is_locked:
            there.append((run / ".lock").exists())
        release(lock, force)

    monkeypatch.setattr(FileLock, "release", released)
    with locked(run), locked(run):
        pass
    assert there == [True, False]


def test_a_new_folder_stays_only_if_something_was_written(tmp_path: Path):
    run = tmp_path / "runs" / "new"

    def fail() -> None:
        with locked(run):
            assert run.is_dir()
            raise RunError("the data is malformed")

    with pytest.raises(RunError, match="malformed"):
        fail()
    assert not run.exists()
    with locked(run):
        write_text(run / "recipe.yaml", "")
    assert [path.name for path in run.iterdir()] == ["recipe.yaml"]


def test_a_held_run_may_be_held_again_inside(tmp_path: Path):
    """As by an experiment, and by the training that it starts."""
    run = tmp_path / "run"
    with locked(run):
        with locked(run):
            pass
        assert [path.name for path in run.iterdir()] == [".lock"]
    assert not run.exists()
