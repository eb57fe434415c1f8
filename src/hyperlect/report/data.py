"""Reading a run folder: what the report needs of it, checked, and nothing else."""

from __future__ import annotations

import json
import math
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import RunError
from ..evaluation.results import FILE, Results, read_results


@dataclass(frozen=True)
class Curves:
    """What `metrics.jsonl` says of training: (step, value) pairs in order of steps."""

    losses: dict[str, list[tuple[int, float]]]
    selection: list[tuple[int, float]]
    best_step: int | None


@dataclass(frozen=True)
class Embeddings:
    """The language embeddings: codes, an array (languages, e), and code → sort of data."""

    languages: list[str]
    vectors: NDArray[np.float64]
    kinds: dict[str, str]


@dataclass(frozen=True)
class Run:
    """One run folder as the report sees it. What is ``None`` was not in the folder."""

    folder: Path
    results: Results
    curves: Curves | None
    embeddings: Embeddings | None
    recipe: str | None
    versions: dict[str, str] | None


def read_run(folder: Path) -> Run:
    """Read one run folder.

    Raises `RunError` when there is no such folder, when it has no results, or when a file is
    malformed. Files other than `results.json` may be missing.
    """
    if not folder.is_dir():
        raise RunError(f"{folder} is not a run folder. `hyperlect train RECIPE` makes one.")
    results = read_results(folder)
    if not results.cells:
        raise RunError(
            f"{folder / FILE} holds no cells, so there is nothing to report. "
            f"Make it with: hyperlect evaluate {folder}"
        )
    recipe = folder / "recipe.yaml"
    return Run(
        folder=folder,
        results=results,
        curves=_read_curves(folder / "metrics.jsonl"),
        embeddings=_read_embeddings(folder / "embeddings.json"),
        recipe=_without_folders(recipe.read_text("utf-8")) if recipe.is_file() else None,
        versions=_read_versions(folder / "versions.json"),
    )


def _without_folders(recipe: str) -> str:
    """Write … for the folder that all files of a recipe share: a page is shown to others."""
    paths = re.findall(r"(?<=[\s'\"])/[^\s'\",\]]+", recipe)
    shared = os.path.commonpath(paths) if len(paths) > 1 else ""
    return recipe if len(shared) < 2 else recipe.replace(f"{shared}/", "…/").replace(shared, "…")


def _read_json(path: Path, remedy: str) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise RunError(f"{path} is not JSON ({error}). {remedy}") from None


def _read_curves(path: Path) -> Curves | None:
    """Read the log of training; a step that was logged again after a resume counts once."""
    if not path.is_file():
        return None
    losses: dict[str, dict[int, float]] = {}
    selection: dict[int, float] = {}
    best_step: int | None = None
    lines = path.read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(lines, start=1):
        try:
            entry = json.loads(line) if line.strip() else {}
            if entry.get("event") == "train":
                for task, loss in entry["loss"].items():
                    losses.setdefault(task, {})[int(entry["step"])] = _number(loss)
            elif entry.get("event") == "dev":
                selection[int(entry["step"])] = _number(entry.get("selection"))
                best_step = int(entry["step"]) if entry.get("best") else best_step
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            if number == len(lines):  # a run that was cut off, or still goes on, ends mid-line
                break
            raise RunError(
                f"{path}:{number}: not an event of training ({error!r}). "
                "Remove the line, or the file to report without learning curves."
            ) from None
    return Curves(
        {task: _in_order(points) for task, points in losses.items()},
        _in_order(selection),
        best_step,
    )


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)


def _in_order(points: dict[int, float]) -> list[tuple[int, float]]:
    return sorted((step, value) for step, value in points.items() if math.isfinite(value))


def _read_embeddings(path: Path) -> Embeddings | None:
    if not path.is_file():
        return None
    remedy = "Remove the file to report without the map of languages."
    raw = _read_json(path, remedy)
    try:
        languages = [str(code) for code in raw["languages"]]
        vectors = np.asarray(raw["vectors"], dtype=np.float64)
        kinds = {str(code): str(kind) for code, kind in raw.get("kinds", {}).items()}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise RunError(f"{path} is not language embeddings ({error!r}). {remedy}") from None
    if vectors.ndim != 2 or len(vectors) != len(languages) or not np.isfinite(vectors).all():
        raise RunError(
            f"{path} has {len(languages)} languages and vectors of shape {vectors.shape}: one "
            f"finite vector a language is needed, all of one length. {remedy}"
        )
    return Embeddings(languages, vectors, kinds)


def _read_versions(path: Path) -> dict[str, str] | None:
    if not path.is_file():
        return None
    raw = _read_json(path, "Remove the file to report without versions.")
    return dict(_flat("", raw))


def _flat(prefix: str, value: Any) -> list[tuple[str, str]]:
    if value is None:
        return []
    if isinstance(value, dict):
        return [pair for key, inner in value.items() for pair in _flat(f"{prefix}.{key}", inner)]
    return [(prefix.lstrip(".") or "versions", str(value))]
