"""Checkpoints: everything a run needs to continue as if it had never stopped.

Tensors are safetensors, the rest is JSON; nothing is pickled. A checkpoint is written beside the
old one and then replaces it, so that a crash leaves one or the other.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..data.corpus import content_digest
from ..errors import Problems, RunError
from ..grid import Cell
from ..model import HyperX
from ..run_folder import (
    CHECKPOINT,
    CHECKPOINT_STATE,
    checkpoint_folder,
    load_exactly,
    load_tensors,
    read_json,
    save_tensors,
    write_json,
    writing,
)

FORMAT_VERSION = 2
FILES = (_WEIGHTS, _OPTIMIZER) = ("weights.safetensors", "optimizer.safetensors")
_BEST = "best.safetensors"


@dataclass
class State:
    """What changes from step to step besides weights and moments; JSON data.

    Attributes:
        step: optimiser steps done.
        best: the best selection score so far.
        waited: evaluations since then.
        seconds: time spent in training so far.
        finished: whether training came to its end (or stopped early).
        losses: by task, those that are not in the log yet.
    """

    step: int = 0
    best: float | None = None
    waited: int = 0
    seconds: float = 0.0
    finished: bool = False
    losses: dict[str, list[float]] = field(default_factory=dict)


def fingerprint(model: HyperX, rows: Mapping[Cell, Any], dev: Mapping[Cell, Any]) -> dict[str, str]:
    """Return digests of what a run depends on: its encoder, its training and development data.

    Args:
        model: on the encoder.
        rows, dev: encoded rows by cell.
    """
    digests = {"encoder": model.backbone.digest}
    for name, data in (("training data", rows), ("development data", dev)):
        digest = hashlib.sha256()
        for cell in sorted(data):
            columns = set(data[cell].column_names) - {"truncated"}  # new since version 0.1
            digest.update(f"/{cell}/{content_digest(data[cell], columns)}".encode())
        digests[name] = digest.hexdigest()
    return digests


def require_same(before: Mapping[str, str], now: Mapping[str, str]) -> None:
    """Raise `RunError` if the fingerprint of a run has changed."""
    problems = Problems()
    for name, digest in now.items():
        if before.get(name) != digest:
            problems.add(f"the {name}")
    problems.raise_if_any(
        RunError,
        "The run cannot be resumed, since these have changed. Restore them, or start a new run:",
    )


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
        optimizer: its moments are kept.
        state: JSON data: the step, the sampler, what early stopping needs, the fingerprint.

    Raises:
        RunError: it cannot be written.
    """
    folder, partial, old = (run / f"{CHECKPOINT}{end}" for end in ("", ".partial", ".old"))
    with writing(partial):
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
    save_tensors(parameters, partial / _WEIGHTS)
    if best is not None:
        save_tensors(best, partial / _BEST)
    save_tensors(_moments(parameters, optimizer), partial / _OPTIMIZER)
    write_json(partial / CHECKPOINT_STATE, {"format_version": FORMAT_VERSION, **state}, indent=None)
    with writing(folder):
        if folder.exists():
            shutil.rmtree(old, ignore_errors=True)  # an earlier crash may have left one
            folder.replace(old)
        partial.replace(folder)
        shutil.rmtree(old, ignore_errors=True)


def drop_checkpoint(run: Path) -> None:
    """Remove the checkpoint from a run folder."""
    for end in ("", ".old", ".partial"):
        shutil.rmtree(run / f"{CHECKPOINT}{end}", ignore_errors=True)


def load_checkpoint(
    run: Path, parameters: Mapping[str, nn.Parameter], optimizer: torch.optim.Optimizer
) -> tuple[dict[str, Any], dict[str, Tensor] | None]:
    """Read a checkpoint back into parameters and optimiser.

    Returns:
        The state that `save_checkpoint` wrote, and the best weights so far.

    Raises:
        RunError: there is none, it is of another version, or a tensor does not fit.
    """
    folder = checkpoint_folder(run)
    if folder is None:
        raise RunError(f"{run} holds no checkpoint to resume from.")
    state = read_json(folder / CHECKPOINT_STATE, version=FORMAT_VERSION)
    load_exactly(parameters, load_tensors(folder / _WEIGHTS))
    moments = load_tensors(folder / _OPTIMIZER)
    touched = {key.rpartition("/")[0] for key in moments}
    # The fused optimiser keeps its step counts beside the parameters, the others on the CPU.
    fused = optimizer.defaults.get("fused")
    for name, parameter in parameters.items():
        if name in touched:
            optimizer.state[parameter] = {
                "step": torch.zeros((), device=parameter.device if fused else "cpu"),
                "exp_avg": torch.zeros_like(parameter),
                "exp_avg_sq": torch.zeros_like(parameter),
            }
    load_exactly(_moments(parameters, optimizer), moments)
    best = load_tensors(folder / _BEST) if (folder / _BEST).is_file() else None
    return state, best


def _moments(
    parameters: Mapping[str, nn.Parameter], optimizer: torch.optim.Optimizer
) -> dict[str, Tensor]:
    """Return the optimiser's own moments by name. Untouched parameters have none."""
    return {
        f"{name}/{kind}": value
        for name, parameter in parameters.items()
        for kind, value in optimizer.state.get(parameter, {}).items()
    }
