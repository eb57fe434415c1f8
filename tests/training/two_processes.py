"""Run by torchrun in each of two processes; see test_processes.

    two_processes.py TEXTS UNEVEN MIXED FOLDER

Trains the recipe TEXTS into FOLDER/texts, UNEVEN into FOLDER/uneven and MIXED into FOLDER/straight;
trains MIXED into FOLDER/run, where a signal reaches one process alone, and resumes it. Divides the
hypernetwork for FOLDER/divided (UNEVEN) and FOLDER/rows (TEXTS, one row a batch, so that one
process has none); notes how much of it each process holds. Divides it again where one process alone
meets a loss that is not finite, which FOLDER/skips skips and FOLDER/diverges ends with. Writes
which rows of TEXTS each process learnt from, and the first gradients.
"""

from __future__ import annotations

import json
import math
import os
import signal
import sys
from pathlib import Path
from typing import Any

import torch.distributed
from torch.distributed.tensor import DTensor

import hyperlect.training.trainer as trainer_module
from hyperlect.errors import HyperlectError, Interrupted
from hyperlect.recipe import load_recipe
from hyperlect.training import Trainer, resume, start
from tests.training.runs import DIVIDED, ROWS, SHORT, first_gradients

TEXTS, UNEVEN, MIXED, FOLDER = map(Path, sys.argv[1:])
RANK = int(os.environ["RANK"])
STOP_AFTER = 3


def shares(trainer: Trainer) -> dict[str, int]:
    """Count the numbers of the hypernetwork that this process holds, and those of all."""
    counts = {"weights": 0, "moments": 0, "all": 0}
    for name, parameter in trainer.model.own_parameters().items():
        if name.startswith("adapters."):
            assert isinstance(parameter, DTensor)
            moments = trainer.optimizer.state[parameter]
            counts["weights"] += parameter.to_local().numel()
            counts["moments"] += moments["exp_avg"].to_local().numel()
            counts["all"] += parameter.numel()
    return counts


def main() -> None:
    seen: list[Any] = []
    batch_losses, between_steps = trainer_module.batch_losses, Trainer._between_steps
    stopped: list[bool] = []
    broken: list[bool] = []

    def note(model: Any, batch: Any, weights: Any) -> Any:
        seen.append([sorted(set(map(str, batch.cells))), batch.indices])
        losses, total = batch_losses(model, batch, weights)
        if broken:
            return {task: loss * math.nan for task, loss in losses.items()}, total * math.nan
        return losses, total

    def stop_one_process(self: Trainer, monitor: Any) -> None:
        if self.run.name == "run" and RANK == 1 and self.state.step == STOP_AFTER and not stopped:
            stopped.append(True)
            signal.raise_signal(signal.SIGTERM)
        if self.run.name == "divided" and self.state.step == 1:
            (FOLDER / f"shares-{RANK}.json").write_text(json.dumps(shares(self)))
        broken.clear()
        if self.run.name in ("skips", "diverges") and RANK == 1 and self.state.step == 1:
            broken.append(True)
        between_steps(self, monitor)

    trainer_module.batch_losses, Trainer._between_steps = note, stop_one_process
    start(load_recipe(TEXTS), FOLDER / "texts", "cpu")
    (FOLDER / f"rows-{RANK}.json").write_text(json.dumps(seen))
    with first_gradients(FOLDER / f"gradients-{RANK}.safetensors"):
        start(load_recipe(UNEVEN), FOLDER / "uneven", "cpu")
    start(load_recipe(MIXED), FOLDER / "straight", "cpu")
    start(load_recipe(UNEVEN, DIVIDED), FOLDER / "divided", "cpu")
    start(load_recipe(TEXTS, ROWS), FOLDER / "rows", "cpu")
    start(load_recipe(UNEVEN, (*SHORT, "training.not_finite=skip")), FOLDER / "skips", "cpu")
    try:
        start(load_recipe(UNEVEN, SHORT), FOLDER / "diverges", "cpu")
    except HyperlectError as error:
        (FOLDER / f"diverged-{RANK}").write_text(str(error))
    broken.clear()
    try:
        start(load_recipe(MIXED), FOLDER / "run", "cpu")
    except Interrupted:
        (FOLDER / f"interrupted-{RANK}").touch()
    resume(FOLDER / "run", "cpu")
    torch.distributed.destroy_process_group()


main()
