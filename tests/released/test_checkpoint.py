from __future__ import annotations

from pathlib import Path

import pytest
import torch

from hyperlect.errors import RunError
from hyperlect.released.checkpoint import find_checkpoint

ONES = torch.ones(2)


def save(path: Path, content: object = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"bert.a": ONES, "cls.weight": ONES} if content is None else content, path)


def read(folder: Path, *tasks: str) -> list[str]:
    return [name for name, _ in find_checkpoint(folder).tensors(tasks)]


def test_files_of_tasks_and_what_else_lies_there(tmp_path: Path) -> None:
    save(tmp_path / "ner_model" / "pytorch_model.bin")
    save(tmp_path / "pos.pt")
    others = ("hyperx_args.bin", "trainer_args.bin", "optimizer.pt", "rng_state.pth", "README.md")
    for name in others:
        (tmp_path / name).write_text("not to be read")
    assert read(tmp_path, "ner", "pos") == [
        "taskmodels_dict.pos.bert.a", "taskmodels_dict.pos.cls.weight",
        "taskmodels_dict.ner.bert.a", "taskmodels_dict.ner.cls.weight",
    ]  # fmt: skip
    found = find_checkpoint(tmp_path)
    assert [path.name for path in found.pickles] == ["hyperx_args.bin", "trainer_args.bin"]
    assert f"{tmp_path / 'hyperx_args.bin'} and" in found.hint
    assert "are pickles, which can run code, and are never read" in found.hint


def test_a_file_of_no_task_and_a_task_without_a_file(tmp_path: Path) -> None:
    save(tmp_path / "ner_model" / "pytorch_model.bin")
    with pytest.raises(RunError, match=r"lacks the weights of pos: pos_model/pytorch_model.bin"):
        read(tmp_path, "ner", "pos")
    with pytest.raises(RunError, match=r"but of which\? .* the tasks are pos"):
        read(tmp_path, "pos")


def test_folders_without_weights(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="does not exist"):
        find_checkpoint(tmp_path / "x")
    with pytest.raises(RunError, match="holds no weights"):
        find_checkpoint(tmp_path)
    save(tmp_path / "checkpoint-5000" / "ner_model" / "pytorch_model.bin")
    with pytest.raises(RunError, match="Name one of its checkpoints: checkpoint-5000"):
        find_checkpoint(tmp_path)
    (tmp_path / "a.bin").write_text("")
    with pytest.raises(RunError, match="is a file; name the folder"):
        find_checkpoint(tmp_path / "a.bin")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"bert.a": ONES, "epoch": 3}, "epoch is a int"),
        ([ONES], "holds a list, not a state dict"),
        (torch.nn.Linear(1, 1), "cannot be read as a file of tensors alone"),
    ],
)
def test_files_that_hold_more_than_tensors(tmp_path: Path, content: object, said: str) -> None:
    save(tmp_path / "ner_model" / "pytorch_model.bin", content)
    with pytest.raises(RunError, match=said):
        read(tmp_path, "ner")


def test_what_a_pickle_would_run_is_not_run(tmp_path: Path) -> None:
    save(tmp_path / "ner_model" / "pytorch_model.bin", {"bert.a": Trap(tmp_path / "sprung")})
    with pytest.raises(RunError, match="cannot be read"):
        read(tmp_path, "ner")
    assert not (tmp_path / "sprung").exists()


class Trap:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return Path.touch, (self.path,)
