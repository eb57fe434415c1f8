"""Experiments: recipes × methods × seeds, run one after the other or side by side.

experiment = plan(Path("recipes/small/grid.yaml"))
board = Board(experiment, choose(experiment, ["mixed/hyperx"]))
states = Runner(board, slots(2, "auto")).run()
read_experiment(experiment.folder).runs  # for reports
"""

from __future__ import annotations

from .board import Board, choose
from .changes import told
from .clock import Slice, seconds
from .curve import Point
from .design import is_design
from .machine import slots
from .plan import Experiment, Run, plan
from .record import RecordedExperiment, RecordedRun, check_owner, read_experiment
from .runner import Runner
from .screen import Screen, counted, runs_table
from .state import ERROR, LEFT, State

__all__ = [
    "ERROR",
    "LEFT",
    "Board",
    "Experiment",
    "Point",
    "RecordedExperiment",
    "RecordedRun",
    "Run",
    "Runner",
    "Screen",
    "Slice",
    "State",
    "check_owner",
    "choose",
    "counted",
    "is_design",
    "plan",
    "read_experiment",
    "runs_table",
    "seconds",
    "slots",
    "told",
]
