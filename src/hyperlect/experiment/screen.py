"""What an experiment shows while it runs, and its table of runs."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from .board import Board
from .claim import is_claimed
from .clock import shown
from .job import Job
from .plan import Run
from .state import State

STYLES = {
    State.DONE: "green",
    State.FAILED: "bold red",
    State.CHANGED: "bold red",
    State.BLOCKED: "red",
    State.MISSING: "dim",
}


class Screen:
    """Lines of what happens, and in a terminal a live table of what is at work below them.

    Args:
        console: where to show it; without one nothing is shown.
    """

    def __init__(self, console: Console | None = None) -> None:
        self.console = console
        self._live = Live(console=console, refresh_per_second=2, transient=True)
        self._is_live = console is not None and console.is_terminal

    def __enter__(self) -> Screen:
        if self._is_live:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._is_live:
            self._live.stop()

    def say(self, line: str, style: str = "") -> None:
        """Print a line."""
        if self.console is not None:
            self.console.print(Text(line, style=style))

    def show(self, jobs: Sequence[Job], left: float) -> None:
        """Show what is at work.

        Args:
            jobs: the processes.
            left: seconds until the slice ends; infinite without one.
        """
        if not self._is_live:
            return
        table = Table.grid(padding=(0, 2, 0, 0))
        for job in jobs:
            steps = job.run.recipe.training.steps
            step = last_step(job.run.folder)
            note = f"step {step:,} of {steps:,}" if step is not None else "starting"
            table.add_row(job.run.name, note, shown(job.seconds))
        if left != float("inf"):
            table.add_row(Text(f"{shown(max(0.0, left))} left of this slice", style="dim"))
        self._live.update(table)


def last_step(run: Path) -> int | None:
    """Return the last step of which a run's log of training tells; None before the first."""
    try:
        with (run / "metrics.jsonl").open("rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - 20_000))
            lines = file.read().decode("utf-8", errors="replace").splitlines()
    except OSError:
        return None
    for line in reversed(lines):
        try:
            return int(json.loads(line)["step"])
        except (ValueError, KeyError, TypeError):
            continue
    return None


def runs_table(board: Board, states: Mapping[str, State]) -> Table:
    """Return the table of the chosen runs: one line for a setting, part and method.

    It names every seed with its state; the runs of a curve, which are many, it counts.
    """
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for column in ("setting", "part", "method", "seeds"):
        table.add_column(column)
    rows: dict[tuple[str, str, str], list[Run]] = {}
    for run in board.chosen:
        rows.setdefault((run.setting, run.part, run.method), []).append(run)
    for (setting, part, method), runs in rows.items():
        notes = [
            (_note(board, run, states[run.name]), STYLES.get(states[run.name], "yellow"))
            for run in runs
        ]
        if runs[0].point is None:
            pairs = [(run.seed, note) for run, note in zip(runs, notes, strict=True)]
        else:
            pairs = [(count, note) for note, count in Counter(notes).items()]
        texts = [Text(f"{number} ").append(said, style) for number, (said, style) in pairs]
        table.add_row(setting, part, method, Text(", ").join(texts))
    return table


def _note(board: Board, run: Run, state: State) -> str:
    """Say how far a run is."""
    if is_claimed(run.folder):
        return "at work"
    if state is State.TRAINING:
        return f"training, step {last_step(run.folder) or 0:,}"
    if state is State.BLOCKED:
        return f"blocked ({board.obstacle(run)})"
    return state


def counted(board: Board, states: Mapping[str, State]) -> str:
    """Sum up the chosen runs: ``12 of 63 runs are done, 2 failed, 49 missing``."""
    found = Counter(states[run.name] for run in board.chosen)
    done = found.pop(State.DONE, 0)
    others = "".join(f", {found[state]} {state}" for state in State if found[state])
    return f"{done} of {len(board.chosen)} runs are done{others}"
