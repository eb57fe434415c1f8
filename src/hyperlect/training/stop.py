"""Stopping in good order, and at the same step in every process."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any

import torch
from accelerate import Accelerator

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopRequest:
    """Turns SIGINT (Ctrl-C) and SIGTERM into a question that the loop asks after each step.

    A second Ctrl-C is immediate. A second SIGTERM is not: schedulers and launchers repeat it, and
    what they want is that the work be saved. Signals reach the main thread alone, so in any other
    one nothing is caught.
    """

    def __init__(self) -> None:
        self.asked = False
        self._interrupted = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._receive) for number in SIGNALS}
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT:
            if self._interrupted:
                raise KeyboardInterrupt
            self._interrupted = True
        self.asked = True

    def agreed(self, accelerator: Accelerator) -> bool:
        """Whether any process was asked to stop; the same answer in all of them.

        One that stopped a step before the others would leave them waiting for its gradients.
        """
        if accelerator.num_processes == 1:
            return self.asked
        asked = torch.tensor([float(self.asked)], device=accelerator.device)
        total: Any = accelerator.reduce(asked, reduction="sum")
        return bool(total.item() > 0)
