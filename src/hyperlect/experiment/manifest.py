"""experiment.json, which lists the runs of an experiment's folder, and how far each run is."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path

from pydantic import BaseModel

from ..errors import RunError, listed
from ..run_folder import (
    ERROR,
    EXPERIMENT,
    LOCK,
    RunState,
    empty,
    is_run,
    locked,
    read_json,
    run_state,
    write_json,
)
from .plan import Experiment, Run, differences, foreign

FORMAT_VERSION = 1
LEFT = frozenset({RunState.MISSING, RunState.INTERRUPTED, RunState.TRAINED})
"""States of runs that have work left."""


class ManifestRun(BaseModel, frozen=True):
    """One run of an experiment's folder.

    Attributes:
        setting: the setting it belongs to.
        part: its part of the setting; empty where the setting has no parts. The cells of all parts
            together make the setting.
        method, seed: what was trained.
        folder: the run folder, which may not exist yet.
        after: the setting whose run of the same method and seed it starts from; empty for none.
        examples, draw: its point on a curve, see `Point`; None where the setting has no curve.
        cells: the few-shot cells that the curve is about (``pos:mlt``); empty without a curve.
    """

    setting: str
    part: str = ""
    method: str
    seed: int
    folder: Path
    after: str = ""
    examples: int | None = None
    draw: int | None = None
    cells: tuple[str, ...] = ()

    @property
    def state(self) -> RunState:
        """How far it is, read off the folder. Scores exist where it is `RunState.DONE`."""
        return run_state(self.folder)


class Manifest(BaseModel, frozen=True):
    """What experiment.json holds: name, description, and the runs in the order of the config."""

    name: str
    description: str = ""
    runs: tuple[ManifestRun, ...]


def read_manifest(folder: Path) -> Manifest:
    """Read which runs an experiment's folder holds, to group them by setting, method and seed.

        for run in read_manifest(Path("runs/small-settings")).runs:
            run.setting, run.part, run.method, run.seed, run.folder, run.state

    It needs experiment.json and the run folders, but neither recipes nor data, so it also reads
    finished results that were copied elsewhere. The states in the file are not trusted.

    Raises:
        RunError: there is no experiment.json, or it is malformed or of another version.
    """
    path = folder / EXPERIMENT
    if not path.is_file():
        raise RunError(f"{folder} is not an experiment's folder: it holds no {EXPERIMENT}.")
    data = read_json(path, version=FORMAT_VERSION)
    try:
        for entry in data["runs"]:
            name = Path(entry["folder"])
            if name.is_absolute() or ".." in name.parts:
                raise ValueError(f"{name} is not a folder inside of it")
            entry["folder"] = folder / entry["folder"]
        return Manifest.model_validate(data)
    except (ValueError, KeyError, TypeError) as error:
        raise RunError(f"{path} is not the manifest of an experiment: {error!r}.") from None


def check_owner(experiment: Experiment) -> None:
    """Raise `RunError` if the folder is a run's, or holds an experiment of another name."""
    folder, name = experiment.folder, experiment.name
    owner = read_manifest(folder).name if (folder / EXPERIMENT).is_file() else name
    if owner != name or is_run(folder):
        what = "is a run folder" if is_run(folder) else f"holds the experiment {owner}, not {name}"
        raise RunError(f"{folder} {what}. Name another folder for {name} with --out.")


class Hold(StrEnum):
    """Why a run cannot be continued, though its own folder does not say so."""

    CHANGED = "changed"
    """Its folder was made by another recipe."""
    BLOCKED = "blocked"
    """The run that it starts from has failed, has changed, or has no weights."""


RunStatus = RunState | Hold


class Progress:
    """How far the runs of an experiment are, and which of them have work left.

    Args:
        experiment: all of its runs.
        chosen: those that are to be run; see `plan.choose`.

    Attributes:
        changed: names of runs whose folder another recipe made → what differs.
        failures: names of runs that failed and could not say so in their folder → the message.
    """

    def __init__(self, experiment: Experiment, chosen: tuple[Run, ...]) -> None:
        self.experiment, self.chosen = experiment, chosen
        self.failures: dict[str, str] = {}
        self.changed = {r.name: d for r in experiment.runs if (d := differences(r, experiment))}

    def status(self, run: Run) -> RunStatus:
        """Return how far a run is; its folder is read each time."""
        if run.name in self.changed:
            return Hold.CHANGED
        state = run_state(run.folder)
        if state in LEFT and run.name in self.failures:
            return RunState.FAILED
        return Hold.BLOCKED if state in LEFT and self.obstacle(run) else state

    def obstacle(self, run: Run) -> str:
        """Say why the weights that a run starts from will not come; empty if they may."""
        if run.after is None:
            return ""
        status = self.status(run.after)
        if status is not Hold.CHANGED and (status in LEFT or run.can_start):
            return ""
        reason = "has results but no weights" if status is RunState.DONE else f"is {status}"
        return f"{run.after.name} {reason}"

    def reason(self, run: Run) -> str:
        """Say why a run failed, has changed or is blocked."""
        if run.name in self.changed:
            return listed(self.changed[run.name], 5)
        failure = self.failures.get(run.name) or f"see {run.folder / ERROR}"
        return self.obstacle(run) if self.status(run) is Hold.BLOCKED else failure

    def write(self) -> None:
        """Write experiment.json.

        Raises:
            RunError: the folder belongs to another experiment, or cannot be written.
        """
        check_owner(self.experiment)
        entries = []
        for run in self.experiment.runs:
            entry = {key: getattr(run, key) for key in ("setting", "part", "method", "seed")}
            entry |= {"folder": run.name, "state": self.status(run)}
            entry |= {"after": run.after.setting} if run.after else {}
            if run.point and run.recipe.few_shot:
                entry |= {**asdict(run.point), "cells": list(run.recipe.few_shot.cells)}
            entries.append(entry)
        header = {"name": self.experiment.name, "description": self.experiment.description}
        data = {"format_version": FORMAT_VERSION, **header, "runs": entries}
        write_json(self.experiment.folder / EXPERIMENT, data)

    def retry(self) -> None:
        """Forget the failures of the chosen runs, so that they resume or start again."""
        for run in self.chosen:
            if self.status(run) is RunState.FAILED:
                (run.folder / ERROR).unlink()

    def redo(self) -> list[Run]:
        """Clear the folders of chosen runs that another recipe made, and of what started from them.

        Raises:
            RunError: another process works on one of them, so nothing is removed; or what lies
                there is not a run.
        """
        stale = {run for run in self.chosen if run.name in self.changed}
        runs = [r for r in self.experiment.runs if stale & {r, *r.before()} and r.folder.is_dir()]
        with ExitStack() as stack:
            for run in runs:
                stack.enter_context(locked(run.folder))
            for run in runs:
                clear(run.folder)
                self.changed.pop(run.name, None)
        return runs


def is_locked(run: Path) -> bool:
    """Whether a process works on a run."""
    if not (run / LOCK).exists():
        return False
    try:
        with locked(run):
            return False
    except RunError:
        return True


def clear(run: Path) -> None:
    """Empty a run folder, but for the lock held on it.

    Raises:
        RunError: what lies there is not a run, or cannot be removed.
    """
    if names := foreign(run):
        raise RunError(f"{run} is not a run folder: it holds {names}.")
    empty(run)
