"""A run at work: its claim, its process, and what came of it."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ..training.checkpoint import drop_checkpoint
from .claim import Claim
from .plan import Run
from .state import ERROR, State, clear, folder_state
from .worker import PARENT, STOPPED, command

# Output as it comes, in lines of a sensible width, as it goes to a file.
_OF_WORKERS = {"PYTHONUNBUFFERED": "1", "COLUMNS": "100"}

Command = Callable[[Path, Path, str, Sequence[str]], list[str]]


@dataclass
class Job:
    """A process at work on a run.

    Attributes:
        run: the run.
        slot: the number of its share of the machine.
        claim: keeps others away.
        process: the worker.
        began: when, by `time.monotonic`.
        ended: whether it was stopped or killed on purpose, so that its end is no failure.
    """

    run: Run
    slot: int
    claim: Claim
    process: subprocess.Popen[bytes]
    began: float
    ended: bool = False

    def stop(self) -> None:
        """Ask the worker to save and stop."""
        self.ended = True
        with suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End the worker, and whatever it started, at once."""
        self.ended = True
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    @property
    def seconds(self) -> float:
        """Seconds at work."""
        return time.monotonic() - self.began

    def finish(self) -> State:
        """Give the run free once its process has ended, and return how far it is.

        That the process ended is a failure unless the results are there, or it was stopped.
        """
        code = self.process.wait()
        log = log_path(self.run.folder)
        state = folder_state(self.run.folder)
        if state is State.DONE:
            log.unlink(missing_ok=True)
            drop_checkpoint(self.run.folder)  # larger than all the rest, and of no more use
        elif not self.ended and code not in (STOPPED, -signal.SIGTERM):
            self._fail(code, log)
            state = State.FAILED
        self.claim.release()
        return state

    def _fail(self, code: int, log: Path) -> None:
        """Keep in the run folder what the process said."""
        how = f"exit code {code}"
        if code < 0:
            how = f"ended by {signal.Signals(-code).name}"
            how += " (perhaps for want of memory)" if code == -signal.SIGKILL else ""
        said = log.read_text(encoding="utf-8", errors="replace") if log.is_file() else ""
        self.run.folder.mkdir(parents=True, exist_ok=True)
        text = f"{self.run.name} failed: {how}\n\n{said}"
        (self.run.folder / ERROR).write_text(text, encoding="utf-8")
        log.unlink(missing_ok=True)


def start(
    run: Run,
    slot: int,
    claim: Claim,
    share: dict[str, str],
    device: str,
    make: Command = command,
) -> Job:
    """Start the process of a run that is claimed.

    Args:
        run: which has something left to do.
        slot, share: its share of the machine, and the variables that give it.
        claim: of this run.
        device: where to compute.
        make: makes the command.

    Raises:
        RunError: something else lies where the run folder is to be.
    """
    if folder_state(run.folder) is State.MISSING:
        clear(run.folder)  # training begins in an empty folder
    with log_path(run.folder).open("wb") as log:
        process = subprocess.Popen(
            make(run.file, run.folder, device, run.overrides),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, **_OF_WORKERS, PARENT: str(os.getpid()), **share},
            start_new_session=True,  # Ctrl-C comes to the runner alone, which passes it on
        )
    claim.work(process.pid)
    return Job(run, slot, claim, process, time.monotonic())


def log_path(folder: Path) -> Path:
    """Return where the output of a run at work lies: beside its folder."""
    return folder.with_name(f"{folder.name}.log")
