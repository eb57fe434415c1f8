"""The files of a checkpoint folder of the released code, and the tensors in them.

It writes ``{task}_model/pytorch_model.bin`` for every task, each with a copy of the encoder and the
hypernetwork, and pickles of its arguments beside them. One file of the whole model is read too.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import Problems, RunError
from ..run_folder import load_tensors
from .names import ENCODER, HEADS

SUFFIXES = (".bin", ".pt", ".pth", ".safetensors")
# The rest of what the released code and its trainer write; pickles all of them.
_ARGUMENTS = re.compile(r"(hyperx|trainer|training)_args\.bin")
_OTHER = re.compile(r"(optimizer|scheduler|scaler|rng_state.*)\.(pt|pth|bin)")


@dataclass(frozen=True)
class Checkpoint:
    """What lies in a checkpoint folder.

    Attributes:
        folder: the folder.
        weights: its files of tensors.
        pickles: files of arguments, which are not read.
    """

    folder: Path
    weights: tuple[Path, ...]
    pickles: tuple[Path, ...]

    @property
    def hint(self) -> str:
        """Where its arguments are, and how they come here instead."""
        if not self.pickles:
            return ""
        names = " and ".join(str(path) for path in self.pickles)
        are = (
            "are pickles, which can run code, and are"
            if self.pickles[1:]
            else ("is a pickle, which can run code, and is")
        )
        return f"{names} {are} never read. Give the arguments with --arguments FILE or --set."

    def tensors(self, tasks: Sequence[str]) -> Iterator[tuple[str, Tensor]]:
        """Read file after file, giving each tensor the name it has in the whole model.

        Raises:
            RunError: a file cannot be read, holds other things than tensors, or is of no task;
                a task has no file.
        """
        owners = {path: self._owner(path, tasks) for path in self.weights}
        whole = False
        found = set()
        for path, owner in owners.items():
            state = _read(path)
            names = tuple(state)
            if any(name.startswith((ENCODER, HEADS)) for name in names):
                whole = True
                yield from state.items()
            elif owner is None:
                raise RunError(
                    f"{path} is the model of one task, but of which? Put it into a folder "
                    f"TASK_model; the tasks are {', '.join(tasks)}."
                )
            else:
                found.add(owner)
                yield from ((f"{HEADS}{owner}.{name}", state[name]) for name in names)
        missing = [task for task in tasks if task not in found]
        if missing and not whole:
            files = ", ".join(f"{task}_model/pytorch_model.bin" for task in missing)
            raise RunError(f"{self.folder} lacks the weights of {', '.join(missing)}: {files}.")

    def _owner(self, path: Path, tasks: Sequence[str]) -> str | None:
        """Return the task that a file is of, by the name of its folder or its own."""
        for name in (path.parent.name if path.parent != self.folder else "", path.stem):
            task = name.removesuffix("_model")
            if task in tasks:
                return task
        return None


def find_checkpoint(folder: Path) -> Checkpoint:
    """Look what is in a checkpoint folder.

    Raises:
        RunError: there is no such folder, or no weights in it.
    """
    if not folder.is_dir():
        what = "is a file; name the folder it lies in" if folder.is_file() else "does not exist"
        raise RunError(f"{folder} {what}. A checkpoint is a folder with TASK_model/{_FILE}.")
    own = sorted(path for path in folder.iterdir() if path.suffix in SUFFIXES)
    inside = [path for sub in sorted(folder.iterdir()) for path in _weights_of(sub)]
    pickles = tuple(path for path in own if _ARGUMENTS.fullmatch(path.name))
    rest = [path for path in own if path not in pickles and not _OTHER.fullmatch(path.name)]
    if not (rest or inside):
        steps = sorted(path.name for path in folder.glob("checkpoint-*") if path.is_dir())
        hint = f" Name one of its checkpoints: {', '.join(steps)}." if steps else ""
        raise RunError(f"{folder} holds no weights: no TASK_model/{_FILE}.{hint}")
    return Checkpoint(folder, (*rest, *inside), pickles)


_FILE = "pytorch_model.bin"


def _weights_of(folder: Path) -> Iterator[Path]:
    if folder.is_dir() and not folder.name.startswith("checkpoint-"):
        for path in sorted(folder.iterdir()):
            if path.suffix in SUFFIXES and not _OTHER.fullmatch(path.name):
                yield path


def _read(path: Path) -> Mapping[str, Tensor]:
    """Read one file of tensors, and nothing else than tensors."""
    if path.suffix == ".safetensors":
        return load_tensors(path)
    try:
        state: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # it may raise anything, and its own message advises to unpickle
        raise RunError(
            f"{path} cannot be read as a file of tensors alone. If it holds more (a whole model, "
            "arguments), save its state_dict() by itself where you trust it."
        ) from error
    if not isinstance(state, Mapping):
        raise RunError(f"{path} holds a {type(state).__name__}, not a state dict.")
    problems = Problems()
    for name, value in state.items():
        if not isinstance(value, Tensor):
            problems.add(f"{name} is a {type(value).__name__}")
    problems.raise_if_any(RunError, f"{path} holds other things than tensors:")
    return state
