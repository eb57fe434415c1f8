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
}  # fmt: skip
METRICS = {"pos": "accuracy", "ner": "span F1"}


def add(folder: Path, setting: str, method: str, seed: int, scores: Scores, part: str = "") -> None:
    """Add a run to an experiment's folder."""
    run = folder / setting / part / method / f"seed-{seed}"
    cells, examples = [], {}
    for (task, language), right in scores.items():
        made = cell(task, language, KINDS[language], METRICS[task], 0.0)
        if right is None:
            made |= {"score": None, "note": "no raw text", "examples": 40}
        else:
            made |= {"score": 100 * sum(right) / len(right), "examples": len(right)}
            examples[f"{task}:{language}"] = [list(right), [1] * len(right)]
        cells.append(made)
    write_results(
        run, cells, method=method, seed=seed, seconds=60.0 * seed, trained_parameters=1_500_000
    )
    text = json.dumps({"format_version": 1, "cells": examples})
    (run / "examples.json").write_text(text)
    (run / "recipe.yaml").write_text("")
    record(folder, setting, method, seed, part)


def record(folder: Path, setting: str, method: str, seed: int, part: str = "") -> None:
    """Note a run in experiment.json."""
    path = folder / "experiment.json"
    data: dict[str, Any] = {"format_version": 1, "name": "made", "runs": []}
    if path.is_file():
        data = json.loads(path.read_text())
    place = "/".join(piece for piece in (setting, part, method, f"seed-{seed}") if piece)
    data["runs"].append(
        {"setting": setting, "part": part, "method": method, "seed": seed, "folder": place}
    )
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data))
