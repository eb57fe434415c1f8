"""Tensors on disk: safetensors alone, exactly or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from hyperlect.errors import RunError
from hyperlect.weights import load_exactly, load_tensors, locate, save_tensors
from tests.hub import put_on_hub


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


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "x.safetensors"
    save_tensors({"a": torch.ones(2)}, path)

    def break_off(_tensors: object, file: Path) -> None:
        Path(file).write_bytes(b"half of")
        raise OSError("no space left")

    monkeypatch.setattr("hyperlect.weights.save_file", break_off)
    with pytest.raises(OSError, match="no space"):
        save_tensors({"a": torch.zeros(2)}, path)
    assert torch.equal(load_tensors(path)["a"], torch.ones(2))


def test_missing_and_damaged_files(tmp_path: Path):
    path = tmp_path / "x.safetensors"
    with pytest.raises(RunError, match=r"x.safetensors is missing"):
        load_tensors(path)
    save_tensors({"a": torch.ones(200)}, path)
    whole = path.read_bytes()
    for damaged in (b"", b"\x80\x04nonsense that a pickle could be", whole[:-1], whole[:30]):
        path.write_bytes(damaged)
        with pytest.raises(RunError, match=r"x.safetensors is damaged"):
            load_tensors(path)


def test_every_fault_is_named_and_nothing_is_copied():
    target = {name: torch.zeros(2, 3) for name in "abcd"}
    state = {"a": torch.ones(2, 3), "b": torch.ones(3, 2), "e": torch.ones(1)}
    with pytest.raises(RunError) as error:
        load_exactly(target, state)
    assert str(error.value).split("\n") == [
        "The weights do not fit the model:",
        "  - c is missing",
        "  - d is missing",
        "  - e is unexpected",
        "  - b has the shape (3, 2), not (2, 3)",
    ]
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
    found = put_on_hub("acme/mixed", tmp_path / "on hub", tmp_path / "cache", monkeypatch)
    put_on_hub("runs/mixed", tmp_path / "on hub", tmp_path / "cache", monkeypatch)
    assert locate("runs/mixed", None, ["model.json"]) == Path("runs/mixed")
    assert locate("acme/mixed", None, ["model.json"]) == found
    with pytest.raises(RunError, match=r"acme/mixed holds no trained model: other.json is missing"):
        locate("acme/mixed", None, ["model.json", "other.json"])
