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
    """Return the table of the chosen runs: one line for a setting, part and method."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for column in ("setting", "part", "method", "seeds"):
        table.add_column(column)
    rows: dict[tuple[str, str, str], Text] = {}
    for run in board.chosen:
        text = rows.setdefault((run.setting, run.part, run.method), Text())
        state = states[run.name]
        note: str = state
        if is_claimed(run.folder):
            note = "at work"
        elif state is State.TRAINING:
            note = f"training, step {last_step(run.folder) or 0:,}"
        elif state is State.BLOCKED:
            note = f"blocked ({board.obstacle(run)})"
        text.append(f"{', ' if text else ''}{run.seed} ")
        text.append(note, style=STYLES.get(state, "yellow"))
    for (setting, part, method), text in rows.items():
        table.add_row(setting, part, method, text)
    return table


def counted(board: Board, states: Mapping[str, State]) -> str:
    """Sum up the chosen runs: ``12 of 63 runs are done, 2 failed, 49 missing``."""
    found = Counter(states[run.name] for run in board.chosen)
    done = found.pop(State.DONE, 0)
    others = "".join(f", {found[state]} {state}" for state in State if found[state])
    return f"{done} of {len(board.chosen)} runs are done{others}"
