"""Working through an experiment: which run is next, when to stop, and what to show meanwhile."""

from __future__ import annotations

import math
import re
import signal
import threading
import time
from _thread import interrupt_main
from collections import Counter
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import groupby
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from ..errors import HyperlectError, RunError, counted
from ..run_folder import LOG, METRICS, RunState, read_events
from .engines import Ended, Engine, fail, on_signals
from .manifest import LEFT, Hold, Progress, is_locked
from .plan import Run

MARGIN = 30.0
"""Seconds before the end of a time limit that are kept for saving; a tenth of it if less."""
TICK = 0.2
STYLES = {"done": "green", "failed": "bold red", "changed": "bold red", "blocked": "red"}


class TimeBudget:
    """How long to work.

    Args:
        text: a span of time: ``600`` (seconds), ``10m``, ``1h30m``; without, there is no end.
        began: when it began, by `time.monotonic`; without, now.

    Attributes:
        margin: seconds before the end at which trainings are asked to save and stop.

    Raises:
        HyperlectError: the text is not a span of time, or 0.
    """

    def __init__(self, text: str | None = None, began: float | None = None) -> None:
        pattern = r"(\d+)s?|(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?"
        match = re.fullmatch(pattern, (text or "").strip().lower())
        units = zip(match.groups("0"), (1, 3600, 60, 1), strict=True) if match else ()
        seconds = sum(int(number) * size for number, size in units)
        if text is not None and not seconds:
            raise HyperlectError(f'"{text}" is not a span of time; write 10m, 1h30m or 600.')
        self.margin = min(MARGIN, seconds / 10)
        self._end = (began or time.monotonic()) + (seconds or math.inf)

    @property
    def left(self) -> float:
        """The seconds until trainings are asked to stop; below -`margin` the time is up."""
        return self._end - self.margin - time.monotonic()


@dataclass
class Runner:
    """Works through the chosen runs of an experiment, and keeps experiment.json.

    Args:
        progress: the runs, and how far they are.
        engine: carries them out; it is closed at the end.
        budget: how long to work.
        console: shows a line for each event, and in a terminal a live table of what is at work.

    Attributes:
        interrupted: whether a signal ended the work, not the time limit.
    """

    progress: Progress
    engine: Engine
    budget: TimeBudget = field(default_factory=TimeBudget)
    console: Console = field(default_factory=lambda: Console(quiet=True))

    def __post_init__(self) -> None:
        self.interrupted = self._stopping = False
        self._asked = 0  # how often Ctrl-C or a like signal came
        self._waiting = [run for run in self.progress.chosen if self.progress.status(run) in LEFT]
        self._skipped: list[Run] = []
        self._futures: dict[Future[Ended], Run] = {}
        self._began: dict[Run, float] = {}  # when each run at work was submitted

    def run(self) -> None:
        """Work until nothing is left that can be done, or the time is up, or a signal comes."""
        self._write()
        live = Live(console=self.console, get_renderable=self._table, transient=True)
        # A run in this process hears of the time limit by a signal, as of Ctrl-C.
        seconds = min(max(0.0, self.budget.left), threading.TIMEOUT_MAX)
        alarm = threading.Timer(seconds, interrupt_main, [signal.SIGTERM])
        alarm.daemon = True
        alarm.start()
        try:
            with on_signals(self._receive), live if self.console.is_terminal else nullcontext():
                self._stop_if_asked()
                self._submit()
                while self._futures:
                    ended = wait(self._futures, TICK, FIRST_COMPLETED).done
                    for future in ended:
                        self._note(future, self._futures.pop(future))
                    self._stop_if_asked()
                    if ended:
                        self._submit()
        finally:
            alarm.cancel()
            if self._futures:  # only after a fault of this program
                self.engine.stop(at_once=True)
            self.engine.close()
            self._write()

    def _receive(self, number: int, frame: Any) -> None:
        # Schedulers repeat SIGTERM, and mean no more by it.
        self._asked = self._asked + 1 if number == signal.SIGINT else max(1, self._asked)

    def _stop_if_asked(self) -> None:
        if not self._stopping and (self._asked or self.budget.left <= 0):
            self._stopping, self.interrupted = True, self.budget.left > 0
            if self._futures:
                reason = "Asked to stop" if self.interrupted else "The time limit is reached"
                self._say(f"{reason}: saving what is at work. Ctrl-C again stops at once.")
            self.engine.stop()
        if self._asked > 1 or self.budget.left <= -self.budget.margin:
            self.engine.stop(at_once=True)

    def _submit(self) -> None:
        """Submit runs that can start, as far as there is room; first those that were begun."""
        if self._stopping or self.budget.left <= self.budget.margin:
            return
        statuses = {run: self.progress.status(run) for run in self._waiting if run.can_start}
        ready = [run for run, status in statuses.items() if status in LEFT]
        ready.sort(key=lambda run: statuses[run] is RunState.MISSING)
        for run in ready[: self.engine.places - len(self._futures)]:
            self._waiting.remove(run)
            self._say(f"{run.name}: {self.engine.verb}")
            self._began[run] = time.monotonic()
            self._futures[self.engine.submit(run)] = run

    def _note(self, future: Future[Ended], run: Run) -> None:
        """Take note of the end of the work on a run."""
        try:
            state, text = future.result()
        except Exception as error:  # its process or machine ended before it could say how
            state, text = self._killed_by(error, run)
        if state is RunState.FAILED and self.progress.status(run) is not state:
            self.progress.failures[run.name] = text.removeprefix("failed; ")  # a full disk, perhaps
        if state is RunState.MISSING:
            self._skipped.append(run)
        elif state is not RunState.INTERRUPTED:  # time has passed, so it is worth another look
            self._waiting += self._skipped
            self._skipped.clear()
        del self._began[run]
        self._say(f"{run.name}: {text}", STYLES.get(state, ""))
        self._write()

    def _killed_by(self, error: Exception, run: Run) -> Ended:
        if self._stopping:
            return Ended(RunState.INTERRUPTED, "stopped")
        log = run.folder / LOG
        output = log.read_text(encoding="utf-8", errors="replace") if log.is_file() else ""
        message = f"its process ended early; perhaps it was killed for lack of memory ({error})"
        return fail(run, message, output)

    def _write(self) -> None:
        try:
            self.progress.write()
        except RunError as error:  # no reason to end what is at work; it is written again soon
            self._say(str(error), "red")

    def _say(self, line: str, style: str = "") -> None:
        self.console.print(Text(line, style=style))

    def _table(self) -> Table:
        """Return the live table of the runs at work."""
        table = Table.grid(padding=(0, 2, 0, 0))
        for run, began in list(self._began.items()):
            steps = f"step {last_step(run.folder):,} of {run.recipe.training.steps:,}"
            seconds = round(time.monotonic() - began)
            table.add_row(run.name, steps, str(timedelta(seconds=seconds)))
        if self.budget.left < math.inf:
            left = timedelta(seconds=round(max(0.0, self.budget.left)))
            table.add_row(Text(f"{left} left until the time limit", style="dim"))
        return table


def last_step(run: Path) -> int:
    """Return the last step in the log of a run's training; 0 before the first."""
    steps: list[int] = [event["step"] for _, event in read_events(run / METRICS, tail=2**16)]
    return steps[-1] if steps else 0


def runs_table(progress: Progress) -> Table:
    """Return the table of the chosen runs: one line for a setting, part and method.

    It names every seed with its status; the runs of a curve, which are many, it counts.
    """
    columns = ("setting", "part", "method", "seeds")
    table = Table(*columns, box=None, padding=(0, 2, 0, 0), header_style="bold")
    for row, group in groupby(progress.chosen, lambda run: (run.setting, run.part, run.method)):
        runs = list(group)
        pairs = [(run.seed, _note(progress, run)) for run in runs]
        if runs[0].point:
            counts = Counter(note for _, note in pairs)
            pairs = [(count, note) for note, count in counts.items()]
        table.add_row(*row, ", ".join(f"{number} {note}" for number, note in pairs))
    return table


def _note(progress: Progress, run: Run) -> str:
    status = progress.status(run)
    note = status.name.lower()
    if is_locked(run.folder):
        note = "at work"
    elif status is RunState.INTERRUPTED:
        note += f" at step {last_step(run.folder):,}"
    elif status is Hold.BLOCKED:
        note += f" ({progress.reason(run)})"
    return f"[{STYLES.get(status, 'default')}]{note}[/]"


def summary(progress: Progress) -> str:
    """Sum up the chosen runs: ``12 of 63 runs done, 2 failed, 49 missing``."""
    counts = Counter(progress.status(run).name.lower() for run in progress.chosen)
    done = f"{counts.pop('done', 0)} of {counted(len(progress.chosen), 'run')} done"
    return ", ".join((done, *(f"{count} {name}" for name, count in counts.items())))
