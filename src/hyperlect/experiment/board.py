"""How far all runs of an experiment are, and which of them there is something to do for."""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from ..errors import HyperlectError, RunError, nearest
from .changes import differences
from .claim import is_claimed
from .plan import Experiment, Run
from .state import ERROR, LEFT, State, clear, folder_state, is_trained


@dataclass
class Board:
    """The runs of an experiment with their states.

    Args:
        experiment: all of its runs.
        chosen: those that are to be run; see `choose`.

    Attributes:
        changed: the runs whose folder another recipe made → what differs.
    """

    experiment: Experiment
    chosen: tuple[Run, ...]
    changed: dict[str, list[str]] = field(init=False)

    def __post_init__(self) -> None:
        self._by_folder = {run.folder: run for run in self.experiment.runs}
        self.changed = {}
        for run in self.experiment.runs:
            if folder_state(run.folder) is not State.MISSING and _is_of_worth(run):
                found = differences(run)
                if found:
                    self.changed[run.name] = found

    def state(self, run: Run) -> State:
        """Return how far a run is; the folder is looked at anew each time."""
        if run.name in self.changed:
            return State.CHANGED
        state = folder_state(run.folder)
        return State.BLOCKED if state in LEFT and self.obstacle(run) else state

    def obstacle(self, run: Run) -> str:
        """Say why the run that another goes on from never comes; empty where it may."""
        before = self.before(run)
        if before is None or (is_trained(before.folder) and before.name not in self.changed):
            return ""
        match self.state(before):
            case State.DONE:
                return f"{before.name} has results but no weights"
            case State.FAILED | State.CHANGED | State.BLOCKED as state:
                return f"{before.name} is {state}"
        return ""

    def waits(self, run: Run) -> bool:
        """Whether the run that another goes on from is not trained yet."""
        before = self.before(run)
        return before is not None and not is_trained(before.folder)

    def before(self, run: Run) -> Run | None:
        """Return the run that another goes on from."""
        return None if run.after is None else self._by_folder[run.after]

    def states(self) -> dict[str, State]:
        """Return the state of every run, chosen or not, by name."""
        return {run.name: self.state(run) for run in self.experiment.runs}

    def ready(self) -> list[Run]:
        """Return the chosen runs that can be worked on, those begun before those not."""
        found = [(self.state(run), run) for run in self.chosen]
        runs = [(s is State.MISSING, run) for s, run in found if s in LEFT and not self.waits(run)]
        return [run for _, run in sorted(runs, key=lambda pair: pair[0])]

    def retry(self) -> None:
        """Make the failed ones among the chosen runs go on, or start anew, as far as they were."""
        for run in self.chosen:
            if self.state(run) is State.FAILED:
                (run.folder / ERROR).unlink()

    def redo(self) -> list[Run]:
        """Remove what another recipe made among the chosen runs, and all that went on from it."""
        chosen = {run.name for run in self.chosen}
        outdated = chosen & self.changed.keys()
        gone = [r for r in self.experiment.runs if r.folder.is_dir() and self._is_of(r, outdated)]
        busy = [run.name for run in gone if is_claimed(run.folder)]
        if busy:
            raise RunError(f"Another process is at work on {', '.join(busy)}; stop it first.")
        for run in gone:
            clear(run.folder)
            self.changed.pop(run.name, None)
        return gone

    def _is_of(self, run: Run, names: Set[str]) -> bool:
        """Whether a run is one of those, or goes on from one."""
        before = self.before(run)
        return run.name in names or (before is not None and self._is_of(before, names))


def choose(experiment: Experiment, patterns: Sequence[str]) -> tuple[Run, ...]:
    """Return the runs whose names fit a pattern, and those that they go on from.

    Args:
        experiment: whose runs; all of them without patterns.
        patterns: a beginning of the name up to a slash, ``*`` for anything: ``mixed``,
            ``mixed/hyperx``, ``*/seed-1``.

    Raises:
        HyperlectError: a pattern fits no run.
    """
    if not patterns:
        return experiment.runs
    wanted: set[str] = set()
    for pattern in patterns:
        stem = pattern.rstrip("/")
        fitting = {
            run.name
            for run in experiment.runs
            if fnmatchcase(run.name, stem) or fnmatchcase(run.name, f"{stem}/*")
        }
        if not fitting:
            names = [run.name for run in experiment.runs]
            known = {"/".join(n.split("/")[:k]) for n in names for k in range(1, n.count("/") + 2)}
            first = nearest(stem, sorted(known)) or f" There is {names[0]}, for one."
            raise HyperlectError(f'No run fits "{pattern}".{first}')
        wanted |= fitting
    by_folder = {run.folder: run for run in experiment.runs}
    for name in list(wanted):
        run = next(run for run in experiment.runs if run.name == name)
        while run.after is not None:
            run = by_folder[run.after]
            wanted.add(run.name)
    return tuple(run for run in experiment.runs if run.name in wanted)


def _is_of_worth(run: Run) -> bool:
    """Whether a run folder holds more than the message of a failure at the very start."""
    return (run.folder / "recipe.yaml").is_file() or (run.folder / "results.json").is_file()
