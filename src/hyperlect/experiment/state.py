"""What has become of a run, read off its folder."""

from __future__ import annotations

import shutil
from enum import StrEnum
from functools import cache
from pathlib import Path

from ..errors import RunError
from ..evaluation.results import FILE as RESULTS
from ..run_folder import read_json_or_empty
from ..training import RECIPE, TRAINING
from ..training.checkpoint import has_checkpoint

ERROR = "error.txt"
"""In the folder of a run that failed: all that it said."""


class State(StrEnum):
    """How far a run has come."""

    MISSING = "missing"
    """Nothing is there, or nothing that could be gone on with."""
    TRAINING = "training"
    """It has a checkpoint to go on from."""
    TRAINED = "trained"
    """It remains to be evaluated."""
    DONE = "done"
    """Its results are there, with or without the weights."""
    FAILED = "failed"
    """error.txt in its folder says why."""
    CHANGED = "changed"
    """Its folder was made by another recipe."""
    BLOCKED = "blocked"
    """The run that it goes on from has failed, or has no weights."""


LEFT = frozenset({State.MISSING, State.TRAINING, State.TRAINED})
"""States of runs that there is something to do for."""


def folder_state(folder: Path) -> State:
    """Return how far a run folder is; whether its recipe is the right one is asked elsewhere."""
    if _has_results(folder):
        return State.DONE
    if (folder / ERROR).is_file():
        return State.FAILED
    if is_trained(folder):
        return State.TRAINED
    return State.TRAINING if has_checkpoint(folder) else State.MISSING


def is_trained(folder: Path) -> bool:
    """Whether a run folder has its weights, for evaluation and for others to go on from."""
    # training.json is written when the weights are whole
    return all((folder / name).is_file() for name in ("model.safetensors", TRAINING))


def _has_results(folder: Path) -> bool:
    """Whether results.json is there and whole: its writing may have been cut off."""
    path = folder / RESULTS
    try:
        found = path.stat()
    except OSError:
        return False
    return _is_whole(path, found.st_mtime_ns, found.st_size)


@cache  # it is asked every few seconds of hundreds of runs
def _is_whole(path: Path, modified: int, size: int) -> bool:
    return "cells" in read_json_or_empty(path)


def clear(folder: Path) -> None:
    """Remove a run folder of which nothing is to be kept.

    Raises:
        RunError: what lies there is not a run.
    """
    if not folder.is_dir():
        return
    there = {path.name for path in folder.iterdir()}
    if there - {ERROR} and RECIPE not in there:
        raise RunError(
            f"{folder} is in use by something else: it holds {', '.join(sorted(there))}."
        )
    shutil.rmtree(folder)
