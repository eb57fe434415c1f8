"""What every example adds to its cell's score, for tests of whether two runs differ by chance."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import RunError
from ..grid import Cell
from .results import CellResult

FORMAT_VERSION = 1
FILE = "examples.json"


def write_examples(folder: Path, results: Iterable[CellResult]) -> None:
    """Write examples.json into a run folder: two lists of counts a cell, as `Score.parts` has them.

    Cells without such counts (perplexities, and what a method does not apply to) are left out.
    """
    cells = {
        f"{result.task}:{result.language}": [
            list(column) for column in zip(*result.parts, strict=True)
        ]
        for result in results
        if result.parts
    }
    data = {"format_version": FORMAT_VERSION, "cells": cells}
    (folder / FILE).write_text(json.dumps(data, separators=(",", ":")) + "\n", encoding="utf-8")


def read_examples(folder: Path) -> dict[Cell, NDArray[np.int64]]:
    """Read a run's examples.json.

    Returns:
        By cell (2, examples): numerators and denominators. Empty where the run has no such file.

    Raises:
        RunError: it is malformed, or of another version.
    """
    path = folder / FILE
    if not path.is_file():
        return {}
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        version = data["format_version"]
        cells = {
            Cell(*name.rsplit(":", 1)): np.asarray(counts, dtype=np.int64)
            for name, counts in data["cells"].items()
        }
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RunError(f"{path} is malformed ({error!r}). Evaluate the run again.") from None
    if version != FORMAT_VERSION:
        raise RunError(f"{path} has format_version {version}; this reads {FORMAT_VERSION}.")
    if any(counts.ndim != 2 or len(counts) != 2 for counts in cells.values()):
        raise RunError(f"{path} has cells without two lists of counts. Evaluate the run again.")
    return cells
