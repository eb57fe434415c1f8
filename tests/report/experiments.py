"""A finished experiment made by hand: folders of results, without models."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .runs import cell, write_results

Scores = Mapping[tuple[str, str], Sequence[int] | None]
"""(task, language) → which of its examples are right; None where the method does not apply."""
KINDS = {
    "eng": "supervised", "isl": "unseen combination", "fao": "unseen language, untouched",
    "dan": "unseen language, untouched", "mlt": "unseen language, untouched",
}  # fmt: skip
METRICS = {"pos": "accuracy", "ner": "span F1"}


def add(
    folder: Path,
    setting: str,
    method: str,
    seed: int,
    scores: Scores,
    piece: str = "",
    point: tuple[int, int] | None = None,
    after: str = "",
    strata: Mapping[str, tuple[bool | None, bool | None]] | None = None,
) -> None:
    """Add a run to an experiment's folder.

    With a `point` (number of examples, draw) it is part of a curve of all its cells. `strata` has,
    by language, whether it is known to the encoder and whether it is related.
    """
    cells_of_curve = [f"{task}:{language}" for task, language in scores]
    run = list_run(folder, setting, method, seed, piece, point, after, cells_of_curve)
    cells, examples = [], {}
    for (task, language), right in scores.items():
        kind = "supervised" if point else KINDS[language]
        result = cell(task, language, kind, METRICS[task], 0.0)
        if right is None:
            result |= {"score": None, "note": "no raw text", "examples": 40, "units": 0}
        else:
            result |= {"score": 100 * sum(right) / len(right), "examples": len(right)}
            examples[f"{task}:{language}"] = [list(right), [1] * len(right)]
        if strata:
            names = ("known_to_encoder", "related")
            result |= dict(zip(names, strata[language], strict=True))
        cells.append(result)
    write_results(
        run, cells, method=method, seed=seed, seconds=60.0 * seed, trained_parameters=1_500_000
    )
    text = json.dumps({"format_version": 1, "cells": examples})
    (run / "examples.json").write_text(text)
    (run / "recipe.yaml").write_text("")


def list_run(
    folder: Path,
    setting: str,
    method: str,
    seed: int,
    piece: str = "",
    point: tuple[int, int] | None = None,
    after: str = "",
    cells: Sequence[str] = (),
) -> Path:
    """Note a run in experiment.json, and return its folder."""
    path = folder / "experiment.json"
    data: dict[str, Any] = {"format_version": 1, "name": "made", "runs": []}
    if path.is_file():
        data = json.loads(path.read_text())
    on_curve = f"examples-{point[0]}/draw-{point[1]}" if point else ""
    pieces = (setting, piece, method, on_curve, f"seed-{seed}")
    place = "/".join(filter(None, pieces))
    run: dict[str, Any] = {
        "setting": setting,
        "part": piece,
        "method": method,
        "seed": seed,
        "folder": place,
    }
    if after:
        run["after"] = after
    if point:
        run |= {"examples": point[0], "draw": point[1], "cells": list(cells)}
    data["runs"].append(run)
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data))
    return folder / place
