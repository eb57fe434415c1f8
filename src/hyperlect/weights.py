"""Finding, reading and writing tensors: safetensors only, and exactly or not at all."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from .errors import Problems, RunError


def save_tensors(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Write tensors to a safetensors file, atomically."""
    plain = {name: t.detach().cpu().contiguous().clone() for name, t in tensors.items()}
    temporary = path.with_suffix(".partial")
    save_file(plain, temporary)
    temporary.replace(path)


def load_tensors(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file. Raises `RunError` where it is missing or damaged."""
    try:
        tensors: dict[str, Tensor] = load_file(path)
        return tensors
    except FileNotFoundError:
        raise RunError(f"{path} is missing.") from None
    except SafetensorError as error:
        raise RunError(f"{path} is damaged: {error}.") from None


@torch.no_grad()
def load_exactly(target: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> None:
    """Copy `state` into `target` in place.

    Raises:
        RunError: names are missing or unexpected, or shapes differ; every one is named.
    """
    problems = Problems()
    for name in sorted(target.keys() - state.keys()):
        problems.add(f"{name} is missing")
    for name in sorted(state.keys() - target.keys()):
        problems.add(f"{name} is unexpected")
    for name in sorted(target.keys() & state.keys()):
        if target[name].shape != state[name].shape:
            shapes = f"{tuple(state[name].shape)}, not {tuple(target[name].shape)}"
            problems.add(f"{name} has the shape {shapes}")
    problems.raise_if_any(RunError, "The weights do not fit the model:")
    for name, tensor in target.items():
        tensor.copy_(state[name])


def locate(source: str | Path, revision: str | None, names: Sequence[str]) -> Path:
    """Return the folder that holds the files of a saved model, fetched from the hub if need be.

    Args:
        source: a folder, or a hub id (owner/name) where there is no such folder.
        revision: a branch, tag or commit on the hub.
        names: the files that make a model.

    Raises:
        RunError: there is neither, or a file is missing.
    """
    folder = Path(source).expanduser()
    if not folder.exists() and is_hub_id(str(source)):
        folder = _fetch(str(source), revision, names)
    for name in names:
        if not (folder / name).is_file():
            raise RunError(
                f"{source} holds no trained model: {name} is missing. Give the folder that "
                "`hyperlect train` made."
            )
    return folder


def is_hub_id(source: str) -> bool:
    """Whether a text has the form of a hub id, owner/name; a folder's name may have it too."""
    return re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", source) is not None


def _fetch(hub_id: str, revision: str | None, names: Sequence[str]) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(hub_id, revision=revision, allow_patterns=list(names)))
    except (OSError, ValueError) as error:  # what the hub's client raises derives from these
        reason = str(error).strip().split("\n")[0]
        raise RunError(
            f'There is no folder "{hub_id}", nor a model on the hub: {reason}'
        ) from error
