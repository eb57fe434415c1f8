"""experiment.json: which runs an experiment's folder holds, for the report and other readers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import RunError
from ..run_folder import write_json
from .curve import Point
from .plan import Experiment, Run, is_run_folder
from .state import State, folder_state

FORMAT_VERSION = 1
FILE = "experiment.json"


@dataclass(frozen=True)
class RecordedRun:
    """One run of an experiment's folder.

    Attributes:
        setting: the setting it belongs to.
        part: its part of the setting; empty where the setting is not in parts. The cells of all
            parts together make the setting.
        method, seed: what was trained.
        folder: the run folder; it need not be there yet.
        state: how far it is, read off the folder now. Scores are there where it is `State.DONE`.
        after: the setting whose run of the same method and seed it goes on from; empty for none.
        point: its place on a curve; None where the setting has none.
        cells: the few-shot cells, of which the curve is (``pos:mlt``); empty without a curve.
    """

    setting: str
    part: str
    method: str
    seed: int
    folder: Path
    state: State
    after: str = ""
    point: Point | None = None
    cells: tuple[str, ...] = ()


@dataclass(frozen=True)
class RecordedExperiment:
    """What experiment.json holds: the name, what it is for, the runs in the design's order."""

    name: str
    description: str
    runs: tuple[RecordedRun, ...]


def read_experiment(folder: Path) -> RecordedExperiment:
    """Read which runs an experiment's folder holds, to group them by setting, method and seed.

        for run in read_experiment(Path("runs/small-settings")).runs:
            run.setting, run.part, run.method, run.seed, run.folder, run.state

    Nothing but experiment.json and the run folders is needed, neither recipes nor data, so it works
    on finished results that were put elsewhere.

    Raises:
        RunError: there is no experiment.json, or it is malformed or of another version.
    """
    path = folder / FILE
    if not path.is_file():
        raise RunError(f"{folder} is not an experiment's folder: it holds no {FILE}.")
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        version = data["format_version"]
        if version != FORMAT_VERSION:
            raise RunError(f"{path} has format_version {version}; this reads {FORMAT_VERSION}.")
        runs = tuple(_run(entry, folder) for entry in data["runs"])
        return RecordedExperiment(str(data["name"]), str(data.get("description", "")), runs)
    except (ValueError, KeyError, TypeError) as error:
        raise RunError(f"{path} is not an experiment's record ({error!r}).") from None


def _run(entry: Mapping[str, Any], folder: Path) -> RecordedRun:
    place = folder / entry["folder"]
    on_curve = "examples" in entry
    return RecordedRun(
        setting=str(entry["setting"]),
        part=str(entry.get("part", "")),
        method=str(entry["method"]),
        seed=int(entry["seed"]),
        folder=place,
        state=folder_state(place),
        after=str(entry.get("after", "")),
        point=Point(int(entry["examples"]), int(entry["draw"])) if on_curve else None,
        cells=tuple(map(str, entry["cells"])) if on_curve else (),
    )


def write_experiment(experiment: Experiment, states: Mapping[str, State]) -> None:
    """Write experiment.json.

    Args:
        experiment: whose folder it is written into.
        states: the name of each run → how far it is.

    Raises:
        RunError: the folder is another experiment's.
    """
    path = experiment.folder / FILE
    check_owner(experiment)
    settings = {run.folder: run.setting for run in experiment.runs}
    runs = [
        {
            "setting": run.setting,
            "part": run.part,
            "method": run.method,
            "seed": run.seed,
            "folder": run.name,
            "state": states[run.name],
            **({"after": settings[run.after]} if run.after else {}),
            **_on_curve(run),
        }
        for run in experiment.runs
    ]
    data = {
        "format_version": FORMAT_VERSION,
        "name": experiment.name,
        "description": experiment.description,
        "runs": runs,
    }
    experiment.folder.mkdir(parents=True, exist_ok=True)
    write_json(path, data)


def _on_curve(run: Run) -> dict[str, Any]:
    """Return what is recorded of the runs of curves alone."""
    few = run.recipe.few_shot
    if run.point is None or few is None:
        return {}
    return {**vars(run.point), "cells": list(few.cells)}


def check_owner(experiment: Experiment) -> None:
    """Raise `RunError` where the folder is a run's, or holds an experiment of another name."""
    if is_run_folder(experiment.folder):
        raise RunError(
            f"{experiment.folder} is a run folder; name another for the experiment with --out."
        )
    if not (experiment.folder / FILE).is_file():
        return
    other = read_experiment(experiment.folder).name
    if other != experiment.name:
        raise RunError(
            f"{experiment.folder} holds the experiment {other}, not {experiment.name}; "
            "name another folder with --out."
        )
