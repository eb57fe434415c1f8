"""Checkpoints: everything a run needs to continue as if it had never stopped.

A checkpoint is one safetensors file, named by its step, with everything else as JSON in its header,
and with checksums. It gets its name when all of it is on the disk, and only then an older one is
removed. So whatever happens, the last good one is there.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..backbone import Backbone
from ..data.corpus import content_digest
from ..errors import Problems, RunError
from ..grid import Cell
from ..model import HyperX
from ..run_folder import (
    CHECKPOINT,
    checkpoints,
    load_exactly,
    load_tensors,
    load_tensors_and_metadata,
    make_folder,
    read_json,
    save_tensors,
    writing,
)
from .processes import gather

FORMAT_VERSION = 3


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
        examples: how many were drawn, by cell; None if an earlier version began without counting.
        skipped: steps whose loss or gradient was not finite.
        constant: tasks whose best dev score was that of a constant answer → that score.
        saving: seconds spent on checkpoints.
    """

    step: int = 0
    best: float | None = None
    waited: int = 0
    seconds: float = 0.0
    finished: bool = False
    losses: dict[str, list[float]] = field(default_factory=dict)
    examples: dict[str, int] | None = field(default_factory=dict)
    skipped: int = 0
    constant: dict[str, float] = field(default_factory=dict)
    saving: float = 0.0


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


def renewed(before: Mapping[str, str], backbone: Backbone) -> dict[str, str]:
    """Return a fingerprint, with the digest of today if that of its encoder is an older one."""
    same = backbone.has_digest(before.get("encoder"))
    return {**before, "encoder": backbone.digest} if same else dict(before)


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
    run: Path | None,
    parameters: Mapping[str, nn.Parameter],
    best: Mapping[str, Tensor] | None,
    optimizer: torch.optim.Optimizer,
    state: Mapping[str, Any],
    keep: int = 1,
) -> None:
    """Write a checkpoint into a run folder, and remove those that it makes superfluous.

    Args:
        run: the run folder; None in all but the main process, which then only give their shares.
        parameters: the trained parameters by name, in the optimiser's order.
        best: the weights of the best evaluation so far, if there was one.
        optimizer: its moments are kept.
        state: JSON data: the step, the sampler, what early stopping needs, the fingerprint.
        keep: how many checkpoints the run then has at most.

    Raises:
        RunError: it cannot be written. The earlier ones are still there.
    """
    kinds = {"weights": parameters, "optimizer": _moments(parameters, optimizer), "best": best}
    named = {
        f"{kind}/{n}": t for kind, by_name in kinds.items() for n, t in (by_name or {}).items()
    }
    tensors = gather(named, keep=run is not None)
    if run is None:
        return
    folder = run / CHECKPOINT
    path = folder / f"{state['step']:09d}.safetensors"
    with writing(path):
        make_folder(folder)
        for partial in folder.glob("*.partial"):  # of a process that was killed
            partial.unlink()
        size = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
        if (free := shutil.disk_usage(folder).free) < size:
            sizes = f"it takes {size / 1e6:,.0f} MB, and the disk has {free / 1e6:,.0f} MB free"
            raise OSError(sizes)
    about = {"format_version": str(FORMAT_VERSION), "state": json.dumps(state)}
    save_tensors(tensors, path, about)
    # A later one is damaged, or this training would have gone on from there.
    older = [file for file in checkpoints(run) if file.is_file() and file.name < path.name]
    with writing(folder):
        for file in set(folder.iterdir()) - {path, *older[: keep - 1]}:
            file.unlink()
    shutil.rmtree(run / f"{CHECKPOINT}.old", ignore_errors=True)


def drop_checkpoints(run: Path) -> None:
    """Remove all checkpoints from a run folder."""
    for end in ("", ".old", ".partial"):
        shutil.rmtree(run / f"{CHECKPOINT}{end}", ignore_errors=True)


def read_checkpoint(path: Path) -> tuple[dict[str, Any], dict[str, dict[str, Tensor]]]:
    """Read one of a run's `checkpoints`.

    Returns:
        The state that `save_checkpoint` wrote; and under weights, optimizer and best tensors by
        name.

    Raises:
        RunError: it is damaged, or of another version.
    """
    kinds: dict[str, dict[str, Tensor]] = {"weights": {}, "optimizer": {}, "best": {}}
    if path.is_dir():  # of version 0.1
        state = read_json(path / "state.json", version=2)
        for kind, tensors in kinds.items():
            file = path / f"{kind}.safetensors"
            if kind != "best" or file.is_file():
                tensors |= load_tensors(file)
        return state, kinds
    tensors, about = load_tensors_and_metadata(path, checked=True)
    if (version := about.get("format_version")) != str(FORMAT_VERSION):
        raise RunError(
            f"{path} has format_version {version}; this version of hyperlect "
            f"reads {FORMAT_VERSION}."
        )
    for name, tensor in tensors.items():
        kind, _, rest = name.partition("/")
        kinds[kind][rest] = tensor
    return json.loads(about["state"]), kinds


def load_checkpoint(
    run: Path, parameters: Mapping[str, nn.Parameter], optimizer: torch.optim.Optimizer
) -> tuple[dict[str, Any], dict[str, Tensor] | None, dict[Path, str]]:
    """Read the last good checkpoint back into parameters and optimiser.

    Returns:
        The state that `save_checkpoint` wrote, the best weights so far, and later checkpoints that
        are damaged, with what is wrong.

    Raises:
        RunError: there is none, none is whole, or a tensor does not fit.
    """
    damaged: dict[Path, str] = {}
    for path in checkpoints(run):
        try:
            state, kinds = read_checkpoint(path)
            break
        except (RunError, OSError) as error:
            damaged[path] = str(error)
    else:
        problems = Problems()
        for message in damaged.values():
            problems.add(message)
        hint = f"Remove {run / CHECKPOINT}, and the training starts over"
        problems.raise_if_any(RunError, f"No checkpoint of {run} can be read. {hint}:")
        raise RunError(f"{run} holds no checkpoint to resume from.")
    load_exactly(parameters, kinds["weights"])
    touched = {key.rpartition("/")[0] for key in kinds["optimizer"]}
    # The fused optimiser keeps its step counts beside the parameters, the others on the CPU.
    fused = optimizer.defaults.get("fused")
    for name, parameter in parameters.items():
        if name in touched:
            optimizer.state[parameter] = {
                "step": torch.zeros((), device=parameter.device if fused else "cpu"),
                "exp_avg": torch.zeros_like(parameter),
                "exp_avg_sq": torch.zeros_like(parameter),
            }
    load_exactly(_moments(parameters, optimizer), kinds["optimizer"])
    return state, kinds["best"] or None, damaged


def _moments(
    parameters: Mapping[str, nn.Parameter], optimizer: torch.optim.Optimizer
) -> dict[str, Tensor]:
    """Return the optimiser's own moments by name. Untouched parameters have none."""
    return {
        f"{name}/{kind}": value
        for name, parameter in parameters.items()
        for kind, value in optimizer.state.get(parameter, {}).items()
    }
