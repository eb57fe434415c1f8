"""Experiments: recipes × methods × seeds, run one after the other or side by side.

experiment = plan(Path("recipes/small/grid.yaml"))
progress = Progress(experiment, choose(experiment, ["mixed/hyperx"]))
Runner(progress, make_engine(processes=2)).run()
read_manifest(experiment.folder).runs  # for reports
"""

from __future__ import annotations

from .config import Point, is_experiment
from .engines import make_engine
from .manifest import Manifest, ManifestRun, Progress, check_owner, read_manifest
from .plan import Experiment, Run, choose, plan
from .runner import Runner, TimeBudget, runs_table, summary
