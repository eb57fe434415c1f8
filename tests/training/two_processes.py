"""Run by torchrun in each of two processes; see test_processes.

    two_processes.py TEXTS ROWS MIXED FOLDER

Trains the recipe TEXTS into FOLDER/together, ROWS into FOLDER/rows-together, and MIXED into
FOLDER/straight; trains MIXED into FOLDER/run, where a signal reaches one process alone, and
resumes it. Writes which rows of TEXTS
each process learnt from.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import torch.distributed

import hyperlect.training.trainer as trainer_module
from hyperlect.recipe import load_recipe
from hyperlect.training import Interrupted, Trainer, resume, start

TEXTS, ROWS, MIXED, FOLDER = map(Path, sys.argv[1:])
RANK = int(os.environ["RANK"])
STOP_AFTER = 3


def main() -> None:
    seen: list[Any] = []
    plain_loss, plain_between = trainer_module.batch_loss, Trainer._between_steps

    def loss(model: Any, batch: Any) -> Any:
        seen.append([sorted(set(map(str, batch.cells))), batch.rows])
        return plain_loss(model, batch)

    def between_steps(self: Trainer, monitor: Any) -> None:
        if self.run.name == "run" and RANK == 1 and self.state.step == STOP_AFTER and not told:
            told.append(True)
            signal.raise_signal(signal.SIGTERM)
        plain_between(self, monitor)

    told: list[bool] = []
    trainer_module.batch_loss, Trainer._between_steps = loss, between_steps
    start(load_recipe(TEXTS), FOLDER / "together", "cpu")
    (FOLDER / f"rows-{RANK}.json").write_text(json.dumps(seen))
    start(load_recipe(ROWS), FOLDER / "rows-together", "cpu")
    start(load_recipe(MIXED), FOLDER / "straight", "cpu")
    try:
        start(load_recipe(MIXED), FOLDER / "run", "cpu")
    except Interrupted:
        (FOLDER / f"interrupted-{RANK}").touch()
    resume(FOLDER / "run", "cpu")
    torch.distributed.destroy_process_group()


main()
