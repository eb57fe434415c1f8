"""Checkpoints: everything a run needs to go on as if it had never stopped.

Tensors are safetensors, the rest is JSON; nothing is pickled. A checkpoint is written beside the
old one and then takes its place, so that a crash leaves one or the other.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import Problems, RunError
from ..run_folder import load_exactly, load_tensors, save_tensors

FORMAT_VERSION = 2
FOLDER = "checkpoint"
_WEIGHTS, _BEST, _OPTIMIZER, _STATE = (
    "weights.safetensors",
    "best.safetensors",
    "optimizer.safetensors",
    "state.json",
)
_MOMENTS = ("step", "exp_avg", "exp_avg_sq")  # of AdamW


def save_checkpoint(
    run: Path,
    parameters: Mapping[str, nn.Parameter],
    best: Mapping[str, Tensor] | None,
    optimizer: torch.optim.Optimizer,
    state: Mapping[str, Any],
) -> None:
    """Write a checkpoint into a run folder.

    Args:
        run: the run folder.
        parameters: the trained parameters by name, in the optimiser's order.
        best: the weights of the best evaluation so far, if there was one.
        optimizer: whose moments are kept.
        state: JSON data: the step, the sampler, what is needed for early stopping, what the run
            rests on.
    """
    partial = run / f"{FOLDER}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    save_tensors(parameters, partial / _WEIGHTS)
    if best is not None:
        save_tensors(best, partial / _BEST)
    save_tensors(_moments(parameters, optimizer), partial / _OPTIMIZER)
    text = json.dumps({"format_version": FORMAT_VERSION, **state})
    (partial / _STATE).write_text(text + "\n", encoding="utf-8")
    old = run / f"{FOLDER}.old"
    if (run / FOLDER).exists():
        shutil.rmtree(old, ignore_errors=True)  # an earlier crash may have left one
        (run / FOLDER).replace(old)
    partial.replace(run / FOLDER)
    shutil.rmtree(old, ignore_errors=True)


def has_checkpoint(run: Path) -> bool:
    """Whether the run folder holds a checkpoint to resume from."""
    return (run / FOLDER / _STATE).is_file() or (run / f"{FOLDER}.old" / _STATE).is_file()


def drop_checkpoint(run: Path) -> None:
    """Remove the checkpoint from a run folder."""
    for name in (FOLDER, f"{FOLDER}.old", f"{FOLDER}.partial"):
        shutil.rmtree(run / name, ignore_errors=True)


def load_checkpoint(
    run: Path, parameters: Mapping[str, nn.Parameter], optimizer: torch.optim.Optimizer
) -> tuple[dict[str, Any], dict[str, Tensor] | None]:
    """Read a checkpoint back into parameters and optimiser.

    Returns:
        The state given to `save_checkpoint`, and the best weights so far.

    Raises:
        RunError: there is none, it is of another version, or a tensor does not fit.
    """
    folder = run / FOLDER
    if not (folder / _STATE).is_file():  # a crash between the two renames
        folder = run / f"{FOLDER}.old"
    if not (folder / _STATE).is_file():
        raise RunError(f"{run} holds no checkpoint to resume from.")
    state: dict[str, Any] = json.loads((folder / _STATE).read_text(encoding="utf-8"))
    version = state.pop("format_version", None)
    if version != FORMAT_VERSION:
        raise RunError(
            f"{folder} has format_version {version}; this hyperlect reads {FORMAT_VERSION}."
        )
    load_exactly(parameters, load_tensors(folder / _WEIGHTS))
    _restore_moments(parameters, optimizer, load_tensors(folder / _OPTIMIZER))
    best = load_tensors(folder / _BEST) if (folder / _BEST).is_file() else None
    return state, best


def _moments(
    parameters: Mapping[str, nn.Parameter], optimizer: torch.optim.Optimizer
) -> dict[str, Tensor]:
    """Name the optimiser's tensors ``{parameter}/{key}``; untouched parameters have none."""
    return {
        f"{name}/{key}": value
        for name, parameter in parameters.items()
        for key, value in optimizer.state.get(parameter, {}).items()
        if isinstance(value, Tensor)
    }


def _restore_moments(
    parameters: Mapping[str, nn.Parameter],
    optimizer: torch.optim.Optimizer,
    moments: Mapping[str, Tensor],
) -> None:
    """Give the optimiser its moments back. A parameter has all of them, or none yet."""
    problems = Problems()
    by_name: dict[str, dict[str, Tensor]] = {}
    for key, value in moments.items():
        name, _, kind = key.rpartition("/")
        by_name.setdefault(name, {})[kind] = value
        if name not in parameters:
            problems.add(f"{key} is unexpected")
        elif kind != "step" and value.shape != parameters[name].shape:
            shapes = f"{tuple(value.shape)}, not {tuple(parameters[name].shape)}"
            problems.add(f"{key} has the shape {shapes}")
    for name, state in by_name.items():
        for kind in _MOMENTS:
            if kind not in state:
                problems.add(f"{name}/{kind} is missing")
    problems.raise_if_any(RunError, "The checkpoint's optimizer does not fit the model:")
    # The fused optimiser keeps its step counts beside the parameters, the others on the CPU.
    fused = optimizer.defaults.get("fused")
    for name, state in by_name.items():
        device = parameters[name].device
        optimizer.state[parameters[name]] = {
            kind: value.to(device if kind != "step" or fused else "cpu")
            for kind, value in state.items()
        }
