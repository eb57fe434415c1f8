"""Tiny experiments, and trainings that are only pretended."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console

from hyperlect.experiment import Experiment, Progress, Runner, choose, make_engine, plan
from hyperlect.experiment.engines import Engine
from hyperlect.recipe import Recipe
from hyperlect.run_folder import RunState

from ..project import write_project

GRID: dict[str, Any] = {
    "format_version": 1,
    "name": "tried",
    "methods": ["hyperx", "adapters"],
    "seeds": [1, 2],
    "settings": {"mixed": {"recipe": "recipe.yaml"}},
}
NAMES = [f"mixed/{method}/seed-{seed}" for method in ("hyperx", "adapters") for seed in (1, 2)]
FIRST = {"recipe": "recipe.yaml"}
CHAIN = {"b": {**FIRST, "after": "a"}, "a": FIRST}

Script = Callable[[Path], None]
"""What a pretended training does in its run folder."""


def write_grid(folder: Path, **keys: Any) -> Path:
    """Write a recipe with its data, and an experiment's file beside it."""
    write_project(folder, ("pos",))
    path = folder / "grid.yaml"
    path.write_text(yaml.safe_dump({**GRID, **keys}, sort_keys=False), encoding="utf-8")
    return path


def planned(folder: Path, **keys: Any) -> Experiment:
    return plan(write_grid(folder, **keys), folder / "out")


def progress_of(experiment: Experiment, *only: str) -> Progress:
    return Progress(experiment, choose(experiment, only))


def finish(folder: Path, recipe: Recipe | str, weights: bool = False) -> None:
    """Make a run folder as it is when it is done, with or without (empty) weights."""
    folder.mkdir(parents=True, exist_ok=True)
    text = recipe if isinstance(recipe, str) else recipe.dump(folder)
    (folder / "recipe.yaml").write_text(text, encoding="utf-8")
    (folder / "results.json").write_text('{"cells": []}', encoding="utf-8")
    if weights:
        train(folder)


def train(folder: Path) -> None:
    for name in ("model.safetensors", "training.json"):
        (folder / name).touch()


def save(folder: Path) -> None:
    (folder / "checkpoint").mkdir()
    (folder / "checkpoint" / "000000001.safetensors").touch()


def pretend(
    monkeypatch: pytest.MonkeyPatch, scripts: Mapping[str, Script] | None = None
) -> list[str]:
    """Put scripts in the place of training in this process. Returns the list of what is begun.

    Args:
        monkeypatch: of the test.
        scripts: run name → what its training does before it leaves its weights.
    """
    begun: list[str] = []

    def carry_out(recipe: Recipe, run: Path, *_: object) -> None:
        name = "/".join(run.parts[-3:])
        begun.append(name)
        (run / "recipe.yaml").write_text(recipe.dump(run), encoding="utf-8")
        (scripts or {}).get(name, lambda folder: None)(run)
        train(run)

    def resume(run: Path, device: str, console: Console, recipe: Recipe) -> None:
        assert (run / "checkpoint").is_dir()
        carry_out(recipe, run)

    def evaluate_run(run: Path, **_: object) -> None:
        (run / "results.json").write_text(json.dumps({"cells": []}), encoding="utf-8")

    monkeypatch.setattr("hyperlect.training.start", carry_out)
    monkeypatch.setattr("hyperlect.training.resume", resume)
    monkeypatch.setattr("hyperlect.evaluation.evaluate_run", evaluate_run)
    return begun


def run_all(
    experiment: Experiment, engine: Engine | None = None, only: Sequence[str] = (), **options: Any
) -> dict[str, str]:
    """Work through an experiment, in this process by default. Returns the statuses by run name."""
    progress = progress_of(experiment, *only)
    Runner(progress, engine or make_engine("cpu"), **options).run()
    return statuses(progress)


def statuses(progress: Progress) -> dict[str, str]:
    return {run.name: progress.status(run).name for run in progress.experiment.runs}


def done(statuses: Mapping[str, str]) -> set[str]:
    return {name for name, status in statuses.items() if status == RunState.DONE.name}
