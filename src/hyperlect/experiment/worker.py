"""The process of one run: trains it, or goes on with it, and evaluates it.

    python -m hyperlect.experiment RECIPE RUN DEVICE [KEY=VALUE …]

It does what ``hyperlect train`` and ``hyperlect evaluate`` do, in one process, since starting one
takes as long as many a step of training. SIGTERM saves training and leaves with `STOPPED`; so does
the end of the process that started it, so that no two are ever at work on one run.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from ..errors import HyperlectError
from .state import State, folder_state

MODULE = "hyperlect.experiment"
PARENT = "HYPERLECT_EXPERIMENT_RUNNER"
"""The variable with the number of the process that starts workers."""
STOPPED = 130
"""The exit code of training that was stopped and can go on."""
FAILED = 1


def command(file: Path, run: Path, device: str, overrides: Sequence[str]) -> list[str]:
    """Return the command that does a run's work."""
    return [sys.executable, "-m", MODULE, str(file), str(run), device, *overrides]


def work(file: Path, run: Path, device: str, overrides: Sequence[str], console: Console) -> None:
    """Do whatever of a run remains to be done.

    Raises:
        Interrupted: training was stopped; its state is saved.
        HyperlectError: anything that is wrong with recipe or data.
    """
    from ..evaluation import evaluate_run
    from ..recipe import load_recipe
    from ..training import resume, start

    state = folder_state(run)
    # Not the recipe in the run folder: since it was written, the data may have gone elsewhere.
    recipe = load_recipe(file, overrides, check_files=state is not State.TRAINED)
    if state is State.MISSING:
        start(recipe, run, device, console)
    elif state is State.TRAINING:
        resume(run, device, console, recipe)
    evaluate_run(run, device=device, console=console, recipe=recipe)


def main(arguments: Sequence[str]) -> int:
    """Work, and return an exit code. What goes wrong is told on stderr, bugs with a traceback."""
    from ..training import Interrupted

    parent, done = int(os.environ.get(PARENT, os.getppid())), threading.Event()
    threading.Thread(target=stop_with, args=(parent, done), daemon=True).start()
    file, run, device, *overrides = arguments
    changes = "".join(f" --set '{text}'" for text in overrides)
    print(f"The same by hand: hyperlect train {file} --out RUN{changes}", flush=True)
    try:
        work(Path(file), Path(run), device, overrides, Console(stderr=True, highlight=False))
    except Interrupted as stop:
        print(stop, file=sys.stderr)
        return STOPPED
    except HyperlectError as error:
        print(f"Error: {error}", file=sys.stderr)
        return FAILED
    finally:
        done.set()
    return 0


def stop_with(parent: int, done: threading.Event, every: float = 1.0) -> None:
    """Ask this process to stop once its parent is another: the one that started it has ended.

    Args:
        parent: the number of the process that started this one.
        done: set when there is nothing left to stop.
        every: seconds from look to look.
    """
    while not done.wait(every):
        if os.getppid() != parent:
            os.kill(os.getpid(), signal.SIGTERM)
            return
