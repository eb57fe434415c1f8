"""What changes from step to step of a training, and what must stay the same where it is resumed."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..data.arrow import content_digest
from ..errors import Problems, RunError
from ..grid import Cell
from ..model import HyperX


@dataclass
class State:
    """What changes from step to step besides weights and moments; JSON data.

    Attributes:
        step: optimiser steps done.
        best: the best selection score so far.
        waited: evaluations since then.
        seconds: time spent in training so far.
        finished: whether training came to its end (or stopped early).
        losses: by task, those that no line of the log has told of yet.
    """

    step: int = 0
    best: float | None = None
    waited: int = 0
    seconds: float = 0.0
    finished: bool = False
    losses: dict[str, list[float]] = field(default_factory=dict)


def basis(model: HyperX, rows: Mapping[Cell, Any], dev: Mapping[Cell, Any]) -> dict[str, str]:
    """Return digests of what a run rests on: its encoder, its training and its development data.

    Args:
        model: on the encoder.
        rows, dev: encoded rows by cell.
    """
    return {
        "encoder": model.backbone.digest,
        "training data": _digest(rows),
        "development data": _digest(dev),
    }


def require_same(before: Mapping[str, str], now: Mapping[str, str]) -> None:
    """Raise `RunError` where a run no longer rests on what it did; both as `basis` gives them."""
    problems = Problems()
    for name, digest in now.items():
        if before.get(name) != digest:
            what = "its weights" if name == "encoder" else "texts or labels"
            problems.add(f"the {name} ({what})")
    problems.raise_if_any(
        RunError,
        "The run cannot be resumed, for what it rests on has changed. Bring it back, or start a "
        "new run:",
    )


def _digest(rows: Mapping[Cell, Any]) -> str:
    digest = hashlib.sha256()
    for cell in sorted(rows):
        digest.update(f"/{cell}/{content_digest(rows[cell])}".encode())
    return digest.hexdigest()
