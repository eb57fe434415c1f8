"""What a training run says while it runs: a live line, metrics.jsonl, TensorBoard, log.txt."""

from __future__ import annotations

import json
import time
from collections import defaultdict
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

METRICS, LOG, TENSORBOARD = "metrics.jsonl", "log.txt", "tensorboard"


class Monitor:
    """Gathers losses and speed between log lines, and shows and writes them.

    Args:
        run: the run folder; None in all but the main process, which then says nothing.
        steps: how many steps the run has.
        start: the step it starts or resumes from.
        console: where the live line is shown.
    """

    def __init__(self, run: Path | None, steps: int, start: int, console: Console) -> None:
        self.run = run
        self.console = console
        self.losses: dict[str, list[float]] = defaultdict(list)
        self.tokens = 0
        self.clock = time.monotonic()
        self._shown: dict[str, float] = {}
        self._writer: Any = None
        self._progress = Progress(
            TextColumn("[bold]training"),
            BarColumn(bar_width=20),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
            TimeRemainingColumn(compact=True),
            console=console,
            disable=run is None,
        )
        self._bar = self._progress.add_task("training", total=steps, completed=start, note="")
        if run is not None:
            _drop_after(run / METRICS, start)

    def __enter__(self) -> Monitor:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._progress.stop()
        if self._writer is not None:
            self._writer.close()

    def step(self, task: str, loss: float, tokens: int, last: bool) -> None:
        """Take note of one (micro-)batch; `last` where it completes an optimiser step."""
        self.losses[task].append(loss)
        self.tokens += tokens
        if last:
            self._progress.advance(self._bar)

    def log(self, step: int, learning_rate: float) -> None:
        """Write what came together since the last log line, and start anew."""
        now = time.monotonic()
        seconds = now - self.clock
        mean = {task: sum(values) / len(values) for task, values in sorted(self.losses.items())}
        speed = self.tokens / seconds if seconds else 0.0
        self._shown |= mean
        note = "  ".join(f"{task} {loss:.3f}" for task, loss in self._shown.items())
        self._progress.update(self._bar, note=f"loss {note}  {speed:,.0f} tokens/s")
        event = {
            "event": "train",
            "step": step,
            "loss": mean,
            "learning_rate": learning_rate,
            "tokens_per_second": round(speed, 1),
            "seconds": round(seconds, 3),
        }
        self.write(event)
        self.scalars(step, {f"loss/{task}": loss for task, loss in mean.items()})
        self.scalars(step, {"learning_rate": learning_rate, "tokens_per_second": speed})
        self.reset()

    def reset(self) -> None:
        """Forget losses and restart the clock, as after an evaluation."""
        self.losses.clear()
        self.tokens = 0
        self.clock = time.monotonic()

    def write(self, event: dict[str, Any]) -> None:
        """Append one event to metrics.jsonl."""
        if self.run is not None:
            with (self.run / METRICS).open("a", encoding="utf-8") as file:
                file.write(json.dumps(event) + "\n")

    def scalars(self, step: int, values: dict[str, float]) -> None:
        """Write numbers to TensorBoard."""
        if self.run is None:
            return
        if self._writer is None:
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(str(self.run / TENSORBOARD))
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def say(self, message: str) -> None:
        """Print a line above the live one, and keep it in log.txt."""
        if self.run is not None:
            self.console.print(message, highlight=False)
            with (self.run / LOG).open("a", encoding="utf-8") as file:
                file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {message}\n")


def _drop_after(path: Path, step: int) -> None:
    """Remove events past the step that a run resumes from; they will be written again."""
    if path.is_file():
        lines = path.read_text(encoding="utf-8").splitlines()
        kept = [line for line in lines if json.loads(line)["step"] <= step]
        path.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")
