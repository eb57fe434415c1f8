"""What the processes of one training do together: gradients, stopping, and the end of one."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from accelerate import Accelerator
from torch import nn
from torch.distributed import DistError
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from ..errors import RunError
from ..run_folder import RECIPE, checkpoints


@contextmanager
def losing_a_process(run: Path) -> Iterator[None]:
    """Turn what torch says inside the block when another process has ended into a `RunError`.

    The launcher then ends the job: no process waits for one that is not there.
    """
    try:
        yield
    except RuntimeError as error:
        # NCCL raises errors of a class of their own, gloo has only its name in the message.
        if not isinstance(error, DistError) and "gloo" not in str(error):
            raise
        remedy = f"Start it again: hyperlect train {run / RECIPE}"
        if checkpoints(run):
            remedy = (
                f"Resume it from its last checkpoint with the same launcher and any number of "
                f"processes: hyperlect train --resume {run}"
            )
        raise RunError(
            f"Another process of this training has ended, so this one stops, too. Its own message "
            f"says why; one that was killed, perhaps for lack of memory, says nothing. {remedy}"
        ) from error


def any_process(here: bool, accelerator: Accelerator) -> bool:
    """Whether something holds in any process; the same answer in all of them.

    One that stopped a step before the others would leave them waiting for its gradients.
    """
    if accelerator.num_processes == 1:
        return here
    flag: Any = torch.tensor([float(here)], device=accelerator.device)
    return bool(accelerator.reduce(flag, reduction="sum").item() > 0)


def sum_gradients(parameters: Sequence[nn.Parameter], accelerator: Accelerator) -> None:
    """Sum gradients over all processes, if there are several.

    In one piece and after the last backward pass, since only then the generator has its gradients;
    and a model with a frozen backbone has few. A parameter that one process did not touch counts as
    zero there; one that no process touched keeps no gradient.

    Args:
        parameters: the same in every process, in the same order.
        accelerator: the processes.
    """
    if accelerator.num_processes == 1:
        return
    touched: Any = torch.tensor([float(p.grad is not None) for p in parameters])
    touched = accelerator.reduce(touched.to(accelerator.device), "sum")
    for parameter, count in zip(parameters, touched.tolist(), strict=True):
        if count and parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    gradients = [p.grad for p in parameters if p.grad is not None]
    summed: Any = accelerator.reduce(parameters_to_vector(gradients), "sum")
    vector_to_parameters(summed, gradients)


class StopRequest:
    """Turns SIGINT (Ctrl-C) and SIGTERM into a question that the loop asks after each step.

    A second Ctrl-C acts at once. A second SIGTERM does not: schedulers and launchers repeat it, and
    they want the work to be saved. Signals reach only the main thread, so in any other one nothing
    is caught.
    """

    signals = (signal.SIGINT, signal.SIGTERM)

    def __init__(self) -> None:
        self.asked = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            self._before = {n: signal.signal(n, self._receive) for n in self.signals}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self.asked = True
        if number == signal.SIGINT:
            signal.signal(signal.SIGINT, signal.default_int_handler)
