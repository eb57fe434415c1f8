"""Working through an experiment: processes, slices of time, claims, failures."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

from ..errors import HyperlectError
from .board import Board
from .claim import RENEW_EVERY, claim
from .clock import Slice, shown
from .job import Command, Job, start
from .plan import Run
from .record import write_experiment
from .screen import Screen
from .state import ERROR, LEFT, State, folder_state
from .worker import command

TICK = 0.2
LOOK_EVERY = 5.0
"""Seconds between looks at whether others have finished what a run waits for."""
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass
class Runner:
    """Works through the chosen runs of a board, and keeps experiment.json.

    Args:
        board: the runs.
        shares: the variables of each process that may run at a time.
        time: how long to work.
        screen: shows what goes on.
        device: where to compute.
        make: makes the command of a run's process.
    """

    board: Board
    shares: Sequence[dict[str, str]]
    time: Slice = field(default_factory=Slice)
    screen: Screen = field(default_factory=Screen)
    device: str = "auto"
    make: Command = command

    def __post_init__(self) -> None:
        self.jobs: list[Job] = []
        self.stopping = False
        self.asked = 0
        """How often Ctrl-C or a like signal came."""
        self._set_aside: set[str] = set()  # stopped by someone else
        self._claimed: set[str] = set()  # by another, as was said
        self._renewed = self._looked = float("-inf")

    def run(self) -> dict[str, State]:
        """Work until nothing is left that can be done, or the time is up, or a signal comes.

        Returns:
            The state of every run of the experiment, by name.
        """
        self._record()
        try:
            with self.screen, self._signals():
                while True:
                    self._reap()
                    self._stop_in_time()
                    if not self.stopping:
                        self._start_more()
                    if not self.jobs:
                        break
                    self._renew()
                    self.screen.show(self.jobs, self.time.left)
                    time.sleep(TICK)
        finally:
            for job in self.jobs:  # only after a fault of this program
                job.kill()
                job.finish()
            self._record()
        return self.board.states()

    def _start_more(self) -> None:
        """Start what can be, in the slots that are free."""
        free = [n for n in range(len(self.shares)) if n not in {job.slot for job in self.jobs}]
        idle = time.monotonic() - self._looked < LOOK_EVERY
        if not free or idle or not self.time.may_start:
            return
        self._looked = time.monotonic()
        for run in self.board.ready():
            if not free:
                self._looked = float("-inf")  # there is more: look again as soon as one is free
                return
            at_work = run.name in {job.run.name for job in self.jobs}
            if not at_work and run.name not in self._set_aside and self._start(run, free[0]):
                free.pop(0)

    def _start(self, run: Run, slot: int) -> bool:
        held = claim(run.folder)
        if held is None:
            if run.name not in self._claimed:
                self.screen.say(f"{run.name}: another process is at work on it")
            self._claimed.add(run.name)
            return False
        state = folder_state(run.folder)
        if state not in LEFT:  # another has done it since it was looked at
            held.release()
            return False
        try:
            job = start(run, slot, held, self.shares[slot], self.device, self.make)
        except HyperlectError as error:  # something else lies there
            held.release()
            self.board.changed[run.name] = [str(error)]
            self.screen.say(f"{run.name}: cannot be started: {error}", "red")
            return False
        self.jobs.append(job)
        self.screen.say(f"{run.name}: {_BEGINNING[state]}")
        return True

    def _reap(self) -> None:
        """Take note of the processes that have ended."""
        for job in [job for job in self.jobs if job.process.poll() is not None]:
            self.jobs.remove(job)
            took = job.seconds
            state = job.finish()
            if state is State.FAILED:
                self.screen.say(f"{job.run.name}: failed; see {job.run.folder / ERROR}", "red")
            elif state is State.DONE:
                self.screen.say(f"{job.run.name}: done, {shown(took)}", "green")
            else:
                self._set_aside.add(job.run.name)
                self.screen.say(f"{job.run.name}: stopped, to be gone on with")
            self._looked = float("-inf")
            self._record()

    def _stop_in_time(self) -> None:
        """Pass on that it is time to save and stop; in the end, do not wait any longer."""
        if not self.stopping and (self.asked or self.time.must_stop):
            self.stopping = True
            why = "Asked to stop" if self.asked else "The slice is over"
            if self.jobs:
                self.screen.say(f"{why}: saving what is at work. Once more Ctrl-C stops at once.")
            for job in self.jobs:
                job.stop()
        if self.stopping and (self.asked > 1 or self.time.is_over):
            for job in self.jobs:
                job.kill()

    def _renew(self) -> None:
        """Renew the claims; what another has taken meanwhile is left to it."""
        if time.monotonic() - self._renewed < RENEW_EVERY:
            return
        self._renewed = time.monotonic()
        for job in self.jobs:
            if not job.claim.renew():
                job.kill()

    def _record(self) -> None:
        try:
            write_experiment(self.board.experiment, self.board.states())
        except OSError as error:  # no reason to end what is at work; it is written again soon
            self.screen.say(f"The experiment's record could not be written: {error}", "red")

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """Count Ctrl-C, SIGTERM and the closing of the terminal instead of dying of them."""

        def receive(number: int, frame: FrameType | None) -> None:
            # schedulers repeat SIGTERM, and mean no more by it
            self.asked = self.asked + 1 if number == signal.SIGINT else max(1, self.asked)

        before: dict[signal.Signals, Any] = {}
        if threading.current_thread() is threading.main_thread():
            before = {number: signal.signal(number, receive) for number in SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


_BEGINNING = {
    State.MISSING: "started",
    State.TRAINING: "goes on training",
    State.TRAINED: "is trained, and is evaluated",
}
