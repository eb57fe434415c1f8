"""Tiny experiments, and processes that only pretend to train."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from hyperlect.experiment.board import Board, choose
from hyperlect.experiment.clock import Slice
from hyperlect.experiment.job import Command
from hyperlect.experiment.plan import Experiment, plan
from hyperlect.experiment.runner import Runner
from hyperlect.experiment.state import State

from ..project import write_project

GRID: dict[str, Any] = {
    "format_version": 1,
    "name": "tried",
    "methods": ["hyperx", "adapters"],
    "seeds": [1, 2],
    "settings": {"mixed": {"recipe": "recipe.yaml"}},
}

# What a process does in its run folder, which is its first argument.
DONE = "open(run + '/results.json', 'w').write('{\"cells\": []}')"
FAILS = "print('no such thing'); sys.exit(1)"
KILLED = "os.kill(os.getpid(), 9)"
WEIGHTS = "[open(run + '/' + name, 'w').close() for name in ('model.safetensors', 'training.json')]"
# Works for long; when asked to stop it leaves a checkpoint, and goes on from that at once.
LONG = """
here = run + '/checkpoint'
def stop(*_):
    os.makedirs(here)
    open(here + '/state.json', 'w').close()
    sys.exit(130)
if os.path.isdir(here):
    open(run + '/results.json', 'w').write('{"cells": ["resumed"]}')
else:
    signal.signal(signal.SIGTERM, stop)
    open(run + '/ready', 'w').close()
    time.sleep(60)
"""
DEAF = "signal.signal(signal.SIGTERM, signal.SIG_IGN); open(run + '/ready', 'w'); time.sleep(60)"


def write_grid(folder: Path, **keys: Any) -> Path:
    """Write a recipe with its data, and an experiment's file beside it."""
    write_project(folder, ("pos",))
    path = folder / "grid.yaml"
    path.write_text(yaml.safe_dump({**GRID, **keys}, sort_keys=False), encoding="utf-8")
    return path


def planned(folder: Path, **keys: Any) -> Experiment:
    return plan(write_grid(folder, **keys), folder / "out")


def pretend(experiment: Experiment, scripts: Mapping[str, str], default: str = DONE) -> Command:
    """Return what makes the commands of processes that run a script instead of training."""
    runs = {run.folder: run for run in experiment.runs}

    def command(file: Path, folder: Path, device: str, overrides: Sequence[str]) -> list[str]:
        run = runs[folder]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "recipe.yaml").write_text(run.recipe.dump(), encoding="utf-8")
        imports = "import os, signal, sys, time; run = sys.argv[1]\n"
        return [sys.executable, "-c", imports + scripts.get(run.name, default), str(folder)]

    return command


def runner(
    experiment: Experiment,
    scripts: Mapping[str, str] | None = None,
    processes: int = 1,
    time: Slice | None = None,
    only: Sequence[str] = (),
    default: str = DONE,
) -> Runner:
    """Return a runner of pretended work, with the states of the folders as they are."""
    board = Board(experiment, choose(experiment, only))
    make = pretend(experiment, scripts or {}, default)
    return Runner(board, [{}] * processes, time or Slice(), make=make)


def finish(folder: Path, recipe: str, cells: Sequence[str] = ()) -> None:
    """Make a run folder as it is when it is done, without weights."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "recipe.yaml").write_text(recipe, encoding="utf-8")
    (folder / "results.json").write_text(json.dumps({"cells": list(cells)}), encoding="utf-8")


def ran(states: Mapping[str, State]) -> set[str]:
    return {name for name, state in states.items() if state is State.DONE}
