"""Reading and writing tensors: safetensors only, and exactly or not at all."""

from __future__ import annotations

from collections.abc import Mapping
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
