"""Small synthetic run folders."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hyperlect.grid import Kind
from tests.model.models import tiny_model
from tests.tiny import saved_backbone

CELLS = [
    ("pos", "eng", Kind.SUPERVISED, "accuracy", 93.21),
    ("pos", "deu", Kind.UNSEEN_COMBINATION, "accuracy", 81.5),
    ("pos", "isl", Kind.TEXT_ONLY, "accuracy", 70.25),
    ("pos", "fao", Kind.UNTOUCHED, "accuracy", 61.0),
    ("ner", "eng", Kind.UNSEEN_COMBINATION, "span F1", 58.4),
    ("ner", "deu", Kind.SUPERVISED, "span F1", 79.9),
    ("mlm", "isl", Kind.SUPERVISED, "perplexity", 12.5),
    ("mlm", "fao", Kind.UNTOUCHED, "perplexity", 84.0),
]


def cell(task: str, language: str, kind: str, metric: str, score: float | None) -> dict[str, Any]:
    return {
        "task": task,
        "language": language,
        "kind": str(kind),
        "metric": metric,
        "score": score,
        "examples": 37,
        "units": 411,
        "unit": "words",
        "details": {"macro F1": 50.5},
        "language_source": "own vector",
    }


def write_results(
    folder: Path, cells: Sequence[dict[str, Any]] | None = None, **about: Any
) -> Path:
    """Write a run folder that has results and nothing else."""
    folder.mkdir(parents=True, exist_ok=True)
    cells = [cell(*values) for values in CELLS] if cells is None else cells
    results = {
        "format_version": 1,
        "name": folder.name,
        "method": "hyperx",
        "backbone": "builtin:e5-small",
        "seed": 3,
        "steps": 1200,
        "seconds": 4.5,
        "cells": list(cells),
        **about,
    }
    (folder / "results.json").write_text(json.dumps(results), encoding="utf-8")
    return folder


def write_run(folder: Path, **about: Any) -> Path:
    """Write a run folder that has everything."""
    write_results(folder, **about)
    events: list[dict[str, Any]] = [
        {"event": "train", "step": step, "loss": {"pos": 3 / step, "ner": 2 / step}}
        for step in range(10, 1210, 10)
    ]
    events += [
        {"event": "dev", "step": 600, "scores": {"pos:eng": 60.0}, "selection": 60.0, "best": True},
        {"event": "dev", "step": 1200, "scores": {"pos:eng": 59.0}, "selection": 59.0},
    ]
    lines = "".join(json.dumps(event) + "\n" for event in events)
    (folder / "metrics.jsonl").write_text(lines, encoding="utf-8")
    embeddings = {
        "languages": ["eng", "deu", "isl"],
        "vectors": [[0.0, 1.0, 0.5], [1.0, 0.0, 0.25], [-1.0, 0.5, 0.0]],
        "kinds": {"eng": "labelled", "deu": "labelled", "isl": "text only"},
    }
    (folder / "embeddings.json").write_text(json.dumps(embeddings), encoding="utf-8")
    (folder / "recipe.yaml").write_text("name: <tiny> & small\n", encoding="utf-8")
    (folder / "versions.json").write_text('{"torch": "2.0", "hyperlect": {"commit": null}}')
    return folder


def write_weights(run: Path, encoder: Path, method: str = "hyperx", **hypernet: Any) -> Path:
    """Put a tiny model into a run folder."""
    model = tiny_model(saved_backbone(encoder, "bert"), method, hypernet)
    model.save_pretrained(run)
    return run
